"""Softmax regression on the plain inputs and Z: two learners, four members.

    gradient    w -= .01 (p - y) x
    adam        the same gradient by Adam with beta1 = 0, beta2 = .999, rate .01
    scaled      what the first says, with logits times e^t: it is slow to become sure. t takes gradient steps of .03 on the
                log-loss (slopes clipped to +-2), from log 4, within 0 and log 32
    gradient4   the same times 4

Axes: K rows, G inputs (the first columns of a feature row), C class capacity.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, Layout, moved
from streamnn.pool.native import call

MEMBERS = ("linear", "linear_adam", "linear_scaled", "linear_x4")


def init(layout: Layout) -> Arrays:
    """Return the state of models that have seen nothing; row 0 of the weights holds the biases."""
    shape = (layout.keys + 1, layout.classes)
    return {
        "weights": np.zeros(shape),
        "adam": np.zeros(shape),
        "moment": np.zeros(shape),
        "left": np.ones(layout.keys + 1),
        "active": np.zeros(layout.classes, dtype=np.int8),
        "sure": np.full(1, np.log(4.0)),
    }


def grow(state: Arrays, old: Layout, new: Layout) -> Arrays:
    """Return the state with room for more."""
    fresh = init(new)
    rows = np.concatenate([[0], 1 + np.arange(old.plain), 1 + new.plain + np.arange(old.numeric)])
    classes = np.arange(old.classes)
    axes = {
        **{name: {0: rows, 1: classes} for name in ("weights", "adam", "moment")},
        "left": {0: rows},
        "active": {0: classes},
    }
    return {name: moved(array, fresh[name], axes.get(name, {})) for name, array in state.items()}


def run(
    state: Arrays,
    layout: Layout,
    rows: npt.NDArray[np.float32],
    label: npt.NDArray[np.int32],
    logp: npt.NDArray[np.float64],
    operations: Operations,
    *,
    first: int,
) -> None:
    """Run operations in C over feature rows [K, D]; fills four members of `logp` [K, M, C], from `first` on."""
    sizes = [layout.keys, layout.classes, layout.width, logp.shape[1] * layout.classes]
    mine = logp.reshape(-1)[first * layout.classes :]
    call("linear", operations, sizes, [*state.values(), rows, label, mine])
