"""Two mixtures of the members' log-probabilities L_m, and their mean: who is right is learned as well.

    stack   softmax(sum_m w_m max(L_m, -6)); w = 1/M at first, then gradient steps of .003 on its log-loss, free in sign
    hedge   log sum_m h_m exp(L_m); h_m times exp(-.3 min(loss_m, 8)), normalised, then .997 h + .003 / M
    served  the normalised mean of both in log space

A row is mixed with the weights before its label. For a label that comes late the members are judged by what they said
when the row was served, which is kept for the last `pending` events.

Axes: K rows, M members, C class capacity, S pending events.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, moved
from streamnn.pool.native import call

FLOOR = -30.0  # the log-probability of a class that does not exist


def init(members: int, classes: int, pending: int) -> Arrays:
    """Return the state of a mixer that has seen nothing."""
    return {
        "hedge": np.full(members, 1.0 / members),
        "stack": np.full(members, 1.0 / members),
        "active": np.zeros(classes, dtype=np.int8),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_logp": np.full((pending, members, classes), FLOOR),
    }


def grow(state: Arrays, classes: int) -> Arrays:
    """Return the state with room for more classes."""
    fresh = init(len(state["hedge"]), classes, len(state["stored"]))
    before = np.arange(len(state["active"]))
    axes = {"active": {0: before}, "stored_logp": {2: before}}
    return {name: moved(array, fresh[name], axes.get(name, {})) for name, array in state.items()}


def run(
    state: Arrays,
    logp: npt.NDArray[np.float64],
    label: npt.NDArray[np.int32],
    number: npt.NDArray[np.int64],
    operations: Operations,
    served: npt.NDArray[np.float64],
    loss: npt.NDArray[np.float64],
) -> None:
    """Run operations in C: fill `served` [K, C] of rows predicted and `loss` [K] of rows learned."""
    sizes = [logp.shape[1], logp.shape[2], len(state["stored"])]
    call("mixer", operations, sizes, [*state.values(), label, number, logp, served, loss])
