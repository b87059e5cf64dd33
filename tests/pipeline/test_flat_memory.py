"""Resident memory of `streamnn replay` over a million events of a stream without end.

The default pool gets a fifth of them; STREAMNN_POOL_EVENTS says how many instead.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.pipeline.helpers import ROOT

EVENTS = {"single": 1_000_000, "best": int(os.environ.get("STREAMNN_POOL_EVENTS", "200000"))}
MOST_MB = 8.0  # of a million events: 10 bytes for each after the start
START = 0.2  # of the predictions


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
@pytest.mark.parametrize("preset", EVENTS)
def test_memory_of_a_replay_is_flat(tmp_path, preset):
    """Once a fifth of the predictions is written, memory grows by less than 8 MB to the end."""
    out, samples = tmp_path / "p.csv", []
    words = [
        "replay",
        "synth:SEA",
        "--limit",
        str(EVENTS[preset]),
        "--set",
        f"model.preset={preset}",
        "--predictions",
        str(out),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words, "--quiet"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
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
        assert sum(1 for _ in lines) == EVENTS[preset] + 1
    print(f"{preset}, {EVENTS[preset]} events: MB {samples[:: max(len(samples) // 12, 1)]}")
    late = [held for size, held in samples if size >= START * out.stat().st_size]
    assert len(late) > 10
    assert max(late) - late[0] < MOST_MB, late
