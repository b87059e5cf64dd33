"""What a list of operations needs compiled: sizes of micro-batches, padded, and the kinds of operation that occur with each.

Axes: N operations.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamnn.operations import IntArray, Operations


@dataclass(frozen=True, slots=True)
class Outline:
    """What a list of operations needs.

    Attributes:
        sizes: [N] rows of each, padded.
        needed: (size, kinds that occur with it), each size once.
    """

    operations: Operations
    sizes: IntArray
    needed: list[tuple[int, frozenset[int]]]

    @classmethod
    def of(cls, operations: Operations) -> "Outline":
        """Look through a list."""
        kind, sizes = operations.kind, padded(operations)
        return cls(operations, sizes, [(size, frozenset(kinds)) for size, kinds in _parts(kind, sizes)])


def _parts(kind: npt.NDArray[np.int8], sizes: IntArray) -> Iterator[tuple[int, list[int]]]:
    """Yield each size and the kinds that occur with it; one of each is the usual case, and found quickly."""
    if not len(kind):
        return
    first = kind[:1].tobytes()
    kinds = [int(kind[0])] if kind.tobytes() == first * len(kind) else np.unique(kind).tolist()
    if np.minimum.reduce(sizes) == np.maximum.reduce(sizes):
        yield int(sizes[0]), kinds
        return
    for size in np.unique(sizes).tolist():
        yield size, np.unique(kind[sizes == size]).tolist()


def padded(operations: Operations) -> IntArray:
    """Return the next power of two of each operation's rows, [N]."""
    rows: IntArray = operations.stop - operations.start
    if not len(rows) or np.maximum.reduce(rows) == 1:
        return rows
    sizes: IntArray = np.left_shift(1, np.ceil(np.log2(rows)).astype(np.int64))
    return sizes


def next_power(rows: int) -> int:
    """Return the next power of two."""
    return 1 << (rows - 1).bit_length()
