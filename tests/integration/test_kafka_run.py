"""`streamnn run` from topic to topic: the predictions and weights of a replay, exactly once, whatever kills it."""

import json
from datetime import UTC, datetime

import pytest
import torch

from connectors.kafka.client import Partition
from pipeline.checkpoint import CheckpointStore
from tests.integration import helpers
from tests.integration.runs import POISON, config, spread, write
from tests.pipeline.helpers import read_jsonl, streamnn, write_csv

EVENTS = 900


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """The events as JSON lines in the order of their timestamps, with a few malformed ones, and their replay."""
    folder = tmp_path_factory.mktemp("run")
    lines = write_csv(folder / "s.csv", EVENTS)
    names = lines[0].split(",")
    values = []
    for line in lines[1:]:
        *features, label = line.split(",")
        event = dict(zip(names, [*map(float, features), int(label)], strict=True))
        values.append(json.dumps(event).encode())
    for i, bad in enumerate(POISON):
        values.insert(100 + 150 * i, bad)
    (folder / "s.jsonl").write_bytes(b"".join(value + b"\n" for value in values))
    streamnn(
        "replay", "s.jsonl", "--target", "y", "--task", "binary", "--predictions", "p.jsonl", "--checkpoint", "ck",
        "--set", "model.preset=single", "--set", "stream.kinds={f0='number',f1='number',f2='number'}",
        cwd=folder, check=0,
    )  # fmt: skip
    return folder, values


def produced(bootstrap, values):
    """A topic of four partitions that holds the values with rising timestamps, spread over the partitions."""
    name = helpers.topic(bootstrap, 4)
    write(bootstrap, name, spread(values))
    return name


def consumed(bootstrap, topic):
    """The committed records of a topic."""
    reader = helpers.library("confluent-kafka", bootstrap).reader(group=helpers.fresh("check"), committed_only=True)
    partitions = [Partition(topic, n) for n in reader.partitions(topic, timeout_s=10.0)]
    ends = reader.end(partitions, timeout_s=10.0)
    reader.assign(dict.fromkeys(partitions, 0))
    records = []
    while any(reader.position(p) < ends[p] for p in partitions):
        for some in reader.poll(1.0, 1000).values():
            records += some
    reader.close()
    return records


def weights(folder, name):
    """What the newest checkpoint of a folder has learned."""
    state = CheckpointStore(folder / name).latest().state
    return {f"{part}.{n}": t for part, ts in state["learner"]["tensors"].items() for n, t in ts.items()}


def check(folder, bootstrap, source, out, dead, *, once):
    """Compare topics and weights with those of the replay."""
    want = {line["position"]: line for line in read_jsonl(folder / "p.jsonl")}
    got = [json.loads(record.value) for record in consumed(bootstrap, out)]
    numbers = [line["event"] for line in got]
    if once:
        assert sorted(numbers) == list(range(EVENTS))
    assert set(numbers) == set(range(EVENTS))
    served = {line["event"]: line["targets"]["y"] for line in got}
    for event, line in enumerate(sorted(want.values(), key=lambda line: line["position"])):
        assert served[event]["prediction"] == line["prediction"]
        assert served[event]["probabilities"] == (line["probabilities"] or {})
    letters = consumed(bootstrap, dead)
    if once:
        assert len(letters) == len(POISON)
    assert {letter.value for letter in letters} == set(POISON)
    a, b = weights(folder, "ck"), weights(folder, f"ck-{source}")
    assert a.keys() == b.keys()
    assert all(torch.equal(t, b[name]) for name, t in a.items())


@pytest.mark.parametrize("delivery", ["at_least_once", "transactional"])
def test_topic_to_topic_equals_a_replay(bootstrap, recorded, delivery):
    """Four partitions merged by timestamp give the predictions, dead letters and weights of a replay, bit for bit."""
    folder, values = recorded
    source = produced(bootstrap, values)
    out, dead = helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
    (folder / f"{source}.toml").write_text(config(bootstrap, source, out, dead, delivery=delivery))
    streamnn("run", f"{source}.toml", "--quiet", cwd=folder, check=0)
    check(folder, bootstrap, source, out, dead, once=True)


def test_checkpoints_without_committed_positions_are_a_loud_stop(bootstrap, recorded):
    """A mistyped group does not begin afresh beside old checkpoints. The first start began where kafka.start said."""
    folder, values = recorded
    source, records = helpers.topic(bootstrap, 4), spread(values[:50])
    write(bootstrap, source, records)
    out, dead = helpers.topic(bootstrap, 1), helpers.topic(bootstrap, 1)
    (folder / f"{source}.toml").write_text(config(bootstrap, source, out, dead, delivery="transactional"))
    start = datetime.fromtimestamp(records[30].timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    streamnn("run", f"{source}.toml", "--quiet", "--set", f"kafka.start={start}", cwd=folder, check=0)
    found = [dict(record.headers) for record in consumed(bootstrap, out)]
    places = sorted((int(one["streamnn-partition"]), int(one["streamnn-offset"])) for one in found)
    of = [record.partition for record in records]
    assert places == sorted((of[at], of[:at].count(of[at])) for at in range(30, 50))
    more = ["--set", "kafka.group=mistyped", "--quiet"]
    assert "no positions are committed" in streamnn("run", f"{source}.toml", *more, cwd=folder, check=2).stderr


def test_wrong_starts_are_one_message(bootstrap, recorded):
    """A missing topic, no task, no folder, and a cluster out of reach each stop with one message."""
    folder, _ = recorded
    text = config(bootstrap, "nowhere", helpers.topic(bootstrap), helpers.topic(bootstrap), delivery="at_least_once")
    (folder / "wrong.toml").write_text(text)

    def told(*words):
        return streamnn("run", "wrong.toml", "--quiet", *words, cwd=folder, check=2).stderr

    assert "nowhere" in told()
    assert "so its kind is not known" in told("--set", "stream.task=auto")
    assert "checkpoint.folder" in told("--set", "checkpoint.folder=")
    away = told("--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "kafka.start_wait_s=2")
    assert "127.0.0.1:1" in away
    assert "Traceback" not in away
