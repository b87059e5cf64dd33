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
    assert ended(active)[0] == 0
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
    workers.until(0, 2)
    active.send_signal(signal.SIGCONT)
    code, said = ended(active)
    assert code == 1
    assert TAKEN in said
    assert "Traceback" not in said
    assert ended(waiting)[0] == 0
    assert workers.reached(2000, 2)
    assert verified(tmp_path) == ONCE


# workers that lose their turn sooner where nobody takes part for them
HASTY = """import sys
from connectors.kafka import fast_member, python_member
python_member.SILENT_S = fast_member.SILENT_S = 6.5
from pipeline.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_worker_that_waits_for_a_slow_topic_keeps_its_turn(bootstrap, tmp_path, workers, client):
    """However long the topic of predictions takes, nobody takes over; when it is quick again the same worker goes on."""
    prepared(tmp_path, bootstrap, 1500)
    name = helpers.fresh("slow")
    words = ["run", "run.toml", "--set", "kafka.standby=true", "--set", "kafka.until=forever"]
    words += ["--set", f"kafka.client={client}", "--set", "checkpoint.every_events=500", "--set", "telemetry.port=0"]
    words += ["--set", f"kafka.common={{{'client_id' if client == 'kafka-python' else 'client.id'} = '{name}'}}"]
    if client == "confluent-kafka":
        words = [word.replace("client.id =", '"client.id" =') for word in words]

    def hasty(*more):
        workers.all.append(start(tmp_path, "-c", HASTY, *words, *more))
        return workers.all[-1]

    active = hasty("--set", "telemetry.enabled=true")
    url = re.search(r"http://\S+(?=/metrics)", active.stdout.readline())[0]
    workers.until(0, 1)
    helpers.throttle(bootstrap, name, 1_000)
    try:
        waiting = hasty("--quiet")

        def blocked():
            assert active.poll() is None
            assert not workers.reached(0, 2), "another worker has taken over"
            age = re.search(r"^streamnn_block_age_seconds (\S+)$", page(url, "metrics")[1], re.MULTILINE)
            return age is not None and float(age[1]) > 20.0

        helpers.until(blocked, 2 * STARTING)
    finally:
        helpers.throttle(bootstrap, name, None)
    workers.until(1500, 1)
    assert not workers.reached(0, 2)
    active.terminate()
    assert active.wait(STARTING) == 0
    workers.until(1500, 2)
    waiting.terminate()
    assert ended(waiting)[0] == 0
    assert verified(tmp_path) == ONCE


class Storm:
    """Workers that are killed, stopped, frozen, woken and started."""

    def __init__(self, workers, seed):
        self.workers, self.chance = workers, random.Random(seed)
        self.frozen, self.log, self.told = set(), [], []

    def awake(self):
        """The workers that run, after what the ended ones said was noted."""
        for worker in [one for one in self.workers.all if one.poll() is not None]:
            self.workers.all.remove(worker)
            self.frozen.discard(worker)
            self.told.append(ended(worker))
            self.log.append(f"ended {worker.returncode}")
        return [worker for worker in self.workers.all if worker not in self.frozen]

    def newest(self):
        """Term and event of the newest checkpoint."""
        found = [path.stem.split("-")[1:] for path in self.workers.folder.glob("ck-*/checkpoint-*.safetensors")]
        return max([(int(term), int(number)) for number, term in found], default=(0, 0))

    def blow(self):
        """Have two awake, wait until one has come on, and strike."""
        while len(self.awake()) < 2:
            self.workers.start()
            self.log.append("start")
        before = self.newest()
        helpers.until(lambda: self.newest() > before or len(self.awake()) < 2, 2 * STARTING)
        time.sleep(self.chance.uniform(0.0, 3.0))
        if self.chance.random() < 0.4:
            self.wake()
        what = self.chance.choice(["kill", "stop", "freeze"])
        one = self.chance.choice(self.awake() or [self.workers.start()])
        one.send_signal({"kill": signal.SIGKILL, "stop": signal.SIGTERM, "freeze": signal.SIGSTOP}[what])
        if what == "freeze":
            self.frozen.add(one)
        self.log.append(f"{what} at {self.newest()}")

    def wake(self):
        """Let the frozen ones go on."""
        self.log.append(f"wake {len(self.frozen)}")
        for worker in self.frozen:
            worker.send_signal(signal.SIGCONT)
        self.frozen.clear()


@pytest.mark.heavy
@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_storm_of_handovers(bootstrap, tmp_path, workers, client):
    """Blows at seeded random times, STREAMNN_BLOWS of them or 12, leave every event counted once."""
    blows = int(os.environ.get("STREAMNN_BLOWS", "12"))
    prepared(tmp_path, bootstrap, events := 500 * blows)
    workers.words = ("--quiet", "--set", f"kafka.client={client}", "--set", "checkpoint.every_events=5")
    storm = Storm(workers, seed=11)
    for _ in range(blows):
        if storm.newest()[1] < events:
            storm.blow()
    storm.wake()
    for worker in workers.all:
        worker.terminate()
    storm.told += [ended(worker) for worker in workers.all]
    print(storm.log, [code for code, _ in storm.told])
    assert storm.newest()[0] >= 2, "nobody has taken over"  # how often depends on how busy the machine is
    for code, said in storm.told:
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
    assert ended(active)[0] == 0
