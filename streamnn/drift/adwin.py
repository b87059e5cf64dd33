"""ADWIN: a window over the newest values that is as long as their mean has not changed.

In: values, in event order. Out: where the mean changed. The window is an exponential histogram: row r holds at most
`max_buckets` sums of 2^r values each, so n values take about max_buckets log2(n / max_buckets) sums.

Reference: Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007 (ADWIN2, the bound for
normal approximations). Arithmetic and detections are those of river 0.26 where `one_sided` is off.

Axes: K values of an update, R rows, B buckets of the window, oldest first.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from streamnn.drift.base import DetectorState, FloatArray


class ADWIN:
    """Flag a change where two parts of the window have means too different for one distribution.

    After every `clock` values, each border between buckets splits the window into an older part (n0, mean0) and a newer
    one (n1, mean1). With the window's length n and variance var::

        m   = 1 / (n0 - min_window_length + 1) + 1 / (n1 - min_window_length + 1)
        d'  = log(2 log(n) / delta)
        cut = |mean0 - mean1| > sqrt(2 m var d') + 2/3 m d'

    A flagged change begins a new window.

    Args:
        delta: confidence; smaller flags less.
        clock: values between tests.
        max_buckets: sums kept of each length.
        min_window_length: a part shorter than this is not tested.
        grace_period: no test before the window is longer than this.
        one_sided: flag only where the newer part has the higher mean. A fall still cuts the window: its oldest bucket is
            dropped until no split shows one, so that the next rise is measured against the present level. Off, falls are
            flagged too.
    """

    def __init__(
        self,
        *,
        delta: float = 0.002,
        clock: int = 32,
        max_buckets: int = 5,
        min_window_length: int = 5,
        grace_period: int = 10,
        one_sided: bool = True,
    ) -> None:
        self.delta, self.clock, self.max_buckets = delta, clock, max_buckets
        self.min_window_length, self.grace_period, self.one_sided = min_window_length, grace_period, one_sided
        self._begin()

    def _begin(self) -> None:
        self.tick = 0  # values since the window began
        self.width = 0  # values in the window
        self.total = 0.0  # their sum
        self.spread = 0.0  # their sum of squared deviations from the mean
        # rows of sums, and of the squared deviations within each sum; oldest first in a row, longest buckets in the last
        self._sums: list[list[float]] = [[]]
        self._spreads: list[list[float]] = [[]]

    @property
    def mean(self) -> float:
        """Mean of the window; 0 for an empty one."""
        return self.total / self.width if self.width else 0.0

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K] and return the indices at which a change was flagged."""
        found, at, listed = [], 0, values.tolist()
        while at < len(listed):
            take = min(self.clock - self.tick % self.clock, len(listed) - at)
            self._insert(listed[at : at + take])
            self.tick += take
            at += take
            if self.tick % self.clock == 0 and self.width > self.grace_period and self._changed():
                found.append(at - 1)
                self._begin()
        return found

    def _insert(self, values: list[float]) -> None:
        width, total, spread = self.width, self.total, self.spread
        for x in values:
            if width:
                d = x - total / width
                spread += width * d * d / (width + 1)
            width += 1
            total += x
        self.width, self.total, self.spread = width, total, spread
        self._sums[0] += values
        self._spreads[0] += [0.0] * len(values)
        self._compress()

    def _compress(self) -> None:
        """Merge the two oldest buckets of a row into one of the next wherever a row is too long.

        All merges of a row are made at once. Each pairs the next two buckets in order, so the result does not depend on
        how many values came together.
        """
        row, size = 0, 1
        while (over := len(self._sums[row]) - self.max_buckets) > 0:
            merged = 2 * ((over + 1) // 2)
            sums, spreads = self._sums[row], self._spreads[row]
            if row + 1 == len(self._sums):
                self._sums.append([])
                self._spreads.append([])
            half = 0.5 / size  # sizes are powers of two: scaling by them is exact, so this order of operations is free
            self._spreads[row + 1] += [
                s + t + half * ((a - b) * (a - b))
                for a, b, s, t in zip(
                    sums[0:merged:2], sums[1:merged:2], spreads[0:merged:2], spreads[1:merged:2], strict=True
                )
            ]
            self._sums[row + 1] += [a + b for a, b in zip(sums[0:merged:2], sums[1:merged:2], strict=True)]
            del sums[:merged], spreads[:merged]
            row, size = row + 1, 2 * size

    def _changed(self) -> bool:
        """Tell whether a change is to be flagged; cut the window at a fall that is not."""
        while True:
            difference = self._difference()
            if not len(difference):
                return False
            if not self.one_sided or (difference < 0).any():
                return True
            self._drop()

    def _difference(self) -> FloatArray:
        """Return mean0 - mean1 of the splits that show a change, oldest first."""
        sums: list[float] = []
        sizes: list[int] = []
        for row in range(len(self._sums) - 1, -1, -1):
            inner = self._sums[row]
            sums += inner
            sizes += [1 << row] * len(inner)
        older = np.cumsum(sizes)
        n0, n1 = older, self.width - older
        total0 = np.cumsum(sums)
        total1 = np.subtract.accumulate([self.total, *sums])[1:]
        least = self.min_window_length
        tested = (n0 >= least) & (n1 >= least)
        n0, n1 = n0[tested], n1[tested]
        difference: FloatArray = total0[tested] / n0 - total1[tested] / n1
        m = 1 / (n0 - least + 1) + 1 / (n1 - least + 1)
        bound = math.log(2 * math.log(self.width) / self.delta)
        epsilon = np.sqrt(2 * m * (self.spread / self.width) * bound) + 2 / 3 * bound * m
        return difference[np.abs(difference) > epsilon]

    def _drop(self) -> None:
        """Forget the oldest bucket."""
        size = 1 << (len(self._sums) - 1)
        total, spread = self._sums[-1].pop(0), self._spreads[-1].pop(0)
        self.width -= size
        self.total -= total
        d = total / size - self.total / self.width
        self.spread -= spread + size * self.width * d * d / (size + self.width)
        if not self._sums[-1]:
            self._sums.pop()
            self._spreads.pop()

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        return {
            "tick": self.tick,
            "width": self.width,
            "total": self.total,
            "spread": self.spread,
            "rows": np.array([len(row) for row in self._sums], dtype=np.int64),
            "sums": np.array([x for row in self._sums for x in row], dtype=np.float64),
            "spreads": np.array([x for row in self._spreads for x in row], dtype=np.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.tick, self.width = int(state["tick"]), int(state["width"])
        self.total, self.spread = float(state["total"]), float(state["spread"])
        ends = np.cumsum(state["rows"])[:-1]
        self._sums = [row.tolist() for row in np.split(np.asarray(state["sums"]), ends)]
        self._spreads = [row.tolist() for row in np.split(np.asarray(state["spreads"]), ends)]
