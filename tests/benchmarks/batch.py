"""Measure micro-batches, native beside eager: `python -m tests.benchmarks.batch`.

Both engines predict and learn the same rows in one thread and take turns; figures are events per second of processor time,
medians of five rounds. Compilation does not count.
"""

import argparse

import numpy as np
import torch

from pipeline.bench.machine import describe
from pipeline.bench.timing import Side, measure
from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native import engine as native
from streamnn.networks import MLPSpec
from streamnn.operations import Kind, Operations

SHAPES = ((8, (64, 64), "binary"), (54, (128, 128), "multiclass"), (784, (256, 256), "multiclass"))
SIZES = (1, 4, 16, 64, 256, 1024, 4096)
SECONDS = 0.1  # of one side in one round, about


def ready(name: str, inputs: int, units: tuple[int, ...], kind: str, size: int) -> Side:
    """Make one engine ready to run micro-batches of one size: those of one call again and again."""
    rng = np.random.default_rng(0)
    steps = max(2, min(64, 1024 // size))
    events = steps * size
    columns = {f"f{i}": rng.normal(size=events) for i in range(inputs)}
    if kind == "binary":
        labels = {"y": (columns["f0"] > 0).astype(float)}
    else:
        labels = {"y": np.array([f"c{v}" for v in rng.permutation(np.arange(events) % 7)], dtype=object)}
    spec = LearnerSpec(targets=(TargetSpec("y", kind),), network=MLPSpec(units=units), engine=name)
    learner = Learner(spec)
    learner.declare(list(columns))
    rows = learner.encode(columns, labels, np.arange(events), batch=events).rows
    listed = Operations.of([(Kind.PREDICT_LEARN, i, i + size) for i in range(0, events, size)])
    return Side(lambda _: learner.run(rows, listed, rate=0.01), events)


def table() -> None:
    """Print a line for each network and size, sizes above the limit in the code included."""
    torch.set_num_threads(1)
    native.LARGEST = max(SIZES)
    print(describe())
    print()
    print("| network | micro-batch | native, events/s | eager | ratio |")
    print("|---|---|---|---|---|")
    for inputs, units, kind in SHAPES:
        for size in SIZES:
            sides = {name: ready(name, inputs, units, kind, size) for name in ("native", "eager")}
            found = measure(sides, rounds=5, seconds=SECONDS)
            ours, eager = found["native"].median, found["eager"].median
            sizes = "-".join(map(str, (inputs, *units)))
            print(f"| {sizes} | {size} | {ours:,.0f} | {eager:,.0f} | {ours / eager:.1f} |", flush=True)


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    table()
