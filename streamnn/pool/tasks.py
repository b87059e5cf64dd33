"""Pools behind one face: labels and served rows in the head's layout, whatever is predicted.

Axes: K rows, W head width of the task (its columns of the head), C class capacity.
"""

import copy
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import numpy as np

from streamnn.heads import TargetSpec
from streamnn.operations import FloatArray, IntArray, Operations
from streamnn.pool.classifier import Chunk, ClassPool
from streamnn.pool.engines import Parts
from streamnn.pool.inputs import Inputs
from streamnn.pool.labeler import LabelPool, shifted
from streamnn.pool.presets import Preset
from streamnn.pool.regressor import ValueChunk, ValuePool

P = TypeVar("P", ClassPool, ValuePool, LabelPool)


class Task(Protocol):
    """A pool for one block of the head."""

    @property
    def parameters(self) -> int:
        """How many weights there are."""

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weights in the mixture."""

    def grow(self, inputs: Inputs, width: int) -> None:
        """Make room for inputs and for columns of the head."""

    def run(
        self, inputs: Inputs, y: FloatArray, number: IntArray, operations: Operations, *, rate: float
    ) -> tuple[FloatArray, FloatArray]:
        """Run operations: served [K, W] and loss [K], NaN where nothing was."""

    def predict(self, inputs: Inputs, width: int) -> FloatArray:
        """Serve rows [K, W] without changing anything."""

    def forget(self) -> None:
        """Forget the networks' second moments."""

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""


class ClassTask:
    """One binary or multi-class target. A soft label counts as its likeliest class."""

    def __init__(
        self, target: TargetSpec, first: Inputs, width: int, *, preset: Preset, seed: int, parts: Parts
    ) -> None:
        self._binary = target.kind == "binary"
        self._preset, self._seed, self._parts = preset, seed, parts
        self.pool = self._make(first.x.shape[1], first.plain.shape[1], self._classes(width))

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return self.pool.parameters

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weight in the hedge and in the stack."""
        return self.pool.weights

    def grow(self, inputs: Inputs, width: int) -> None:
        """Make room for inputs and classes."""
        self.pool.grow(numeric=inputs.x.shape[1], plain=inputs.plain.shape[1], classes=self._classes(width))

    def run(
        self, inputs: Inputs, y: FloatArray, number: IntArray, operations: Operations, *, rate: float
    ) -> tuple[FloatArray, FloatArray]:
        """Run operations: served [K, W] and loss [K], NaN where nothing was."""
        unknown = np.isnan(y[:, 0])
        known = np.where(unknown[:, None], 0.0, y)
        label = (known[:, 0] > 0.5) if self._binary else np.argmax(known, axis=1)
        chunk = Chunk(inputs.x, inputs.plain, np.where(unknown, -1, label).astype(np.int32), number)
        served, loss = self.pool.run(chunk, operations, rate=rate)
        return self._served(served), loss

    def predict(self, inputs: Inputs, width: int) -> FloatArray:
        """Serve rows [K, W] without changing anything."""
        events, pool = len(inputs.x), _apart(self.pool)
        pool.grow(numeric=inputs.x.shape[1], plain=inputs.plain.shape[1], classes=0)
        nobody = np.full(events, -1, dtype=np.int32)
        served = self._served(pool.predict(Chunk(inputs.x, inputs.plain, nobody, np.zeros(events, dtype=np.int64))))
        if served.shape[1] == width:
            return served
        wide = np.zeros((events, width))  # classes named since the last label that was learned
        wide[:, : served.shape[1]] = served
        wide[np.isnan(served[:, 0])] = np.nan
        return wide

    def forget(self) -> None:
        """Forget the networks' second moments."""
        self.pool.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        return self.pool.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.pool = self._make(*state["first"])
        self.pool.load_state_dict(state)

    def _make(self, numeric: int, plain: int, classes: int) -> ClassPool:
        sizes = {"numeric": numeric, "plain": plain, "classes": classes}
        return ClassPool(self._preset, seed=self._seed, parts=self._parts, **sizes)

    def _classes(self, width: int) -> int:
        return 2 if self._binary else width

    def _served(self, served: FloatArray) -> FloatArray:
        return served[:, 1:].copy() if self._binary else served


class ValueTask:
    """One value to predict."""

    def __init__(self, first: Inputs, *, preset: Preset, seed: int, parts: Parts) -> None:
        self._preset, self._seed, self._parts = preset, seed, parts
        self.pool = self._make(first.x.shape[1], first.plain.shape[1], first.fields, int(len(first.moment) > 0))

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return self.pool.parameters

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weight in the first hedge and in the least-squares stack."""
        return self.pool.weights

    def grow(self, inputs: Inputs, width: int) -> None:  # noqa: ARG002  a value has one column for ever
        """Make room for inputs."""
        self.pool.grow(numeric=inputs.x.shape[1], plain=inputs.plain.shape[1])

    def run(
        self, inputs: Inputs, y: FloatArray, number: IntArray, operations: Operations, *, rate: float
    ) -> tuple[FloatArray, FloatArray]:
        """Run operations: served [K, 1] and loss [K], NaN where nothing was."""
        chunk = ValueChunk(inputs.x, inputs.plain, inputs.field, np.ascontiguousarray(y[:, 0]), number, inputs.moment)
        served, loss = self.pool.run(chunk, operations, rate=rate)
        return served[:, None], loss

    def predict(self, inputs: Inputs, width: int) -> FloatArray:  # noqa: ARG002  a value has one column for ever
        """Serve rows [K, 1] without changing anything."""
        events, pool = len(inputs.x), _apart(self.pool)
        pool.grow(numeric=inputs.x.shape[1], plain=inputs.plain.shape[1])
        unknown, number = np.full(events, np.nan), np.zeros(events, dtype=np.int64)
        chunk = ValueChunk(inputs.x, inputs.plain, inputs.field, unknown, number, inputs.moment)
        return pool.predict(chunk)[:, None]

    def forget(self) -> None:
        """Forget the networks' second moments."""
        self.pool.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        return self.pool.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.pool = self._make(*state["first"])
        self.pool.load_state_dict(state)

    def _make(self, numeric: int, plain: int, fields: int, timed: int = 0) -> ValuePool:
        sizes = {"numeric": numeric, "plain": plain, "fields": fields}
        return ValuePool(self._preset, timed=bool(timed), seed=self._seed, parts=self._parts, **sizes)


class LabelTask:
    """Several binary targets of one event, W of them. Served so that each label's threshold lies at one half."""

    def __init__(self, first: Inputs, width: int, *, preset: Preset, seed: int, parts: Parts) -> None:
        self._preset, self._seed, self._parts = preset, seed, parts
        self.pool = self._make(first.x.shape[1], first.plain.shape[1], width)

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return self.pool.parameters

    @property
    def weights(self) -> dict[str, tuple[float, float]]:
        """Each member's weight in the hedge and in the stack, the mean over labels."""
        return self.pool.weights

    def grow(self, inputs: Inputs, width: int) -> None:  # noqa: ARG002  labels are declared from the start
        """Make room for inputs."""
        self.pool.grow(numeric=inputs.x.shape[1], plain=inputs.plain.shape[1])

    def run(
        self, inputs: Inputs, y: FloatArray, number: IntArray, operations: Operations, *, rate: float
    ) -> tuple[FloatArray, FloatArray]:
        """Run operations: served [K, W] and loss [K], NaN where nothing was."""
        served, loss, threshold = self.pool.run(inputs, y, number, operations, rate=rate)
        return shifted(served, threshold), loss

    def predict(self, inputs: Inputs, width: int) -> FloatArray:  # noqa: ARG002  labels are declared from the start
        """Serve rows [K, W] without changing anything."""
        pool = _apart(self.pool)
        pool.grow(numeric=inputs.x.shape[1], plain=inputs.plain.shape[1])
        return shifted(*pool.predict(inputs))

    def forget(self) -> None:
        """Forget the networks' second moments."""
        self.pool.forget()

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        return self.pool.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.pool = self._make(*state["first"])
        self.pool.load_state_dict(state)

    def _make(self, numeric: int, plain: int, labels: int) -> LabelPool:
        return LabelPool(self._preset, numeric=numeric, plain=plain, labels=labels, seed=self._seed, parts=self._parts)


def make_task(target: TargetSpec, first: Inputs, width: int, *, preset: Preset, seed: int, parts: Parts) -> Task:
    """Make the pool for a target.

    Args:
        target: what is predicted.
        first: the inputs of the first event; members are made for these.
        width: columns of the target in the head.
        preset: which members.
        seed: start weights and draws depend on it alone.
        parts: who runs it.
    """
    if target.kind == "regression":
        return ValueTask(first, preset=preset, seed=seed, parts=parts)
    return ClassTask(target, first, width, preset=preset, seed=seed, parts=parts)


def _apart(pool: P) -> P:
    """Return a pool that may grow, and be asked, while the one given stays as it is: growing writes to no array of before."""
    other = copy.copy(pool)
    other.state = dict(pool.state)
    return other
