"""Standing by: of several workers of one model one runs it, and the others wait for their turn.

In: settings. Out: `Turn`, which waits for the lease (`connectors.kafka.lease`), and while the model runs keeps it and looks
whether another worker has begun to take over. Waiting workers have everything made but what belongs to the checkpoint,
say so at /readyz, and touch neither topics nor the folder.
"""

import time
from collections.abc import Callable
from types import TracebackType

from pipeline.checkpoint import CheckpointStore
from pipeline.config import Config
from pipeline.outside import is_kafka, lease
from pipeline.server import Health
from pipeline.settings import SettingsError
from pipeline.telemetry import Telemetry

WAIT_S = 0.2
CHECK_S = 0.5  # between two looks while the model runs


def check(config: Config) -> None:
    """Check that a worker with these settings can stand by.

    Raises:
        SettingsError: it cannot; the message says why.
    """
    if not is_kafka(config.stream.source) or config.kafka.delivery != "transactional":
        raise SettingsError(
            "kafka.standby needs a topic as the source and kafka.delivery = transactional: nothing else keeps a worker"
            " that was frozen from writing predictions after another has taken over"
        )
    for name, file in (("predictions", config.output.predictions), ("dead_letters", config.output.dead_letters)):
        if file:
            raise SettingsError(
                f"output.{name} is a file, and kafka.standby is set: workers cannot share it. Set kafka.{name}_topic."
            )


class Turn:
    """This worker's turn; used as a context manager, it is given up at the end.

    Args:
        config: settings.
        health, telemetry: what is told that it waits.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        health: Health,
        telemetry: Telemetry | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lease, self._health, self._telemetry, self._clock = lease(config), health, telemetry, clock
        self._checked = clock()

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lease.close()

    def wait(self, stop: Callable[[], bool]) -> bool:
        """Wait until it has come; False if `stop` said so before.

        Raises:
            SinkError: the cluster cannot be reached at the start, or refuses.
        """
        self._tell(True)
        self._lease.join()
        while not stop():
            self._health.beat()
            if self._lease.held(WAIT_S):
                self._tell(False)
                return True
        return False

    def check(self, store: CheckpointStore) -> None:
        """Keep the lease; where it is not held, look whether anybody has begun to take over.

        Raises:
            CheckpointError: "taken_over": somebody has.
            SinkError: the cluster refuses.
        """
        if not self._kept():
            store.confirm_term()

    def beat(self) -> None:
        """Keep the lease while the model waits for an output, and say that it is alive.

        Raises:
            SinkError: the cluster refuses.
        """
        self._health.beat()
        self._kept()

    def _kept(self) -> bool:
        """Take part, if that was not done just now; False if it turns out that the lease is not held."""
        now = self._clock()
        if now - self._checked < CHECK_S:
            return True
        self._checked = now
        return self._lease.held()

    def _tell(self, standing_by: bool) -> None:
        self._health.standing_by = standing_by
        if self._telemetry is not None:
            self._telemetry.standing_by.set(standing_by)
