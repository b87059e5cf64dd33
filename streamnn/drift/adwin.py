"""ADWIN: a window over the newest values that is as long as their mean has not changed.

In: values, in event order. Out: where the mean changed. The window is an exponential histogram of buckets, each the
sum of 2^r values, at most `max_buckets` of each length: n values take about max_buckets log2(n / max_buckets) of
them. Where there is a C compiler the file adwin.c does what is written here, to the bit.

Reference: Bifet and Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007 (ADWIN2, with its
bound for sums that are nearly normal). Arithmetic and detections are those of river 0.26 where `one_sided` is off.

Axes: K values of an update, R lengths, B buckets of the window.
"""

import ctypes
import math
from collections.abc import Mapping
from functools import cache
from operator import add, sub
from pathlib import Path
from typing import Any

import numpy as np

from streamnn.drift.base import DetectorState, FloatArray
from streamnn.native.build import STRICT, CompilerError, load


class ADWIN:
    """Flag a change where two parts of the window have means too different for one distribution.

    After every `clock` values, each border between buckets splits the window into an older part (n0, mean0) and a
    newer one (n1, mean1). With the window's length n and variance var::

        m  = 1 / (n0 - min_window_length + 1) + 1 / (n1 - min_window_length + 1)
        d' = log(2 log(n) / delta)
        change: |mean0 - mean1| > sqrt(2 m var d') + 2/3 m d'

    A flagged change begins a new window, as in river; the paper would keep the newer part.

    Args:
        delta: confidence; smaller flags less.
        clock: values between tests.
        max_buckets: buckets kept of each length.
        min_window_length: a part shorter than this is not tested.
        grace_period: no test before the window is longer than this.
        one_sided: flag only where the newer part has the higher mean. A fall still cuts the window: its oldest bucket
            is dropped until no split shows a fall, so that the next rise is measured against the present level. Off,
            falls are flagged too.
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
        self._counts = [0]  # buckets of each length, shortest first
        # of each bucket, oldest first: lists, because most steps touch a few entries at the end
        self._sums: list[float] = []
        self._spreads: list[float] = []

    @property
    def mean(self) -> float:
        """Mean of the window; 0 for an empty one."""
        return self.total / self.width if self.width else 0.0

    def update(self, values: FloatArray) -> list[int]:
        """Take the next values [K] and return the indices at which a change was flagged."""
        library = _library()
        return self._update_here(values) if library is None else self._update_in_c(library, values)

    def _update_in_c(self, library: ctypes.CDLL, values: FloatArray) -> list[int]:
        values = np.ascontiguousarray(values, dtype=np.float64)
        window = _Window(
            self.tick, self.width, len(self._counts), len(self._sums), tuple(self._counts), self.total, self.spread
        )
        buckets = np.zeros((2, 64 * (self.max_buckets + 2) + self.clock))
        buckets[:, : len(self._sums)] = self._sums, self._spreads
        found = np.empty(len(values) // self.clock + 1, dtype=np.int64)
        settings = (ctypes.c_int64 * 5)(
            self.clock, self.max_buckets, self.min_window_length, self.grace_period, self.one_sided
        )
        sums, spreads, *arrays = (ctypes.c_void_p(a.ctypes.data) for a in (*buckets, values, found))
        flagged = library.update(
            settings,
            ctypes.c_double(self.delta),
            ctypes.byref(window),
            sums,
            spreads,
            arrays[0],
            ctypes.c_int64(len(values)),
            arrays[1],
        )
        self.tick, self.width, self.total, self.spread = window.tick, window.width, window.total, window.spread
        self._counts = window.counts[: window.rows]
        self._sums, self._spreads = buckets[:, : window.buckets].tolist()
        return [int(at) for at in found[:flagged]]

    def _update_here(self, values: FloatArray) -> list[int]:
        found, at, listed = [], 0, values.tolist()
        while at < len(listed):
            part = listed[at : at + self.clock - self.tick % self.clock]
            self._count(part)
            self._insert(part)
            at += len(part)
            if self.tick % self.clock == 0 and self.width > self.grace_period and self._changed():
                found.append(at - 1)
                self._begin()
        return found

    def _count(self, values: list[float]) -> None:
        width, total, spread = self.width, self.total, self.spread
        for x in values:
            if width:
                d = x - total / width
                spread += width * d * d / (width + 1)
            width += 1
            total += x
        self.width, self.total, self.spread = width, total, spread
        self.tick += len(values)

    def _insert(self, values: list[float]) -> None:
        """Add buckets of one value; wherever there are too many of a length, merge the two oldest of them.

        All merges of a length are made at once. Each pairs the next two buckets in order, so the result does not
        depend on how many values came together.
        """
        sums, spreads, counts = self._sums, self._spreads, self._counts
        sums += values
        spreads += [0.0] * len(values)
        counts[0] += len(values)
        row, half, stop = 0, 0.5, len(sums)
        while (over := counts[row] - self.max_buckets) > 0:
            pairs = (over + 1) // 2
            if row + 1 == len(counts):
                counts.append(0)
            start = stop - counts[row]
            stop = start + pairs
            old, new = sums[start : start + 2 * pairs : 2], sums[start + 1 : start + 2 * pairs : 2]
            # lengths are powers of two: scaling by them is exact, so this order of operations is as good as any
            between = [half * (d * d) for d in map(sub, old, new)]
            within = map(add, spreads[start : start + 2 * pairs : 2], spreads[start + 1 : start + 2 * pairs : 2])
            spreads[start : start + 2 * pairs] = map(add, within, between)
            sums[start : start + 2 * pairs] = map(add, old, new)
            counts[row] -= 2 * pairs
            counts[row + 1] += pairs
            row, half = row + 1, half / 2

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
        least = self.min_window_length
        rows = len(self._counts)
        older = np.cumsum(np.repeat(_LENGTHS[-rows:], self._counts[::-1]))
        first, last = older.searchsorted((least, self.width - least + 1))
        n0 = older[first:last]
        n1 = self.width - n0
        total0 = np.add.accumulate(self._sums)[first:last]
        total1 = np.subtract.accumulate([self.total, *self._sums])[first + 1 : last + 1]
        difference: FloatArray = total0 / n0 - total1 / n1
        m = 1 / (n0 - (least - 1)) + 1 / (n1 - (least - 1))
        bound = math.log(2 * math.log(self.width) / self.delta)
        epsilon = np.sqrt(2 * (self.spread / self.width) * bound * m) + (2 / 3 * bound) * m
        return difference[np.abs(difference) > epsilon]

    def _drop(self) -> None:
        """Forget the oldest bucket."""
        size = 1 << (len(self._counts) - 1)
        total, spread = self._sums.pop(0), self._spreads.pop(0)
        self.width -= size
        self.total -= total
        d = total / size - self.total / self.width
        self.spread -= spread + size * self.width * d * d / (size + self.width)
        self._counts[-1] -= 1
        if not self._counts[-1]:
            self._counts.pop()

    def state_dict(self) -> DetectorState:
        """Return everything for a checkpoint."""
        return {
            "tick": self.tick,
            "width": self.width,
            "total": self.total,
            "spread": self.spread,
            "counts": np.array(self._counts, dtype=np.int64),
            "sums": np.array(self._sums, dtype=np.float64),
            "spreads": np.array(self._spreads, dtype=np.float64),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.tick, self.width = int(state["tick"]), int(state["width"])
        self.total, self.spread = float(state["total"]), float(state["spread"])
        self._counts = np.asarray(state["counts"]).tolist()
        self._sums = np.asarray(state["sums"]).tolist()
        self._spreads = np.asarray(state["spreads"]).tolist()


_LENGTHS = 2.0 ** np.arange(62, -1, -1)


class _Window(ctypes.Structure):
    """The window, as adwin.c has it."""

    _fields_ = (
        ("tick", ctypes.c_int64),
        ("width", ctypes.c_int64),
        ("rows", ctypes.c_int64),
        ("buckets", ctypes.c_int64),
        ("counts", ctypes.c_int64 * 64),
        ("total", ctypes.c_double),
        ("spread", ctypes.c_double),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """Build or load adwin.c; None without a usable compiler."""
    try:
        loaded, _ = load((Path(__file__).parent / "adwin.c").read_text(encoding="ascii"), flags=STRICT)
    except CompilerError:
        return None
    loaded.update.restype = ctypes.c_int64
    return loaded
