"""What travels between the outside world and the pipeline: records, decoded events, predictions, dead letters.

A record is bytes as they came. An event is a record that could be decoded; events travel in chunks of columns, so that
nothing downstream works event by event. Positions count from 0 everywhere: a record's `offset` is how many records the
source handed out before it, whatever it reads from.

Axes: K events of a chunk, L labels of a chunk, C classes of one target.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import Any, Generic, NamedTuple, TypeVar, overload

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
T = TypeVar("T")


class Origin(NamedTuple):
    """Where a record lies in a partitioned log."""

    topic: str
    partition: int
    offset: int


class Record(NamedTuple):
    """One record as it came: a tuple, because a frozen dataclass takes three times as long to make.

    Attributes:
        value: the payload; None is a tombstone.
        key, headers: as the log has them; files have none.
        timestamp_ms: milliseconds since 1970, -1 = none.
        origin: None for a record of a file, whose `offset` says it all.
    """

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    timestamp_ms: int = -1
    origin: Origin | None = None


def make_records(
    values: Iterable[bytes | None],
    keys: Iterable[bytes | None],
    headers: Iterable[tuple[tuple[str, bytes | None], ...]],
    stamps: Iterable[int],
    places: Iterable[tuple[str, int, int]],
) -> list[Record]:
    """Make many records of their columns, several times as fast as one by one; `places` are topic, partition, offset."""
    make: Any = tuple.__new__
    origins = map(make, repeat(Origin), places)
    return [*map(make, repeat(Record), zip(values, keys, headers, stamps, origins, strict=True))]


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that could not be used.

    Attributes:
        offset: position of the record.
        stage: where it failed: "read", "decode", "label", "learn".
        reason: short and stable, for counting: such as "not_json", "wrong_type", "not_finite", "too_large".
        detail: a sentence for people, with the value, what was expected and the remedy.
        record: as it came.
        since: number of the first record that the process handled which says so; the loop sets it. A record before that
            is one that an earlier process handled.
    """

    offset: int
    stage: str
    reason: str
    detail: str
    record: Record
    since: int = 0


class LabelRun(NamedTuple):
    """Records of labels that were handled one behind the other, and lie so in one partition.

    Attributes:
        number: of the first one, among all records handled.
        partition, offset: where it lies; the next one has the next offset.
        records: how many.
    """

    number: int
    partition: int
    offset: int
    records: int


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """Labels that are records of their own, among the events of a chunk.

    Attributes:
        ids: [L] object of str: the event that each belongs to.
        columns: target -> [L], as in `Chunk.columns`; each label has at least one target.
        offsets: [L] int64, ascending.
        records: the L records as they came.
    """

    ids: Column
    columns: Mapping[str, Column]
    offsets: IntArray
    records: Sequence[Record]

    def __len__(self) -> int:
        return len(self.offsets)

    def between(self, start: int, stop: int) -> "Labels":
        """Return those of the records [start, stop)."""
        first, last = np.searchsorted(self.offsets, (start, stop)).tolist()
        columns = {name: column[first:last] for name, column in self.columns.items()}
        return Labels(self.ids[first:last], columns, self.offsets[first:last], self.records[first:last])


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Consecutive records [start, stop) of a source, decoded into columns.

    Attributes:
        columns: field name -> [K]: float64 (number, boolean as 0/1; NaN = missing), object (category or class label;
            None = missing) or datetime64[us] (moment; NaT = missing). A field that no event of the chunk has may be
            left out. Arrays may be views or shared, so they are not to be written to.
        offsets: [K] int64, ascending: the records that became events.
        records: the K records as they came; may be made only when asked for.
        rejects: the others, by offset.
        start: offset of the first record that the chunk covers.
        stop: offset of the next record after it. Equal to `start` if nothing was there.
        labels: those that came as records of their own; None where no label does.
        cuts: offsets, ascending, of records behind which a micro-batch ended by the clock when they were first handled.
    """

    columns: Mapping[str, Column]
    offsets: IntArray
    records: Sequence[Record]
    rejects: tuple[DeadLetter, ...]
    start: int
    stop: int
    labels: Labels | None = None
    cuts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.offsets)

    def slice(self, first: int, last: int) -> "Chunk":
        """Return events [first, last) with the rejects and labels before and among them.

        Rejects behind the last event of the chunk go with that event, unless there are labels behind it too: those
        come before the next event, and `rest` has them. slice(0, 0) is empty, unless there is no event at all: then it
        is the whole chunk.
        """
        start, end = self._begin(first), self._end
        stop = end if last == len(self) else start if last == first else int(self.offsets[last - 1]) + 1
        return self._cut(first, last, start, stop)

    def rest(self, first: int) -> "Chunk":
        """Return all that `slice(0, first)` has not."""
        return self._cut(first, len(self), self._begin(first), self.stop)

    @property
    def _end(self) -> int:
        """Where the last event ends, with what goes with it."""
        if not len(self) or self.labels is None or not len(self.labels) or self.labels.offsets[-1] < self.offsets[-1]:
            return self.stop
        return int(self.offsets[-1]) + 1

    def _begin(self, first: int) -> int:
        """Where the events from `first` on begin, with what is before them."""
        return self.start if first == 0 else self._end if first == len(self) else int(self.offsets[first - 1]) + 1

    def _cut(self, first: int, last: int, start: int, stop: int) -> "Chunk":
        """Return events [first, last) and the rest of what the records [start, stop) are."""
        return Chunk(
            {name: column[first:last] for name, column in self.columns.items()},
            self.offsets[first:last],
            self.records[first:last],
            self._rejects(start, stop),
            start,
            stop,
            None if self.labels is None else self.labels.between(start, stop),
            tuple(cut for cut in self.cuts if start <= cut < stop),
        )

    def _rejects(self, start: int, stop: int) -> tuple[DeadLetter, ...]:
        if not self.rejects:
            return ()
        first = bisect_left(self.rejects, start, key=_offset)
        return self.rejects[first : bisect_left(self.rejects, stop, lo=first, key=_offset)]


def _offset(letter: DeadLetter) -> int:
    return letter.offset


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What was served for K events, in event order.

    Attributes:
        offsets: [K] int64, positions of the events in the source.
        numbers: [K] int64, event numbers (records that could not be decoded have none).
        targets: names, in order.
        decisions: target -> [K]: class labels (object, None = nothing served) or values (float64, NaN).
        probabilities: target -> (class labels, [K, C] float64); NaN where nothing was served or the class did not
            exist.
        labels: target -> [K]: like `decisions`, what was known of the truth when this was written.
        records: the K records that were predicted, for sinks that keep key and origin.
        cuts: where the last records lie of micro-batches that the clock ended, and that no prediction has told of before:
            that of these events, which is one micro-batch then, and of one before it that left no prediction.
        told: row -> the records of labels that were handled before that event, and that no prediction has told of before.
        since: number of the first record that this process handled; where something is told.
    """

    offsets: IntArray
    numbers: IntArray
    targets: tuple[str, ...]
    decisions: Mapping[str, Column]
    probabilities: Mapping[str, tuple[tuple[object, ...], FloatArray]]
    labels: Mapping[str, Column]
    records: Sequence[Record]
    cuts: tuple[Origin, ...] = ()
    told: Mapping[int, Sequence[LabelRun]] = field(default_factory=dict)
    since: int = 0

    def __len__(self) -> int:
        return len(self.offsets)


class Picked(Sequence[T], Generic[T]):
    """Some items of a sequence, looked up only when asked for."""

    def __init__(self, items: Sequence[T], rows: IntArray) -> None:
        self._items, self._rows = items, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> "Picked[T]": ...
    def __getitem__(self, index: int | slice) -> "T | Picked[T]":
        if isinstance(index, slice):
            return Picked(self._items, self._rows[index])
        return self._items[int(self._rows[index])]

    def __iter__(self) -> Iterator[T]:
        items = self._items
        if len(self._rows) > len(items) // 4 and not isinstance(items, list):
            items = list(items)
        return map(items.__getitem__, self._rows.tolist())


class Joined(Sequence[T], Generic[T]):
    """Several sequences one behind the other, none of them copied."""

    def __init__(self, parts: Sequence[Sequence[T]]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> "T | Sequence[T]":
        if isinstance(index, slice):
            return Picked(self, np.arange(len(self), dtype=np.int64)[index])
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self._ends, row, side="right"))
        before = int(self._ends[part - 1]) if part else 0
        return self._parts[part][row - before]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self._parts)


def concatenate(chunks: Sequence[Chunk]) -> Chunk:
    """Put consecutive chunks one behind the other. A field that one of them lacks is missing there."""
    labels = [chunk.labels for chunk in chunks if chunk.labels is not None]
    return Chunk(
        _concatenate(chunks),
        np.concatenate([chunk.offsets for chunk in chunks]),
        Joined([chunk.records for chunk in chunks]),
        tuple(letter for chunk in chunks for letter in chunk.rejects),
        chunks[0].start,
        chunks[-1].stop,
        Labels(
            np.concatenate([some.ids for some in labels]),
            _concatenate(labels),
            np.concatenate([some.offsets for some in labels]),
            Joined([some.records for some in labels]),
        )
        if labels
        else None,
        tuple(cut for chunk in chunks for cut in chunk.cuts),
    )


def _concatenate(parts: "Sequence[Chunk] | Sequence[Labels]") -> dict[str, Column]:
    """Put columns one behind the other."""
    kinds = {name: column.dtype for part in parts for name, column in part.columns.items()}
    return {
        name: np.concatenate([part.columns.get(name, missing(kind, len(part))) for part in parts])
        for name, kind in kinds.items()
    }


def missing(kind: "np.dtype[Any]", events: int) -> Column:
    """Return a column of missing values: NaN, NaT or None."""
    if kind == np.float64:
        return np.full(events, np.nan)
    if np.issubdtype(kind, np.datetime64):
        return np.full(events, "NaT", dtype=kind)
    return np.full(events, None, dtype=object)
