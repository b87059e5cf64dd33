"""`streamnn produce` on a real broker, and the whole way: produce, run, record, replay."""

import json
import os
import signal
import threading
import time

import pytest

from connectors.recording import Heading, RecordingWriter
from connectors.records import Origin, Record
from pipeline.__main__ import main
from pipeline.produce import Pace
from pipeline.settings import SettingsError
from tests.integration import helpers
from tests.integration.test_kafka_record import REPLAY, configured, read, same
from tests.recorded import stream


def everything(bootstrap, topic):
    """The records of a topic, partition by partition."""
    return helpers.everything(helpers.library("kafka-python", bootstrap), topic)


def made(folder, name="s.csv", rows=40):
    """A small file of readings, a second apart."""
    lines = [f"{i}.5,m{i % 3},2026-01-01T00:00:{i:02d}" for i in range(rows)]
    (folder / name).write_text("\n".join(["v,machine,at", *lines]) + "\n")
    return str(folder / name)


def test_a_file_is_produced_in_turn_with_rising_timestamps(bootstrap, tmp_path, capsys):
    """Without a key records go to the partitions in turn, and timestamps keep the order of the file across them."""
    topic, began_ms = helpers.topic(bootstrap, 4), int(time.time() * 1000)
    assert main(["produce", made(tmp_path), topic, "--bootstrap-servers", bootstrap]) == 0
    assert f"40 records into {topic} (4 partitions)" in capsys.readouterr().out
    found = everything(bootstrap, topic)
    assert [r.origin.partition for r in found] == [p for p in range(4) for _ in range(10)]
    ordered = sorted(found, key=lambda r: r.timestamp_ms)
    assert [json.loads(r.value)["v"] for r in ordered] == [i + 0.5 for i in range(40)]
    assert len({r.timestamp_ms for r in found}) == 40
    assert began_ms <= ordered[0].timestamp_ms <= ordered[-1].timestamp_ms <= time.time() * 1000 + 40


def test_keys_and_event_times_are_taken_from_fields(bootstrap, tmp_path):
    """Records of one key share a partition, in order; timestamps are the event times where that is asked for."""
    topic = helpers.topic(bootstrap, 4)
    words = [
        "--key",
        "machine",
        "--moment",
        "at",
        "--timestamps",
        "original",
        "--skip",
        "3",
        "--limit",
        "30",
        "--quiet",
    ]
    assert main(["produce", made(tmp_path), topic, "--bootstrap-servers", bootstrap, *words]) == 0
    found = everything(bootstrap, topic)
    assert sorted(json.loads(r.value)["v"] for r in found) == [i + 0.5 for i in range(3, 33)]
    for machine in (b"m0", b"m1", b"m2"):
        mine = [r for r in found if r.key == machine]
        assert len({r.origin.partition for r in mine}) == 1
        assert [r.timestamp_ms for r in mine] == sorted(r.timestamp_ms for r in mine)
    assert {r.timestamp_ms for r in found} == {1767225600000 + 1000 * i for i in range(3, 33)}


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_recording_is_produced_as_it_was(bootstrap, tmp_path, capsys, client):
    """Bytes, keys, headers, timestamps and partition numbers stay; what a library cannot write is told."""
    began_ms = int(time.time() * 1000)
    kept = [
        Record(b"\xff", b"k", (("h", b"1"), ("h", b"")), began_ms, Origin("old", 2, 5)),
        Record(None, b"k", (), began_ms + 1, Origin("old", 2, 6)),
        Record(b"{}", None, (), began_ms + 1, Origin("old", 5, 0)),
    ]
    hard = Record(None, None, (("h", None),), began_ms + 2, Origin("old", 0, 0))
    path, topic = tmp_path / "r.records.jsonl", helpers.topic(bootstrap, 3)
    with RecordingWriter(path, Heading("old", "", "timestamp", ())) as writer:
        writer.write([*kept, hard])
        writer.finish()
    words = ["produce", str(path), topic, "--bootstrap-servers", bootstrap, "--set", f"kafka.client={client}"]
    assert main([*words, "--rate", "original", "--limit", "3", "--quiet"]) == 0
    found = everything(bootstrap, topic)
    assert [(r.value, r.key, r.headers, r.timestamp_ms) for r in found] == [
        (r.value, r.key, r.headers, r.timestamp_ms) for r in kept
    ]
    assert [r.origin.partition for r in found] == [2, 2, 2]
    if client == "kafka-python":
        assert main([*words, "--skip", "3"]) == 1
        assert "kafka-python writes no record without key and value" in capsys.readouterr().err
    else:
        assert main([*words, "--skip", "3", "--quiet"]) == 0
        assert everything(bootstrap, topic)[0].headers == (("h", None),)
    assert main([*words, "--timestamps", "now", "--limit", "1", "--quiet"]) == 0
    assert everything(bootstrap, topic)[-1].timestamp_ms > began_ms


def test_rates_are_kept(bootstrap, tmp_path):
    """Records come no faster than asked for, by a rate or by their event times."""
    topic, file = helpers.topic(bootstrap, 1), made(tmp_path)
    for words in (["--rate", "40"], ["--rate", "40x", "--moment", "at"]):
        began_s = time.monotonic()
        assert main(["produce", file, topic, "--bootstrap-servers", bootstrap, "--quiet", *words]) == 0
        assert time.monotonic() - began_s >= 39 / 40


def test_paces():
    """A rate counts records, a pace counts the stream's own time, and anything else is refused."""
    assert [Pace.parse("200").due_s(n, 77) for n in (0, 1, 400)] == [0.0, 0.005, 2.0]
    assert [Pace.parse("original").due_s(9, ms) for ms in (0, 1500, -10)] == [0.0, 1.5, -0.01]
    assert Pace.parse("60x").due_s(9, 60_000) == 1.0
    assert Pace.parse("max").due_s(10**9, 10**9) == 0.0
    for wrong in ("0", "-1", "fast", "x", "nan", "inf", "0x"):
        with pytest.raises(SettingsError, match="--rate is"):
            Pace.parse(wrong)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_producer_says_where_to_go_on(bootstrap, tmp_path, capsys, number):
    """What was produced is acknowledged, the exit code tells of the signal, and the rest can be produced later."""
    topic, file = helpers.topic(bootstrap, 2), made(tmp_path)

    def interrupt():
        client = helpers.library("kafka-python", bootstrap)
        helpers.until(lambda: len(helpers.everything(client, topic)) >= 3, 60.0)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    words = ["produce", file, topic, "--bootstrap-servers", bootstrap]
    assert main([*words, "--rate", "0.5x", "--moment", "at"]) == 128 + number
    thread.join()
    told = capsys.readouterr().err
    count = len(everything(bootstrap, topic))
    assert f"stopped after {count} records; --skip {count} goes on behind them" in told
    assert main([*words, "--skip", str(count), "--quiet"]) == 0
    found = sorted(everything(bootstrap, topic), key=lambda r: r.timestamp_ms)
    assert [json.loads(r.value)["v"] for r in found] == [i + 0.5 for i in range(40)]
    assert [r.origin.partition for r in found] == [0, 1] * 20


def test_wrong_productions_are_one_message(bootstrap, tmp_path, capsys):
    """Nothing is produced where a word is wrong, the file or topic is missing, or no broker answers."""
    file, topic = made(tmp_path), helpers.topic(bootstrap, 1)

    def told(*words, stream=file, to=topic, server=bootstrap):
        assert main(["produce", stream, to, "--bootstrap-servers", server, *words]) == 2
        return capsys.readouterr().err

    assert "--rate is 'quick'" in told("--rate", "quick")
    assert "--rate original needs --moment FIELD" in told("--rate", "original")
    assert "--timestamps original needs --moment FIELD" in told("--timestamps", "original")
    assert "'x' is not a field of" in told("--key", "x")
    assert "does not exist. Did you mean s.csv" in told(stream=str(tmp_path / "ss.csv"))
    assert "'nowhere' does not exist in the cluster" in told(to="nowhere")
    assert "127.0.0.1:1" in told("--set", "kafka.start_wait_s=1", server="127.0.0.1:1")
    assert everything(bootstrap, topic) == []


def test_a_stream_that_breaks_off_leaves_what_came_before(bootstrap, tmp_path, capsys):
    """A damaged recording is produced up to the damage; message and exit code tell."""
    path, topic = tmp_path / "r.records.jsonl", helpers.topic(bootstrap, 1)
    with RecordingWriter(path, Heading("old", "", "timestamp", ())) as writer:
        writer.write([Record(b"%d" % i, timestamp_ms=i, origin=Origin("old", 0, i)) for i in range(5)])
        writer.finish()
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    assert main(["produce", str(path), topic, "--bootstrap-servers", bootstrap, "--timestamps", "now"]) == 1
    told = capsys.readouterr().err
    assert "r.records.jsonl, line 5: the file ends here" in told
    assert "3 records were produced before" in told
    assert [r.value for r in everything(bootstrap, topic)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("rows", [1500, pytest.param(45_312, marks=pytest.mark.heavy)])
def test_elec2_from_a_file_to_a_topic_and_back(bootstrap, tmp_path, monkeypatch, rows):
    """Produced into four partitions, learned, recorded and replayed: predictions, metrics and weights stay the same."""
    topic = helpers.topic(bootstrap, 4)
    out, dead = configured(tmp_path, bootstrap, topic)
    text = (tmp_path / "run.toml").read_text().replace('"y"', '"class"').replace("y = [0, 1]", 'class = ["DOWN", "UP"]')
    fields = ("date", "day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    kinds = ", ".join(f'{name} = "number"' for name in fields)
    text = "\n".join(f"kinds = {{{kinds}}}" if line.startswith("kinds") else line for line in text.splitlines()) + "\n"
    (tmp_path / "run.toml").write_text(text.replace("every_events = 50", "every_events = 10000"))
    monkeypatch.chdir(tmp_path)
    words = ["--config", "run.toml", "--limit", str(rows), "--quiet"]
    assert main(["produce", str(stream("elec2")), topic, *words]) == 0
    assert main(["run", "run.toml", "--quiet"]) == 0
    assert main(["record", "run.toml", "elec2.records.jsonl.gz", "--quiet"]) == 0
    heading, records = read(tmp_path / "elec2.records.jsonl.gz")
    assert ([s.until for s in heading.partitions], len(records)) == ([rows // 4] * 4, rows)
    assert main(["replay", "elec2.records.jsonl.gz", "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, topic, out, dead, target="class")
    # the order of the file survives the four partitions: so does what is learned from it
    flags = ["--target", "class", "--task", "binary", "--limit", str(rows), "--set", "model.preset=single", "--quiet"]
    assert main(["replay", str(stream("elec2")), *flags, "--report", "file.json"]) == 0
    one, two = (json.loads((tmp_path / name).read_text())["metrics"] for name in ("live.json", "file.json"))
    assert one == two
