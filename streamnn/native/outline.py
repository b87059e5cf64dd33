"""What a list of operations needs compiled: sizes of micro-batches, padded, and the kinds of operation that occur with each.

Axes: N operations.
"""

from dataclasses import dataclass

import numpy as np

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
        if not len(kind):
            return cls(operations, sizes, [])
        if np.minimum.reduce(sizes) != np.maximum.reduce(sizes):
            parts = [(size, np.unique(kind[sizes == size])) for size in np.unique(sizes).tolist()]
            return cls(operations, sizes, [(size, frozenset(kinds.tolist())) for size, kinds in parts])
        one = kind.tobytes() == kind[:1].tobytes() * len(kind)  # the usual case, found quickly
        kinds = kind[:1] if one else np.unique(kind)
        return cls(operations, sizes, [(int(sizes[0]), frozenset(kinds.tolist()))])


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
