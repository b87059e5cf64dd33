"""How fast the presets are on one core, from file to report: `python -m tests.benchmarks.speed [--rounds 3] [STREAM ...]`.

Needs STREAMNN_DATA. `streamnn replay` as it is, predictions and report written, in a process that may run on one core
alone: reading and decoding the file, features, networks, scores and writing all share it. Events a second are those of the
run as its report has them, compilation of what is not in the user's cache included; *whole process* is wall time with all
imports. Medians of the rounds, both presets in turns.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.bench.machine import describe
from tests.benchmarks.quality.streams import CLASSIFICATION, MULTILABEL, REGRESSION
from tests.recorded import data_folder

ROOT = Path(__file__).parent.parent.parent
PRESETS = ("fast", "best")
STREAMS = (*CLASSIFICATION, *REGRESSION, *MULTILABEL)


def run(name: str, words: Sequence[str], preset: str) -> tuple[int, float, float]:
    """Replay a stream on one core; returns events, events a second and the seconds of the whole process."""
    core = min(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as at:
        report = Path(at) / "report.json"
        told = [str(data_folder() / f"{name}.csv.gz"), *words, "--set", f"model.preset={preset}", "--quiet"]
        told += ["--report", str(report), "--predictions", str(Path(at) / "predictions.jsonl")]
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "replay", *told], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        os.sched_setaffinity(process.pid, {core})
        if process.wait():
            sys.exit(f"{name} failed with {process.returncode}")
        whole = time.perf_counter() - began
        found = json.loads(report.read_text())
    return found["events"], found["events_per_second"], whole


def label(name: str, words: Sequence[str]) -> str:
    """Name a stream, with its target where the same file is there twice."""
    twice = sum(one == name for one, _, _ in STREAMS) > 1
    return f"{name} ({words[1]})" if twice else name


def table(rounds: int, streams: Sequence[str]) -> None:
    """Print a line a stream, all if none is named."""
    print(describe())
    print()
    print(f"| stream | events | {' | '.join(f'{p}, events/s' for p in PRESETS)} | whole process of the last, s |")
    print("|---|---|---|---|---|")
    for name, words, _ in STREAMS:
        if streams and name not in streams:
            continue
        runs = [{preset: run(name, words, preset) for preset in PRESETS} for _ in range(rounds)]
        rates = [f"{statistics.median(one[preset][1] for one in runs):,.0f}" for preset in PRESETS]
        whole = statistics.median(one[PRESETS[-1]][2] for one in runs)
        events = runs[0][PRESETS[0]][0]
        print(f"| {label(name, words)} | {events:,} | {' | '.join(rates)} | {whole:.1f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each preset on each stream (default 3)")
    parser.add_argument("streams", nargs="*", metavar="STREAM", help="those alone (default: all)")
    space = parser.parse_args()
    table(space.rounds, space.streams)
