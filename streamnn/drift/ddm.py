"""DDM and EDDM: the error rate against its lowest, and the distance between errors against its longest.

In: errors (1) and right answers (0), in event order. Out: where the error rate rose. Both are one-sided by nature.

References: Gama, Medas, Castillo and Rodrigues, "Learning with drift detection", SBIA 2004; Baena-Garcia, del
Campo-Avila, Fidalgo, Bifet, Gavalda and Morales-Bueno, "Early drift detection method", IWKDDS 2006. Arithmetic and
detections are those of river 0.26, without its warning zones.
"""

import math
from collections.abc import Mapping
from typing import Any

from streamnn.drift.base import DetectorState, FloatArray


class DDM:
    """Flag a rise where p + s exceeds its lowest value by `drift_threshold` deviations.

    With the error rate p of n values since the last change and s = sqrt(p (1 - p) / n), and p', s' where p + s was
    lowest::

        p + s > p' + drift_threshold s'

    Args:
        warm_start: no test before more values than this.
        drift_threshold: in deviations.
    """

    def __init__(self, *, warm_start: int = 30, drift_threshold: float = 3.0) -> None:
        self.warm_start, self.drift_threshold = warm_start, drift_threshold
        self._begin()

    def _begin(self) -> None:
        self.count, self.rate = 0, 0.0
        self.low_rate, self.low_deviation = math.inf, 0.0

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K], each 0 or 1, and return the indices at which a rise was flagged."""
        found = []
        for at, x in enumerate(values.tolist()):
            self.count += 1
            self.rate += (1 / self.count) * (x - self.rate)
            p = self.rate
            s = math.sqrt(p * (1 - p) / self.count)
            if self.count > self.warm_start:
                if p + s <= self.low_rate + self.low_deviation:
                    self.low_rate, self.low_deviation = p, s
                if p + s > self.low_rate + self.drift_threshold * self.low_deviation:
                    found.append(at)
                    self._begin()
        return found

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        return {name: getattr(self, name) for name in ("count", "rate", "low_rate", "low_deviation")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.count, self.rate = int(state["count"]), float(state["rate"])
        self.low_rate, self.low_deviation = float(state["low_rate"]), float(state["low_deviation"])


class EDDM:
    """Flag a rise where the errors come closer together than they once did.

    With mean p and deviation s of the number of values between two errors, and the largest p + 2 s so far::

        (p + 2 s) / max(p + 2 s) < beta

    Args:
        warm_start: no test before more errors than this.
        beta: share of the largest distance; smaller flags less.
    """

    def __init__(self, *, warm_start: int = 30, beta: float = 0.9) -> None:
        self.warm_start, self.beta = warm_start, beta
        self._begin()

    def _begin(self) -> None:
        self.count, self.errors, self.last = 0, 0, 0
        self.mean, self.square = 0.0, 0.0
        self.longest = -1.0

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K], each 0 or 1, and return the indices at which a rise was flagged."""
        found = []
        for at, x in enumerate(values.tolist()):
            self.count += 1
            if x == 1.0 and self._error():
                found.append(at)
                self._begin()
        return found

    def _error(self) -> bool:
        self.errors += 1
        distance, before = self.count - self.last, self.mean
        self.last = self.count
        self.mean += (1 / self.errors) * (distance - self.mean)
        self.square += (distance - before) * (distance - self.mean)
        if self.count <= self.warm_start:
            return False
        variance = self.square / (self.errors - 1) if self.errors > 1 else 0.0
        reach = self.mean + 2 * variance**0.5
        if reach > self.longest:
            self.longest = reach
            return False
        return self.errors > self.warm_start and reach / self.longest < self.beta

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        return {name: getattr(self, name) for name in ("count", "errors", "last", "mean", "square", "longest")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.count, self.errors, self.last = int(state["count"]), int(state["errors"]), int(state["last"])
        self.mean, self.square, self.longest = float(state["mean"]), float(state["square"]), float(state["longest"])
