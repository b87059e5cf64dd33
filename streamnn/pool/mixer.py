"""Three mixtures of the members' log-probabilities L_m, and their mean: who is right is learned as well.

    hedge   log sum_m h_m exp(L_m); h_m times exp(-.3 s min(loss_m, 8)), normalised, then .997 h + .003 / M
    stack   softmax(sum_m w_m max(L_m, -6)); w = 1/M at first, then gradient steps of .0025 s on its log-loss, free in
            sign
    lead    the same with w_m + v_km for w_m, k the class that the hedge finds most likely; v = 0 at first, its own steps
    served  the normalised mean of the three in log space

Steps are larger at the start, s = 1 + 200 / (100 + labels learned): a short stream is no time to be careful, and a long
one is. `lead` lets members be trusted by what is about to be said. A row is mixed with the weights before its label. For a label that comes late the members are judged by what they said
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
        "lead": np.zeros((classes, members)),
        "active": np.zeros(classes, dtype=np.int8),
        "count": np.zeros(1, dtype=np.int64),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_logp": np.full((pending, members, classes), FLOOR),
    }


def grow(state: Arrays, classes: int) -> Arrays:
    """Return the state with room for more classes."""
    fresh = init(len(state["hedge"]), classes, len(state["stored"]))
    before = np.arange(len(state["active"]))
    axes = {"lead": {0: before}, "active": {0: before}, "stored_logp": {2: before}}
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
