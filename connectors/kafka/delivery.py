"""Records on their way into topics, at least once: what a sink gives is delivered, whatever the cluster does meanwhile.

In: records. Out: `flush` returns when every one of them is acknowledged by all replicas in sync. The library's producer
is idempotent, so what it repeats by itself counts once; what is given to it again after it gave a record up (20 s
without the broker) may be there twice, and readers drop repeats by the position in the headers. Where that is not good
enough there is `connectors.kafka.transaction`.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from connectors.errors import SinkError
from connectors.kafka.client import (
    Fault,
    Library,
    LogError,
    LogWriter,
    Outgoing,
    answered,
    known_partitions,
    missing,
)

_log = logging.getLogger(__name__)

SETTLE_S = 0.5  # how long a wait lasts before `stopping` is asked again
ROOM_S = 0.002  # between two looks whether some of too many records are acknowledged: waiting for all takes longer
GRACE_S = 10.0  # how long a process that is to stop still waits for acknowledgements
LOOK_UP_S = 10.0
RETRY_S = 4.0  # how long one attempt to connect again takes
STUCK_S = 25.0  # without an acknowledgement, or a failure, a producer hangs: longer than the libraries' own time-outs
REST_S = 5.0  # how long the other records of a producer that has failed one are waited for
PERMANENT: tuple[Fault, ...] = ("refused", "unknown_topic", "untrusted", "configuration", "too_large")


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """What a person wants to know of a channel; what is counted is that of this process.

    Attributes:
        in_flight: records under way.
        waits: records that had to wait: as many as allowed were under way, or a producer had to be made anew.
        repeats: records given to the library again.
        recoveries: producers made anew.
        truncated: records too large for their topic, of which a smaller form was written.
        full: commits that were due because as many records as allowed were written.
    """

    in_flight: int
    waits: int
    repeats: int
    recoveries: int
    truncated: int
    full: int


class Channel(Protocol):
    """What the sinks write to. Several sinks may share one."""

    @property
    def statistics(self) -> ChannelStatistics:
        """What a person wants to know."""

    @property
    def opened_ms(self) -> int:
        """When `open` was first called, milliseconds since 1970, or later: it tells a process from those before."""

    def follow(self, before_ms: int) -> None:
        """Have `opened_ms` be later than that of the process before, whatever the clock says. Called once open."""

    def open(self) -> None:
        """Connect, if that has not been done. May be called by every sink.

        Raises:
            SinkError: the cluster cannot be reached, or refuses.
        """

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has.

        Raises:
            SinkError: it does not exist.
        """

    def write(self, record: Outgoing) -> None:
        """Take a record; wait while too many are under way.

        Raises:
            SinkError: it cannot be taken; it may be given again.
        """

    def flush(self) -> None:
        """Return when everything taken is acknowledged.

        Raises:
            SinkError: something is not. It may be tried again.
        """

    def close(self) -> None:
        """Disconnect. May be called twice."""


def never() -> bool:
    """Say that nobody wants to stop."""
    return False


class Patience:
    """How long one call waits for a cluster that does not answer.

    Args:
        give_up_s: the most; 0 = for ever.
        stopping: asked between waits; True ends the wait, since the process is to stop.
        clock: monotonic seconds.
    """

    def __init__(self, give_up_s: float, stopping: Callable[[], bool], clock: Callable[[], float]) -> None:
        self._give_up_s, self._stopping, self._clock = give_up_s, stopping, clock
        self._began: float | None = None  # the first wait
        self._waiting, self._moved = -1, 0.0
        self._told = False

    def stuck(self, waiting: int, limit_s: float) -> bool:
        """Say whether the number of records under way has stayed the same for so long."""
        if waiting != self._waiting:
            self._waiting, self._moved = waiting, self._clock()
        return waiting > 0 and self._clock() - self._moved >= limit_s

    def wait(self, error: LogError, *, pause_s: float = 0.1) -> None:
        """Wait a little because of an error.

        Raises:
            SinkError: there is no more patience.
        """
        now = self._clock()
        self._began = now if self._began is None else self._began
        waited_s = now - self._began
        if self._stopping() and waited_s >= GRACE_S:
            raise told(error, "the process is to stop, and what is under way is not acknowledged")
        if 0 < self._give_up_s <= waited_s:
            raise told(error, f"not acknowledged for {waited_s:.0f} s (kafka.give_up_s)")
        if not self._told and waited_s >= 1.0:
            self._told = True
            _log.warning("Kafka does not take what is written (%s); waiting for it", error)
        time.sleep(pause_s)


class Delivery:
    """A `Channel` that delivers at least once.

    Args:
        library: makes the client.
        in_flight: records under way at most; beyond, `write` waits.
        start_wait_s: how long a cluster that does not answer is waited for when this is opened.
        give_up_s: how long it is waited for later; 0 = for ever.
        stopping: True once the process is to stop: then acknowledgements are waited for a few seconds only.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        library: Library,
        *,
        in_flight: int = 10_000,
        start_wait_s: float = 0.0,
        give_up_s: float = 0.0,
        stopping: Callable[[], bool] = never,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._library, self._most, self._start_wait_s = library, in_flight, start_wait_s
        self._give_up_s, self._stopping, self._clock = give_up_s, stopping, clock
        self._writer: LogWriter | None = None
        self._failed: list[Outgoing] = []  # given up by the library, and to be given to it again
        self._careful = False  # one record was too large: find out which
        self.opened_ms = 0
        self._waits = self._recoveries = 0
        self.repeats = 0  # records given to the library again
        self.truncated = 0  # records too large, of which a smaller form was written

    @property
    def statistics(self) -> ChannelStatistics:
        """What a person wants to know."""
        return ChannelStatistics(
            in_flight=0 if self._writer is None else self._writer.in_flight,
            waits=self._waits,
            repeats=self.repeats,
            recoveries=self._recoveries,
            truncated=self.truncated,
            full=0,
        )

    def open(self) -> None:
        """Connect."""
        self.opened_ms = self.opened_ms or time.time_ns() // 1_000_000
        if self._writer is None:
            self._writer = connect(
                lambda: self._library.writer(transactional_id="", transaction_timeout_s=60.0), self._start_wait_s
            )

    def follow(self, before_ms: int) -> None:
        """Count this process as later than the one before."""
        self.opened_ms = max(self.opened_ms, before_ms + 1)

    def partitions(self, topic: str) -> int:
        """Return how many partitions a topic has."""
        return count_partitions(self._opened(), topic, self._start_wait_s)

    def write(self, record: Outgoing) -> None:
        """Take a record."""
        writer = self._writer
        if writer is not None and not self._failed and writer.in_flight < self._most:
            try:
                writer.produce(record)
            except LogError as error:  # told again below
                _log.debug("a record was not taken at once: %s", error)
            else:
                return
        patience = self._patience()
        if self._failed or self._opened().in_flight >= self._most:
            self._waits += 1
            while self._failed or self._opened().in_flight >= self._most:
                self._settle(patience, ROOM_S)
        self._produce(record, patience)

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        patience = self._patience()
        while self._failed or self._opened().in_flight:
            self._settle(patience)

    def close(self) -> None:
        """Disconnect."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            lost = len(writer.close()) + len(self._failed)
            if lost:
                _log.warning("%d records were not acknowledged when the channel was closed", lost)

    def _patience(self) -> Patience:
        return Patience(self._give_up_s, self._stopping, self._clock)

    def _produce(self, record: Outgoing, patience: Patience) -> None:
        refused_since = self._clock()
        while (failed := tried(partial(self._opened().produce, record))) is not None:
            if failed.fault == "too_large" and record.smaller is not None:
                record = record.smaller
                self.truncated += 1
                continue
            if failed.fault in PERMANENT:
                raise told(failed, f"a record for topic {record.topic!r} cannot be written") from failed
            patience.wait(failed)
            if failed.fault != "unreachable":  # this producer is of no more use
                self._settle(patience)
                self._repeat(patience)
            elif self._clock() - refused_since >= STUCK_S:
                check_there(self._opened(), [record])
                refused_since = self._clock()

    def _settle(self, patience: Patience, pause_s: float = 0.0) -> None:
        """Wait a moment for acknowledgements, of all or (with a pause) of some; give what failed to a new producer."""
        if self._writer is None and self._failed:  # the last attempt to make one was given up
            self._repeat(patience)
            return
        writer = self._opened()
        settled = writer.settle(0.0 if pause_s else SETTLE_S)
        failed = list(settled.failed)
        if not failed and not self._failed and not patience.stuck(settled.waiting, STUCK_S):
            if settled.waiting:
                patience.wait(LogError("unreachable", f"{settled.waiting} records are under way"), pause_s=pause_s)
            return
        deadline = self._clock() + REST_S
        while failed and settled.waiting and self._clock() < deadline:  # most end in the same way soon
            settled = writer.settle(SETTLE_S)
            failed += settled.failed
        self._failed += [record for record, _ in failed]
        faults = {error.fault: error for _, error in failed}
        self._careful = self._careful or "too_large" in faults
        for fault in (set(PERMANENT) - {"too_large"}) & set(faults):
            names = " and ".join(sorted({repr(record.topic) for record in self._failed}))
            raise told(faults[fault], f"{len(self._failed)} records for topic {names} cannot be delivered")
        self._repeat(patience)

    def _repeat(self, patience: Patience) -> None:
        """Give what was given up to a new producer; the old one may fail everything from now on."""
        if self._writer is not None:
            known = set(map(id, self._failed))
            self._failed += [record for record in self._writer.close() if id(record) not in known]
            self._writer = None
        while (failed := tried(self._renew)) is not None:
            if failed.fault in PERMANENT:
                raise told(failed, "the producer cannot be made anew") from failed
            patience.wait(failed)
        self._recoveries += 1
        check_there(self._opened(), self._failed)
        again, self._failed = self._failed, []
        self.repeats += len(again)
        if self._careful:
            self._one_by_one(again)
            return
        for at, record in enumerate(again):
            failed = tried(partial(self._opened().produce, record))
            if failed is not None:
                self._failed = [*again[at:], *self._failed]
                patience.wait(failed)
                return

    def _renew(self) -> None:
        self._writer = self._library.writer(transactional_id="", transaction_timeout_s=60.0, wait_s=RETRY_S)

    def _one_by_one(self, again: Sequence[Outgoing]) -> None:
        """Find the records that are too large; write the smaller form where there is one."""
        for at, record in enumerate(again):
            settled = attempt(self._opened(), record)
            if settled is None:
                continue
            self._failed = list(again[at:])
            if settled.fault != "too_large":
                return
            if record.smaller is None:
                raise told(settled, f"a record for topic {record.topic!r} cannot be written")
            self._failed[0] = record.smaller
            self.truncated += 1
            return
        self._careful = False

    def _opened(self) -> LogWriter:
        if self._writer is None:
            raise SinkError("the channel to Kafka is not open; call open() (sinks do so in truncate())")
        return self._writer


def attempt(writer: LogWriter, record: Outgoing) -> LogError | None:
    """Write one record and wait for it; returns why it failed."""
    try:
        writer.produce(record)
        for _ in range(int(STUCK_S / SETTLE_S)):
            settled = writer.settle(SETTLE_S)
            if settled.failed or not settled.waiting:
                return settled.failed[0][1] if settled.failed else None
    except LogError as error:
        return error
    return LogError("unreachable", "a record is stuck under way")


def tried(call: Callable[[], object]) -> LogError | None:
    """Call, and return what fails, without the frames it came through: then nothing is asked while it is being handled.

    What is being handled when confluent-kafka (2.16) raises, it never lets go of, and so of nothing that its frames hold: a
    producer, with threads and sockets.
    """
    try:
        call()
    except LogError as error:
        return error.with_traceback(None)
    return None


def connect(make: Callable[[], LogWriter], wait_s: float) -> LogWriter:
    """Make a writer at the start.

    Raises:
        SinkError: it does not come about.
    """
    try:
        return answered(make, wait_s)
    except LogError as error:
        raise told(error, "cannot write to Kafka") from error


def count_partitions(writer: LogWriter, topic: str, wait_s: float) -> int:
    """Return how many partitions a topic has.

    Raises:
        SinkError: it does not exist, or nobody answers.
    """
    try:
        found = answered(lambda: known_partitions(lambda: writer.partitions(topic, timeout_s=LOOK_UP_S)), wait_s)
    except LogError as error:
        raise told(error, f"cannot look up topic {topic!r}") from error
    if not found:
        raise SinkError(missing(topic))
    return len(found)


def check_there(writer: LogWriter, records: Sequence[Outgoing]) -> None:
    """Check that the topics of records that were not taken exist: libraries wait for a deleted one as for a broker.

    Raises:
        SinkError: one of them does not.
    """
    try:
        for topic in sorted({record.topic for record in records}):
            if not known_partitions(partial(writer.partitions, topic, timeout_s=LOOK_UP_S)):
                raise told(LogError("unknown_topic", "it is not there any more"), f"topic {topic!r} takes no records")
    except LogError as error:  # nobody answers: the broker is waited for
        _log.debug("topics could not be looked up: %s", error)


def told(error: LogError, what: str) -> SinkError:
    """Say what an error of the library means to the user."""
    remedy = {
        "unreachable": "Check kafka.bootstrap_servers and kafka.security, and whether the brokers run.",
        "unknown_topic": "Make the topic, or correct its name.",
        "refused": "Check kafka.user, its password and kafka.mechanism, and the user's rights.",
        "untrusted": "Check kafka.security and kafka.ca_file (kafka.certificate_file, if brokers ask for one), and that theirs names"
        " the host.",
        "configuration": "Correct the setting.",
        "too_large": "Raise max.message.bytes of the topic, and in [kafka.producer] max_request_size (confluent-kafka:"
        " message.max.bytes).",
    }.get(error.fault, "See the broker's log.")
    return SinkError(f"{what}: {error}. {remedy}")
