"""In which order the records of several partitions are handed out; no clock and no library here.

In: the records of each partition as they arrive, in pieces of any size. Out: one order. In timestamp order
the smallest record timestamp comes first, ties by partition number and offset, and within a partition the
log's order is kept. It is a function of the records alone as long as nobody calls `pass_over`: a partition
that has shown nothing yet holds up all others, since its next record might be older.
"""

from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from connectors.errors import SourceError
from connectors.records import IntArray, Record


class Merge(Protocol):
    """Brings partitions, numbered 0 ... in the order of their names, into one order."""

    def add(self, index: int, records: Sequence[Record]) -> None:
        """Take the next records of a partition."""

    def take(self, most: int) -> tuple[list[int], list[Record]]:
        """Return the next records, at most `most`, and which partition each is of."""

    def grow(self) -> None:
        """Take up one more partition, numbered after the others."""

    def finish(self, index: int) -> None:
        """Note that a partition gives nothing more."""

    def pass_over(self, index: int) -> None:
        """No longer wait for a partition until it gives something again."""

    def held_up_by(self) -> Collection[int]:
        """Return the partitions that are waited for while others have records."""

    def waiting(self, index: int) -> int:
        """Count the records of a partition that have been taken up and not handed out."""


class _Queue:
    """Records of one partition that have not been handed out, oldest first, with their timestamps."""

    __slots__ = ("_at", "_records", "_stamps")

    def __init__(self) -> None:
        self._records: list[Record] = []
        self._stamps = np.zeros(0, dtype=np.int64)
        self._at = 0

    def __len__(self) -> int:
        return len(self._records) - self._at

    def add(self, records: Sequence[Record]) -> None:
        stamps = np.fromiter((record.timestamp_ms for record in records), np.int64, len(records))
        self._stamps = np.concatenate([self._stamps[self._at :], stamps])
        self._records = [*self._records[self._at :], *records]
        self._at = 0

    def first(self, most: int) -> tuple[list[Record], IntArray]:
        """Return the first records, at most so many, and for each when its turn is: not before those ahead of it."""
        part = slice(self._at, self._at + most)
        return self._records[part], np.maximum.accumulate(self._stamps[part])

    def drop(self, number: int) -> None:
        self._at += number


class TimestampMerge:
    """By timestamp."""

    def __init__(self, partitions: int) -> None:
        self._queues = [_Queue() for _ in range(partitions)]
        self._awaited = set(range(partitions))  # nothing there, and something may come
        self._finished: set[int] = set()

    def add(self, index: int, records: Sequence[Record]) -> None:
        """Take the next records of a partition."""
        if records:
            self._queues[index].add(records)
            self._awaited.discard(index)

    def take(self, most: int) -> tuple[list[int], list[Record]]:
        """Return the next records."""
        if self._awaited or most < 1:
            return [], []
        indices = [index for index, queue in enumerate(self._queues) if len(queue)]
        if not indices:
            return [], []
        firsts = [self._queues[index].first(most) for index in indices]
        counts = np.array([len(turns) for _, turns in firsts])
        # a stable sort of the partitions in a row: of equal turns the lower partition comes first, and logs keep their order
        order = np.concatenate([turns for _, turns in firsts]).argsort(kind="stable")[:most]
        order = order[: self._cut(indices, counts, order)]
        records = [record for found, _ in firsts for record in found]
        whose = np.repeat(indices, counts)[order]
        for index, taken in zip(indices, np.bincount(whose, minlength=indices[-1] + 1)[indices].tolist(), strict=True):
            self._queues[index].drop(taken)
            if not len(self._queues[index]) and index not in self._finished:
                self._awaited.add(index)
        return whose.tolist(), [records[at] for at in order.tolist()]

    def _cut(self, indices: Sequence[int], counts: IntArray, order: IntArray) -> int:
        """Return how many records come before the first partition is empty that may get more."""
        ends = counts.cumsum() - 1
        last = [
            end
            for index, count, end in zip(indices, counts.tolist(), ends.tolist(), strict=True)
            if index not in self._finished and count == len(self._queues[index])
        ]
        found = np.flatnonzero(np.isin(order, last))
        return int(found[0]) + 1 if len(found) else len(order)

    def grow(self) -> None:
        """Take up one more partition."""
        self._awaited.add(len(self._queues))
        self._queues.append(_Queue())

    def finish(self, index: int) -> None:
        """Note that a partition gives nothing more."""
        self._finished.add(index)
        self._awaited.discard(index)

    def pass_over(self, index: int) -> None:
        """No longer wait for a partition."""
        self._awaited.discard(index)

    def held_up_by(self) -> Collection[int]:
        """Return the partitions that are waited for."""
        return sorted(self._awaited) if any(map(len, self._queues)) else ()

    def waiting(self, index: int) -> int:
        """Count records taken up and not handed out."""
        return len(self._queues[index])


class GivenMerge:
    """In an order that is given, record by record.

    Args:
        partitions: how many there are.
        order: [N] which partition each record is of.
        offsets: [N] where it lies there.
    """

    def __init__(self, partitions: int, order: IntArray, offsets: IntArray) -> None:
        self._queues: list[deque[Record]] = [deque() for _ in range(partitions)]
        self._order, self._offsets = order, offsets
        self._at = 0
        self._finished: set[int] = set()

    def add(self, index: int, records: Sequence[Record]) -> None:
        """Take the next records of a partition."""
        self._queues[index].extend(records)

    def take(self, most: int) -> tuple[list[int], list[Record]]:
        """Return the next records.

        Raises:
            SourceError: the next one is not there, or one that the order does not have comes before it.
        """
        indices: list[int] = []
        records: list[Record] = []
        last = min(len(self._order), self._at + most)
        wanted = zip(self._order[self._at : last].tolist(), self._offsets[self._at : last].tolist(), strict=True)
        for index, offset in wanted:
            queue = self._queues[index]
            if not queue and index not in self._finished:
                break
            origin = queue[0].origin if queue else None
            if origin is None or origin.offset != offset:
                found = "nothing" if origin is None else f"offset {origin.offset}"
                raise SourceError(
                    f"the order has offset {offset} of partition {index} next, and {found} is there: records were"
                    " deleted (retention, compaction) or left out"
                )
            indices.append(index)
            records.append(queue.popleft())
        self._at += len(records)
        return indices, records

    def grow(self) -> None:
        """Take up one more partition, of which the order knows nothing."""
        self._queues.append(deque())

    def finish(self, index: int) -> None:
        """Note that a partition gives nothing more."""
        self._finished.add(index)

    def pass_over(self, index: int) -> None:
        """Nothing is passed over: the order is given."""

    def held_up_by(self) -> Collection[int]:
        """Return nothing: no wait ends by the clock."""
        return ()

    def waiting(self, index: int) -> int:
        """Count records taken up and not handed out."""
        return len(self._queues[index])


class ArrivalMerge:
    """As they come."""

    def __init__(self, partitions: int) -> None:
        self._queue: deque[tuple[int, Record]] = deque()
        self._waiting = [0] * partitions

    def add(self, index: int, records: Sequence[Record]) -> None:
        """Take the next records of a partition."""
        self._queue.extend((index, record) for record in records)
        self._waiting[index] += len(records)

    def take(self, most: int) -> tuple[list[int], list[Record]]:
        """Return the next records."""
        indices: list[int] = []
        records: list[Record] = []
        for _ in range(min(most, len(self._queue))):
            index, record = self._queue.popleft()
            indices.append(index)
            records.append(record)
            self._waiting[index] -= 1
        return indices, records

    def grow(self) -> None:
        """Take up one more partition."""
        self._waiting.append(0)

    def finish(self, index: int) -> None:
        """Nothing depends on it here."""

    def pass_over(self, index: int) -> None:
        """Nothing is waited for here."""

    def held_up_by(self) -> Collection[int]:
        """Return nothing: no partition holds up another."""
        return ()

    def waiting(self, index: int) -> int:
        """Count records taken up and not handed out."""
        return self._waiting[index]
