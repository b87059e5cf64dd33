"""The softmax regressions of `streamnn.pool.linear`, one operation at a time.

Axes: K rows, G inputs, C class capacity.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays, Layout
from streamnn.pool.reference.common import PREDICT, Flags, Vector, log_softmax

RATE, BETA2 = 0.01, 0.999
SCALE_RATE, LARGEST = 0.03, np.log(32.0)


def run(
    state: Arrays,
    layout: Layout,
    rows: npt.NDArray[np.float32],
    label: npt.NDArray[np.int32],
    logp: Vector,
    operations: Operations,
    *,
    first: int,
) -> None:
    """Run operations over feature rows [K, D]; fills four members of `logp` [K, M, C], from `first` on."""
    x = np.concatenate([np.ones((len(rows), 1)), rows[:, : layout.keys].astype(np.float64)], axis=1)
    active = state["active"]
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        if kind != Kind.LEARN:
            for r in range(start, stop):
                plain, adam = x[r] @ state["weights"], x[r] @ state["adam"]
                for i, score in enumerate((plain, adam, np.exp(state["sure"][0]) * plain, 4 * plain)):
                    logp[r, first + i] = log_softmax(score, active)
        known = [r for r in range(start, stop) if label[r] >= 0]
        if kind in (Kind.PREDICT_OBSERVE, PREDICT) or not known:
            continue
        active[label[known]] = 1
        slopes = [_scale_slope(x[r] @ state["weights"], active, np.exp(state["sure"][0]), label[r]) for r in known]
        for name in ("weights", "adam"):
            slope = np.zeros_like(state[name])
            for r in known:
                p = np.where(active > 0, np.exp(log_softmax(x[r] @ state[name], active)), 0.0)
                p[label[r]] -= 1
                slope += np.outer(x[r], p) / len(known)
            if name == "weights":
                state[name] -= RATE * slope
                state["sure"][:] = np.clip(state["sure"] - SCALE_RATE * np.mean(slopes), 0.0, LARGEST)
                continue
            counted = (slope != 0).any(axis=1) | (state["left"] < 1)  # from an input's first value on
            state["left"][counted] *= BETA2
            state["moment"] *= BETA2
            state["moment"] += (1 - BETA2) * slope * slope
            correct = np.where(counted, 1 - state["left"], 1.0)[:, None]
            state[name] -= RATE * slope / (np.sqrt(state["moment"] / correct) + 1e-8)


def _scale_slope(raw: Vector, active: Flags, scale: float, label: int) -> float:
    """Slope of the log-loss of scaled logits with respect to the logarithm of their scale, clipped."""
    p = np.where(active > 0, np.exp(log_softmax(scale * raw, active)), 0.0)
    return float(np.clip(scale * (p @ raw - raw[label]), -2, 2))
