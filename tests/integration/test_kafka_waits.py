"""A topic to which little comes: predictions do not wait for a full micro-batch, and a replay repeats where each ended."""

import json
import signal

import pytest

from connectors.kafka.client import Outgoing
from pipeline.__main__ import main
from tests.integration import helpers
from tests.integration.runs import config, named, run
from tests.integration.test_kafka_record import REPLAY, same
from tests.pipeline.helpers import read_jsonl, write_csv

BATCH = 64
KILLED = 4  # before this one of the groups
GROUPS = (1, 5, 1, 70, 3, 1)  # events that are written at once, when all before them are predicted


class Predicted:
    """Counts the events that have a prediction which readers of committed records see."""

    def __init__(self, bootstrap, topic):
        library = helpers.library("confluent-kafka", bootstrap)
        self.reader = library.reader(group=helpers.fresh("check"), committed_only=True)
        self.reader.assign(dict.fromkeys(helpers.partitions(library, topic), 0))
        self.events = set()

    def reach(self, events):
        """Wait until so many are predicted."""

        def enough():
            for records in self.reader.poll(0.05, 1_000).values():
                self.events |= {json.loads(record.value)["event"] for record in records}
            return len(self.events) >= events

        helpers.until(enough, 60.0)


@pytest.mark.parametrize(
    ("delivery", "order"),
    [("at_least_once", "handled"), pytest.param("transactional", "timestamp", marks=pytest.mark.heavy)],
)
def test_events_that_come_slowly_are_predicted_and_replayed(bootstrap, tmp_path, monkeypatch, delivery, order):
    """No event is written before those ahead of it are predicted; killed on the way, all is repeated bit for bit.

    In the order handled too where a run began at what comes (kafka.start = "latest"): what was there before is no part of it.
    """
    source, out, dead = helpers.topic(bootstrap), helpers.topic(bootstrap, 2), helpers.topic(bootstrap)
    text = config(bootstrap, source, out, dead, delivery=delivery).replace('until = "end"', 'until = "forever"')
    text = text.replace("[checkpoint]", f'start = "{"latest" if order == "handled" else "earliest"}"\n[checkpoint]')
    text = text.replace("every_events = 50", "every_events = 50\nevery_s = 0.3")
    text = text.replace('preset = "single"', 'preset = "single"\nengine = "eager"')  # nothing to compile for each size
    text += f'[mode]\nbatch = {BATCH}\nmax_wait_ms = 30\n[output]\nreport = "live.json"\n'
    (tmp_path / "run.toml").write_text(text)
    names, *lines = (line.split(",") for line in write_csv(tmp_path / "s.csv", sum(GROUPS)))
    values = [json.dumps(dict(zip(names, [*map(float, x), int(y)], strict=True))).encode() for *x, y in lines]
    writer = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    predicted, written = Predicted(bootstrap, out), 0
    if order == "handled":
        helpers.fill(writer, source, [(0, 1_000, values[0])] * 3)
    process = run(tmp_path)
    try:
        helpers.until(lambda: any(tmp_path.glob("ck-*/checkpoint-*")), 60.0)
        for turn, count in enumerate(GROUPS):
            if turn == KILLED:
                process.kill()
                process.communicate()
                process = run(tmp_path)
            for value in [*values[written : written + count], *([b"{broken"] if turn == 1 else [])]:
                writer.produce(Outgoing(source, value))
            assert writer.settle(20.0).waiting == 0
            written += count
            predicted.reach(written)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 0, said
    finally:
        process.kill()
        process.communicate()
        predicted.reader.close()
        writer.close()
    monkeypatch.chdir(tmp_path)
    assert named(tmp_path, "predictions_topic") == out
    assert main(["record", "run.toml", "r.records.jsonl", "--order", order, "--quiet"]) == 0
    ends = [line["offset"] for line in read_jsonl(tmp_path / "r.records.jsonl") if line.get("cut")]
    assert len(ends) >= len(GROUPS) - KILLED  # what was lost with the kill may have been cut otherwise
    assert main(["replay", "r.records.jsonl", "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)
    assert len(read_jsonl(tmp_path / "p.jsonl")) == sum(GROUPS)
