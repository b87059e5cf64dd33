"""One network learned event by event, by our engines and by PyTorch as it is usually written.

Axes: K events, F inputs, C classes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from streamnn.heads import TargetSpec
from streamnn.learner import EngineName, Learner, LearnerSpec
from streamnn.networks import MLPSpec
from streamnn.operations import FloatArray, IntArray, Kind, Operations, Rows
from streamnn.optimizers import SGD, Adam

RATE = 0.01

Run = Callable[[int], FloatArray]


@dataclass(frozen=True)
class Case:
    """One network and what it learns."""

    inputs: int
    units: tuple[int, ...]
    classes: int
    normalizer: str
    optimizer: str

    def __str__(self) -> str:
        sizes = "-".join(map(str, (self.inputs, *self.units, self.classes)))
        return f"{sizes} {self.normalizer} {self.optimizer}"


def data(case: Case, events: int) -> tuple[FloatArray, IntArray]:
    """Make inputs [K, F], and classes [K] that depend on them."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(events, case.inputs))
    y = (x[:, : case.classes] + 0.5 * rng.normal(size=(events, case.classes))).argmax(axis=1)
    return x, y


def names(inputs: int) -> list[str]:
    """Name the inputs."""
    return [f"f{i:05d}" for i in range(inputs)]


def room(needed: int) -> int:
    """Return the capacity that holds `needed` without growth."""
    return max(2, 1 << (needed - 1).bit_length())


def learner(case: Case, engine: EngineName) -> Learner:
    """Make our learner with room for everything."""
    return Learner(
        LearnerSpec(
            targets=(TargetSpec("y", "multiclass"),),
            network=MLPSpec(units=case.units, normalizer=case.normalizer, skip=False),
            optimizer=SGD() if case.optimizer == "sgd" else Adam(),
            class_capacity=room(case.classes),
            engine=engine,
        )
    )


def ours(case: Case, engine: EngineName, x: FloatArray, y: IntArray) -> tuple[Learner, Run]:
    """Make our learner and encode everything; returns it and what runs the next events."""
    made = learner(case, engine)
    labels = np.empty(len(y), dtype=object)
    labels[:] = y.tolist()
    columns = {name: x[:, i].copy() for i, name in enumerate(names(case.inputs))}
    made.declare(list(columns))  # some may be missing at first
    rows = made.encode(columns, {"y": labels}, np.arange(len(y))).rows
    assert len(rows) == len(y), "the capacity is meant to hold everything"
    at = 0

    @cache
    def listed(events: int) -> Operations:
        each = np.arange(events, dtype=np.int64)
        return Operations(np.full(events, Kind.PREDICT_LEARN, dtype=np.int8), each, each + 1)

    def run(events: int) -> FloatArray:
        nonlocal at
        part = Rows(rows.x[at : at + events], rows.y[at : at + events], rows.number[at : at + events])
        at = (at + events) % (len(y) - events + 1)
        return made.run(part, listed(events), rate=RATE).served

    return made, run


def network(case: Case) -> nn.Module:
    """Write the network as PyTorch's users do; there is no streaming normalisation there."""
    layers: list[nn.Module] = []
    before = case.inputs
    for units in case.units:
        layers += [nn.Linear(before, units), nn.LayerNorm(units, elementwise_affine=False), nn.ReLU()]
        before = units
    return nn.Sequential(*layers, nn.Linear(before, case.classes))


def plain(case: Case, x: FloatArray, y: IntArray) -> Run:
    """PyTorch: predict, then one step of its own optimizer, for every event; inputs as they are."""
    torch.manual_seed(0)
    made, loss_of = network(case), nn.CrossEntropyLoss()
    optimizer = (torch.optim.SGD if case.optimizer == "sgd" else torch.optim.Adam)(made.parameters(), lr=RATE)
    inputs, labels, at = torch.from_numpy(x).float(), torch.from_numpy(y), 0

    def run(events: int) -> FloatArray:
        nonlocal at
        served = np.empty((events, case.classes))
        for i in range(at, at + events):
            with torch.no_grad():
                served[i - at] = made(inputs[i : i + 1]).softmax(1)[0].numpy()
            optimizer.zero_grad()
            loss_of(made(inputs[i : i + 1]), labels[i : i + 1]).backward()
            optimizer.step()
        at = (at + events) % (len(y) - events + 1)
        return served

    return run
