"""The order in which records were handled, from traces of several processes; and a merge in a given order."""

import random

import numpy as np
import pytest

from connectors import LabelRun, Origin, Record, SourceError
from connectors.kafka.handled import Traces
from connectors.kafka.merge import GivenMerge


def traced(*processes, shuffle=0):
    """The traces of processes: each a moment of its start, the number of its first record, and its places."""
    rows = [
        (first + i, place, started, None)
        for started, first, places in processes
        for i, place in enumerate(places)
        if place is not None
    ]
    random.Random(shuffle).shuffle(rows)
    return rows


def order(rows):
    """The first number, and the places in order."""
    traces = Traces()
    for number, place, started, since in rows:
        traces.add(number, place, started_ms=started, since=since)
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
    assert order([*rows, (1, PLACES[1], 20, 4)]) == (0, PLACES)
    # also where the process has written nothing else, and where it is the only trace of the record
    assert order([*rows, (1, PLACES[1], 30, 6)]) == (0, PLACES)
    alone = [row for row in rows if row[0] != 2]
    assert order([*alone, (2, PLACES[2], 9, 0)]) == (0, PLACES)
    assert order([*alone, (2, PLACES[2], 20, 4)]) == (0, PLACES)


def test_a_process_that_says_where_it_began_replaces_all_from_there():
    """What an earlier one did there and did not keep is none of the order, though nothing is in its place yet."""
    rows = traced((9, 0, PLACES))
    assert order([*rows, (1, PLACES[1], 20, 4)]) == (0, PLACES[:4])
    with pytest.raises(SourceError, match=r"where 1 of the records handled lie \(numbers 4\)"):
        order([*rows, (5, PLACES[5], 20, 4)])


def test_what_is_missing_or_contradicts_is_told():
    """Gaps, two places of one number, records out of order, and nothing at all."""
    gap = [*PLACES[:2], None, None, *PLACES[4:]]
    with pytest.raises(SourceError, match=r"where 2 of the records handled lie \(numbers 2, 3\)"):
        order(traced((9, 0, gap)))
    with pytest.raises(SourceError, match="two records as number 1"):
        order([*traced((9, 0, PLACES)), (1, (3, 3), 9, None)])
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
    traces.add(1, PLACES[1], started_ms=20, since=6)
    assert traces.order().cuts == {PLACES[2]}


def labelled(*told):
    """The order as one text, of predictions (e), labels (l) and dead letters (d) told by several processes.

    Each is what it tells of: (start, text of a place, number), then the labels, or "" for a dead letter, and `since`.
    """
    traces = Traces(labelled=True)
    for started, (kind, partition, offset), number, runs, since in told:
        traces.add(
            number,
            (int(partition), int(offset)),
            started_ms=started,
            apart=kind == "l",
            predicted=runs is not None,
            since=since,
            labels=[LabelRun(*run) for run in runs or ()],
        )
    found = traces.order()
    rows = zip(found.apart.tolist(), found.partition.tolist(), found.offset.tolist(), strict=True)
    return found.first, " ".join(f"{'el'[apart]}{partition}{offset}" for apart, partition, offset in rows)


LABELLED = [
    (9, "e00", 0, [], None),
    (9, "e01", 4, [(1, 0, 0, 2), (3, 1, 0, 1)], 0),
    (9, "l02", 5, None, 0),  # a label that does not decode
    (9, "e10", 8, [(6, 1, 3, 1), (7, 0, 3, 1)], 0),  # the log of labels has a gap before it
]
WHOLE = "e00 l00 l01 l10 e01 l02 l13 l03 e10"


@pytest.mark.parametrize("shuffle", range(5))
def test_predictions_tell_of_labels(shuffle):
    """Runs of labels stand between the events, dead letters of labels among them; each partition has its stretch."""
    rows = LABELLED.copy()
    random.Random(shuffle).shuffle(rows)
    assert labelled(*rows) == (0, WHOLE)
    assert labelled(*rows, *rows) == (0, WHOLE)
    traces = Traces(labelled=True)
    traces.add(1, (0, 7), started_ms=9, since=0, labels=[LabelRun(0, 0, 7, 1)])
    traces.add(4, (1, 3), started_ms=9, since=0, labels=[LabelRun(2, 2, 5, 2)])
    found = traces.order()
    assert (found.stretches, found.label_stretches) == ({0: (7, 8), 1: (3, 4)}, {0: (7, 8), 2: (5, 7)})


def test_labels_that_an_earlier_process_had_no_prediction_to_tell_of_with():
    """They are told by a prediction of the next one, and what the earlier one kept behind them stays."""
    letter = (9, "e20", 11, None, 0)  # an event that does not decode, with labels before and behind it
    later = (20, "e11", 14, [(9, 0, 4, 2), (12, 0, 6, 1), (13, 1, 4, 1)], 13)
    assert labelled(*LABELLED, letter, later) == (0, f"{WHOLE} l04 l05 e20 l06 l14 e11")
    # the earlier one had gone on, and was killed
    lost = [(9, "e11", 13, [(12, 0, 6, 1)], 0), (9, "e12", 14, [], None)]
    assert labelled(*LABELLED, letter, *lost, later) == (0, f"{WHOLE} l04 l05 e20 l06 l14 e11")


def test_a_later_process_replaces_labels_too():
    """From its first number on, whether that was an event or a label, and whatever has that number now."""
    other = [(20, "e10", 3, [], None), (20, "l10", 4, None, 3), (20, "e01", 6, [(5, 1, 1, 1)], 3)]
    assert labelled(*LABELLED, *other) == (0, "e00 l00 l01 e10 l10 l11 e01")
    third = (30, "e11", 8, [(5, 0, 2, 1), (6, 1, 1, 1), (7, 0, 3, 1)], 5)
    assert labelled(*LABELLED, *other, third) == (0, "e00 l00 l01 e10 l10 l02 l11 l03 e11")


def test_labels_behind_the_last_prediction_are_left_out():
    """Nothing tells of them; what is told behind them is left out too, and what is told at once is not."""
    assert labelled(*LABELLED, (9, "e20", 9, None, 0)) == (0, f"{WHOLE} e20")
    assert labelled(*LABELLED, (9, "e20", 9, None, 0), (9, "l08", 12, None, 0)) == (0, f"{WHOLE} e20")
    # a process that has made no prediction yet, and what the one before did not keep is gone
    assert labelled(*LABELLED, (20, "l03", 7, None, 4)) == (0, "e00 l00 l01 l10")


def test_labels_of_which_nothing_tells_are_an_error():
    """One before a prediction that does not tell of it, and no event at all."""
    with pytest.raises(SourceError, match=r"where 1 of the records handled lie \(numbers 9\)"):
        labelled(*LABELLED, (9, "e11", 10, [], None))
    with pytest.raises(SourceError, match="partition 0 of the labels: record 9 was handled behind a later one"):
        labelled(*LABELLED, (9, "e11", 10, [(9, 0, 3, 1)], 0))
    with pytest.raises(SourceError, match="nothing tells of a record"):
        labelled((9, "l00", 0, None, 0))


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
