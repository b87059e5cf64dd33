"""Events on their way through the loop, and what is to be done with them.

Axes: K events, F input capacity, W head width, T targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from connectors import Joined, Record
from streamnn.operations import FloatArray, IntArray, Operations, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Events with everything that is known of them, column by column.

    Attributes:
        rows: inputs, labels and event numbers.
        truth: [K, T] what is to be scored; NaN = unknown.
        served: [K, W] what was served; NaN = not yet.
        offset: [K] int64, positions in the source.
        moment_s: [K] float64, event time in seconds; NaN = unknown.
        records: K records as they came, for the dead letters.
    """

    rows: Rows
    truth: FloatArray
    served: FloatArray
    offset: IntArray
    moment_s: FloatArray
    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.offset)

    def slice(self, start: int, stop: int) -> "Block":
        """Return rows [start, stop)."""
        r = self.rows
        return Block(
            Rows(r.x[start:stop], r.y[start:stop], r.number[start:stop]),
            self.truth[start:stop],
            self.served[start:stop],
            self.offset[start:stop],
            self.moment_s[start:stop],
            self.records[start:stop],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A block of old and new events with the operations to run over it.

    Attributes:
        block: pending events that are due, then the new ones.
        operations: over the rows of `block`.
        old: how many rows of `block` are old.
        expired: rows whose label is given up, because too many are awaited.
        awaited: new rows whose label may come as a record of its own.
        echo: [old], for each old row the new one whose label it is, -1 = its event is older; empty = all are.
    """

    block: Block
    operations: Operations
    old: int
    expired: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    awaited: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    echo: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def served(self, results: FloatArray) -> FloatArray:
        """Return what has been served for every row, [K, W], from what the operations have served."""
        fresh = np.arange(len(self.block)) >= self.old
        served = np.where(fresh[:, None], results, self.block.served)
        repeated = np.flatnonzero(self.echo >= 0)
        served[repeated] = served[self.echo[repeated]]
        return served


def join(a: Block, b: Block) -> Block:
    """Put two blocks of equal widths one behind the other."""
    if not len(a):
        return b
    rows = Rows(
        np.concatenate([a.rows.x, b.rows.x]),
        np.concatenate([a.rows.y, b.rows.y]),
        np.concatenate([a.rows.number, b.rows.number]),
    )
    return Block(
        rows,
        np.concatenate([a.truth, b.truth]),
        np.concatenate([a.served, b.served]),
        np.concatenate([a.offset, b.offset]),
        np.concatenate([a.moment_s, b.moment_s]),
        Joined([a.records, b.records]),
    )


def select(block: Block, mask: npt.NDArray[np.bool_]) -> Block:
    """Return the rows where the mask is True."""
    r = block.rows
    return Block(
        Rows(r.x[mask], r.y[mask], r.number[mask]),
        block.truth[mask],
        block.served[mask],
        block.offset[mask],
        block.moment_s[mask],
        [block.records[row] for row in np.flatnonzero(mask).tolist()],
    )
