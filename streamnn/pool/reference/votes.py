"""The label frequencies and votes of `streamnn.pool.votes`, one event at a time.

Axes: K rows, G key entries, T labels.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, IntArray, Kind, Operations
from streamnn.pool.layout import Arrays, Layout
from streamnn.pool.maps import WINDOW
from streamnn.pool.reference.common import PREDICT
from streamnn.pool.votes import NEAR

NEIGHBOURS = (5, 15, NEAR)
SHARP = 8.0


def run(
    state: Arrays,
    layout: Layout,
    rows: npt.NDArray[np.float32],
    y: FloatArray,
    said: FloatArray,
    near: IntArray,
    weight: FloatArray,
    operations: Operations,
) -> None:
    """Run operations over feature rows [K, D] and labels [K, T]; fills `said`, `near` and `weight`."""
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop) if kind != Kind.LEARN else ():
            stored = min(int(state["count"][0]), WINDOW)
            distance = np.zeros(stored, dtype=np.float32)
            for g in range(layout.keys):
                distance += (rows[r, g] - state["keys"][g, :stored]) ** 2
            order = np.argsort(distance, kind="stable")
            nearest = state["past"][:stored][order].astype(np.float64)
            said[r, 0] = (state["positive"] + 0.5) / (state["weight"] + 1)
            for n, k in enumerate(NEIGHBOURS):
                known = ~np.isnan(nearest[:k])
                said[r, 1 + n] = (np.nansum(nearest[:k], axis=0) + 0.5 * said[r, 0]) / (known.sum(axis=0) + 0.5)
            found = min(stored, NEAR)
            near[r, :found] = order[:found]
            weight[r, :found] = _weights(distance[order[:found]].astype(np.float64))
            votes, known, w = nearest[:found], ~np.isnan(nearest[:found]), weight[r, :found, None]
            said[r, 4] = (np.nansum(w * votes, axis=0) + 0.5 * said[r, 0]) / ((w * known).sum(axis=0) + 0.5)
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            known = ~np.isnan(y[r])
            if known.any():
                slot = state["count"][0] % WINDOW
                state["keys"][:, slot], state["past"][slot] = rows[r, : layout.keys], y[r]
                state["weight"][known] = 0.999 * state["weight"][known] + 1
                state["positive"][known] = 0.999 * state["positive"][known] + y[r, known]
                state["count"][0] += 1


def _weights(distance: FloatArray) -> FloatArray:
    """What votes at these squared distances, least first, weigh: [K]."""
    if not distance.any():
        return np.ones(len(distance))
    weight: FloatArray = np.exp(-SHARP * (distance - distance[0]) / distance.mean())
    return weight
