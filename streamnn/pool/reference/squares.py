"""The least squares of `streamnn.pool.squares`, one operation at a time.

Axes: N = 1 + inputs, D feature columns.
"""

import numpy as np

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays, ValueLayout
from streamnn.pool.reference.common import PREDICT, Vector
from streamnn.pool.squares import Model
from streamnn.pool.values import ValueRows

KEEPS, TRACE = (1.0, 0.999), 1e4


def run(
    model: Model, state: Arrays, layout: ValueLayout, rows: ValueRows, operations: Operations, *, first: int
) -> None:
    """Run operations; fills the model's members of `said`, from `first` on."""
    weights, residual_alone = state["weights"], model.targets == 1
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop):
            if kind != Kind.LEARN:
                mean, deviation, scale, base = rows.now[r]
                offset, unit = np.array([mean, base]), np.array([deviation, scale])
                said = weights @ _inputs(model, rows, layout, r)  # [memory, target]
                said = offset[residual_alone:] + unit[residual_alone:] * said
                rows.said[r, first : first + said.size] = said.reshape(-1)
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            mean, deviation, scale = rows.then[r]
            y, residual = rows.used[r]
            if not (deviation > 0 and scale > 0) or np.isnan(residual):
                continue
            target = np.clip([(y - mean) / deviation, residual / scale], -10, 10)[residual_alone:]
            x = _inputs(model, rows, layout, r)
            met = state["met"]
            met |= (x != 0).astype(np.int8)
            for spread, w, keep in zip(state["spread"], weights, KEEPS, strict=True):
                k = spread @ x
                den = keep + k @ x
                w += np.outer(target - w @ x, k / den)
                spread -= np.outer(k / den, k)
                if keep < 1 and np.diagonal(spread)[met > 0].sum() < TRACE:
                    spread[np.ix_(met > 0, met > 0)] /= keep


def _inputs(model: Model, rows: ValueRows, layout: ValueLayout, r: int) -> Vector:
    row, (first, lags), at = rows.row[r].astype(np.float64), model.inputs(layout), model.column(layout)
    return np.concatenate([[1.0], row[at : at + first], row[layout.first_lag : layout.first_lag + lags]])
