"""Predict and learn one event, one thread: `python -m tests.benchmarks.step [--rounds 5]`.

The same network by our native engine, by our eager one, by PyTorch as it is usually written, by deep-river where that can be
imported, and by a C program written by hand for this network alone (reference.c), compiled here with the flags of the native
engine. Before anything is timed, native engine and C program have to agree with the eager engine.

Sides take turns in every round; a figure is the median of its rounds.
"""

import argparse
import ctypes
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native.build import load
from streamnn.networks import MLPSpec
from streamnn.operations import Kind, Operations, Rows
from streamnn.optimizers import SGD, Adam
from tests.benchmarks.machine import describe

RATE = 0.01
CHECKED = 40
SECONDS = 0.4  # of one side in one round, about


@dataclass(frozen=True)
class Case:
    """One network and what it learns."""

    inputs: int
    units: tuple[int, int]
    classes: int
    normalizer: str
    optimizer: str

    def __str__(self) -> str:
        sizes = "-".join(map(str, (self.inputs, *self.units, self.classes)))
        return f"{sizes} {self.normalizer} {self.optimizer}"


CASES = [
    Case(inputs, units, classes, normalizer, optimizer)
    for inputs, units, classes in ((8, (64, 64), 2), (54, (128, 128), 7), (784, (256, 256), 10))
    for normalizer in ("layer", "streaming")
    for optimizer in ("sgd", "adam")
]


def data(case: Case, events: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [K, F] and classes [K] that depend on them."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(events, case.inputs))
    y = (x[:, : case.classes] + 0.5 * rng.normal(size=(events, case.classes))).argmax(axis=1)
    return x, y


def learner(case: Case, engine: str) -> Learner:
    """Our learner."""
    return Learner(
        LearnerSpec(
            targets=(TargetSpec("y", "multiclass"),),
            network=MLPSpec(units=case.units, normalizer=case.normalizer, skip=False),
            optimizer=SGD() if case.optimizer == "sgd" else Adam(),
            feature_capacity=1 << (case.inputs - 1).bit_length(),
            class_capacity=1 << (case.classes - 1).bit_length(),
            engine=engine,
        )
    )


def ours(case: Case, engine: str, x: np.ndarray, y: np.ndarray) -> tuple[Learner, Callable[[int], np.ndarray]]:
    """Our learner with everything encoded; returns it and what runs the next events."""
    made = learner(case, engine)
    labels = np.empty(len(y), dtype=object)
    labels[:] = y.tolist()
    chunk = made.encode({f"f{i:04d}": x[:, i].copy() for i in range(case.inputs)}, {"y": labels}, np.arange(len(y)))
    assert len(chunk.rows) == len(y), "the capacity is meant to hold everything"
    rows, at = chunk.rows, 0

    def run(events: int) -> np.ndarray:
        nonlocal at
        part = Rows(rows.x[at : at + events], rows.y[at : at + events], rows.number[at : at + events])
        at = (at + events) % (len(y) - events + 1)
        each = np.arange(events, dtype=np.int64)
        kinds = np.full(events, Kind.PREDICT_LEARN, dtype=np.int8)
        return made.run(part, Operations(kinds, each, each + 1), rate=RATE).served

    return made, run


def by_hand(case: Case, begun: Learner, x: np.ndarray, y: np.ndarray) -> Callable[[int], np.ndarray]:
    """The C program, started from our learner's weights."""
    sizes = (
        f"#define F {case.inputs}\n#define H1 {case.units[0]}\n#define H2 {case.units[1]}\n#define C {case.classes}\n"
    )
    methods = ("#define STREAMING\n" if case.normalizer == "streaming" else "") + (
        "#define ADAM\n" if case.optimizer == "adam" else ""
    )
    library, _ = load(sizes + methods + Path(__file__).with_name("reference.c").read_text())
    library.state_bytes.restype = ctypes.c_int64
    room = np.zeros(library.state_bytes() + 64, dtype=np.uint8)
    state = ctypes.c_void_p((room.ctypes.data + 63) // 64 * 64)
    p = {name: t.numpy() for name, t in begun.state["params"].items()}
    weights = [
        p["linears.0.weight"][:, : case.inputs], p["linears.0.bias"], p["linears.1.weight"], p["linears.1.bias"],
        p["output.weight"][: case.classes], p["output.bias"][: case.classes],
    ]  # fmt: skip
    weights = [np.ascontiguousarray(w, dtype=np.float32) for w in weights]
    library.begin(state, *(ctypes.c_void_p(w.ctypes.data) for w in weights))
    # classes have positions in the order in which they appear
    order = list(dict.fromkeys(y.tolist()))
    onehot = np.zeros((len(y), case.classes))
    onehot[np.arange(len(y)), [order.index(v) for v in y.tolist()]] = 1.0
    at, keep = 0, (room, weights)

    def run(events: int) -> np.ndarray:
        nonlocal at
        assert keep
        now, labels = np.ascontiguousarray(x[at : at + events]), np.ascontiguousarray(onehot[at : at + events])
        at = (at + events) % (len(y) - events + 1)
        served, losses = np.empty((events, case.classes)), np.empty(events, dtype=np.float32)
        arrays = [ctypes.c_void_p(a.ctypes.data) for a in (now, labels, served, losses)]
        library.run(ctypes.c_int64(events), state, *arrays[:2], ctypes.c_float(RATE), *arrays[2:])
        return served

    return run


def network(case: Case) -> nn.Module:
    """The network as PyTorch's users write it; there is no streaming normalisation there."""
    layers: list[nn.Module] = []
    before = case.inputs
    for units in case.units:
        layers += [nn.Linear(before, units), nn.LayerNorm(units, elementwise_affine=False), nn.ReLU()]
        before = units
    return nn.Sequential(*layers, nn.Linear(before, case.classes))


def plain(case: Case, x: np.ndarray, y: np.ndarray) -> Callable[[int], np.ndarray]:
    """PyTorch: predict, then one step of its own optimizer, for every event; inputs as they are."""
    torch.manual_seed(0)
    made, loss_of = network(case), nn.CrossEntropyLoss()
    optimizer = (torch.optim.SGD if case.optimizer == "sgd" else torch.optim.Adam)(made.parameters(), lr=RATE)
    inputs, labels, at = torch.from_numpy(x).float(), torch.from_numpy(y), 0

    def run(events: int) -> np.ndarray:
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


def deep_river(case: Case, x: np.ndarray, y: np.ndarray) -> Callable[[int], np.ndarray]:
    """deep-river's classifier: predict_proba_one, learn_one; inputs as they are."""
    from deep_river.classification import Classifier

    torch.manual_seed(0)
    made = Classifier(
        module=network(case), loss_fn="cross_entropy", optimizer_fn=case.optimizer, lr=RATE, is_class_incremental=True
    )
    names = [f"f{i:04d}" for i in range(case.inputs)]
    at = 0

    def run(events: int) -> np.ndarray:
        nonlocal at
        for i in range(at, at + events):
            event = dict(zip(names, x[i].tolist(), strict=True))
            made.predict_proba_one(event)
            made.learn_one(event, int(y[i]))
        at = (at + events) % (len(y) - events + 1)
        return np.empty(0)

    return run


def check(case: Case) -> None:
    """Native engine and C program have to serve what the eager engine serves.

    Over a few events: at this rate some of the networks are chaotic, and double the last bit's difference again and again.
    """
    x, y = data(case, CHECKED)
    _, eager = ours(case, "eager", x, y)
    begun, native = ours(case, "native", x, y)
    reference = by_hand(case, begun, x, y)
    want, got, found = eager(CHECKED), native(CHECKED), reference(CHECKED)
    np.testing.assert_allclose(got, want, atol=2e-3, err_msg=f"{case}: native engine")
    np.testing.assert_allclose(found, want[:, : case.classes], atol=2e-3, err_msg=f"{case}: C program")


def rates(case: Case, rounds: int) -> dict[str, float]:
    """Median events per second of every side."""
    x, y = data(case, 4_000)
    begun, native = ours(case, "native", x, y)
    sides: dict[str, Callable[[int], np.ndarray]] = {
        "native": native,
        "C by hand": by_hand(case, begun, x, y),
        "our eager": ours(case, "eager", x, y)[1],
    }
    if case.normalizer == "layer":
        sides["PyTorch"] = plain(case, x, y)
        if importlib.util.find_spec("deep_river"):
            sides["deep-river"] = deep_river(case, x, y)
    events = {}
    for name, run in sides.items():
        many = 2_000 if name in ("native", "C by hand") else 50
        run(many)  # compiles, fills caches
        events[name] = many
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            done, began = 0, time.perf_counter()
            while time.perf_counter() - began < SECONDS:
                run(events[name])
                done += events[name]
            found[name].append(done / (time.perf_counter() - began))
    return {name: statistics.median(values) for name, values in found.items()}


def table(rounds: int) -> None:
    """Print a line for each network."""
    torch.set_num_threads(1)
    print(describe())
    if not importlib.util.find_spec("deep_river"):
        print("deep-river is left out: it cannot be imported with river's version here")
    print()
    print(
        "| network | native, events/s | C by hand | our eager | PyTorch | deep-river | native / C | native / PyTorch |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for case in CASES:
        check(case)
        found = rates(case, rounds)
        shown = [f"{found[name]:,.0f}" if name in found else "-" for name in ("native", "C by hand", "our eager")]
        shown += [f"{found[name]:,.0f}" if name in found else "-" for name in ("PyTorch", "deep-river")]
        usual = f"{found['native'] / found['PyTorch']:.0f}" if "PyTorch" in found else "-"
        print(f"| {case} | {' | '.join(shown)} | {found['native'] / found['C by hand']:.2f} | {usual} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default 5)")
    table(parser.parse_args().rounds)
