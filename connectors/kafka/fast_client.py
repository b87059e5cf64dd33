"""confluent-kafka (librdkafka, the extra `fast`) behind the small interface: readers and writers.

Only files named fast_* import it. Several times faster than kafka-python, and compiled code. Differences that are evened out here: it reports
the end of a partition instead of a position behind markers; it reports what a producer could not deliver by
callbacks; its positions are looked up as another kind of reader would see them, so the ends are asked for
with the isolation level.
"""

import time
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import groupby
from typing import Any

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from connectors.kafka.client import Committed, LogError, Outgoing, Partition, Settled, within
from connectors.kafka.fast_faults import Errors, Translating, translated
from connectors.kafka.fast_member import FastMember, settings_of_member
from connectors.kafka.settings import KafkaConnection
from connectors.records import Record, make_records

_ATTEMPT_S = 3.0
_TAKE_OVER_S = 15.0  # at least: an earlier transaction may have to be ended first
_SPARE_S = 2.0  # what a call may take beyond the time-out it was given
_BY_KEY = -1
_SERVED_EVERY = 100  # records
# said of a leader that an admin client remembers for a quarter of an hour, and does not look up again because of it
_MOVED = (KafkaError.FENCED_LEADER_EPOCH, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION)
_NO_GROUP = "streamnn-none"  # the library insists on a name; nothing is ever committed under this one
_SPEC: Any = OffsetSpec
_FIELDS: tuple[Any, ...] = (  # called for all messages of a poll, one field after the other: without a loop in Python
    Message.topic,
    Message.partition,
    Message.offset,
    Message.timestamp,
    Message.value,
    Message.key,
    Message.headers,
)


class FastLibrary:
    """Makes clients of confluent-kafka."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection

    def reader(self, *, group: str, committed_only: bool, wait_s: float | None = None) -> "FastReader":
        """Connect a reader; see `Library`."""
        common, errors = _security(self._connection), Errors()
        settings = {
            "group.id": group or _NO_GROUP,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed" if committed_only else "read_uncommitted",
            "allow.auto.create.topics": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            # a broker answers a fetch soon, with nothing if need be; what is written on a silent connection waits after this
            "socket.timeout.ms": 4_000,
            "queued.max.messages.kbytes": 16 * 1024,
            "topic.metadata.refresh.interval.ms": 10_000,
            "error_cb": errors,
        }
        with Translating("configuration"):
            consumer = Consumer({**common, **settings, **self._connection.common, **self._connection.consumer})
        _reach(consumer, errors, self._connection, wait_s)
        return FastReader(
            consumer, partial(AdminClient, {**common, **self._connection.common}), committed_only=committed_only
        )

    def writer(
        self, *, transactional_id: str, transaction_timeout_s: float, wait_s: float | None = None
    ) -> "FastWriter":
        """Connect a writer; see `Library`."""
        common, errors = _security(self._connection), Errors()
        settings: dict[str, Any] = {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": self._connection.compression,
            "linger.ms": 5,
            "message.max.bytes": 8 * 2**20,
            "request.timeout.ms": 10_000,
            "delivery.timeout.ms": 20_000,
            "retry.backoff.ms": 20,
            "partitioner": "murmur2_random",  # as Java's client and kafka-python
            "allow.auto.create.topics": False,
            "error_cb": errors,
        }
        if transactional_id:
            settings |= {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": int(transaction_timeout_s * 1000),
            }
        with Translating("configuration"):
            producer = Producer({**common, **settings, **self._connection.common, **self._connection.producer})
        _reach(producer, errors, self._connection, wait_s)
        writer = FastWriter(producer, {**common, **self._connection.common}, errors)
        if transactional_id:
            writer.take_over(timeout_s=max(self._connection.start_wait_s, _TAKE_OVER_S))
        return writer

    def member(self, *, group: str, topic: str, name: str, wait_s: float | None = None) -> "FastMember":
        """Connect a member of a group; see `Library`."""
        common, errors = _security(self._connection), Errors()
        settings = settings_of_member(group, name) | {"error_cb": errors}
        with Translating("configuration"):
            # its name and its times are what the turn of a worker rests on: no setting of a user replaces them
            consumer = Consumer({**common, **self._connection.common, **self._connection.consumer, **settings})
        _reach(consumer, errors, self._connection, wait_s)
        return FastMember(consumer, topic)


class FastReader:
    """A `LogReader` on confluent-kafka's consumer.

    Args:
        consumer: reads.
        make_admin: makes what answers questions about topics.
        committed_only: whether records of open and aborted transactions are left out.
    """

    def __init__(self, consumer: Consumer, make_admin: Callable[[], AdminClient], *, committed_only: bool) -> None:
        self._consumer, self._make_admin = consumer, make_admin
        with Translating("configuration"):
            self._admin = make_admin()
        self._isolation = IsolationLevel.READ_COMMITTED if committed_only else IsolationLevel.READ_UNCOMMITTED
        self._positions: dict[Partition, int] = {}
        self._held: LogError | None = None
        self._calls = _Calls()

    def partitions(self, topic: str, *, timeout_s: float) -> tuple[int, ...]:
        """Return the partition numbers of a topic."""
        return _partitions(self._consumer, topic, timeout_s)

    def topic_id(self, topic: str) -> str:
        """Return the topic's id."""
        with Translating("failed"):
            asked = self._admin.describe_topics(TopicCollection([topic]), request_timeout=_ATTEMPT_S)
            found = asked[topic].result().topic_id
        low = found.get_least_significant_bits() & (2**64 - 1)
        return str(uuid.UUID(int=((found.get_most_significant_bits() & (2**64 - 1)) << 64) | low))

    def begin(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, int]:
        """Return the first offsets."""
        return self._offsets(partitions, _SPEC.earliest(), timeout_s)

    def end(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, int]:
        """Return the offsets behind the last records."""
        return self._offsets(partitions, _SPEC.latest(), timeout_s)

    def at_time(self, moments_ms: Mapping[Partition, int], *, timeout_s: float) -> dict[Partition, int | None]:
        """Return the first offsets at or after the moments."""
        asked = [TopicPartition(p.topic, p.number, moment) for p, moment in moments_ms.items()]
        with Translating("failed"):
            found = self._consumer.offsets_for_times(asked, timeout=timeout_s)
        return {Partition(tp.topic, tp.partition): tp.offset if tp.offset >= 0 else None for tp in found}

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Assign, and seek."""
        self._positions, self._held = dict(positions), None
        with Translating("failed"):
            self._consumer.assign([TopicPartition(p.topic, p.number, offset) for p, offset in positions.items()])

    def poll(self, timeout_s: float, most: int) -> dict[Partition, list[Record]]:
        """Return what has arrived."""
        self._raise()
        with Translating("failed"):
            # the library waits until a batch is full or the time is over; so ask for all that is there, then for one
            arrived: list[Any] = self._consumer.consume(most, 0.0) or self._consumer.consume(1, timeout_s)
        noted = [message for message in arrived if message.error() is not None]
        if noted:
            arrived = [message for message in arrived if message.error() is None]
        found = self._records(arrived)
        for message in noted:
            self._note(message, message.error())
        if not found:
            self._raise()
        return found

    def _records(self, messages: list[Any]) -> dict[Partition, list[Record]]:
        """Turn messages into records, and note where they end."""
        topics, numbers, offsets, stamps, values, keys, headers = ([*map(of, messages)] for of in _FIELDS)
        records = make_records(
            values,
            keys,
            [tuple(some) if some else () for some in headers],
            [stamp if kind else -1 for kind, stamp in stamps],
            zip(topics, numbers, offsets, strict=True),
        )
        found: dict[Partition, list[Record]] = {}
        start = 0
        for place, run in groupby(zip(topics, numbers, strict=True)):
            partition, stop = Partition(*place), start + sum(1 for _ in run)
            found.setdefault(partition, []).extend(records[start:stop])
            self._positions[partition] = offsets[stop - 1] + 1
            start = stop
        return found

    def position(self, partition: Partition) -> int:
        """Return the next offset."""
        return self._positions[partition]

    def pause(self, partitions: Collection[Partition]) -> None:
        """Pause."""
        with Translating("failed"):
            self._consumer.pause([TopicPartition(p.topic, p.number) for p in partitions])

    def resume(self, partitions: Collection[Partition]) -> None:
        """Resume."""
        with Translating("failed"):
            self._consumer.resume([TopicPartition(p.topic, p.number) for p in partitions])

    def commit(self, offsets: Mapping[Partition, int], note: str, *, timeout_s: float) -> None:
        """Commit. The library knows no time-out: where a connection has gone silent it waits for 8 s and more."""
        if self._calls.stuck:
            raise LogError("unreachable", "the commit before has not been answered yet")
        consumer = self._consumer

        def work() -> None:
            with Translating("failed"):
                consumer.commit(offsets=_noted(offsets, note), asynchronous=False)

        self._calls.within(timeout_s, "committing positions", work)

    def committed(self, partitions: Collection[Partition], *, timeout_s: float) -> dict[Partition, Committed]:
        """Return what is committed."""
        with Translating("failed"):
            found = self._consumer.committed([TopicPartition(p.topic, p.number) for p in partitions], timeout_s)
        return {
            Partition(tp.topic, tp.partition): Committed(tp.offset, tp.metadata or "") for tp in found if tp.offset >= 0
        }

    def close(self) -> None:
        """Close."""
        if not self._calls.stuck:  # else the commit returns by itself, and not after this
            self._consumer.close()
        del self._admin  # now, with its threads and sockets

    def _offsets(self, partitions: Collection[Partition], which: Any, timeout_s: float) -> dict[Partition, int]:
        if not partitions:
            return {}
        asked = {TopicPartition(p.topic, p.number): which for p in partitions}
        with Translating("failed"):
            found = self._admin.list_offsets(asked, isolation_level=self._isolation, request_timeout=timeout_s)
            try:
                return {Partition(tp.topic, tp.partition): int(f.result().offset) for tp, f in found.items()}
            except KafkaException as error:
                if error.args[0].code() in _MOVED:
                    self._admin = self._make_admin()
                raise

    def _raise(self) -> None:
        if self._held is not None:
            raise self._held

    def _note(self, message: Any, error: KafkaError) -> None:
        """Take note of an event that is not a record: the end of a partition, or an error to raise."""
        if error.code() == KafkaError._PARTITION_EOF:
            partition = Partition(message.topic(), message.partition())
            self._positions[partition] = max(self._positions[partition], message.offset())
            return
        found = translated(error, "failed")
        if found.fault != "unreachable":  # the library connects again by itself
            self._held = found


class FastWriter:
    """A `LogWriter` on confluent-kafka's producer."""

    def __init__(self, producer: Producer, common: Mapping[str, Any], errors: Errors) -> None:
        self._producer, self._common, self._errors = producer, common, errors
        self._failed: list[tuple[Outgoing, LogError]] = []
        self._under_way: dict[int, Outgoing] = {}
        self._given = 0  # records taken so far
        self._groups: dict[str, Any] = {}  # what the library asks for to commit positions of a group
        self._calls = _Calls()

    def take_over(self, *, timeout_s: float) -> None:
        """Finish what an earlier writer of the same id left open, and fence it."""

        def work() -> None:
            with Translating("failed"):
                self._producer.init_transactions(timeout_s)

        self._calls.within(timeout_s + _SPARE_S, "taking over the transactional id", work)

    def partitions(self, topic: str, *, timeout_s: float) -> tuple[int, ...]:
        """Return the partition numbers of a topic."""
        return _partitions(self._producer, topic, timeout_s)

    def produce(self, record: Outgoing) -> None:
        """Take a record."""
        number = self._given
        try:
            # by position: topic, value, key, partition, callback, the same by another name, timestamp (0 = now), headers
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                _BY_KEY if record.partition is None else record.partition,
                partial(self._done, number),
                None,
                record.timestamp_ms or 0,
                list(record.headers),
            )
        except BufferError as error:
            self._producer.poll(0.1)
            held = len(self._under_way)
            raise LogError("unreachable", f"the library holds {held} records, and takes no more") from error
        except KafkaException as error:
            raise translated(error.args[0], "failed") from error
        self._under_way[number] = record
        self._given += 1
        if number % _SERVED_EVERY == 0:
            self._serve(0.0)

    @property
    def in_flight(self) -> int:
        """Records under way."""
        return len(self._under_way)

    def settle(self, timeout_s: float) -> Settled:
        """Wait for what is under way."""
        self._serve(timeout_s)
        failed, self._failed = tuple(self._failed), []
        return Settled(failed, len(self._under_way))

    def begin(self) -> None:
        """Begin a transaction."""
        self._errors.told = []
        with Translating("failed"):
            self._producer.begin_transaction()

    def commit(self, offsets: Mapping[Partition, int], group: str, note: str, *, timeout_s: float) -> None:
        """Commit the transaction with positions."""
        if self._errors.told:
            # a producer that lost its broker in this transaction most often does not return from sending positions
            raise LogError("failed", f"the connection was lost within the transaction: {self._errors.told[-1]}")

        def work() -> None:
            with Translating("failed"):
                if offsets:
                    self._producer.send_offsets_to_transaction(_noted(offsets, note), self._group(group), timeout_s)
                self._producer.commit_transaction(timeout_s)

        # one that loses it meanwhile neither, whatever its time-out: only once another producer has taken its id
        self._calls.within(timeout_s, "committing a transaction", work)

    def abort(self, *, timeout_s: float) -> None:
        """Abort the transaction."""

        def work() -> None:
            with Translating("failed"):
                self._producer.abort_transaction(timeout_s)

        self._calls.within(timeout_s + _SPARE_S, "aborting a transaction", work)

    def catch_up(self, partition: Partition, group: str, *, timeout_s: float) -> None:
        """Give a position, and abort."""
        self.begin()

        def work() -> None:
            with Translating("failed"):
                self._producer.send_offsets_to_transaction(_noted({partition: 0}, ""), self._group(group), timeout_s)
                self._producer.abort_transaction(timeout_s)

        self._calls.within(timeout_s, "asking for committed positions", work)

    def close(self) -> tuple[Outgoing, ...]:
        """Close; returns what is under way."""
        left = tuple(self._under_way.values())
        self._under_way.clear()
        if not self._calls.stuck:  # else the call returns by itself, and not after this
            self._producer.purge()
            self._serve(1.0)
        del (
            self._producer
        )  # now, with its threads and sockets: a traceback may hold this object until the collector comes
        return left

    def _group(self, name: str) -> Any:
        """Return what says that positions are those of a group without members; the library has it of consumers only."""
        if name not in self._groups:
            consumer = Consumer({**self._common, "group.id": name})
            try:
                self._groups[name] = consumer.consumer_group_metadata()
            finally:
                consumer.close()
        return self._groups[name]

    def _serve(self, timeout_s: float) -> None:
        """Have the library report deliveries; wait for all of them if there is time."""
        try:
            if timeout_s > 0:
                self._producer.flush(timeout_s)
            else:
                self._producer.poll(0)
        except (KafkaException, SystemError) as error:
            # a fatal error, such as of a fenced producer, is raised here, and reports that follow it get lost with it
            fatal = error.args[0] if isinstance(error, KafkaException) else error.__cause__ or error
            told = translated(fatal, "fenced") if isinstance(fatal, KafkaError) else LogError("fenced", str(fatal))
            known = {id(record) for record, _ in self._failed}
            self._failed += [(record, told) for record in self._under_way.values() if id(record) not in known]
            self._under_way.clear()

    def _done(self, number: int, error: KafkaError | None, _: object) -> None:
        # flush reports on while a fatal error is on its way out, and this ends anywhere, with that error: a record is no longer
        # under way only once it is known what became of it
        record = self._under_way.get(number)
        if record is not None:
            if error is not None:
                self._failed.append((record, translated(error, "failed")))
            del self._under_way[number]


class _Calls:
    """Calls of the library that may take longer than they are waited for."""

    def __init__(self) -> None:
        self.stuck = False  # whether one has not returned

    def within(self, timeout_s: float, what: str, work: Callable[[], None]) -> None:
        """Call, and raise if it has not returned in time."""

        def whole() -> None:
            try:
                work()
            finally:
                self.stuck = False

        self.stuck = True
        within(timeout_s, what, whole)


def _reach(client: Consumer | Producer, errors: Errors, connection: KafkaConnection, wait_s: float | None) -> None:
    """Wait until a broker answers, within the time allowed at start."""
    wait_s = connection.start_wait_s if wait_s is None else wait_s
    deadline = time.monotonic() + wait_s
    while True:
        left_s = max(deadline - time.monotonic(), 1.0)
        try:
            client.list_topics(timeout=min(_ATTEMPT_S, left_s))
        except KafkaException as error:
            client.poll(0)  # has the reports of the library delivered
            for told in errors.told:
                if told.fault in {"refused", "untrusted"}:
                    raise LogError(told.fault, f"{connection.bootstrap_servers}: {told}") from error
            if time.monotonic() >= deadline:
                why = errors.last or translated(error.args[0], "unreachable")
                raise LogError(
                    "unreachable",
                    f"no Kafka broker answers at {connection.bootstrap_servers} ({why}) within {wait_s:g} s",
                ) from error
        else:
            return


def _partitions(client: Consumer | Producer, topic: str, timeout_s: float) -> tuple[int, ...]:
    with Translating("failed"):
        found = client.list_topics(topic, timeout=timeout_s).topics.get(topic)
    if found is None or (found.error is not None and translated(found.error, "failed").fault == "unknown_topic"):
        return ()
    if found.error is not None:
        raise translated(found.error, "failed")
    return tuple(sorted(found.partitions))


def _security(connection: KafkaConnection) -> dict[str, Any]:
    """Return the library's settings for address, encryption and login."""
    settings: dict[str, Any] = {
        "bootstrap.servers": connection.bootstrap_servers,
        "client.id": "streamnn",
        "security.protocol": connection.security,
        "reconnect.backoff.max.ms": 1_000,
        # a connection that a router has forgotten says nothing for ever: a request on it is given up after 8 s, not after 60
        "socket.timeout.ms": 8_000,
        "socket.connection.setup.timeout.ms": 10_000,
        "log_level": 2,  # what matters comes by callback
    }
    if connection.security.endswith("ssl"):
        files = {
            "ssl.ca.location": connection.ca_file,
            "ssl.certificate.location": connection.certificate_file,
            "ssl.key.location": connection.key_file,
            "ssl.key.password": connection.key_password(),
        }
        settings |= {name: value for name, value in files.items() if value}
    if connection.security.startswith("sasl"):
        settings["sasl.mechanism"] = connection.mechanism
        if connection.user:
            settings |= {"sasl.username": connection.user, "sasl.password": connection.password()}
    return settings


def _noted(offsets: Mapping[Partition, int], note: str) -> list[TopicPartition]:
    return [TopicPartition(p.topic, p.number, offset, metadata=note) for p, offset in offsets.items()]
