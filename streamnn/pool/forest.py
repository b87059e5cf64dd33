"""Two members that ask a forest: 20 classification trees, each grown anew from the last labelled events.

    trees           the mean of the trees' leaves and the prior, 21 votes
    trees_recent    the same with a tree's vote weighted by exp(-5 (loss_t - least)), loss_t the exponential mean (.05) of
                    its log-loss

Every 100 labels (every 10 among the first 400) the oldest tree is replaced by one of 2,000 draws, with replacement, from the last
4,000 labelled events: a CART (Breiman et al. 1984), by Gini's impurity, not pruned, a leaf of three draws at least, which splits
between any two values and sends missing numbers to the left (missing flags are 0). Where there are more than 32 inputs a tree is
given 32 of them, half plain and half numeric where there are as many. So the trees are bagged (Breiman 1996) over time as well:
they find what few inputs decide together, which neighbours, waves and tables do not, and forget what they were grown on within
4,000 to 6,000 labels.

A leaf says how often each class is among its draws; the prior counts labels, decayed by .999 a label, with .5 a class. Draws depend on
the seed and on how many trees came before, on nothing else.

Axes: K rows, P plain and F numeric inputs, G = P + F (0 where there are too many for a window), C class capacity, T trees, N draws.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, RowLayout, moved
from streamnn.pool.native import call

MEMBERS = ("trees", "trees_recent")
TREES, WINDOW, DRAWN, LEAF = 20, 4000, 2000, 3  # as in trees.c
NODES = 2 * DRAWN // LEAF
MOST_INPUTS = 256  # above which there are no trees: their window would be larger than all the rest
MOST_CLASSES = 256


def init(layout: RowLayout) -> Arrays:
    """Return the state of a forest that has seen nothing; its order is that of `State` in forest.c."""
    inputs = layout.keys if layout.keys <= MOST_INPUTS and layout.classes <= MOST_CLASSES else 0
    trees, window = (TREES, WINDOW) if inputs else (0, 0)
    return {
        "count": np.zeros(2, dtype=np.int64),
        "window": np.full((window, inputs), np.nan),
        "label": np.zeros(window, dtype=np.int32),
        "feature": np.full((trees, NODES), -1, dtype=np.int32),
        "cut": np.zeros((trees, NODES)),
        "left": np.zeros((trees, NODES), dtype=np.int32),
        "class": np.zeros((trees, DRAWN), dtype=np.int32),
        "times": np.zeros((trees, DRAWN), dtype=np.int32),
        "loss": np.zeros(trees),
        "totals": np.zeros(layout.classes),
        "active": np.zeros(layout.classes, dtype=np.int8),
    }


def grow(state: Arrays, old: RowLayout, new: RowLayout) -> Arrays:
    """Return the state with room for more: new inputs were missing so far. A forest of too many inputs is left out."""
    fresh = init(new)
    held = moved_window(state, fresh, old, new) if fresh["window"].size else fresh
    for name in ("totals", "active"):
        held[name] = moved(state[name], fresh[name], {0: np.arange(len(state[name]))})
    return held


def moved_window(state: Arrays, fresh: Arrays, old: RowLayout, new: RowLayout) -> Arrays:
    """Return `fresh`, which has a window, with what `state` holds: trees split by the same inputs, wherever these lie now."""
    if not state["window"].size:
        return fresh
    columns = np.concatenate([np.arange(old.plain), new.plain + np.arange(old.numeric)])
    held = {name: state[name] for name in fresh}
    feature = state["feature"]
    held["feature"] = np.where(feature >= 0, columns[feature], -1).astype(np.int32)
    fresh["window"][:, : new.plain] = 0.0  # flags of categories that had not come
    held["window"] = moved(state["window"], fresh["window"], {1: columns})
    return held


def run(
    state: Arrays,
    layout: RowLayout,
    plain: npt.NDArray[np.float64],
    x: npt.NDArray[np.float64],
    label: npt.NDArray[np.int32],
    logp: npt.NDArray[np.float64],
    operations: Operations,
    *,
    first: int,
    seed: int,
) -> None:
    """Run operations in C over inputs [K, P] and [K, F]; fills two members of `logp` [K, M, C], from `first` on."""
    classes = layout.classes
    sizes = [layout.plain, layout.numeric, classes, logp.shape[1] * classes, state["window"].shape[1], seed]
    mine = logp.reshape(-1)[first * classes :]
    call("forest", operations, sizes, [*state.values(), plain, x, label, mine])
