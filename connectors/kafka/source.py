"""The records of a Kafka topic, as a source of chunks of events.

In: a topic, some or all of its partitions, a codec; with it may go a topic of labels. Out: chunks in one order over all
partitions of both (`connectors.kafka.merge`); of equal timestamps events come first.
Partitions are assigned, not shared out by a group: they belong to one model, whose checkpoint holds the
positions. What is committed under the group is for tools that show the lag, and for the transactions of
`connectors.kafka.transaction`; nothing is ever read back from it here.

What may happen, and what then:

    cluster unreachable, at the start      error after `start_wait_s`
    cluster unreachable, later             nothing is handed out until it is back (or `give_up_s` have passed)
    what decoding needs does not answer    likewise; the codec says how long
    topic missing, or deleted              error
    topic made again under the same name   error: it is another one, though its offsets may look right
    records after a position deleted       error, or `lost = "skip"`: counted, and on from what is there
    position behind the end                error: the topic has lost its end
    partitions added                       error, or `new_partitions = "accept"`: taken up at a checkpoint, or while
                                           nothing has come since
    a partition has records, gives none    after `stall_s` of asking for it the consumer is made anew, and that is
                                           counted (see `_count_vain`)
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from connectors.base import Codec
from connectors.errors import NotYetError, SourceError
from connectors.kafka import beginning
from connectors.kafka.client import Library, LogError, LogReader, Partition, answered, missing
from connectors.kafka.merge import ArrivalMerge, Merge, TimestampMerge
from connectors.kafka.positions import PositionTrail
from connectors.kafka.settings import KafkaReading
from connectors.records import Chunk, Record

_log = logging.getLogger(__name__)

_ASK_S = 0.5  # what a broker is given to answer while the loop waits for us
_COMMIT_S = 2.0  # likewise, for a commit: what has not been answered then comes with the next
_POLL_S, _POLLS = 0.1, 10
_SHORTEST_POLL_S = 0.001
_MOST_POLLED = 5_000
_MOST_HELD = 1_000_000  # records in a client: 16 MB, of 16 bytes each
_MOST_NOTED = 1_000  # waits that ended by the clock, in a checkpoint


@dataclass(frozen=True, slots=True)
class KafkaStatistics:
    """What a person wants to know of a source that runs.

    Attributes:
        lag_records: records in the topic that have not been handed out, when last looked.
        buffered: records read and not handed out.
        paused: partitions that are paused because enough of them is buffered.
        expired_waits: how often an idle partition was no longer waited for.
        stalls: how often the consumer was made anew.
        lost_records: offsets that were skipped because retention had deleted them.
        failed_commits: commits that did not succeed (the next one makes up for it).
        unreachable_s: for how long the cluster, or what decoding needs, has not answered; 0 = they answer.
    """

    lag_records: int
    buffered: int
    paused: int
    expired_waits: int
    stalls: int
    lost_records: int
    failed_commits: int
    unreachable_s: float


@dataclass(slots=True)
class _Due:
    """A partition that is behind its end: since it gave something, or was found so."""

    asked_s: float = 0.0
    others: int = 0  # records that came of other partitions


class KafkaSource:
    """A `Source` that reads a topic.

    Args:
        reading: what, from where, in which order.
        library: makes the client.
        codec: turns records into columns.
        commits: whether `commit` stores positions under the group; False if a transaction does.
        start_wait_s: how long a cluster that does not answer is waited for when this is opened.
        give_up_s: how long a cluster that is lost while reading is waited for; 0 = for ever.
        poll_s: about how long a poll waits for a record, at least 1 ms and at most 100; 0 = that.
        merge: makes what merges the partitions, which it is given in their order; None = as `reading.order` says.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        reading: KafkaReading,
        library: Library,
        codec: Codec,
        *,
        commits: bool = True,
        start_wait_s: float = 0.0,
        give_up_s: float = 0.0,
        poll_s: float = 0.0,
        merge: Callable[[Sequence[Partition]], Merge] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reading, self._library, self._codec = reading, library, codec
        self._commits, self._make_merge, self._clock = commits, merge, clock
        self._start_wait_s, self._give_up_s = start_wait_s, give_up_s
        self._poll_s = min(max(poll_s, _SHORTEST_POLL_S), _POLL_S) if poll_s else _POLL_S
        self.note = ""  # stored with the next commit
        self._reader: LogReader | None = None
        self._partitions: list[Partition] = []
        self._merge: Merge = ArrivalMerge(0)
        self._trail = PositionTrail(0, np.zeros(0, np.int64), 1)
        self._kept = 0  # number of the record before which the newest checkpoint stands
        self._topic_ids: dict[str, str] = {}
        self._read: dict[Partition, int] = {}  # offset after the last record read
        self._next: dict[Partition, int] = {}  # offset of the record read next: behind markers, too
        self._ends: dict[Partition, int] | None = None  # where to stop, if anywhere
        self._first_left = 0
        self._paused: set[Partition] = set()
        self._bytes_each: dict[Partition, float] = {}
        self._expired: list[tuple[int, int]] = []  # record number, place of the partition in the merged order
        self._expired_before = 0
        self._stalls = self._failed_commits = self._lag = 0
        self._lost_before = 0  # offsets that were skipped before this start
        self._skips: list[tuple[Partition, int, int]] = []  # those since: from where to where
        self._held_since: float | None = None
        self._looked = 0.0
        self._polled = 0.0  # when the last poll ended
        self._due: dict[Partition, _Due] = {}
        self._silent_since: float | None = None
        self._unknown_since: float | None = None  # since when all that comes are errors that we do not know
        self._taken: tuple[list[int], list[Record]] = ([], [])  # out of the merge, and not decoded yet
        self._undecoded_since: float | None = None

    def open(self, offset: int, state: Mapping[str, Any] | None) -> None:
        """Connect, find the positions to go on from, and begin to read."""
        reading = self._reading
        try:
            reader, positions = answered(lambda: self._begin(state), self._start_wait_s)
        except LogError as error:
            raise self._told(error) from error
        count = len(self._partitions)
        if self._make_merge is not None:
            self._merge = self._make_merge(self._partitions)
        else:
            self._merge = TimestampMerge(count) if reading.order == "timestamp" else ArrivalMerge(count)
        at = np.array([positions[partition] for partition in self._partitions], dtype=np.int64)
        self._trail = PositionTrail(offset, at, reading.most_uncommitted)
        self._kept = offset
        self._read, self._next = dict(positions), dict(positions)
        self._looked = self._polled = self._clock()
        reader.assign(positions)
        self._first_left = self._left()
        self._finish()

    def _begin(self, state: Mapping[str, Any] | None) -> tuple[LogReader, dict[Partition, int]]:
        """Connect, and find the positions to go on from; it may be called again after a LogError."""
        reading, positions = self._reading, dict[Partition, int]()
        try:
            self._reader = reader = self._library.reader(group=reading.group, committed_only=reading.committed_only)
            for one in reading.topics:
                there = beginning.partitions(reader, one)
                self._topic_ids[one.topic] = identity = reader.topic_id(one.topic)
                if state is None:
                    found = beginning.first(reader, one, there)
                else:
                    kept = state if one.topic == reading.topic else state.get("labels") or {}
                    found = beginning.resumed(reader, one, there, kept, identity)
                positions |= dict(sorted(found.items()))
            if state is None:
                self._codec.load({})
                self._lost_before = 0
            else:
                self._take_back(state)
            self._skips = []
            positions = self._checked(reader, positions)
            self._partitions = beginning.in_order(positions, reading, state)
            ends = [beginning.last(reader, one, self._of(one.topic)) for one in reading.topics]
            self._ends = {p: end for some in ends for p, end in (some or {}).items()} if ends[0] is not None else None
        except (LogError, SourceError):
            self.close()
            raise
        return reader, positions

    def poll(self, events: int) -> Chunk | None:
        """Return the next records in the merged order."""
        if not self._taken[1]:
            self._taken = self._take(events)
        self._attend()
        indices, records = self._taken[0][:events], self._taken[1][:events]
        start = self._trail.stop
        if not records and self._ends is not None and self._left() == 0:
            return None
        stop = start + len(records)
        try:
            chunk = self._codec.decode(records, np.arange(start, stop, dtype=np.int64), start=start, stop=stop)
        except NotYetError as error:
            self._await(error)
            return self._codec.decode([], np.zeros(0, np.int64), start=start, stop=start)
        if records:
            after = [0 if record.origin is None else record.origin.offset + 1 for record in records]
            self._trail.add(np.array(indices, dtype=np.uint16), np.array(after, dtype=np.int64))
            self._taken = self._taken[0][events:], self._taken[1][events:]
            self._undecoded_since = None
        return chunk

    def _take(self, events: int) -> tuple[list[int], list[Record]]:
        """Take the next records, and which partition each is of."""
        indices, records = self._merge.take(events)
        if len(records) < events:
            self._fill(0.0 if records else self._poll_s)
            more_indices, more = self._merge.take(events - len(records))
            indices, records = indices + more_indices, records + more
            # what came may not be next in order yet: what is will most often follow at once
            for _ in range(_POLLS):
                if records or self._silent_since is not None:
                    break
                self._throttle()
                self._fill(self._poll_s / _POLLS)
                indices, records = self._merge.take(events)
        if records:
            self._held_since = None
        return indices, records

    def _await(self, error: NotYetError) -> None:
        """Keep the connection alive while what decoding needs does not answer."""
        if self._undecoded_since is None:
            self._undecoded_since = self._clock()
            _log.warning("%s; waiting for it", error)
        self._fill(0.0)

    def state(self, offset: int) -> dict[str, Any]:
        """Return positions, and what has been counted, before record number `offset`."""
        positions = self._positions(offset)
        at = list(positions.items())
        events, *labels = [
            {
                "kind": "kafka",
                "topic": one.topic,
                "topic_id": self._topic_ids[one.topic],
                "positions": [[p.number, position] for p, position in at if p.topic == one.topic],
                "places": [place for place, (p, _) in enumerate(at) if p.topic == one.topic],
            }
            for one in self._reading.topics
        ]
        expired = [pair for pair in self._expired if pair[0] <= offset]
        return {
            **events,
            "labels": labels[0] if labels else None,
            "expired_waits": self._expired_before + len(expired),
            "expired": [[number, partition] for number, partition in expired[-_MOST_NOTED:]],
            # what is skipped behind these positions will be again, by who goes on from them
            "lost_records": self._lost(positions),
            "codec": self._codec.state(offset),
        }

    def commit(self, offset: int) -> None:
        """Forget positions before record `offset`; store them under the group; take up new partitions."""
        reader, self._kept = self._opened(), offset
        self._trail.forget(offset)
        if len(self._expired) > 2 * _MOST_NOTED:
            self._expired_before += len(self._expired) - _MOST_NOTED
            self._expired = self._expired[-_MOST_NOTED:]
        try:
            if self._commits:
                reader.commit(self._positions(offset), self.note, timeout_s=_COMMIT_S)
            self._take_up(reader)
        except LogError as error:
            if error.fault in {"refused", "configuration"}:
                raise self._told(error) from error
            # the checkpoint holds the positions; what is stored under the group only shows the lag
            self._failed_commits += 1
            _log.warning("positions of %s could not be committed: %s", self._reading.topic, error)

    @property
    def progress(self) -> float | None:
        """The share of the topic handed out, where it is read to its end."""
        if self._ends is None:
            return None
        return 1.0 - self._left() / self._first_left if self._first_left else 1.0

    def close(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            reader, self._reader = self._reader, None
            reader.close()

    @property
    def ends(self) -> dict[Partition, int] | None:
        """The offsets that the source stops before; None if it never stops."""
        return None if self._ends is None else dict(self._ends)

    @property
    def unreachable_s(self) -> float:
        """For how long the cluster, or what decoding needs, has not answered; 0 = they answer."""
        since = min((at for at in (self._silent_since, self._undecoded_since) if at is not None), default=None)
        return 0.0 if since is None else self._clock() - since

    @property
    def statistics(self) -> KafkaStatistics:
        """What a person wants to know."""
        return KafkaStatistics(
            lag_records=self._lag,
            buffered=self._buffered(),
            paused=len(self._paused),
            expired_waits=self._expired_before + len(self._expired),
            stalls=self._stalls,
            lost_records=self._lost(self._next),
            failed_commits=self._failed_commits,
            unreachable_s=self.unreachable_s,
        )

    def _positions(self, offset: int) -> dict[Partition, int]:
        """Return the positions before record number `offset`.

        Behind the last record that was read they lie behind markers too: those may be deleted, and nothing is missed.
        """
        at = zip(self._partitions, self._trail.at(offset).tolist(), strict=True)
        return {p: self._next[p] if position >= self._read[p] else position for p, position in at}

    def _checked(self, reader: LogReader, positions: Mapping[Partition, int]) -> dict[Partition, int]:
        """Compare positions with what is there, and note what is skipped."""
        checked = beginning.in_range(reader, self._reading, positions)
        self._skips += [(p, at, checked[p]) for p, at in positions.items() if at < checked[p]]
        return checked

    def _lost(self, positions: Mapping[Partition, int]) -> int:
        """Count the offsets that were skipped before these positions."""
        return self._lost_before + sum(to - at for p, at, to in self._skips if positions[p] > at)

    def _take_back(self, state: Mapping[str, Any]) -> None:
        """Take back what a checkpoint has counted."""
        self._expired = [(number, partition) for number, partition in state["expired"]]
        self._expired_before = state["expired_waits"] - len(self._expired)
        self._lost_before = state["lost_records"]
        self._codec.load(state["codec"])

    def _fill(self, timeout_s: float) -> None:
        """Read what has arrived into the merge."""
        reader, began = self._opened(), self._clock()
        failed, arrived = None, dict[Partition, list[Record]]()
        try:
            arrived = reader.poll(timeout_s, _MOST_POLLED)
        except LogError as error:
            failed = error.with_traceback(None)  # see `connectors.kafka.delivery.tried`
        if failed is not None:
            self._recover(failed)
            return
        for partition, records in arrived.items():
            index = self._partitions.index(partition)
            if self._ends is not None:
                end = self._ends[partition]
                records = [r for r in records if r.origin is not None and r.origin.offset < end]
            self._merge.add(index, records)
            if records:
                last = records[-1].origin
                assert last is not None
                self._read[partition] = last.offset + 1
                self._bytes_each[partition] = sum(len(r.value or b"") for r in records) / len(records)
        gave = set(arrived)
        for partition in self._partitions:
            reached = reader.position(partition)
            if self._ends is not None:
                reached = min(reached, self._ends[partition])
            if reached > self._next[partition]:
                self._next[partition] = reached
                gave.add(partition)
        if arrived:
            self._silent_since = self._unknown_since = None
        self._count_vain(began, gave, sum(map(len, arrived.values())))
        self._finish()

    def _count_vain(self, began: float, gave: Collection[Partition], records: int) -> None:
        """Note for how long each partition that is behind its end has been asked for since it gave something.

        A poll counts for a partition that could have given something: not one that is paused, or of which something is
        buffered, so that nobody waits for it. One that brings fewer records than it may has handed out all there was. After
        one that is filled more may lie in the client, which hands out what it has fetched in turn, and fetches for those
        first of which it has nothing: it counts once others have given more than a client holds. A poll counts from its
        beginning, or a moment before, since a client's requests are under way between polls too, but no longer: a loop that
        is slow has not asked.

        Args:
            began: when the poll did.
            gave: those of which records came, or whose position went on over markers.
            records: how many came.
        """
        now = self._clock()
        asked_s = now - max(began - _POLL_S, self._polled)
        self._polled = now
        # of one that gave something more is due if the next look says so
        self._due = {partition: due for partition, due in self._due.items() if partition not in gave}
        for partition, due in self._due.items():
            if partition in self._paused or self._merge.waiting(self._partitions.index(partition)):
                continue
            due.others += records
            if records < _MOST_POLLED or due.others > _MOST_HELD:
                due.asked_s += asked_s

    def _attend(self) -> None:
        """Pause and resume; end waits; look after the cluster."""
        self._throttle()
        now = self._clock()
        if self._merge.held_up_by():
            self._held_since = now if self._held_since is None else self._held_since
            if now - self._held_since >= self._reading.idle_wait_s:
                self._end_wait(now)
        if now - self._looked >= self._reading.look_s:
            self._look(now)

    def _throttle(self) -> None:
        """Pause partitions of which enough is buffered, and resume those of which little is."""
        reader, reading = self._opened(), self._reading
        for index, partition in enumerate(self._partitions):
            waiting = self._merge.waiting(index)
            size = waiting * self._bytes_each.get(partition, 0.0) / (reading.buffer_mb * 2**20)
            full = max(waiting / reading.buffer_records, size)
            if full >= 1.0 and partition not in self._paused:
                reader.pause([partition])
                self._paused.add(partition)
            elif full < 0.5 and partition in self._paused:
                reader.resume([partition])
                self._paused.discard(partition)

    def _end_wait(self, now: float) -> None:
        """Stop waiting for partitions that have nothing more, as their broker says at this moment."""
        reader = self._opened()
        held = [self._partitions[index] for index in self._merge.held_up_by()]
        self._held_since = now
        try:
            ends = reader.end(held, timeout_s=_ASK_S)
        except LogError as error:
            self._recover(error)
            return
        for partition in held:
            # not at its end: its records are on their way, and will come in their order
            if reader.position(partition) >= ends[partition]:
                number = self._trail.stop + len(self._taken[1])
                self._merge.pass_over(self._partitions.index(partition))
                self._expired.append((number, self._partitions.index(partition)))
                _log.info("%s is idle: record %d is handed out without it", partition, number)

    def _look(self, now: float) -> None:
        """Look up ends and partitions of the topic; make the consumer anew if a partition stalls.

        Only from the look on that finds a partition behind its end something is due from it: one that was idle before may
        have got its records this moment.
        """
        reader, reading = self._opened(), self._reading
        self._looked = now
        try:
            for one in reading.topics:
                there = beginning.partitions(reader, one, timeout_s=_ASK_S)
                if reading.new_partitions == "refuse":
                    beginning.added(reader, one, there, {partition.number for partition in self._of(one.topic)})
            if self._trail.stop == self._kept:  # as at a checkpoint: the next one may never come
                self._take_up(reader)
            ends = reader.end(self._partitions, timeout_s=_ASK_S)
        except LogError as error:
            self._recover(error)
            return
        self._silent_since = self._unknown_since = None
        behind = {p: max(ends[p] - reader.position(p), 0) for p in self._partitions}
        self._lag = sum(behind.values()) + self._buffered()
        self._due = {p: self._due.get(p, _Due()) for p, records in behind.items() if records}
        stalled = [p for p, due in self._due.items() if due.asked_s >= reading.stall_s]
        if stalled:
            for partition in stalled:
                _log.warning(
                    "%s: %d records are there, none came for %g s", partition, behind[partition], reading.stall_s
                )
            self._renew()

    def _renew(self) -> None:
        """Make the consumer anew, from where it is; the old one stays until there is another."""
        reading = self._reading
        try:
            fresh = self._library.reader(group=reading.group, committed_only=reading.committed_only)
        except LogError as error:
            self._recover(error)
            return
        self._stalls += 1
        self._opened().close()
        self._reader = fresh
        try:
            fresh.assign(self._next)
            if self._paused:
                fresh.pause(self._paused)
        except LogError as error:
            raise self._told(error) from error
        self._due = {}

    def _recover(self, error: LogError) -> None:
        """Decide what an error of the library means while records are read."""
        reader, now = self._opened(), self._clock()
        if error.fault in {"unreachable", "failed"}:
            if self._silent_since is None:
                self._silent_since = now
                _log.warning("Kafka does not answer (%s); waiting for it", error)
            if error.fault == "unreachable":
                self._unknown_since = None
            elif self._unknown_since is None:
                self._unknown_since = now
            elif now - self._unknown_since >= self._reading.stall_s:
                raise self._told(error) from error  # an answer that we do not know, again and again
            if 0 < self._give_up_s <= now - self._silent_since:
                raise SourceError(
                    f"Kafka has not answered for {now - self._silent_since:.0f} s (kafka.give_up_s); last: {error}"
                ) from error
            time.sleep(_POLL_S)  # a library that fails at once must not spin
            return
        if error.fault == "out_of_range":
            try:
                self._next = self._checked(reader, self._next)
            except LogError as again:
                self._recover(again)
                return
            reader.assign(self._next)
            if self._paused:
                reader.pause(self._paused)
            return
        raise self._told(error) from error

    def _take_up(self, reader: LogReader) -> None:
        """Take up partitions that were added, at a checkpoint, if that is the setting."""
        reading = self._reading
        if reading.new_partitions == "refuse" or self._ends is not None:
            return
        added = dict[Partition, int]()
        for one in reading.topics:
            there = beginning.partitions(reader, one, timeout_s=_ASK_S)
            added |= beginning.added(reader, one, there, {partition.number for partition in self._of(one.topic)})
        for partition, position in sorted(added.items()):
            _log.warning("%s is new; it is read from %d on", partition, position)
            self._partitions.append(partition)
            self._merge.grow()
            self._trail.grow(position)
            self._read[partition] = self._next[partition] = position
        if added:
            reader.assign(self._next)
            if self._paused:
                reader.pause(self._paused)

    def _buffered(self) -> int:
        return sum(map(self._merge.waiting, range(len(self._partitions)))) + len(self._taken[1])

    def _of(self, topic: str) -> list[Partition]:
        return [partition for partition in self._partitions if partition.topic == topic]

    def _finish(self) -> None:
        """Note which partitions have been read to where the run stops."""
        if self._ends is None:
            return
        reader = self._opened()
        for index, partition in enumerate(self._partitions):
            if reader.position(partition) >= self._ends[partition]:
                self._merge.finish(index)

    def _left(self) -> int:
        """Count the offsets up to where the run stops."""
        if self._ends is None:
            return 0
        at = dict(zip(self._partitions, self._trail.at(self._trail.stop).tolist(), strict=True))
        reader = self._opened()
        left = 0
        for index, partition in enumerate(self._partitions):
            end = self._ends[partition]
            if self._merge.waiting(index) or index in self._taken[0] or reader.position(partition) < end:
                left += max(end - at[partition], 1)
        return left

    def _opened(self) -> LogReader:
        if self._reader is None:
            raise SourceError(f"topic {self._reading.topic!r} is not open; call open() first")
        return self._reader

    def _told(self, error: LogError) -> SourceError:
        """Say what an error of the library means to the user."""
        remedy = {
            "unreachable": "Check kafka.bootstrap_servers and kafka.security, and whether the brokers run.",
            "refused": "Check kafka.user, its password and kafka.mechanism, and the user's rights.",
            "untrusted": "Check kafka.security and kafka.ca_file (kafka.certificate_file, if brokers ask for one), and that theirs names"
            " the host.",
            "configuration": "Correct the setting.",
        }.get(error.fault, "See the broker's log.")
        names = [one.topic for one in self._reading.topics]
        if error.fault == "unknown_topic":
            return SourceError(f"{missing(*names)} ({error})")
        return SourceError(f"cannot read topic {' and '.join(map(repr, names))}: {error}. {remedy}")
