"""kafka-python behind the small interface: readers and writers. Only files named python_* import it.

Choices made here, each for a reason met in practice: one attempt to connect takes 3 s, and what the library
only logs (wrong password, untrusted certificate) is read from its log, since what it raises says "unable to
bootstrap" for everything; an answer that comes with the end of its connection is read all the same; it reconnects
after a second at most, not after thirty; a delivery is given up after 10 or 20 s, not 120, because after the restart
of a broker the library may notice only then that its producer is no longer known; the end of a transaction, which its own
calls wait for without end, also where the producer has been closed meanwhile, is waited for here.
"""

import logging
import time
import traceback
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

import kafka  # type: ignore[import-untyped]
from kafka import errors
from kafka.net.compat import KafkaNetClient  # type: ignore[import-untyped]
from kafka.net.manager import KafkaConnectionManager  # type: ignore[import-untyped]
from kafka.net.selector import NetworkSelector  # type: ignore[import-untyped]

from connectors.kafka.client import Committed, Fault, LogError, Outgoing, Partition, Settled, within
from connectors.kafka.python_faults import call, milliseconds, translated
from connectors.kafka.python_member import PythonMember, settings_of_member
from connectors.kafka.settings import KafkaConnection
from connectors.records import Record, make_records

_ATTEMPT_S = 3.0
_LOOK_UP_S = 10.0
_TAKE_OVER_S = 15.0  # at least: an earlier transaction may have to be ended first
_FETCH_BYTES = 4 * 2**20
_MOST_POLLED = 5_000
_FIELDS = attrgetter("value", "key", "headers", "timestamp", "topic", "partition", "offset")
_NUL = "\0"  # confluent-kafka commits notes with one behind them, and reads on to one: into other memory without it


class PythonLibrary:
    """Makes clients of kafka-python."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    def reader(self, *, group: str, committed_only: bool, wait_s: float | None = None) -> "PythonReader":
        """Connect a reader; see `Library`."""
        settings = {
            "group_id": group or None,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed" if committed_only else "read_uncommitted",
            "allow_auto_create_topics": False,
            "max_poll_records": _MOST_POLLED,
            "max_partition_fetch_bytes": _FETCH_BYTES,
            "fetch_max_wait_ms": 100,
            "request_timeout_ms": 8_000,
            "metadata_max_age_ms": 10_000,
            "metrics_enabled": False,
        }
        return PythonReader(self._connect(kafka.KafkaConsumer, settings, self._connection.consumer, wait_s))

    def writer(
        self, *, transactional_id: str, transaction_timeout_s: float, wait_s: float | None = None
    ) -> "PythonWriter":
        """Connect a writer; see `Library`."""
        compression = self._connection.compression
        settings = {
            "enable_idempotence": True,
            "acks": "all",
            "compression_type": None if compression == "none" else compression,
            "linger_ms": 5,
            "batch_size": 2**16,
            "max_request_size": 8 * 2**20,
            "request_timeout_ms": 5_000,
            "delivery_timeout_ms": 20_000,
            "max_block_ms": 5_000,
            "retry_backoff_ms": 20,
            "allow_auto_create_topics": False,
            "metadata_max_age_ms": 30_000,
            "metrics_enabled": False,
        }
        if transactional_id:
            settings |= {
                "transactional_id": transactional_id,
                "transaction_timeout_ms": int(transaction_timeout_s * 1000),
                # after a broker was killed the library notices only at this time-out that it has to begin again;
                # nothing is doubled by that, since the records are given to it again in a new transaction
                "delivery_timeout_ms": 10_000,
            }
        producer = self._connect(kafka.KafkaProducer, settings, self._connection.producer, wait_s)
        writer = PythonWriter(producer, lambda: self.reader(group="", committed_only=False, wait_s=_LOOK_UP_S))
        if transactional_id:
            try:
                writer.take_over(timeout_s=max(self._connection.start_wait_s, _TAKE_OVER_S))
            except BaseException:
                writer.close()
                raise
        return writer

    def member(self, *, group: str, topic: str, name: str, wait_s: float | None = None) -> "PythonMember":
        """Connect a member of a group; see `Library`."""
        # its name and its times are what the turn of a worker rests on: no setting of a user replaces them
        settings = {**self._connection.consumer, **settings_of_member(group, name)}
        return PythonMember(self._connect(kafka.KafkaConsumer, {}, settings, wait_s), topic)

    def _connect(
        self,
        kind: Callable[..., Any],
        settings: Mapping[str, Any],
        further: Mapping[str, Any],
        wait_s: float | None,
    ) -> Any:
        """Make a client; try again while the cluster cannot be reached, within the time allowed at start."""
        connection = self._connection
        wait_s = connection.start_wait_s if wait_s is None else wait_s
        everything = {**_security(connection), **settings, **connection.common, **further}
        deadline = time.monotonic() + wait_s
        while True:
            left_s = max(deadline - time.monotonic(), 1.0)
            everything["bootstrap_timeout_ms"] = int(min(_ATTEMPT_S, left_s) * 1000)
            everything["kafka_client"] = networks = _Networks()
            with _Reasons() as reasons:
                try:
                    with networks:
                        return kind(**everything)
                except errors.KafkaTimeoutError as error:
                    fault, why = reasons.told()
                    if fault != "unreachable":
                        raise LogError(fault, f"{connection.bootstrap_servers}: {why}") from error
                    if time.monotonic() >= deadline:
                        raise LogError(
                            "unreachable",
                            f"no Kafka broker answers at {connection.bootstrap_servers} ({why}) within {wait_s:g} s",
                        ) from error
                except (errors.KafkaError, TypeError, ValueError, AssertionError, OSError, RuntimeError) as error:
                    raise translated(error, "configuration") from error


class PythonReader:
    """A `LogReader` on kafka-python's consumer."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer

    def partitions(self, topic: str, *, timeout_s: float) -> tuple[int, ...]:
        """Return the partition numbers of a topic."""
        del timeout_s  # the library waits for its own request time-out, and only where it does not know the topic
        found = call(self._consumer.partitions_for_topic, topic)
        return tuple(sorted(found)) if found else ()

    def topic_id(self, topic: str) -> str:
        """Return the topic's id."""
        # the library keeps it, and has no public way to it
        return str(self._consumer._cluster.topic_id(topic) or "")

    def begin(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, int]:
        """Return the first offsets."""
        return _back(call(self._consumer.beginning_offsets, _there(partitions), timeout_ms=milliseconds(timeout_s)))

    def end(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, int]:
        """Return the offsets behind the last records."""
        return _back(call(self._consumer.end_offsets, _there(partitions), timeout_ms=milliseconds(timeout_s)))

    def at_time(self, moments_ms: Mapping[Partition, int], *, timeout_s: float) -> dict[Partition, int | None]:
        """Return the first offsets at or after the moments."""
        asked = {_tp(partition): moment for partition, moment in moments_ms.items()}
        found = call(self._consumer.offsets_for_times, asked, timeout_ms=milliseconds(timeout_s))
        return {p: None if found.get(_tp(p)) is None else int(found[_tp(p)].offset) for p in moments_ms}

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Assign, and seek."""
        call(self._consumer.assign, _there(positions))
        for partition, offset in positions.items():
            call(self._consumer.seek, _tp(partition), offset)

    def poll(self, timeout_s: float, most: int) -> dict[Partition, list[Record]]:
        """Return what has arrived."""
        # what was left of a fetch when its partition was paused is handed out after resuming only if this is None, but
        # the library (3.0.12) leaves a used up fetch here: such partitions would never be read again
        if not self._consumer._fetcher._next_partition_records:
            self._consumer._fetcher._next_partition_records = None
        arrived = call(self._consumer.poll, timeout_ms=milliseconds(timeout_s), max_records=min(most, _MOST_POLLED))
        return {Partition(tp.topic, tp.partition): _records(listed) for tp, listed in arrived.items() if listed}

    def position(self, partition: Partition) -> int:
        """Return the next offset."""
        return int(self._consumer._subscription.assignment[_tp(partition)].position.offset)

    def pause(self, partitions: Collection[Partition]) -> None:
        """Pause."""
        call(self._consumer.pause, *_there(partitions))

    def resume(self, partitions: Collection[Partition]) -> None:
        """Resume."""
        call(self._consumer.resume, *_there(partitions))

    def commit(self, offsets: Mapping[Partition, int], note: str, *, timeout_s: float) -> None:
        """Commit."""
        call(self._consumer.commit, _noted(offsets, note), timeout_ms=milliseconds(timeout_s))

    def committed(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, Committed]:
        """Return what is committed."""
        found = {}
        for partition in partitions:
            one = call(self._consumer.committed, _tp(partition), metadata=True, timeout_ms=milliseconds(timeout_s))
            if one is not None:
                found[partition] = Committed(int(one.offset), str(one.metadata or "").rstrip(_NUL))
        return found

    def close(self) -> None:
        """Close."""
        call(self._consumer.close, autocommit=False, timeout_ms=2_000)


class PythonWriter:
    """A `LogWriter` on kafka-python's producer."""

    def __init__(self, producer: Any, look_up: Callable[[], PythonReader]) -> None:
        self._producer, self._look_up = producer, look_up
        self._waiting: deque[tuple[Outgoing, Any]] = deque()

    def take_over(self, *, timeout_s: float) -> None:
        """Finish what an earlier writer of the same id left open, and fence it."""
        within(timeout_s, "taking over the transactional id", lambda: call(self._producer.init_transactions))

    def partitions(self, topic: str, *, timeout_s: float) -> tuple[int, ...]:
        """Return the partition numbers of a topic."""
        reader = self._look_up()  # the producer itself cannot tell a missing topic from an unreachable broker
        try:
            return reader.partitions(topic, timeout_s=timeout_s)
        finally:
            reader.close()

    def produce(self, record: Outgoing) -> None:
        """Take a record."""
        if (record.value is None and record.key is None) or any(value is None for _, value in record.headers):
            raise LogError(
                "configuration",
                "kafka-python writes no record without key and value, and no header without a value; kafka.client ="
                " confluent-kafka (extra fast) does",
            )
        future = call(
            self._producer.send,
            record.topic,
            value=record.value,
            key=record.key,
            headers=list(record.headers),
            partition=record.partition,
            timestamp_ms=record.timestamp_ms,
        )
        self._waiting.append((record, future))

    @property
    def in_flight(self) -> int:
        """Records under way."""
        return len(self._waiting)

    def settle(self, timeout_s: float) -> Settled:
        """Wait for what is under way."""
        if timeout_s > 0 and self._waiting:
            try:
                self._producer.flush(timeout=timeout_s)
            except errors.KafkaError as error:
                # time-out, or a batch that was too large and has been split: the records themselves tell
                logging.getLogger(__name__).debug("%d records are still under way: %s", len(self._waiting), error)
        failed = []
        while self._waiting and self._waiting[0][1].is_done:
            record, future = self._waiting.popleft()
            if future.failed():
                failed.append((record, translated(future.exception, "failed")))
        return Settled(tuple(failed), len(self._waiting))

    def begin(self) -> None:
        """Begin a transaction."""
        call(self._producer.begin_transaction)

    def commit(self, offsets: Mapping[Partition, int], group: str, note: str, *, timeout_s: float) -> None:
        """Commit the transaction with positions."""
        deadline, manager = time.monotonic() + timeout_s, self._producer._transaction_manager
        if offsets:
            self._finish(partial(manager.send_offsets_to_transaction, _noted(offsets, note), group), deadline)
        self._finish(manager.begin_commit, deadline)

    def abort(self, *, timeout_s: float) -> None:
        """Abort the transaction."""
        self._finish(self._producer._transaction_manager.begin_abort, time.monotonic() + timeout_s)

    def catch_up(self, partition: Partition, group: str, *, timeout_s: float) -> None:
        """Give a position, and abort."""
        deadline, manager = time.monotonic() + timeout_s, self._producer._transaction_manager
        self.begin()
        self._finish(partial(manager.send_offsets_to_transaction, _noted({partition: 0}, ""), group), deadline)
        self._finish(manager.begin_abort, deadline)

    def _finish(self, begin: Callable[[], Any], deadline: float) -> None:
        """Begin a step at the end of a transaction, and wait until it is done."""
        step = call(begin)
        self._producer._sender.wakeup()
        if not call(step.wait, timeout_ms=max(milliseconds(deadline - time.monotonic()), 0)):
            raise LogError("unreachable", "the end of a transaction took too long")

    def close(self) -> tuple[Outgoing, ...]:
        """Close; returns what is under way."""
        left = tuple(record for record, _ in self._waiting)
        self._waiting.clear()
        if left:
            # its own close waits for its records, and leaves it open if they do not get out; have them dropped first
            self._producer._sender.force_close()
            self._producer._sender.join(2)
        try:
            self._producer.close(timeout=0 if left else 2)
        except errors.KafkaError as error:
            logging.getLogger(__name__).debug("a producer did not close well: %s", error)
            self._producer._closed = True  # or it would try again when it is collected
        return left


class _Networks:
    """Makes the network part of a client, and closes it where the client fails: the library leaks it."""

    def __init__(self) -> None:
        self._made: list[Any] = []

    def __call__(self, **settings: Any) -> Any:
        """Make one, as the library does."""
        loop = NetworkSelector(**settings)
        self._made.append(KafkaNetClient(loop, _Connections(loop, **settings), **settings))
        return self._made[-1]

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for network in self._made:
                network.close()


class _Connections(KafkaConnectionManager):  # type: ignore[misc]
    """Makes connections that lose no answer, and leaves nothing of those that do not come about.

    What the library (3.0.12) receives together with the end of a connection it drops: on a loaded machine that is often what a
    broker says before it hangs up, such as that the password is wrong. Its errors hold the socket that could not connect, and
    one another, so that it stays open until the garbage collector comes: two a second while a broker is away.
    """

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        try:
            transport = await super()._build_transport(node, timeout_at=timeout_at)
        except errors.KafkaError as error:
            traceback.clear_frames(error.__traceback__)
            raise
        receive = transport._sock_recv

        def whole() -> tuple[bytes, Exception | None]:
            data, error = receive()
            return data, None if data else error  # the end is met again by the next call

        transport._sock_recv = whole
        return transport


class _Reasons(logging.Handler):
    """Listens to the library's log while it connects: it says there, and only there, why it could not."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self._said: list[str] = []
        self._logger = logging.getLogger("kafka.net")

    def __enter__(self) -> "_Reasons":
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Remember a line."""
        self._said.append(record.getMessage())

    def told(self) -> tuple[Fault, str]:
        """Return what was wrong, and the library's words for it."""
        for text in self._said:
            if "SaslAuthenticationFailed" in text:
                return "refused", "the user is refused: " + text.rsplit("Error: ", 1)[-1].rstrip(")")
            if "UnsupportedSaslMechanism" in text:
                return "refused", "the broker does not offer this mechanism: " + text.rsplit("Error: ", 1)[-1]
            if "IllegalSaslState" in text:
                return "untrusted", "what answers has nobody log in; set security to plaintext or ssl"
            if "CERTIFICATE_VERIFY_FAILED" in text or "Handshake failed" in text:
                return "untrusted", "no TLS connection: " + text.rsplit("Handshake failed: ", 1)[-1]
            if "_ALERT_" in text and "CERTIFICATE" in text:
                return "untrusted", "the broker refuses the certificate of this client, or misses it: " + text.rsplit(
                    "Error: ", 1
                )[-1]
            if "InvalidReceiveError" in text:
                return "untrusted", "what answers does not speak Kafka without TLS; set security to ssl or sasl_ssl"
        words = [text.rsplit("KafkaConnectionError: ", 1)[-1] for text in self._said if "ConnectionError" in text]
        if words and "disconnected" in words[-1]:
            return "unreachable", "what answers hangs up: check security, and user and password if it asks for them"
        return "unreachable", words[-1] if words else "no answer"


def _security(connection: KafkaConnection) -> dict[str, Any]:
    """Return the library's settings for address, encryption and login."""
    settings: dict[str, Any] = {
        "bootstrap_servers": [server.strip() for server in connection.bootstrap_servers.split(",")],
        "client_id": "streamnn",
        "security_protocol": connection.security.upper(),
        "reconnect_backoff_max_ms": 1_000,
    }
    if connection.security.endswith("ssl"):
        settings |= {
            "ssl_cafile": connection.ca_file or None,
            "ssl_certfile": connection.certificate_file or None,
            "ssl_keyfile": connection.key_file or None,
            "ssl_password": connection.key_password() or None,
        }
    if connection.security.startswith("sasl"):
        settings["sasl_mechanism"] = connection.mechanism
        if connection.user:
            settings |= {"sasl_plain_username": connection.user, "sasl_plain_password": connection.password()}
    return settings


def _tp(partition: Partition) -> Any:
    return kafka.TopicPartition(partition.topic, partition.number)


def _there(partitions: Collection[Partition]) -> list[Any]:
    return [_tp(partition) for partition in partitions]


def _back(found: Mapping[Any, int]) -> dict[Partition, int]:
    return {Partition(tp.topic, tp.partition): int(offset) for tp, offset in found.items()}


def _noted(offsets: Mapping[Partition, int], note: str) -> dict[Any, Any]:
    text = note and note + _NUL
    return {_tp(partition): kafka.OffsetAndMetadata(offset, text, -1) for partition, offset in offsets.items()}


def _records(listed: Sequence[Any]) -> list[Record]:
    values, keys, headers, stamps, *places = zip(*map(_FIELDS, listed), strict=True)
    return make_records(values, keys, map(tuple, headers), stamps, zip(*places, strict=True))
