"""The forests of `streamnn.pool.value_forest`, one row at a time.

Axes: K rows, P plain and F numeric inputs, N draws.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.forest import DRAWN, TREES, WINDOW
from streamnn.pool.layout import Arrays, ValueLayout
from streamnn.pool.reference.common import PREDICT, Vector, mixed
from streamnn.pool.reference.trees import EVERY, SOON, START, Part, Splits, chosen, draws, leaf_of, trees_of

LOSS_FADE = 0.05


def run(
    state: Arrays,
    layout: ValueLayout,
    plain: Vector,
    x: Vector,
    used: Vector,
    now: Vector,
    said: Vector,
    operations: Operations,
    *,
    first: int,
    seed: int,
) -> None:
    """Run operations over inputs [K, P] and [K, F]; fills four members of `said` [K, M], from `first` on."""
    rows = np.concatenate([np.nan_to_num(plain), x], axis=1)
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        if kind != Kind.LEARN:
            for r in range(start, stop):
                mean, base = now[r, 0], now[r, 3]
                value, residual = _serve(state, 0, rows[r], mean), base + _serve(state, 1, rows[r], 0.0)
                said[r, first : first + 4] = [*value, *residual]
        if kind in (Kind.PREDICT_OBSERVE, PREDICT) or not state["window"].size:
            continue
        for r in range(start, stop):
            if not np.isnan(used[r]).any():
                _learn(state, layout, rows[r], used[r], seed)


def _said(state: Arrays, which: int, row: Vector) -> Vector:
    """What each tree of a kind says: [trees grown]."""
    trees = trees_of(state)
    feature, cut, left = (state[name][which] for name in ("feature", "cut", "left"))
    at = [leaf_of(feature[t], cut[t], left[t], row) for t in range(trees)]
    return np.array([state["leaf"][which, t, left[t, node]] for t, node in enumerate(at)], dtype=np.float64)


def _serve(state: Arrays, which: int, row: Vector, otherwise: float) -> npt.NDArray[np.float64]:
    said = _said(state, which, row)
    if not len(said):
        return np.full(2, otherwise)
    loss = state["loss"][which, : len(said)]
    weight = np.where(loss > 0, loss.min() / np.where(loss > 0, loss, 1.0), 1.0) ** 4
    return np.array([said.mean(), weight @ said / weight.sum()])


def _learn(state: Arrays, layout: ValueLayout, row: Vector, target: Vector, seed: int) -> None:
    for which in range(2):
        said = _said(state, which, row)
        loss = state["loss"][which, : len(said)]
        loss += LOSS_FADE * (np.abs(said - target[which]) - loss)
    slot = int(state["count"][0]) % WINDOW
    state["window"][slot], state["target"][slot] = row, target
    state["count"][0] += 1
    count = int(state["count"][0])
    if count % (SOON if count < START else EVERY) == 0:
        for which in range(2):
            _renew(state, layout, which, float(target[which]), seed)
        state["count"][1] += 1


def _renew(state: Arrays, layout: ValueLayout, which: int, shift: float, seed: int) -> None:
    """Grow a tree in the place of the oldest of its kind."""
    count, grown = (int(n) for n in state["count"])
    tree, own = grown % TREES, mixed(seed + 2 * grown + which)
    rows = draws(min(count, WINDOW), DRAWN, own)
    target, values = state["target"][rows, which] - shift, state["window"][rows]
    leaves = 0

    def total(part: Part) -> float:
        return float(np.cumsum(target[part])[-1])  # one after the other, as C adds

    def floor(part: Part) -> float:
        return total(part) * total(part) / len(part) + 1e-9 * float(np.cumsum(target[part] ** 2)[-1])

    def scores(order: Part, whole: float) -> Vector:
        """What a split before each of the draws but the first is worth: [n - 1]."""
        left, n = np.cumsum(target[order])[:-1], np.arange(1, len(order))
        right = whole - left
        return np.asarray(left * left / n + right * right / (len(order) - n))

    def leaf(part: Part) -> int:
        nonlocal leaves
        state["leaf"][which, tree, leaves] = shift + total(part) / len(part)
        leaves += 1
        return leaves - 1

    nodes = (state["feature"][which, tree], state["cut"][which, tree], state["left"][which, tree])
    columns = chosen(values, layout.plain, own)
    Splits(*nodes, values, columns).grow(floor, total, scores, leaf)
    others = min(grown, TREES)
    mean = sum(float(loss) / others for loss in state["loss"][which, :others])
    state["loss"][which, tree] = mean
