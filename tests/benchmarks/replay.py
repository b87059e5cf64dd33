"""From file to scores, one process a side: `python -m tests.benchmarks.replay [--rows 1000000] [--peer-rows 5000]`.

Needs STREAMNN_DATA. Streams: elec2, repeated until it has `--rows` rows, and the first 100,000 rows of covtype. We run
`streamnn replay` as it is, with predictions and report written; river's learners read the same file (river.stream.iter_csv),
predict, count accuracy, write the prediction, learn. deep-river and CapyMOA (where STREAMNN_PEERS has them, see
`tests.benchmarks.quality.environments`) are spared the file: they get arrays, and only predict and learn. Each side runs in a
process of its own; cold is its whole wall time, imports and compilation included, and memory its peak. The others' rates are
those of the first `--peer-rows` rows (CapyMOA's of four times as many: Java takes time to warm up), where trees are still small.
"""

import argparse
import csv
import gzip
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.bench.machine import describe
from pipeline.bench.peers import PEERS, replay
from tests.benchmarks.quality.environments import missing
from tests.benchmarks.quality.peers import CLASSIFIERS, run_peer
from tests.recorded import data_folder

ELSEWHERE = {  # what the table calls it -> learner, and how many times the peers' rows
    "deep-river, network": ("deep_river_mlp", 1),
    "CapyMOA, Hoeffding tree": ("capymoa_hoeffding_tree", 4),
    "CapyMOA, adaptive random forest": ("capymoa_arf", 4),
}
STREAMS = {"elec2": "class", "covtype": "Cover_Type"}
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Run:
    """What one process took."""

    rate: float
    accuracy: float
    cold_s: float
    peak_mb: float


def lengthen(name: str, path: Path, rows: int) -> None:
    """Write a recorded stream, from its beginning again and again, until it has so many rows."""
    with gzip.open(data_folder() / f"{name}.csv.gz", "rt") as source:
        head, *lines = source.read().splitlines()
    path.write_text("\n".join([head, *itertools.islice(itertools.cycle(lines), rows)]) + "\n")


def measured(words: list[str], result: Path) -> Run:
    """Run a process that writes events, seconds and accuracy as JSON."""
    began = time.perf_counter()
    process = subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    peak = 0.0
    # not the peak that wait4 tells: it includes this process, as it was when it forked
    while process.poll() is None:
        peak = max(peak, _peak_mb(process.pid))
        time.sleep(0.02)
    cold = time.perf_counter() - began
    if process.returncode:
        sys.exit(f"{' '.join(words)} failed with {process.returncode}")
    found = json.loads(result.read_text())
    accuracy = found["metrics"]["accuracy"]
    return Run(found["events"] / found["seconds"], accuracy, cold, peak)


def _peak_mb(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def ours(path: Path, target: str, preset: str, folder: Path) -> Run:
    """`streamnn replay`."""
    words = ["replay", str(path), "--target", target, "--task", "multiclass", "--set", f"model.preset={preset}"]
    words += ["--predictions", str(folder / "p.jsonl"), "--report", str(folder / "r.json"), "--quiet"]
    return measured([sys.executable, "-m", "pipeline", *words], folder / "r.json")


def peer(path: Path, target: str, name: str, rows: int, folder: Path) -> Run:
    """One of river's learners."""
    words = ["--peer", name, "--file", str(path), "--target", target, "--peer-rows", str(rows)]
    result = folder / "peer.json"
    return measured([sys.executable, "-m", "tests.benchmarks.replay", *words, "--result", str(result)], result)


def elsewhere(path: Path, target: str, learner: str, rows: int) -> Run:
    """A learner of a library in an environment of its own, without a file to read or write."""
    with path.open() as source:
        listed = list(itertools.islice(csv.DictReader(source), rows))
    names = sorted({row[target] for row in listed})
    y = np.array([names.index(row[target]) for row in listed])
    x: list[dict[str, float | str]] = [{n: float(v) for n, v in row.items() if n != target} for row in listed]
    began = time.perf_counter()
    found = run_peer(learner, x, y, len(names), 0)
    cold = time.perf_counter() - began
    right = float((found["served"] == y).mean())
    return Run(len(y) / float(found["seconds"]), right, cold, math.nan)


def run_river(space: argparse.Namespace) -> None:
    """Do what a peer's process does."""
    done = replay(
        PEERS[space.peer](), space.file, space.target, space.peer_rows, space.result.with_suffix(".predictions")
    )
    figures = {"events": done.events, "seconds": done.seconds, "metrics": {"accuracy": done.accuracy}}
    space.result.write_text(json.dumps(figures))


def table(rows: int, peer_rows: int) -> None:
    """Print a line for each side on each stream."""
    print(describe())
    print()
    print("| stream | learner | rows | events/s | accuracy | cold, s | peak memory, MB |")
    print("|---|---|---|---|---|---|---|")
    for name, target in STREAMS.items():
        with tempfile.TemporaryDirectory() as at:
            folder = Path(at)
            path, count = folder / f"{name}.csv", rows if name == "elec2" else min(rows, 100_000)
            lengthen(name, path, count)
            sides = {f"streamnn, {p}": (count, ours(path, target, p, folder)) for p in ("single", "fast", "best")}
            sides |= {f"river, {p}": (peer_rows, peer(path, target, p, peer_rows, folder)) for p in PEERS}
            for side, (learner, times) in ELSEWHERE.items():
                why = missing(CLASSIFIERS[learner][0])
                if why:
                    print(f"without {side}: {why}", file=sys.stderr)
                    continue
                many = min(times * peer_rows, count)
                sides[side] = many, elsewhere(path, target, learner, many)
            for side, (many, run) in sides.items():
                peak = "-" if math.isnan(run.peak_mb) else f"{run.peak_mb:,.0f}"
                figures = f"{run.rate:,.0f} | {run.accuracy:.4f} | {run.cold_s:.1f} | {peak}"
                print(f"| {name} | {side} | {many:,} | {figures} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of elec2 (default 1,000,000)")
    parser.add_argument("--peer-rows", type=int, default=5_000, help="rows given to river's learners (default 5,000)")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--target", help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    space = parser.parse_args()
    if space.peer:
        run_river(space)
    else:
        table(space.rows, space.peer_rows)
