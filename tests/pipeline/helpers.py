"""Chunks, sources and command lines for the tests of this folder."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from connectors import Chunk, DeadLetter, Record

ROOT = Path(__file__).parent.parent.parent


class Clock:
    """Virtual seconds; stands in for the module `time`."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


@contextmanager
def small_file_system(at, size):
    """A file system of so many bytes (such as 256k) in a new folder; skips the test where none can be mounted."""
    at.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(at)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"no small file system can be mounted here: {made.stderr.strip()}")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=True)


def chunk(start, kinds):
    """A chunk from a string: e = an event, x = a reject."""
    events = [start + i for i, kind in enumerate(kinds) if kind == "e"]
    rejects = [start + i for i, kind in enumerate(kinds) if kind == "x"]
    return Chunk(
        {"a": np.array(events, dtype=np.float64)},
        np.array(events, dtype=np.int64),
        [Record(str(n).encode()) for n in events],
        tuple(DeadLetter(n, "decode", "bad", "", Record(b"")) for n in rejects),
        start,
        start + len(kinds),
    )


class ScriptedSource:
    """Hands out records by a script: a string of e (event) and x (reject), with pauses; obeys what is asked."""

    def __init__(self, script, cuts):
        self._script, self._cuts, self._at = script, list(cuts), 0

    def poll(self, events):
        if self._at >= len(self._script):
            return None
        want = self._cuts.pop(0) if self._cuts else 4
        if want == 0:
            return chunk(self._at, "")
        taken, count = "", 0
        while self._at + len(taken) < len(self._script) and len(taken) < want:
            kind = self._script[self._at + len(taken)]
            if kind == "e" and count == events:
                break
            count += kind == "e"
            taken += kind
        made = chunk(self._at, taken)
        self._at += len(taken)
        return made


def streamnn(*words, cwd, check=None, **variables):
    """Run the command line in a process of its own; `check` is the exit code that is expected."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, words)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    if check is not None:
        assert done.returncode == check, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def write_csv(path, events, *, features=3, seed=0, kind="binary", extra=()):
    """Write a learnable stream; returns its lines."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, features)).round(4)
    score = x[:, 0] - 0.7 * x[:, 1] + 0.2 * rng.normal(size=events)
    if kind == "binary":
        y = (score > 0).astype(int).tolist()
    elif kind == "multiclass":
        y = [f"c{int(s > -0.5) + int(s > 0.5)}" for s in score]
    else:
        y = (10 + 3 * score).round(4).tolist()
    lines = [",".join([*(f"f{i}" for i in range(features)), "y"])]
    lines += [",".join([*map(str, row), str(label)]) for row, label in zip(x.tolist(), y, strict=True)]
    for at, line in extra:
        lines.insert(at, line)
    Path(path).write_text("\n".join(lines) + "\n")
    return lines


def read_jsonl(path):
    """The objects of a JSONL file."""
    return [json.loads(line) for line in Path(path).read_text().splitlines()]
