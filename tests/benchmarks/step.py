"""Predict and learn one event, one thread: `python -m tests.benchmarks.step [--rounds 5]`.

The same network by our native engine, by our eager one, by PyTorch as it is usually written, by deep-river (where it is, see
`pipeline.bench.deep_river`), and by a C program written by hand for this network alone (`pipeline.bench.by_hand`). Before anything
is timed, native engine and C program have to agree with the eager engine. `loops` is the native engine's compiled code without the Python around each call.

The second table says how much of what one core can do (`roofline`, measured in the same rounds) these events per second are.

Sides take turns in every round; a figure is the median of its rounds.
"""

import argparse
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import numpy as np
import torch

from pipeline.bench import deep_river
from pipeline.bench.by_hand import by_hand
from pipeline.bench.deep_river import DeepRiver
from pipeline.bench.machine import describe
from pipeline.bench.steps import RATE, Case, data, names, ours, plain
from pipeline.bench.timing import Side, measure
from streamnn.native import NativeEngine
from streamnn.operations import Kind
from tests.benchmarks import roofline
from tests.benchmarks.quality.environments import remedy
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


def rates(case: Case, rounds: int, river: DeepRiver | None) -> dict[str, float]:
    """Median events per second of every side, and what the machine can do (`roofline.SIDES`) per second."""
    x, y = data(case, deep_river.LENGTH)
    begun, native = ours(case, "native", x, y)
    sides = {
        "native": Side(native, EVENTS),
        "C by hand": Side(by_hand(case, begun, x, y), EVENTS),
        "loops": Side(loops(case, x, y), EVENTS),
        "our eager": Side(ours(case, "eager", x, y)[1], 50),
    }
    if case.normalizer == "layer":
        sides["PyTorch"] = Side(plain(case, x, y), 50)
        if river:
            sides["deep-river"] = river.side(case)
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
    with ExitStack() as stack:
        river = None
        try:
            river = stack.enter_context(deep_river.beside())
        except deep_river.AbsentError as error:
            print(f"deep-river is left out: {error}; {remedy('deep_river')}")
        head = "network | native, events/s | C by hand | our eager | PyTorch | deep-river | native / C | loops / C"
        print(f"\n| {head} | native / PyTorch | native / deep-river |\n|{'---|' * 10}")
        shares = []
        for case in CASES:
            check(case)
            found = rates(case, rounds, river)
            print(line(case, found), flush=True)
            shares.append(share(case, found))
    head = "network | kflop an event | kB moved | kB held | GB/s | peak, Gflop/s | roofline | with roots"
    print(f"\n| {head} | native, Gflop/s | of roofline | of that with roots | loops | C by hand |\n|{'---|' * 13}")
    print("\n".join(shares))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default 5)")
    table(parser.parse_args().rounds)
