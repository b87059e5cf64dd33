"""The pool as a learner: named columns in, served predictions out, one state that holds everything learned.

It has the face of `streamnn.learner.Learner`: `encode` a chunk, then `run` operations over its rows. Single events and
micro-batches run on the same C parts; inputs and classes grow without compiling. A micro-batch is predicted as events
are whose labels are late: with the same weights, each event among the inputs that came before it; then it is learned.

Axes: K events of a chunk, F input capacity of the index, W head width, C class capacity.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np

from streamnn.chunks import EncodedChunk, Indexes, encode_chunk, head_of, no_events, pad_rows
from streamnn.features.index import Column, FeatureIndex
from streamnn.heads import Head, TargetSpec
from streamnn.operations import BoolArray, FloatArray, IntArray, Kind, Operations, Results, Rows
from streamnn.pool.classifier import check_parts
from streamnn.pool.engines import EngineName, select
from streamnn.pool.inputs import InputPlan
from streamnn.pool.presets import PRESETS, Preset
from streamnn.pool.tasks import LabelTask, Task, make_task
from streamnn.targets import TargetIndex

JOINT = "(labels)"  # the task of several binary targets: no target can be called so in a configuration
LARGEST = 1e150  # a larger input has no finite square, and would make statistics infinite for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSpec:
    """Everything that a pool learner is made from.

    Attributes:
        targets: what is predicted; several binary targets share one pool, every other target has its own.
        preset: single (one network), lite, fast or best; more members cost more time and predict better.
        feature_capacity: inputs there is room for at the start (a power of two); doubles when needed.
        class_capacity: likewise for the classes of a multi-class target.
        max_categories: distinct values of one field that get inputs of their own; the rest is hashed.
        hash_buckets: inputs that the rest shares.
        seed: start weights, draws of past events and hashing depend on it alone.
        engine: native (C), eager (NumPy) or auto: native where there is a compiler, else eager with a warning.

    Raises:
        ValueError: a setting is outside its range.
    """

    targets: tuple[TargetSpec, ...]
    preset: Preset = "best"
    feature_capacity: int = 8
    class_capacity: int = 2
    max_categories: int = 100
    hash_buckets: int = 32
    seed: int = 0
    engine: EngineName = "auto"

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}; use one of {', '.join(PRESETS)}")
        if self.engine not in get_args(EngineName):
            raise ValueError(f"engine is {self.engine!r}; use one of {', '.join(get_args(EngineName))}")
        if not self.targets:
            raise ValueError("targets are empty, but a pool predicts at least one")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, but must be at least 0")


class PoolLearner:
    """Predicts and learns with a pool of members; the default learner.

    The members are made at the first event, for the inputs that this event has (and those declared); the first event's
    number of inputs also decides whether target encodings are worth their columns.
    """

    def __init__(self, spec: PoolSpec) -> None:
        self.spec = spec
        self.features = FeatureIndex(
            capacity=spec.feature_capacity,
            max_categories=spec.max_categories,
            hash_buckets=spec.hash_buckets,
            seed=spec.seed,
        )
        self.targets = TargetIndex(spec.targets, capacity=spec.class_capacity)
        self.growths = {"features": 0, "classes": 0}
        self.head = Head(spec.targets, self.targets.capacities)
        self._parts = select(spec.engine)
        self.tasks: dict[str, Task] = {}
        self._plan: InputPlan | None = None

    @property
    def built(self) -> bool:
        """Whether the first event has been encoded."""
        return bool(self.tasks)

    @property
    def engine(self) -> str:
        """Which engine runs."""
        return self._parts.name

    @property
    def device(self) -> str:
        """What it runs on."""
        return "cpu"

    @property
    def compilations(self) -> int:
        """How often sizes made the pool compile: never."""
        return 0

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return sum(task.parameters for task in self.tasks.values())

    @property
    def weights(self) -> dict[str, dict[str, tuple[float, float]]]:
        """For each target, each member's weight in the hedge (they sum to 1) and in the stack: who carries it."""
        return {name: task.weights for name, task in self.tasks.items()}

    def encode(
        self,
        columns: Mapping[str, Column],
        labels: Mapping[str, Column],
        number: IntArray,
        *,
        batch: int = 1,
    ) -> EncodedChunk:
        """Turn the first events of a chunk into rows, growing if the very first needs it.

        Args:
            columns: features by name, each [K]; see `FeatureIndex`.
            labels: the target by name, [K]; see `TargetIndex`. A target that is absent is unknown.
            number: [K] int64 event numbers.
            batch: events with the same number // batch stay together.

        Returns:
            At least one micro-batch of rows (if K > 0); fewer than K where a later one needs more capacity.
        """
        if not len(number):
            return no_events(number)
        if not self.built:
            self._build(head_of(columns, 1))
        indexes = Indexes(self.features, self.targets, lambda: self.head, self._grow)
        return encode_chunk(indexes, columns, labels, number, batch=batch)

    def run(self, rows: Rows, operations: Operations, *, rate: float, clear: bool = False) -> Results:
        """Run operations over encoded rows; see `streamnn.operations`.

        Args:
            rows: what `encode` returned (or rows kept from earlier, padded by `pad`).
            operations: what to do, in order.
            rate: learning rate of the networks; those that learn past events again take a third of it.
            clear: the networks forget their second moments before the first learning step.

        Raises:
            ValueError: an operation lies outside the rows.
        """
        operations.check(len(rows))
        if clear and (operations.kind != Kind.PREDICT_OBSERVE).any():
            for task in self.tasks.values():
                task.forget()
        refused = self._refuse(rows)
        if not refused:
            return Results(*self._run(rows, operations, rate))
        kept = np.array([row not in refused for row in range(len(rows))], dtype=bool)
        part = Rows(rows.x[kept], rows.y[kept], rows.number[kept])
        served, loss = np.full((len(rows), self.head.width), np.nan), np.full(len(rows), np.nan)
        served[kept], loss[kept] = self._run(part, _without(operations, kept), rate)
        return Results(served, loss, refused)

    def predict(self, columns: Mapping[str, Column], events: int) -> FloatArray:
        """Serve events without changing anything at all: [K, W] float64, see `Head.serve`.

        They are served as learning would serve them: fields and categories never met have inputs for this call alone. A
        value too large to be learned counts as missing. Before the first event everything is NaN.
        """
        if not self.built:
            return np.full((events, len(self.spec.targets)), np.nan)
        encoded = self.features.encode(columns, events, known_only=True)
        plan = self._known()
        if encoded.needed:
            index = copy.deepcopy(self.features)
            index.grow(encoded.needed)
            encoded, plan = index.encode(columns, events), InputPlan(index)
        inputs = plan.read(np.where(np.abs(encoded.x) > LARGEST, np.nan, encoded.x))
        served = np.full((events, self.head.width), np.nan)
        for name, task in self.tasks.items():
            place = self._columns(name)
            served[:, place] = task.predict(inputs, place.stop - place.start)
        return served

    def pad(self, rows: Rows, *, head: Head) -> Rows:
        """Bring rows that were encoded at a smaller capacity, under the given head, to the present one."""
        return pad_rows(rows, inputs=self.features.capacity, old=head, new=self.head)

    def declare(self, fields: Sequence[str]) -> None:
        """Name numeric fields before the first event, so that all of them get start weights.

        Raises:
            RuntimeError: the first event has been seen already.
        """
        if self.built:
            raise RuntimeError("fields can be declared only before the first event; later ones are added as they come")
        self.features.declare(fields)

    def state_dict(self) -> dict[str, Any]:
        """Return a copy of everything for a checkpoint."""
        return {
            "features": self.features.state_dict(),
            "targets": self.targets.state_dict(),
            "growths": dict(self.growths),
            "preset": self.spec.preset,
            "pools": {name: task.state_dict() for name, task in self.tasks.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: the state belongs to another preset.
        """
        if state["preset"] != self.spec.preset:
            raise ValueError(
                f"the state is that of preset {state['preset']!r}, but {self.spec.preset!r} is configured;"
                " use the configuration that wrote it, or start afresh in another folder"
            )
        self.features.load_state_dict(state["features"])
        self.targets.load_state_dict(state["targets"])
        self.head = Head(self.spec.targets, self.targets.capacities)
        self.growths = dict(state["growths"])
        self.tasks, self._plan = {}, None
        if state["pools"]:
            self._make()
            check_parts(state["pools"], self.tasks)
            for name, task in self.tasks.items():
                task.load_state_dict(state["pools"][name])

    def _build(self, first: Mapping[str, Column]) -> None:
        """Make the pool for the inputs that the first event has."""
        encoded = self.features.encode(first, 1)
        if encoded.needed:
            self.features.grow(encoded.needed)
            self.features.encode(first, 1)
        self._make()

    def _grow(self, inputs: int) -> None:
        if self.features.capacity != inputs:
            self.growths["features"] += 1
            return
        self.head = self.head.grown(self.targets.capacities)
        self.growths["classes"] += 1

    def _make(self) -> None:
        first = self._known().read(np.full((1, self.features.capacity), np.nan))
        joint = self.head.binaries > 1
        if joint:
            self.tasks[JOINT] = LabelTask(
                first, self.head.binaries, preset=self.spec.preset, seed=self.spec.seed, parts=self._parts
            )
        for i, target in enumerate(self.spec.targets):
            if joint and target.kind == "binary":
                continue
            self.tasks[target.name] = make_task(
                target,
                first,
                self.head.block(target.name).width,
                preset=self.spec.preset,
                seed=self.spec.seed + 7919 * i,
                parts=self._parts,
            )

    def _columns(self, name: str) -> slice:
        """Where a task's columns of the head lie; binary targets come first."""
        return slice(0, self.head.binaries) if name == JOINT else self.head.block(name).columns

    def _known(self) -> InputPlan:
        """Tell where the inputs known by now lie."""
        if self._plan is None or self._plan.active != self.features.active:
            self._plan = InputPlan(self.features)
        return self._plan

    def _run(self, rows: Rows, operations: Operations, rate: float) -> tuple[FloatArray, FloatArray]:
        inputs, number = self._known().read(rows.x), np.ascontiguousarray(rows.number)
        served, losses = np.full((len(rows), self.head.width), np.nan), []
        for name, task in self.tasks.items():
            place = self._columns(name)
            task.grow(inputs, place.stop - place.start)
            served[:, place], loss = task.run(inputs, rows.y[:, place], number, operations, rate=rate)
            losses.append(loss)
        if len(losses) == 1:
            return served, losses[0]
        each = np.stack(losses)
        known = ~np.isnan(each)
        with np.errstate(invalid="ignore"):
            return served, np.where(known, each, 0.0).sum(axis=0) / known.sum(axis=0)

    def _refuse(self, rows: Rows) -> dict[int, str]:
        """Find rows with a value that would make statistics infinite: {row: reason}."""
        values = [t.name for t in self.spec.targets if t.kind == "regression"]
        y = rows.y[:, [self.head.block(name).first for name in values]]
        found: dict[int, str] = {}
        for numbers, are_targets in ((rows.x, False), (y, True)):
            bad = np.abs(numbers) > LARGEST
            if not bad.any():
                continue
            names = values if are_targets else self.features.names
            for row in np.flatnonzero(bad.any(axis=1)):
                at = int(np.argmax(bad[row]))
                found[int(row)] = (
                    f"{names[at]!r} is {numbers[row, at]:g}, but has to lie within +-{LARGEST:g}, or statistics would"
                    " become infinite"
                )
        return found


def _without(operations: Operations, kept: BoolArray) -> Operations:
    """Rewrite operations for the rows that are kept; one that has none left falls away."""
    place = np.concatenate([[0], np.cumsum(kept)])
    start, stop = place[operations.start], place[operations.stop]
    some = stop > start
    return Operations(operations.kind[some], start[some], stop[some])
