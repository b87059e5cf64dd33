"""Workers that stand by: one runs the model, another takes over, and a program that learns the model anew judges."""

import json
import os
import random
import re
import signal
import time
import urllib.error
import urllib.request

import pytest

from pipeline import standby
from pipeline.config import Config, KafkaSettings, OutputSettings, StreamSettings
from pipeline.settings import SettingsError
from tests.integration import helpers
from tests.integration.runs import start
from tests.integration.test_kafka_verified import prepared, verified
from tests.pipeline.helpers import streamnn

TAKEN = "another process has taken over"
ONCE = (0, "every event counted once\n")
STARTING = 120.0  # s that a process may take on a machine that is busy


class Workers:
    """Processes with one configuration, in one folder."""

    def __init__(self, folder):
        self.folder, self.words, self.all = folder, (), []

    def start(self, *words):
        """Start one more."""
        made = ("-m", "pipeline", "run", "run.toml", "--set", "kafka.standby=true", *self.words, *words)
        self.all.append(start(self.folder, *made))
        return self.all[-1]

    def reached(self, number, term):
        """Whether the worker of a term has taken a checkpoint at that event or later."""
        found = [path.stem.split("-")[1:] for path in self.folder.glob("ck-*/checkpoint-*.safetensors")]
        return any(int(own[1]) == term and int(own[0]) >= number for own in found)

    def until(self, number, term):
        """Wait for that."""
        helpers.until(lambda: self.reached(number, term), STARTING)

    def close(self):
        """Leave none behind."""
        for worker in self.all:
            worker.kill()
            worker.communicate()


@pytest.fixture
def workers(tmp_path):
    """No workers yet."""
    made = Workers(tmp_path)
    yield made
    made.close()


def ended(worker):
    """The exit code and words of a worker."""
    said, _ = worker.communicate(timeout=300)
    return worker.returncode, said


def page(url, name):
    """The status and text of a page."""
    try:
        with urllib.request.urlopen(f"{url}/{name}", timeout=30) as answer:  # noqa: S310 (ours)
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_worker_that_is_stopped_hands_over(bootstrap, tmp_path, workers):
    """SIGTERM ends the active worker with 0, and the one that stood by, and said so, goes on from its last event."""
    prepared(tmp_path, bootstrap, 600)
    active = workers.start("--quiet", "--set", "kafka.until=forever")
    workers.until(0, 1)
    told = ("--set", "telemetry.enabled=true", "--set", "telemetry.port=0")
    waiting = workers.start("--set", "kafka.until=forever", *told)
    url = re.search(r"http://\S+(?=/metrics)", waiting.stdout.readline())[0]
    assert "standing by" in waiting.stdout.readline()
    assert page(url, "livez")[0] == 200
    code, text = page(url, "readyz")
    assert (code, json.loads(text)["standing_by"]) == (503, True)
    assert "streamnn_standing_by 1.0" in page(url, "metrics")[1]
    workers.until(200, 1)
    active.terminate()
    assert ended(active) == (0, "")
    helpers.until(lambda: page(url, "readyz")[0] == 200, STARTING)
    assert "streamnn_standing_by 0.0" in page(url, "metrics")[1]
    workers.until(600, 2)
    waiting.terminate()
    assert ended(waiting)[0] == 0
    assert verified(tmp_path) == ONCE


@pytest.mark.heavy
def test_a_worker_that_is_killed_is_succeeded(bootstrap, tmp_path, workers):
    """After a kill (-9) the worker that stood by goes on: predictions exactly once, weights bit-identical."""
    prepared(tmp_path, bootstrap, 2000)
    active = workers.start("--quiet")
    workers.until(0, 1)
    waiting = workers.start("--quiet")
    workers.until(300, 1)
    active.kill()
    assert ended(waiting)[0] == 0
    assert workers.reached(2000, 2)
    assert verified(tmp_path) == ONCE


@pytest.mark.heavy
@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_zombie_stops_and_counts_for_nothing(bootstrap, tmp_path, workers, client):
    """A frozen worker (SIGSTOP) that wakes up after another has taken over stops with its message."""
    prepared(tmp_path, bootstrap, 2000)
    workers.words = ("--quiet", "--set", f"kafka.client={client}")
    active = workers.start()
    workers.until(0, 1)
    waiting = workers.start()
    workers.until(300, 1)
    active.send_signal(signal.SIGSTOP)
    helpers.until(lambda: any(workers.reached(n, 2) for n in range(2000)), STARTING)
    active.send_signal(signal.SIGCONT)
    code, said = ended(active)
    assert code == 1
    assert TAKEN in said
    assert "Traceback" not in said
    assert ended(waiting)[0] == 0
    assert workers.reached(2000, 2)
    assert verified(tmp_path) == ONCE


@pytest.mark.heavy
@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_storm_of_handovers(bootstrap, tmp_path, workers, client):
    """Workers killed, stopped, frozen, woken and started at seeded random times leave every event counted once."""
    chance, blows = random.Random(11), int(os.environ.get("STREAMNN_BLOWS", "20"))
    prepared(tmp_path, bootstrap, 1000 * blows)
    workers.words = ("--quiet", "--set", f"kafka.client={client}")
    frozen, log, told = set(), [], []

    def alive():
        for worker in [w for w in workers.all if w.poll() is not None]:
            workers.all.remove(worker)
            code, said = ended(worker)
            told.append((code, said))
            log.append(f"ended {code}")
        return [worker for worker in workers.all if worker not in frozen]

    for _ in range(blows):
        while len(alive()) < 2:
            workers.start()
            log.append("start")
        time.sleep(chance.uniform(1.0, 9.0))
        blow = chance.choice(["kill", "stop", "freeze", "wake", "wake and freeze"])
        if blow.startswith("wake"):
            for worker in frozen:
                worker.send_signal(signal.SIGCONT)
            frozen.clear()
        one = chance.choice(alive() or [workers.start()])
        if blow == "kill":
            one.kill()
        elif blow == "stop":
            one.terminate()
        elif blow.endswith("freeze"):
            one.send_signal(signal.SIGSTOP)
            frozen.add(one)
        log.append(blow)
    for worker in frozen:
        worker.send_signal(signal.SIGCONT)
    if not alive():
        workers.start()
    told += [ended(worker) for worker in workers.all]
    terms = max(int(path.name.split("-")[1]) for path in tmp_path.glob("ck-*/.term-*"))
    print(f"{terms} terms: {log}, codes {[code for code, _ in told]}")
    assert terms > blows // 4, "hardly anybody has taken over"
    for code, said in told:
        assert code in {0, -signal.SIGKILL, -signal.SIGTERM} or TAKEN in said, said
        assert "Traceback" not in said, said
    streamnn("run", "run.toml", "--quiet", cwd=tmp_path, check=0)  # alone, on the same folder
    assert verified(tmp_path) == ONCE


def test_what_cannot_stand_by_is_refused():
    """Without transactions nothing fences a zombie, and files cannot be shared."""

    def refused(**settings):
        stream = StreamSettings(source=settings.pop("source", "kafka:topic"))
        output = OutputSettings(predictions=settings.pop("predictions", ""))
        with pytest.raises(SettingsError) as caught:
            standby.check(Config(stream=stream, output=output, kafka=KafkaSettings(standby=True, **settings)))
        return str(caught.value)

    assert "kafka.delivery = transactional" in refused()
    assert "kafka.delivery = transactional" in refused(delivery="transactional", source="events.csv")
    assert "output.predictions is a file" in refused(delivery="transactional", predictions="p.jsonl")


def test_a_worker_alone_is_kept_out_of_the_folder(bootstrap, tmp_path, workers):
    """A process without `kafka.standby` is refused the folder, and fences nobody; one with a missing topic is told so."""
    prepared(tmp_path, bootstrap, 10)
    active = workers.start("--quiet", "--set", "kafka.until=forever")
    workers.until(10, 1)
    assert "belongs to another process" in streamnn("run", "run.toml", "--quiet", cwd=tmp_path, check=2).stderr
    nowhere = ("--set", "stream.source=kafka:nowhere", "--set", "kafka.standby=true")
    assert "'nowhere' does not exist" in streamnn("run", "run.toml", *nowhere, cwd=tmp_path, check=2).stderr
    active.terminate()
    assert ended(active) == (0, "")
