"""Predictions, dead letters and positions in one Kafka transaction for each checkpoint: exactly once for readers.

In: what the sinks write, and at each checkpoint its id with the source's state. Out: readers of committed records see
each prediction once, and only those that belong to a checkpoint that is on disk. The positions are committed with it,
and their note names the checkpoint and who committed it.

How a loop uses it:

    transaction = Transaction(library, source_topic=..., group=..., identity=...)
    sinks = KafkaPredictions(transaction, ...), KafkaDeadLetters(transaction, ...)
    source = KafkaSource(..., commits=False)

    start:       named = transaction.last_checkpoint()    # fences whoever ran before, and settles what that one left
        open
                 named is None: nothing was ever committed. Start afresh if the folder holds no checkpoint, or only one
                     before the first event; otherwise stop: the group is mistyped, or its offsets have expired.
                 else: load exactly the checkpoint named so; stop if it is not there. Newer ones are set aside.
    checkpoint:  1. each sink's flush()   2. save checkpoint N with source.state(offset)
                 3. transaction.commit("N", source.state(offset))   4. source.commit(offset)
    between:     if transaction.due: take a checkpoint now (it is allowed at any event number)
    fenced:      FencedError out of write, flush or commit: another process owns the model; stop, and save nothing more

A crash between 2 and 3 leaves a checkpoint that nothing names; the restart goes on from the one before it, and the
aborted predictions are made again. So at least two checkpoints have to be kept.

**Which positions are the newest?** A coordinator that has just come up may tell older ones (Apache Kafka 4.1.1 did, of one
partition of four, twelve checkpoints back, though its log had the newest). So nothing is decided by what it tells before
it has taken something itself: `LogWriter.catch_up`.

**Zombie or bounced broker?** A producer that a successor fenced and one that the broker forgot while it was down get
the same error. So whoever begins commits the positions once more under its own name, and after such an error looks who
committed last: itself means that nobody took over, so it makes a new producer, gives it what was not committed again
(it is kept until then) and goes on; another name means that it has to stop. The look comes before the new producer,
since making one fences whoever has the same identity.
"""

import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from connectors.errors import SinkError
from connectors.kafka.client import Committed, Library, LogError, LogWriter, Outgoing, Partition, known_partitions
from connectors.kafka.delivery import (
    LOOK_UP_S,
    PERMANENT,
    RETRY_S,
    ROOM_S,
    SETTLE_S,
    STUCK_S,
    ChannelStatistics,
    Patience,
    attempt,
    check_there,
    connect,
    count_partitions,
    never,
    told,
    tried,
)

_log = logging.getLogger(__name__)

# for the first attempt, and at most: a library may lose one for good, and a worker that is silent for SILENT_S loses its turn
_COMMIT_S, _LONGEST_COMMIT_S = 8.0, 48.0
_FIND_S, _FIND_PAUSE_S = 30.0, 0.2
_LOOKS, _LOOK_PAUSE_S = 3, 0.5
_TAKE_OVERS = 4  # of one that does not give in


class FencedError(SinkError):
    """Another process has taken over this model's partitions: this one must stop, and save nothing more."""


class _OnceMoreError(FencedError):
    """The one that is being taken over has committed since, and nobody else."""


class Commits(Protocol):
    """What a loop needs of a transaction, whatever it is made of."""

    def last_checkpoint(self) -> str | None:
        """Take over, and return the id of the checkpoint that is committed; None if none ever was."""

    def commit(self, checkpoint: str, source_state: Mapping[str, Any]) -> None:
        """Make what was written since the last commit visible, with the source's positions and the checkpoint's id."""

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be taken now, before the transaction takes too long or grows too large."""


@dataclass(frozen=True, slots=True)
class _Note:
    """What stands beside committed positions."""

    checkpoint: str
    owner: str
    number: int  # commits of this owner before

    def text(self) -> str:
        return json.dumps({"checkpoint": self.checkpoint, "owner": self.owner, "number": self.number})


class Transaction:
    """A `Channel` and `Commits` over one transactional producer.

    Args:
        library: makes the clients.
        source_topic: whose positions are committed.
        group: under which they are.
        identity: the transactional id: the same for every process that may run this model, and for no other.
        timeout_s: how long the broker lets a transaction stay open; at most its transaction.max.timeout.ms (15
            minutes).
        in_flight: records under way at most; beyond, `write` waits.
        most_records: records kept until the commit; a checkpoint is due there, and four times as many are refused.
        start_wait_s, give_up_s, stopping, clock: as for `Delivery`.
    """

    def __init__(
        self,
        library: Library,
        *,
        source_topic: str,
        group: str,
        identity: str,
        timeout_s: float = 300.0,
        in_flight: int = 10_000,
        most_records: int = 250_000,
        start_wait_s: float = 0.0,
        give_up_s: float = 0.0,
        stopping: Callable[[], bool] = never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library, self._topic, self._group, self._identity = library, source_topic, group, identity
        self._timeout_s, self._in_flight, self._most = timeout_s, in_flight, most_records
        self._start_wait_s, self._give_up_s, self._stopping, self._clock = start_wait_s, give_up_s, stopping, clock
        self._owner = secrets.token_hex(8)
        self._writer: LogWriter | None = None
        self._records: list[Outgoing] = []  # written since the last commit
        self._sent = 0  # how many of them the current producer has been given
        self._began: float | None = None  # when the open transaction began
        self._before: set[_Note] = set()  # what stood there when this one took over; gone with its first commit
        self._commits = 0
        self.opened_ms = 0
        self.fenced = False
        self._waits = self._repeats = self._full = 0
        self.recoveries = 0  # producers made anew
        self.truncated = 0  # records too large, of which a smaller form was written

    @property
    def statistics(self) -> ChannelStatistics:
        """What a person wants to know."""
        return ChannelStatistics(
            in_flight=0 if self._writer is None else self._writer.in_flight,
            waits=self._waits,
            repeats=self._repeats,
            recoveries=self.recoveries,
            truncated=self.truncated,
            full=self._full,
        )

    def last_checkpoint(self) -> str | None:
        """Take over, and return the id of the checkpoint that is committed.

        A process that is being taken over may believe for a moment that the broker has only forgotten it, and commit
        once more; then this one takes over again, from there.

        Raises:
            SinkError: the cluster cannot be reached; or partitions name different checkpoints, since somebody set
                positions by hand.
        """
        for _ in range(_TAKE_OVERS):
            try:
                return self._take_over()
            except _OnceMoreError:
                _log.warning("whoever ran %r before has committed once more; taking over again", self._identity)
                self.fenced = False
        return self._take_over()

    def _take_over(self) -> str | None:
        self.open()
        found = self._newest()
        notes = set(map(_note, found.values()))
        if not found:
            return None
        if None in notes or len({note.checkpoint for note in notes if note is not None}) != 1:
            listed = {partition.number: committed.note for partition, committed in sorted(found.items())}
            raise SinkError(
                f"what group {self._group!r} has committed for {self._topic!r} does not name one checkpoint: {listed}. "
                "Somebody has set positions by hand, or another program uses the group. Use a group of its own."
            )
        checkpoint = next(note.checkpoint for note in notes if note is not None)
        self._commit(checkpoint, {partition: committed.offset for partition, committed in found.items()})
        return checkpoint

    def _newest(self) -> dict[Partition, Committed]:
        """Return what is committed: older positions, committed again, would make repeats."""
        self._before = set()
        found: dict[Partition, Committed] | None = None
        while True:
            before, found = found, self._found()
            self._before |= {note for note in map(_note, found.values()) if note is not None}
            if found == before:
                return found
            patience = self._patience()
            failed = tried(self._catch_up)  # and look again: the coordinator may have gone and come up meanwhile
            if failed is not None:
                if failed.fault in PERMANENT:
                    raise told(failed, f"cannot read what group {self._group!r} has committed") from failed
                patience.wait(failed)
                self._recover(failed, patience)

    def _catch_up(self) -> None:
        """Have the coordinator tell the newest positions from now on."""
        self._opened().catch_up(Partition(self._topic, 0), self._group, timeout_s=_COMMIT_S)

    def open(self) -> None:
        """Connect and fence whoever ran before, if that has not been done."""
        self.opened_ms = self.opened_ms or time.time_ns() // 1_000_000
        if self._writer is None and not self.fenced:
            self._writer = connect(self._make, self._start_wait_s)

    def follow(self, before_ms: int) -> None:
        """Count this process as later than the one before."""
        self.opened_ms = max(self.opened_ms, before_ms + 1)

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return count_partitions(self._opened(), topic, self._start_wait_s)

    def write(self, record: Outgoing) -> None:
        """Take a record into the transaction."""
        self._opened()
        if len(self._records) >= 4 * self._most:
            raise SinkError(
                f"{len(self._records)} records wait for a checkpoint, four times as many as one is due at"
                f" (kafka.uncommitted_records, {self._most}); raise that, or make mode.chunk or mode.batch smaller"
            )
        patience = self._patience()
        if self._opened().in_flight >= self._in_flight:
            self._waits += 1
            while self._opened().in_flight >= self._in_flight:
                self._settle(patience, ROOM_S)
        self._records.append(record)
        try:
            self._send(patience)
        except SinkError:
            if self._sent < len(self._records):
                self._records.pop()  # it has not been taken
            raise

    def flush(self) -> None:
        """Return when everything written is acknowledged. It is visible only after `commit`."""
        patience = self._patience()
        while self._opened().in_flight or self._sent < len(self._records):
            self._send(patience)
            self._settle(patience)

    def commit(self, checkpoint: str, source_state: Mapping[str, Any]) -> None:
        """Commit what was written, the positions in a source's state, and the checkpoint's id.

        Raises:
            FencedError: another process has taken over.
            SinkError: the cluster does not answer. It may be tried again with the same id.
        """
        positions = {
            Partition(topic["topic"], number): at
            for topic in (source_state, source_state.get("labels"))
            if topic
            for number, at in topic["positions"]
        }
        self._commit(checkpoint, positions)

    @property
    def due(self) -> bool:
        """Whether a checkpoint should be taken now."""
        long = self._began is not None and self._clock() - self._began >= self._timeout_s / 2
        return long or len(self._records) >= self._most

    def close(self) -> None:
        """Abort what is not committed, and disconnect."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            if self._began is not None:
                writer.abort(timeout_s=5.0)
        except LogError as error:
            _log.info("the open transaction was not aborted (%s); the next start, or its time-out, does it", error)
        finally:
            self._began = None
            writer.close()

    def _commit(self, checkpoint: str, positions: Mapping[Partition, int]) -> None:
        patience, limit_s = self._patience(), _COMMIT_S
        while True:
            self.flush()
            failed = tried(partial(self._commit_once, checkpoint, positions, limit_s))
            if failed is None:
                break
            if failed.fault in PERMANENT:
                raise told(failed, f"checkpoint {checkpoint} cannot be committed") from failed
            patience.wait(failed)
            limit_s = min(2 * limit_s, _LONGEST_COMMIT_S)  # it may be the broker that is slow
            if self._recover(failed, patience) == self._commits:
                break  # it was committed; only the answer was lost
        self._full += len(self._records) >= self._most
        self._records, self._sent, self._began = [], 0, None
        self._commits += 1
        self._before = set()

    def _commit_once(self, checkpoint: str, positions: Mapping[Partition, int], limit_s: float) -> None:
        self._begin()
        note = _Note(checkpoint, self._owner, self._commits).text()
        self._opened().commit(positions, self._group, note, timeout_s=limit_s)

    def _begin(self) -> None:
        """Begin a transaction if none is open."""
        if self._began is None:
            self._opened().begin()
            self._began = self._clock()

    def _send(self, patience: Patience) -> None:
        """Give the producer what it has not been given yet; replace one that takes nothing for long."""
        refused_since: float | None = None
        while self._sent < len(self._records):
            writer, record, failed = self._opened(), self._records[self._sent], None
            try:
                self._begin()
                writer.produce(record)
            except LogError as error:
                failed = error.with_traceback(None)  # as `tried` does, which takes longer
            if failed is None:
                self._sent += 1
                refused_since = None
            elif failed.fault == "too_large":
                self._shrink(self._sent, failed)
            elif failed.fault in PERMANENT:
                raise told(failed, f"a record for topic {record.topic!r} cannot be written") from failed
            elif failed.fault == "unreachable":
                refused_since = self._clock() if refused_since is None else refused_since
                patience.wait(failed)
                if self._clock() - refused_since >= STUCK_S:  # it may be one that has failed, and says only this
                    self._recover(failed, patience)
                    refused_since = None
            else:
                self._recover(failed, patience)

    def _settle(self, patience: Patience, pause_s: float = 0.0) -> None:
        """Wait a moment for acknowledgements, of all or (with a pause) of some; begin again if something failed."""
        settled = self._opened().settle(0.0 if pause_s else SETTLE_S)
        if settled.failed:
            self._recover(settled.failed[0][1], patience)
        elif patience.stuck(settled.waiting, STUCK_S):
            self._recover(LogError("unreachable", f"{settled.waiting} records are stuck under way"), patience)
        elif settled.waiting:
            patience.wait(LogError("unreachable", f"{settled.waiting} records are under way"), pause_s=pause_s)

    def _recover(self, error: LogError, patience: Patience) -> int | None:
        """Make a new producer unless another process has taken over; returns the number of our last commit."""
        if error.fault in PERMANENT and error.fault != "too_large":
            raise told(error, "the transaction cannot go on")
        _log.warning("the transaction of %r begins again: %s", self._identity, error)
        while True:
            failed, last = None, None
            try:
                self._check_owner(settled=False)
                if self._writer is not None:
                    self._writer.close()
                    self._writer = None
                self._repeats += self._sent
                self._began, self._sent = None, 0  # the new one has no transaction yet: there is none to abort
                self._writer = self._make(RETRY_S)
                check_there(self._writer, self._records)
                last = self._last_commit()
            except LogError as again:
                failed = again.with_traceback(None)
            if failed is None:
                break
            if failed.fault in PERMANENT:
                raise told(failed, "the transaction cannot go on") from failed
            patience.wait(failed)
        self.recoveries += 1
        if error.fault == "too_large":
            self._one_by_one()
        return last

    def _last_commit(self) -> int | None:
        """Return the number of our last commit, as a coordinator tells it that is believed; None if the last is not ours."""
        last = None
        for _ in range(2):  # the coordinator may go and come up between the two
            self._catch_up()
            last = self._check_owner(settled=True)
            if last == self._commits:
                break
        return last

    def _found(self) -> dict[Partition, Committed]:
        """Return what is committed; a coordinator that moves, or comes back with its broker, is waited for."""
        deadline = self._clock() + max(self._start_wait_s, _FIND_S)
        while True:
            try:
                return self._committed(settled=True)
            except LogError as error:
                failed = error.with_traceback(None)
            if failed.fault in PERMANENT or self._stopping() or self._clock() >= deadline:
                raise told(failed, f"cannot read what group {self._group!r} has committed") from failed
            _log.info("what group %r has committed cannot be read yet: %s", self._group, failed)
            time.sleep(_FIND_PAUSE_S)

    def _check_owner(self, *, settled: bool) -> int | None:
        """Return the number of our last commit; None if the last one is not ours.

        Raises:
            FencedError: somebody else committed it.
        """
        for look in range(_LOOKS):
            committed = self._committed(settled=settled, wait_s=RETRY_S)
            notes = [note for note in map(_note, committed.values()) if note is not None]
            others = {note for note in notes if note.owner != self._owner} - self._before
            if not others:
                return max((note.number for note in notes if note.owner == self._owner), default=None)
            if look + 1 < _LOOKS:  # a coordinator that has just come up may tell of one long gone
                time.sleep(_LOOK_PAUSE_S)
        self.fenced = True
        self.close()
        before = {note.owner for note in self._before}
        raise (_OnceMoreError if {note.owner for note in others} <= before else FencedError)(
            f"another process has taken over {self._topic!r} under group {self._group!r} (transactional id "
            f"{self._identity!r}): it has committed since. This one stops, and its uncommitted work is the other's."
        )

    def _committed(self, *, settled: bool, wait_s: float | None = None) -> dict[Partition, Committed]:
        """Return what the group has committed for the source's topic.

        Args:
            settled: wait for transactions that are being ended; otherwise look at what stands now.
            wait_s: how long the cluster is waited for; None = as at the start.
        """
        reader = self._library.reader(group=self._group, committed_only=settled, wait_s=wait_s)
        try:
            numbers = known_partitions(lambda: reader.partitions(self._topic, timeout_s=LOOK_UP_S))
            if not numbers:  # nothing committed would be another answer
                raise LogError(
                    "unknown_topic", f"topic {self._topic!r} does not exist, or may not be seen by this user"
                )
            return reader.committed([Partition(self._topic, number) for number in numbers], timeout_s=LOOK_UP_S)
        finally:
            reader.close()

    def _one_by_one(self) -> None:
        """Find the record that is too large, and take its smaller form; everything is given again after that."""
        writer = self._opened()
        writer.begin()
        self._began = self._clock()
        for at, record in enumerate(self._records):
            failed = attempt(writer, record)
            if failed is None:
                self._sent = at + 1
            elif failed.fault == "too_large":
                self._shrink(at, failed)
                return
            else:
                return

    def _shrink(self, at: int, error: LogError) -> None:
        record = self._records[at]
        if record.smaller is None:
            raise told(error, f"a record for topic {record.topic!r} cannot be written")
        self._records[at] = record.smaller
        self.truncated += 1

    def _make(self, wait_s: float | None = None) -> LogWriter:
        try:
            return self._library.writer(
                transactional_id=self._identity, transaction_timeout_s=self._timeout_s, wait_s=wait_s
            )
        except LogError as error:
            if error.fault != "too_long":
                raise
            raise LogError(
                "configuration",
                f"kafka.transaction_timeout_s is {self._timeout_s:g}, and the brokers allow less; make it smaller, or raise"
                f" their transaction.max.timeout.ms, 15 minutes where nobody has set it ({error})",
            ) from error

    def _patience(self) -> Patience:
        return Patience(self._give_up_s, self._stopping, self._clock)

    def _opened(self) -> LogWriter:
        if self.fenced:
            raise FencedError(f"another process has taken over {self._topic!r} under group {self._group!r}")
        if self._writer is None:
            raise SinkError("the transaction is not open; call last_checkpoint() first")
        return self._writer


def _note(committed: Committed) -> _Note | None:
    """Read what stands beside committed positions; None if it is not ours."""
    try:
        found = json.loads(committed.note)
        return _Note(str(found["checkpoint"]), str(found["owner"]), int(found["number"]))
    except (ValueError, TypeError, KeyError):
        return None
