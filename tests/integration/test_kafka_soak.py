"""Minutes or hours of seeded chaos on a real broker, and what is left of it in memory, files and topics.

`STREAMNN_SOAK_S=300 pytest -m soak -s tests/integration/test_kafka_soak.py` (STREAMNN_SOAK_SEED=N repeats a seed's
draws; when they meet the processes differs; STREAMNN_TEST_LOG=FILE keeps the log, with the seed). Three models learn one topic of four partitions, each with transactions:
the *victim* is killed (-9) and terminated (SIGTERM) again and again and changes its client library at every start; two
*residents*, one with each library, live as long as the test and are watched. The broker is stopped, killed and frozen
under all of them. In the end every topic is judged by the verifier, which learns each model anew.
"""

import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from deploy.kafka import Broker
from tests.integration import helpers
from tests.integration.live import Feeder, Log, Sample, Worker, open_files
from tests.pipeline.helpers import ROOT, streamnn

SOAK_S = float(os.environ.get("STREAMNN_SOAK_S", "0"))
SEED = int(os.environ.get("STREAMNN_SOAK_SEED", "0")) or time.time_ns() % 1_000_000
RATE = min(50.0, 60_000 / max(SOAK_S, 1.0))  # events a second; the verifier learns every one of them anew, three times
PARTITIONS = 4
MORE_MB = 12.0
MORE_FILES = 12  # one producer of confluent-kafka has fewer, and keeps them until its commit returns
LEAST_SAMPLES = 40


def grown(samples: Sequence[Sample]) -> list[str]:
    """Say what has grown: the least of the last quarter of a life beside that of the third; the first half is warm-up.

    The least, since a broker that is away costs files for so long, and may be away for most of a quarter.
    """
    quarter = len(samples) // 4
    early, late = samples[2 * quarter : 3 * quarter], samples[-quarter:]
    found = []
    for name, column, more in (("MB", 1, MORE_MB), ("open files", 2, MORE_FILES)):
        before, after = (min(s[column] for s in some) for some in (early, late))
        if after > before + more:
            found.append(f"{before:.0f} {name} became {after:.0f}")
    return found


def test_growth_is_found() -> None:
    """A leak of a MB in five seconds, or of a file in three, is found; noise, warm-up and a lone peak are not."""
    noise = random.Random(3)
    flat = [(float(t), 300 + 60 * min(t / 50, 1) + noise.gauss(0, 3), 30 + noise.choice((0, 4))) for t in range(300)]
    assert grown(flat) == []
    peak = [(t, mb + 200 * (280 <= t < 300), files) for t, mb, files in flat]
    assert grown(peak) == []
    assert len(grown([(t, mb + t / 5, files) for t, mb, files in flat])) == 1
    assert len(grown([(t, mb, files + int(t) // 3) for t, mb, files in flat])) == 1


def test_open_files_are_told_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sockets, pipes, event polls and files that a process opens are counted as such; the log is kept in a file."""
    before = open_files(os.getpid())
    reading, writing = os.pipe()
    with socket.socket(), select.epoll(), (tmp_path / "file").open("w"):
        more = open_files(os.getpid()) - before
    os.close(reading)
    os.close(writing)
    assert more == {"pipe": 2, "socket": 1, "eventpoll": 1, "file": 1}
    monkeypatch.setenv("STREAMNN_TEST_LOG", str(tmp_path / "log"))
    Log("seed 5").say("kill", "1")
    assert re.fullmatch(r"20.* UTC  seed 5\n +\d+\.\d s  kill 1\n", (tmp_path / "log").read_text())


def wait(seconds: float, look: Callable[[], None]) -> None:
    """Wait, and look every second."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        look()
        time.sleep(min(left, 1.0))


@pytest.mark.soak
@pytest.mark.skipif(not SOAK_S, reason="STREAMNN_SOAK_S says for how many seconds")
@pytest.mark.timeout(3 * SOAK_S + 1200)
def test_chaos_leaves_every_event_counted_once_and_memory_flat(up: Broker, tmp_path: Path) -> None:
    """After kills, terminations and broker faults every model is what its topic makes it, and residents have not grown."""
    draw, log = random.Random(SEED), Log(f"soak of {SOAK_S:g} s, seed {SEED}")
    source = helpers.topic(up.bootstrap, PARTITIONS)
    victim, *residents = workers = [
        Worker(tmp_path / name, up.bootstrap, source, log) for name in ("victim", *helpers.CLIENTS)
    ]
    helpers.close()
    feeder = Feeder(up.bootstrap, source, seed=SEED, rate=RATE, partitions=PARTITIONS)

    def look() -> None:
        for resident in residents:
            resident.sample()

    try:
        for resident in residents:
            resident.start(resident.name)
        victim.start(draw.choice(helpers.CLIENTS))
        until = time.monotonic() + SOAK_S
        while time.monotonic() < until:
            wait(draw.uniform(5.0, 20.0), look)
            how = draw.choice(("SIGKILL", "SIGKILL", "SIGTERM", "stop", "kill", "pause"))
            if how.startswith("SIG"):
                victim.end(signal.Signals[how])
                victim.start(draw.choice(helpers.CLIENTS))
                continue
            away_s = draw.uniform(1.0, 8.0)
            log.say(how, f"broker, {away_s:.1f} s")
            {"stop": up.stop, "kill": up.kill, "pause": up.pause}[how]()
            wait(away_s / 2, look)
            if draw.random() < 0.3:  # the victim has to come up without a broker
                victim.end(signal.SIGKILL)
                victim.start(draw.choice(helpers.CLIENTS))
            wait(away_s / 2, look)
            (up.resume if how == "pause" else up.start)()
            log.say("back", "broker")
        feeder.stop()
        wait(5.0, look)
        for resident in residents:
            resident.tell_files()
        for worker in workers:
            worker.end(signal.SIGTERM)
    finally:
        for worker in workers:
            worker.close()
        up.resume()
        up.start()
        if feeder.alive:
            feeder.stop()
    log.say("written", f"{feeder.written} events, {feeder.anew} times with another producer")
    for worker in workers:
        streamnn("run", "run.toml", "--quiet", cwd=worker.folder, check=0)
        judge = [sys.executable, "-m", "tests.integration.verifier", "run.toml"]
        done = subprocess.run(
            judge,
            cwd=worker.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        log.say("verified", f"{worker.name}: {done.stdout.strip()[:300]}")
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for resident in residents:
        assert len(resident.samples) >= LEAST_SAMPLES, f"{resident.name} has learned nothing for long"
        every = resident.samples[:: len(resident.samples) // 12]
        log.say("memory", f"{resident.name}: " + ", ".join(f"{mb:.0f} MB/{files}" for _, mb, files in every))
        assert grown(resident.samples) == [], resident.name
    log.say("done", f"seed {SEED}: {log.counts}")
