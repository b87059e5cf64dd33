"""A source and a sink in memory that fail when told to: for tests, and to try a pipeline without files or brokers.

In: records and a script; what a sink is given. Out: the same behaviour, at every run.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from connectors.base import Codec
from connectors.errors import SinkError, SourceError
from connectors.json_text import json_text
from connectors.records import Chunk, Record

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cut:
    """The poll takes at most so many records."""

    records: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """The poll finds that nothing is there now."""


@dataclass(frozen=True, slots=True)
class Fail:
    """The poll fails."""

    error: Exception


@dataclass(frozen=True, slots=True)
class End:
    """The stream is over, whatever is left of it."""


Step = Cut | Nothing | Fail | End


def records_of(events: Iterable[Mapping[str, object]]) -> list[Record]:
    """Return events as records that hold JSON."""
    return [Record(json_text(event)) for event in events]


class MemorySource:
    """Hands out given records, see `connectors.base.Source`.

    Args:
        records: the stream. Records may be appended while it is read.
        codec: decodes them.
        script: what the polls do, one step each; after the last one they take what they can.
        endless: at the end of the records nothing is there now, instead of never again.

    Attributes:
        committed: what `commit` was given last.
        closed: whether `close` was called since the last `open`.
    """

    def __init__(
        self, records: Sequence[Record], codec: Codec, *, script: Iterable[Step] = (), endless: bool = False
    ) -> None:
        self._records, self._codec, self._endless = records, codec, endless
        self._script = iter(script)
        self._next = 0
        self._ended = False
        self.committed: int | None = None
        self.closed = False

    def open(self, offset: int, state: Mapping[str, Any] | None) -> None:
        """Make ready to hand out the record number `offset` next."""
        if offset > len(self._records):
            raise SourceError(f"record {offset} is asked for, but there are {len(self._records)}")
        self._codec.load({} if state is None else state["codec"])
        self._next, self._ended, self.closed = offset, False, False

    def poll(self, events: int) -> Chunk | None:
        """Do what the script says, or return the next records."""
        step = None if self._ended else next(self._script, None)
        if isinstance(step, Fail):
            raise step.error
        self._ended = self._ended or isinstance(step, End)
        if self._ended:
            return None
        most = min(events, step.records) if isinstance(step, Cut) else events
        last = self._next if isinstance(step, Nothing) else min(self._next + most, len(self._records))
        if last == self._next and step is None and not self._endless:
            return None
        first, self._next = self._next, last
        return self._codec.decode(self._records[first:last], np.arange(first, last), start=first, stop=last)

    def state(self, offset: int) -> dict[str, Any]:
        """Return what `open` needs to go on with record number `offset`."""
        return {"codec": self._codec.state(offset)}

    def commit(self, offset: int) -> None:
        """Take note that a durable checkpoint holds everything before record number `offset`."""
        self.committed = offset

    @property
    def progress(self) -> float | None:
        """The share of the records handed out; None if more may come."""
        return None if self._endless else self._next / max(1, len(self._records))

    def close(self) -> None:
        """Take note of it."""
        self.closed = True


class MemorySink(Generic[T]):
    """Keeps what it is given, see `connectors.base.Sink`. Its length counts items.

    Args:
        fail_write: which calls of `write` fail, counted from 0 over the sink's whole life.
        fail_flush: which calls of `flush` fail.

    Attributes:
        items: everything taken and not forgotten.
        durable: how many of them a crash leaves.
        closed: whether `close` was called since the last `truncate`.
    """

    def __init__(self, *, fail_write: Collection[int] = (), fail_flush: Collection[int] = ()) -> None:
        self._fail_write, self._fail_flush = fail_write, fail_flush
        self._writes = self._flushes = 0
        self.items: list[T] = []
        self.durable = 0
        self.closed = False

    def truncate(self, length: int) -> None:
        """Forget everything after the first `length` items."""
        if length > self.durable:
            raise SinkError(f"{length} items are to be kept, but only {self.durable} were made durable")
        del self.items[length:]
        self.durable, self.closed = length, False

    def write(self, item: T) -> None:
        """Take an item."""
        self._writes += 1
        if self._writes - 1 in self._fail_write:
            raise SinkError(f"write number {self._writes - 1} fails, as the script says")
        self.items.append(item)

    def flush(self) -> int:
        """Make everything taken so far durable."""
        self._flushes += 1
        if self._flushes - 1 in self._fail_flush:
            raise SinkError(f"flush number {self._flushes - 1} fails, as the script says")
        self.durable = len(self.items)
        return self.durable

    def crash(self) -> None:
        """Forget what was not made durable, as the end of a process does."""
        del self.items[self.durable :]

    def close(self) -> None:
        """Flush. May be called twice."""
        if not self.closed:
            self.flush()
            self.closed = True
