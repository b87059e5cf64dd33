"""Topics, records and clients for the tests on a real broker."""

import itertools
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewPartitions, ScramMechanism, UserScramCredentialUpsertion

from connectors.kafka.client import Library, LogReader, LogWriter, Outgoing, Partition
from connectors.kafka.fast_client import FastLibrary
from connectors.kafka.python_client import PythonLibrary
from connectors.kafka.settings import KafkaConnection
from connectors.records import Record

CLIENTS = ("kafka-python", "confluent-kafka")
_NUMBERS = itertools.count()
_ALTER_CLIENT_QUOTAS = 49


_ADMINS: dict[str, KafkaAdminClient] = {}


def _admin(bootstrap: str) -> KafkaAdminClient:
    """Return a client for topics; making one takes longer than what it is asked for."""
    if bootstrap not in _ADMINS:
        _ADMINS[bootstrap] = KafkaAdminClient(bootstrap_servers=bootstrap.split(","))
    return _ADMINS[bootstrap]


def close() -> None:
    """Close what is kept open for all tests."""
    while _ADMINS:
        _ADMINS.popitem()[1].close()


def library(client: str, bootstrap: str) -> Library:
    """Return a library by its name, for a broker without security."""
    connection = KafkaConnection(bootstrap_servers=bootstrap, start_wait_s=20.0)
    return PythonLibrary(connection) if client == "kafka-python" else FastLibrary(connection)


def name_of(client: Library) -> str:
    """Return the name of a library."""
    return CLIENTS[isinstance(client, FastLibrary)]


def fresh(name: str) -> str:
    """Return a name that no earlier run on the same broker used."""
    return f"{name}-{os.getpid()}-{next(_NUMBERS)}"


def topic(
    bootstrap: str, partitions: int = 1, *, configs: Mapping[str, str] | None = None, name: str = "", copies: int = 1
) -> str:
    """Make a topic that keeps its records however old their timestamps say they are; return its name."""
    name = name or fresh("topic")
    admin = _admin(bootstrap)
    settings = {"retention.ms": "-1", **(configs or {})}
    spec = {"num_partitions": partitions, "replication_factor": copies, "configs": settings}
    admin.create_topics({name: spec})
    return name


def delete_topic(bootstrap: str, name: str) -> None:
    """Delete a topic, and wait until it is gone."""
    admin = _admin(bootstrap)
    admin.delete_topics([name])
    while name in [one["name"] for one in admin.describe_topics() if not one["error_code"]]:
        time.sleep(0.05)


def add_user(bootstrap: str, name: str, password: str) -> None:
    """Have the cluster know a user by SCRAM-SHA-512."""
    user = UserScramCredentialUpsertion(name, ScramMechanism.SCRAM_SHA_512, password)
    assert _admin(bootstrap).alter_user_scram_credentials([user]) == {name: None}


def add_partitions(bootstrap: str, name: str, total: int) -> None:
    """Give a topic more partitions."""
    admin = _admin(bootstrap)
    admin.create_partitions({name: NewPartitions(total)})


def delete_before(bootstrap: str, partition: Partition, offset: int) -> None:
    """Delete the records before an offset, as retention would."""
    admin = _admin(bootstrap)
    admin.delete_records({TopicPartition(partition.topic, partition.number): offset})


def set_retention(bootstrap: str, name: str, milliseconds: int) -> None:
    """Change how long a topic keeps its records; -1 = for ever."""
    setting = ConfigResource(ConfigResourceType.TOPIC, name, configs={"retention.ms": str(milliseconds)})
    _admin(bootstrap).alter_configs([setting])


def partitions(client: Library, name: str) -> list[Partition]:
    """Return the partitions of a topic."""
    reader = client.reader(group="", committed_only=True)
    found = [Partition(name, number) for number in reader.partitions(name, timeout_s=10.0)]
    reader.close()
    return found


def delete_group(bootstrap: str, name: str) -> None:
    """Delete what is committed under a group, as its expiry would."""
    _admin(bootstrap).delete_groups([name])


def throttle(bootstrap: str, client_id: str, bytes_a_second: float | None) -> None:
    """Have the broker slow down whoever writes under a client's name; None = no more. Neither library can ask for it."""

    def text(words: str) -> bytes:
        return struct.pack(">h", len(words)) + words.encode()

    whose = struct.pack(">ii", 1, 1) + text("client-id") + text(client_id)
    quota = (
        struct.pack(">i", 1)
        + text("producer_byte_rate")
        + struct.pack(">d??", bytes_a_second or 0.0, bytes_a_second is None, False)
    )
    request = struct.pack(">hhi", _ALTER_CLIENT_QUOTAS, 0, 1) + text("tests") + whose + quota
    host, _, port = bootstrap.split(",")[0].rpartition(":")
    with socket.create_connection((host, int(port)), 10.0) as connection:
        connection.sendall(struct.pack(">i", len(request)) + request)
        (size,) = struct.unpack(">i", connection.recv(4, socket.MSG_WAITALL))
        _, _, count, error = struct.unpack(">iiih", connection.recv(size, socket.MSG_WAITALL)[:14])
    assert (count, error) == (1, 0)


def fill(writer: LogWriter, name: str, rows: Sequence[tuple[int, int, bytes]]) -> None:
    """Write rows of (partition, timestamp, value) and wait until they are there."""
    for partition, timestamp_ms, value in rows:
        writer.produce(Outgoing(name, value, partition=partition, timestamp_ms=timestamp_ms))
    settled = writer.settle(20.0)
    assert settled.waiting == 0
    assert settled.failed == ()


def read(reader: LogReader, count: int, *, limit_s: float = 20.0) -> dict[Partition, list[Record]]:
    """Poll until `count` records have come."""
    found: dict[Partition, list[Record]] = {}
    until(lambda: _more(reader, found) >= count, limit_s)
    return found


def until(reached: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + limit_s
    while not reached():
        assert time.monotonic() < deadline, f"not reached within {limit_s} s"
        time.sleep(0.01)


def everything(client: Library, name: str, *, committed_only: bool = True) -> list[Record]:
    """Return all records of a topic, partition by partition."""
    reader = client.reader(group="", committed_only=committed_only)
    partitions = [Partition(name, number) for number in reader.partitions(name, timeout_s=10.0)]
    ends = reader.end(partitions, timeout_s=10.0)
    begins = reader.begin(partitions, timeout_s=10.0)
    reader.assign(begins)
    found: dict[Partition, list[Record]] = {partition: [] for partition in partitions}

    def done() -> bool:
        _more(reader, found)
        return all(reader.position(partition) >= end for partition, end in ends.items())

    until(done, 120.0)
    reader.close()
    return [record for partition in partitions for record in found[partition]]


def _more(reader: LogReader, found: dict[Partition, list[Record]]) -> int:
    for partition, records in reader.poll(0.1, 1_000).items():
        found.setdefault(partition, []).extend(records)
    return sum(map(len, found.values()))
