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
                mean, *_ = _combine(state, logp[r])
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


def _combine(state: Arrays, logp: Vector) -> tuple[Vector, Vector, Vector, int]:
    """Mix one row [M, C]: log-probabilities of the mean, of stack and of lead, [C] each, and the class that leads."""
    active, clipped = state["active"], np.maximum(logp, -6)
    hedge = log_softmax(np.log(np.maximum(state["hedge"] @ np.exp(logp), 1e-300)), active)
    stack = log_softmax(state["stack"] @ clipped, active)
    leads = int(np.argmax(np.where(active > 0, hedge, -np.inf)))
    lead = log_softmax((state["stack"] + state["lead"][leads]) @ clipped, active)
    return log_softmax((hedge + stack + lead) / 3, active), stack, lead, leads


def _learn(state: Arrays, logp: Vector, label: int) -> float:
    active = state["active"]
    if not active[label]:
        active[label] = 1
        return -FLOOR
    mean, stack, lead, leads = _combine(state, logp)
    clipped, larger = np.maximum(logp, -6), 1 + 200 / (100 + int(state["count"][0]))
    for weights, said in ((state["stack"], stack), (state["lead"][leads], lead)):
        slope = np.where(active > 0, np.exp(said), 0.0)
        slope[label] -= 1
        weights -= 0.0025 * larger * (clipped @ slope)
    hedge = state["hedge"] * np.exp(-0.3 * larger * np.minimum(-logp[:, label], 8))
    state["hedge"][:] = 0.997 * hedge / hedge.sum() + 0.003 / len(hedge)
    state["count"] += 1
    return float(-mean[label])
