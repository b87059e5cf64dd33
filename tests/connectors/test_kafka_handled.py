"""The order in which records were handled, from traces of several processes; and a merge in a given order."""

import random

import numpy as np
import pytest

from connectors import Origin, Record, SourceError
from connectors.kafka.handled import Traces
from connectors.kafka.merge import GivenMerge


def traced(*processes, shuffle=0):
    """The traces of processes: each a moment of its start, the number of its first record, and its places."""
    rows = [
        (first + i, place, started, False)
        for started, first, places in processes
        for i, place in enumerate(places)
        if place is not None
    ]
    random.Random(shuffle).shuffle(rows)
    return rows


def order(rows):
    """The first number, and the places in order."""
    traces = Traces()
    for number, place, started, late in rows:
        traces.add(number, place, started_ms=started, late=late)
    found = traces.order()
    return found.first, list(zip(found.partition.tolist(), found.offset.tolist(), strict=True))


PLACES = [(0, 5), (1, 0), (1, 1), (0, 7), (2, 0), (0, 8)]


@pytest.mark.parametrize("shuffle", range(5))
def test_numbers_give_the_order(shuffle):
    """However the traces lie in their topics, and however often each is there."""
    assert order(traced((9, 0, PLACES), shuffle=shuffle) * 2) == (0, PLACES)
    assert order(traced((9, 40, PLACES), shuffle=shuffle)) == (40, PLACES)


@pytest.mark.parametrize("shuffle", range(5))
def test_a_later_process_replaces_what_an_earlier_one_did_not_keep(shuffle):
    """From its first number on, also where it came less far, and where the order is another one."""
    again = [(0, 7), (0, 8)]
    assert order(traced((9, 0, PLACES), (20, 3, again), shuffle=shuffle)) == (0, PLACES[:3] + again)
    other = [(2, 0), (0, 7), (0, 8), (2, 1)]
    assert order(traced((9, 0, PLACES), (20, 3, other), shuffle=shuffle)) == (0, PLACES[:3] + other)
    afresh = [(1, 0), (0, 5)]  # of another model of this name, which is forgotten
    assert order(traced((9, 0, PLACES), (20, 0, afresh), shuffle=shuffle)) == (0, afresh)
    assert order(traced((9, 0, PLACES[:2]), (20, 1, PLACES[1:3]), (30, 3, PLACES[3:]))) == (0, PLACES)


def test_a_late_dead_letter_of_a_record_predicted_before_begins_nothing():
    """A label that comes after a restart and cannot be learned tells again of a record of the process before."""
    rows = traced((9, 0, PLACES[:4]), (20, 4, PLACES[4:]))
    assert order([*rows, (1, PLACES[1], 20, True)]) == (0, PLACES)
    # one that could not be learned at once is the only trace of its record
    alone = [row for row in rows if row[0] != 2]
    assert order([*alone, (2, PLACES[2], 9, True)]) == (0, PLACES)


def test_what_is_missing_or_contradicts_is_told():
    """Gaps, two places of one number, records out of order, and nothing at all."""
    gap = [*PLACES[:2], None, None, *PLACES[4:]]
    with pytest.raises(SourceError, match=r"where 2 of the records handled lie \(numbers 2, 3\)"):
        order(traced((9, 0, gap)))
    with pytest.raises(SourceError, match="two records as number 1"):
        order([*traced((9, 0, PLACES)), (1, (3, 3), 9, False)])
    with pytest.raises(SourceError, match="partition 1: record 2 was handled behind a later one"):
        order(traced((9, 0, [PLACES[0], PLACES[2], PLACES[1]])))
    with pytest.raises(SourceError, match="partition 0: record 6"):
        order(traced((9, 0, [*PLACES, PLACES[0]])))
    with pytest.raises(SourceError, match="nothing tells of a record"):
        Traces().order()


def test_stretches_of_partitions():
    """Each partition is read from its first record to its last."""
    traces = Traces()
    for number, place in enumerate(PLACES):
        traces.add(number, place, started_ms=1)
    assert traces.order().stretches == {0: (5, 9), 1: (0, 2), 2: (0, 1)}


def ends(*processes):
    """The ends of micro-batches that stay: each process its start, the numbers that it tells of, and {number: end}."""
    traces = Traces()
    for started, numbers, told in processes:
        for number in numbers:
            cut = told.get(number)
            traces.add(number, (0, number), started_ms=started, cuts=[] if cut is None else [(0, cut)])
    return sorted(offset for _, offset in traces.kept_cuts())


def test_ends_of_micro_batches_are_those_of_the_last_process():
    """What an earlier process cut, and a later one did anew, counts as the later one did it."""
    first = (9, range(20), {3: 3, 7: 9, 8: 9, 9: 9, 15: 17, 16: 17})
    assert ends(first) == [3, 9, 17]
    assert ends(first, (20, range(10, 14), {12: 12})) == [3, 9, 12]
    assert ends((20, range(10, 14), {12: 12}), first) == [3, 9, 12]
    # a process that goes on where the first one ended, and one whose first record left no prediction
    assert ends(first, (20, range(20, 30), {22: 22}), (30, range(24, 30), {})) == [3, 9, 17, 22]
    assert ends(first, (20, range(10, 12), {}), (30, range(16, 20), {})) == [3, 9]
    assert ends() == []


def test_a_late_dead_letter_takes_no_end_away():
    """It tells of a record of a process before, which is not done anew."""
    traces = Traces()
    for number, place in enumerate(PLACES):
        traces.add(number, place, started_ms=9, cuts=[PLACES[2]] if number in (1, 2) else [])
    traces.add(1, PLACES[1], started_ms=20, late=True)
    assert traces.order().cuts == {PLACES[2]}


def at(partition, *offsets):
    """Records of a partition."""
    return [Record(b"", origin=Origin("t", partition, offset)) for offset in offsets]


def merge():
    """A merge of three partitions in the order of PLACES."""
    partition, offset = np.array(PLACES).T
    return GivenMerge(3, partition, offset)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_a_given_order_is_kept(most):
    """Records come out in the order given, as far as they are there."""
    merged, taken = merge(), []
    merged.add(1, at(1, 0, 1))
    assert merged.take(most) == ([], [])
    merged.add(0, at(0, 5, 7, 8))
    merged.finish(0)
    for _ in range(6):
        taken += merged.take(most)[1]
    assert [(r.origin.partition, r.origin.offset) for r in taken] == PLACES[:4]
    assert (merged.waiting(0), list(merged.held_up_by())) == (1, [])
    merged.add(2, at(2, 0))
    indices, records = merged.take(10)
    assert (indices, [r.origin.offset for r in records]) == ([2, 0], [0, 8])
    assert merged.take(10) == ([], [])


def test_a_record_that_is_gone_is_told():
    """One that was deleted, and one that nobody handled, are no record of the order."""
    merged = merge()
    merged.add(0, at(0, 6))
    with pytest.raises(SourceError, match="offset 5 of partition 0 next, and offset 6 is there"):
        merged.take(5)
    merged = merge()
    merged.finish(0)
    with pytest.raises(SourceError, match="offset 5 of partition 0 next, and nothing is there"):
        merged.take(5)
