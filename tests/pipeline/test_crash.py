"""kill -9 at every named crash point and at random moments: after resuming, every event once and the same weights."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from pipeline.__main__ import main
from pipeline.checkpoint import CheckpointStore
from pipeline.faults import CRASH_POINTS
from tests.pipeline.helpers import ROOT, streamnn, write_csv

EVENTS = 1200
NATIVE = ("--set", "model.preset=single", "--set", "model.engine=native", "--set", "network.units=[12]")
BAD = [(40, "broken,line"), (500, "1,2,3,4,5,6"), (501, "x,0.1,0.2,1"), (900, "inf,0.1,0.2,0")]


def words(folder, name, *more):
    """A file-to-file run with many checkpoints."""
    return [
        "replay", folder / "s.csv", "--target", "y", "--quiet", "--resume",
        "--checkpoint", folder / f"{name}-ck", "--predictions", folder / f"{name}.jsonl",
        "--dead-letters", folder / f"{name}-dead.jsonl",
        "--set", "checkpoint.every_events=100", "--set", "rate.every=64", *more,
    ]  # fmt: skip


def leaves(value, at=""):
    """Every tensor and array of a nested state by its path; other values as they are."""
    if isinstance(value, dict):
        return {path: leaf for key, item in value.items() for path, leaf in leaves(item, f"{at}/{key}").items()}
    if isinstance(value, torch.Tensor):
        return {at: value.numpy()}
    return {at: value}


def weights(folder, name):
    """Everything the newest checkpoint has learned, and what was decided on the way."""
    state = CheckpointStore(folder / f"{name}-ck").latest().state
    return leaves({"learner": state["learner"], "control": state["loop"]["control"], "scores": state["scores"]})


def same(folder, name):
    """Check that a run left what the uninterrupted one left."""
    a, b = weights(folder, "whole"), weights(folder, name)
    assert a.keys() == b.keys()
    assert len(a) > 50
    for path, leaf in a.items():
        np.testing.assert_array_equal(leaf, b[path], err_msg=path)
    for suffix in (".jsonl", "-dead.jsonl"):
        assert (folder / f"{name}{suffix}").read_bytes() == (folder / f"whole{suffix}").read_bytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A stream with a few malformed lines, and an uninterrupted run over it."""
    made = tmp_path_factory.mktemp("crash")
    write_csv(made / "s.csv", EVENTS, extra=BAD)
    streamnn(*words(made, "whole"), cwd=made, check=0)
    assert (made / "whole-dead.jsonl").read_text().count("\n") == len(BAD)
    return made


@pytest.mark.parametrize("point", [p for p in CRASH_POINTS if not p.endswith("_commit")])
def test_every_crash_point(folder, point):
    """A process killed at a named point is resumed, killed there again later, and resumed to the end."""
    for count in (2, 3):
        done = streamnn(*words(folder, point), cwd=folder, STREAMNN_CRASH_AT=f"{point}:{count}")
        assert done.returncode == -signal.SIGKILL, done.stderr
    streamnn(*words(folder, point), cwd=folder, check=0)
    same(folder, point)


@pytest.fixture(scope="module")
def native_folder(tmp_path_factory):
    """Such a stream, and an uninterrupted run of one network over it in compiled code."""
    made = tmp_path_factory.mktemp("native")
    write_csv(made / "s.csv", EVENTS, extra=BAD)
    assert main([*map(str, words(made, "whole", *NATIVE))]) == 0
    assert len([path for path in weights(made, "whole") if "/params/" in path]) == 5
    return made


@pytest.mark.parametrize("point", ["after_learn", "after_write", "after_sink_flush"])
def test_crash_points_of_one_network(native_folder, point):
    """The single network, compiled, ends with the same weights and outputs as if it had not been killed."""
    run = words(native_folder, point, *NATIVE)
    done = streamnn(*run, cwd=native_folder, STREAMNN_CRASH_AT=f"{point}:3")
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert main([*map(str, run)]) == 0
    same(native_folder, point)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(12))
def test_random_kills(folder, seed):
    """Kill -9 at random moments, several times."""
    moment, kills, name = random.Random(seed), 0, f"random{seed}"
    for _ in range(40):
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *map(str, words(folder, name))],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        )
        end = time.monotonic() + moment.uniform(0.5, 6.0) if kills < 4 else float("inf")
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
            kills += 1
        if process.wait() == 0:
            break
    assert process.returncode == 0
    same(folder, name)
