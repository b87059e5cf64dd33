"""Labels between events, told by predictions: with that the order of a run is found again, over kills and stops."""

import random

import numpy as np
import pytest

from connectors import LabelRun, Labels, Origin, Record
from connectors.kafka.handled import Traces
from pipeline import label_trail
from pipeline.archive import decode, encode
from pipeline.label_trail import LabelTrail
from pipeline.telemetry import Telemetry
from tests.pipeline.joined import Loop, config, records_of, scenario
from tests.pipeline.test_join import same


def labels(*rows):
    """Labels of rows (number, partition, offset)."""
    records = [Record(b"", origin=Origin("labels", partition, offset)) for _, partition, offset in rows]
    return Labels(np.zeros(len(rows), dtype=object), {}, np.array([number for number, _, _ in rows]), records)


def told(trail, *offsets):
    """What is told before events: row -> runs as tuples."""
    return {row: [*map(tuple, runs)] for row, runs in trail.tell(np.array(offsets, dtype=np.int64)).items()}


def test_labels_come_in_runs():
    """Those in a row and in one partition make a run; an event, a gap or another partition ends it, a poll does not."""
    trail = LabelTrail()
    trail.add(labels((0, 0, 5), (1, 0, 6)))
    trail.add(labels((2, 0, 7), (3, 1, 0), (4, 0, 8), (6, 0, 9), (7, 0, 11)))
    assert len(trail) == 5
    assert told(trail, 5) == {0: [(0, 0, 5, 3), (3, 1, 0, 1), (4, 0, 8, 1)]}
    assert told(trail, 5) == {}
    trail.add(labels((8, 0, 12)))
    assert told(trail, 5, 9, 10) == {1: [(6, 0, 9, 1), (7, 0, 11, 2)]}
    assert len(trail) == 0


def test_what_one_prediction_does_not_hold_comes_with_the_next(monkeypatch):
    """Each tells of so many runs at most, the oldest first, also where they lie before an earlier event."""
    monkeypatch.setattr(label_trail, "MOST_TOLD", 2)
    trail = LabelTrail()
    trail.add(labels(*((number, number % 2, number) for number in range(5)), (6, 0, 9)))
    assert told(trail, 5, 7) == {0: [(0, 0, 0, 1), (1, 1, 1, 1)], 1: [(2, 0, 2, 1), (3, 1, 3, 1)]}
    assert told(trail, 8) == {0: [(4, 0, 4, 1), (6, 0, 9, 1)]}


def test_what_is_kept_is_bounded():
    """Beyond the bound labels are left out and counted; one that lengthens the last run still has room."""
    trail = LabelTrail(2)
    assert trail.add(labels((0, 0, 0), (1, 1, 0), (2, 1, 1), (3, 0, 1), (4, 0, 2))) == 2
    assert told(trail, 9) == {0: [(0, 0, 0, 1), (1, 1, 0, 2)]}


def test_labels_of_a_file_are_not_told():
    """They lie in no partition."""
    trail = LabelTrail()
    made = labels((0, 0, 0))
    assert trail.add(Labels(made.ids, {}, made.offsets, [Record(b"")])) == 0
    assert len(trail) == 0


def test_what_is_not_told_is_in_a_checkpoint():
    """Over a stop the next prediction tells it, and a run goes on where it was."""
    first, second = LabelTrail(), LabelTrail()
    first.add(labels((0, 0, 5), (1, 1, 6)))
    state = {"loop": {"trail": first.state_dict()}}
    second.load_state_dict(decode(encode(0, state, created_s=0.0), "kept").state["loop"]["trail"])
    assert same(first.state_dict(), second.state_dict())
    second.add(labels((2, 1, 7)))
    assert told(second, 3) == {0: [(0, 0, 5, 1), (1, 1, 6, 2)]}
    second.load_state_dict(LabelTrail().state_dict())
    assert len(second) == 0


def test_a_bound_that_acts_is_counted(monkeypatch):
    """The loop counts what no prediction will tell of, over a stop too, and Prometheus is told."""
    records, telemetry = records_of(scenario(3, 60)), Telemetry()
    loop = Loop(records, config())
    loop.loop._trail = LabelTrail(1)
    loop.loop.run(stop=lambda: False, report=telemetry.block)
    assert loop.loop.counters.untold > 10
    assert telemetry.registry.get_sample_value("streamnn_labels_untold_total") == loop.loop.counters.untold
    kept = decode(encode(0, loop.state, created_s=0.0), "kept")
    assert Loop(records, config(), checkpoint=kept).loop.counters.untold == loop.loop.counters.untold


def in_partitions(came, draw):
    """The records of a scenario, events in three partitions and labels in two, whose logs have gaps."""
    ends = {}
    found = []
    for record in records_of(came):
        topic = record.origin.topic
        partition = draw.randrange(3 if topic == "events" else 2)
        offset = ends.get((topic, partition), 0) + draw.choice((0, 0, 0, 1))
        ends[topic, partition] = offset + 1
        found.append(record._replace(origin=Origin(topic, partition, offset)))
    return found


def otherwise(records, draw):
    """The same records in another order that keeps that of each partition."""
    queues = {}
    for record in records:
        queues.setdefault(record.origin[:2], []).append(record)
    places = [place for place, queue in queues.items() for _ in queue]
    draw.shuffle(places)
    return [queues[place].pop(0) for place in places]


def trace(traces, loop, started_ms):
    """Take what a loop has written, as it stands in its topics."""
    for item in loop.predictions.items:
        for row, (number, record) in enumerate(zip(item.offsets.tolist(), item.records, strict=True)):
            runs = item.told.get(row, ())
            traces.add(
                number,
                record.origin[1:],
                started_ms=started_ms,
                since=item.since if runs else None,
                labels=[LabelRun(*run) for run in runs],
            )
    for letter in (letter for item in loop.dead_letters.items for letter in item):
        topic, *place = letter.record.origin
        traces.add(
            letter.offset,
            tuple(place),
            started_ms=started_ms,
            apart=topic == "labels",
            predicted=False,
            since=letter.since,
        )


@pytest.mark.parametrize("seed", range(12))
def test_the_order_of_a_killed_run_is_found_and_repeated(seed):
    """Each life goes on from a checkpoint in another order; the order told is that of what counts, and gives it again."""
    draw = random.Random(seed)
    records, traces = in_partitions(scenario(seed, 60), draw), Traces(labelled=True)
    served, kept = [], None
    for life in range(3):
        records = records if kept is None else records[: kept.number] + otherwise(records[kept.number :], draw)
        loop = Loop(records, config(wait_s=1.0), cuts=draw, checkpoint=kept)
        if life < 2:
            loop.run(draw.randrange(12))
            kept = decode(encode(loop.loop.offset, loop.state, created_s=0.0), "kept")
            served += loop.served
            loop.run(draw.randrange(12))  # and what it does then is lost
        else:
            loop.run()
            served += loop.served
        trace(traces, loop, life)
    found = traces.order()
    assert found.first == 0
    places = zip(found.apart.tolist(), found.partition.tolist(), found.offset.tolist(), strict=True)
    told = [Origin("labels" if apart else "events", partition, offset) for apart, partition, offset in places]
    assert told == [record.origin for record in records[: len(told)]]
    assert not any(record.origin.topic == "events" for record in records[len(told) :])
    again = Loop(records[: len(told)], config(wait_s=1.0), cuts=draw).run()
    assert again.served == served
