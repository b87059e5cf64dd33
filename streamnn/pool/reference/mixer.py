"""The mixtures of `streamnn.pool.mixer`, one row at a time.

Axes: K rows, M members, C class capacity.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays
from streamnn.pool.mixer import FLOOR
from streamnn.pool.reference.common import PREDICT, Vector, log_softmax


def run(
    state: Arrays,
    logp: Vector,
    label: npt.NDArray[np.int32],
    number: npt.NDArray[np.int64],
    operations: Operations,
    served: Vector,
    loss: Vector,
) -> None:
    """Run operations: fill `served` [K, C] of rows predicted and `loss` [K] of rows learned."""
    active, room = state["active"], len(state["stored"])
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        exists = active > 0
        if kind != Kind.LEARN:
            for r in range(start, stop):
                mean, _ = _combine(state, logp[r])
                served[r] = np.where(exists, np.exp(mean), 0.0) if exists.any() else np.nan
                if room and (kind == Kind.PREDICT_OBSERVE or (kind == Kind.PREDICT_LEARN and label[r] < 0)):
                    state["stored"][number[r] % room] = number[r] + 1
                    state["stored_logp"][number[r] % room] = logp[r]
        if kind in (Kind.PREDICT_OBSERVE, PREDICT):
            continue
        for r in range(start, stop):
            if label[r] < 0:
                continue
            said = logp[r]
            if kind == Kind.LEARN:
                if not room or state["stored"][number[r] % room] != number[r] + 1:
                    active[label[r]] = 1
                    continue
                said = state["stored_logp"][number[r] % room]
            loss[r] = _learn(state, said, int(label[r]))


def _combine(state: Arrays, logp: Vector) -> tuple[Vector, Vector]:
    """Mix one row [M, C]: log-probabilities of the mean and of the stack, [C] each."""
    active = state["active"]
    stack = log_softmax(state["stack"] @ np.maximum(logp, -6), active)
    hedge = log_softmax(np.log(np.maximum(state["hedge"] @ np.exp(logp), 1e-300)), active)
    return log_softmax(0.5 * (stack + hedge), active), stack


def _learn(state: Arrays, logp: Vector, label: int) -> float:
    active = state["active"]
    if not active[label]:
        active[label] = 1
        return -FLOOR
    mean, stack = _combine(state, logp)
    slope = np.where(active > 0, np.exp(stack), 0.0)
    slope[label] -= 1
    state["stack"] -= 0.003 * (np.maximum(logp, -6) @ slope)
    hedge = state["hedge"] * np.exp(-0.3 * np.minimum(-logp[:, label], 8))
    state["hedge"][:] = 0.997 * hedge / hedge.sum() + 0.003 / len(hedge)
    return float(-mean[label])
