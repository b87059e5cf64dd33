"""Minutes or hours of seeded chaos on a real broker, and what is left of it in memory, files and topics.

`STREAMNN_SOAK_S=300 pytest -m soak -s tests/integration/test_kafka_soak.py` (STREAMNN_SOAK_SEED=N repeats a seed's
draws; when they meet the processes differs). Three models learn one topic of four partitions, each with transactions:
the *victim* is killed (-9) and terminated (SIGTERM) again and again and changes its client library at every start; two
*residents*, one with each library, live as long as the test and are watched. The broker is stopped, killed and frozen
under all of them. In the end every topic is judged by the verifier, which learns each model anew.
"""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from confluent_kafka import Producer

from deploy.kafka import Broker
from tests.integration import helpers
from tests.integration.test_kafka_run import POISON, config
from tests.pipeline.helpers import ROOT, streamnn

SOAK_S = float(os.environ.get("STREAMNN_SOAK_S", "0"))
SEED = int(os.environ.get("STREAMNN_SOAK_SEED", "0")) or time.time_ns() % 1_000_000
RATE = min(50.0, 60_000 / max(SOAK_S, 1.0))  # events a second; the verifier learns every one of them anew, three times
PARTITIONS = 4
NEVER_S = 1e6  # an idle partition is waited for, so that the order is a function of the records
EXIT_S = 120.0
MORE_MB, MORE_FILES = 12.0, 6

Sample = tuple[float, float, int]  # seconds, resident MB, open files


def grown(samples: Sequence[Sample]) -> list[str]:
    """Say what has grown: medians of the last quarter of a life beside those of the third; the first half is warm-up."""
    quarter = len(samples) // 4
    early, late = samples[2 * quarter : 3 * quarter], samples[-quarter:]
    found = []
    for name, column, more in (("MB", 1, MORE_MB), ("open files", 2, MORE_FILES)):
        before, after = (statistics.median(s[column] for s in some) for some in (early, late))
        if after > before + more:
            found.append(f"{before:.0f} {name} became {after:.0f}")
    return found


def test_growth_is_found() -> None:
    """A leak of a MB in five seconds, or of a file in ten, is found; noise, warm-up and a lone peak are not."""
    noise = random.Random(3)
    flat = [(float(t), 300 + 60 * min(t / 50, 1) + noise.gauss(0, 3), 30 + noise.choice((0, 4))) for t in range(300)]
    assert grown(flat) == []
    peak = [(t, mb + 200 * (280 <= t < 300), files) for t, mb, files in flat]
    assert grown(peak) == []
    assert len(grown([(t, mb + t / 5, files) for t, mb, files in flat])) == 1
    assert len(grown([(t, mb, files + int(t) // 10) for t, mb, files in flat])) == 1


class Log:
    """What has happened, printed as it happens."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.counts: dict[str, int] = {}

    def say(self, kind: str, text: str = "") -> None:
        """Print an event, and count its kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        print(f"{time.monotonic() - self._began:8.1f} s  {kind} {text}", flush=True)


class Feeder:
    """Writes events at a modest rate, malformed ones among them, with rising timestamps, until it is told to stop.

    With a delivery that never times out nothing is written twice or out of order.
    """

    def __init__(self, bootstrap: str, topic: str, seed: int) -> None:
        self._topic, self._random = topic, random.Random(seed)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "enable.idempotence": True, "message.timeout.ms": 0, "log_level": 2}
        )
        self._stop, self._failed = threading.Event(), list[str]()
        self._thread = threading.Thread(target=self._run)
        self.written = 0
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still writes."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what is under way, and stop."""
        self._stop.set()
        self._thread.join()
        assert self._producer.flush(60.0) == 0
        assert self._failed == []

    def _run(self) -> None:
        stamp_ms, began = int(time.time() * 1000), time.monotonic()
        while not self._stop.wait(0.05):
            while self.written < (time.monotonic() - began) * RATE:
                stamp_ms = max(stamp_ms + 1, int(time.time() * 1000))
                where = self._random.randrange(PARTITIONS)
                self._producer.produce(
                    self._topic, self._value(), partition=where, timestamp=stamp_ms, on_delivery=self._done
                )
                self.written += 1
            self._producer.poll(0)

    def _value(self) -> bytes:
        if self._random.random() < 0.01:
            return self._random.choice(POISON)
        x = [self._random.gauss(0.0, 1.0) for _ in range(3)]
        label = int(x[0] - 0.7 * x[1] + self._random.gauss(0.0, 0.2) > 0)
        return json.dumps({"f0": x[0], "f1": x[1], "f2": x[2], "y": label}).encode()

    def _done(self, error: object, _: object) -> None:
        if error is not None:
            self._failed.append(str(error))


class Worker:
    """`streamnn run` for one model in a folder of its own."""

    def __init__(self, folder: Path, bootstrap: str, source: str, log: Log) -> None:
        self.folder, self.name, self._log = folder, folder.name, log
        folder.mkdir()
        out, dead = helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
        text = config(bootstrap, source, out, dead, delivery="transactional")
        text = text.replace(f'model = "{source}"', f'model = "{helpers.fresh(self.name)}"')
        text = text.replace("every_events = 50\n", "every_events = 100000\nevery_s = 2.0\n")
        text = text.replace("[checkpoint]", f"idle_wait_s = {NEVER_S}\nstart_wait_s = {EXIT_S}\n[checkpoint]")
        (folder / "run.toml").write_text(text + '[rate]\ncontrol = "fixed"\n')
        self._process: subprocess.Popen[bytes] | None = None
        self.samples: list[Sample] = []

    def start(self, client: str) -> None:
        """Start it."""
        words = ["-m", "pipeline", "run", "run.toml", "--quiet"]
        words += ["--set", "kafka.until=forever", "--set", f"kafka.client={client}"]
        with (self.folder / "said.txt").open("ab") as said:
            self._process = subprocess.Popen(
                [sys.executable, *words],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONFAULTHANDLER": "1"},
                stdout=said,
                stderr=said,
            )
        self._log.say("start", f"{self.name} ({client})")

    def sample(self) -> None:
        """Look how large it is; it has to live."""
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended by itself: {self.said()}"
        proc = Path(f"/proc/{self._process.pid}")
        lines = (proc / "status").read_text().splitlines()
        resident = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
        self.samples.append((time.monotonic(), resident, sum(1 for _ in (proc / "fd").iterdir())))

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it has ended as it should.

        Told to stop while the broker is away, or a transaction has not recovered from that, it may fail after a while; told so
        while it is being imported, it dies.
        """
        assert self._process is not None
        self._process.send_signal(number)
        try:
            code = self._process.wait(EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # has it write where it stands
            self._process.wait()
            pytest.fail(f"{self.name} did not end within {EXIT_S:g} s of {number.name}: {self.said(6000)}")
        self._log.say(number.name, f"{self.name}: exit code {code}")
        if number == signal.SIGKILL:
            assert code == -number
        else:
            gave_up = code == 1 and "the process is to stop" in self.said()
            assert code in (0, -number) or gave_up, self.said()

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def said(self, most: int = 1000) -> str:
        """The end of what it has written."""
        return (self.folder / "said.txt").read_text()[-most:]


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
    print(f"\nseed {SEED}, {SOAK_S:g} s", flush=True)
    draw, log = random.Random(SEED), Log()
    source = helpers.topic(up.bootstrap, PARTITIONS)
    victim, *residents = workers = [
        Worker(tmp_path / name, up.bootstrap, source, log) for name in ("victim", *helpers.CLIENTS)
    ]
    helpers.close()
    feeder = Feeder(up.bootstrap, source, SEED)

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
        for worker in workers:
            worker.end(signal.SIGTERM)
    finally:
        for worker in workers:
            worker.close()
        up.resume()
        up.start()
        if feeder.alive:
            feeder.stop()
    log.say("written", f"{feeder.written} events")
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
        every = resident.samples[:: max(len(resident.samples) // 12, 1)]
        log.say("memory", f"{resident.name}: " + ", ".join(f"{mb:.0f} MB/{files}" for _, mb, files in every))
        assert grown(resident.samples) == [], resident.name
    print(f"seed {SEED}: {log.counts}", flush=True)
