"""The course of a few metrics over the stream: points at fixed event numbers, in bounded memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Point = tuple[int, float, float]


class History:
    """Keep a point every so many scored events; if there are too many, drop every second one.

    Which points are kept depends on the number of scored events alone.

    Args:
        metrics: names.
        every: scored events between two points, at first.
        limit: most points kept.
    """

    def __init__(self, metrics: Sequence[str], *, every: int = 20, limit: int = 500) -> None:
        if every < 1:
            raise ValueError(f"sample_every is {every}, but must be at least 1 event")
        self.metrics = tuple(metrics)
        self.every = every
        self._limit = limit
        self._counts: list[int] = []
        self._values: list[list[float]] = []  # per point: overall and windowed value of each metric in turn

    def add(self, count: int, values: Sequence[float]) -> None:
        """Keep a point: the event count, and the overall and windowed value of each metric in turn."""
        self._counts.append(count)
        self._values.append(list(values))
        if len(self._counts) > self._limit:
            # point i was taken at scored event (i + 1) * every: those at even multiples stay
            self._counts, self._values = self._counts[1::2], self._values[1::2]
            self.every *= 2

    def points(self) -> dict[str, list[Point]]:
        """Return metric -> [(event count, overall, windowed), ...]."""
        return {
            metric: [(n, v[2 * i], v[2 * i + 1]) for n, v in zip(self._counts, self._values, strict=True)]
            for i, metric in enumerate(self.metrics)
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the points and the spacing."""
        values = np.array(self._values, dtype=np.float64).reshape(len(self._counts), 2 * len(self.metrics))
        return {"every": self.every, "counts": np.array(self._counts, dtype=np.int64), "values": values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.every = int(state["every"])
        self._counts = np.asarray(state["counts"]).tolist()
        self._values = np.asarray(state["values"]).tolist()
