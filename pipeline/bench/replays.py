"""Whole replays of a made-up stream from a CSV file: ours, river's learners and deep-river.

Axes: K events.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.assembly import assemble
from pipeline.bench import peers
from pipeline.bench.deep_river import DeepRiver
from pipeline.bench.peers import Outcome
from pipeline.bench.timing import Rate
from pipeline.config import Config
from pipeline.report import report
from pipeline.settings import Given, read_settings
from streamnn.operations import FloatArray, IntArray
from streamnn.pool.presets import Preset

FEATURES, CLASSES = 8, 2
TARGET = "y"
PRESETS: tuple[Preset, ...] = ("single", "fast", "best")
RIVER = {  # what the table calls it -> which of `PEERS`, and rows: enough for a steady rate
    "river, logistic regression": ("logistic regression", 3000),
    "river, Hoeffding tree": ("Hoeffding tree", 3000),
    "river, random forest (ARF)": ("adaptive random forest", 1000),
}
DEEP_ROWS = 1000
DEEP_UNITS = (64,)  # as preset single has them


@dataclass(frozen=True, slots=True)
class Replay:
    """How fast one side was, over how many rows, and how often it was right in the last round."""

    rows: int
    rate: Rate
    accuracy: float


def replays(folder: Path, rounds: int, rows: int, river: DeepRiver | None) -> dict[str, Replay]:
    """Replay a file of `rows` with ours, and its first rows with the others, in turn.

    Ours are timed from the end of the first block on: by then the step has been traced and compiled.
    """
    path, written = folder / "stream.csv", folder / "predictions.jsonl"
    _write(path, rows)
    sides: dict[str, Callable[[], Outcome]] = {
        f"streamnn, {name}": partial(_ours, name, path, written) for name in PRESETS
    }
    sides |= {name: partial(_river, peer, most, path, written) for name, (peer, most) in RIVER.items()}
    if river is not None:
        sides["deep-river, network"] = partial(river.replay, path, TARGET, DEEP_ROWS, written, units=DEEP_UNITS)
    found: dict[str, list[Outcome]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            found[name].append(run())
    return {
        name: Replay(
            rows if name.startswith("streamnn") else done[-1].events,
            Rate.of([one.events / one.seconds for one in done]),
            done[-1].accuracy,
        )
        for name, done in found.items()
    }


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
    path.write_text("\n".join([",".join([*names, TARGET]), *lines]) + "\n", encoding="utf-8")


def _ours(preset: Preset, path: Path, predictions: Path) -> Outcome:
    """Run what `streamnn replay` runs; events and seconds without those of the first block."""
    given = {
        "stream.source": str(path), "stream.targets": [TARGET], "stream.task": "binary",
        "model.preset": preset, "model.engine": "native", "output.predictions": str(predictions),
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
    return Outcome(late - early, ended - began, accuracy)


def _river(name: str, rows: int, path: Path, predictions: Path) -> Outcome:
    return peers.replay(peers.PEERS[name](), path, TARGET, rows, predictions)
