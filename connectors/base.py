"""The border: what the pipeline asks of a source and of a sink, and what it promises them.

**Delivery.** The loop polls, processes, writes to the sinks, and now and then takes a checkpoint: it first flushes
every sink, then saves its state together with `source.state(offset)` and the lengths that the flushes returned, and
only then calls `source.commit(offset)`. After a crash it opens the source with what the newest checkpoint holds and
truncates every sink to its length. So a record counts once in the model, and once in a sink that can be truncated; a
sink that cannot says so, and readers drop repeats by position.

**Cuts.** How a stream is cut into polls changes nothing in what is handed out, nor does a stop and a new start.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from connectors.records import Chunk, IntArray, Record

Item = TypeVar("Item", contravariant=True)


class Source(Protocol):
    """Hands out consecutive records as chunks of decoded events."""

    def open(self, offset: int, state: Mapping[str, Any] | None) -> None:
        """Make ready to hand out the record number `offset` next.

        Args:
            offset: records handed out before, over all runs; 0 at the very first start.
            state: what `state(offset)` returned in the run before; None at the very first start.

        Raises:
            SourceError: what is read is gone, or is not what it was.
        """

    def poll(self, events: int) -> Chunk | None:
        """Return the next records: at most `events` events, with the rejects among them.

        Never blocks for longer than a fraction of a second. An empty chunk (start == stop) means that nothing is there
        now, None that nothing will ever come.

        Raises:
            SourceError: what is read cannot be read.
        """

    def state(self, offset: int) -> dict[str, Any]:
        """Return what `open` needs to go on with record number `offset`, which is one not yet committed.

        A nested dict of plain values (str, int, float, bool, None, lists) for a checkpoint.
        """

    def commit(self, offset: int) -> None:
        """Take note that a durable checkpoint holds everything before record number `offset`."""

    @property
    def progress(self) -> float | None:
        """The share of the stream handed out so far, 0..1; None where the end is not known."""

    def close(self) -> None:
        """Give up what is held open. May be called twice."""


class Codec(Protocol):
    """Turns records into events. What it learns about undeclared fields on the way is its state."""

    def decode(self, records: Sequence[Record], offsets: IntArray, *, start: int, stop: int) -> Chunk:
        """Decode consecutive records, in order; each one once, after all before it.

        Args:
            records: N of them.
            offsets: [N] their numbers, ascending.
            start: number of the first record that the chunk covers.
            stop: number of the next record after it.

        Raises:
            NotYetError: what is needed for that does not answer; the same records may be given again.
            SourceError: and is no longer waited for.
        """

    def state(self, offset: int) -> dict[str, Any]:
        """Return what was learned before record number `offset`, as plain values."""

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; {} at the very first start."""


class Sink(Protocol[Item]):
    """Takes items in order."""

    def truncate(self, length: int) -> None:
        """Open, and forget everything after the first `length` units (0 at the very first start).

        Raises:
            SinkError: less than `length` is there, or it cannot be opened.
        """

    def write(self, item: Item) -> None:
        """Take an item. It may wait in memory, within a bound.

        Raises:
            SinkError: it cannot be written. It has not been taken then, and may be given again later.
        """

    def flush(self) -> int:
        """Make everything taken so far durable; returns the length to which `truncate` can come back.

        Raises:
            SinkError: it cannot be made durable. Nothing is lost or doubled by trying again later.
        """

    def close(self) -> None:
        """Flush, and give up what is held open. May be called twice."""
