"""`streamnn bench`: one step, the pool and whole replays on this machine, ours beside PyTorch and river, in about a minute.

In: how long to measure. Out: tables on stdout. Sides take turns; a figure is the median of its rounds.
"""

import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from pipeline.assembly import assemble
from pipeline.bench import peers
from pipeline.bench.machine import describe
from pipeline.bench.steps import Case, data, ours, plain
from pipeline.bench.timing import Rate, Side, measure
from pipeline.config import Config
from pipeline.report import report
from pipeline.settings import Given, SettingsError, read_settings
from streamnn.heads import TargetSpec
from streamnn.native.build import CompilerError, find_compiler
from streamnn.operations import FloatArray, IntArray, Kind, Operations, Rows
from streamnn.pool import PoolLearner, PoolSpec
from streamnn.pool.engines import EngineName
from streamnn.pool.presets import Preset

CASES = (Case(8, (64, 64), 2, "layer", "adam"), Case(54, (128, 128), 7, "layer", "adam"))
FEATURES, CLASSES = 8, 2
PEER_ROWS = 3000  # of the replayed stream for river's learners: where trees are still small
WIDTH = 110  # of the tables, also in a pipe
RIVER = ("logistic regression", "Hoeffding tree")


def bench(*, rounds: int, seconds: float, rows: int) -> None:
    """Measure and print three tables.

    Args:
        rounds: measurements of each side; at least 1.
        seconds: how long one measurement of a step or a pool lasts, about.
        rows: length of the stream that is replayed.

    Raises:
        SettingsError: a number is out of range, or there is no C compiler, so that there is nothing to compare.
    """
    for name, value, least in (("rounds", rounds, 1), ("rows", rows, 5000)):
        if value < least:
            raise SettingsError(f"--{name} is {value}, but must be at least {least}")
    if seconds <= 0:
        raise SettingsError(f"--seconds is {seconds}, but must be more than 0")
    try:
        find_compiler(os.environ.get("CC"))
    except CompilerError as error:
        raise SettingsError(f"bench compares the native engine with others, but {error}") from error
    out, told = Console(highlight=False), Console(file=sys.stderr, highlight=False)
    out.width = max(out.width, WIDTH)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        out.print(f"{describe()}\nsides in turn, one thread; the median of {rounds} measurements each\n")
        for case in CASES:
            with told.status(f"one step of {case}"):
                found = step(case, rounds, seconds)
            out.print(_rates(f"one step: {case}", found, against="PyTorch"))
        with told.status("the pool"):
            found = pool(rounds, seconds)
        out.print(_rates(f"pool: {FEATURES} features, {CLASSES} classes", found, against="best, NumPy"))
        with told.status("whole replays"), tempfile.TemporaryDirectory() as folder:
            out.print(_replays(replays(Path(folder), rounds, rows), rows))
    finally:
        torch.set_num_threads(threads)


def step(case: Case, rounds: int, seconds: float) -> dict[str, Rate]:
    """Predict and learn one event after the other with one network."""
    x, y = data(case, 4000)
    sides = {
        "native": Side(ours(case, "native", x, y)[1], 1000),
        "our eager engine": Side(ours(case, "eager", x, y)[1], 20),
        "PyTorch": Side(plain(case, x, y), 20),
    }
    return measure(sides, rounds=rounds, seconds=seconds)


def pool(rounds: int, seconds: float) -> dict[str, Rate]:
    """Predict and learn one event after the other with whole pools."""
    sides = {
        "best, native": _pool("best", "native", 500),
        "fast, native": _pool("fast", "native", 500),
        "best, NumPy": _pool("best", "eager", 5),
    }
    return measure(sides, rounds=rounds, seconds=seconds)


def replays(folder: Path, rounds: int, rows: int) -> dict[str, tuple[Rate, float]]:
    """Replay a file with ours and with river's learners: events per second, and accuracy in the last round.

    Ours are timed from the end of the first block on: by then the step has been traced and compiled.
    """
    path = folder / "stream.csv"
    _write(path, rows)
    found: dict[str, list[tuple[float, float]]] = {}
    for _ in range(rounds):
        for preset in ("single", "fast", "best"):
            found.setdefault(f"streamnn, {preset}", []).append(_replay(path, preset))
        for name in RIVER:
            done = peers.replay(name, path, "y", min(rows, PEER_ROWS), folder / "peer.jsonl")
            found.setdefault(f"river, {name}", []).append((done.events / done.seconds, done.accuracy))
    return {name: (Rate.of([rate for rate, _ in runs]), runs[-1][1]) for name, runs in found.items()}


def _pool(preset: Preset, engine: EngineName, events: int) -> Side:
    made = PoolLearner(PoolSpec(targets=(TargetSpec("y", "multiclass"),), preset=preset, engine=engine))
    x, y = stream(4 * events)
    labels = np.empty(len(y), dtype=object)
    labels[:] = y.tolist()
    rows = made.encode({f"f{i}": x[:, i].copy() for i in range(FEATURES)}, {"y": labels}, np.arange(len(y))).rows
    done = 0

    def run(events: int) -> FloatArray:
        nonlocal done
        at = done % (len(rows) - events + 1)
        part = Rows(rows.x[at : at + events], rows.y[at : at + events], np.arange(done, done + events))
        done += events
        return made.run(part, Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(events)]), rate=0.003).served

    return Side(run, events)


def stream(events: int) -> tuple[FloatArray, IntArray]:
    """Make inputs [K, 8], and classes [K] by a curved border that moves once, in the middle; a tenth of it is noise."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(events, FEATURES)) * np.arange(1, FEATURES + 1) + 3
    a, b, c = ((x[:, i] - 3) / (i + 1) for i in range(3))
    moved = np.where(np.arange(events) < events // 2, 1.0, -1.0)
    y = (np.sin(2 * a) + moved * b * c > 0).astype(np.int64)
    return x, np.where(rng.random(events) < 0.1, 1 - y, y)


def _write(path: Path, rows: int) -> None:
    x, y = stream(rows)
    names = [f"f{i}" for i in range(FEATURES)]
    lines = [
        ",".join([*map(repr, row), str(label)]) for row, label in zip(x.round(4).tolist(), y.tolist(), strict=True)
    ]
    path.write_text("\n".join([",".join([*names, "y"]), *lines]) + "\n", encoding="utf-8")


def _replay(path: Path, preset: str) -> tuple[float, float]:
    """Run what `streamnn replay` runs: events per second and accuracy."""
    given = {
        "stream.source": str(path), "stream.targets": ["y"], "stream.task": "binary",
        "model.preset": preset, "model.engine": "native", "output.predictions": str(path.with_suffix(".jsonl")),
    }  # fmt: skip
    run = assemble(read_settings(Config, None, given={key: Given(value, "bench") for key, value in given.items()}))
    marks: list[tuple[int, float]] = []
    try:
        run.loop.open(None)
        run.loop.run(stop=lambda: False, report=lambda loop: marks.append((loop.counters.events, time.perf_counter())))
        accuracy = report(run)["metrics"]["accuracy"]
    finally:
        run.close()
    (early, began), (late, ended) = marks[0], marks[-1]
    return (late - early) / (ended - began), accuracy


def _rates(title: str, found: Mapping[str, Rate], *, against: str) -> Table:
    rows = [
        (name, f"{rate.median:,.0f}", f"{rate.lowest:,.0f} - {rate.highest:,.0f}", f"{rate.median / found[against].median:,.1f}")
        for name, rate in found.items()
    ]  # fmt: skip
    return _table(title, ("", "events/s", "lowest - highest", f"x {against}"), rows)


def _replays(found: Mapping[str, tuple[Rate, float]], rows: int) -> Table:
    against = found[f"river, {RIVER[0]}"][0].median
    lines = [
        (
            name, f"{rows if name.startswith('streamnn') else min(rows, PEER_ROWS):,}", f"{rate.median:,.0f}",
            f"{rate.lowest:,.0f} - {rate.highest:,.0f}", f"{rate.median / against:,.1f}", f"{accuracy:.4f}",
        )
        for name, (rate, accuracy) in found.items()
    ]  # fmt: skip
    head = ("", "rows", "events/s", "lowest - highest", "x river's regression", "accuracy")
    return _table("whole replay: CSV in, predictions and scores out", head, lines)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for i, name in enumerate(head):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    table.add_row()
    return table
