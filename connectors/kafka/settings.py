"""How to reach a Kafka cluster, and what is read from it and how.

In: what the configuration says. Out: frozen settings, checked. A password is never part of them: they name
the file or the environment variable that holds it, and it is read when a client is made. So settings can be
printed, logged and saved.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from connectors.errors import ConnectorError

Client = Literal["kafka-python", "confluent-kafka"]
Security = Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]
Compression = Literal["none", "gzip", "snappy", "lz4", "zstd"]
Order = Literal["timestamp", "arrival"]

# what promises rest on, by the libraries' names, and where it is set instead
_OURS = {
    "group_id": "group",
    "group_instance_id": "",
    "transactional_id": "transactional_id",
    "transaction_timeout_ms": "transaction_timeout_s",
    "isolation_level": "committed_only",
    "auto_offset_reset": "start",
    "enable_auto_commit": "",
    "enable_idempotence": "",
    "acks": "",
}
_POSITIONS = re.compile(r"\d+:\d+(,\d+:\d+)*")


class KafkaSettingError(ConnectorError):
    """A Kafka setting is wrong; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """How to reach a cluster.

    Attributes:
        bootstrap_servers: host:port of some brokers, separated by commas.
        client: the library: kafka-python (comes with this package), or confluent-kafka (extra `fast`).
        security: protocol; with "sasl" a user logs in, with "ssl" the connection is encrypted.
        ca_file: certificates that are trusted, PEM; "" = those of the system.
        certificate_file, key_file: of this client, PEM, where brokers ask for one.
        key_password_file, key_password_env: where the password of `key_file` is.
        mechanism: how the user logs in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, or another that the library
            knows.
        user: who logs in.
        password_file, password_env: where the password is: the first line of a file, or an environment
            variable.
        compression: of what is written.
        start_wait_s: how long a cluster that cannot be reached is waited for at start.
        give_up_s: how long one that is lost later is waited for; 0 = for ever: the intake stands still, the
            process stays, and the metrics say so.
        common, consumer, producer: further settings of the library, under its own names, passed on as they
            are. They replace ours, but for those that promises rest on, which are refused; and are left out of what is
            printed, since they may hold secrets.
    """

    bootstrap_servers: str
    client: Client = "kafka-python"
    security: Security = "plaintext"
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    key_password_file: str = ""
    key_password_env: str = ""
    mechanism: str = "PLAIN"
    user: str = ""
    password_file: str = ""
    password_env: str = ""
    compression: Compression = "none"
    start_wait_s: float = 30.0
    give_up_s: float = 0.0
    common: Mapping[str, Any] = field(default_factory=dict, repr=False)
    consumer: Mapping[str, Any] = field(default_factory=dict, repr=False)
    producer: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not self.bootstrap_servers:
            raise KafkaSettingError(
                'kafka.bootstrap_servers is empty; give host:port of a broker, such as "localhost:9092"'
            )
        _one_of("client", self.client, get_args(Client))
        _one_of("security", self.security, get_args(Security))
        _one_of("compression", self.compression, get_args(Compression))
        _not_negative("start_wait_s", self.start_wait_s)
        _not_negative("give_up_s", self.give_up_s)
        for section in ("common", "consumer", "producer"):
            _not_ours(section, getattr(self, section))
        if self.security.startswith("sasl") and self.mechanism in {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}:
            if not self.user:
                raise KafkaSettingError(f"kafka.security is {self.security!r}, which needs kafka.user")
            if not (self.password_file or self.password_env):
                raise KafkaSettingError(
                    f"kafka.security is {self.security!r}, which needs a password: name its file (kafka.password_file) or "
                    "its environment variable (kafka.password_env)"
                )

    def password(self, environ: Mapping[str, str] = os.environ) -> str:
        """Read the password of the user; "" where none is configured."""
        return _secret("password", self.password_file, self.password_env, environ)

    def key_password(self, environ: Mapping[str, str] = os.environ) -> str:
        """Read the password of the key file; "" where none is configured."""
        return _secret("key_password", self.key_password_file, self.key_password_env, environ)


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaReading:
    """What is read, from where, and in which order.

    Attributes:
        topic: whose records are the events.
        label_topic: whose records are their labels, merged with the events; "" = none. All its partitions are read,
            and what is said below of a start holds for both.
        label_stretches: partition -> its offsets [first, until), which alone are read of `label_topic`; {} = as above.
        group: name under which positions are committed. It is one model's own: what another run commits under
            it is taken for this one's.
        partitions: those that this model owns; () = all that the topic has at the first start.
        start: where to begin at the very first start: "earliest", "latest", or a moment in ISO 8601 (records
            from that time on). Afterwards positions come from the checkpoint alone.
        start_positions: partition -> offset, instead of `start`.
        until: "forever", or where to stop: "end", what is the end of the topic when the source is opened, or a moment
            in ISO 8601 (records before the first one from that time on).
        until_positions: partition -> offset, instead of an `until` that is not "forever".
        order: how partitions are merged. "timestamp": the smallest record timestamp first, ties by partition
            and offset, so that the same records give the same order however they arrive. "arrival": as they
            come.
        idle_wait_s: how long, in timestamp order, a partition that has nothing more is waited for while
            others have. A
            wait that ends by this clock is counted and noted: only then does the order depend on when records
                came.
        lost: what is done if records after a position have been deleted: "stop" with an error, or "skip"
            them, counted.
        new_partitions: what is done if the topic gets more partitions: "refuse" with an error, or "accept"
            them at the next checkpoint, or at once if nothing has come since the last one, read from their beginning.
        committed_only: leave out records of transactions that are open or were aborted.
        buffer_records, buffer_mb: read ahead at most, per partition; a full partition is paused.
        stall_s: the consumer is made anew if a partition that has records was asked for so long, and gave none.
        look_s: how often ends and partitions of the topic are looked up.
        most_uncommitted: records handed out since the last checkpoint whose positions are remembered.
    """

    topic: str
    group: str
    label_topic: str = ""
    label_stretches: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    partitions: tuple[int, ...] = ()
    start: str = "earliest"
    start_positions: Mapping[int, int] = field(default_factory=dict)
    until: str = "forever"
    until_positions: Mapping[int, int] = field(default_factory=dict)
    order: Order = "timestamp"
    idle_wait_s: float = 1.0
    lost: Literal["stop", "skip"] = "stop"
    new_partitions: Literal["refuse", "accept"] = "refuse"
    committed_only: bool = True
    buffer_records: int = 10_000
    buffer_mb: float = 32.0
    stall_s: float = 30.0
    look_s: float = 5.0
    most_uncommitted: int = 10_000_000

    def __post_init__(self) -> None:
        for name, value in (("topic", self.topic), ("kafka.group", self.group)):
            if not value:
                raise KafkaSettingError(f"{name} is empty; give its name")
        _one_of("order", self.order, get_args(Order))
        _one_of("lost", self.lost, ("stop", "skip"))
        _one_of("new_partitions", self.new_partitions, ("refuse", "accept"))
        _not_negative("idle_wait_s", self.idle_wait_s)
        for name, number in (
            ("buffer_records", self.buffer_records),
            ("buffer_mb", self.buffer_mb),
            ("stall_s", self.stall_s),
            ("look_s", self.look_s),
            ("most_uncommitted", self.most_uncommitted),
        ):
            if number <= 0:
                raise KafkaSettingError(f"kafka.{name} is {number}, expected more than 0")
        if len(set(self.partitions)) != len(self.partitions) or any(p < 0 for p in self.partitions):
            raise KafkaSettingError(f"kafka.partitions is {self.partitions}; name each partition once, from 0")
        self.start_ms()
        self.until_ms()
        if self.until_positions and self.until == "forever":
            raise KafkaSettingError("until_positions are given, and until is 'forever'; set it to 'end'")

    @property
    def topics(self) -> "tuple[KafkaReading, ...]":
        """What is read of each topic by itself: of the events, then of the labels."""
        events = replace(self, label_topic="", label_stretches={})
        if not self.label_topic:
            return (events,)
        return events, replace(
            events,
            topic=self.label_topic,
            partitions=tuple(self.label_stretches),
            start_positions={number: first for number, (first, _) in self.label_stretches.items()},
            until_positions={number: until for number, (_, until) in self.label_stretches.items()},
        )

    def start_ms(self) -> int | None:
        """Return the moment to begin at, in milliseconds since 1970; None for "earliest" and "latest"."""
        return _moment_ms(
            "kafka.start", self.start, ("earliest", "latest"), ', or offsets of partitions such as "0:1200,1:800"'
        )

    def until_ms(self) -> int | None:
        """Return the moment to stop at, in milliseconds since 1970; None for "forever" and "end"."""
        return _moment_ms("until", self.until, ("forever", "end"))


def positions(text: str) -> dict[int, int]:
    """Read offsets of partitions such as 0:1200,1:800; {} if the text is something else."""
    if not _POSITIONS.fullmatch(text):
        return {}
    return {int(number): int(at) for number, at in (part.split(":") for part in text.split(","))}


def _moment_ms(name: str, text: str, words: tuple[str, str], more: str = "") -> int | None:
    if text in words:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise KafkaSettingError(
            f'{name} is {text!r}; use "{words[0]}", "{words[1]}" or a moment such as "2026-11-01T12:00:00Z"{more}'
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def _secret(name: str, file: str, variable: str, environ: Mapping[str, str]) -> str:
    if file:
        try:
            return Path(file).read_text().splitlines()[0]
        except (OSError, IndexError) as error:
            raise KafkaSettingError(f"kafka.{name}_file {file!r} cannot be read, or is empty: {error}") from error
    if variable:
        if variable not in environ:
            raise KafkaSettingError(f"kafka.{name}_env names the environment variable {variable!r}, which is not set")
        return environ[variable]
    return ""


def _not_ours(section: str, settings: Mapping[str, Any]) -> None:
    for name in settings:
        if (known := name.replace(".", "_")) in _OURS:
            instead = f"use kafka.{_OURS[known]} instead" if _OURS[known] else "leave it out"
            raise KafkaSettingError(
                f"kafka.{section} sets {name!r}, on which rests that no event is lost or counted twice; {instead}"
            )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise KafkaSettingError(f"kafka.{name} is {value!r}; use one of {', '.join(known)}")


def _not_negative(name: str, value: float) -> None:
    if value < 0:
        raise KafkaSettingError(f"kafka.{name} is {value}, expected 0 or more")
