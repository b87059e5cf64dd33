"""Resident memory over a million events: after the start it stays what it is."""

import os
from pathlib import Path

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from tests.streamnn.helpers import drive, labels_of, numeric_stream, obj

CHUNK, CHUNKS, EVERY, WARM = 1000, 1000, 20, 200  # events, chunks; chunks between samples, before the first one counts
MOST_MB = 4.0  # 5 bytes an event
TARGETS = (TargetSpec("t0", "multiclass"),)


def resident_mb():
    """What this process holds in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def network():
    """A single network with every kind of input."""
    return Learner(LearnerSpec(targets=TARGETS, engine="native", max_categories=10, hash_buckets=4))


@pytest.mark.heavy
@pytest.mark.timeout(3000)
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux to tell the memory of a process")
def test_memory_is_flat_over_a_million_events():
    """From event 200,000 on no sample is more than 4 MB above the first, with names, gaps and labels without end."""
    learner, samples = network(), []
    for chunk in range(CHUNKS):
        columns, score = numeric_stream(CHUNK, features=4, seed=chunk)
        columns["f3"][::7] = np.nan
        columns["kind"] = obj([f"k{n}" for n in range(CHUNK * chunk, CHUNK * (chunk + 1))])
        drive(learner, columns, {"t0": labels_of("multiclass", score)}, cuts=[CHUNK], start=CHUNK * chunk)
        if chunk >= WARM and chunk % EVERY == 0:
            samples.append(resident_mb())
    assert max(samples) - samples[0] < MOST_MB, samples
