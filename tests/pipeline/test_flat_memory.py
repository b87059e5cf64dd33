"""Resident memory of `streamnn replay` over long streams: a million events of a stream without end, fewer for pools.

Pools of classes, of values and of label sets, and streams in which every event brings a category that never came before.
STREAMNN_POOL_EVENTS says how many events pools get instead.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.helpers import ROOT

POOL_EVENTS = int(os.environ.get("STREAMNN_POOL_EVENTS", "100000"))
MOST_MB = 5.0
START = 0.2  # of the predictions
BLOCK = 10_000


@dataclass(frozen=True)
class Long:
    """A long stream.

    Attributes:
        events: of the stream.
        words: flags that say what is predicted, and by which preset.
        columns: names of the file's fields; none = one of river's generators.
    """

    events: int
    words: tuple[str, ...]
    columns: tuple[str, ...] = ()


BEST = ("--set", "model.preset=best")
STREAMS = {
    "single": Long(1_000_000, ("--set", "model.preset=single")),
    "classes": Long(POOL_EVENTS, BEST),
    "values": Long(POOL_EVENTS, ("--target", "y", "--task", "regression", *BEST), ("a", "b", "kind", "y")),
    "label sets": Long(POOL_EVENTS, ("--target", "p,q,r,s", *BEST), ("a", "b", "kind", "p", "q", "r", "s")),
    "classes, new categories": Long(POOL_EVENTS, ("--target", "p", *BEST), ("a", "b", "who", "p")),
    "values, new categories": Long(
        POOL_EVENTS, ("--target", "y", "--task", "regression", *BEST), ("a", "b", "who", "kind", "y")
    ),
}


def write(path, events, columns):
    """Write a stream; `who` is another name in every event, `kind` one of eight."""
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write(",".join(columns) + "\n")
        for first in range(0, events, BLOCK):
            count = min(BLOCK, events - first)
            a, b, noise = rng.normal(size=(3, count))
            kind, score = rng.integers(0, 8, count), np.sin(a) + 0.5 * b + 0.2 * noise
            found = {
                "a": a.round(4).tolist(),
                "b": b.round(4).tolist(),
                "y": (10 + 3 * score + kind).round(3).tolist(),
                **{
                    name: (score > cut).astype(int).tolist()
                    for name, cut in zip("pqrs", (-0.5, 0, 0.5, 1), strict=True)
                },
                "who": [f"w{first + i}" for i in range(count)],
                "kind": [f"k{k}" for k in kind],
            }
            file.writelines(f"{','.join(map(str, row))}\n" for row in zip(*(found[c] for c in columns), strict=True))


def resident_mb(pid):
    """What a process holds in memory; None when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), None)


@pytest.mark.heavy
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux to tell the memory of a process")
@pytest.mark.parametrize("name", STREAMS)
def test_memory_of_a_replay_is_flat(tmp_path, name):
    """Once a fifth of the predictions is written, memory does not rise: its least comes back, whatever is taken in between."""
    long, out, samples = STREAMS[name], tmp_path / "p.csv", []
    source = "synth:SEA"
    if long.columns:
        source = str(tmp_path / "stream.csv")
        write(tmp_path / "stream.csv", long.events, long.columns)
    words = ["replay", source, *long.words, "--limit", str(long.events), "--predictions", str(out), "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    try:
        while process.poll() is None:
            held = resident_mb(process.pid)
            if held is not None and out.exists():
                samples.append((out.stat().st_size, held))
            time.sleep(0.2)
    finally:
        process.kill()
    assert process.returncode == 0
    with out.open() as lines:
        assert sum(1 for _ in lines) == long.events + 1
    print(f"{name}, {long.events} events: MB {samples[:: max(len(samples) // 12, 1)]}")
    late = [held for size, held in samples if size >= START * out.stat().st_size]
    third = len(late) // 3
    assert third > 3
    assert min(late[-third:]) - min(late[:third]) < MOST_MB, late
