"""The learner: named columns in, served predictions out, and one state that holds everything learned.

It joins the parts: feature index and target index (names to positions), the step (what learning means), an engine (who
runs it) and growth (more inputs or classes without disturbing what was learned).

Axes: K events of a chunk, F input capacity, W head width.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from streamnn.chunks import EncodedChunk, Indexes, encode_chunk, head_of, no_events, pad_rows
from streamnn.device import DeviceName, GraphEngine, check_device, describe_device
from streamnn.engine import Control, EagerEngine, Engine
from streamnn.features.index import Column, FeatureIndex
from streamnn.features.standardizer import Standardizer
from streamnn.growth import embed
from streamnn.heads import Head, RegressionLoss, TargetSpec
from streamnn.native import CompilerError, NativeEngine, UnsupportedOperatorError
from streamnn.networks import MLP, MLPSpec
from streamnn.operations import FloatArray, IntArray, Kind, LearnerState, Operations, Results, Rows
from streamnn.optimizers import Adam, Optimizer
from streamnn.step import Event, State, Step
from streamnn.targets import TargetIndex

EngineName = Literal["auto", "native", "eager"]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
# how compiled code is asked: the operation that learns, of an event without a label. Its state is given up, but what it serves
# has the bits of what is served where the label is at hand, and there is nothing more to compile.
ASK = Operations.of([(Kind.PREDICT_LEARN, 0, 1)])


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """Everything that a learner is made from.

    Attributes:
        targets: what is predicted.
        network: layers.
        optimizer: how gradients become steps.
        standardizer: how inputs are scaled.
        class_prior: least probability at which a class that appears late enters.
        regression_loss: huber, squared or absolute, in deviations of the target.
        feature_capacity: inputs there is room for at the start (a power of two); more if the first event or `declare` brings
            more; doubles when needed later.
        class_capacity: likewise for the classes of each multi-class target.
        max_categories: distinct values of one field that get inputs of their own; the rest is hashed.
        hash_buckets: inputs that the rest shares.
        accumulate: micro-batches (events in sample mode) whose gradients are averaged for one update.
        dtype: precision of the network, float32 or float64.
        seed: start weights, dropout and hashing depend on it alone.
        engine: eager (torch, step by step), native (compiled C) or auto: native where it can be, else eager with a
            warning that says why.
        device: cpu, or cuda: micro-batches run as graphs on an NVIDIA card, and no engine is to be chosen.
        batch: rows that a micro-batch has at most. On cuda all are padded to it, so that one program does for all.
        foresee: smaller micro-batches may come at any moment, so what they need is compiled in the background; otherwise a
            size is compiled for when it first comes. No result depends on it.
    """

    targets: tuple[TargetSpec, ...]
    network: MLPSpec = field(default_factory=MLPSpec)
    optimizer: Optimizer = field(default_factory=lambda: Adam(beta1=0.0, beta2=0.99))
    standardizer: Standardizer = field(default_factory=Standardizer)
    class_prior: float = 0.01
    regression_loss: RegressionLoss = "huber"
    feature_capacity: int = 8
    class_capacity: int = 8
    max_categories: int = 100
    hash_buckets: int = 32
    accumulate: int = 1
    dtype: Literal["float32", "float64"] = "float32"
    seed: int = 0
    engine: EngineName = "auto"
    device: DeviceName = "cpu"
    batch: int = 1
    foresee: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; use float32 or float64")
        if self.engine not in get_args(EngineName):
            raise ValueError(f"engine is {self.engine!r}; use one of {', '.join(get_args(EngineName))}")
        if self.accumulate < 1:
            raise ValueError(f"accumulate is {self.accumulate}, but at least 1 micro-batch makes an update")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}, but a micro-batch has at least 1 row")
        if self.device != "cpu" and self.engine != "auto":
            raise ValueError(
                f"engine is {self.engine!r}, which runs on the cpu, but device is {self.device!r}; leave engine at auto, or"
                " set device to cpu"
            )
        check_device(self.device)


class Learner:
    """Predicts and learns. `encode` a chunk, then `run` operations over its rows.

    The network is made at the first event, for the inputs that this event has (and those declared); inputs that come
    later start with weights of 0, so that outputs do not change until they are learned.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        self.spec = spec
        self.features = FeatureIndex(
            capacity=spec.feature_capacity,
            max_categories=spec.max_categories,
            hash_buckets=spec.hash_buckets,
            seed=spec.seed,
        )
        self.targets = TargetIndex(spec.targets, capacity=spec.class_capacity)
        self.growths = {"features": 0, "classes": 0}
        on_cpu = spec.device == "cpu"
        self._engine: Engine = EagerEngine() if on_cpu else GraphEngine(spec.device, least=spec.batch)
        self._native = NativeEngine() if on_cpu and spec.engine != "eager" else None
        self._inputs_at_start: int | None = None
        self._step: Step | None = None
        self._state: State = {}
        self._parameters = 0

    @property
    def built(self) -> bool:
        """Whether the first event has been encoded."""
        return self._step is not None

    @property
    def head(self) -> Head:
        """The head at its present capacity."""
        return self._made().head

    @property
    def state(self) -> State:
        """Everything learned, as tensors of the host: copies of what lies on a device. Read it, do not change it."""
        return {part: {name: t.cpu() for name, t in tensors.items()} for part, tensors in self._state.items()}

    @property
    def step(self) -> Step:
        """The step that the engine runs."""
        return self._made()

    @property
    def engine(self) -> str:
        """Which engine runs single events."""
        return self._engine.name if self._native is None else self._native.name

    @property
    def device(self) -> str:
        """Where single events and micro-batches run."""
        return describe_device(self.spec.device)

    @property
    def compilations(self) -> int:
        """How often the step has been compiled."""
        return self._engine.compilations if self._native is None else self._native.compilations

    @property
    def parameters(self) -> int:
        """How many weights there are."""
        return self._parameters

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
            labels: targets by name, each [K]; see `TargetIndex`. A target that is absent is unknown.
            number: [K] int64 event numbers.
            batch: events with the same number // batch stay together.

        Returns:
            At least one micro-batch of rows (if K > 0); fewer than K where a later one needs more capacity.
        """
        if not len(number):
            return no_events(number)
        if not self.built:
            self._build_for(head_of(columns, 1))
        indexes = Indexes(self.features, self.targets, lambda: self.head, self._grow)
        return encode_chunk(indexes, columns, labels, number, batch=batch)

    def run(self, rows: Rows, operations: Operations, *, rate: float, clear: bool = False) -> Results:
        """Run operations over encoded rows; see `streamnn.operations`.

        Args:
            rows: what `encode` returned (or rows kept from earlier, padded by `pad`).
            operations: what to do, in order.
            rate: learning rate.
            clear: the optimizer forgets its second moments before the first learning step.

        Raises:
            ValueError: an operation lies outside the rows.
        """
        operations.check(len(rows))
        control = Control(rate, clear, self.features.plain)
        engine = self._choose(operations)
        self._state, results = engine.run(self._made(), self._state, rows, operations, control)
        return results

    def predict(self, columns: Mapping[str, Column], events: int) -> FloatArray:
        """Serve events as one batch without changing anything at all: [K, W] float64, see `Head.serve`.

        Fields and categories that were never learned are left out. Before the first event everything is NaN. A single event
        is served by the engine that learns single events, several by torch.
        """
        if not self.built:
            return np.full((events, len(self.spec.targets)), np.nan)
        x = self.features.encode(columns, events, known_only=True).x
        compiled = self._predict_compiled(x) if events == 1 else None
        if compiled is not None:
            return compiled
        event = Event(
            x=torch.from_numpy(x),
            y=torch.full((events, self.head.width), torch.nan, dtype=torch.float64),
            valid=torch.ones(events, dtype=torch.bool),
            number=torch.zeros(events, dtype=torch.int64),
            plain=torch.from_numpy(self.features.plain),
            rate=torch.zeros((), dtype=self._made().dtype),
            clear=torch.zeros((), dtype=torch.bool),
        )
        served: FloatArray = self._made().predict(self.state, event).numpy()
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
        self.features.fit(len(set(fields)))
        self.features.declare(fields)

    def state_dict(self) -> LearnerState:
        """Return everything for a checkpoint."""
        return {
            "features": self.features.state_dict(),
            "targets": self.targets.state_dict(),
            "inputs_at_start": -1 if self._inputs_at_start is None else self._inputs_at_start,
            "growths": dict(self.growths),
            "tensors": self.state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned.

        Raises:
            ValueError: the state belongs to another network; the message names what differs.
        """
        self.features.load_state_dict(state["features"])
        self.targets.load_state_dict(state["targets"])
        self.growths = dict(state["growths"])
        if state["inputs_at_start"] < 0:
            self._inputs_at_start, self._step, self._state, self._parameters = None, None, {}, 0
            return
        self._build(int(state["inputs_at_start"]))
        problems = differences(self._state, state["tensors"])
        if problems:
            raise ValueError(
                "the state belongs to another network:\n  "
                + "\n  ".join(problems)
                + "\nUse the configuration that wrote it, or start afresh in another folder."
            )
        self._state = {part: dict(tensors) for part, tensors in state["tensors"].items()}

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle what is learned, as arrays (equal states have equal pickles), and not what is compiled."""
        state = self.state_dict()
        state["tensors"] = {
            part: {name: t.contiguous().numpy() for name, t in tensors.items()} for part, tensors in self.state.items()
        }
        return _restored, (self.spec, state)

    def _predict_compiled(self, x: FloatArray) -> FloatArray | None:
        """Serve one event [1, F] with compiled code, and give up the state that it leads to; None where there is none."""
        engine = self._choose(ASK)
        if engine is not self._native:
            return None
        rows = Rows(x, np.full((1, self.head.width), np.nan), np.zeros(1, dtype=np.int64))
        _, results = engine.run(self._made(), self._state, rows, ASK, Control(0.0, False, self.features.plain))
        # inputs so large that statistics could not count them can be served all the same
        return None if results.refused else results.served

    def _choose(self, operations: Operations) -> Engine:
        """Choose the engine by what is to be run; without a compiler, or lacking an operator, fall back for good."""
        if self._native is None:
            return self._engine
        try:
            self._native.prepare_all(self._made(), self._state, operations)
            if self.spec.foresee:
                self._native.foresee(self._made(), self._state, self.spec.batch)
        except (CompilerError, UnsupportedOperatorError) as error:
            if self.spec.engine == "native":
                raise
            warnings.warn(f"running eagerly, some hundred times slower: {error}", RuntimeWarning, stacklevel=3)
            self._native = None
            return self._engine
        return self._native

    def _build_for(self, first: Mapping[str, Column]) -> None:
        """Make the network for the inputs that the first event has."""
        encoded = self.features.encode(first, 1)
        if encoded.needed:
            self.features.fit(encoded.needed)
            self.features.encode(first, 1)
        # without any input all hidden units would start equal, and at 0, and never learn
        self._build(max(self.features.active, 1))

    def _made(self) -> Step:
        if self._step is None:
            raise RuntimeError("the network is made at the first event: encode one before")
        return self._step

    def _build(self, active: int) -> None:
        """Make the network for `active` inputs, then widen it to capacity."""
        spec = self.spec
        head = Head(
            spec.targets, self.targets.capacities, class_prior=spec.class_prior, regression_loss=spec.regression_loss
        )
        dtype = DTYPES[spec.dtype]
        network = MLP(spec.network, active, outputs=head.width, seed=spec.seed, dtype=dtype)
        self._step = Step(network, head, spec.optimizer, spec.standardizer, dtype, spec.accumulate)
        self._inputs_at_start = active
        params = {name: p.detach().clone() for name, p in network.named_parameters()}
        params = self._widen(params, inputs=range(active), outputs=range(head.width), width=head.width)
        buffers = {name: b.detach().clone() for name, b in network.named_buffers()}
        self._state = self._step.init(params, buffers, self.features.capacity)
        self._parameters = sum(p.numel() for p in params.values())

    def _widen(
        self, params: Mapping[str, Tensor], *, inputs: Sequence[int], outputs: Sequence[int], width: int
    ) -> dict[str, Tensor]:
        """Embed parameters in larger ones of zeros: a new input or class has no weight yet."""
        growing = self._made().network.growing
        size = {"input": self.features.capacity, "output": width}
        places = {"input": inputs, "output": outputs}
        new = {}
        for name, p in params.items():
            axes = growing.get(name, {})
            shape = [size[axes[dim]] if dim in axes else n for dim, n in enumerate(p.shape)]
            new[name] = embed(p, torch.zeros(shape, dtype=p.dtype), {dim: places[axis] for dim, axis in axes.items()})
        return new

    def _grow(self, inputs: int) -> None:
        """Bring the state from `inputs` inputs and the present head to the capacities of the indexes."""
        step, old = self._made(), self.state
        head = step.head.grown(self.targets.capacities)
        outputs = step.head.positions(head)
        self.growths["features"] += self.features.capacity != inputs
        self.growths["classes"] += head.width != step.head.width
        self._step = Step(step.network, head, step.optimizer, step.standardizer, step.dtype, step.accumulate)
        params = self._widen(old["params"], inputs=range(inputs), outputs=outputs, width=head.width)
        fresh = self._step.init(params, old["buffers"], self.features.capacity)
        places = {"input": range(inputs), "output": outputs}
        growing = step.network.growing
        new: dict[str, dict[str, Tensor]] = {}
        for part, tensors in fresh.items():
            if part == "inputs":
                new[part] = {name: embed(old[part][name], t, {0: range(inputs)}) for name, t in tensors.items()}
            elif part == "head":
                new[part] = {
                    name: embed(old[part][name], t, {0: outputs} if name in ("active", "entry") else {})
                    for name, t in tensors.items()
                }
            elif part.startswith("optimizer.") or part == "pending":
                new[part] = {
                    name: embed(old[part][name], t, {d: places[axis] for d, axis in growing.get(name, {}).items()})
                    for name, t in tensors.items()
                }
            else:
                new[part] = tensors
        self._state, self._parameters = new, sum(p.numel() for p in params.values())


def differences(expected: Mapping[str, Mapping[str, Tensor]], found: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """Name what differs in structure between two states, a line each."""
    lines = []
    want = {f"{part}.{name}": t for part, tensors in expected.items() for name, t in tensors.items()}
    have = {f"{part}.{name}": t for part, tensors in found.items() for name, t in tensors.items()}
    for name in sorted(want.keys() | have.keys()):
        if name not in have:
            lines.append(f"{name} is missing")
        elif name not in want:
            lines.append(f"{name} is not part of the configured network")
        elif want[name].shape != have[name].shape or want[name].dtype != have[name].dtype:
            lines.append(
                f"{name} is {tuple(have[name].shape)} {have[name].dtype}, the configured network has"
                f" {tuple(want[name].shape)} {want[name].dtype}"
            )
    return lines


def _restored(spec: LearnerSpec, state: LearnerState) -> Learner:
    learner = Learner(spec)
    tensors = {
        part: {name: torch.from_numpy(a) for name, a in arrays.items()} for part, arrays in state["tensors"].items()
    }
    learner.load_state_dict({**state, "tensors": tensors})
    return learner
