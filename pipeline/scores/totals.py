"""Class counts and sums of quantities, which all metrics are made of: over all events, faded, or a window.

Axes: K events, T class targets, P predictors, C classes there is room for, R rows of the sums (`layout.py`).
Codes are [1 + P, T, K] int64: the truth, then each predictor's decision; -1 = unknown or nothing.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.scores.layout import Layout
from pipeline.scores.outcome import FloatArray, IntArray


class Counter:
    """Turn codes into places of a flat table of counts with room for C classes.

    The table holds, in this order: truths [T, C]; decisions [P, T, C]; hits (decided and true) [P, T, C]; and
    one last place for what is not counted.

    Args:
        targets: T.
        predictors: P.
        room: C; doubles when needed.
    """

    def __init__(self, targets: int, predictors: int, *, room: int = 2) -> None:
        self.shape = (1 + 2 * predictors, targets, room)
        self._base = np.arange(self.shape[0] * targets).reshape(self.shape[0], targets, 1) * room
        self.size = self.shape[0] * targets * room + 1

    def room_for(self, largest: int) -> "Counter":
        """Return this, or a larger one that has room for class number `largest`."""
        rows, targets, room = self.shape
        while room <= largest:
            room *= 2
        return self if room == self.shape[2] else Counter(targets, (rows - 1) // 2, room=room)

    def places(self, codes: IntArray) -> IntArray:
        """Return the places to count for each event: [1 + 2P, T, K]. A truth of -1 counts nowhere."""
        predictors = len(codes) - 1
        out = np.empty((1 + 2 * predictors, *codes.shape[1:]), dtype=np.int64)
        out[: 1 + predictors] = codes
        out[1 + predictors :] = np.where(codes[1:] == codes[:1], codes[1:], -1)
        counted = out >= 0
        if not counted.all():
            counted &= codes[0] >= 0
        out += self._base
        return np.where(counted, out, self.size - 1)


class Totals:
    """Counts and sums, folded in event order.

    Args:
        layout: rows of the sums.
        counter: of the class counts.
        faded: whether events come with weights (counts are then floats).
    """

    def __init__(self, layout: Layout, counter: Counter, *, faded: bool = False) -> None:
        self._counter = counter
        self._counts: npt.NDArray[Any] = np.zeros(counter.size, dtype=np.float64 if faded else np.int64)
        self._ones = np.ones((counter.shape[0] * counter.shape[1], 1))
        self.sums = np.zeros(layout.size)

    def widen(self, counter: Counter) -> None:
        """Make room for more classes."""
        wider = np.zeros(counter.size, dtype=self._counts.dtype)
        wider[:-1].reshape(counter.shape)[:, :, : self._counter.shape[2]] = self._table()
        self._counter, self._counts = counter, wider

    def add(self, places: IntArray, quantities: FloatArray, weights: FloatArray | None = None) -> None:
        """Fold events: their places [1 + 2P, T, K], quantities [R, K] and, if faded, weights [K].

        One event after the other (`np.add.at` and `accumulate` both are), so that cuts do not show.
        """
        line = np.empty((len(self.sums), quantities.shape[1] + 1))
        line[:, 0] = self.sums
        if weights is None:
            np.add.at(self._counts, places.reshape(-1), 1)
            line[:, 1:] = quantities
        else:
            np.add.at(self._counts, places.reshape(-1), (self._ones * weights).reshape(-1))
            np.multiply(quantities, weights, out=line[:, 1:])
        self.sums = np.add.accumulate(line, axis=1)[:, -1].copy()

    def scale(self, factor: float) -> None:
        """Multiply everything."""
        np.multiply(self._counts, factor, out=self._counts)
        self.sums *= factor

    @property
    def seen(self) -> IntArray:
        """Whole counts of the truths: [T, C]."""
        truths: IntArray = self._table()[0]
        return truths

    def tables(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return counts of truths [T, C], decisions [P, T, C] and hits [P, T, C]."""
        table = self._table().astype(np.float64)
        predictors = (len(table) - 1) // 2
        return table[0], table[1 : 1 + predictors], table[1 + predictors :]

    def state_dict(self) -> dict[str, Any]:
        """Return counts [1 + 2P, T, C] and sums [R]."""
        return {"counts": self._table().copy(), "sums": self.sums.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        counts = np.asarray(state["counts"])
        rows, targets, room = counts.shape
        self._counter = Counter(targets, (rows - 1) // 2, room=room)
        self._counts = np.zeros(self._counter.size, dtype=self._counts.dtype)
        self._table()[...] = counts
        self.sums = np.array(state["sums"], dtype=np.float64)

    def _table(self) -> Any:
        return self._counts[:-1].reshape(self._counter.shape)


class Fading:
    """Weights of a fading factor f: after event n, event i counts f^(n - i).

    Instead of shrinking the totals at each event, event i is added with f^-(i - start), and the totals are
    shrunk once at the end of each period of event numbers, before the weights get large. Ratios are the same.

    Args:
        factor: f, between 0 and 1, both excluded.

    Reference: Gama, Sebastião and Rodrigues 2013, "On evaluating stream learning algorithms".
    """

    def __init__(self, factor: float) -> None:
        if not 0.0 < factor < 1.0:
            raise ValueError(f"fading is {factor}, but must lie between 0 and 1; .999 remembers about 1000 events")
        self.period = max(1, min(4096, int(-60.0 / math.log(factor))))
        self._weights = np.power(factor, -np.arange(self.period, dtype=np.float64))
        self.shrink = factor**self.period

    def weights(self, number: int, events: int) -> FloatArray:
        """Return the weights of the next events, which end at a period's end at the latest: [K]."""
        start = number % self.period
        return self._weights[start : start + events]


class Window:
    """The last W events, in a ring whose places are event numbers modulo W.

    Args:
        layout: rows of the sums.
        size: W.
    """

    def __init__(self, layout: Layout, *, size: int = 1000) -> None:
        if size < 1:
            raise ValueError(f"window is {size}, but must hold at least 1 event")
        self.size = size
        self._layout = layout
        self._codes = np.full((1 + len(layout.predictors), len(layout.classes), size), -1, dtype=np.int32)
        self._quantities = np.zeros((layout.size, size))

    def put(self, number: int, codes: IntArray, quantities: FloatArray) -> None:
        """Keep events from event number `number` on; codes [1 + P, T, K], quantities [R, K]."""
        events = quantities.shape[1]
        skip = max(0, events - self.size)
        first = (number + skip) % self.size
        head = min(events - skip, self.size - first)
        self._codes[:, :, first : first + head] = codes[:, :, skip : skip + head]
        self._quantities[:, first : first + head] = quantities[:, skip : skip + head]
        if skip + head < events:
            rest = events - skip - head
            self._codes[:, :, :rest] = codes[:, :, skip + head :]
            self._quantities[:, :rest] = quantities[:, skip + head :]

    def sums(self, events: int, rows: Sequence[slice]) -> FloatArray:
        """Sum some quantities of the last W of `events` events: [R], the others 0."""
        held, total = min(events, self.size), np.zeros(len(self._quantities))
        for part in rows:
            total[part] = self._quantities[part, :held].sum(axis=1)
        return total

    def totals(self, events: int, counter: Counter) -> Totals:
        """Return counts and sums of the last W of `events` events."""
        held = min(events, self.size)
        totals = Totals(self._layout, counter)
        totals.add(counter.places(self._codes[:, :, :held].astype(np.int64)), self._quantities[:, :held])
        if "spread" in self._layout.rows:
            totals.sums[self._layout.rows["spread"]] = self._spread(held)
        return totals

    def _spread(self, held: int) -> FloatArray:
        """Squared deviations of the truths from the window's own mean: [Q * V]."""
        counted = self._quantities[self._layout.rows["count"], :held]
        y = self._quantities[self._layout.rows["total"], :held]
        mean = y.sum(axis=1) / np.maximum(counted.sum(axis=1), 1.0)
        deviations: FloatArray = (np.square(y - mean[:, None]) * counted).sum(axis=1)
        return deviations

    def state_dict(self) -> dict[str, Any]:
        """Return the ring."""
        return {"codes": self._codes.copy(), "quantities": self._quantities.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._codes = np.array(state["codes"], dtype=np.int32)
        self._quantities = np.array(state["quantities"], dtype=np.float64)
