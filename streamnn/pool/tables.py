"""Two members that count classes in tables: one by the exact values of an input, one by the label before.

    one_value    sum_f w_f p_f(c), w_f in proportion to exp(-20 loss_f), loss_f the exponential mean (.1) of input f's
                 log-loss; p_f = (n + prior) / (sum n + 1) with n the counts of the classes that came with this value,
                 decayed by .99 a label of the same value. Values share 512 places by their hash; missing inputs are
                 left out
    after_label  (n + prior) / (sum n + 1), n the counts of the classes that came after the label learned last, decayed
                 by .99 a label

For streams in which codes, levels or times of day decide, where neighbours and ranks see only what is near, and for
labels that follow one another. The prior counts labels, decayed by .999 a label, with .5 a class. A label that comes late
is counted under the label that was the last one when its event was served.

Axes: K rows, F numeric inputs (0 where their tables would be too large), C class capacity (L: 0 where too many),
S pending events.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, Layout, moved
from streamnn.pool.native import call

MEMBERS = ("one_value", "after_label")
PLACES = 512  # as in tables.c
MOST_COLUMNS = 2048  # inputs times classes, above which values are not counted
MOST_CLASSES = 256  # above which pairs of labels are not counted


def init(layout: Layout, pending: int) -> Arrays:
    """Return the state of tables that have seen nothing."""
    classes = layout.classes
    inputs = layout.numeric if layout.numeric * classes <= MOST_COLUMNS else 0
    pairs = classes if classes <= MOST_CLASSES else 0
    return {
        "counts": np.zeros((inputs, PLACES, classes), dtype=np.float32),
        "loss": np.zeros(inputs),
        "pairs": np.zeros((pairs, pairs)),
        "totals": np.zeros(classes),
        "active": np.zeros(classes, dtype=np.int8),
        "last": np.full(1, -1, dtype=np.int64),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_last": np.zeros(pending, dtype=np.int64),
    }


def grow(state: Arrays, new: Layout) -> Arrays:
    """Return the state with room for more; tables that become too large are left out."""
    fresh = init(new, len(state["stored"]))
    inputs, pairs, classes = (
        np.arange(len(state["loss"])),
        np.arange(len(state["pairs"])),
        np.arange(len(state["totals"])),
    )
    if len(fresh["loss"]) < len(inputs):
        inputs = np.full(len(inputs), -1)
    if len(fresh["pairs"]) < len(pairs):
        pairs = np.full(len(pairs), -1)
    axes = {
        "counts": {0: inputs, 2: classes},
        "loss": {0: inputs},
        "pairs": {0: pairs, 1: pairs},
        "totals": {0: classes},
        "active": {0: classes},
    }
    return {name: moved(array, fresh[name], axes.get(name, {})) for name, array in state.items()}


def run(
    state: Arrays,
    x: npt.NDArray[np.float64],
    label: npt.NDArray[np.int32],
    number: npt.NDArray[np.int64],
    logp: npt.NDArray[np.float64],
    operations: Operations,
    *,
    first: int,
) -> None:
    """Run operations in C over numeric inputs [K, F]; fills two members of `logp` [K, M, C], from `first` on."""
    classes = len(state["totals"])
    sizes = [
        len(state["loss"]),
        classes,
        x.shape[1],
        logp.shape[1] * classes,
        len(state["pairs"]),
        len(state["stored"]),
    ]
    mine = logp.reshape(-1)[first * classes :]
    call("tables", operations, sizes, [*state.values(), x, label, number, mine])
