"""What the loop asks of a learner: one network or a whole pool, it does not matter which.

Axes: K events of a chunk.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from streamnn.chunks import EncodedChunk
from streamnn.features.index import Column, FeatureIndex
from streamnn.heads import Head
from streamnn.operations import IntArray, Operations, Results, Rows
from streamnn.targets import TargetIndex


class Model(Protocol):
    """Predicts and learns; `streamnn.learner.Learner` and `streamnn.pool.PoolLearner` are two."""

    features: FeatureIndex
    targets: TargetIndex
    growths: dict[str, int]

    @property
    def head(self) -> Head:
        """The head at its present capacity."""

    @property
    def engine(self) -> str:
        """Which engine runs."""

    @property
    def device(self) -> str:
        """What it runs on."""

    @property
    def compilations(self) -> int:
        """How often something was compiled."""

    @property
    def parameters(self) -> int:
        """How many weights there are."""

    def encode(
        self, columns: Mapping[str, Column], labels: Mapping[str, Column], number: IntArray, *, batch: int = 1
    ) -> EncodedChunk:
        """Turn the first events of a chunk into rows, growing if the very first needs it."""

    def run(self, rows: Rows, operations: Operations, *, rate: float, clear: bool = False) -> Results:
        """Run operations over encoded rows."""

    def pad(self, rows: Rows, *, head: Head) -> Rows:
        """Bring rows that were encoded at a smaller capacity to the present one."""

    def declare(self, fields: Sequence[str]) -> None:
        """Name numeric fields before the first event."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
