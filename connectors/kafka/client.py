"""What is asked of a Kafka library: the small interface that both libraries are put behind.

Everything above this line speaks of partitions, records and `LogError`; only files named python_*
import kafka-python, and only those named fast_* confluent-kafka. Both pass one battery of tests on a real broker.

Offsets count as in Kafka: a position is the offset of the record read next. A commit stores positions under a
group, each with a note (a short text).
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar

from connectors.errors import ConnectorError
from connectors.records import Record

_log = logging.getLogger(__name__)

T = TypeVar("T")
Fault = Literal[
    "unreachable",  # no broker answers (now)
    "unknown_topic",  # the topic or partition does not exist
    "out_of_range",  # the position lies before the first or behind the last record
    "refused",  # wrong user or password, or no right to do this
    "untrusted",  # the certificate is not trusted, or TLS does not come about
    "fenced",  # another producer took over, or the broker has forgotten this one
    "too_large",  # the record is larger than the broker or the library takes
    "too_long",  # the brokers let no transaction stay open for so long
    "configuration",  # a setting that the library does not take
    "failed",  # anything else
]


class LogError(ConnectorError):
    """Something at the cluster's side went wrong.

    Attributes:
        fault: what kind of thing.
    """

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of a topic."""

    topic: str
    number: int


@dataclass(frozen=True, slots=True)
class Committed:
    """A committed position and its note."""

    offset: int
    note: str


class Outgoing(NamedTuple):
    """A record to be written: a tuple, because a frozen dataclass takes three times as long to make.

    Attributes:
        partition: None = the key decides, as Java's client does it.
        timestamp_ms: None = now.
        smaller: what is written instead if the cluster says that this is too large.
    """

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    partition: int | None = None
    timestamp_ms: int | None = None
    smaller: "Outgoing | None" = None


@dataclass(frozen=True, slots=True)
class Settled:
    """What has become of records given to a writer.

    Attributes:
        failed: those that were not delivered, with the reason, since the last time.
        waiting: how many are still under way.
    """

    failed: tuple[tuple[Outgoing, LogError], ...]
    waiting: int


SESSION_S = 6.0  # without a heartbeat for so long a member is out; brokers take no less
HEARTBEAT_S = 1.0
DOUBT_S = 10.0  # how long what a library says and we do not know is taken for something that passes
SILENT_S = 60.0  # without a `poll` for so long too: the process hangs


def answered(ask: Callable[[], T], wait_s: float) -> T:
    """Ask again while the cluster does not answer: one that is starting answers some questions long before others.

    Args:
        ask: raises LogError("unreachable") where nobody answers in time, "failed" where the answer is not understood.
        wait_s: it is not asked again once so long has passed since the first time; after an answer that is not
            understood, once `DOUBT_S` has.
    """
    began = time.monotonic()
    while True:
        try:
            return ask()
        except LogError as error:
            patience_s = {"unreachable": wait_s, "failed": min(wait_s, DOUBT_S)}.get(error.fault, 0.0)
            if time.monotonic() - began >= patience_s:
                raise
            _log.debug("asked again: %s", error)
        time.sleep(0.2)


def known_partitions(look_up: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """Look up a topic several times before believing that it does not exist: brokers learn late of a new one."""
    for _ in range(5):
        found = look_up()
        if found:
            return found
        time.sleep(0.2)
    return ()


def missing(*topics: str) -> str:
    """Say of topics, of which one is not there, what the user can do."""
    names = " or ".join(map(repr, topics))
    return (
        f"topic {names} does not exist in the cluster (or may not be seen by this user); make it, or correct its name"
    )


def within(timeout_s: float, what: str, function: Callable[[], object]) -> None:
    """Call what a library may never return from, whatever it was told; give up waiting for it after a time.

    Nothing is left once it does return: an error that was kept would hold, in a circle, the client that it came from, with
    its threads and sockets, until the garbage collector came.

    Raises:
        LogError: "unreachable" after the time; else whatever the function raises.
    """
    raised: list[BaseException] = []
    given_up = threading.Event()

    def work() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - handed to the caller below
            if not given_up.is_set():
                raised.append(error)

    thread = threading.Thread(target=work, name=what, daemon=True)
    thread.start()
    thread.join(timeout_s)
    if thread.is_alive():
        given_up.set()
        raise LogError("unreachable", f"{what} took longer than {timeout_s:g} s")
    if raised:
        raise raised.pop()


class LogReader(Protocol):
    """Reads assigned partitions from positions that it is told; never joins a group, never commits by itself.

    Every method may raise LogError. Calls that ask a broker take a time-out and raise "unreachable" after it.
    """

    def partitions(self, topic: str, *, timeout_s: float) -> tuple[int, ...]:
        """Return the partition numbers of a topic; () if it does not exist."""

    def topic_id(self, topic: str) -> str:
        """Return what tells a topic from a later one of the same name; "" if the cluster does not say."""

    def begin(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, int]:
        """Return the offsets of the first records that are there."""

    def end(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, int]:
        """Return the offsets behind the last records (of finished transactions, if only those are read)."""

    def at_time(self, moments_ms: Mapping[Partition, int], *, timeout_s: float) -> dict[Partition, int | None]:
        """Return the offsets of the first records at or after a moment; None where there is none."""

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Read these partitions, and no others, from these positions."""

    def poll(self, timeout_s: float, most: int) -> dict[Partition, list[Record]]:
        """Return records that have arrived, at most `most`; waits up to `timeout_s` for the first.

        Raises:
            LogError: "out_of_range" among others.
        """

    def position(self, partition: Partition) -> int:
        """Return the offset before which everything was handed out or, like markers, passed over."""

    def pause(self, partitions: Collection[Partition]) -> None:
        """Stop fetching from some of the assigned partitions."""

    def resume(self, partitions: Collection[Partition]) -> None:
        """Fetch from them again."""

    def commit(self, offsets: Mapping[Partition, int], note: str, *, timeout_s: float) -> None:
        """Store positions under the group. One that was given up may be stored yet, but not after a later one."""

    def committed(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, Committed]:
        """Return what is stored under the group; partitions without anything are left out."""

    def close(self) -> None:
        """Give up connections."""


class LogWriter(Protocol):
    """Writes records: idempotent, acknowledged by all replicas in sync; transactional if it has an id.

    One that has failed to deliver a record is to be replaced: a library may fail every later record with it.
    """

    def partitions(self, topic: str, *, timeout_s: float) -> tuple[int, ...]:
        """Return the partition numbers of a topic; () if it does not exist."""

    def produce(self, record: Outgoing) -> None:
        """Take a record; it is sent in the background.

        Raises:
            LogError: "unreachable" (take it again later), "too_large", "fenced".
        """

    @property
    def in_flight(self) -> int:
        """Records taken and not yet settled."""

    def settle(self, timeout_s: float) -> Settled:
        """Send what waits; return when everything is settled or the time is over."""

    def begin(self) -> None:
        """Begin a transaction."""

    def commit(self, offsets: Mapping[Partition, int], group: str, note: str, *, timeout_s: float) -> None:
        """Commit the transaction together with positions of a group.

        Raises:
            LogError: "fenced"; or "unreachable": then it is not known whether it was committed.
        """

    def abort(self, *, timeout_s: float) -> None:
        """Abort the transaction."""

    def catch_up(self, partition: Partition, group: str, *, timeout_s: float) -> None:
        """Have a group's coordinator know all that was committed: give it a position in a transaction, and abort that.

        One that has just come up may tell older positions for a while, even of one partition only; what it has taken since
        comes after everything before, so once it has taken that position it tells the newest.
        """

    def close(self) -> tuple[Outgoing, ...]:
        """Give up connections; returns the records that are not settled, which may have been written or not."""


class LogMember(Protocol):
    """A member of a group that shares out the partitions of a topic; it reads nothing of it.

    Partition 0 is that of the first member by name (range assignment, which both libraries know), so it moves only if that
    member goes, or one with a smaller name comes. Members are dynamic: a static one (group.instance.id) would keep its
    place after `close` until its session expires, with either library.
    """

    def poll(self, timeout_s: float) -> frozenset[int] | None:
        """Take part, for `timeout_s`; to be called at least once a minute.

        Returns:
            The partitions that are this member's since the group last agreed; None = it has not joined yet.

        Raises:
            LogError: "fenced": it has lost its place (nothing was heard of it for the time of a session, or `poll` was not
                called), and may come back with a greater name only; others as everywhere.
        """

    def close(self) -> None:
        """Leave at once."""


class Library(Protocol):
    """Makes clients of one library."""

    def reader(self, *, group: str, committed_only: bool, wait_s: float | None = None) -> LogReader:
        """Connect a reader; wait for the cluster for `wait_s` (None: as long as is allowed at the start).

        Raises:
            LogError: "unreachable", "refused", "untrusted" or "configuration".
        """

    def writer(self, *, transactional_id: str, transaction_timeout_s: float, wait_s: float | None = None) -> LogWriter:
        """Connect a writer.

        With an id it finishes what an earlier writer with the same id left open, and fences that one.
        """

    def member(self, *, group: str, topic: str, name: str, wait_s: float | None = None) -> LogMember:
        """Connect a member of a group.

        Args:
            group: all of whose members use the same library.
            topic: whose partitions it shares out.
            name: of the member; see `LogMember`.
            wait_s: as for `reader`.
        """
