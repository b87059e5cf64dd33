"""From the start of the process to the first prediction: `python -m tests.benchmarks.start [--rounds 3]`.

Every figure is a whole process, `streamnn replay` of one event of a CSV file with eight features and the prediction written:
wall time, and the processor time of it and of the compilers that it starts. Cold: nothing has been compiled on this machine
for this user (an empty cache folder); warm: the second run. Files of Python itself are compiled and in memory throughout.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.bench.machine import describe

ROOT = Path(__file__).parent.parent.parent
WHAT = {
    "`--version`": ["--version"],
    "a network, 64-64": ["--set", "network.units=[64,64]"],
    "preset single": ["--set", "model.preset=single"],
    "preset fast": ["--set", "model.preset=fast"],
    "preset best": ["--set", "model.preset=best"],
}


def took(words: list[str], cache: Path) -> tuple[float, float]:
    """Wall and processor seconds of one process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "STREAMNN_CACHE": str(cache)}
    subprocess.run(
        [sys.executable, "-m", "pipeline", *words], cwd=ROOT, env=environ, check=True, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def table(rounds: int) -> None:
    """Print a line for each model."""
    print(describe())
    print("\n| | cold, s | processor, s | warm, s | processor, s |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as at:
        folder = Path(at)
        stream = folder / "s.csv"
        rows = [",".join([*(str((i * j) % 7 / 7) for j in range(1, 9)), str(i % 2)]) for i in range(200)]
        stream.write_text("\n".join([",".join([*(f"f{j}" for j in range(8)), "y"]), *rows]) + "\n")
        replay = [
            "replay",
            str(stream),
            "--target",
            "y",
            "--limit",
            "1",
            "--quiet",
            "--predictions",
            str(folder / "p.csv"),
        ]
        for name, further in WHAT.items():
            words = further if further == ["--version"] else [*replay, *further]
            found: list[list[tuple[float, float]]] = []
            for _ in range(rounds):
                with tempfile.TemporaryDirectory() as cache:
                    found.append([took(words, Path(cache)) for _ in ("cold", "warm")])
            shown = [statistics.median(run[i][j] for run in found) for i in (0, 1) for j in (0, 1)]
            print(f"| {name} | {' | '.join(f'{s:.1f}' for s in shown)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind (default 3)")
    table(parser.parse_args().rounds)
