"""Dropout whose masks are a function of (seed, stream, event number, unit), the same in every engine and for every cut.

The generator has no state: a mask is SplitMix64's mixing function (Steele, Lea and Flood 2014) of a counter. torch's
integers are signed and wrap, so a logical right shift is an arithmetic one whose copied sign bits are masked off.

Axes: B samples, H units.
"""

import torch
from torch import Tensor, nn

from streamnn.context import Context

GOLDEN = 0x9E3779B97F4A7C15
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # SplitMix64's multipliers
ROW, UNIT = 0xD1342543DE82EF95, 0xAF251AF3B0F025B5  # odd, so that every event and every unit has its own counter
BITS = 53


class Dropout(nn.Module):
    """In a training pass, set each unit to 0 with probability p and divide the others by 1 - p; else change nothing.

    Args:
        p: share of units dropped, 0 to below 1.
        seed: masks depend on it.
        stream: tells layers of one network apart.

    Raises:
        ValueError: p is outside its range.
    """

    def __init__(self, p: float, *, seed: int, stream: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}, but must be at least 0 and below 1")
        self.p = p
        self._key = _mix_number(_mix_number(seed + GOLDEN) + (stream + 1) * GOLDEN)
        self._limit = round(p * (1 << BITS))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, H] -> [B, H]."""
        if self.p == 0 or not context.training:
            return x
        unit = torch.arange(x.shape[1], dtype=torch.int64)
        row = _mix(context.number * _signed(ROW) + _signed(self._key))
        drawn = _shift(_mix(row[:, None] + unit * _signed(UNIT)), 64 - BITS)
        return torch.where(drawn >= self._limit, x * (1 / (1 - self.p)), 0.0)


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _signed(FIRST)
    z = (z ^ _shift(z, 27)) * _signed(SECOND)
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _signed(word: int) -> int:
    """Read 64 bits as a signed integer."""
    word &= (1 << 64) - 1
    return word - (1 << 64) if word >> 63 else word


def _mix_number(z: int) -> int:
    z &= (1 << 64) - 1
    z = ((z ^ (z >> 30)) * FIRST) & ((1 << 64) - 1)
    z = ((z ^ (z >> 27)) * SECOND) & ((1 << 64) - 1)
    return z ^ (z >> 31)
