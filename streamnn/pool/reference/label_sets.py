"""The memory of sets of `streamnn.pool.label_sets`, one row at a time.

Axes: K rows, T labels.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, Kind, Operations
from streamnn.pool.label_sets import BEYOND, WINDOW
from streamnn.pool.layout import Arrays
from streamnn.pool.reference.common import PREDICT

WEIGHT, UNSEEN = 0.1, 0.03


def run(
    state: Arrays,
    y: npt.NDArray[np.float64],
    served: FloatArray,
    cut: FloatArray,
    operations: Operations,
) -> None:
    """Run operations over probabilities `served` [K, T]: move thresholds `cut` [K, T] of rows predicted."""
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop) if kind != Kind.LEARN else ():
            _choose(state, served[r], cut[r])
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            if not np.isnan(y[r]).any():
                _learn(state, (y[r] > 0.5).astype(np.int8))


def _choose(s: Arrays, p: FloatArray, cut: FloatArray) -> None:
    known = ~np.isnan(p)
    gain = np.zeros(len(p))
    gain[known] = np.log(p[known] / (1 - p[known])) - np.log(cut[known] / (1 - cut[known]))
    mine = gain > 0
    there = np.flatnonzero(s["times"])
    same = there[(s["sets"][there] == mine).all(axis=1)]
    alone = gain[mine].sum() + WEIGHT * np.log((s["times"][same[0]] if len(same) else 0) + UNSEEN)
    others = np.setdiff1d(there, same)
    if not len(others):
        return
    score = s["sets"][others] @ gain + WEIGHT * np.log(s["times"][others] + UNSEEN)
    best = others[np.argmax(score)]
    if score.max() > alone:
        otherwise = known & (s["sets"][best] != mine)
        cut[otherwise] = p[otherwise] * np.where(mine[otherwise], 1 + BEYOND, 1 - BEYOND)


def _learn(s: Arrays, label_set: npt.NDArray[np.int8]) -> None:
    slot = s["count"][0] % WINDOW
    if s["count"][0] >= WINDOW:
        s["times"][s["ring"][slot]] -= 1
    there = np.flatnonzero(s["times"])
    same = there[(s["sets"][there] == label_set).all(axis=1)]
    at = same[0] if len(same) else np.flatnonzero(s["times"] == 0)[0]
    s["sets"][at] = label_set
    s["times"][at] += 1
    s["ring"][slot] = at
    s["count"] += 1
