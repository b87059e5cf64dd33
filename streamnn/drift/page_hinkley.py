"""Page-Hinkley: the cumulative deviation from the running mean, and how far it has risen above its lowest point.

In: values, in event order. Out: where the mean changed.

Reference: Page, "Continuous inspection schemes", Biometrika 41, 1954. Arithmetic and detections are those of river 0.26.
"""

import math
from collections.abc import Mapping
from typing import Any

from streamnn.drift.base import DetectorState, FloatArray


class PageHinkley:
    """Flag a change where the cumulative deviation has moved by more than `threshold`.

    With the running mean m of all values x since the last change::

        up   = alpha up   + (x - m) - delta;   rise where up - min(up) > threshold
        down = alpha down + (x - m) + delta;   fall where max(down) - down > threshold

    A flagged change begins everything anew.

    Args:
        delta: deviations up to this do not accumulate.
        threshold: cumulative deviation that is a change.
        alpha: how much of the cumulative deviation is kept at each value.
        min_instances: no test before so many values.
        one_sided: flag rises only.
    """

    def __init__(
        self,
        *,
        delta: float = 0.005,
        threshold: float = 50.0,
        alpha: float = 0.9999,
        min_instances: int = 30,
        one_sided: bool = True,
    ) -> None:
        self.delta, self.threshold, self.alpha = delta, threshold, alpha
        self.min_instances, self.one_sided = min_instances, one_sided
        self._begin()

    def _begin(self) -> None:
        self.count, self.mean = 0, 0.0
        self.up, self.lowest = 0.0, math.inf
        self.down, self.highest = 0.0, -1.0

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K] and return the indices at which a change was flagged."""
        found = []
        for at, x in enumerate(values.tolist()):
            self.count += 1
            self.mean += (1 / self.count) * (x - self.mean)
            d = x - self.mean
            self.up = self.alpha * self.up + d - self.delta
            self.down = self.alpha * self.down + d + self.delta
            self.lowest = min(self.lowest, self.up)
            self.highest = max(self.highest, self.down)
            if self.count >= self.min_instances:
                rise = self.up - self.lowest > self.threshold
                fall = self.highest - self.down > self.threshold
                if rise or (fall and not self.one_sided):
                    found.append(at)
                    self._begin()
        return found

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        return {name: getattr(self, name) for name in ("count", "mean", "up", "lowest", "down", "highest")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.count, self.mean = int(state["count"]), float(state["mean"])
        self.up, self.lowest = float(state["up"]), float(state["lowest"])
        self.down, self.highest = float(state["down"]), float(state["highest"])
