"""The tables of `streamnn.pool.tables`, one row at a time.

Axes: K rows, F inputs with tables, C class capacity.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays
from streamnn.pool.reference.common import PREDICT, Vector, log_of, prior_of

FADE, PRIOR_FADE, LOSS_FADE = 0.99, 0.999, 0.1
NONE = -1


def run(
    state: Arrays,
    x: Vector,
    label: npt.NDArray[np.int32],
    number: npt.NDArray[np.int64],
    logp: Vector,
    operations: Operations,
    *,
    first: int,
) -> None:
    """Run operations over numeric inputs [K, F]; fills two members of `logp` [K, M, C], from `first` on."""
    room = len(state["stored"])
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        context = int(state["last"][0])
        if kind != Kind.LEARN:
            for r in range(start, stop):
                logp[r, first], logp[r, first + 1] = _serve(state, x[r])
                if room and (kind == Kind.PREDICT_OBSERVE or (kind == Kind.PREDICT_LEARN and label[r] < 0)):
                    state["stored"][number[r] % room] = number[r] + 1
                    state["stored_last"][number[r] % room] = context
        if kind in (Kind.PREDICT_OBSERVE, PREDICT):
            continue
        for r in range(start, stop):
            if label[r] < 0:
                continue
            before = context
            if kind == Kind.LEARN:
                known = room and state["stored"][number[r] % room] == number[r] + 1
                before = int(state["stored_last"][number[r] % room]) if known else NONE
            _learn(state, x[r], int(label[r]), before)


def place(x: float) -> int:
    """Where the counts of a value lie."""
    bits = int(np.float64(x + 0.0).view(np.uint64))
    return ((bits ^ (bits >> 32)) * 0x9E3779B97F4A7C15 & (2**64 - 1)) >> 55


def _serve(state: Arrays, x: Vector) -> tuple[Vector, Vector]:
    exists, prior = state["active"] > 0, prior_of(state)
    known = [f for f in range(len(state["loss"])) if not np.isnan(x[f])]
    by_value = prior
    if known:
        loss = state["loss"][known]
        weight = np.exp(-20 * (loss - loss.min()))
        counts = np.array([state["counts"][f, place(x[f])] for f in known], dtype=np.float64)
        p = (counts + prior) / (counts.sum(axis=1, keepdims=True) + 1)
        by_value = weight @ p / weight.sum()
    pair = np.zeros(len(prior))
    if state["last"][0] >= 0 and len(state["pairs"]):
        pair = state["pairs"][state["last"][0]]
    by_label = (pair + prior) / (pair.sum() + 1)
    return log_of(by_value, exists), log_of(by_label, exists)


def _learn(state: Arrays, x: Vector, label: int, before: int) -> None:
    prior = prior_of(state)
    for f in range(len(state["loss"])):
        if np.isnan(x[f]):
            continue
        count = state["counts"][f, place(x[f])]
        if state["active"][label]:
            p = (float(count[label]) + prior[label]) / (count.sum(dtype=np.float64) + 1)
            state["loss"][f] += LOSS_FADE * (-np.log(max(p, 1e-300)) - state["loss"][f])
        count *= np.float32(FADE)
        count[label] += 1
    if before >= 0 and len(state["pairs"]):
        state["pairs"][before] *= FADE
        state["pairs"][before, label] += 1
    state["active"][label] = 1
    state["totals"] *= PRIOR_FADE
    state["totals"][label] += 1
    state["last"][0] = label
