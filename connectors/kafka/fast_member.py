"""confluent-kafka's member of a group; see `LogMember`."""

from collections.abc import Collection
from typing import Any

from confluent_kafka import Consumer

from connectors.kafka.client import HEARTBEAT_S, SESSION_S, SILENT_S, LogError
from connectors.kafka.fast_faults import Translating, translated


def settings_of_member(group: str, name: str) -> dict[str, Any]:
    """Return the library's settings for a member."""
    return {
        "group.id": group,
        "client.id": name,
        "partition.assignment.strategy": "range",
        "session.timeout.ms": int(SESSION_S * 1000),
        "heartbeat.interval.ms": int(HEARTBEAT_S * 1000),
        "max.poll.interval.ms": int(SILENT_S * 1000),
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "allow.auto.create.topics": False,
    }


class FastMember:
    """A `LogMember` on confluent-kafka's consumer."""

    def __init__(self, consumer: Consumer, topic: str) -> None:
        self._consumer = consumer
        self._share: frozenset[int] | None = None
        self._id = ""
        with Translating("failed"):
            consumer.subscribe([topic], on_assign=self._given, on_revoke=_let_go, on_lost=_let_go)

    def poll(self, timeout_s: float) -> frozenset[int] | None:
        """Take part; nothing is ever fetched, since nothing is ever assigned to the reading side."""
        with Translating("failed"):
            message = self._consumer.poll(timeout_s)
            found = self._consumer.memberid() or ""
        # the library comes back by itself, under a new id
        if self._id and found != self._id:
            raise LogError("fenced", f"member {self._id!r} has lost its place in the group")
        if message is not None and (error := message.error()) is not None:
            told = translated(error, "failed")
            if told.fault != "unreachable":
                raise told
        if self._share is not None:
            self._id = found
        return self._share

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def _given(self, consumer: Consumer, partitions: Collection[Any]) -> None:
        consumer.assign([])
        self._share = frozenset(tp.partition for tp in partitions)


def _let_go(consumer: Consumer, _: Collection[Any]) -> None:
    """Wait for what is assigned next: while a group agrees anew, nobody else has begun."""
    consumer.unassign()
