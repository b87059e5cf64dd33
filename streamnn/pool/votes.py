"""Frequencies of labels, and votes of the nearest neighbours for each label: five members.

    frequency   (positive + .5) / (count + 1), both decayed by .999 a label
    neighbours  (votes + .5 frequency) / (known + .5) of the nearest k = 5, 15, 50 of the last 1,000 events on the plain
                inputs and Z, of those whose label is known
    weighted    the same of the nearest 50, each vote weighing exp(-8 (d - least d) / mean d), d squared distances

Axes: K rows, G key entries, T labels, D feature columns, M members.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, IntArray, Operations
from streamnn.pool.layout import Arrays, Layout, moved
from streamnn.pool.native import call

MEMBERS = ("frequency", "nn5", "nn15", "nn50", "nn_weighted")
STRIDE = 1024  # as in windows.c
NEAR = 50  # as in wide.c


def init(layout: Layout, labels: int) -> Arrays:
    """Return the state of members that have seen nothing."""
    return {
        "count": np.zeros(1, dtype=np.int64),
        "keys": np.zeros((layout.keys, STRIDE), dtype=np.float32),
        "past": np.zeros((STRIDE, labels), dtype=np.float32),
        "weight": np.zeros(labels),
        "positive": np.zeros(labels),
    }


def grow(state: Arrays, old: Layout, new: Layout) -> Arrays:
    """Return the state with room for more inputs."""
    fresh = init(new, len(state["weight"]))
    keys = np.concatenate([np.arange(old.plain), new.plain + np.arange(old.numeric)])
    return {name: moved(a, fresh[name], {0: keys} if name == "keys" else {}) for name, a in state.items()}


def run(
    state: Arrays,
    layout: Layout,
    rows: npt.NDArray[np.float32],
    y: FloatArray,
    said: FloatArray,
    near: IntArray,
    weight: FloatArray,
    operations: Operations,
) -> None:
    """Run operations in C over feature rows [K, D] and labels [K, T].

    Fills the first members of `said` [K, M, T], and of rows predicted in which slots of the window their neighbours lie, `near`
    [K, NEAR], and what the vote of each weighs, `weight` [K, NEAR]; 0 where there are fewer.
    """
    sizes = [layout.keys, y.shape[1], layout.width, said.shape[1]]
    call("votes", operations, sizes, [*state.values(), rows, y, said, near, weight])
