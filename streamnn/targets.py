"""Labels to positions: target columns become label rows as the head reads them, served rows become decisions.

The class index is append-only, like the feature index: a class keeps its position for ever, and classes are numbered in
the order of the events that first name them.

Axes: K events of a chunk, T targets, W head width, C classes of one target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from streamnn.heads import Head, TargetSpec

Column = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Label = str | int | bool


@dataclass(frozen=True, slots=True)
class EncodedTargets:
    """The first rows of a chunk as labels.

    Attributes:
        y: [K', W] float64, NaN = unknown; see `streamnn.heads`.
        truth: [K', T] float64: class index, 0..1 or value; NaN = unknown. A soft label counts as its likeliest class.
        needed: classes per target that the event after the last row needs; empty if the whole chunk was encoded.
    """

    y: FloatArray
    truth: FloatArray
    needed: dict[str, int]


class TargetIndex:
    """Give every class of every target its position in the head.

    A multi-class target's column is object: str, int or bool labels, or a dict {class: probability} as a soft label. A
    binary target's column is object with at most two distinct labels, or float64 with values in 0..1 (the members of a
    label set are given so). A regression target's column is float64.

    Args:
        targets: what is predicted.
        capacity: classes a multi-class target has room for at the start; doubles when needed.
    """

    def __init__(self, targets: Sequence[TargetSpec], *, capacity: int = 8) -> None:
        if capacity < 2 or capacity & (capacity - 1):
            raise ValueError(f"class capacity is {capacity}, but must be a power of two of at least 2")
        self.targets = tuple(targets)
        self.capacities = {t.name: capacity for t in targets if t.kind == "multiclass"}
        self._classes: dict[str, dict[Label, int]] = {t.name: {} for t in targets if t.kind != "regression"}

    @property
    def counts(self) -> dict[str, int]:
        """How many classes each target has; `truncate` takes this back."""
        return {target: len(classes) for target, classes in self._classes.items()}

    def classes(self, target: str) -> tuple[Label, ...]:
        """The classes of a target in the order of their positions; empty for a 0..1 label or a value."""
        return tuple(self._classes.get(target, {}))

    def declare(self, target: str, classes: Sequence[Label]) -> None:
        """Name classes before the first event, in the order given."""
        for label in classes:
            self._classes[target].setdefault(label, len(self._classes[target]))
        if target in self.capacities:
            self.grow({target: len(self._classes[target])})

    def grow(self, needed: Mapping[str, int]) -> bool:
        """Double capacities until the needed numbers of classes fit. Returns whether any changed."""
        before = dict(self.capacities)
        for target, classes in needed.items():
            while self.capacities[target] < classes:
                self.capacities[target] *= 2
        return self.capacities != before

    def misfits(self, columns: Mapping[str, Column], events: int) -> dict[int, str]:
        """Find events whose label no head can learn: {row: reason}.

        These are a third class of a binary target, a soft label of one, and a 0..1 label outside that range.
        """
        found: dict[int, str] = {}
        for target in self.targets:
            column = columns.get(target.name)
            if column is None or target.kind != "binary":
                continue
            if column.dtype != object:
                for row in np.flatnonzero((column < 0) | (column > 1)):
                    found[int(row)] = f"target {target.name!r} is {column[row]!r}, but a label lies between 0 and 1"
                continue
            soft = _soft(column) if _has_soft(column) else np.zeros(len(column), dtype=bool)
            for row in np.flatnonzero(soft):
                found[int(row)] = (
                    f"target {target.name!r} is {column[row]!r}, a soft label, but a binary target takes one of its two"
                    " classes; the tasks multiclass (probabilities) and multilabel (one number from 0 to 1) take more"
                )
            known = list(self._classes[target.name])
            if not soft.any() and {*column.tolist()} <= {*known, None}:
                continue
            codes, values = pd.factorize(_without(column, soft) if soft.any() else column)
            for code, value in enumerate(values):
                if value not in known and len(known) < 2:
                    known.append(value)
                elif value not in known:
                    for row in np.flatnonzero(codes == code):
                        found[int(row)] = (
                            f"target {target.name!r} is {value!r}, a third class beside {known[0]!r} and {known[1]!r};"
                            " the task is binary: use multiclass for more"
                        )
        return dict(sorted((row, why) for row, why in found.items() if row < events))

    def encode(self, columns: Mapping[str, Column], events: int, *, head: Head) -> EncodedTargets:
        """Turn target columns of K events into label rows, up to the event that first needs more capacity."""
        rows, needed = events, dict[str, int]()
        for target in self.targets:
            if target.kind == "multiclass" and target.name in columns:
                row, classes = self._overflow(target.name, columns[target.name][:rows])
                if row < rows:
                    rows, needed = row, {}
                if classes and row == rows:
                    needed[target.name] = classes
        y = np.full((rows, head.width), np.nan)
        truth = np.full((rows, len(self.targets)), np.nan)
        for t, target in enumerate(self.targets):
            if target.name in columns:
                block = head.block(target.name)
                part = columns[target.name][:rows]
                if target.kind == "multiclass":
                    truth[:, t] = self._fill_classes(target.name, part, y[:, block.columns])
                else:
                    truth[:, t] = self._codes(target.name, part) if part.dtype == object else part
                    y[:, block.first] = truth[:, t]
        return EncodedTargets(y, truth, needed)

    def truncate(self, counts: Mapping[str, int]) -> None:
        """Take back classes beyond the given number per target, as if they had not been met yet."""
        for target, count in counts.items():
            self._classes[target] = dict(list(self._classes[target].items())[:count])

    def state_dict(self) -> dict[str, Any]:
        """Return the index for a checkpoint: each target's classes in order."""
        return {
            "capacities": dict(self.capacities),
            "classes": {target: list(classes) for target, classes in self._classes.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.capacities = dict(state["capacities"])
        self._classes = {t: {label: i for i, label in enumerate(names)} for t, names in state["classes"].items()}

    def _overflow(self, target: str, column: Column) -> tuple[int, int]:
        """Find the first row that names more classes than there is room for: (row, classes needed) or (K, 0)."""
        known = self._classes[target]
        count, room = len(known), self.capacities[target]
        if _has_soft(column):
            fresh: dict[Label, None] = {}
            for row, label in enumerate(column):
                for name in _names(label):
                    if name not in known:
                        fresh[name] = None
                if count + len(fresh) > room:
                    return row, count + len(fresh)
            return len(column), 0
        codes, values = pd.factorize(column)
        new = [i for i, value in enumerate(values) if value not in known]
        if count + len(new) <= room:
            return len(column), 0
        return int(np.argmax(codes == new[room - count])), room + 1

    def _codes(self, target: str, column: Column) -> FloatArray:
        """Number the classes of a column without soft labels, naming new ones: [K] float64, NaN = unknown."""
        classes = self._classes[target]
        codes, values = pd.factorize(column)
        numbers = [classes.setdefault(value, len(classes)) for value in values]
        lookup = np.array([*numbers, np.nan], dtype=np.float64)  # code -1 is the last entry
        found: FloatArray = lookup[codes]
        return found

    def _fill_classes(self, target: str, column: Column, y: FloatArray) -> FloatArray:
        """Write one-hot or soft labels into y [K, C]; returns the (likeliest) class numbers [K]."""
        if _has_soft(column):
            soft = _soft(column)
            classes = self._classes[target]
            truth = np.full(len(column), np.nan)
            for row, label in enumerate(column):
                for name in _names(label):
                    classes.setdefault(name, len(classes))
                if soft[row]:
                    y[row] = 0.0
                    for name, p in label.items():
                        y[row, classes[name]] = p
                    truth[row] = float(np.argmax(y[row]))
                elif label is not None:
                    y[row] = 0.0
                    truth[row] = classes[label]
                    y[row, classes[label]] = 1.0
            return truth
        truth = self._codes(target, column)
        known = np.flatnonzero(~np.isnan(truth))
        y[known] = 0.0
        y[known, truth[known].astype(np.int64)] = 1.0
        return truth


def decide(served: FloatArray, head: Head) -> FloatArray:
    """Turn served rows [K, W] into decisions [K, T] in the order of `head.targets`.

    The likeliest class number (1 for a binary target whose probability is above one half), or the value; NaN where
    nothing was served.
    """
    decisions = np.full((len(served), len(head.targets)), np.nan)
    for t, target in enumerate(head.targets):
        part = served[:, head.block(target.name).columns]
        if target.kind == "regression":
            decisions[:, t] = part[:, 0]
        elif target.kind == "binary":
            decisions[:, t] = np.where(np.isnan(part[:, 0]), np.nan, part[:, 0] > 0.5)
        else:
            decisions[:, t] = np.where(np.isnan(part[:, 0]), np.nan, np.argmax(part, axis=1))
    return decisions


def _has_soft(column: Column) -> bool:
    return any(issubclass(kind, dict) for kind in set(map(type, column)))  # one look at a kind, not at a label


def _soft(column: Column) -> BoolArray:
    return np.fromiter((isinstance(label, dict) for label in column), dtype=bool, count=len(column))


def _without(column: Column, left_out: BoolArray) -> Column:
    kept = column.copy()
    kept[left_out] = None
    return kept


def _names(label: object) -> tuple[Any, ...]:
    return tuple(label) if isinstance(label, dict) else () if label is None else (label,)
