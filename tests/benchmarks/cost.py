"""What an event costs as things get larger: `python -m tests.benchmarks.cost [--most-events 1000000] [SECTION ...]`.

Sections: events, features, classes, hidden, batch, depth. Each event is predicted and learned by the native engine in one
thread. Figures are processor time, not wall time, so that what else runs on the machine counts less; the least of three runs
(of four thousand events at most) is shown. Compilation is counted apart, from an empty cache.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from pipeline.bench.machine import describe
from pipeline.bench.steps import Case, learner, ours
from streamnn.heads import TargetSpec
from streamnn.native import NativeEngine
from streamnn.operations import Kind, Operations, Rows
from streamnn.pool import PoolLearner, PoolSpec

TRIES = 3
PRESENT = 10  # features of a sparse event


def case(*, inputs: int = 10, units: tuple[int, ...] = (64,), classes: int = 2) -> Case:
    """A network of which one size is varied."""
    return Case(inputs, units, classes, "layer", "adam")


def events_of(network: Case, count: int, *, sparse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Inputs [K, F], missing but for ten of each event if sparse, and classes [K]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, network.inputs))
    if sparse:
        hidden = np.ones(x.shape, dtype=bool)
        for row in hidden:
            row[rng.choice(network.inputs, min(PRESENT, network.inputs), replace=False)] = False
        x[hidden] = np.nan
    return x, rng.integers(network.classes, size=count)


def least_us(run: Callable[[], object], events: int) -> float:
    """Processor time of one event in microseconds, the least of some tries after one that does not count."""
    run()
    took = []
    for _ in range(TRIES):
        began = time.process_time()
        run()
        took.append(time.process_time() - began)
    return min(took) / events * 1e6


def network_us(network: Case, *, sparse: bool = False) -> float:
    """Cost of an event of one network."""
    size = network.inputs * network.units[0] + network.units[-1] * network.classes
    count = int(np.clip(20_000_000 // size, 40, 4000))
    x, y = events_of(network, count, sparse=sparse)
    _, run = ours(network, "native", x, y)
    return least_us(lambda: run(count), count)


def pool_us(network: Case) -> float:
    """Cost of an event of the default pool."""
    count = int(np.clip(20_000 // network.inputs, 40, 1000))
    made, rows = _pool(network, count)
    listed = Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(len(rows))])
    return least_us(lambda: made.run(rows, listed, rate=0.003), len(rows))


def _pool(network: Case, count: int) -> tuple[PoolLearner, Rows]:
    x, y = events_of(network, count)
    made = PoolLearner(
        PoolSpec(targets=(TargetSpec("y", "multiclass"),), engine="native", feature_capacity=16, class_capacity=16)
    )
    labels = np.array([f"c{v}" for v in y.tolist()], dtype=object)
    columns = {f"f{i}": x[:, i].copy() for i in range(network.inputs)}
    made.declare(list(columns))
    while True:  # until everything has room
        rows = made.encode(columns, {"y": labels}, np.arange(count)).rows
        if len(rows) == count:
            return made, rows
        made.run(rows, Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(len(rows))]), rate=0.003)
        columns, labels = {n: c[len(rows) :] for n, c in columns.items()}, labels[len(rows) :]
        count = len(labels)


def events(most: int) -> None:
    """Cost per event, and memory, from the first ten thousand events to the last."""
    print("\n| events so far | network, us/event | pool, us/event | memory, MB |\n|---|---|---|---|")
    network = case()
    x, y = events_of(network, 1000)
    _, run = ours(network, "native", x, y)
    made, rows = _pool(network, 1000)
    listed = Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(len(rows))])
    run(1000)  # compiles
    done, marks = 0, [10**e for e in range(4, 9) if 10**e <= most]
    spent = {"network": 0.0, "pool": 0.0}
    for mark in marks:
        before, spent = done, dict.fromkeys(spent, 0.0)
        while done < mark:
            numbers = np.arange(done, done + 1000)
            began = time.process_time()
            run(1000)
            middle = time.process_time()
            made.run(Rows(rows.x, rows.y, numbers), listed, rate=0.003)
            spent["network"] += middle - began
            spent["pool"] += time.process_time() - middle
            done += 1000
        costs = [f"{spent[name] / (done - before) * 1e6:.1f}" for name in ("network", "pool")]
        print(f"| {mark:,} | {' | '.join(costs)} | {_resident_mb():,.0f} |", flush=True)


def features(_most: int) -> None:
    """Dense and sparse inputs; the pool where it is offered for so many."""
    print("\n| features | dense, us/event | 10 present, us/event | pool, us/event |\n|---|---|---|---|")
    for count in (10, 100, 1000, 10_000):
        network = case(inputs=count)
        pool = f"{pool_us(network):,.0f}" if count <= 1000 else "-"
        print(
            f"| {count:,} | {network_us(network):,.1f} | {network_us(network, sparse=True):,.1f} | {pool} |", flush=True
        )


def classes(_most: int) -> None:
    """Classes of one target."""
    print("\n| classes | network, us/event | pool, us/event |\n|---|---|---|")
    for count in (2, 10, 100, 1000):
        network = case(classes=count)
        pool = f"{pool_us(network):,.0f}" if count <= 100 else "-"
        print(f"| {count:,} | {network_us(network):,.1f} | {pool} |", flush=True)


def hidden(_most: int) -> None:
    """Units of two hidden layers."""
    print("\n| hidden units | weights | network, us/event | ns a weight |\n|---|---|---|---|")
    for units in (16, 64, 256, 1024):
        network = case(units=(units, units))
        weights, cost = learner_weights(network), network_us(network)
        print(f"| {units} x 2 | {weights:,} | {cost:,.1f} | {cost * 1000 / weights:.2f} |", flush=True)


def learner_weights(network: Case) -> int:
    """How many weights a network has."""
    made = learner(network, "eager")
    made.encode({"a": np.zeros(1)}, {}, np.arange(1))
    return made.parameters


def batch(_most: int) -> None:
    """Rows of a micro-batch; above 1,024 PyTorch's kernels run it."""
    print("\n| micro-batch | network, us/event |\n|---|---|")
    network = case(units=(64, 64))
    for size in (1, 4, 16, 64, 256, 1024, 4096):
        count = max(size, 1024)
        x, y = events_of(network, count)
        made = learner(network, "native")
        columns = {f"f{i}": x[:, i].copy() for i in range(network.inputs)}
        labels = np.array([f"c{v}" for v in y.tolist()], dtype=object)
        rows = made.encode(columns, {"y": labels}, np.arange(count), batch=count).rows
        listed = Operations.of([(Kind.PREDICT_LEARN, i, i + size) for i in range(0, count, size)])
        cost = least_us(lambda made=made, rows=rows, listed=listed: made.run(rows, listed, rate=0.01), count)
        print(f"| {size:,} | {cost:,.2f} |", flush=True)


def depth(_most: int) -> None:
    """Tracing and compiling against the number of hidden layers of 32 units, and what an event costs."""
    print("\n| hidden layers | trace, s | compile, s | network, us/event |\n|---|---|---|---|")
    before = os.environ.get("STREAMNN_CACHE")
    for layers in (1, 2, 4, 8, 16):
        network = case(units=(32,) * layers)
        made = learner(network, "eager")
        x, _ = events_of(network, 1)
        columns = {f"f{i}": x[:, i].copy() for i in range(network.inputs)}
        made.encode(columns, {"y": np.array(["c0"], dtype=object)}, np.arange(1))
        with tempfile.TemporaryDirectory() as cache:
            os.environ["STREAMNN_CACHE"] = cache
            began, compiled = time.process_time(), _children_s()
            NativeEngine().prepare(made.step, made.state, [Kind.PREDICT_LEARN])
            took = time.process_time() - began, _children_s() - compiled
            if before is None:
                del os.environ["STREAMNN_CACHE"]
            else:
                os.environ["STREAMNN_CACHE"] = before
        print(f"| {layers} | {took[0]:.2f} | {took[1]:.2f} | {network_us(network):,.1f} |", flush=True)


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


SECTIONS = {s.__name__: s for s in (events, features, classes, hidden, batch, depth)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sections", metavar="SECTION", nargs="*", help=f"of {', '.join(SECTIONS)} (default all)")
    parser.add_argument("--most-events", type=int, default=1_000_000, help="of the first section (default 1000000)")
    space = parser.parse_args()
    unknown = set(space.sections) - SECTIONS.keys()
    if unknown:
        parser.error(f"no section is called {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    torch.set_num_threads(1)
    print(describe())
    for name in space.sections or SECTIONS:
        SECTIONS[name](space.most_events)
