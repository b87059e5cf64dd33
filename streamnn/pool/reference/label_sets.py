"""The memory of sets of `streamnn.pool.label_sets`, one row at a time.

Axes: K rows, T labels.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, IntArray, Kind, Operations
from streamnn.pool.label_sets import BEYOND, WINDOW
from streamnn.pool.layout import Arrays
from streamnn.pool.reference.common import PREDICT

LOWER, WEIGHT, UNSEEN, NEARBY, ELSEWHERE = 0.12, 0.07, 0.03, 0.5, 0.07


def run(
    state: Arrays,
    y: npt.NDArray[np.float64],
    served: FloatArray,
    cut: FloatArray,
    near: IntArray,
    weight: FloatArray,
    operations: Operations,
) -> None:
    """Run operations over probabilities `served` [K, T]: move thresholds `cut` [K, T] of rows predicted."""
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop) if kind != Kind.LEARN else ():
            _choose(state, served[r], cut[r], _share(state, near[r], weight[r]))
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            if not np.isnan(y[r]).all():
                _learn(state, y[r])


def _share(s: Arrays, near: IntArray, weight: FloatArray) -> FloatArray:
    """The share of each place in the votes: [W]."""
    votes = (weight > 0) & (s["place"][near] >= 0)
    share: FloatArray = np.zeros(WINDOW)
    np.add.at(share, s["place"][near[votes]], weight[votes])
    return share / share.sum() if share.any() else share


def _choose(s: Arrays, p: FloatArray, cut: FloatArray, share: FloatArray) -> None:
    known = ~np.isnan(p)
    gain = np.zeros(len(p))
    gain[known] = np.log(p[known] / (1 - p[known])) - np.log(cut[known] / (1 - cut[known])) + LOWER
    chosen = gain > 0
    there = np.flatnonzero(s["times"])
    same = there[(s["sets"][there] == chosen).all(axis=1)]
    company = WEIGHT * np.log(s["times"] + UNSEEN) + NEARBY * np.log(share + ELSEWHERE)
    unseen = WEIGHT * np.log(UNSEEN) + NEARBY * np.log(ELSEWHERE)
    alone = gain[chosen].sum() + (company[same[0]] if len(same) else unseen)
    others = np.setdiff1d(there, same)
    if len(others):
        score = s["sets"][others] @ gain + company[others]
        if score.max() > alone:
            chosen = s["sets"][others[np.argmax(score)]] > 0
    otherwise = known & (chosen != (p > cut))
    cut[otherwise] = p[otherwise] * np.where(chosen[otherwise], 1 - BEYOND, 1 + BEYOND)


def _learn(s: Arrays, y: FloatArray) -> None:
    slot = s["count"][0] % WINDOW
    if s["place"][slot] >= 0:
        s["times"][s["place"][slot]] -= 1
    s["place"][slot] = -1
    s["count"] += 1
    if np.isnan(y).any():
        return
    there = np.flatnonzero(s["times"])
    same = there[(s["sets"][there] == (y > 0.5)).all(axis=1)]
    at = same[0] if len(same) else np.flatnonzero(s["times"] == 0)[0]
    s["sets"][at] = y > 0.5
    s["times"][at] += 1
    s["place"][slot] = at
