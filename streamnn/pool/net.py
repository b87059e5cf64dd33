"""Tiny networks: one hidden layer, learned one event at a time, with a few events of the past after each.

    a = W0 x + b0;  h = relu(layer norm(a));  logits = Wo h + bo + .3 Ws x

64 units; layer normalisation without gain and bias; W0, b0 uniform in +-1/sqrt(D), all else 0 at the start.
Cross-entropy by Adam with beta1 = 0. It is the network `MLP(units=(64,), normalizer="layer", skip=True)` under `Step`
with `Adam(beta1=0)`, and tested equal to it; written by hand because here sizes are arguments: inputs and classes grow
without compiling, and the past is learned again where it lies.

Axes: K rows, D inputs used (the first columns of a feature row), H = 64 units, C outputs.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Arrays, RowLayout, Sized, moved
from streamnn.pool.native import call
from streamnn.pool.replay import RECENT

UNITS = 64
Loss = Literal["classes", "labels", "huber", "absolute"]
LOSSES: tuple[Loss, ...] = ("classes", "labels", "huber", "absolute")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetSpec:
    """One network of a pool.

    Attributes:
        name: as it is called in telemetry.
        rate: learning rate, in units of the pool's.
        beta2: decay of Adam's second moments.
        again: events of the past learned after each event, each a step of its own.
        window: they are drawn from the last so many events, at most 1,000; 0 from all the past.
        lean: leave target encodings out of the input.
        narrow: use the plain inputs and Z alone.
        objective: what it learns: classes, labels (several 0/1), or a value by Huber or absolute loss.
        residual: a value's residual instead of the value.

    Raises:
        ValueError: fewer than 0 events are learned again, or they come from a window that is not kept.
    """

    name: str
    rate: float = 1.0
    beta2: float = 0.999
    again: int = 0
    window: int = 1000
    lean: bool = False
    narrow: bool = False
    objective: Loss = "classes"
    residual: bool = False

    def __post_init__(self) -> None:
        if self.again < 0:
            raise ValueError(f"again is {self.again}, but must be at least 0 (events of the past learned after each)")
        if not 0 <= self.window <= RECENT:
            raise ValueError(f"window is {self.window}, but must be 0 (all the past) or at most {RECENT} events")

    def inputs(self, layout: RowLayout) -> int:
        """D: how many columns of a row it reads."""
        return layout.keys if self.narrow else layout.lean if self.lean else layout.width


def init(spec: NetSpec, layout: RowLayout, outputs: int, *, seed: int, objective: Loss = "classes") -> Arrays:
    """Return the state of a network that has seen nothing; start weights depend on sizes and seed alone."""
    used = spec.inputs(layout)
    random = np.random.Generator(np.random.PCG64(seed))
    bound = max(used, 1) ** -0.5
    weights, bias = random.uniform(-bound, bound, (used, UNITS)), random.uniform(-bound, bound, UNITS)
    state = _zeros(used, outputs)
    state["w0"][:], state["b0"][:] = weights, bias
    state["bound"][0] = bound
    state["active"][:] = objective != "classes"  # a class exists from its first label, other outputs from the start
    return state


def grow(spec: NetSpec, state: Arrays, old: Sized, new: Sized, outputs: int, *, seed: int) -> Arrays:
    """Return the state with room for more inputs and outputs.

    Weights of new numeric inputs start at 0, so that outputs stay as they are. Columns of a new class are 0 until its
    first label, so their weights may start at random, as they would have with room from the beginning.
    """
    fresh = _zeros(spec.inputs(new), outputs)
    if not (spec.lean or spec.narrow):
        columns = old.fresh(new)
        random = np.random.Generator(np.random.PCG64([seed, new.classes]))
        fresh["w0"][columns] = random.uniform(-1, 1, (len(columns), UNITS)) * state["bound"][0]
    columns, outs = old.places(new)[: spec.inputs(old)], np.arange(len(state["bo"]))
    axes = {
        **{name: {0: columns} for name in ("w0", "v0", "left_in")},
        **{name: {0: outs} for name in ("wo", "vo", "bo", "vbo", "left_out", "active")},
        **{name: {0: outs, 1: columns} for name in ("ws", "vs")},
    }
    return {name: moved(array, fresh[name], axes.get(name, {})) for name, array in state.items()}


def forget(state: Arrays) -> None:
    """Forget second moments, so that the next steps are as large as the first."""
    for name, array in state.items():
        if name.startswith("v"):
            array.fill(0)
        elif name.startswith("left"):
            array.fill(1)


@dataclass(frozen=True, slots=True, eq=False)
class NetRows:
    """What networks read, a row an event; see `streamnn.pool.replay` for the last ones.

    Attributes:
        rows: [K, D] float32 feature rows.
        label: [K] int32 classes, -1 = unknown.
        y: [K, C] float64 labels of other losses, NaN = unknown ([K, 0] for classes).
        units: [K, 2] float64 offset and scale of values at the time at which the row is learned ([0, 2] for others).
        draws: [K, again] int32.
        kept: rows, labels and y of the store that is drawn from.
    """

    rows: npt.NDArray[np.float32]
    label: npt.NDArray[np.int32]
    y: npt.NDArray[np.float64]
    units: npt.NDArray[np.float64]
    draws: npt.NDArray[np.int32]
    kept: tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.float64]]


def run(
    spec: NetSpec,
    state: Arrays,
    data: NetRows,
    operations: Operations,
    out: npt.NDArray[np.float64],
    loss: npt.NDArray[np.float64],
    *,
    member: int,
    rate: float,
    objective: Loss = "classes",
) -> None:
    """Run operations in C: fill one member of `out` [K, M, C] and `loss` [K], and learn in place."""
    inputs, outputs = len(state["left_in"]), len(state["bo"])
    stride = out.shape[1] * out.shape[2]
    sizes = [inputs, outputs, data.rows.shape[1], spec.again, stride, LOSSES.index(objective)]
    tensors = [array for name, array in state.items() if name != "bound"]
    mine = out.reshape(-1)[member * outputs :]
    arrays = [*tensors, data.rows, data.label, data.y, data.units, data.draws, *data.kept, mine, loss]
    call("net", operations, sizes, arrays, [rate * spec.rate, spec.beta2])


def _zeros(inputs: int, outputs: int) -> Arrays:
    single = np.float32
    return {
        "w0": np.zeros((inputs, UNITS), dtype=single),
        "b0": np.zeros(UNITS, dtype=single),
        "wo": np.zeros((outputs, UNITS), dtype=single),
        "bo": np.zeros(outputs, dtype=single),
        "ws": np.zeros((outputs, inputs), dtype=single),
        "v0": np.zeros((inputs, UNITS), dtype=single),
        "vb0": np.zeros(UNITS, dtype=single),
        "vo": np.zeros((outputs, UNITS), dtype=single),
        "vbo": np.zeros(outputs, dtype=single),
        "vs": np.zeros((outputs, inputs), dtype=single),
        "left_in": np.ones(inputs),
        "left_unit": np.ones(1),
        "left_out": np.ones(outputs),
        "active": np.zeros(outputs, dtype=np.int8),
        "level": np.zeros(1),
        "count": np.zeros(1, dtype=np.int64),
        "bound": np.zeros(1),
    }
