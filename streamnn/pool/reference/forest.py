"""The forest of `streamnn.pool.forest`, one row at a time.

Axes: K rows, P plain and F numeric inputs, G = P + F, C class capacity, N draws.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.forest import DRAWN, TREES, WINDOW
from streamnn.pool.layout import Arrays, RowLayout
from streamnn.pool.reference.common import PREDICT, Vector, log_of, mixed, prior_of
from streamnn.pool.reference.trees import EVERY, SOON, START, Part, Splits, chosen, draws, leaf_of, trees_of

PRIOR_FADE, LOSS_FADE, SHARP = 0.999, 0.05, 5.0


def run(
    state: Arrays,
    layout: RowLayout,
    plain: Vector,
    x: Vector,
    label: npt.NDArray[np.int32],
    logp: Vector,
    operations: Operations,
    *,
    first: int,
    seed: int,
) -> None:
    """Run operations over inputs [K, P] and [K, F]; fills two members of `logp` [K, M, C], from `first` on."""
    rows = np.concatenate([np.nan_to_num(plain), x], axis=1)
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        if kind != Kind.LEARN:
            for r in range(start, stop):
                logp[r, first : first + 2] = _serve(state, rows[r])
        if kind in (Kind.PREDICT_OBSERVE, PREDICT):
            continue
        for r in range(start, stop):
            if label[r] >= 0:
                _learn(state, layout, rows[r], int(label[r]), seed)


def _leaf(state: Arrays, tree: int, row: Vector) -> Vector:
    """How often each class is in the leaf of a tree at which a row ends: [C]."""
    at = leaf_of(state["feature"][tree], state["cut"][tree], state["left"][tree], row)
    entry, counts = int(state["left"][tree, at]), np.zeros(len(state["totals"]))
    while True:
        times = int(state["times"][tree, entry])
        counts[state["class"][tree, entry]] = abs(times)
        if times < 0:
            return counts
        entry += 1


def _serve(state: Arrays, row: Vector) -> Vector:
    exists, prior, trees = state["active"] > 0, prior_of(state), trees_of(state)
    said = np.array([prior, prior])
    loss = state["loss"][:trees]
    weights = np.stack([np.ones(trees), np.exp(-SHARP * (loss - loss.min(initial=np.inf)))])
    for t in range(trees):
        counts = _leaf(state, t, row)
        said += weights[:, t, None] * counts / counts.sum()
    said /= 1.0 + weights.sum(axis=1, keepdims=True)
    return log_of(said, exists)


def _learn(state: Arrays, layout: RowLayout, row: Vector, label: int, seed: int) -> None:
    if state["active"][label]:
        prior = prior_of(state)
        for t in range(trees_of(state)):
            counts = _leaf(state, t, row)
            p = (counts[label] + prior[label]) / (counts.sum() + 1.0)
            state["loss"][t] += LOSS_FADE * (-np.log(p) - state["loss"][t])
    state["active"][label] = 1
    state["totals"] *= PRIOR_FADE
    state["totals"][label] += 1
    if not len(state["window"]):
        return
    slot = int(state["count"][0]) % WINDOW
    state["window"][slot], state["label"][slot] = row, label
    state["count"][0] += 1
    count = int(state["count"][0])
    if count % (SOON if count < START else EVERY) == 0:
        _renew(state, layout, seed)


def _renew(state: Arrays, layout: RowLayout, seed: int) -> None:
    """Grow a tree in the place of the oldest."""
    count, grown = (int(n) for n in state["count"])
    tree, own = grown % TREES, mixed(seed + grown)
    rows = draws(min(count, WINDOW), DRAWN, own)
    classes, values = state["label"][rows], state["window"][rows]
    columns = chosen(values, layout.plain, own)
    entry, several = 0, len(state["totals"])

    def purity(part: Part) -> float:
        counts = np.bincount(classes[part], minlength=several)
        return float((counts**2).sum())

    def scores(order: Part, _: float) -> Vector:
        """What a split before each of the draws but the first is worth: [n - 1]."""
        ones = np.eye(several, dtype=np.int64)[classes[order]]
        left = np.cumsum(ones, axis=0)
        right = left[-1] - left
        n = np.arange(1, len(order))
        return np.asarray((left[:-1] ** 2).sum(axis=1) / n + (right[:-1] ** 2).sum(axis=1) / (len(order) - n))

    def leaf(part: Part) -> int:
        nonlocal entry
        counts, begin = np.bincount(classes[part], minlength=several), entry
        for c in np.flatnonzero(counts):
            state["class"][tree, entry], state["times"][tree, entry] = c, counts[c]
            entry += 1
        state["times"][tree, entry - 1] *= -1
        return begin

    splits = Splits(state["feature"][tree], state["cut"][tree], state["left"][tree], values, columns)
    splits.grow(lambda part: purity(part) / len(part) + 1e-9, purity, scores, leaf)
    others = trees_of(state)
    state["loss"][tree] = sum(float(loss) / others for loss in state["loss"][:others])
    state["count"][1] += 1
