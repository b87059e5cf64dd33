"""Labels on a topic of their own, on a real broker: late, lost, doubled, killed between; every count is exact."""

import json
import random
import signal
import time

import pytest

from connectors.kafka.client import Outgoing
from pipeline.__main__ import main
from tests.integration import helpers
from tests.integration.test_kafka_run import consumed, weights
from tests.pipeline.helpers import read_jsonl, streamnn

EVENTS, APART_MS, WAIT_S = 1_500, 400, 240  # ten minutes of stream time
POINTS = ("after_learn", "before_rename", "after_rename", "before_commit", "after_commit")


def config(bootstrap, source, labels, out, dead, folder, *, wait_s=WAIT_S):
    """A transactional run over both topics to their present end."""
    return f"""
[stream]
source = "kafka:{source}"
targets = ["y"]
task = "binary"
classes = {{y = [0, 1]}}
kinds = {{a = "number", b = "number"}}
id = "id"
[labels]
topic = "{labels}"
wait_s = {wait_s}
[model]
preset = "single"
[kafka]
bootstrap_servers = "{bootstrap}"
model = "{folder}"
until = "end"
delivery = "transactional"
predictions_topic = "{out}"
dead_letters_topic = "{dead}"
[checkpoint]
folder = "{folder}"
every_events = 100
[telemetry]
enabled = false
"""


@pytest.fixture(scope="module")
def topics(bootstrap):
    """Events in four partitions; labels 1-3 minutes later in two, a tenth lost, a twentieth doubled; and what is right.

    Lost labels come long after their event has been given up in some cases; a few records are no labels at all.
    """
    draw, began_ms = random.Random(7), int(time.time() * 1000) - 3_600_000
    events, labels = [], []
    right = dict.fromkeys(("joined", "duplicate", "late", "expired", "unmatched"), 0)
    for n in range(EVENTS):
        at, a, b = began_ms + n * APART_MS, round(draw.gauss(0, 1), 3), round(draw.gauss(0, 1), 3)
        events.append((n % 4, at, json.dumps({"id": f"e{n}", "a": a, "b": b}).encode()))
        delay = draw.randrange(60_000, 180_000)
        label = json.dumps({"id": f"e{n}", "y": int(a > b)}).encode()
        if n != 1400 and draw.random() < 0.1:
            right["expired"] += 1
            if draw.random() < 0.3:  # found again, too late
                labels.append((at + 1000 * WAIT_S + draw.randrange(1_000, 60_000), label))
                right["late"] += 1
            continue
        labels.append((at + delay, label))
        right["joined"] += 1
        if draw.random() < 0.05:
            labels.append((at + delay + draw.randrange(60_000), label))
            right["duplicate"] += 1
    bad = [b"{broken", b'{"y": 1}', b'{"id": "e5"}', b'{"id": "e1400", "y": "third"}']
    labels += [(began_ms + 1_000 + n, value) for n, value in enumerate(bad[:3])]
    labels.append((began_ms + 1400 * APART_MS + 1, bad[3]))  # the first label of its event, and no class of the target
    labels.append((began_ms + 2_000, b'{"id": "nobody", "y": 1}'))
    right["unmatched"] += 1
    labels.sort(key=lambda one: one[0])
    # time goes on until the last event is given up; a label that nobody waits for tells it
    end_ms = max(labels[-1][0], events[-1][1] + 1000 * WAIT_S + 1_000)
    names = helpers.topic(bootstrap, 4), helpers.topic(bootstrap, 2)
    writer = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.fill(writer, names[0], events)
    helpers.fill(writer, names[1], [(n % 2, at, value) for n, (at, value) in enumerate(labels)])
    helpers.fill(writer, names[1], [(0, end_ms, b'{"id": "the end", "y": 0}')])
    writer.close()
    return names, right, bad


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_broker_refuses_records_dated_far_ahead(bootstrap, client):
    """By itself more than an hour ahead, and as far as the topic's message.timestamp.after.max.ms says."""
    ahead_ms = int(time.time() * 1000) + 7_200_000
    for most_ms, taken in (("", False), ("14400000", True)):
        topic = helpers.topic(bootstrap, configs={"message.timestamp.after.max.ms": most_ms} if most_ms else {})
        writer = helpers.library(client, bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
        writer.produce(Outgoing(topic, b"{}", timestamp_ms=ahead_ms))
        settled = writer.settle(20.0)
        assert (len(settled.failed), settled.waiting) == (0 if taken else 1, 0)
        writer.close()


def run(bootstrap, folder, topics, name, *words, **variables):
    """Run to the end under a name of its own; returns how it ended, and its topics."""
    made = folder / f"{name}.toml"
    if not made.exists():
        out, dead = helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
        made.write_text(config(bootstrap, *topics[0], out, dead, name))
        (folder / f"{name}.topics").write_text(f"{out} {dead}")
    out, dead = (folder / f"{name}.topics").read_text().split()
    done = streamnn("run", made.name, "--quiet", *words, cwd=folder, **variables)
    return done, out, dead


@pytest.fixture(scope="module")
def whole(bootstrap, topics, tmp_path_factory):
    """The folder, report and topics of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("joined")
    done, out, dead = run(bootstrap, folder, topics, "whole", "--set", "output.report=whole.json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads((folder / "whole.json").read_text()), out, dead


def test_counts_are_exact(bootstrap, topics, whole):
    """Labels late by minutes, a tenth of them lost, a twentieth doubled: each count is right, and so is each letter."""
    (_, label_topic), right, bad = topics
    _, report, _, dead = whole
    # the event whose first label is unfit is joined, not learned; its right label is the second
    right = right | {"duplicate": right["duplicate"] + 1}
    told = report["labels"]
    assert {name: told[name] for name in right} == right
    assert told["events_waiting"] == 0
    assert told["labels_waiting"] == 1  # the one that ended it
    assert (told["early"], told["pushed_out"], told["repeated"], told["without_id"]) == (0, 0, 0, 0)
    assert report["events"] == EVENTS
    assert report["learned"] == right["joined"] - 1
    assert report["unlabelled"] == 0
    assert report["dropped"] == {"not_json": 1, "no_id": 1, "no_target": 1, "unfit_label": 1}
    letters = consumed(bootstrap, dead)
    assert sorted(letter.value for letter in letters) == sorted(bad)
    origins = [dict(letter.headers)["streamnn-topic"] for letter in letters]
    assert origins == [label_topic.encode()] * len(bad)
    assert report["metrics"]["accuracy"] > 0.75


def test_a_recording_holds_the_labels(bootstrap, topics, whole, monkeypatch):
    """Record and replay repeat the run: both topics are recorded, in one order."""
    folder, report, out, _ = whole
    monkeypatch.chdir(folder)
    assert main(["record", "whole.toml", "r.records.jsonl.gz", "--quiet"]) == 0
    words = ["--predictions", "p.jsonl", "--report", "replay.json", "--checkpoint", "ck-replay", "--quiet"]
    assert main(["replay", "r.records.jsonl.gz", "--config", "whole.toml", *words]) == 0
    own = ("seconds", "events_per_second", "config")  # of each run
    again = json.loads((folder / "replay.json").read_text())
    assert {k: v for k, v in again.items() if k not in own} == {k: v for k, v in report.items() if k not in own}
    a, b = weights(folder, "whole"), weights(folder, "ck-replay")
    assert all(bool((t == b[name]).all()) for name, t in a.items())
    live = {told["event"]: told["targets"]["y"] for told in (json.loads(r.value) for r in consumed(bootstrap, out))}
    told = ("prediction", "probabilities", "label")
    replayed = [[line[name] or None for name in told] for line in read_jsonl(folder / "p.jsonl")]
    assert replayed == [[live[number][name] or None for name in told] for number in range(EVENTS)]


@pytest.mark.heavy
def test_a_killed_run_comes_to_the_same(bootstrap, topics, whole):
    """Killed (-9) at five points in turn: counts, scores, weights and letters are those of the undisturbed run."""
    folder, report, out, _ = whole
    for point in POINTS:
        died, _, _ = run(bootstrap, folder, topics, "killed", STREAMNN_CRASH_AT=f"{point}:2")
        assert died.returncode == -signal.SIGKILL, (point, died.stderr)
    done, again, dead = run(bootstrap, folder, topics, "killed", "--set", "output.report=killed.json")
    assert done.returncode == 0, done.stderr
    killed = json.loads((folder / "killed.json").read_text())
    same = ("labels", "learned", "metrics", "dropped")
    assert {name: killed[name] for name in same} == {name: report[name] for name in same}
    a, b = weights(folder, "whole"), weights(folder, "killed")
    assert a.keys() == b.keys()
    assert all(a[name].equal(b[name]) for name in a)
    told = [sorted(json.dumps(json.loads(r.value)) for r in consumed(bootstrap, name)) for name in (out, again)]
    assert told[0] == told[1]
    assert len(told[0]) == EVENTS
    assert sorted(r.value for r in consumed(bootstrap, dead)) == sorted(topics[2])


def test_what_waits_is_bounded(bootstrap, topics, tmp_path):
    """With room for fewer events than wait at a time the oldest are given up and counted, and nothing else changes."""
    words = ["--set", "labels.max_pending=100", "--set", "output.report=r.json"]
    done, _, _ = run(bootstrap, tmp_path, topics, "few", *words)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "r.json").read_text())["labels"]
    assert told["pushed_out"] > EVENTS // 2
    assert told["joined"] + told["expired"] == EVENTS
    assert told["events_waiting"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "stream.id="], "labels.topic needs stream.id"),
        (["--set", "mode.batch=8"], "mode.batch is 8"),
        (["--set", "labels.delay_events=5"], "labels come when their record does"),
        (["--set", "labels.topic=nowhere"], "'nowhere' does not exist"),
    ],
)
def test_what_does_not_go_together_is_one_message(bootstrap, topics, tmp_path, words, message):
    """Settings that contradict a topic of labels, and one that is not there, stop the run before it starts."""
    done, _, _ = run(bootstrap, tmp_path, topics, "wrong", *words, "--set", "kafka.delivery=at_least_once")
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
