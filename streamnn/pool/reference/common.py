"""What the reference parts share.

Axes: C class capacity.
"""

import numpy as np
import numpy.typing as npt

from streamnn.pool.layout import Arrays
from streamnn.pool.mixer import FLOOR

WORD = 2**64 - 1
PREDICT = 3  # an operation that serves and changes nothing, as in common.c
Vector = npt.NDArray[np.float64]
Flags = npt.NDArray[np.int8]


def mixed(z: int) -> int:
    """splitmix64 (Steele, Lea and Flood 2014) of a number modulo 2^64."""
    z = z + 0x9E3779B97F4A7C15 & WORD
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ z >> 27) * 0x94D049BB133111EB & WORD
    return z ^ z >> 31


def prior_of(state: Arrays) -> Vector:
    """Shares [C] of the labels counted in `totals`, with .5 for each class that exists."""
    count = np.where(state["active"] > 0, state["totals"] + 0.5, 0.0)
    return np.asarray(count / max(count.sum(), 1e-300), dtype=np.float64)


def log_of(p: Vector, exists: npt.NDArray[np.bool_]) -> Vector:
    """Turn probabilities [..., C] into logarithms, FLOOR at least and for classes that do not exist."""
    return np.where(exists, np.maximum(np.log(np.maximum(p, 1e-300)), FLOOR), FLOOR)


def log_softmax(score: Vector, active: Flags) -> Vector:
    """Turn scores [C] into log-probabilities over the classes that exist; the others get FLOOR."""
    exists = active > 0
    out = np.full(len(score), FLOOR)
    if exists.any():
        part = score[exists]
        top = part.max()
        out[exists] = np.maximum(part - (top + np.log(np.exp(part - top).sum())), FLOOR)
    return out
