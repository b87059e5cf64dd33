"""Four members that ask forests: 20 regression trees for the value and 20 for its residual.

    value_trees             the mean of the trees' leaves; the running mean before the first tree
    value_trees_recent      the same, a tree weighted by (least / loss_t)^4, loss_t the exponential mean (.05) of its absolute error
    residual_trees, ..      base + the same of the trees for residuals

Trees are grown as those for classes are (see forest.py), by the least squared error; a leaf says the mean of its draws. They learn
the value and the residual as these count (see values.py): outliers are pulled in.

Axes: K rows, P plain and F numeric inputs, G = P + F (0 where there are too many for a window), T trees.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.forest import DRAWN, LEAF, MOST_INPUTS, NODES, TREES, WINDOW, moved_window
from streamnn.pool.layout import Arrays, ValueLayout
from streamnn.pool.native import call

MEMBERS = ("value_trees", "value_trees_recent", "residual_trees", "residual_trees_recent")


def init(layout: ValueLayout) -> Arrays:
    """Return the state of forests that have seen nothing; its order is that of `State` in value_forest.c."""
    inputs = layout.keys if layout.keys <= MOST_INPUTS else 0
    trees, window = (TREES, WINDOW) if inputs else (0, 0)
    return {
        "count": np.zeros(2, dtype=np.int64),
        "window": np.full((window, inputs), np.nan),
        "target": np.zeros((window, 2)),
        "feature": np.full((2, trees, NODES), -1, dtype=np.int32),
        "cut": np.zeros((2, trees, NODES)),
        "left": np.zeros((2, trees, NODES), dtype=np.int32),
        "leaf": np.zeros((2, trees, DRAWN // LEAF)),
        "loss": np.zeros((2, trees)),
    }


def grow(state: Arrays, old: ValueLayout, new: ValueLayout) -> Arrays:
    """Return the state with room for more: new inputs were missing so far. Forests of too many inputs are left out."""
    fresh = init(new)
    return moved_window(state, fresh, old, new) if fresh["window"].size else fresh


def run(
    state: Arrays,
    layout: ValueLayout,
    plain: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    used: npt.NDArray[np.float64],
    now: npt.NDArray[np.float64],
    said: npt.NDArray[np.float64],
    operations: Operations,
    *,
    first: int,
    seed: int,
) -> None:
    """Run operations in C over inputs [K, P] and [K, F]; fills four members of `said` [K, M], from `first` on.

    `used` and `now` are those of `streamnn.pool.values.ValueRows`. A row without value or residual is not learned.
    """
    sizes = [layout.plain, layout.numeric, state["window"].shape[1], said.shape[1], seed]
    mine = said.reshape(-1)[first:]
    call("value_forest", operations, sizes, [*state.values(), plain, x, used, now, mine])
