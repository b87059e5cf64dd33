"""In which order the records of several partitions are handed out; no clock and no library here.

In: the records of each partition as they arrive, in pieces of any size. Out: one order. In timestamp order
the smallest record timestamp comes first, ties by partition number and offset, and within a partition the
log's order is kept. It is a function of the records alone as long as nobody calls `pass_over`: a partition
that has shown nothing yet holds up all others, since its next record might be older.
"""

import heapq
from collections import deque
from collections.abc import Collection, Sequence
from typing import Protocol

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


class TimestampMerge:
    """By timestamp."""

    def __init__(self, partitions: int) -> None:
        self._queues: list[deque[Record]] = [deque() for _ in range(partitions)]
        self._heads: list[tuple[int, int]] = []  # heap of (timestamp, partition): the first record of each queue
        self._awaited = set(range(partitions))  # nothing there, and something may come
        self._finished: set[int] = set()

    def add(self, index: int, records: Sequence[Record]) -> None:
        """Take the next records of a partition."""
        if not records:
            return
        queue = self._queues[index]
        if not queue:
            heapq.heappush(self._heads, (records[0].timestamp_ms, index))
            self._awaited.discard(index)
        queue.extend(records)

    def take(self, most: int) -> tuple[list[int], list[Record]]:
        """Return the next records."""
        indices: list[int] = []
        records: list[Record] = []
        heads, queues = self._heads, self._queues
        while heads and not self._awaited and len(records) < most:
            index = heads[0][1]
            queue = queues[index]
            follower = min(heads[1:3]) if len(heads) > 1 else None
            # a run of one partition is taken without touching the heap
            while queue and len(records) < most:
                if follower is not None and (queue[0].timestamp_ms, index) > follower:
                    break
                indices.append(index)
                records.append(queue.popleft())
            if queue:
                heapq.heapreplace(heads, (queue[0].timestamp_ms, index))
            else:
                heapq.heappop(heads)
                if index not in self._finished:
                    self._awaited.add(index)
        return indices, records

    def grow(self) -> None:
        """Take up one more partition."""
        self._awaited.add(len(self._queues))
        self._queues.append(deque())

    def finish(self, index: int) -> None:
        """Note that a partition gives nothing more."""
        self._finished.add(index)
        self._awaited.discard(index)

    def pass_over(self, index: int) -> None:
        """No longer wait for a partition."""
        self._awaited.discard(index)

    def held_up_by(self) -> Collection[int]:
        """Return the partitions that are waited for."""
        return sorted(self._awaited) if self._heads else ()

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
