"""Where the clock or the network decided the order of records, what a run wrote gives it again, and the same predictions."""

import json
import random
import signal
import time

import pytest

from connectors.recording import RecordingReader
from pipeline.__main__ import main
from tests.integration import helpers
from tests.integration.runs import run
from tests.integration.test_kafka_run import consumed
from tests.pipeline.helpers import read_jsonl

TURNS, EACH = 12, 5  # how often events are written, when all before them are predicted, and how many
APART_MS = 1_000  # of stream time between two turns


def config(bootstrap, topics, *, order, delivery, client):
    """A run over topics that goes on for ever and waits for idle partitions hardly at all."""
    source, labels, out, dead = topics
    apart = f'[labels]\ntopic = "{labels}"\nwait_s = {TURNS * APART_MS / 4000}' if labels else ""
    return f"""
[stream]
source = "kafka:{source}"
targets = ["y"]
task = "binary"
classes = {{y = [0, 1]}}
kinds = {{a = "number", b = "number"}}
id = "id"
{apart}
[model]
preset = "single"
engine = "eager"
[kafka]
bootstrap_servers = "{bootstrap}"
client = "{client}"
model = "journal"
order = "{order}"
idle_wait_s = 0.02
delivery = "{delivery}"
predictions_topic = "{out}"
dead_letters_topic = "{dead}"
[checkpoint]
folder = "ck"
every_events = {EACH}
every_s = 0.3
[telemetry]
enabled = false
"""


def trickle(draw, *, apart):
    """What is written in each turn: rows (topic, partition, ms after the beginning, value), topic 0 events, 1 labels.

    A turn fills one partition of events, and often none or one of the labels, whose timestamps lie behind or before those of
    events that have been handled long since. Labels come a few turns after their event, some before it, some twice or never.
    """
    turns = [[] for _ in range(TURNS + 4)]
    for n in range(TURNS * EACH):
        turn, a, b = n // EACH, round(draw.gauss(0, 1), 3), round(draw.gauss(0, 1), 3)
        event = {"id": f"e{n}", "a": a, "b": b} | ({} if apart else {"y": int(a > b)})
        at_ms = APART_MS * (turn + 3) + 10 * n - draw.choice((0, 0, 2 * APART_MS))
        turns[turn].append((0, turn % 2, at_ms, json.dumps(event).encode()))
        if draw.random() < 0.05:
            turns[turn].append((0, turn % 2, at_ms, b"{broken"))
        for _ in range(draw.choice((0, 1, 1, 1, 2)) if apart else 0):
            late = draw.choice((-1, 0, 1, 1, 2, 3))
            value = draw.choice([{"id": f"e{n}", "y": int(a > b)}] * 9 + [{"id": f"e{n}", "y": "third"}])
            row = (1, draw.randrange(2), APART_MS * (turn + 3 + draw.choice((0, late))), json.dumps(value).encode())
            turns[max(turn + late, 0)].append(row)
            if draw.random() < 0.1:
                turns[max(turn + late, 0)].append((*row[:3], b"{broken"))
    return turns[:TURNS]


def lived(folder, bootstrap, topics, turns, crash_at):
    """Run while it trickles, killed at a point of the code and started again; returns the number of lives."""
    library = helpers.library("confluent-kafka", bootstrap)
    writer = library.writer(transactional_id="", transaction_timeout_s=60.0)
    reader = library.reader(group=helpers.fresh("check"), committed_only=True)
    reader.assign(dict.fromkeys(helpers.partitions(library, topics[2]), 0))
    began_ms, written, predicted, lives = int(time.time() * 1000) - 60_000, 0, set(), 1
    process = run(folder, STREAMNN_CRASH_AT=crash_at)

    def ready():
        for records in reader.poll(0.05, 1_000).values():
            predicted.update(json.loads(record.value)["event"] for record in records)
        return len(predicted) >= written or process.poll() is not None

    try:
        for rows in turns:
            for topic in (0, 1):
                mine = [(p, began_ms + at_ms, value) for which, p, at_ms, value in rows if which == topic]
                helpers.fill(writer, topics[topic], mine)
            written += EACH
            helpers.until(ready, 60.0)
            if process.poll() is not None:
                said, _ = process.communicate()
                assert process.returncode == -signal.SIGKILL, said
                process, lives = run(folder), lives + 1
                helpers.until(ready, 60.0)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.communicate()
        reader.close()
        writer.close()
    return lives


def recorded(folder, order):
    """The origins of what `streamnn record` writes in an order."""
    file = folder / f"{order}.records.jsonl"
    assert main(["record", "run.toml", file.name, "--order", order, "--quiet"]) == 0
    reader = RecordingReader(file)
    origins = []
    while some := reader.read(1_000):
        origins += [record.origin for record in some]
    reader.close()
    return origins


@pytest.mark.parametrize(
    ("apart", "order", "delivery", "client"),
    [
        pytest.param(True, "arrival", "at_least_once", "kafka-python", marks=pytest.mark.heavy),
        (True, "timestamp", "transactional", "kafka-python"),
        pytest.param(True, "arrival", "transactional", "confluent-kafka", marks=pytest.mark.heavy),
        pytest.param(True, "timestamp", "at_least_once", "confluent-kafka", marks=pytest.mark.heavy),
        pytest.param(False, "timestamp", "transactional", "confluent-kafka", marks=pytest.mark.heavy),
        pytest.param(False, "timestamp", "at_least_once", "confluent-kafka", marks=pytest.mark.heavy),
        pytest.param(False, "timestamp", "transactional", "kafka-python", marks=pytest.mark.heavy),
    ],
)
def test_a_run_whose_order_the_clock_made_is_repeated(bootstrap, tmp_path, monkeypatch, apart, order, delivery, client):
    """Killed (-9) and started again while events, and labels, trickle in: record and replay give its predictions."""
    draw = random.Random(5)
    labels = helpers.topic(bootstrap, 2) if apart else ""
    topics = helpers.topic(bootstrap, 2), labels, helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
    (tmp_path / "run.toml").write_text(config(bootstrap, topics, order=order, delivery=delivery, client=client))
    crash_at = "after_sink_flush:8" if delivery == "at_least_once" else "before_commit:4"
    assert lived(tmp_path, bootstrap, topics, trickle(draw, apart=apart), crash_at) == 2
    monkeypatch.chdir(tmp_path)
    handled, by_time = recorded(tmp_path, "handled"), recorded(tmp_path, "timestamp")
    assert [origin for origin in by_time if origin in set(handled)] != handled
    assert {origin.topic for origin in handled} == {topic for topic in topics[:2] if topic}
    words = ["--predictions", "p.jsonl", "--dead-letters", "d.jsonl", "--quiet"]
    assert main(["replay", "handled.records.jsonl", "--config", "run.toml", *words]) == 0
    # of repeats the last one counts
    written, buried = (sorted(consumed(bootstrap, name), key=lambda r: r.timestamp_ms) for name in topics[2:])
    assert (len(written) > TURNS * EACH) == (delivery == "at_least_once")  # what was not kept is there twice
    live = {one["event"]: one["targets"]["y"] for one in (json.loads(record.value) for record in written)}
    replayed = read_jsonl(tmp_path / "p.jsonl")
    assert len(live) == len(replayed) == TURNS * EACH
    for what in ("prediction", "probabilities", "label"):
        assert [live[n][what] or None for n in range(len(live))] == [line[what] or None for line in replayed]
    assert len({str(line["probabilities"]) for line in replayed}) > TURNS  # it has learned on the way
    of = ("streamnn-topic", "streamnn-partition", "streamnn-offset")
    letters = {tuple(map(dict(r.headers).get, of)): int(dict(r.headers)["streamnn-record"]) for r in buried}
    again = {line["position"] for line in read_jsonl(tmp_path / "d.jsonl")}
    assert again == {number for number in letters.values() if number < len(handled)} != set()
