"""Predict and learn one event, one thread: `python -m tests.benchmarks.step [--rounds 5]`.

The same network by our native engine, by our eager one, by PyTorch as it is usually written, by deep-river where that can be
imported, and by a C program written by hand for this network alone (reference.c), compiled here with the flags of the native
engine. Before anything is timed, native engine and C program have to agree with the eager engine. `loops` is the native
engine's compiled code without the Python around each call.

Sides take turns in every round; a figure is the median of its rounds.
"""

import argparse
import ctypes
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.bench.machine import describe
from pipeline.bench.steps import RATE, Case, data, names, network, ours, plain
from pipeline.bench.timing import Side, measure
from streamnn.learner import Learner
from streamnn.native import NativeEngine
from streamnn.native.build import load
from streamnn.operations import Kind

CHECKED = 30
EVENTS = 2000  # of one call
SECONDS = 0.4  # of one side in one round, about

CASES = [
    Case(inputs, units, classes, normalizer, optimizer)
    for inputs, units, classes in ((8, (64, 64), 2), (54, (128, 128), 7), (784, (256, 256), 10))
    for normalizer in ("layer", "streaming")
    for optimizer in ("sgd", "adam")
]


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


def loops(case: Case, x: np.ndarray, y: np.ndarray) -> Callable[[int], np.ndarray]:
    """The compiled code of the native engine alone: each call learns the same events."""
    made, run = ours(case, "native", x, y)
    run(EVENTS)  # some state that is not the first
    labels = np.empty(EVENTS, dtype=object)
    labels[:] = y[:EVENTS].tolist()
    columns = {name: x[:EVENTS, i].copy() for i, name in enumerate(names(case.inputs))}
    rows = made.encode(columns, {"y": labels}, np.arange(EVENTS)).rows
    program = NativeEngine().prepare(made.step, made.state, [Kind.PREDICT_LEARN])
    block = program.pack([t for named in made.state.values() for t in named.values()])
    kinds, places = np.full(EVENTS, Kind.PREDICT_LEARN, dtype=np.int8), np.arange(EVENTS)
    outs = [np.zeros((EVENTS, *shape), dtype=dtype) for shape, dtype in program.outputs]
    inputs = [rows.x, rows.y, rows.number, made.features.plain, np.array(RATE, dtype=np.float32)]

    def again(events: int) -> np.ndarray:
        assert events == EVENTS
        assert program.run(block, kinds, places, inputs, outs), "the network has become infinite"
        return outs[0]

    return again


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
    sides = {
        "native": Side(native, EVENTS),
        "C by hand": Side(by_hand(case, begun, x, y), EVENTS),
        "loops": Side(loops(case, x, y), EVENTS),
        "our eager": Side(ours(case, "eager", x, y)[1], 50),
    }
    if case.normalizer == "layer":
        sides["PyTorch"] = Side(plain(case, x, y), 50)
        if importlib.util.find_spec("deep_river"):
            sides["deep-river"] = Side(deep_river(case, x, y), 50)
    return {name: rate.median for name, rate in measure(sides, rounds=rounds, seconds=SECONDS).items()}


def table(rounds: int) -> None:
    """Print a line for each network."""
    torch.set_num_threads(1)
    print(describe())
    if not importlib.util.find_spec("deep_river"):
        print("deep-river is left out: it cannot be imported with river's version here")
    print()
    print(
        "| network | native, events/s | C by hand | our eager | PyTorch | deep-river | native / C | loops / C |"
        " native / PyTorch |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        check(case)
        found = rates(case, rounds)
        shown = [f"{found[name]:,.0f}" if name in found else "-" for name in ("native", "C by hand", "our eager")]
        shown += [f"{found[name]:,.0f}" if name in found else "-" for name in ("PyTorch", "deep-river")]
        usual = f"{found['native'] / found['PyTorch']:.0f}" if "PyTorch" in found else "-"
        ratios = [f"{found[name] / found['C by hand']:.2f}" for name in ("native", "loops")]
        print(f"| {case} | {' | '.join([*shown, *ratios])} | {usual} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default 5)")
    table(parser.parse_args().rounds)
