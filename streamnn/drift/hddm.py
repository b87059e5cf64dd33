"""HDDM_A and HDDM_W: the mean, or a fading mean, against its lowest, with distribution-free bounds.

In: values in [0, 1], in event order. Out: where their mean rose.

Reference: Frias-Blanco, del Campo-Avila, Ramos-Jimenez, Morales-Bueno, Ortiz-Diaz and Caballero-Mota, "Online and
non-parametric drift detection methods based on Hoeffding's bounds", IEEE TKDE 27(3), 2015. Arithmetic and detections are
those of river 0.26, without its warning zones.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamnn.drift.base import DetectorState, FloatArray


class HDDMA:
    """Flag a change where the mean of all values differs from that of an early part (Hoeffding's bound).

    The early part (n0, mean0) ends where mean + sqrt(log(1 / c) / (2 n)) was lowest; over all n values since the last
    change the mean is::

        mean - mean0 >= sqrt((n - n0) / (2 n0 n) log(2 / c)),    c = drift_confidence

    Args:
        drift_confidence: smaller flags less.
        one_sided: flag rises only; off, the mirrored test flags falls too.
    """

    def __init__(self, *, drift_confidence: float = 0.001, one_sided: bool = True) -> None:
        self.drift_confidence, self.one_sided = drift_confidence, one_sided
        self._begin()

    def _begin(self) -> None:
        self.count, self.mean = 0, 0.0
        self.low_count, self.low_mean = 0, 0.0
        self.high_count, self.high_mean = 0, 0.0

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K] and return the indices at which a change was flagged."""
        found = []
        for at, x in enumerate(values.tolist()):
            self.count += 1
            self.mean += (1 / self.count) * (x - self.mean)
            bound = self._bound(self.count)
            if self.low_count == 0 or self.low_mean + self._bound(self.low_count) >= self.mean + bound:
                self.low_count, self.low_mean = self.count, self.mean
            if self.high_count == 0 or self.high_mean - self._bound(self.high_count) <= self.mean - bound:
                self.high_count, self.high_mean = self.count, self.mean
            rise = self._differs(self.mean - self.low_mean, self.low_count)
            if rise or (not self.one_sided and self._differs(self.high_mean - self.mean, self.high_count)):
                found.append(at)
                self._begin()
        return found

    def _bound(self, count: int) -> float:
        return math.sqrt(1 / (2 * count) * math.log(1 / self.drift_confidence))

    def _differs(self, difference: float, early: int) -> bool:
        if early == self.count:
            return False
        m = (self.count - early) / early * (1 / self.count)
        return difference >= math.sqrt(m / 2 * math.log(2 / self.drift_confidence))

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        names = ("count", "mean", "low_count", "low_mean", "high_count", "high_mean")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.count, self.mean = int(state["count"]), float(state["mean"])
        self.low_count, self.low_mean = int(state["low_count"]), float(state["low_mean"])
        self.high_count, self.high_mean = int(state["high_count"]), float(state["high_mean"])


class _Fading:
    """A fading mean and the sum of its squared weights, which is what McDiarmid's bound needs."""

    __slots__ = ("mean", "started", "weight")

    def __init__(self) -> None:
        self.mean, self.weight, self.started = 0.0, 1.0, False

    def add(self, x: float, fading: float) -> None:
        self.mean = fading * x + (1 - fading) * self.mean if self.started else x
        self.weight = fading * fading + (1 - fading) ** 2 * self.weight
        self.started = True

    def copy(self) -> "_Fading":
        new = _Fading()
        new.mean, new.weight, new.started = self.mean, self.weight, self.started
        return new


class HDDMW:
    """Flag a change where the fading mean since a cut differs from the one before it (McDiarmid's bound).

    With fading weight l, each mean carries the sum w of its squared weights. The cut for rises lies where
    mean + sqrt(w log(1 / c) / 2) was lowest; before it (mean1, w1), since then (mean2, w2)::

        mean2 - mean1 > sqrt((w1 + w2) log(1 / c) / 2),    c = drift_confidence

    Args:
        drift_confidence: smaller flags less.
        fading: weight of the newest value (river's lambda_val).
        one_sided: flag rises only; off, the mirrored test flags falls too.
    """

    def __init__(self, *, drift_confidence: float = 0.001, fading: float = 0.05, one_sided: bool = True) -> None:
        self.drift_confidence, self.fading, self.one_sided = drift_confidence, fading, one_sided
        self._begin()

    def _begin(self) -> None:
        self._all = _Fading()
        self._before_rise, self._since_rise = _Fading(), _Fading()
        self._before_fall, self._since_fall = _Fading(), _Fading()
        self.low, self.high = math.inf, -math.inf

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K] and return the indices at which a change was flagged."""
        found = []
        for at, x in enumerate(values.tolist()):
            self._add(x)
            if self._differs(self._before_rise, self._since_rise) or (
                not self.one_sided and self._differs(self._since_fall, self._before_fall)
            ):
                found.append(at)
                self._begin()
        return found

    def _add(self, x: float) -> None:
        self._all.add(x, self.fading)
        bound = self._bound(self._all.weight)
        if self._all.mean + bound < self.low:
            self.low = self._all.mean + bound
            self._before_rise, self._since_rise = self._all.copy(), _Fading()
        else:
            self._since_rise.add(x, self.fading)
        if self._all.mean - bound > self.high:
            self.high = self._all.mean - bound
            self._before_fall, self._since_fall = self._all.copy(), _Fading()
        else:
            self._since_fall.add(x, self.fading)

    def _bound(self, weight: float) -> float:
        return math.sqrt(weight * math.log(1 / self.drift_confidence) / 2)

    def _differs(self, lower: _Fading, higher: _Fading) -> bool:
        if not (lower.started and higher.started):
            return False
        return higher.mean - lower.mean > self._bound(lower.weight + higher.weight)

    def _means(self) -> tuple[_Fading, ...]:
        return self._all, self._before_rise, self._since_rise, self._before_fall, self._since_fall

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        return {
            "low": self.low,
            "high": self.high,
            "mean": np.array([m.mean for m in self._means()]),
            "weight": np.array([m.weight for m in self._means()]),
            "started": np.array([m.started for m in self._means()]),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._begin()
        self.low, self.high = float(state["low"]), float(state["high"])
        for at, m in enumerate(self._means()):
            m.mean, m.weight = float(state["mean"][at]), float(state["weight"][at])
            m.started = bool(state["started"][at])
