"""Which position in each partition belongs to which record number.

In: the partition and offset of every record handed out. Out: for any record number since the last commit, the
positions to go on from. Ten bytes a record, for as many records as are not committed yet, within a bound.

Axes: N records of one piece, P partitions.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from connectors.errors import SourceError
from connectors.records import IntArray


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    """Records [start, start + N): partition index [N] and the offset after each [N]."""

    start: int
    index: npt.NDArray[np.uint16]
    after: IntArray

    @property
    def stop(self) -> int:
        return self.start + len(self.index)


class PositionTrail:
    """Positions by record number, from the last commit on.

    Args:
        number: of the record handed out next.
        positions: [P] offset of the record read next, per partition.
        most: records remembered. Of older ones the positions are forgotten, as if they were committed.
    """

    def __init__(self, number: int, positions: IntArray, most: int) -> None:
        self._number, self._positions, self._most = number, positions.copy(), most
        self._pieces: deque[_Piece] = deque()

    @property
    def stop(self) -> int:
        """Number of the record handed out next."""
        return self._pieces[-1].stop if self._pieces else self._number

    def add(self, index: npt.NDArray[np.uint16], after: IntArray) -> None:
        """Note records handed out."""
        if len(index):
            self._pieces.append(_Piece(self.stop, index, after))
        while self._pieces and self.stop - self._number > self._most and len(self._pieces) > 1:
            self.forget(self._pieces[0].stop)

    def grow(self, position: int) -> None:
        """Take up one more partition, from a position."""
        self._positions = np.append(self._positions, np.int64(position))

    def at(self, number: int) -> IntArray:
        """Return the positions [P] before record number `number`.

        Raises:
            SourceError: it is committed, forgotten or not handed out yet.
        """
        if not self._number <= number <= self.stop:
            raise SourceError(
                f"positions are asked for before record {number}, and are remembered for {self._number} to "
                f"{self.stop}, {self._most} at most; make mode.batch smaller"
            )
        positions = self._positions.copy()
        for piece in self._pieces:
            if piece.start >= number:
                break
            cut = number - piece.start
            np.maximum.at(positions, piece.index[:cut], piece.after[:cut])
        return positions

    def forget(self, number: int) -> None:
        """Forget what lies before record number `number`."""
        self._positions = self.at(number)
        while self._pieces and self._pieces[0].stop <= number:
            self._pieces.popleft()
        if self._pieces and self._pieces[0].start < number:
            piece = self._pieces[0]
            cut = number - piece.start
            self._pieces[0] = _Piece(number, piece.index[cut:], piece.after[cut:])
        self._number = number
