"""What the reference parts share.

Axes: C class capacity.
"""

import numpy as np
import numpy.typing as npt

from streamnn.pool.mixer import FLOOR

PREDICT = 3  # an operation that serves and changes nothing, as in common.c
Vector = npt.NDArray[np.float64]
Flags = npt.NDArray[np.int8]


def log_softmax(score: Vector, active: Flags) -> Vector:
    """Turn scores [C] into log-probabilities over the classes that exist; the others get FLOOR."""
    exists = active > 0
    out = np.full(len(score), FLOOR)
    if exists.any():
        part = score[exists]
        top = part.max()
        out[exists] = np.maximum(part - (top + np.log(np.exp(part - top).sum())), FLOOR)
    return out
