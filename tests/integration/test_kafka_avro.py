"""Avro records of a topic, plain and framed with the number of a registry's schema: learned, recorded, replayed."""

import io
import json
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fastavro
import pytest

from connectors.kafka.client import Outgoing
from pipeline.__main__ import main
from tests.integration import helpers, runs
from tests.integration.test_kafka_faults import Live, stops
from tests.integration.test_kafka_record import REPLAY, configured, same, written
from tests.pipeline.helpers import write_csv

EVENTS, NUMBER, OTHER = 120, 7, 8
SCHEMA = {
    "type": "record",
    "name": "Reading",
    "fields": [{"name": f"f{i}", "type": ["null", "double"]} for i in range(3)]
    + [{"name": "y", "type": ["null", "int"]}],
}


@pytest.fixture
def registry():
    """A registry that has a schema under two numbers; it gives its address, what it was asked, and its answers' status."""
    asked, status = [], {NUMBER: 200, OTHER: 200}

    class Registry(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = json.dumps({"schema": json.dumps(SCHEMA)}).encode()
            self.send_response(status.get(int(self.path.rpartition("/")[2]), 404))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked, status
        server.shutdown()
        thread.join()


def datum(event):
    """An event as Avro."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(SCHEMA), event)
    return out.getvalue()


def topic(folder, bootstrap, frame=b""):
    """A topic of two partitions with events, one without a label and one without an input, and with records that are none."""
    names, *lines = (line.split(",") for line in write_csv(folder / "s.csv", EVENTS))
    made = [dict(zip(names, [*map(float, x), int(y)], strict=True)) for *x, y in lines]
    made[3]["y"] = made[5]["f1"] = None
    values = [frame + datum(event) for event in made]
    values[40:40] = [b"", frame + b"\x02\x00", values[0] + b"more", None, b"\x00\x00\x00\x00\x63" + datum(made[0])]
    began_ms = int(time.time() * 1000)

    def record(n, value):
        return lambda name: Outgoing(name, value, b"k", partition=n % 2, timestamp_ms=began_ms + n)

    return written(bootstrap, 2, [record(n, value) for n, value in enumerate(values)])


def avro(folder, **settings):
    """Have the configuration read Avro."""
    lines = "".join(f'{name} = "{value}"\n' for name, value in {"format": "avro", **settings}.items())
    text = (folder / "run.toml").read_text()
    (folder / "run.toml").write_text(text.replace("[kafka]\n", f"[kafka]\n{lines}", 1))


def framed_topic(folder, bootstrap, url):
    """A topic whose records name schemas of a registry, and a configuration; returns the topic, and that of dead letters."""
    source = topic(folder, bootstrap, struct.pack(">bI", 0, NUMBER))
    _, dead = configured(folder, bootstrap, source, delivery="transactional")
    avro(folder, registry_url=url)
    return source, dead


@pytest.mark.parametrize("framed", [False, True])
def test_avro_records_are_learned_and_replayed(bootstrap, registry, tmp_path, monkeypatch, framed):
    """What is no datum is a dead letter with its reason; record and replay repeat the run bit for bit."""
    url, asked, _ = registry
    source = topic(tmp_path, bootstrap, struct.pack(">bI", 0, NUMBER) if framed else b"")
    out, dead = configured(tmp_path, bootstrap, source, delivery="transactional")
    (tmp_path / "reading.avsc").write_text(json.dumps(SCHEMA))
    avro(tmp_path, **({"registry_url": url} if framed else {"avro_schema": "reading.avsc"}))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "run.toml", "--quiet"]) == 0
    report = json.loads((tmp_path / "live.json").read_text())
    assert (report["events"], report["unlabelled"]) == (EVENTS, 1)
    if framed:
        assert report["dropped"] == {"not_framed": 1, "not_avro": 2, "tombstone": 1, "unknown_schema": 1}
        assert sorted(asked) == [f"/schemas/ids/{NUMBER}", "/schemas/ids/99"]
    else:
        assert report["dropped"] == {"not_avro": 4, "tombstone": 1}
    assert main(["record", "run.toml", "r.records.jsonl", "--quiet"]) == 0
    assert main(["replay", "r.records.jsonl", "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)


def test_a_registry_that_refuses_ends_the_run(bootstrap, registry, tmp_path, monkeypatch):
    """The message names the registry, nothing is a dead letter, and the next run goes on from the same record."""
    url, _, status = registry
    _, dead = framed_topic(tmp_path, bootstrap, url)
    status[NUMBER] = 401
    assert f"the schema registry at {url} refuses" in stops(tmp_path, 1)
    library = helpers.library("confluent-kafka", bootstrap)
    assert helpers.everything(library, dead) == []
    status[NUMBER] = 200
    monkeypatch.chdir(tmp_path)
    assert main(["run", "run.toml", "--quiet"]) == 0
    assert len(helpers.everything(library, dead)) == 5


def test_a_registry_that_is_away_is_waited_for(bootstrap, registry, tmp_path, monkeypatch):
    """Meanwhile the process is alive, says so, and ends well when it is told to; nothing is lost, and nothing a dead letter."""
    url, asked, status = registry
    source, dead = framed_topic(tmp_path, bootstrap, url)
    status[OTHER] = 503
    frame = struct.pack(">bI", 0, OTHER)
    more = [frame + datum({"f0": float(i), "f1": 1.0, "f2": None, "y": i % 2}) for i in range(10)]
    late = int(time.time() * 1000) + 1000
    records = [Outgoing(source, v, b"k", partition=i % 2, timestamp_ms=late + i) for i, v in enumerate(more)]
    live = Live(tmp_path)
    try:
        live.until(lambda: live.metric("streamnn_events_total") >= EVENTS)
        runs.write(bootstrap, source, records)
        live.until(lambda: asked.count(f"/schemas/ids/{OTHER}") >= 2)
        live.until(lambda: live.metric("streamnn_consumer_unreachable_seconds") > 0.3)
        live.stop()
    finally:
        live.close()
    assert f"the schema registry at {url} does not answer (HTTP Error 503" in live.said
    status[OTHER] = 200
    monkeypatch.chdir(tmp_path)
    assert main(["run", "run.toml", "--quiet"]) == 0
    assert json.loads((tmp_path / "live.json").read_text())["events"] == EVENTS + len(more)
    library = helpers.library("confluent-kafka", bootstrap)
    assert len(helpers.everything(library, dead)) == 5
