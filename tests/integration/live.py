"""A topic that is fed while a test lasts, and runs of `streamnn run` that learn it meanwhile.

In: addresses and topics. Out: `Feeder` writes events at a modest rate; a `Worker` is one model in a folder of its own,
whose process a test starts, signals and looks at; `Log` prints what happens, and keeps it.
"""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.integration import helpers
from tests.integration.runs import POISON, config, reached
from tests.pipeline.helpers import ROOT

NEVER_S = 1e6  # an idle partition is waited for, so that the order is a function of the records
EXIT_S = 120.0
STUCK_S = 60.0  # longer than a fault lasts
MANY = 8  # open files: about what one client of confluent-kafka has

Event = tuple[int, int, bytes]  # partition, milliseconds, value

Sample = tuple[float, float, int]  # seconds, resident MB, open files


class Log:
    """What has happened, printed as it happens, and added to the file that STREAMNN_TEST_LOG names.

    Args:
        title: says what begins.
    """

    def __init__(self, title: str) -> None:
        self._began = time.monotonic()
        self._file = os.environ.get("STREAMNN_TEST_LOG", "")
        self.counts: dict[str, int] = {}
        self._write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC  {title}")

    def say(self, kind: str, text: str = "") -> None:
        """Print an event, and count its kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self._write(f"{time.monotonic() - self._began:8.1f} s  {kind} {text}")

    def _write(self, line: str) -> None:
        print(line, flush=True)
        if self._file:
            with Path(self._file).open("a") as file:
                file.write(f"{line}\n")


def open_files(pid: int) -> Counter[str]:
    """Count what a process has open by kind: "socket", "pipe", "eventpoll" and the like, "file" for what has a path."""
    found = Counter[str]()
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            name = str(each.readlink())
            kind, _, what = name.partition(":")
            found["file" if name.startswith("/") else what.strip("[]") if kind == "anon_inode" else kind] += 1
    return found


def fast_clients(pid: int) -> int:
    """Count the clients of confluent-kafka that a process has: each has one thread of this name."""
    found = 0
    for each in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            found += (each / "comm").read_text() == "rdk:main\n"
    return found


class Feeder:
    """Writes events at a modest rate, malformed ones among them, with rising timestamps, until it is told to stop.

    A producer whose oldest event has been under way for longer than any fault lasts is made anew, and what it has not
    acknowledged is written again: whatever is in the topic then is the truth, twice or not.
    """

    def __init__(self, bootstrap: str, topic: str, *, seed: int, rate: float = 50.0, partitions: int = 4) -> None:
        self._topic, self._random = topic, random.Random(seed)
        self._rate, self._partitions = rate, partitions
        self._settings = {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "message.timeout.ms": 0,
            "reconnect.backoff.max.ms": 500,
            "log_level": 2,
        }
        self._producer = Producer(self._settings)
        self._waiting: dict[int, tuple[float, Event]] = {}  # by number, oldest first: since when, and the event
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.written = self.anew = 0
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether it still writes."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Write what is under way, and stop."""
        self._stop.set()
        self._thread.join()
        until = time.monotonic() + EXIT_S
        while self._waiting and time.monotonic() < until:
            self._producer.poll(0.1)
            self._renew(STUCK_S / 4)  # a broker is there, and nothing else is written
        assert not self._waiting, f"{len(self._waiting)} of {self.written} events are not acknowledged"

    def close(self) -> None:
        """Stop, and leave what is under way."""
        self._stop.set()
        self._thread.join()
        self._producer.purge()

    def _run(self) -> None:
        stamp_ms, began = int(time.time() * 1000), time.monotonic()
        while not self._stop.wait(0.05):
            while self.written < (time.monotonic() - began) * self._rate:
                stamp_ms = max(stamp_ms + 1, int(time.time() * 1000))
                self._produce(self.written, (self._random.randrange(self._partitions), stamp_ms, self._value()))
                self.written += 1
            self._producer.poll(0)
            self._renew(STUCK_S)

    def _produce(self, number: int, event: Event) -> None:
        where, stamp_ms, value = event
        producer = self._producer

        def done(error: object, _: object) -> None:
            # an event that failed stays where it is, until it is written again
            if error is None and producer is self._producer:
                self._waiting.pop(number, None)

        self._waiting[number] = (time.monotonic(), event)
        producer.produce(self._topic, value, partition=where, timestamp=stamp_ms, on_delivery=done)

    def _renew(self, after_s: float) -> None:
        """Make the producer anew if its oldest event has not been acknowledged for so long."""
        if not self._waiting or time.monotonic() - next(iter(self._waiting.values()))[0] < after_s:
            return
        self.anew += 1
        self._producer.purge()
        self._producer, waiting = Producer(self._settings), self._waiting
        self._waiting = {}
        for number, (_, event) in waiting.items():
            self._produce(number, event)

    def _value(self) -> bytes:
        if self._random.random() < 0.01:
            return self._random.choice(POISON)
        x = [self._random.gauss(0.0, 1.0) for _ in range(3)]
        label = int(x[0] - 0.7 * x[1] + self._random.gauss(0.0, 0.2) > 0)
        return json.dumps({"f0": x[0], "f1": x[1], "f2": x[2], "y": label}).encode()


class Worker:
    """`streamnn run` for one model in a folder of its own.

    With `seen_at` the run is given that address instead of the broker's. It takes a checkpoint every `every_s` seconds.
    With `standby` it is the one that works of the workers of its model.
    """

    def __init__(
        self,
        folder: Path,
        bootstrap: str,
        source: str,
        log: Log,
        *,
        delivery: str = "transactional",
        seen_at: str = "",
        every_s: float = 2.0,
        standby: bool = False,
    ) -> None:
        self.folder, self.name, self._log = folder, folder.name, log
        folder.mkdir()
        out, dead = helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
        text = config(seen_at or bootstrap, source, out, dead, delivery=delivery)
        text = text.replace(f'model = "{source}"', f'model = "{helpers.fresh(self.name)}"')
        text = text.replace("every_events = 50\n", f"every_events = 100000\nevery_s = {every_s}\n")
        text = text.replace("[checkpoint]", f"idle_wait_s = {NEVER_S}\nstart_wait_s = {EXIT_S}\n[checkpoint]")
        text = text.replace("[checkpoint]", "standby = true\n[checkpoint]") if standby else text
        (folder / "run.toml").write_text(text + '[rate]\ncontrol = "fixed"\n')
        self._process: subprocess.Popen[bytes] | None = None
        self.samples: list[Sample] = []
        self._told_files = 0

    def start(self, client: str, *, until: str = "forever") -> None:
        """Start it."""
        words = ["-m", "pipeline", "run", "run.toml", "--quiet"]
        words += ["--set", f"kafka.until={until}", "--set", f"kafka.client={client}"]
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
        """Look how large it is, once it has learned something; it has to live. Much more or fewer open files are told."""
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended by itself: {self.said()}"
        if not self.samples and not reached(self.folder):
            return
        proc = Path(f"/proc/{self._process.pid}")
        lines = (proc / "status").read_text().splitlines()
        resident = next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)
        files = sum(1 for _ in (proc / "fd").iterdir())
        self.samples.append((time.monotonic(), resident, files))
        if abs(files - self._told_files) >= MANY:
            self.tell_files()

    def tell_files(self) -> None:
        """Log its open files by kind, and how many clients of confluent-kafka it has."""
        assert self._process is not None
        kinds = open_files(self._process.pid)
        self._told_files = kinds.total()
        each = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        self._log.say("files", f"{self.name}: {each}; {fast_clients(self._process.pid)} clients of confluent-kafka")

    def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it has ended as it should.

        Told to stop while the broker is away, or a transaction has not recovered from that, it may fail after a while; told so
        while it is being imported, it dies.
        """
        assert self._process is not None
        self._process.send_signal(number)
        code = self._ended(EXIT_S, number.name)
        self._log.say(number.name, f"{self.name}: exit code {code}")
        if number == signal.SIGKILL:
            assert code == -number, self.said(6000)
        else:
            gave_up = code == 1 and "the process is to stop" in self.said()
            assert code in (0, -number) or gave_up, self.said()

    def finish(self) -> None:
        """Wait until it has come to the end of the topic."""
        assert self._ended(2 * EXIT_S, "its start") == 0, self.said()

    def _ended(self, limit_s: float, since: str) -> int:
        assert self._process is not None
        try:
            return self._process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGABRT)  # has it write where it stands
            self._process.wait()
        pytest.fail(f"{self.name} did not end within {limit_s:g} s of {since}: {self.said(6000)}")

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def said(self, most: int = 1000) -> str:
        """The end of what it has written."""
        return (self.folder / "said.txt").read_text()[-most:]
