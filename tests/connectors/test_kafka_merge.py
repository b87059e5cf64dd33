"""Order over partitions, and positions by record number."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import SourceError
from connectors.kafka.beginning import in_order
from connectors.kafka.client import Partition
from connectors.kafka.merge import ArrivalMerge, Merge, TimestampMerge
from connectors.kafka.positions import PositionTrail
from connectors.kafka.settings import KafkaReading
from connectors.records import Origin, Record

Log = list[list[int]]  # timestamps of each partition, in log order

LOGS = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=4)


def records(partition: int, stamps: Sequence[int]) -> list[Record]:
    """Make the records of one partition."""
    return [Record(None, timestamp_ms=t, origin=Origin("t", partition, n)) for n, t in enumerate(stamps)]


def oracle(log: Log) -> list[tuple[int, int]]:
    """Merge by looking at all heads again for every record."""
    at, order = [0] * len(log), list[tuple[int, int]]()
    while any(at[p] < len(log[p]) for p in range(len(log))):
        _, p = min((log[p][at[p]], p) for p in range(len(log)) if at[p] < len(log[p]))
        order.append((p, at[p]))
        at[p] += 1
    return order


def drive(merge: Merge, log: Log, draw: random.Random) -> list[tuple[int, int]]:
    """Give a log to a merge in pieces of random sizes and orders, and take from it at random times."""
    left = [records(p, stamps) for p, stamps in enumerate(log)]
    order: list[tuple[int, int]] = []
    finished: set[int] = set()
    while len(finished) < len(log):
        p = draw.randrange(len(log))
        size = draw.randrange(4)
        merge.add(p, left[p][:size])
        left[p] = left[p][size:]
        if not left[p]:
            merge.finish(p)
            finished.add(p)
        take(merge, order, draw.randrange(5))
    take(merge, order, 1_000)
    return order


def take(merge: Merge, order: list[tuple[int, int]], most: int) -> None:
    """Take records, and note which they are."""
    indices, taken = merge.take(most)
    assert len(taken) <= most
    assert len(indices) == len(taken)
    for index, record in zip(indices, taken, strict=True):
        assert record.origin is not None
        assert record.origin.partition == index
        order.append((index, record.origin.offset))


@given(log=LOGS, seed=st.integers(0, 2**32))
def test_timestamp_order_is_a_function_of_the_records(log: Log, seed: int) -> None:
    """However records arrive and are taken, the order is that of the slow oracle."""
    assert drive(TimestampMerge(len(log)), log, random.Random(seed)) == oracle(log)


@given(log=LOGS, seed=st.integers(0, 2**32))
def test_arrival_order_keeps_each_partition(log: Log, seed: int) -> None:
    """In arrival order nothing is lost or doubled, and each partition stays in its order."""
    order = drive(ArrivalMerge(len(log)), log, random.Random(seed))
    for p, stamps in enumerate(log):
        assert [n for q, n in order if q == p] == list(range(len(stamps)))


def test_an_idle_partition_holds_up_the_others_until_it_is_passed_over() -> None:
    """A partition without records holds up all; passed over it does so no more, until it has given one again."""
    merge = TimestampMerge(2)
    merge.add(0, records(0, [5, 6]))
    assert merge.take(9) == ([], [])
    assert list(merge.held_up_by()) == [1]
    merge.pass_over(1)
    assert merge.take(1)[0] == [0]
    merge.add(1, records(1, [1]))
    assert merge.take(9)[0] == [1]
    assert list(merge.held_up_by()) == [1]
    assert merge.waiting(0) == 1


def test_nothing_is_held_up_where_nothing_is_there() -> None:
    """Without any record no partition is waited for: all are idle."""
    assert list(TimestampMerge(3).held_up_by()) == []


def test_a_partition_added_later_is_waited_for() -> None:
    """A partition taken up while reading holds up the others like any other."""
    merge = TimestampMerge(1)
    merge.add(0, records(0, [5]))
    merge.grow()
    assert merge.take(9) == ([], [])
    merge.add(1, records(1, [4]))
    assert merge.take(9)[0] == [1]


@settings(max_examples=50)
@given(
    pieces=st.lists(st.lists(st.integers(0, 2), max_size=6), max_size=8),
    forget=st.lists(st.integers(0, 40), max_size=4),
    start=st.integers(0, 5),
)
def test_positions_by_record_number(pieces: list[list[int]], forget: list[int], start: int) -> None:
    """For every record number since the last commit, positions are those behind the last record before it."""
    begin = [10, 20, 30]
    trail = PositionTrail(start, np.array(begin, dtype=np.int64), 1_000)
    expected = [list(begin)]
    for piece in pieces:
        after = []
        for p in piece:
            row = list(expected[-1])
            row[p] += 2  # offsets have gaps, where markers or compaction left them
            expected.append(row)
            after.append(row[p])
        trail.add(np.array(piece, dtype=np.uint16), np.array(after, dtype=np.int64))
    assert trail.stop == start + len(expected) - 1
    low = start
    for number in sorted(forget):
        low = max(low, min(start + number, trail.stop))
        trail.forget(low)
    for number in range(low, trail.stop + 1):
        assert trail.at(number).tolist() == expected[number - start]
    if low > start:
        with pytest.raises(SourceError, match="are remembered for"):
            trail.at(low - 1)


def test_positions_are_remembered_within_a_bound() -> None:
    """Without commits the oldest positions are forgotten, and asking for them says what can be done."""
    trail = PositionTrail(0, np.zeros(1, np.int64), 10)
    for number in range(20):
        trail.add(np.zeros(5, np.uint16), np.arange(5 * number + 1, 5 * number + 6))
    assert trail.at(100).tolist() == [100]
    assert trail.at(91).tolist() == [91]
    with pytest.raises(SourceError, match=r"10 at most; make mode\.batch smaller"):
        trail.at(80)


def test_events_come_before_labels_of_the_same_time_and_an_order_once_taken_stays() -> None:
    """Partitions are merged events first; those added later stay behind all, in a new start too."""
    reading = KafkaReading(topic="z", label_topic="a", group="g")
    e0, e1, e2, l0, l1 = Partition("z", 0), Partition("z", 1), Partition("z", 2), Partition("a", 0), Partition("a", 1)
    owned = dict.fromkeys((l0, e1, l1, e0), 0)
    assert in_order(owned, reading, None) == [e0, e1, l0, l1]
    state = {
        "topic": "z", "positions": [[0, 5], [1, 5], [2, 5]], "places": [0, 1, 4],
        "labels": {"topic": "a", "positions": [[0, 5], [1, 5]], "places": [2, 3]},
    }  # fmt: skip
    assert in_order(owned | {e2: 0}, reading, state) == [e0, e1, l0, l1, e2]
    assert in_order(owned | {e2: 0, Partition("a", 2): 0}, reading, state)[-2:] == [e2, Partition("a", 2)]
