"""Recursive least squares on few columns of a row: two models, each remembering all the past or forgetting.

    k = P x / (keep + x' P x);  w += k (t - w' x);  P = (P - k x' P) / keep,  keep = 1 and .999, P = I at first

`state` reads the plain inputs, Z and the lags and predicts y and the residual; `changes` reads what has changed since the
event before, and the lags, and predicts the residual alone: what moves together often is far apart.

Targets t are in the units of the time (deviations of y, residual scales), clipped to +-10. P stops growing at a trace
of 1e4, or inputs that do not vary would blow it up; that of an input without a value yet waits for the first one.

Axes: K rows, N = 1 + inputs, T targets, D feature columns, M members.
"""

from dataclasses import dataclass

import numpy as np

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, ValueLayout, moved
from streamnn.pool.native import call
from streamnn.pool.values import ValueRows

INPUTS = 160  # more would cost more than all the rest; a pool with more has members that say the base


@dataclass(frozen=True, slots=True)
class Model:
    """What a model reads and predicts.

    Attributes:
        members: names, for each memory the targets.
        changes: whether it reads changes instead of the plain inputs and Z.
    """

    members: tuple[str, ...]
    changes: bool

    @property
    def targets(self) -> int:
        """T: the value and its residual, or the residual alone."""
        return len(self.members) // 2

    def inputs(self, layout: ValueLayout) -> tuple[int, int]:
        """How many of the first columns and of the lags are used; none if there are too many."""
        first = layout.numeric if self.changes else layout.keys
        return (first, layout.lags) if first + layout.lags <= INPUTS else (0, 0)

    def column(self, layout: ValueLayout) -> int:
        """Where the first columns begin in a row."""
        return layout.first_change if self.changes else 0

    def places(self, old: ValueLayout, new: ValueLayout) -> list[np.ndarray]:
        """Where the inputs of a layout lie among those of a larger one."""
        if self.changes:
            return [np.arange(old.numeric), new.numeric + np.arange(old.lags)]
        return [np.arange(old.plain), new.plain + np.arange(old.numeric), new.keys + np.arange(old.lags)]


MODELS = {
    "squares": Model(
        ("squares", "squares_residual", "squares_forgetting", "squares_forgetting_residual"), changes=False
    ),
    "changes": Model(("changes_residual", "changes_forgetting_residual"), changes=True),
}


def init(model: Model, layout: ValueLayout) -> Arrays:
    """Return the state of a model that has seen nothing."""
    n = 1 + sum(model.inputs(layout))
    return {
        "weights": np.zeros((2, model.targets, n)),
        "spread": np.tile(np.eye(n), (2, 1, 1)),
        "met": np.zeros(n, dtype=np.int8),
    }


def grow(model: Model, state: Arrays, old: ValueLayout, new: ValueLayout) -> Arrays:
    """Return the state with room for more inputs; beyond `INPUTS` it begins again without any."""
    fresh = init(model, new)
    if model.inputs(new) == (0, 0):
        if model.inputs(old) == (0, 0):
            return state
        return fresh
    places = np.concatenate([np.zeros(1, dtype=np.int64), 1 + np.concatenate(model.places(old, new))])
    return {
        "weights": moved(state["weights"], fresh["weights"], {2: places}),
        "spread": moved(state["spread"], fresh["spread"], {1: places, 2: places}),
        "met": moved(state["met"], fresh["met"], {0: places}),
    }


def run(
    model: Model, state: Arrays, layout: ValueLayout, rows: ValueRows, operations: Operations, *, first: int
) -> None:
    """Run operations in C; fills the model's members of `said`, from `first` on."""
    sizes = [
        model.column(layout), *model.inputs(layout), layout.first_lag, layout.width, rows.said.shape[1], first,
        2 - model.targets,
    ]  # fmt: skip
    arrays = [*state.values(), rows.row, rows.now, rows.then, rows.used, rows.said]
    call("squares", operations, sizes, arrays)
