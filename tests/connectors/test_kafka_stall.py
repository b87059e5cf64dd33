"""A client that no longer fetches from one of its partitions: it is made anew, whatever the others bring, and no other is.

And one that fails again and again in a way that nobody knows: it ends the run, but for an error among others.
"""

import math

import pytest

from connectors.errors import SourceError
from connectors.kafka import KafkaReading, KafkaSource, source
from connectors.kafka.client import LogError, Partition
from connectors.raw import RawCodec
from connectors.records import Origin, Record
from tests.pipeline.helpers import Clock

STALL_S, LOOK_S = 6.0, 1.0
POLL_S = 0.01  # of one that brings something


class Log:
    """The cluster, and the library that reads it: one topic, whose partitions are lists of timestamps.

    Attributes:
        stuck: partitions of which the present reader never gives anything.
        made: readers so far.
    """

    def __init__(self, clock, *partitions):
        self.clock, self.partitions = clock, [list(stamps) for stamps in partitions]
        self.stuck, self.made, self.most_given = set(), 0, math.inf

    def reader(self, *, group, committed_only, wait_s=None):
        self.made += 1
        if self.made > 1:
            self.stuck = set()
        return Reader(self)


class Reader:
    """Gives what is there, the first partitions first, as many records of each as its log says."""

    def __init__(self, log):
        self._log, self._at, self._paused = log, {}, set()

    def partitions(self, topic, *, timeout_s):
        return tuple(range(len(self._log.partitions)))

    def topic_id(self, topic):
        return "id"

    def begin(self, partitions, *, timeout_s):
        return dict.fromkeys(partitions, 0)

    def end(self, partitions, *, timeout_s):
        return {p: len(self._log.partitions[p.number]) for p in partitions}

    def assign(self, positions):
        self._at, self._paused = dict(positions), set()

    def poll(self, timeout_s, most):
        found = {}
        for partition, at in self._at.items():
            if partition in self._paused or partition.number in self._log.stuck:
                continue
            stamps = self._log.partitions[partition.number][at : at + int(min(most, self._log.most_given))]
            if stamps:
                origins = (Origin("t", partition.number, at + i) for i in range(len(stamps)))
                found[partition] = [
                    Record(b"", None, (), stamp, origin) for stamp, origin in zip(stamps, origins, strict=True)
                ]
                self._at[partition] += len(stamps)
                most -= len(stamps)
        self._log.clock.now += POLL_S if found else timeout_s
        return found

    def position(self, partition):
        return self._at[partition]

    def pause(self, partitions):
        self._paused |= set(partitions)

    def resume(self, partitions):
        self._paused -= set(partitions)

    def close(self):
        """Nothing is held."""


@pytest.fixture
def clock(monkeypatch):
    """The clock of the module that reads."""
    clock = Clock()
    monkeypatch.setattr(source, "time", clock)
    return clock


def opened(log, **reading):
    """A source of all partitions, from their beginnings."""
    settings = {"idle_wait_s": 1e9, "stall_s": STALL_S, "look_s": LOOK_S} | reading
    found = KafkaSource(KafkaReading(topic="t", group="g", **settings), log, RawCodec(), clock=log.clock.monotonic)
    found.open(0, None)
    return found


def read(reading, log, seconds, *, loop_s=0.0, feed=lambda: None):
    """Poll for so long, a loop taking its time in between; returns where the records lay, in order."""
    found, end = [], log.clock.now + seconds
    while log.clock.now < end:
        feed()
        found += [record.origin[1:] for record in reading.poll(100).records]
        log.clock.now += loop_s
    return found


@pytest.mark.parametrize("loop_s", [0.0, 0.05])
@pytest.mark.parametrize("order", ["arrival", "timestamp"])
def test_a_partition_that_is_no_longer_fetched_is_noticed(clock, order, loop_s):
    """While others give records without end one gives none of its own: the consumer is made anew, and each comes once."""
    log = Log(clock, [], range(0, 40, 2))
    log.stuck = {1}
    reading = opened(log, order=order, idle_wait_s=1.0)

    def feed():
        log.partitions[0].append(len(log.partitions[0]))

    found = read(reading, log, STALL_S, loop_s=loop_s, feed=feed)
    assert (log.made, reading.statistics.stalls) == (1, 0)
    found += read(reading, log, 3 * LOOK_S, loop_s=loop_s, feed=feed)
    assert (log.made, reading.statistics.stalls) == (2, 1)
    found += read(reading, log, STALL_S, loop_s=loop_s)
    assert sorted(found) == [(n, at) for n in (0, 1) for at in range(len(log.partitions[n]))]
    read(reading, log, 3 * STALL_S, loop_s=loop_s, feed=feed)
    assert log.made == 2


@pytest.mark.parametrize("held", [2_000, 500])
def test_a_partition_whose_turn_has_not_come_is_not_stalled(clock, monkeypatch, held):
    """While every poll is filled by the records of others, what a partition has may lie in the client.

    Not when those others have given more than a client holds: then it is made anew.
    """
    monkeypatch.setattr(source, "_MOST_POLLED", 50)
    monkeypatch.setattr(source, "_MOST_HELD", held)
    log, polls, poll = Log(clock, range(2_000), range(10)), [], Reader.poll

    def slowly(reader, timeout_s, most):
        polls.append(poll(reader, timeout_s, most))
        clock.now += LOOK_S
        return polls[-1]

    reading, began = opened(log, order="arrival"), clock.now
    with monkeypatch.context() as patch:
        patch.setattr(Reader, "poll", slowly)
        found = [record.origin[1:] for _ in range(40) for record in reading.poll(source._MOST_POLLED).records]
    assert all(Partition("t", 1) not in one for one in polls)
    assert clock.now - began > 5 * STALL_S
    assert len(found) == 2_000
    assert reading.statistics.stalls == log.made - 1
    assert (log.made > 1) == (held < 2_000)
    assert read(reading, log, 0.1) == [(1, at) for at in range(10)]


def test_a_partition_that_is_paused_or_buffered_is_not_stalled(clock):
    """One that is full waits for another, and one that has something is waited for by nobody, however long that takes."""
    log = Log(clock, [], range(100), range(5))
    log.most_given = 20
    reading = opened(log, buffer_records=10)
    read(reading, log, 2 * LOOK_S)
    log.stuck = {2}
    log.partitions[2] += range(5, 10)
    assert read(reading, log, 5 * STALL_S) == []
    told = reading.statistics
    assert (told.paused, told.buffered, told.lag_records) == (1, 25, 110)
    assert (log.made, told.stalls) == (1, 0)


def test_a_partition_that_was_idle_is_not_stalled(clock):
    """For however long nothing came: records that come just before the next look are not late."""
    log = Log(clock, [0], [0])
    reading = opened(log, order="arrival", stall_s=1.0)
    read(reading, log, 10 * LOOK_S)
    for _ in range(20):
        while clock.now - reading._looked < LOOK_S - 0.25:
            read(reading, log, 0.01)
        log.stuck = {0}  # for a moment, in which the look finds it behind
        log.partitions[0].append(0)
        read(reading, log, 0.5)
        assert reading._due
        log.stuck = set()
        read(reading, log, 0.5)
    assert (log.made, reading.statistics.stalls) == (1, 0)


def test_a_loop_that_is_slow_has_not_asked(clock):
    """Time between polls counts for a moment only: a client that was asked twice in a minute has not stalled."""
    log = Log(clock, range(10), [0])
    log.stuck, log.most_given = {1}, 1
    reading = opened(log, order="arrival")
    read(reading, log, 10 * STALL_S, loop_s=STALL_S)
    assert reading._due
    assert (log.made, reading.statistics.stalls) == (1, 0)


def test_an_error_that_nobody_knows_ends_a_run_only_again_and_again(clock, monkeypatch):
    """A broker may be away for longer than that, and one such error among others then means nothing."""
    log, faults, poll = Log(clock, range(3)), [], Reader.poll

    def fails(reader, timeout_s, most):
        if not faults:
            return poll(reader, timeout_s, most)
        clock.now += 1.0
        raise LogError(faults.pop(0), "not now")

    monkeypatch.setattr(Reader, "poll", fails)
    reading = opened(log, order="arrival", look_s=1e9)
    faults += [*["unreachable"] * 10, "failed", "unreachable", *["failed"] * 3]
    assert read(reading, log, 30.0) == [(0, 0), (0, 1), (0, 2)]
    faults += ["failed"] * 20
    with pytest.raises(SourceError, match="not now"):
        read(reading, log, 30.0)
    assert len(faults) > 10
