"""When something goes wrong: what `streamnn run` says, how it ends, and that after the remedy every event counts once.

Rows of the table in docs/kafka.md, through the command and on a real broker; `tests.test_docs` names the test of each row.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter

import pytest

from connectors.kafka.client import Outgoing, Partition
from deploy.kafka import Broker
from tests.integration import helpers, runs
from tests.pipeline.helpers import ROOT, small_file_system

LONG = 180.0  # s that a process may take for something on a machine that is busy


def made(folder, bootstrap, count=200, delivery="transactional"):
    """A configuration, its topics, and events in them; returns the name of the topic of events."""
    runs.prepared(folder, bootstrap, runs.spread(runs.events(folder, count)), delivery=delivery)
    return runs.named(folder, "model")


def more(folder, bootstrap, count=100, partitions=4):
    """Write further events into the topic of events."""
    records = runs.spread(runs.events(folder, count, seed=5))
    records = [record._replace(partition=i % partitions) for i, record in enumerate(records)]
    runs.write(bootstrap, runs.named(folder, "model"), records)


def set_to(where, /, **settings):
    """Change settings of the configuration, as a person would."""
    text = (where / "run.toml").read_text()
    for name, value in settings.items():
        text, found = re.subn(rf"^{name} = .*$", f"{name} = {json.dumps(value)}", text, flags=re.MULTILINE)
        assert found == 1, name
    (where / "run.toml").write_text(text)


def ended(process, code):
    """The one message of a process that is to end with this exit code: there is no other line, and no traceback."""
    said, _ = process.communicate(timeout=LONG)
    assert process.returncode == code, said
    assert re.fullmatch(r"streamnn: [^\n]+\n", said), said
    return said


def stops(folder, code, *words):
    """Run to the end of the topic, or to what stops it."""
    return ended(runs.run(folder, *words), code)


def stops_well(folder):
    """Run to the end of the topic."""
    said, _ = (process := runs.run(folder)).communicate(timeout=LONG)
    assert process.returncode == 0, said


class Live:
    """`streamnn run` that goes on for ever, with its pages."""

    def __init__(self, folder, *words):
        self._path = folder / "said.txt"
        given = ["telemetry.enabled=true", "telemetry.port=0", "kafka.until=forever", *words]
        with self._path.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", "run.toml", *(w for g in given for w in ("--set", g))],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=file,
            )
        self.until(lambda: "metrics at " in self.said)
        self._url = re.search(r"http://\S+(?=/metrics)", self.said)[0]

    @property
    def said(self):
        """What it wrote to stderr."""
        return self._path.read_text()

    def until(self, reached):
        """Wait until something holds, while the process lives."""

        def holds():
            assert self.process.poll() is None, self.said
            return reached()

        helpers.until(holds, LONG)

    def page(self, name):
        """The status and text of a page."""
        try:
            with urllib.request.urlopen(f"{self._url}/{name}", timeout=60) as answer:  # noqa: S310 (ours)
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name):
        """The value of a metric; 0 if it is not there yet."""
        found = re.search(rf"^{name} (\S+)$", self.page("metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    def health(self, name="livez"):
        """What a health page says."""
        return json.loads(self.page(name)[1])

    def end(self, code):
        """Wait for its end with this exit code; returns its one message."""
        assert self.process.wait(timeout=LONG) == code, self.said
        assert "Traceback" not in self.said
        told = re.findall(r"^streamnn: .*$", self.said, re.MULTILINE)
        assert len(told) == (1 if code else 0), self.said
        return told[0] if told else ""

    def stop(self):
        """Terminate it, which is to end well."""
        self.process.terminate()
        self.end(0)

    def close(self):
        """Leave nothing behind."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def live(tmp_path):
    """Starts processes in the test's folder that live until the test ends."""
    started = []

    def start(*words):
        started.append(Live(tmp_path, *words))
        return started[-1]

    yield start
    for one in started:
        one.close()


def places(folder, bootstrap):
    """How often each record of the topic of events has its prediction, by partition and offset."""
    client = helpers.library("confluent-kafka", bootstrap)
    headers = [dict(r.headers) for r in helpers.everything(client, runs.named(folder, "predictions_topic"))]
    return Counter((int(one["streamnn-partition"]), int(one["streamnn-offset"])) for one in headers)


def once(folder, bootstrap, events, reached=0):
    """Whether each of so many records has its prediction once, and the newest checkpoint holds all of them."""
    found = places(folder, bootstrap)
    return len(found) == events == (reached or runs.reached(folder)) and set(found.values()) == {1}


@pytest.mark.heavy
def test_what_is_missing_at_the_start(bootstrap, tmp_path):
    """A broker out of reach and each missing topic stop the start with 2 and one message; made, everything is well."""
    source = made(tmp_path, bootstrap)
    away = stops(tmp_path, 2, "--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "kafka.start_wait_s=1")
    assert re.search(r"no Kafka broker answers at 127\.0\.0\.1:1 .*within 1 s.*Check kafka.bootstrap_servers", away)
    topics = {name: runs.named(tmp_path, name) for name in ("predictions_topic", "dead_letters_topic")}
    for topic in (source, *topics.values()):
        helpers.delete_topic(bootstrap, topic)
    for topic in (source, *topics.values()):
        assert re.search(f"topic '{topic}' does not exist.*[Mm]ake", stops(tmp_path, 2))
        helpers.topic(bootstrap, 4, name=topic)
    more(tmp_path, bootstrap, 200)
    runs.finished(tmp_path)


@pytest.mark.heavy
def test_a_source_that_is_deleted(bootstrap, tmp_path, live):
    """A topic deleted while it is read ends the run with 1, and a start with 2; another folder begins afresh."""
    source = made(tmp_path, bootstrap, delivery="at_least_once")
    run = live()
    run.until(lambda: runs.reached(tmp_path) >= 200)
    helpers.delete_topic(bootstrap, source)
    assert re.search(f"topic '{source}' does not exist.*make it", run.end(1))
    assert "does not exist" in stops(tmp_path, 2)
    helpers.topic(bootstrap, 4, name=source)
    more(tmp_path, bootstrap)
    assert re.search("deleted and made again.*another folder", stops(tmp_path, 2))
    set_to(tmp_path, folder=f"ck-again-{source}", predictions_topic=helpers.topic(bootstrap, 2))
    runs.finished(tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("client", "delivery"), [("kafka-python", "at_least_once"), ("confluent-kafka", "transactional")]
)
def test_dead_letters_that_are_deleted(bootstrap, tmp_path, live, client, delivery):
    """So does a topic of dead letters, once there is one to be written; made again, the letter is there once."""
    source = made(tmp_path, bootstrap, delivery=delivery)
    run = live(f"kafka.client={client}")
    run.until(lambda: runs.reached(tmp_path) >= 200)
    dead = runs.named(tmp_path, "dead_letters_topic")
    helpers.delete_topic(bootstrap, dead)
    runs.write(bootstrap, source, [Outgoing(source, b"{broken", partition=n) for n in range(4)])
    assert re.search(f"topic '{dead}' .*Make the topic, or correct its name", run.end(1))
    helpers.topic(bootstrap, name=dead)
    runs.finished(tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("client", "delivery"), [("kafka-python", "transactional"), ("confluent-kafka", "at_least_once")]
)
def test_an_output_that_is_deleted(bootstrap, tmp_path, live, client, delivery):
    """A topic of predictions deleted while it is written ends the run with 1; made again, what was not there is."""
    made(tmp_path, bootstrap, delivery=delivery)
    run = live(f"kafka.client={client}")
    run.until(lambda: runs.reached(tmp_path) >= 200)
    out = runs.named(tmp_path, "predictions_topic")
    before = places(tmp_path, bootstrap)
    helpers.delete_topic(bootstrap, out)
    more(tmp_path, bootstrap)
    assert re.search(f"topic '{out}' .*Make the topic, or correct its name", run.end(1))
    helpers.topic(bootstrap, 2, name=out)
    stops_well(tmp_path)
    after = places(tmp_path, bootstrap)
    assert (len(before), len(after), len(before.keys() | after.keys())) == (200, 100, 300)
    assert set((before + after).values()) == {1}
    assert runs.reached(tmp_path) == 300


@pytest.mark.heavy
def test_records_that_were_deleted_unread(bootstrap, tmp_path, live):
    """Retention that overtakes a run that is down is an error that says how many; to be skipped, they are counted."""
    source = made(tmp_path, bootstrap)
    runs.finished(tmp_path)
    more(tmp_path, bootstrap)
    first = min(at for number, at in places(tmp_path, bootstrap) if number == 0)
    assert first == 0
    helpers.delete_before(bootstrap, Partition(source, 0), 60)
    told = stops(tmp_path, 2)
    assert re.search(
        rf"records 50 to 59 of {source}/0 have not been read, and have been deleted.*set kafka.lost to skip", told
    )
    run = live("kafka.lost=skip")
    run.until(lambda: run.metric("streamnn_events_total") == 90)
    run.until(lambda: run.metric("streamnn_consumer_lost_records") == 10)
    assert run.page("readyz")[0] == 200
    run.stop()
    found = places(tmp_path, bootstrap)
    assert set(found.values()) == {1}
    assert len(found) == 290
    assert not {(0, at) for at in range(50, 60)} & set(found)


@pytest.fixture
def forgetful(tmp_path_factory, jars):
    """A broker that looks every half second what retention lets it delete."""
    often = {"log.retention.check.interval.ms": "500", "log.initial.task.delay.ms": "500"}
    with Broker(tmp_path_factory.mktemp("forgetful"), memory_mb=384, properties=often) as broker:
        yield broker.bootstrap
        helpers.close()


@pytest.mark.heavy
def test_retention_that_is_shrunk(forgetful, tmp_path, live):
    """What the broker itself deletes is told as it is elsewhere; with lost = "skip" the run goes on with what comes after."""
    source = made(tmp_path, forgetful)
    runs.finished(tmp_path)
    more(tmp_path, forgetful)
    client = helpers.library("confluent-kafka", forgetful)
    places_of = helpers.partitions(client, source)
    reader = client.reader(group="", committed_only=True)
    helpers.set_retention(forgetful, source, 1)
    helpers.until(lambda: set(reader.begin(places_of, timeout_s=10.0).values()) == {75}, 60.0)
    helpers.set_retention(forgetful, source, -1)
    reader.close()
    told = stops(tmp_path, 2)
    assert re.search(rf"records 50 to 74 of {source}/0 have not been read, and have been deleted \(retention\)", told)
    run = live("kafka.lost=skip")
    run.until(lambda: run.metric("streamnn_consumer_lost_records") == 100)
    more(tmp_path, forgetful)
    run.until(lambda: run.metric("streamnn_events_total") == 100)
    run.stop()
    found = places(tmp_path, forgetful)
    assert set(found) == {(number, at) for number in range(4) for at in [*range(50), *range(75, 100)]}
    assert set(found.values()) == {1}


@pytest.mark.heavy
def test_partitions_that_are_added(bootstrap, tmp_path, live):
    """New partitions end a run with 1 and a start with 2, and are read once they are accepted."""
    source = made(tmp_path, bootstrap)
    run = live()
    run.until(lambda: runs.reached(tmp_path) >= 200)
    helpers.add_partitions(bootstrap, source, 6)
    said = rf"topic '{source}' has got partitions \[4, 5\].*Set kafka.new_partitions to accept"
    assert re.search(said, run.end(1))
    assert re.search(said, stops(tmp_path, 2))
    more(tmp_path, bootstrap, partitions=6)
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace("[kafka]\n", '[kafka]\nnew_partitions = "accept"\n'))
    runs.finished(tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize("delivery", ["transactional", "at_least_once"])
def test_a_partition_that_completes_a_micro_batch(bootstrap, tmp_path, live, delivery):
    """Where half a micro-batch waits and the partitions it is from stay silent, an added one is read all the same."""
    source = made(tmp_path, bootstrap, 204, delivery=delivery)
    run = live("mode.batch=8", "model.engine=eager", "kafka.new_partitions=accept", "kafka.idle_wait_s=0.1")
    run.until(lambda: runs.reached(tmp_path) >= 200)
    helpers.add_partitions(bootstrap, source, 5)
    records = [record._replace(partition=4) for record in runs.spread(runs.events(tmp_path, 4, seed=5))]
    helpers.until(lambda: len(helpers.partitions(helpers.library("confluent-kafka", bootstrap), source)) == 5)
    runs.write(bootstrap, source, records)
    run.until(lambda: runs.reached(tmp_path) >= 208)
    run.stop()
    assert once(tmp_path, bootstrap, 208)


@pytest.mark.heavy
def test_positions_that_are_not_committed(bootstrap, tmp_path):
    """A mistyped group and offsets that have expired stop the start with 2; the right group, or a new folder, goes on."""
    source = made(tmp_path, bootstrap)
    runs.finished(tmp_path)
    said = "no positions are committed under kafka.group.*correct the group, or begin afresh with another folder"
    assert re.search(said, stops(tmp_path, 2, "--set", "kafka.group=mistyped"))
    more(tmp_path, bootstrap)
    runs.finished(tmp_path)
    helpers.delete_group(bootstrap, source)
    assert re.search(said, stops(tmp_path, 2))
    set_to(tmp_path, folder=f"ck-again-{source}", predictions_topic=helpers.topic(bootstrap, 2))
    runs.finished(tmp_path)


def damage(path):
    """Change one byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.heavy
def test_a_checkpoint_that_is_damaged(bootstrap, tmp_path):
    """The one that the committed offsets name stops the start with 2, though there are others; put back, all goes on."""
    made(tmp_path, bootstrap)
    runs.finished(tmp_path)
    more(tmp_path, bootstrap)
    before = sorted(tmp_path.glob("ck-*/checkpoint-*.safetensors"))
    whole = before[-1].read_bytes()
    damage(before[-1])
    for _ in range(2):
        told = stops(tmp_path, 2)
        assert re.search(
            f"committed positions belong to checkpoint {before[-1].name}, which cannot be used.*a copy", told
        )
        assert sorted(tmp_path.glob("ck-*/checkpoint-*.safetensors")) == before
    assert len(before) > 1
    before[-1].write_bytes(whole)
    runs.finished(tmp_path)
    assert once(tmp_path, bootstrap, 300)


@pytest.mark.heavy
def test_checkpoints_that_are_damaged(bootstrap, tmp_path):
    """At least once the one before the newest is taken, and with none left the start ends with 2, and never afresh."""
    made(tmp_path, bootstrap, delivery="at_least_once")
    runs.finished(tmp_path)
    kept = sorted(tmp_path.glob("ck-*/checkpoint-*.safetensors"))
    whole = kept[-2].read_bytes()
    damage(kept[-1])
    more(tmp_path, bootstrap)
    runs.finished(tmp_path)
    found = places(tmp_path, bootstrap)
    assert (len(found), set(found.values())) == (300, {1, 2})
    for path in tmp_path.glob("ck-*/checkpoint-*.safetensors"):
        damage(path)
    said, _ = (process := runs.run(tmp_path)).communicate(timeout=LONG)
    assert process.returncode == 2, said
    assert "Traceback" not in said
    assert re.search("^streamnn: no checkpoint in .* can be used; put back a copy", said, re.MULTILINE)
    kept[-2].write_bytes(whole)
    runs.finished(tmp_path)


def test_a_folder_that_is_in_use(bootstrap, tmp_path, live):
    """A second process on one folder of checkpoints is refused with 2, and the first one goes on."""
    made(tmp_path, bootstrap)
    run = live()
    run.until(lambda: runs.reached(tmp_path) >= 200)
    assert re.search("belongs to another process", stops(tmp_path, 2))
    more(tmp_path, bootstrap)
    run.until(lambda: runs.reached(tmp_path) >= 300)
    run.stop()
    assert once(tmp_path, bootstrap, 300)


@pytest.mark.heavy
def test_a_sink_that_is_slow(bootstrap, tmp_path, live):
    """Where predictions are acknowledged slowly events are taken in as slowly, and all of them come through."""
    made(tmp_path, bootstrap, 1000)
    name = helpers.fresh("slow")
    helpers.throttle(bootstrap, name, 2_000)
    try:
        run = live(f"kafka.common={{client_id = '{name}'}}")
        run.until(lambda: run.metric("streamnn_block_age_seconds") > 2.0 and runs.reached(tmp_path) > 0)
        told = run.health()
        assert told["status"] == "ok"
        assert told["seconds_since_last_sign"] <= told["seconds_since_last_block"]
        # no more is taken in than lies between two checkpoints, each of which waits for its predictions
        assert run.metric("streamnn_position_records") <= runs.reached(tmp_path) + 100
        assert run.metric("streamnn_consumer_stalls") == 0
    finally:
        helpers.throttle(bootstrap, name, None)
    run.until(lambda: runs.reached(tmp_path) >= 1000)
    run.stop()
    assert once(tmp_path, bootstrap, 1000)


@pytest.mark.heavy
def test_a_learner_that_is_slow(bootstrap, tmp_path, live):
    """Where events come faster than they are learned no more is read ahead than the bound, and nothing is made anew."""
    made(tmp_path, bootstrap, 1000)
    set_to(tmp_path, every_events=200)
    slow = ["model.engine=eager", "kafka.buffer_records=50", "mode.chunk=50", "kafka.stall_s=1"]
    run = live(*slow)
    buffered, paused = [], []

    def half() -> bool:
        buffered.append(run.metric("streamnn_consumer_buffered_records"))
        paused.append(run.metric("streamnn_consumer_paused_partitions"))
        assert run.page("livez")[0] == 200
        return run.metric("streamnn_events_total") >= 500

    run.until(half)
    assert run.metric("streamnn_consumer_stalls") == 0
    run.stop()
    assert max(paused) >= 1
    assert 0 < max(buffered) < 1000
    stops_well(tmp_path)
    assert once(tmp_path, bootstrap, 1000)


@pytest.mark.heavy
@pytest.mark.parametrize("delivery", ["transactional", "at_least_once"])
def test_a_broker_that_stays_away(up, tmp_path, live, delivery):
    """Nothing is taken in while it is away, which the pages tell; with give_up_s the run ends with 1; then all is well."""
    made(tmp_path, up.bootstrap, delivery=delivery)
    run = live("kafka.give_up_s=90")
    run.until(lambda: run.metric("streamnn_events_total") >= 200)  # and its checkpoint is committed
    helpers.close()
    up.stop()
    run.until(lambda: run.metric("streamnn_consumer_unreachable_seconds") > 1.0)
    run.until(lambda: run.page("readyz")[0] == 503)
    assert "the source has had no answer for" in run.health("readyz")["reason"]
    assert run.page("livez")[0] == 200
    up.start()
    run.until(lambda: run.page("readyz")[0] == 200)
    run.stop()
    run = live("kafka.give_up_s=20")
    run.until(lambda: run.page("readyz")[0] == 200)
    helpers.close()
    up.stop()
    assert "give_up_s" in run.end(1)
    up.start()
    more(tmp_path, up.bootstrap)
    stops_well(tmp_path)
    assert once(tmp_path, up.bootstrap, 300)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    with small_file_system(tmp_path / "small", "1m") as at:
        yield at


@pytest.mark.heavy
def test_a_disk_that_is_full(bootstrap, tmp_path, live, small_disk):
    """With no room for a checkpoint the intake stops, for a while or until the patience ends; then the run goes on."""
    made(tmp_path, bootstrap)
    set_to(tmp_path, folder="small/ck")
    run = live()
    run.until(lambda: reached(small_disk) >= 200)
    filler = small_disk / "filler"
    fill(filler)
    more(tmp_path, bootstrap)
    run.until(lambda: "intake stopped" in run.said)
    run.until(lambda: run.metric("streamnn_block_age_seconds") > 2.0)
    assert run.page("livez")[0] == 200
    filler.unlink()
    run.until(lambda: reached(small_disk) >= 300)
    assert run.page("readyz")[0] == 200
    run.stop()
    fill(filler)
    more(tmp_path, bootstrap)
    said, _ = (process := runs.run(tmp_path, "--set", "output.patience_s=0.5")).communicate(timeout=LONG)
    assert process.returncode == 1, said
    assert "Traceback" not in said
    assert re.search("^streamnn: .*No space left on device", said, re.MULTILINE)
    filler.unlink()
    stops_well(tmp_path)
    assert once(tmp_path, bootstrap, 400, reached=reached(small_disk))


def reached(disk):
    """The event that the newest checkpoint on a disk is at."""
    return max((int(path.stem.split("-")[1]) for path in disk.glob("ck/checkpoint-*.safetensors")), default=0)


def fill(path):
    """Leave no room."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            assert shutil.disk_usage(path.parent).free < 4096
