"""`streamnn run` killed at random times, judged by a program that learns the model anew from the topics.

`STREAMNN_KILLS=100 STREAMNN_TEST_LOG=FILE pytest -m heavy -s tests/integration/test_kafka_verified.py -k test_killed_at_random`
kills 100 times in either delivery, and adds a line for each to the file.
"""

import itertools
import os
import random
import signal
import time

import pytest

from pipeline.faults import CRASH_POINTS
from tests.integration import helpers, runs, verifier
from tests.integration.live import NEVER_S, Log

POISON = [*runs.POISON, None]
KILLS = int(os.environ.get("STREAMNN_KILLS", "20"))


def mixed(folder, events):
    """Events with malformed records among them."""
    made = runs.events(folder, events)
    for i, bad in enumerate(POISON):
        made.insert(50 + 40 * i, bad)
    return runs.spread(made)


def prepared(folder, bootstrap, events, **further):
    """A configuration and its topics, with malformed records among the events."""
    return runs.prepared(folder, bootstrap, mixed(folder, events), **further)


def verified(folder, *words):
    """The exit code and words of the verifier as a program of its own."""
    process = runs.start(folder, "-m", "tests.integration.verifier", "run.toml", *words)
    said, _ = process.communicate(timeout=300)
    return process.returncode, said


def test_verifier_accepts_a_run_and_names_what_is_wrong(bootstrap, tmp_path):
    """A whole run passes; a prediction and a dead letter written twice, a wrong reason and position are found."""
    out = prepared(tmp_path, bootstrap, 300)
    process = runs.run(tmp_path)
    assert process.communicate(timeout=300)[1] is None
    assert process.returncode == 0
    assert verified(tmp_path) == (0, f"{verifier.FOUND_NOTHING}\n")
    assert verifier.halfway(tmp_path / "run.toml") == []

    dead, group = runs.named(tmp_path, "dead_letters_topic"), runs.named(tmp_path, "model")
    client = helpers.library("confluent-kafka", bootstrap)
    prediction, letter = helpers.everything(client, out)[0], helpers.everything(client, dead)[0]
    changed = tuple((n, b"17" if n == "streamnn-reason" else v) for n, v in letter.headers)
    writes = [(out, prediction, prediction.headers), (dead, letter, changed)]
    for topic, record, headers in writes:
        runs.write(bootstrap, topic, [helpers.Outgoing(topic, record.value, partition=0, headers=headers)])
    reader = client.reader(group=group, committed_only=False)
    partition = helpers.Partition(group, 0)
    at = reader.committed([partition], timeout_s=10.0)[partition]
    reader.commit({partition: at.offset + 1}, at.note, timeout_s=10.0)
    reader.close()
    code, said = verified(tmp_path)
    assert code == 1
    assert "2 times a prediction" in said
    assert "2 times a dead letter" in said
    assert "reason of the dead letter is b'17', expected b'not_json'" in said
    assert "partition 0: position 7" in said


@pytest.mark.heavy
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_other_tasks(bootstrap, tmp_path, task):
    """Several classes that are met on the way, and quantities, are worked out alike."""
    made = runs.events(tmp_path, 200, task=task)
    made[20:20] = [b'{"f0": 1.0}', b'{"f1": 2.0, "f2": null, "y": null}', b'{"f0": Infinity}', b'{"y": [1]}']
    runs.prepared(tmp_path, bootstrap, runs.spread(made), task=task)
    runs.finished(tmp_path)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("client", "delivery"), [("kafka-python", "transactional"), ("confluent-kafka", "at_least_once")]
)
def test_killed_at_every_crash_point(bootstrap, tmp_path, client, delivery):
    """Killed (-9) at one named point of the code after the other, every event counts once.

    There is no commit to be killed at without transactions: positions are advisory then. Two sinks are flushed for a
    checkpoint, the first of which is taken at the start and gets nowhere.
    """
    points = [p for p in CRASH_POINTS if delivery == "transactional" or not p.endswith("_commit")]
    prepared(tmp_path, bootstrap, 200 * len(points), delivery=delivery)
    chosen = ("--set", f"kafka.client={client}")
    for point in points:
        at = f"{point}:{5 if point.endswith('_sink_flush') else 3}"
        before, process = runs.reached(tmp_path), runs.run(tmp_path, *chosen, STREAMNN_CRASH_AT=at)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL, (point, said)
        assert runs.reached(tmp_path) > before, point
        assert verifier.halfway(tmp_path / "run.toml") == [], point
    runs.finished(tmp_path, *chosen)
    repeats = verifier.repeated(tmp_path / "run.toml")
    print(f"predictions that are there more than once: {repeats}")
    assert (repeats == 0) == (delivery == "transactional")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("client", "delivery"), [("kafka-python", "at_least_once"), ("confluent-kafka", "transactional")]
)
def test_stopped_in_order(bootstrap, tmp_path, client, delivery):
    """SIGTERM ends a run with 0 in the middle of learning; what it has handled is written and committed, and not more.

    So even without transactions nothing is there twice after the next life, which goes on behind it.
    """
    prepared(tmp_path, bootstrap, 3000, delivery=delivery)
    chosen, lives = ("--set", f"kafka.client={client}"), list[int]()
    for _ in range(2):
        before, process = runs.reached(tmp_path), runs.run(tmp_path, *chosen)
        helpers.until(lambda: runs.reached(tmp_path) > before, 120.0)  # noqa: B023
        process.terminate()
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        lives.append(runs.reached(tmp_path))
        assert verifier.halfway(tmp_path / "run.toml") == []
        assert verifier.committed_records(tmp_path / "run.toml") == lives[-1]
    assert lives[0] < lives[1] < 3000, "stopped when everything was learned"
    runs.finished(tmp_path, *chosen)
    assert verifier.repeated(tmp_path / "run.toml") == 0


@pytest.mark.heavy
@pytest.mark.timeout(600 + 60 * KILLS)
@pytest.mark.parametrize("delivery", ["transactional", "at_least_once"])
def test_killed_at_random_times(bootstrap, tmp_path, delivery):
    """Kills (-9) at seeded random times, STREAMNN_KILLS of them or 20, leave every event counted once.

    Without transactions predictions may be there twice, each time the same; without the repeats each is there once.
    """
    moment, log = random.Random(5), Log(f"{KILLS} kills, {delivery}, seed 5")
    # so many that work is left at most of the kills
    prepared(tmp_path, bootstrap, 1000 * KILLS, delivery=delivery)
    reached: list[int] = []
    for _ in range(KILLS):
        before, process = runs.reached(tmp_path), runs.run(tmp_path)
        if starting := moment.random() < 0.25:
            time.sleep(moment.uniform(0.5, 6.0))  # while it starts and takes over
        else:
            helpers.until(lambda: runs.reached(tmp_path) > before or process.poll() is not None, 120.0)  # noqa: B023
            time.sleep(moment.uniform(0.0, 1.0))
        process.kill()
        process.communicate()
        reached.append(runs.reached(tmp_path))
        found = verifier.halfway(tmp_path / "run.toml")
        when = "starting" if starting else "learning"
        log.say(
            "kill", f"{len(reached)}, {when}: exit code {process.returncode}, event {reached[-1]}, {found or 'right'}"
        )
        assert found == []
    assert len(set(reached)) > KILLS // 5, f"most of the kills hit nothing: {reached}"
    runs.finished(tmp_path)
    repeats = verifier.repeated(tmp_path / "run.toml")
    log.say("done", f"{verifier.FOUND_NOTHING}, {repeats} predictions are there more than once, each time the same")
    assert delivery == "at_least_once" or not repeats


@pytest.mark.heavy
def test_micro_batches_killed_at_random_times(bootstrap, tmp_path):
    """Micro-batches, of which the clock ends many, count once too: weights and predictions are those of the topics alone.

    The run is killed (-9) five times, while events come a few at a time.
    """
    draw, kills = random.Random(6), 5
    records = iter(mixed(tmp_path, 1200))
    out = runs.prepared(tmp_path, bootstrap, [])
    with (tmp_path / "run.toml").open("a") as file:
        file.write("[mode]\nbatch = 16\nmax_wait_ms = 20\n")
    source = runs.named(tmp_path, "model")
    chosen = ["checkpoint.every_s=0.3", f"kafka.idle_wait_s={NEVER_S}"]
    words = [word for setting in chosen for word in ("--set", setting)]

    def come(count):
        runs.write(bootstrap, source, list(itertools.islice(records, count)))

    for _ in range(kills):
        come(70)
        before, process = runs.reached(tmp_path), runs.run(tmp_path, *words, "--set", "kafka.until=forever")
        helpers.until(lambda: runs.reached(tmp_path) > before or process.poll() is not None, 120.0)  # noqa: B023
        for _ in range(8):
            come(draw.randint(1, 12))
            time.sleep(draw.uniform(0.05, 0.3))
        process.kill()
        process.communicate()
        assert verifier.halfway(tmp_path / "run.toml") == []
    runs.finished(tmp_path, *words)
    predicted = helpers.everything(helpers.library("confluent-kafka", bootstrap), out)
    assert len({at for record in predicted for at in verifier.cuts(record)}) > kills
