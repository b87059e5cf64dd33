"""Networks of a pool against as many networks each on its own: `python -m tests.benchmarks.members [--rounds 5]`.

One side is what a pool does: its networks (`streamnn/pool/net.c`, 64 units, layer normalisation, a linear path, Adam), with
learning rates and seeds of their own, all learn the same rows of a chunk, one after the other. The other is the native engine's
traced step of the same network, compiled once and run as a separate loop for each member. Both run in one thread and take
turns; figures are events that all members have learned per second of processor time, medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from pipeline.bench.machine import describe
from pipeline.bench.steps import names
from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native import NativeEngine
from streamnn.networks import MLPSpec
from streamnn.operations import Kind, Operations, Rows
from streamnn.optimizers import Adam
from streamnn.pool import net
from streamnn.pool.layout import Layout

CHUNK, CLASSES = 1000, 2
INPUTS, MEMBERS = (8, 64), (8, 32)


def listed() -> Operations:
    """Predict and learn each row."""
    return Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(CHUNK)])


def rates(members: int) -> list[float]:
    """A learning rate for each member."""
    return np.geomspace(1e-4, 1e-2, members).tolist()


def together(x: np.ndarray, y: np.ndarray, members: int) -> Callable[[], None]:
    """The networks of a pool."""
    rows = np.ascontiguousarray(x, dtype=np.float32)
    layout = Layout(x.shape[1], 0, CLASSES, False)
    specs = [net.NetSpec(name=f"n{i}", rate=rate, narrow=True) for i, rate in enumerate(rates(members))]
    states = [net.init(spec, layout, CLASSES, seed=i) for i, spec in enumerate(specs)]
    nothing, label = np.zeros((CHUNK, 0)), y.astype(np.int32)
    no_draws = np.zeros((CHUNK, 0), dtype=np.int32)
    data = net.NetRows(rows, label, nothing, nothing, no_draws, (rows[:0], label[:0], nothing[:0]))
    out, loss, operations = np.zeros((CHUNK, members, CLASSES)), np.full(CHUNK, np.nan), listed()

    def run() -> None:
        for i, (spec, state) in enumerate(zip(specs, states, strict=True)):
            net.run(spec, state, data, operations, out, loss, member=i, rate=1.0)

    return run


def apart(x: np.ndarray, y: np.ndarray, members: int) -> Callable[[], None]:
    """As many states of the traced step, each in a loop of its own."""
    labels = np.array([f"c{v}" for v in y.tolist()], dtype=object)
    columns = {name: x[:, i].copy() for i, name in enumerate(names(x.shape[1]))}
    learners = [_learner(columns, labels, seed) for seed in range(members)]
    first, rows = learners[0]
    program = NativeEngine().prepare(first.step, first.state, [Kind.PREDICT_LEARN])
    blocks = [program.pack([t for named in made.state.values() for t in named.values()]) for made, _ in learners]
    kinds, places = np.full(CHUNK, Kind.PREDICT_LEARN, dtype=np.int8), np.arange(CHUNK)
    outs = [np.zeros((CHUNK, *shape), dtype=dtype) for shape, dtype in program.outputs]
    given = [rows.x, rows.y, rows.number, first.features.plain]
    each = [[*given, np.array(rate, dtype=np.float32)] for rate in rates(members)]

    def run() -> None:
        for block, inputs in zip(blocks, each, strict=True):
            assert program.run(block, kinds, places, inputs, outs), "a member has become infinite"

    return run


def _learner(columns: dict[str, np.ndarray], labels: np.ndarray, seed: int) -> tuple[Learner, Rows]:
    made = Learner(
        LearnerSpec(
            targets=(TargetSpec("y", "multiclass"),), network=MLPSpec(units=(net.UNITS,)), optimizer=Adam(beta1=0.0),
            feature_capacity=len(columns), class_capacity=CLASSES, seed=seed, engine="eager",
        )
    )  # fmt: skip
    return made, made.encode(columns, {"y": labels}, np.arange(CHUNK)).rows


def table(rounds: int) -> None:
    """Print a line for each number of inputs and members."""
    torch.set_num_threads(1)
    print(describe())
    print("\n| inputs | members | pool, events/s | separate loops, events/s | ratio |\n|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for inputs in INPUTS:
        x = rng.normal(size=(CHUNK, inputs))
        y = (x[:, 0] + 0.5 * rng.normal(size=CHUNK) > 0).astype(np.int64)
        for members in MEMBERS:
            sides = together(x, y, members), apart(x, y, members)
            found: list[list[float]] = [[], []]
            for side in sides:
                side()  # compiles
            for _ in range(rounds):
                for side, took in zip(sides, found, strict=True):
                    began = time.process_time()
                    side()
                    took.append(time.process_time() - began)
            pool, separate = (CHUNK / statistics.median(took) for took in found)
            print(f"| {inputs} | {members} | {pool:,.0f} | {separate:,.0f} | {pool / separate:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each side (default 5)")
    table(parser.parse_args().rounds)
