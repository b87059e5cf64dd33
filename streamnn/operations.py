"""The list of operations that a learner runs over the events of a chunk, and what comes back.

Axes: K events (rows) of a chunk, N operations, F input capacity, W head width.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Kind(IntEnum):
    """What one operation does with its rows; see `streamnn.step`."""

    PREDICT_LEARN = 0  # predict, learn, observe: the label is at hand
    PREDICT_OBSERVE = 1  # predict, observe: no label, or one that comes later
    LEARN = 2  # a label has come for events observed before


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Encoded events.

    Attributes:
        x: [K, F] float64, NaN = missing or absent.
        y: [K, W] float64, NaN = unknown.
        number: [K] int64, event numbers.
    """

    x: FloatArray
    y: FloatArray
    number: IntArray

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True, slots=True, eq=False)
class Operations:
    """N operations in their order; operation i concerns rows [start[i], stop[i]), which are one micro-batch."""

    kind: npt.NDArray[np.int8]
    start: IntArray
    stop: IntArray

    def __len__(self) -> int:
        return len(self.kind)

    def check(self, rows: int) -> None:
        """Check that all operations lie within so many rows.

        Raises:
            ValueError: one does not, or has no rows.
        """
        if not len(self):
            return
        least, shortest = np.minimum.reduce(self.start), np.minimum.reduce(self.stop - self.start)
        if least < 0 or shortest < 1 or np.maximum.reduce(self.stop) > rows:
            at = np.flatnonzero((self.start < 0) | (self.start >= self.stop) | (self.stop > rows))[0]
            raise ValueError(
                f"operation {at} concerns rows [{self.start[at]}, {self.stop[at]}), expected at least one row within"
                f" the {rows} given; pass the rows that the operations were made for"
            )

    def covered(self, rows: int, *kinds: Kind) -> BoolArray:
        """Return a mask [rows] of the rows that an operation of one of the kinds concerns."""
        chosen = self._chosen(kinds)
        edges = np.zeros(rows + 1, dtype=np.int64)
        np.add.at(edges, self.start[chosen], 1)
        np.add.at(edges, self.stop[chosen], -1)
        return np.cumsum(edges[:-1]) > 0

    def rows(self, *kinds: Kind) -> IntArray:
        """Return the rows that operations of the kinds concern, in the order of the operations."""
        chosen = self._chosen(kinds)
        start, length = self.start[chosen], (self.stop - self.start)[chosen]
        first = np.cumsum(length) - length  # where each operation's rows begin in the result
        return np.repeat(start - first, length) + np.arange(int(length.sum()))

    def _chosen(self, kinds: tuple[Kind, ...]) -> BoolArray:
        chosen = np.zeros(len(self.kind), dtype=bool)
        for kind in kinds:
            chosen |= self.kind == kind
        return chosen

    @classmethod
    def of(cls, listed: list[tuple[Kind, int, int]]) -> "Operations":
        """Make the list from (kind, start, stop) triples."""
        table = np.array(listed, dtype=np.int64).reshape(-1, 3)
        return cls(table[:, 0].astype(np.int8), table[:, 1].copy(), table[:, 2].copy())


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """What the operations returned.

    Attributes:
        served: [K, W] float64 of each row predicted; NaN rows were not.
        loss: [K] float64, each row's loss just before it was learned; NaN where nothing was learned.
        refused: rows whose learning made the loss or the state infinite or NaN: {row: reason}. Everything was computed
            again without them; nothing of their labels is in the state.
    """

    served: FloatArray
    loss: FloatArray
    refused: dict[int, str] = field(default_factory=dict)


LearnerState = dict[str, Any]
