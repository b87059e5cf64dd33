"""Micro-batches that the clock ends: no event waits longer, each end is told, and with those told a replay is the same."""

import json
import math
import random
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import MemorySink, Origin, Record
from connectors.kafka.handled import Traces
from pipeline import prequential
from pipeline.archive import decode, encode
from pipeline.assembly import prepare
from pipeline.config import (
    CheckpointSettings,
    Config,
    KafkaSettings,
    LabelSettings,
    ModelSettings,
    ModeSettings,
    StreamSettings,
)
from pipeline.intake import Intake
from pipeline.pace import Pace
from pipeline.settings import SettingsError
from pipeline.telemetry import Telemetry
from tests.pipeline.helpers import Clock, chunk
from tests.pipeline.joined import TWO, Loop
from tests.pipeline.test_join import same

POLL_S = 0.004  # an empty poll waits so long


class Arriving:
    """A source of records that come at given moments; `ends` are records behind which the clock once ended a micro-batch."""

    def __init__(self, records, codec, clock, *, moments=None, ends=(), most=None, endless=False):
        self._records, self._codec, self._clock = records, codec, clock
        self._moments, self._ends = moments, sorted(ends)
        self._most = most or (lambda: 10**9)
        self._next, self._endless = 0, endless

    def open(self, offset, state):
        self._codec.load({} if state is None else state["codec"])
        self._next = offset

    def poll(self, events):
        first, last = self._next, self._next
        stop = min(len(self._records), first + min(events, self._most()))
        while last < stop and (self._moments is None or self._moments[last] <= self._clock.now):
            last += 1
        if first == last == len(self._records) and not self._endless:
            return None
        if first == last:
            self._clock.now += POLL_S
        self._next = last
        made = self._codec.decode(self._records[first:last], np.arange(first, last), start=first, stop=last)
        return replace(made, cuts=tuple(end for end in self._ends if first <= end < last))

    def state(self, offset):
        return {"codec": self._codec.state(offset)}

    def commit(self, offset):
        pass

    def close(self):
        pass


class TimedSink(MemorySink):
    """Keeps when each item was written, too."""

    def __init__(self, clock):
        super().__init__()
        self._clock, self.moments = clock, []

    def write(self, item):
        super().write(item)
        self.moments.append(self._clock.now)


def config(batch, wait_ms, delay=0, preset="lite"):
    """A small model on a topic."""
    return Config(
        stream=StreamSettings(source="kafka:events", targets=("y",), **TWO),
        model=ModelSettings(preset=preset, engine="eager" if preset == "single" else "auto"),
        mode=ModeSettings(batch=batch, max_wait_ms=wait_ms),
        labels=LabelSettings(delay_events=delay),
        kafka=KafkaSettings(predictions_topic="out"),
    )


def scenario(seed, count, *, gap_s=0.02):
    """Records, some of which cannot be used, and when each comes: singly, and in bursts."""
    draw, at, records, moments = random.Random(seed), 1_000.0, [], []
    for n in range(count):
        a, b = round(draw.gauss(0, 1), 3), round(draw.gauss(0, 1), 3)
        value = {"a": a, "b": b, "y": draw.choice((int(a + b > 0), int(a + b > 0), 7, None))}
        text = b"{broken" if draw.random() < 0.1 else json.dumps(value).encode()
        records.append(Record(text, timestamp_ms=n, origin=Origin("events", 0, n)))
        at += draw.choice((0.0, 0.0, draw.expovariate(1 / gap_s), draw.expovariate(1 / gap_s) * 5))
        moments.append(at)
    return records, moments


def live(records, settled, clock, *, moments, most=None, checkpoint=None, chunk=64, endless=False):
    """A loop over records that come in time."""
    loop = Loop(
        records,
        settled,
        chunk=chunk,
        checkpoint=checkpoint,
        source=lambda codec: Arriving(records, codec, clock, moments=moments, most=most, endless=endless),
    )
    loop.predictions = TimedSink(clock)
    loop.loop.parts = replace(loop.loop.parts, predictions=loop.predictions)
    return loop


def told(loop):
    """Offsets behind which predictions say that the clock ended a micro-batch."""
    return sorted({cut.offset for item in loop.predictions.items for cut in item.cuts})


def replayed(records, settled, clock, ends, *, draw, chunk=64, batch=None):
    """A loop over a recording, whose polls are cut at random; its own clock says nothing."""
    again = config(batch or settled.mode.batch, 0.0, settled.labels.delay_events, settled.model.preset)
    made = Loop(
        records,
        again,
        chunk=chunk,
        source=lambda codec: Arriving(records, codec, clock, ends=ends, most=lambda: draw.choice((1, 2, 5, 50))),
    )
    return made.run()


def learned(loop):
    """What does not depend on how rejects lie between micro-batches: all that was learned, awaited, scored and decided."""
    state = loop.state
    return {
        **{name: state[name] for name in ("learner", "labels", "scores", "detector", "rate_control", "source")},
        "rate": state["loop"]["control"]["rate"],
    }


CASES = {
    "seed": st.integers(0, 10**6),
    "batch": st.sampled_from((2, 3, 8, 20)),
    "wait_ms": st.sampled_from((1.0, 15.0, 40.0, 300.0)),
    "delay": st.sampled_from((0, 0, 5, 17)),
}


@settings(max_examples=10, deadline=None)
@given(preset=st.sampled_from(("lite", "lite", "lite", "single")), **CASES)
def test_a_replay_with_the_ends_told_is_the_live_run(preset, seed, batch, wait_ms, delay):
    """Predictions, weights, scores and awaited labels are the same, bit for bit, however the replay is cut."""
    clock, draw, settled = Clock(), random.Random(seed), config(batch, wait_ms, delay, preset)
    records, moments = scenario(seed, 50)
    with patch.object(prequential, "time", clock):
        first = live(records, settled, clock, moments=moments, most=lambda: draw.choice((1, 3, 50))).run()
        second = replayed(records, settled, clock, told(first), draw=draw, chunk=draw.choice((1, 7, 64)))
    assert first.served == second.served
    assert first.buried == second.buried
    assert same(learned(first), learned(second))


@settings(max_examples=10, deadline=None)
@given(**CASES)
def test_no_event_waits_longer_and_no_micro_batch_is_larger(seed, batch, wait_ms, delay):
    """An event is served once it has waited so long (and the poll in hand is over), or its micro-batch is full."""
    clock, settled = Clock(), config(batch, wait_ms, delay)
    records, moments = scenario(seed, 50)
    with patch.object(prequential, "time", clock):
        loop = live(records, settled, clock, moments=moments).run()
    late = POLL_S + prequential.IDLE_S  # before it is polled
    for item, at in zip(loop.predictions.items, loop.predictions.moments, strict=True):
        assert all(at <= moments[offset] + wait_ms / 1000 + 2 * late for offset in item.offsets.tolist())
    events = loop.loop.counters.events
    assert sum(size * count for size, count in loop.loop.batches.items()) == events
    assert max(loop.loop.batches) <= batch
    # only the clock makes them smaller
    assert sum(count for size, count in loop.loop.batches.items() if size < batch) == loop.loop.counters.cuts


@settings(max_examples=10, deadline=None)
@given(blocks=st.integers(0, 40), lost=st.integers(0, 40), **CASES)
def test_killed_and_resumed_there_is_one_set_of_ends(blocks, lost, seed, batch, wait_ms, delay):
    """What a killed run wrote behind its checkpoint the next one cuts anew; a replay repeats what is left of both."""
    clock, draw, settled = Clock(), random.Random(seed), config(batch, wait_ms, delay)
    records, moments = scenario(seed, 50)
    with patch.object(prequential, "time", clock):
        first = live(records, settled, clock, moments=moments).run(blocks)
        kept, written = decode(encode(0, first.state, created_s=0.0), "kept"), len(first.served)
        first.run(lost)
        clock.now += draw.choice((0.0, 0.03, 2.0))
        second = live(records, settled, clock, moments=moments, checkpoint=kept).run()
        traces = Traces()
        for started_ms, loop in enumerate((first, second)):
            for item in loop.predictions.items:
                for number in item.offsets.tolist():
                    ends = [(0, cut.offset) for cut in item.cuts]
                    traces.add(number, (0, number), started_ms=started_ms, cuts=ends)
        third = replayed(records, settled, clock, [offset for _, offset in traces.kept_cuts()], draw=draw)
    assert [*first.served[:written], *second.served] == third.served
    assert same(learned(second), learned(third))


def test_without_a_bound_a_micro_batch_waits_for_ever():
    """With max_wait_ms = 0 what is incomplete is not predicted, however late it is."""
    clock, settled = Clock(), config(8, 0.0)
    records = scenario(1, 13)[0]
    records = [record for record in records if record.value != b"{broken"]
    turns = []
    with patch.object(prequential, "time", clock):
        loop = live(records, settled, clock, moments=None, endless=True)
        loop.loop.run(stop=lambda: len(turns) > 50, report=turns.append)
    assert loop.loop.counters.events == 8
    assert clock.now > 1_001.0
    assert (loop.loop.counters.cuts, loop.loop.batches) == (0, {8: 1})


def test_another_batch_than_the_recorded_one():
    """A replay with other micro-batches fills them up to where the clock ended one, and counts on from there."""
    records = [
        Record(b'{"a": 1.0, "b": 2.0, "y": 1}', timestamp_ms=n, origin=Origin("events", 0, n)) for n in range(20)
    ]
    clock = Clock()
    with patch.object(prequential, "time", clock):
        loop = replayed(records, config(4, 0.0), clock, [5, 6], draw=random.Random(0), batch=8)
        singly = replayed(records, config(4, 0.0), clock, [5, 6], draw=random.Random(0), batch=1)
    # 0-5, 6, 7-14, and at the end 15-19
    assert loop.loop.batches == {6: 1, 1: 1, 8: 1, 5: 1}
    assert (loop.loop.counters.cuts, singly.loop.counters.cuts, singly.loop.batches) == (2, 0, {})


def test_inputs_that_need_room_split_no_micro_batch():
    """Where the clock has ended one, those behind it stay whole too when what is handled in one go is cut."""
    draw, records = random.Random(0), []
    for n in range(20):
        more = {f"z{i}": draw.random() for i in range(10)} if n >= 8 else {}
        value = {"a": draw.random(), "b": draw.random(), "y": draw.randrange(2), **more}
        records.append(Record(json.dumps(value).encode(), timestamp_ms=n, origin=Origin("events", 0, n)))
    clock, sizes = Clock(), []
    with patch.object(prequential, "time", clock):
        loop = Loop(records, config(4, 0.0), source=lambda codec: Arriving(records, codec, clock, ends=[2]))
        run = loop.loop.parts.learner.run

        def noted(rows, operations, **control):
            sizes.extend((operations.stop - operations.start).tolist())
            return run(rows, operations, **control)

        loop.loop.parts.learner.run = noted
        loop.run()
    assert loop.loop.parts.learner.growths["features"] == 1
    assert sizes == [3, 4, 4, 4, 4, 1]


def test_an_end_inside_a_limit():
    """A replay up to a limit repeats the ends before it."""
    records = [
        Record(b'{"a": 1.0, "b": 2.0, "y": 1}', timestamp_ms=n, origin=Origin("events", 0, n)) for n in range(20)
    ]
    clock = Clock()
    with patch.object(prequential, "time", clock):
        loop = Loop(
            records, config(8, 0.0), limit=12, source=lambda codec: Arriving(records, codec, clock, ends=[9])
        ).run()
    assert loop.loop.batches == {8: 1, 2: 2}


def test_a_micro_batch_without_a_prediction_is_told_by_the_next():
    """Where nothing of it could be used, its end is told with the predictions that follow, as is theirs."""
    bad, good = b'{"a": 1.0, "b": 2.0, "y": 7}', b'{"a": 1.0, "b": 2.0, "y": 1}'
    values = [good, good, bad, bad, bad, good, good]
    records = [Record(value, timestamp_ms=n, origin=Origin("events", 0, n)) for n, value in enumerate(values)]
    clock, settled = Clock(), config(8, 10.0)
    moments = [1_000.0, 1_000.0, 1_001.0, 1_002.0, 1_003.0, 1_004.0, 1_004.0]
    with patch.object(prequential, "time", clock):
        loop = live(records, settled, clock, moments=moments).run()
    assert [[cut.offset for cut in item.cuts] for item in loop.predictions.items] == [[1], [4, 6]]
    assert loop.loop.counters.cuts == 5


def test_what_waits_is_counted_from_its_poll():
    """The first event of what is held decides, also after a part of a poll has been handed out."""
    now = 0.0

    class Source:
        def __init__(self, *polls):
            self.polls = list(polls)

        def poll(self, events):
            return self.polls.pop(0) if self.polls else chunk(12, "")

    intake = Intake(Source(chunk(0, "xeeeee"), chunk(6, "ex"), chunk(8, "xexe")), 8, wait_s=1.0, clock=lambda: now)
    assert intake.left_s == math.inf
    assert (len(intake.take(8, least=4, step=4)), intake.cut) == (4, False)
    assert intake.left_s == 1.0
    now = 0.5
    intake._source.polls.insert(1, chunk(8, ""))
    assert (len(intake.take(8, least=4, step=4)), intake.cut) == (0, False)
    assert intake.left_s == 0.5
    now = 1.0
    block = intake.take(8, least=4, step=4)
    assert (block.offsets.tolist(), intake.cut) == (
        [5, 6, 9, 11],
        False,
    )  # what is there is taken before the wait is over
    now = 5.0
    intake._source.polls.append(chunk(12, "eee"))
    assert (len(intake.take(8, least=4, step=4)), intake.cut) == (0, False)
    now = 6.0
    block = intake.take(8, least=4, step=4)
    assert (block.offsets.tolist(), intake.cut, intake.left_s) == ([12, 13, 14], True, math.inf)


def test_a_trickle_does_not_put_off_the_end():
    """Where each poll brings one event more, the wait of the first is over all the same."""
    came = []

    class Source:
        def poll(self, events):
            came.append(0.004)
            return chunk(len(came) - 1, "e")

    intake = Intake(Source(), 512, wait_s=0.018, clock=lambda: sum(came))
    block = intake.take(1000, least=1000, step=1000)
    assert (block.offsets.tolist(), intake.cut) == ([0, 1, 2, 3, 4, 5], True)


def test_blocks_are_kept_short_for_the_wish_alone():
    """A pace makes blocks as long as the time allows, from a single event on; without a wish it limits nothing."""
    pace, free = Pace(0.1), Pace(0.0)
    assert (pace.most, free.most) == (1.0, math.inf)
    for events in (1, 1, 1, 2, 4, 8, 20, 40, 50, 50, 50):
        pace.took(events, 0.002 * events)
        free.took(events, 1.0)
    assert pace.most == pytest.approx(50.0, rel=0.1)
    assert free.most == math.inf
    pace.took(1, 1000.0)
    assert pace.most == 1.0


def test_sample_mode_is_the_same_with_shorter_blocks():
    """In sample mode the wait bounds how many events are handled in one go, and nothing that comes of it."""
    records = scenario(3, 200)[0]
    longest, states = [], []
    for wait_ms in (0.0, 20.0):
        clock, at = Clock(), [0]

        def took(loop, clock=clock, at=at, longest=longest):
            clock.now += 0.004 * (loop.counters.events - at[0])
            longest.append(loop.counters.events - at[0])
            at[0] = loop.counters.events

        with patch.object(prequential, "time", clock):
            loop = live(records, config(1, wait_ms), clock, moments=None)
            process = loop.loop._process

            def timed(chunk, *, cut, process=process, loop=loop, took=took):
                process(chunk, cut=cut)
                took(loop.loop)

            loop.loop._process = timed
            longest.clear()
            loop.run()
        states.append((loop.served, loop.buried, learned(loop)))
        assert max(longest) == (5 if wait_ms else 16)
    assert states[0][:2] == states[1][:2]
    assert same(states[0][2], states[1][2])


def test_sizes_and_ends_are_metrics():
    """A histogram of the events of micro-batches, and a counter of those that the clock ended."""
    clock, telemetry = Clock(), Telemetry(clock=lambda: 0.0)
    records, moments = scenario(5, 60)
    with patch.object(prequential, "time", clock):
        loop = live(records, config(8, 30.0), clock, moments=moments)
        loop.loop.run(stop=lambda: False, report=telemetry.block)
    value, batches = telemetry.registry.get_sample_value, loop.loop.batches
    assert loop.loop.counters.cuts > 3
    assert value("streamnn_micro_batches_cut_total") == loop.loop.counters.cuts
    assert value("streamnn_micro_batch_events_count") == sum(batches.values())
    assert value("streamnn_micro_batch_events_sum") == loop.loop.counters.events
    assert value("streamnn_micro_batch_events_bucket", {"le": "1.0"}) == batches.get(1, 0)


@pytest.mark.parametrize(
    ("stream", "kafka", "message"),
    [
        ({"source": "kafka:t"}, {}, "kafka.predictions_topic is not set; set it, or mode.max_wait_ms to 0"),
        ({"source": "s.csv", "follow": True}, {}, "stream.follow.*set mode.max_wait_ms to 0, or mode.batch to 1"),
    ],
)
def test_ends_that_could_not_be_repeated_are_refused(stream, kafka, message):
    """Where nothing would tell a replay of them."""
    settled = Config(
        stream=StreamSettings(targets=("y",), task="binary", **stream),
        mode=ModeSettings(batch=8, max_wait_ms=50.0),
        kafka=KafkaSettings(**kafka),
        checkpoint=CheckpointSettings(folder="ck"),
    )
    with pytest.raises(SettingsError, match=rf"mode.max_wait_ms is 50, and mode.batch 8: .*{message}"):
        prepare(settled)
