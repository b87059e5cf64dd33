"""Predict and learn one event, one thread: `python -m tests.benchmarks.step [--rounds 5]`.

The same network by our native engine, by our eager one, by PyTorch as it is usually written, by deep-river (in a process of its
own, where STREAMNN_PEERS has it), and by a C program written by hand for this network alone (reference.c), compiled here with
the flags of the native engine. Before anything is timed, native engine and C program have to agree with the eager engine.
`loops` is the native engine's compiled code without the Python around each call.

The second table says how much of what one core can do (`roofline`, measured in the same rounds) these events per second are.

Sides take turns in every round; a figure is the median of its rounds.
"""

import argparse
import ctypes
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from pipeline.bench.machine import describe
from pipeline.bench.steps import RATE, Case, data, names, ours, plain
from pipeline.bench.timing import Side, measure
from streamnn.learner import Learner
from streamnn.native import NativeEngine
from streamnn.native.build import load
from streamnn.operations import Kind
from tests.benchmarks import deep_river, roofline
from tests.benchmarks.quality.environments import missing
from tests.benchmarks.roofline import Machine, Work

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


def rates(case: Case, rounds: int, *, river: bool) -> dict[str, float]:
    """Median events per second of every side, and what the machine can do (`roofline.SIDES`) per second."""
    x, y = data(case, deep_river.LENGTH)
    begun, native = ours(case, "native", x, y)
    sides = {
        "native": Side(native, EVENTS),
        "C by hand": Side(by_hand(case, begun, x, y), EVENTS),
        "loops": Side(loops(case, x, y), EVENTS),
        "our eager": Side(ours(case, "eager", x, y)[1], 50),
    }
    with ExitStack() as stack:
        if case.normalizer == "layer":
            sides["PyTorch"] = Side(plain(case, x, y), 50)
            if river:
                sides["deep-river"] = stack.enter_context(deep_river.beside(case))
        sides |= roofline.limits(Work.of(case).block)
        return {name: rate.median for name, rate in measure(sides, rounds=rounds, seconds=SECONDS).items()}


def line(case: Case, found: Mapping[str, float]) -> str:
    """Events per second of one network, and ratios."""
    shown = [f"{found[name]:,.0f}" if name in found else "-" for name in ("native", "C by hand", "our eager")]
    shown += [f"{found[name]:,.0f}" if name in found else "-" for name in ("PyTorch", "deep-river")]
    shown += [f"{found[name] / found['C by hand']:.2f}" for name in ("native", "loops")]
    shown += [f"{found['native'] / found[name]:.0f}" if name in found else "-" for name in ("PyTorch", "deep-river")]
    return f"| {case} | {' | '.join(shown)} |"


def share(case: Case, found: Mapping[str, float]) -> str:
    """What one network's events per second are of the roofline, and of the ceiling of roots and divisions below it."""
    work, machine = Work.of(case), Machine(*(found[name] for name in roofline.SIDES))
    roof, ceiling = machine.roof(work), machine.ceiling(work)
    shown = [
        f"{work.flops / 1e3:,.0f}", f"{(work.read + work.rewritten) / 1e3:,.0f}", f"{work.block / 1e3:,.0f}",
        f"{machine.bandwidth(work) / 1e9:.0f}", f"{machine.fma / 1e9:.0f}", f"{roof / 1e9:.1f}", f"{ceiling / 1e9:.1f}",
    ]  # fmt: skip
    gained = {name: found[name] * work.flops for name in ("native", "loops", "C by hand")}
    shown += [f"{gained['native'] / 1e9:.1f}", f"{gained['native'] / roof:.0%}"]
    shown += [f"{flops / ceiling:.0%}" for flops in gained.values()]
    return f"| {case} | {' | '.join(shown)} |"


def table(rounds: int) -> None:
    """Print a line for each network in either table."""
    torch.set_num_threads(1)
    print(describe())
    without = missing("deep_river")
    if without:
        print(f"deep-river is left out: {without}")
    head = "network | native, events/s | C by hand | our eager | PyTorch | deep-river | native / C | loops / C"
    print(f"\n| {head} | native / PyTorch | native / deep-river |\n|{'---|' * 10}")
    shares = []
    for case in CASES:
        check(case)
        found = rates(case, rounds, river=without is None)
        print(line(case, found), flush=True)
        shares.append(share(case, found))
    head = "network | kflop an event | kB moved | kB held | GB/s | peak, Gflop/s | roofline | with roots"
    print(f"\n| {head} | native, Gflop/s | of roofline | of that with roots | loops | C by hand |\n|{'---|' * 13}")
    print("\n".join(shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default 5)")
    table(parser.parse_args().rounds)
