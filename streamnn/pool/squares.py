"""Recursive least squares on plain inputs, Z and lags: for y and for the residual, remembering all or forgetting.

    k = P x / (keep + x' P x);  w += k (t - w' x);  P = (P - k x' P) / keep,  keep = 1 and .999, P = I at first

Targets t are in the units of the time (deviations of y, residual scales), clipped to +-10. P stops growing at a trace
of 1e4, or inputs that do not vary would blow it up; that of an input without a value yet waits for the first one.

Axes: K rows, N = 1 + inputs, D feature columns, M members.
"""

import numpy as np

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, ValueLayout, moved
from streamnn.pool.native import call
from streamnn.pool.values import ValueRows

MEMBERS = ("squares", "squares_residual", "squares_forgetting", "squares_forgetting_residual")
INPUTS = 160  # more would cost more than all the rest; a pool with more has members that say the base


def inputs(layout: ValueLayout) -> tuple[int, int]:
    """How many of the first columns and of the lags are used; none if there are too many."""
    if layout.keys + layout.lags > INPUTS:
        return 0, 0
    return layout.keys, layout.lags


def init(layout: ValueLayout) -> Arrays:
    """Return the state of models that have seen nothing."""
    n = 1 + sum(inputs(layout))
    return {"weights": np.zeros((2, 2, n)), "spread": np.tile(np.eye(n), (2, 1, 1)), "met": np.zeros(n, dtype=np.int8)}


def grow(state: Arrays, old: ValueLayout, new: ValueLayout) -> Arrays:
    """Return the state with room for more inputs; beyond `INPUTS` it begins again without any."""
    fresh = init(new)
    if inputs(new) == (0, 0):
        if inputs(old) == (0, 0):
            return state
        return fresh
    inner = [np.arange(old.plain), new.plain + np.arange(old.numeric), new.keys + np.arange(old.lags)]
    places = np.concatenate([np.zeros(1, dtype=np.int64), 1 + np.concatenate(inner)])
    return {
        "weights": moved(state["weights"], fresh["weights"], {2: places}),
        "spread": moved(state["spread"], fresh["spread"], {1: places, 2: places}),
        "met": moved(state["met"], fresh["met"], {0: places}),
    }


def run(state: Arrays, layout: ValueLayout, rows: ValueRows, operations: Operations, *, first: int) -> None:
    """Run operations in C; fills four members of `said`, from `first` on."""
    sizes = [*inputs(layout), layout.first_lag, layout.width, rows.said.shape[1], first]
    arrays = [*state.values(), rows.row, rows.now, rows.then, rows.used, rows.said]
    call("squares", operations, sizes, arrays)
