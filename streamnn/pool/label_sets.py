"""Labels that come together: a set of labels that has been seen is preferred to one that has not, most where it was seen nearby.

Each label alone is on where its probability p is above its threshold c lowered a little. The set S served is the one with the
largest

    sum of logit p - logit c + .12 over the labels in S  +  .07 log(n(S) + .03)  +  .5 log(v(S) + .07)

among that one and the sets of the last 1,000 events whose labels were all known. n of these were S, and v is the share
that S has in the votes of the nearest neighbours, each weighing what it does in `votes`. So labels far from their thresholds
decide by themselves, and near ones by the company they keep, here rather than anywhere. More sets are then right as a whole.
Sets that have been seen have fewer labels than F1 would like, hence the .12. A label that is decided otherwise gets a
threshold just beyond its probability in this row.

Axes: K rows, T labels.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, IntArray, Operations
from streamnn.pool.layout import Arrays
from streamnn.pool.native import call

WINDOW = 1000  # as in label_sets.c
BEYOND = 1e-6  # how far a threshold lies beyond the probability, relative to it


def init(labels: int) -> Arrays:
    """Return the state of a memory of sets that has seen none; its order is that of `run` in label_sets.c."""
    return {
        "sets": np.zeros((WINDOW, labels), dtype=np.int8),
        "times": np.zeros(WINDOW, dtype=np.int64),
        "place": np.full(WINDOW, -1, dtype=np.int64),
        "count": np.zeros(1, dtype=np.int64),
    }


def run(
    state: Arrays,
    y: npt.NDArray[np.float64],
    served: FloatArray,
    cut: FloatArray,
    near: IntArray,
    weight: FloatArray,
    operations: Operations,
) -> None:
    """Run operations in C over probabilities `served` [K, T]: move thresholds `cut` [K, T] of rows predicted.

    `near` and `weight` [K, NEAR] come from `votes`, whose window holds the same events.
    """
    call("label_sets", operations, [y.shape[1], near.shape[1]], [*state.values(), y, served, cut, near, weight])
