"""Clients of the cluster in memory, behind the interface of `connectors.kafka.client`.

They fail as real ones do: a call waits for a broker that is away up to its time-out; a delivery is given up after a
time, whether the record was written or not; a commit whose answer is lost may have been made, or may be made later; a
producer that failed once fails from then on; records come in pieces, and those of a partition may come late. Nothing may
be asked while an error of theirs is being handled: see `connectors.kafka.delivery.tried`.
"""

import sys
import zlib

from connectors.kafka.client import LogError, Partition, Settled
from connectors.records import Origin, Record
from tests.simulation.audit import ViolationError
from tests.simulation.cluster import position
from tests.simulation.members import SimMember

DELIVERY_S = 20.0
TRANSACTIONAL_DELIVERY_S = 10.0
START_WAIT_S = 30.0
LONGEST_STALL_S = (
    10.0  # of asking for a partition that gives nothing: three seconds, and the looks before and after them
)
MAX_BYTES = 5_000


class SimLibrary:
    """Makes clients of one world's cluster."""

    def __init__(self, world):
        self._world = world
        self._readers = []

    @property
    def at_end(self):
        """Whether those who read have come to the ends of their partitions, behind markers too."""
        return all(reader.at_end for reader in self._readers)

    def reader(self, *, group, committed_only, wait_s=None):
        """Connect a reader."""
        self._connect("reader", wait_s)
        self._readers.append(SimReader(self._world, group, committed_only))
        return self._readers[-1]

    def writer(self, *, transactional_id, transaction_timeout_s, wait_s=None):
        """Connect a writer; one with an id takes over."""
        self._connect("writer", wait_s)
        writer = SimWriter(self._world, transactional_id)
        if transactional_id:
            writer.take_over(transaction_timeout_s)
        return writer

    def member(self, *, group, topic, name, wait_s=None):
        """Connect a member of the one group of workers."""
        del group, topic
        self._connect("member", wait_s)
        return SimMember(self._world, self._world.cluster.workers, name)

    def _connect(self, what, wait_s):
        _handles_nothing(f"connect {what}")
        world, wait_s = self._world, START_WAIT_S if wait_s is None else wait_s
        world.step(f"connect {what}")
        trouble = world.cluster.trouble("connect")
        if trouble is not None:
            raise LogError(trouble, "simulated: at the start")
        if world.cluster.down:
            world.clock.advance(min(wait_s, world.cluster.down_until - world.clock.now))
            if world.cluster.down:
                raise LogError("unreachable", f"no broker answers within {wait_s:g} s")


class _Client:
    """What readers and writers have in common."""

    def __init__(self, world):
        self._world, self._cluster = world, world.cluster
        self._closed = False

    def _ask(self, what, timeout_s, kind=""):
        """Pass a step; wait for the broker."""
        _handles_nothing(what)
        self._world.step(what)
        assert not self._closed, f"{what}: the client is closed"
        trouble = self._cluster.trouble(kind) if kind else None
        if trouble in {"unreachable", "failed"}:
            self._world.clock.advance(timeout_s if trouble == "unreachable" else 0.0)
            raise LogError(trouble, f"simulated: {what}")
        if self._cluster.down:
            self._world.clock.advance(min(timeout_s, self._cluster.down_until - self._world.clock.now))
            if self._cluster.down:
                raise LogError("unreachable", f"{what}: no answer within {timeout_s:g} s")
        return trouble

    def partitions(self, topic, *, timeout_s):
        """Return the partition numbers of a topic."""
        trouble = self._ask(f"partitions {topic}", timeout_s, "metadata")
        return () if trouble == "empty" else tuple(range(len(self._cluster.topics.get(topic, []))))


class SimReader(_Client):
    """A `LogReader`."""

    def __init__(self, world, group, committed_only):
        super().__init__(world)
        self._group, self._committed_only = group, committed_only
        self._positions = {}
        self._paused = set()
        self._stuck = {}  # partitions that are no longer fetched: for how long they have been asked for

    def topic_id(self, topic):
        """Return the topic's id: its name, since none is made again here."""
        return topic

    def begin(self, partitions, *, timeout_s):
        """Return the first offsets."""
        self._ask("begin", timeout_s, "ends")
        return {p: self._cluster.log(p).start for p in partitions}

    def end(self, partitions, *, timeout_s):
        """Return the offsets behind the last records."""
        self._ask("end", timeout_s, "ends")
        return {p: self._cluster.log(p).readable(self._committed_only) for p in partitions}

    def at_time(self, moments_ms, *, timeout_s):
        """Return the first offsets at or after moments."""
        self._ask("at_time", timeout_s, "ends")
        found = {}
        for partition, moment in moments_ms.items():
            log = self._cluster.log(partition)
            later = (o for o in range(log.start, log.end) if log.entries[o].timestamp_ms >= moment)
            found[partition] = next(later, None)
        return found

    def assign(self, positions):
        """Read these partitions from here."""
        self._world.step("assign")
        self._positions, self._paused = dict(positions), set()

    def poll(self, timeout_s, most):
        """Return records, in pieces."""
        world = self._world
        world.step("poll")
        trouble = self._cluster.trouble("poll")
        if trouble == "stall":
            self._stuck = dict.fromkeys(self._positions, 0.0)
        elif trouble == "stall_one":
            self._stuck.setdefault(world.rng.choice(sorted(self._positions)), 0.0)
            world.log("a partition is stuck")
        elif trouble is not None:
            raise LogError(trouble, "simulated: poll")
        began, arrived = world.clock.now, {}
        if not self._cluster.down:
            for partition in sorted(self._positions.keys() - self._stuck.keys()):
                if partition not in self._paused and world.rng.random() < 0.9:
                    records = self._fetch(partition, min(most, world.rng.choice([1, 3, 10, 100])))
                    if records:
                        arrived[partition] = records
                        most -= len(records)
        if not arrived:
            world.clock.advance(timeout_s)
        self._owe(world.clock.now - began)
        return arrived

    def _owe(self, seconds):
        """Count how long partitions that are stuck have been asked for what is there."""
        for partition, at in self._positions.items():
            if partition in self._stuck and partition not in self._paused and not self._cluster.down:
                self._stuck[partition] += seconds * (at < self._cluster.log(partition).readable(self._committed_only))
                if self._stuck[partition] > LONGEST_STALL_S:
                    raise ViolationError(
                        f"a partition, {partition}, is not fetched any more, and the consumer is still the same"
                    )

    def _fetch(self, partition, most):
        log, at = self._cluster.log(partition), self._positions[partition]
        if not log.start <= at <= log.end:
            raise LogError("out_of_range", f"{partition} at {at}: it has {log.start} to {log.end}")
        records = []
        end = log.readable(self._committed_only)
        while at < end and len(records) < most:
            entry = log.entries[at]
            if log.visible(entry, self._committed_only):
                origin = Origin(partition.topic, partition.number, at)
                records.append(Record(entry.value, entry.key, entry.headers, entry.timestamp_ms, origin))
            at += 1
        self._positions[partition] = at
        return records

    @property
    def at_end(self):
        """Whether nothing is left to be read."""
        ends = {p: self._cluster.log(p).readable(self._committed_only) for p in self._positions}
        return self._closed or all(at >= ends[p] for p, at in self._positions.items())

    def position(self, partition):
        """Return the next offset."""
        return self._positions[partition]

    def pause(self, partitions):
        """Pause."""
        self._paused |= set(partitions)

    def resume(self, partitions):
        """Resume."""
        self._paused -= set(partitions)

    def commit(self, offsets, note, *, timeout_s):
        """Store positions; of a call that fails, perhaps."""
        trouble = self._ask("commit positions", timeout_s)
        trouble = self._cluster.trouble("commit_positions")
        if trouble != "lost":
            self._cluster.commit(self._group, {p: position(at, note) for p, at in offsets.items()})
        if trouble is not None:
            raise LogError("unreachable" if trouble in {"lost", "unanswered"} else trouble, "simulated: commit")

    def committed(self, partitions, *, timeout_s):
        """Return what is stored; readers of committed records wait for transactions that are not finished."""
        self._ask("committed", timeout_s, "committed")
        if self._committed_only and any(self._cluster.unstable(self._group, p) for p in partitions):
            self._world.clock.advance(timeout_s)
            if any(self._cluster.unstable(self._group, p) for p in partitions):
                raise LogError("unreachable", "a transaction with these positions is not finished")
        found = {p: self._cluster.told(self._group, p) for p in partitions}
        return {p: committed for p, committed in found.items() if committed is not None}

    def close(self):
        """Close."""
        self._world.step("close reader")
        self._closed = True


class _Pending:
    """A record under way."""

    def __init__(self, record, since):
        self.record, self.since, self.written = record, since, False


class SimWriter(_Client):
    """A `LogWriter`."""

    def __init__(self, world, identity):
        super().__init__(world)
        self._identity, self._epoch = identity, 0
        self._known_since = self._cluster.bounces
        self._pending = []
        self._failed = []
        self._broken = None  # the fault with which everything fails from now on
        self._begun = False
        self._delivery_s = TRANSACTIONAL_DELIVERY_S if identity else DELIVERY_S

    def take_over(self, timeout_s):
        """Fence earlier writers of the same id."""
        self._ask("take over", 15.0, "take_over")
        self._epoch = self._cluster.take_over(self._identity, timeout_s)

    def produce(self, record):
        """Take a record."""
        self._world.step("produce")
        assert not self._closed, "produce: the client is closed"
        self._check()
        assert self._begun or not self._identity, "produce without a transaction"
        if too_large(record) and self._world.rng.random() < 0.5:
            raise LogError("too_large", f"the record has {len(record.value)} bytes")
        if self._cluster.trouble("produce_full") is not None:
            raise LogError("unreachable", "simulated: the buffer is full")
        self._pending.append(_Pending(record, self._world.clock.now))

    @property
    def in_flight(self):
        """Records under way."""
        return len(self._pending) + len(self._failed)

    def settle(self, timeout_s):
        """Send, wait, tell."""
        self._world.step("settle")
        assert not self._closed, "settle: the client is closed"
        if self._pending:
            self._send(timeout_s)
        failed, self._failed = tuple(self._failed), []
        return Settled(failed, len(self._pending))

    def begin(self):
        """Begin a transaction."""
        self._world.step("begin")
        assert not self._begun, "a transaction is open"
        self._check()
        self._begun = True

    def commit(self, offsets, group, note, *, timeout_s):
        """Commit with positions; of a call that fails, perhaps."""
        try:
            self._commit({p: position(at, note) for p, at in offsets.items()}, group, timeout_s)
        except LogError as error:
            self._broken = self._broken or error.fault
            raise
        self._world.step("transaction ended")
        while self._cluster.identities[self._identity].transaction and not self._cluster.down:
            self._world.clock.advance(0.1)  # the coordinator takes the next one only when this one is written
        self._begun = False

    def _commit(self, positions, group, timeout_s):
        world, cluster = self._world, self._cluster
        assert self._begun, "commit without a transaction"
        trouble = cluster.trouble("commit")
        self._check()
        if trouble in {"fenced", "failed"}:
            raise LogError(trouble, "simulated: commit")
        self._ask("send positions", timeout_s)
        while self._pending:
            self._send(1.0)
            if self._failed:
                raise self._failed[0][1]
        if positions:
            cluster.add_offsets(self._identity, self._epoch, group, positions)
        self._ask("end transaction", timeout_s)
        if trouble == "lost":  # before it came to the broker
            world.clock.advance(timeout_s)
            raise LogError("unreachable", "simulated: the commit was lost")
        if trouble == "late":  # it lies in a buffer of the network, and comes after we have given up
            world.later(timeout_s + world.rng.choice([0.5, 5.0]), self._end_late)
            world.clock.advance(timeout_s)
            raise LogError("unreachable", "simulated: the commit is on its way")
        cluster.end(self._identity, self._epoch, commit=True, after_s=world.rng.choice([0.0, 0.0, 0.01, 3.0]))
        if trouble == "unanswered":
            world.clock.advance(timeout_s)
            raise LogError("unreachable", "simulated: the answer was lost")

    def _end_late(self):
        try:
            self._cluster.end(self._identity, self._epoch, commit=True)
        except LogError:
            self._world.log("a late commit was refused")

    def abort(self, *, timeout_s):
        """Abort the transaction."""
        self._ask("abort", timeout_s)
        assert self._begun, "abort without a transaction"
        self._check()
        self._cluster.end(self._identity, self._epoch, commit=False)
        self._begun = False
        self._pending = []

    def catch_up(self, partition, group, *, timeout_s):
        """Give a position, and abort."""
        self.begin()
        self._ask("send positions", timeout_s)
        self._cluster.add_offsets(self._identity, self._epoch, group, {partition: position(0, "")})
        self.abort(timeout_s=timeout_s)

    def close(self):
        """Close; returns what is not settled."""
        self._world.step("close writer")
        self._closed = True
        left = [pending.record for pending in self._pending] + [record for record, _ in self._failed]
        self._pending, self._failed = [], []
        return tuple(left)

    def _check(self):
        _handles_nothing("produce, begin or commit")
        if self._broken is not None:  # libraries say so in general: only records under way get the error of another one
            fault = "failed" if self._broken == "too_large" else self._broken
            raise LogError(fault, "the producer has failed before")

    def _send(self, timeout_s):
        """Send what waits; give up what has waited for too long."""
        world, cluster = self._world, self._cluster
        trouble = None if self._broken else cluster.trouble("produce")
        if trouble in {"failed", "fenced"}:
            self._give_up(LogError(trouble, "simulated: produce"))
            return
        if self._known_since != cluster.bounces and not cluster.down:
            # the broker has forgotten this producer; it finds out, or begins anew without anyone noticing
            self._known_since = cluster.bounces
            if self._identity or world.rng.random() < 0.5:
                self._give_up(LogError("fenced", "the broker does not know this producer"))
                return
        if self._broken:
            self._give_up(LogError(self._broken, "the producer has failed before"))
            return
        if not cluster.down and trouble != "nothing":
            some = len(self._pending) if world.rng.random() < 0.8 else world.rng.randrange(len(self._pending) + 1)
            for pending in self._pending[:some]:
                try:
                    self._write(pending)
                except LogError as error:
                    self._give_up(error)
                    return
            if trouble != "unanswered":
                del self._pending[:some]
        if self._pending:
            world.clock.advance(timeout_s)
            if world.clock.now - self._pending[0].since > self._delivery_s:
                self._give_up(LogError("unreachable", f"not delivered within {self._delivery_s:g} s"))

    def _write(self, pending):
        """Write a record; one that is sent again is known by its sequence number."""
        if pending.written:
            return
        transaction = self._cluster.transaction(self._identity, self._epoch) if self._identity else 0
        record = pending.record
        if too_large(record):  # the broker says so, where the library did not
            raise LogError("too_large", f"the record has {len(record.value)} bytes")
        logs = self._cluster.topics.get(record.topic)
        if logs is None:
            raise LogError("unknown_topic", f"topic {record.topic!r} does not exist")
        number = record.partition
        if number is None:
            number = zlib.crc32(record.key or b"") % len(logs)
        self._cluster.append(Partition(record.topic, number), record, transaction=transaction)
        pending.written = True

    def _give_up(self, error):
        self._broken = error.fault
        self._failed += [(pending.record, error) for pending in self._pending]
        self._pending = []


def too_large(record):
    """Tell whether brokers refuse a record for its size."""
    return len(record.value or b"") > MAX_BYTES


def _handles_nothing(what):
    if isinstance(error := sys.exc_info()[1], LogError):
        raise ViolationError(f"{what}, while {error!r} is being handled")
