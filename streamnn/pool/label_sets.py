"""Labels that come together: a set of labels that has been seen is preferred to one that has not.

Each label alone is on where its probability p is above its threshold c. The set S served is the one with the largest

    sum of logit p - logit c over the labels in S  +  .1 log(n(S) + .03)

among that one and the sets of the last 1,000 events whose labels were all known, n of which were S. So labels far from
their thresholds decide by themselves, and near ones by the company they keep. More sets are then right as a whole, and no
fewer labels. A label that is decided otherwise gets a threshold just beyond its probability in this row.

Axes: K rows, T labels.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, Operations
from streamnn.pool.layout import Arrays
from streamnn.pool.native import call

WINDOW = 1000  # as in label_sets.c
BEYOND = 1e-6  # how far a threshold lies beyond the probability, relative to it


def init(labels: int) -> Arrays:
    """Return the state of a memory of sets that has seen none; its order is that of `run` in label_sets.c."""
    return {
        "sets": np.zeros((WINDOW, labels), dtype=np.int8),
        "times": np.zeros(WINDOW, dtype=np.int64),
        "ring": np.zeros(WINDOW, dtype=np.int64),
        "count": np.zeros(1, dtype=np.int64),
    }


def run(
    state: Arrays,
    y: npt.NDArray[np.float64],
    served: FloatArray,
    cut: FloatArray,
    operations: Operations,
) -> None:
    """Run operations in C over probabilities `served` [K, T]: move thresholds `cut` [K, T] of rows predicted."""
    call("label_sets", operations, [y.shape[1]], [*state.values(), y, served, cut])
