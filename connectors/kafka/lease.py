"""A lease on a model: of several workers started with the same settings one is meant to work, and the others wait.

In: the group of the workers, and the topic that they read. Out: whose turn it is. Every worker is a member of the
group, and the one that is given partition 0 of the topic has the lease; members are named by the time at which they
joined, so that it stays with the oldest. Who dies, hangs for a minute, or is frozen loses it within seconds, and gets
it back only behind those who waited. Clocks of machines that differ can hand it over once too often, which does no harm.

**The lease keeps nobody from writing.** It says who should try, and no more than that: a member that was frozen finds
out late that it has lost its place. What keeps the model in one hand is the fence that a worker sets when its turn has
come (`connectors.kafka.transaction`, and the terms of a folder of checkpoints), and so only exactly-once delivery can
have workers that stand by. Members are dynamic on purpose: a static one (group.instance.id) does not leave when it is
closed, so that stopping the worker that is active would hand over only after its session.
"""

import logging
import secrets
import time
from collections.abc import Callable

from connectors.errors import SinkError
from connectors.kafka.client import Library, LogError, LogMember, known_partitions, missing
from connectors.kafka.delivery import LOOK_UP_S, PERMANENT, told

_log = logging.getLogger(__name__)

_AGAIN_S = 2.0  # between two attempts to join
_JOIN_S = 1.0  # how long one attempt waits for the cluster


class Lease:
    """One worker's place in the row.

    Args:
        library: makes the member.
        group: of the workers of one model, and of nothing else.
        topic: that they read.
        clock: monotonic seconds.
        moment: seconds since 1970; orders the members.
    """

    def __init__(
        self,
        library: Library,
        *,
        group: str,
        topic: str,
        clock: Callable[[], float] = time.monotonic,
        moment: Callable[[], float] = time.time,
    ) -> None:
        self._library, self._group, self._topic = library, group, topic
        self._clock, self._moment = clock, moment
        self._member: LogMember | None = None
        self._tried: float | None = None  # when joining was last tried

    def join(self) -> None:
        """Connect at the start.

        Raises:
            SinkError: the cluster cannot be reached, or refuses, or has no such topic.
        """
        try:
            reader = self._library.reader(group="", committed_only=True)
            there = known_partitions(lambda: reader.partitions(self._topic, timeout_s=LOOK_UP_S))
            reader.close()
            if there:  # a group shares out nothing of a topic that is not there, and everybody would wait for ever
                self._join(None)
        except LogError as error:
            raise told(error, f"cannot join the workers' group {self._group!r}") from error
        if not there:
            raise SinkError(missing(self._topic))

    def held(self, timeout_s: float = 0.0) -> bool:
        """Take part for a moment, and say whether it is this worker's turn; to be asked at least once a minute.

        Raises:
            SinkError: the cluster refuses.
        """
        try:
            if self._member is None:
                if self._tried is not None and self._clock() - self._tried < _AGAIN_S:
                    time.sleep(min(timeout_s, _AGAIN_S))
                    return False
                self._join(_JOIN_S)
            assert self._member is not None
            share = self._member.poll(timeout_s)
        except LogError as error:
            if error.fault in PERMANENT:
                raise told(error, f"cannot take part in the workers' group {self._group!r}") from error
            if error.fault != "unreachable":
                _log.warning("%s; joining the group %r again", error, self._group)
                self.close()
            return False
        return share is not None and 0 in share

    def close(self) -> None:
        """Leave: the next one is at once told that it is its turn. May be called twice."""
        if self._member is not None:
            member, self._member = self._member, None
            member.close()

    def _join(self, wait_s: float | None) -> None:
        self._tried = self._clock()
        name = f"streamnn-{int(self._moment() * 1000):015d}-{secrets.token_hex(4)}"
        self._member = self._library.member(group=self._group, topic=self._topic, name=name, wait_s=wait_s)
