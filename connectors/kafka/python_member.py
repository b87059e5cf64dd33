"""kafka-python's member of a group; see `LogMember`."""

import threading
import time
from collections.abc import Callable, Collection
from typing import Any

import kafka  # type: ignore[import-untyped]
from kafka import errors
from kafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]

from connectors.kafka.client import HEARTBEAT_S, SESSION_S, SILENT_S, LogError
from connectors.kafka.python_faults import call, milliseconds, translated

_AGREE_S, _LEAVE_S = 3.0, 5.0  # how long a group is waited for: for others to join too, and to take note of a leave


def settings_of_member(group: str, name: str) -> dict[str, Any]:
    """Return the library's settings for a member."""
    return {
        "group_id": group,
        "client_id": name,
        "partition_assignment_strategy": [RangePartitionAssignor],
        "session_timeout_ms": milliseconds(SESSION_S),
        "heartbeat_interval_ms": milliseconds(HEARTBEAT_S),
        "max_poll_interval_ms": milliseconds(SILENT_S),
        "enable_auto_commit": False,
        "auto_offset_reset": "latest",
        "allow_auto_create_topics": False,
        "metrics_enabled": False,
    }


class PythonMember:
    """A `LogMember` on kafka-python's consumer, which takes part in a thread of its own.

    If `poll` of the library (3.0.12) ends before the group has agreed, it forgets what the group then agrees on and has it
    agree again: a loop that takes part for a moment now and then would keep its group agreeing for ever.
    """

    def __init__(self, consumer: Any, topic: str) -> None:
        self._consumer = consumer
        self._given: frozenset[int] | None = None
        self._share: frozenset[int] | None = None
        self._failed: LogError | None = None
        self._id = ""
        self._asked, self._news, self._closing = time.monotonic(), threading.Event(), False
        call(consumer.partitions_for_topic, topic)  # or it would share out nothing, learn of them, and do it all again
        call(consumer.subscribe, [topic], listener=_Listener(self._take))
        self._thread = threading.Thread(target=self._take_part, name="member of a group", daemon=True)
        self._thread.start()

    def poll(self, timeout_s: float) -> frozenset[int] | None:
        """Say what is known."""
        self._asked = time.monotonic()
        if self._news.wait(timeout_s):
            self._news.clear()
        if self._failed is not None:
            raise self._failed
        return self._share

    def close(self) -> None:
        """Leave."""
        self._closing = True
        self._thread.join(_AGREE_S + _LEAVE_S)
        call(self._consumer.close, autocommit=False, timeout_ms=milliseconds(_LEAVE_S))

    def _take_part(self) -> None:
        while not self._closing and self._failed is None:
            try:
                if time.monotonic() - self._asked >= SILENT_S:
                    self._consumer.close(autocommit=False, timeout_ms=milliseconds(_LEAVE_S))
                    self._failed = LogError("fenced", f"nobody has asked for {SILENT_S:g} s whose turn it is")
                    break
                if self._consumer._coordinator.need_rejoin():
                    self._consumer._coordinator.poll(timeout_ms=milliseconds(_AGREE_S))
                self._consumer.poll(timeout_ms=100)
                self._look()
            except errors.KafkaError as error:
                if (told := translated(error, "failed")).fault != "unreachable":
                    self._failed = told
            except LogError as error:
                self._failed = error
        self._news.set()

    def _look(self) -> None:
        """Publish what the group has agreed on, if this is still the same member."""
        # the library comes back by itself under a new id; it has no public way to it
        found = self._consumer._coordinator._generation.member_id
        if self._id and found != self._id:
            raise LogError("fenced", f"member {self._id!r} has lost its place in the group")
        if self._given is not None:
            self._id = found
            self._consumer.pause(*self._consumer.assignment())  # nothing is to be read
        if self._given != self._share:
            self._share = self._given
            self._news.set()

    def _take(self, partitions: Collection[Any]) -> None:
        self._given = frozenset(tp.partition for tp in partitions)


class _Listener(kafka.ConsumerRebalanceListener):  # type: ignore[misc]
    """Hands on what a member is given."""

    def __init__(self, given: Callable[[Collection[Any]], None]) -> None:
        self._given = given

    def on_partitions_assigned(self, assigned: Collection[Any]) -> None:
        """Hand on."""
        self._given(assigned)

    def on_partitions_revoked(self, revoked: Collection[Any]) -> None:
        """Wait for what is assigned next: while a group agrees anew, nobody else has begun."""
