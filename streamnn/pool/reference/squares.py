"""The least squares of `streamnn.pool.squares`, one operation at a time.

Axes: N = 1 + inputs, D feature columns.
"""

import numpy as np

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays, ValueLayout
from streamnn.pool.reference.common import PREDICT, Vector
from streamnn.pool.squares import inputs
from streamnn.pool.values import ValueRows

KEEPS, TRACE = (1.0, 0.999), 1e4


def run(state: Arrays, layout: ValueLayout, rows: ValueRows, operations: Operations, *, first: int) -> None:
    """Run operations; fills four members of `said`, from `first` on."""
    keys, lags = inputs(layout)
    weights = state["weights"]
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop):
            if kind != Kind.LEARN:
                mean, deviation, scale, base = rows.now[r]
                said = weights @ _inputs(rows, layout, r, keys, lags)  # [memory, target]
                rows.said[r, first : first + 4] = [v for y, d in said for v in (mean + deviation * y, base + scale * d)]
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            mean, deviation, scale = rows.then[r]
            y, residual = rows.used[r]
            if not (deviation > 0 and scale > 0) or np.isnan(residual):
                continue
            target = np.clip([(y - mean) / deviation, residual / scale], -10, 10)
            x = _inputs(rows, layout, r, keys, lags)
            met = state["met"]
            met |= (x != 0).astype(np.int8)
            for spread, w, keep in zip(state["spread"], weights, KEEPS, strict=True):
                k = spread @ x
                den = keep + k @ x
                w += np.outer(target - w @ x, k / den)
                spread -= np.outer(k / den, k)
                if keep < 1 and np.diagonal(spread)[met > 0].sum() < TRACE:
                    spread[np.ix_(met > 0, met > 0)] /= keep


def _inputs(rows: ValueRows, layout: ValueLayout, r: int, keys: int, lags: int) -> Vector:
    row = rows.row[r].astype(np.float64)
    return np.concatenate([[1.0], row[:keys], row[layout.first_lag : layout.first_lag + lags]])
