"""Lines of a file as blocks of records, none of which is copied before somebody asks for it.

In: a `ByteStream`, and a rule that finds the records in a piece of bytes. Out: `Lines`: a piece with the places of its
records, of which a line that is too long is only a beginning.

Axes: N records of a block.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

import numpy as np

from connectors.byte_streams import ByteStream
from connectors.cells import Refusal
from connectors.decode import MOST_CELLS
from connectors.json_records import too_large
from connectors.records import IntArray, Record

PIECE = 1 << 19  # bytes read at a time
KEPT = 4096  # bytes kept of a line that is too long
_MOST_READS = 64  # in one call, so that a poll never takes long
Parsed = TypeVar("Parsed")
_BOM = b"\xef\xbb\xbf"
_UNLIMITED = 1 << 30
_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Lines(Sequence[Record]):
    """Consecutive records.

    Attributes:
        data: a piece of a file, in which they lie.
        starts: [N] where each begins in it.
        ends: [N] where each ends, without its line end.
        refused: records that need not be looked at any further, by row.
        begins: whether the first one is the first of a file.
    """

    data: bytes = b""
    starts: IntArray = field(default_factory=lambda: _NONE)
    ends: IntArray = field(default_factory=lambda: _NONE)
    refused: Mapping[int, Refusal] = field(default_factory=dict)
    begins: bool = False

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Lines": ...
    def __getitem__(self, index: int | slice) -> "Record | Lines":
        if isinstance(index, slice):
            first, last, step = index.indices(len(self))
            assert step == 1, "lines are taken in order"
            refused = {row - first: why for row, why in self.refused.items() if first <= row < last}
            return Lines(self.data, self.starts[first:last], self.ends[first:last], refused, self.begins and first == 0)
        return Record(self.value(index))

    def value(self, row: int) -> bytes:
        """Return the bytes of one record."""
        return self.data[self.starts[row] : self.ends[row]]

    def values(self) -> list[bytes]:
        """Return the bytes of all records."""
        return [self.data[a:b] for a, b in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


@dataclass(frozen=True, slots=True)
class Framed:
    """Where records lie in a piece of bytes.

    Attributes:
        starts: [N] first byte of each.
        ends: [N] the byte behind each, its line end not counted.
        consumed: bytes up to and with the line end of the last one; the rest has to be seen again with more behind it.
        refused: what of them is already known to be no good.
        again: whether the rest has to be seen again as it is, too.
    """

    starts: IntArray
    ends: IntArray
    consumed: int
    refused: dict[int, Refusal]
    again: bool = False


Framer = Callable[[bytes, bool], Framed]
"""Finds the records in a piece of bytes; the flag tells that nothing comes behind it."""


def frame_lines(data: bytes, final: bool) -> Framed:
    """Take every line as a record; empty ones are left out."""
    breaks = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == 10)
    consumed = int(breaks[-1]) + 1 if len(breaks) else 0
    starts = np.concatenate([np.zeros(1, dtype=np.int64), breaks + 1])
    ends = breaks
    if final and consumed < len(data):
        ends, consumed = np.append(breaks, len(data)), len(data)
    else:
        starts = starts[:-1]
    ends = trim(data, starts, ends)
    filled = ends > starts
    if not filled.all():
        starts, ends = starts[filled], ends[filled]
    return Framed(starts, ends, consumed, {})


def trim(data: bytes, starts: IntArray, ends: IntArray) -> IntArray:
    """Return the ends [N] of lines without a carriage return."""
    if b"\r" not in data or not len(starts):
        return ends
    before = np.frombuffer(data, dtype=np.uint8)[np.maximum(ends - 1, 0)]
    trimmed: IntArray = ends - ((before == 13) & (ends > starts))
    return trimmed


class LineReader:
    """Reads a file record by record, a block at a time.

    Args:
        stream: where the bytes come from.
        frame: finds the records.
        max_record_bytes: longer ones are refused, and not loaded whole.
    """

    def __init__(self, stream: ByteStream, frame: Framer, max_record_bytes: int) -> None:
        self._stream, self._frame, self._most = stream, frame, max_record_bytes
        self._data = b""  # bytes in hand
        self._base = 0  # place in the file of the first of them
        self._begins = True  # they are the first of the file
        self._lines = Lines()  # records found in them
        self._at = 0  # place in the file from which those count
        self._row = 0  # how many of those were handed out
        self._used = 0  # bytes in hand that are done with when all are
        self._fitting = _UNLIMITED  # records of a block, where they have very many fields
        self._again = False  # records are to be looked for in what is in hand before more is read
        self._place = 0  # in the file, of the first record that `read` returned last
        self._long = 0  # length so far of a line that is too long, of which only the beginning is in hand
        self._last = b""  # its last byte so far

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Open at a mark, or at the beginning."""
        self._stream.open(mark)
        self._data, self._lines, self._row, self._used, self._long, self._again = b"", Lines(), 0, 0, 0, False
        self._base = self._at = self._place = self._stream.position
        self._begins = self._base == 0

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last; before that, the next one."""
        return self._stream.mark(self._place)

    def read(self, most: int) -> Lines | None:
        """Return the next records, at most `most`; none if none are there now, None at the end.

        Raises:
            SourceError: the file cannot be read, or ends where it must not.
        """
        if self._row == len(self._lines):
            self._forget()
            if not self._fill():
                return None
        part = self._lines[self._row : self._row + most]
        if len(part):
            self._place = self._at + int(part.starts[0])
        self._row += len(part)
        return part

    def read_fitting(
        self, most: int, parse: Callable[[Lines], Parsed], fields: Callable[[Parsed], int]
    ) -> Parsed | None:
        """Read and parse records, fewer where they name very many different fields.

        Columns of all these fields would hold next to nothing.

        Args:
            most: records at most.
            parse: turns them into a block.
            fields: tells how many different fields a block has.
        """
        lines = self.read(min(most, self._fitting))
        if lines is None:
            return None
        block = parse(lines)
        self._fitting = min(2 * self._fitting, _UNLIMITED)
        while len(lines) > 1 and fields(block) * len(lines) > MOST_CELLS:
            self._fitting = max(1, min(len(lines) // 2, MOST_CELLS // fields(block)))
            self._row -= len(lines) - self._fitting
            lines = lines[: self._fitting]
            block = parse(lines)
        return block

    @property
    def progress(self) -> float | None:
        """The share of the file read."""
        return self._stream.progress

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._stream.close()

    def _forget(self) -> None:
        """Let go of bytes whose records have been handed out."""
        if self._used:
            self._data, self._base, self._begins = self._data[self._used :], self._base + self._used, False
        self._lines, self._row, self._used = Lines(), 0, 0

    def _fill(self) -> bool:
        """Read until records are there, or nothing is to be had now; returns False at the end."""
        for _ in range(_MOST_READS):
            if self._again:
                self._frame_on(b"", final=False)
                if len(self._lines):
                    break
                self._forget()
            # doubling, so that a long record is not copied again and again
            piece = self._stream.read(max(PIECE, len(self._data)))
            more = "go on" if piece else self._stream.more()
            if more == "wait":
                break
            if more == "go on" or self._data:
                self._frame_on(piece, final=not piece)
            elif more == "end":
                return False
            else:
                self.open(None)  # the new file of this name
            if len(self._lines):
                break
            self._forget()
        return True

    def _frame_on(self, piece: bytes, *, final: bool) -> None:
        """Look for records in what is in hand and a new piece; `final` tells that nothing follows."""
        if self._long:
            self._end_long(piece)
            return
        self._data += piece
        if self._begins and self._data.startswith(_BOM):
            self._data, self._base = self._data[len(_BOM) :], self._base + len(_BOM)
        framed = self._frame(self._data, final)
        self._used, self._again = framed.consumed, framed.again
        if not len(framed.starts):
            if len(self._data) - self._used > self._most:
                self._forget()
                self._long, self._last, self._data = len(self._data), self._data[-1:], self._data[:KEPT]
            return
        refused, starts, ends = framed.refused, framed.starts, framed.ends
        long = np.flatnonzero(ends - starts > self._most)
        for row in long:
            refused[int(row)] = too_large(int(ends[row] - starts[row]), self._most)
        if len(long):
            ends = ends.copy()
            ends[long] = np.minimum(ends[long], starts[long] + KEPT)
        self._lines, self._at = Lines(self._data, starts, ends, refused, self._begins), self._base

    def _end_long(self, piece: bytes) -> None:
        """Look for the end of a line that is too long; an empty piece is its end, too."""
        cut = piece.find(b"\n")
        part = piece if cut < 0 else piece[:cut]
        self._long += len(part)
        self._last = part[-1:] or self._last
        self._data += part[: KEPT - len(self._data)]
        if piece and cut < 0:
            return
        length = self._long - (self._last == b"\r")
        kept = self._data[:length]
        line = np.zeros(1, dtype=np.int64)
        self._lines = Lines(kept, line, line + len(kept), {0: too_large(length, self._most)}, self._begins)
        self._at = self._base
        # go on as if only what was kept had been there
        self._base += self._long + (cut >= 0) - len(kept)
        self._data, self._used, self._long = kept + piece[len(part) + 1 :], len(kept), 0
