"""What is scored: the targets, the task they make up, and a block of events with truth and served prediction.

Axes: K scored events in their order, C classes of one target (append-only), T targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Task = Literal["classification", "multioutput", "multilabel", "regression", "multitarget", "mixed"]

_LOWER_IS_BETTER = frozenset({"log_loss", "brier", "mae", "rmse", "hamming"})


@dataclass(frozen=True, slots=True)
class Target:
    """One thing that is predicted; `kind` says how its truth is read."""

    name: str
    kind: Literal["binary", "multiclass", "regression"]

    def __post_init__(self) -> None:
        if self.kind not in ("binary", "multiclass", "regression"):
            raise ValueError(f"target {self.name!r} has kind {self.kind!r}; use binary, multiclass or regression")


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """K events with what came true and what had been served for them, in event order.

    An event counts as scored if the truth of at least one target is known; others are passed over.

    Attributes:
        truth: target -> [K] float64: class index, 0/1 (above one half is 1) or value. NaN = unknown, not
            counted.
        decision: target -> [K] float64: the served class index, 0/1 or value. NaN = none was served: wrong
            for a class target, not scored for a value.
        probability: target -> [K] float64, the probability of 1, for a binary target; [K, C] for a
            multi-class one. A target may be left out. NaN (in the first column) = none was served.
        number: [K] int64 event numbers, counted from 0; only the history's event counts are taken from it.
            None = the scored events are numbered themselves.
        categories: field -> [K] int64, which category of it the event has, numbered through all fields; -1 = none.

    Raises:
        ValueError: the columns differ in length, or a truth has no decision.
    """

    truth: Mapping[str, FloatArray]
    decision: Mapping[str, FloatArray]
    probability: Mapping[str, FloatArray] = field(default_factory=dict)
    number: IntArray | None = None
    categories: Mapping[str, IntArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        missing = [name for name in self.truth if name not in self.decision]
        if missing:
            raise ValueError(f"targets {missing} have a truth but no decision; serve NaN where nothing was predicted")
        events = len(self)
        for part, columns in (
            ("truth", self.truth),
            ("decision", self.decision),
            ("probability", self.probability),
            ("categories", self.categories),
        ):
            for name, column in columns.items():
                if len(column) != events:
                    raise ValueError(f"{part} of {name!r} has {len(column)} events, but the block has {events}")
        if self.number is not None and len(self.number) != events:
            raise ValueError(f"number has {len(self.number)} events, but the block has {events}")

    def __len__(self) -> int:
        return len(next(iter(self.truth.values()))) if self.truth else 0


def task_of(targets: Sequence[Target]) -> Task:
    """Name the task that a list of targets makes up.

    One class target is classification; several binary ones are a label set (multilabel); several class
    targets of which one is multi-class are multioutput; values alone are regression (one) or multitarget;
    class targets and values together are mixed.
    """
    kinds = [target.kind for target in targets]
    values = kinds.count("regression")
    if values == len(kinds):
        return "regression" if values == 1 else "multitarget"
    if values:
        return "mixed"
    if len(kinds) == 1:
        return "classification"
    return "multilabel" if "multiclass" not in kinds else "multioutput"


def primary(task: Task) -> str:
    """Name the metric that a task is judged by first."""
    return {"multilabel": "f1_micro", "regression": "mae", "multitarget": "mae"}.get(task, "accuracy")


def sampled(task: Task) -> tuple[str, ...]:
    """Name the metrics whose course is kept: the primary one, and for a mixed task that of the values too."""
    return ("accuracy", "mae") if task == "mixed" else (primary(task),)


def higher_is_better(metric: str) -> bool:
    """Tell whether a larger value of the metric is the better one."""
    return metric not in _LOWER_IS_BETTER
