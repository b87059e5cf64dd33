"""A source made from anything that can be read block by block.

In: a `BlockReader`. Out: a `Source`: blocks are read ahead, decoded, and handed out in slices; what it takes to begin
again is remembered for each block until a checkpoint holds what was before it.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol

import numpy as np

from connectors.decode import MOST_CELLS, Block, FieldKinds, make_chunk
from connectors.errors import SourceError
from connectors.fits import check_fields
from connectors.records import Chunk
from connectors.schema import Schema

MOST_ROWS = 1 << 14  # records of a block
_MOST_MARKS = 4096  # blocks remembered; beyond, every second one is forgotten, and a start reads on from further back


class BlockReader(Protocol):
    """Reads a stream from any of its marks."""

    targets: tuple[str, ...]
    task: str

    @property
    def fields(self) -> tuple[str, ...] | None:
        """Names of the fields that every record has; None where that is not known."""

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Go to a mark, or to the beginning.

        Raises:
            SourceError: the stream cannot be opened, or is not the one that the mark was made in.
        """

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last; before that, the next one."""

    def read(self, most: int) -> Block | None:
        """Return the next records, at most `most`; none if none are there now, None at the end.

        Raises:
            SourceError: the stream cannot be read.
        """

    @property
    def progress(self) -> float | None:
        """The share of the stream read, 0..1; None where its end is not known."""

    def close(self) -> None:
        """Give up what is held open. May be called twice."""


class BlockSource:
    """Hands out what a reader reads, see `connectors.base.Source`.

    Args:
        reader: of the stream.
        schema: what its fields are.
    """

    def __init__(self, reader: BlockReader, schema: Schema) -> None:
        self._reader, self._schema = reader, schema
        self._kinds = FieldKinds()
        self._next = 0  # number of the next record to read
        self._skip = 0  # records to read without handing them out
        self._held: Chunk | None = None  # read, and handed out up to the event `_row`
        self._row = 0
        self._marks: list[tuple[int, dict[str, Any]]] = []  # number of a record and where it lies, for each block
        self._span: tuple[float | None, float | None] = None, None  # progress before and after the block in hand

    def open(self, offset: int, state: Mapping[str, Any] | None) -> None:
        """Make ready to hand out the record number `offset` next."""
        if state is None and offset:
            raise SourceError(f"record {offset} is asked for, but the state that finds it is missing")
        with ExitStack() as undo:
            undo.callback(self._reader.close)
            self._reader.open(None if state is None else state["mark"])
            if self._reader.fields is not None:
                check_fields(self._reader.fields, self._schema)
            undo.pop_all()
        self._kinds.load({} if state is None else state["fields"])
        self._next = 0 if state is None else state["record"]
        self._skip, self._held, self._row, self._span = offset - self._next, None, 0, (None, None)
        self._marks = [(self._next, self._reader.mark() if state is None else dict(state["mark"]))]

    def poll(self, events: int) -> Chunk | None:
        """Return the next records: at most `events` events, with the rejects among them."""
        if self._held is None:
            before = self._reader.progress
            block = self._read()
            if block is None:
                return None
            start, self._next = self._next, self._next + len(block.records)
            offsets = np.arange(start, self._next)
            self._held = make_chunk(block, self._schema, self._kinds, offsets, start, self._next)
            self._row, self._span = 0, (before, self._reader.progress)
        last = min(self._row + events, len(self._held))
        part = self._held.slice(self._row, last)
        self._row = last
        if last == len(self._held):
            self._held = None
        return part

    def state(self, offset: int) -> dict[str, Any]:
        """Return what `open` needs to go on with record number `offset`."""
        known = [entry for entry in self._marks if entry[0] <= offset]
        if not known or offset > self._next:
            raise SourceError(
                f"record {offset} cannot be found again: kept are records {self._marks[0][0]} to {self._next}"
            )
        record, mark = known[-1]
        return {"record": record, "mark": mark, "fields": self._kinds.state(offset)}

    def commit(self, offset: int) -> None:
        """Take note that a durable checkpoint holds everything before record number `offset`."""
        kept = max((place for place, entry in enumerate(self._marks) if entry[0] <= offset), default=0)
        del self._marks[:kept]

    @property
    def progress(self) -> float | None:
        """The share of the stream handed out."""
        before, after = self._span
        if before is None or after is None or self._held is None:
            return after
        return before + (after - before) * self._row / max(1, len(self._held))

    def close(self) -> None:
        """Give up what is held open."""
        self._held = None
        self._reader.close()

    def _read(self) -> Block | None:
        """Read the next block, past what need not be handed out again."""
        fields = len(self._schema.kinds) + len(self._kinds.known)
        while True:
            block = self._reader.read(max(16, min(MOST_ROWS, MOST_CELLS // max(1, fields))))
            if block is None or not len(block.records):
                if block is None and self._skip:
                    raise SourceError(f"the stream ends before record {self._next + self._skip}: it is not what it was")
                return block
            if self._skip >= len(block.records):
                self._skip -= len(block.records)
                self._next += len(block.records)
                continue
            self._remember(self._reader.mark())
            if self._skip:
                block = block.tail(self._skip)
                self._next, self._skip = self._next + self._skip, 0
            return block

    def _remember(self, mark: dict[str, Any]) -> None:
        """Remember where the record number `_next` lies."""
        if self._marks[-1][0] == self._next:
            self._marks.pop()  # made before anything was read, so less can be known again by it
        self._marks.append((self._next, mark))
        if len(self._marks) > _MOST_MARKS:
            del self._marks[1:-1:2]
