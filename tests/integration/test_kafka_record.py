"""A topic is recorded, and the replay of the recording repeats the live run bit for bit."""

import json
import os
import re
import signal
import threading
import time

import pytest

from connectors import Origin, Record
from connectors.kafka.client import Outgoing
from connectors.recording import RecordingReader, Stretch
from pipeline.__main__ import main
from tests.integration import helpers
from tests.integration.runs import POISON, config
from tests.integration.test_kafka_run import consumed, weights
from tests.pipeline.helpers import read_jsonl, streamnn, write_csv

EVENTS = 400
OWN = ("seconds", "events_per_second", "config", "interrupted")  # of a report, what is each run's own


def read(path):
    """The heading and all records of a recording."""
    reader = RecordingReader(path)
    records = []
    while some := reader.read(1000):
        records += some
    reader.close()
    return reader.heading, records


def events(folder, count=EVENTS):
    """Events as JSON, with malformed ones among them."""
    names, *lines = (line.split(",") for line in write_csv(folder / "s.csv", count))
    made = [json.dumps(dict(zip(names, [*map(float, x), int(y)], strict=True))).encode() for *x, y in lines]
    for i, bad in enumerate(POISON):
        made.insert(30 + 60 * i, bad)
    return made


def written(bootstrap, partitions, records):
    """A topic that holds records."""
    name = helpers.topic(bootstrap, partitions)
    writer = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    for record in records:
        writer.produce(record(name))
    assert writer.settle(20.0).waiting == 0
    writer.close()
    return name


def configured(folder, bootstrap, source, *, delivery="at_least_once"):
    """A configuration with topics of its own; returns those of predictions and dead letters."""
    out, dead = helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
    text = config(bootstrap, source, out, dead, delivery=delivery)
    (folder / "run.toml").write_text(text + '[output]\nreport = "live.json"\n')
    return out, dead


def same(folder, bootstrap, source, out, dead, *, target="y"):
    """Compare a live run with a replay that wrote p.jsonl, d.jsonl, replay.json and ck-replay."""
    written = sorted(consumed(bootstrap, out), key=lambda r: r.timestamp_ms)  # of repeats the last one counts
    live = {json.loads(r.value)["event"]: json.loads(r.value)["targets"][target] for r in written}
    replayed = read_jsonl(folder / "p.jsonl")
    assert [live[n]["prediction"] for n in range(len(live))] == [line["prediction"] for line in replayed]
    assert [live[n]["probabilities"] for n in range(len(live))] == [line["probabilities"] or {} for line in replayed]
    buried = sorted(consumed(bootstrap, dead), key=lambda r: r.timestamp_ms)
    last = {int(dict(r.headers)["streamnn-record"]): r for r in buried}
    letters = [last[number] for number in sorted(last)]
    again = read_jsonl(folder / "d.jsonl")
    assert [line["position"] for line in again] == [int(dict(r.headers)["streamnn-record"]) for r in letters]
    assert [line["reason"] for line in again] == [dict(r.headers)["streamnn-reason"].decode() for r in letters]
    assert [line["origin"]["offset"] for line in again] == [int(dict(r.headers)["streamnn-offset"]) for r in letters]
    one, two = (json.loads((folder / name).read_text()) for name in ("live.json", "replay.json"))
    assert {k: v for k, v in one.items() if k not in OWN} == {k: v for k, v in two.items() if k not in OWN}
    a, b = weights(folder, f"ck-{source}"), weights(folder, "ck-replay")
    assert a.keys() == b.keys()
    assert all(bool((t == b[name]).all()) for name, t in a.items())


REPLAY = (
    "--predictions",
    "p.jsonl",
    "--dead-letters",
    "d.jsonl",
    "--report",
    "replay.json",
    "--checkpoint",
    "ck-replay",
)


@pytest.mark.parametrize(("partitions", "ending", "delivery"), [(1, "", "at_least_once"), (4, ".gz", "transactional")])
def test_a_replay_repeats_the_live_run(bootstrap, tmp_path, monkeypatch, capsys, partitions, ending, delivery):
    """In timestamp order a recording gives predictions, dead letters, metrics and weights of the live run again."""
    began_ms = int(time.time() * 1000)

    def record(i, value):
        return lambda name: Outgoing(name, value, partition=(i * 7) % partitions, timestamp_ms=began_ms + i // 3)

    source = written(bootstrap, partitions, [record(i, value) for i, value in enumerate(events(tmp_path))])
    out, dead = configured(tmp_path, bootstrap, source, delivery=delivery)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "run.toml", "--quiet"]) == 0
    file = f"r.records.jsonl{ending}"
    assert main(["record", "run.toml", file]) == 0
    assert f"{EVENTS + len(POISON)} records of {source}" in capsys.readouterr().out
    assert main(["replay", file, "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)
    assert len(consumed(bootstrap, out)) == EVENTS  # the replay has written nothing there


@pytest.mark.parametrize("delivery", ["at_least_once", "transactional"])
def test_micro_batches_are_repeated(bootstrap, tmp_path, monkeypatch, delivery):
    """Killed between, a run in full micro-batches is repeated bit for bit; what did not fill one is not yet predicted."""
    source = spread(tmp_path, bootstrap, 200)
    out, dead = configured(tmp_path, bootstrap, source, delivery=delivery)
    (tmp_path / "run.toml").write_text((tmp_path / "run.toml").read_text() + "[mode]\nbatch = 16\n")
    monkeypatch.chdir(tmp_path)
    died = streamnn("run", "run.toml", "--quiet", cwd=tmp_path, STREAMNN_CRASH_AT="after_rename:3")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert main(["run", "run.toml", "--quiet"]) == 0
    assert main(["record", "run.toml", "r.records.jsonl", "--quiet"]) == 0
    # a run with transactions leaves the 8 events that fill no micro-batch to the next one; a replay does if told where to stop
    whole = [] if delivery == "at_least_once" else ["--limit", "192"]
    assert main(["replay", "r.records.jsonl", "--config", "run.toml", *REPLAY, *whole, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)


def test_a_run_that_begins_at_offsets(bootstrap, tmp_path, monkeypatch, capsys):
    """It reads from there, a partition that is not named from its beginning; what is recorded begins where it did."""
    source = spread(tmp_path, bootstrap, 80, partitions=3)
    out, dead = configured(tmp_path, bootstrap, source)
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace("[kafka]\n", '[kafka]\nstart = "0:5,2:20"\n'))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "run.toml", "--quiet"]) == 0
    assert main(["record", "run.toml", "r.records.jsonl", "--quiet"]) == 0
    heading, records = read(tmp_path / "r.records.jsonl")
    assert [stretch.first for stretch in heading.partitions] == [5, 0, 20]
    assert len(records) == 80 + len(POISON) - 25
    assert main(["replay", "r.records.jsonl", "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)
    more = ["--set", "checkpoint.folder=other", "--set"]
    assert main(["run", "run.toml", *more, "kafka.start=3:0"]) == 2
    assert "has partitions [0, 1, 2], and not [3]" in capsys.readouterr().err
    assert main(["run", "run.toml", *more, "kafka.start=0:5", "--set", "kafka.partitions=[1,2]"]) == 2
    assert "kafka.start names partitions [0]" in capsys.readouterr().err


@pytest.fixture
def odd(bootstrap, tmp_path):
    """A configuration for a topic of two partitions with records of every kind; its name, and when it begins."""
    began_ms = int(time.time() * 1000)
    rows = [
        (0, 0, b"{}", b"key", (("h", b"1"), ("h", b""))),
        (1, 5, None, b"gone", ()),
        (1, 5, b"\xff\x00", None, (("bytes", b"\xff"),)),
        (0, 9, b"", b"", ()),
        (0, 7, "\u00e4\n".encode(), None, ()),
        (1, 20, b"last", None, ()),
    ]
    records = [
        lambda name, row=row: Outgoing(name, row[2], row[3], row[4], partition=row[0], timestamp_ms=began_ms + row[1])
        for row in rows
    ]
    source = written(bootstrap, 2, records)
    configured(tmp_path, bootstrap, source)
    offsets, wanted = [0, 0], []
    for partition, after, value, key, headers in rows:
        wanted.append(Record(value, key, headers, began_ms + after, Origin(source, partition, offsets[partition])))
        offsets[partition] += 1
    return source, began_ms, wanted


def recorded(folder, *words):
    """The heading and records that `streamnn record` writes."""
    file = folder / "odd.records.jsonl"
    file.unlink(missing_ok=True)
    assert main(["record", str(folder / "run.toml"), str(file), *words]) == 0
    return read(file)


def test_every_kind_of_record_is_kept(odd, tmp_path, capsys):
    """Tombstones, empty values, keys, headers and broken text come as they are, in the order of timestamps."""
    source, _, wanted = odd
    heading, records = recorded(tmp_path)
    # partition 0 goes back in time at its third record, which stays behind its second
    assert records == wanted
    assert (heading.topic, heading.order) == (source, "timestamp")
    assert heading.partitions == (Stretch(source, 0, 0, 3), Stretch(source, 1, 0, 3))
    assert f"6 records of {source}, in the order of their timestamps" in capsys.readouterr().out


def test_what_may_not_be_as_the_run_handled_it_is_told(odd, bootstrap, tmp_path, capsys):
    """Several partitions in an order that nobody chose, and a run that began at the latest record; not where one chose."""
    order, began = "partitions are recorded in the order of their timestamps", "kafka.start is latest"
    latest = ("--set", "kafka.start=latest")

    def said(*words):
        recorded(tmp_path, *words)
        return re.findall(r"^streamnn: (.*)$", capsys.readouterr().err, re.MULTILINE)

    one, two = said(*latest)
    assert f"2 {order}" in one
    assert began in two
    assert all("--order handled takes what it handled from its predictions" in line for line in (one, two))
    assert said("--order", "timestamp") == []
    assert said(*latest, "--quiet") == []
    assert [f"2 {order}" in line for line in said(*latest, "--from", "0:1")] == [True]
    one, two = said(*latest, "--set", f"labels.topic={helpers.topic(bootstrap)}")
    assert f"3 {order}" in one
    assert "--order handled" not in one + two
    alone = written(bootstrap, 1, [lambda name: Outgoing(name, b"{}")])
    assert said("--set", f"stream.source=kafka:{alone}") == []


def test_a_range_is_recorded(odd, tmp_path):
    """Offsets and moments bound what is recorded, each partition by itself."""
    source, began_ms, wanted = odd
    heading, records = recorded(tmp_path, "--from", "1:1", "--until", "0:2")
    assert records == [wanted[0], wanted[2], wanted[3], wanted[5]]
    assert heading.partitions == (Stretch(source, 0, 0, 2), Stretch(source, 1, 1, 3))

    def moment(after_ms):
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((began_ms + after_ms) // 1000)) + (
            f".{(began_ms + after_ms) % 1000:03d}Z"
        )

    assert recorded(tmp_path, "--from", moment(5), "--until", moment(20))[1] == wanted[1:5]
    assert recorded(tmp_path, "--from", moment(21))[1] == []
    assert recorded(tmp_path, "--until", moment(1), "--quiet")[1] == wanted[:1]


def test_wrong_recordings_are_one_message(odd, bootstrap, tmp_path, capsys):
    """A source that is no topic, a taken or wrong name, a wrong range and a missing topic are told; nothing is left."""
    config_file, file = str(tmp_path / "run.toml"), tmp_path / "new.records.jsonl"
    (tmp_path / "taken.records.jsonl").write_text("mine")

    def told(*words, name=file):
        assert main(["record", config_file, str(name), *words]) == 2
        return capsys.readouterr().err

    assert "expected a topic to record" in told("--set", "stream.source=s.csv")
    assert "taken.records.jsonl exists" in told(name=tmp_path / "taken.records.jsonl")
    assert "must end in .records.jsonl" in told(name=tmp_path / "x.jsonl")
    assert "--from is 'soon', expected a moment" in told("--from", "soon")
    assert 'until is \'2026-13-01\'; use "forever", "end" or a moment' in told("--until", "2026-13-01")
    assert "is to be read up to offset 4, and ends at 3" in told("--until", "1:4")
    assert "partitions [7], which are not read" in told("--until", "7:1")
    assert "the partition ends at 3" in told("--from", "0:9")
    assert "'nowhere' does not exist" in told("--set", "stream.source=kafka:nowhere")
    assert "127.0.0.1:1" in told("--set", "kafka.bootstrap_servers=127.0.0.1:1", "--set", "kafka.start_wait_s=1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.toml", "taken.records.jsonl"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_recording_leaves_nothing(bootstrap, tmp_path, capsys, number):
    """SIGINT and SIGTERM end it with their exit codes, and there is no half a file."""
    value = json.dumps({"text": "x" * 500}).encode()
    source = written(bootstrap, 1, [lambda name: Outgoing(name, value)] * 20_000)
    configured(tmp_path, bootstrap, source)
    part = tmp_path / "long.records.jsonl.gz.part"

    def interrupt():
        while not part.exists():
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code = main(["record", str(tmp_path / "run.toml"), str(tmp_path / "long.records.jsonl.gz")])
    thread.join()
    assert code == 128 + number
    assert "has not been written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]


def test_a_replay_leaves_alone_what_the_live_run_writes(odd, tmp_path, capsys):
    """Topics, checkpoints and files in the configuration are not those of a replay; its own are on the command line."""
    recorded(tmp_path)
    file = str(tmp_path / "odd.records.jsonl")
    words = ["replay", file, "--config", str(tmp_path / "run.toml"), "--quiet"]
    assert main([*words, "--set", "kafka.bootstrap_servers=127.0.0.1:1"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd.records.jsonl", "run.toml"]
    assert main([*words, "--dead-letters", str(tmp_path / "d.jsonl")]) == 0
    letters = read_jsonl(tmp_path / "d.jsonl")
    assert [line["reason"] for line in letters] == ["tombstone", "not_utf8", "not_json", "not_json", "not_json"]
    assert main([*words, "--set", "stream.follow=true"]) == 2
    assert "is a recording, which does not grow" in capsys.readouterr().err


def test_a_damaged_recording_fails_with_its_line(odd, tmp_path, capsys):
    """What stands before the damage is learned; the message names the line, and the exit code says that it failed."""
    recorded(tmp_path)
    file = tmp_path / "odd.records.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    words = ["replay", str(file), "--config", str(tmp_path / "run.toml"), "--quiet"]
    file.write_bytes(b"".join(lines[:4]) + lines[4][:30])
    assert main([*words, "--dead-letters", str(tmp_path / "d.jsonl")]) == 1
    assert "odd.records.jsonl, line 5: the line has no end" in capsys.readouterr().err
    assert len(read_jsonl(tmp_path / "d.jsonl")) == 2
    file.write_bytes(lines[0].replace(b'"recording":1', b'"recording":9') + b"".join(lines[1:]))
    assert main(words) == 2
    assert "line 1: the format is version 9" in capsys.readouterr().err


def spread(folder, bootstrap, count=EVENTS, partitions=4):
    """A topic of events in turn over its partitions, a millisecond apart."""
    began_ms = int(time.time() * 1000)
    return written(
        bootstrap,
        partitions,
        [
            lambda name, i=i, value=value: Outgoing(name, value, partition=i % partitions, timestamp_ms=began_ms + i)
            for i, value in enumerate(events(folder, count))
        ],
    )


def test_the_order_of_arrival_is_repeated(bootstrap, tmp_path, monkeypatch, capsys):
    """A run that took records as they came, killed on the way, is repeated in the order in which it handled them."""
    source = spread(tmp_path, bootstrap)
    out, dead = configured(tmp_path, bootstrap, source)
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace('until = "end"', 'until = "end"\norder = "arrival"'))
    monkeypatch.chdir(tmp_path)
    died = streamnn("run", "run.toml", "--quiet", cwd=tmp_path, STREAMNN_CRASH_AT="after_sink_flush:4")
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert main(["run", "run.toml", "--quiet"]) == 0
    assert len(consumed(bootstrap, out)) > EVENTS  # what was not kept is there twice
    assert main(["record", "run.toml", "r.records.jsonl"]) == 0
    assert "in the order handled" in capsys.readouterr().out
    heading, records = read(tmp_path / "r.records.jsonl")
    assert heading.order == "handled"
    assert len(records) == EVENTS + len(POISON)
    assert [r.timestamp_ms for r in records] != sorted(r.timestamp_ms for r in records)
    assert main(["replay", "r.records.jsonl", "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)


def test_dead_letters_that_tell_little_are_enough(bootstrap, tmp_path, monkeypatch):
    """One that its topic took in part, and one whose record came with headers like ours, tell where they were handled."""
    wrong = (("streamnn-cut", b"5:5"), ("streamnn-stage", b"learn"))
    large, strange = (lambda name: Outgoing(name, bytes(30_000))), (lambda name: Outgoing(name, b"{", None, wrong))
    good = [lambda name, value=value: Outgoing(name, value) for value in events(tmp_path, 20)]
    source = written(bootstrap, 1, [*good[:5], large, *good[5:], strange, *good[:3]])
    configured(tmp_path, bootstrap, source)
    dead = helpers.topic(bootstrap, configs={"max.message.bytes": "20000"})
    monkeypatch.chdir(tmp_path)
    letters = ["--set", f"kafka.dead_letters_topic={dead}", "--quiet"]
    assert main(["run", "run.toml", *letters]) == 0
    assert main(["record", "run.toml", "r.records.jsonl", "--order", "handled", *letters]) == 0
    _, records = read(tmp_path / "r.records.jsonl")
    assert [record.value for record in records] == [record.value for record in consumed(bootstrap, source)]
    assert "streamnn-truncated" in dict(consumed(bootstrap, dead)[0].headers)


def test_a_wait_that_ended_by_the_clock_is_repeated(bootstrap, tmp_path, monkeypatch):
    """Records handled without an idle partition, whose own came later, are replayed as they were handled."""
    source = spread(tmp_path, bootstrap, 60, partitions=1)
    helpers.add_partitions(bootstrap, source, 2)
    out, dead = configured(tmp_path, bootstrap, source)
    monkeypatch.chdir(tmp_path)
    live = ["--set", "kafka.until=forever", "--set", "kafka.idle_wait_s=0.1", "--quiet"]
    assert main(["run", "run.toml", *live, "--set", "stream.limit=40"]) == 0
    early_ms = read_back(tmp_path, "first.records.jsonl")[0].timestamp_ms - 1_000
    writer = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.fill(writer, source, [(1, early_ms, b'{"f0": 1.0, "f1": 2.0, "f2": 3.0, "y": 1}')])
    writer.close()
    assert main(["run", "run.toml", *live, "--set", "stream.limit=61"]) == 0
    by_time, handled = read_back(tmp_path, "time.records.jsonl"), read_back(tmp_path, "h.records.jsonl", "handled")
    assert len(handled) == 62  # events, and the one malformed record among them
    assert [r.origin.partition for r in by_time].index(1) == 0
    assert [r.origin.partition for r in handled].index(1) >= 40
    assert main(["replay", "h.records.jsonl", "--config", "run.toml", *REPLAY, "--quiet"]) == 0
    same(tmp_path, bootstrap, source, out, dead)


def read_back(folder, name, order="timestamp"):
    """The records that `streamnn record` writes in an order."""
    assert main(["record", "run.toml", name, "--order", order, "--quiet"]) == 0
    return read(folder / name)[1]


def test_an_order_that_cannot_be_told_is_one_message(odd, bootstrap, tmp_path, capsys):
    """No predictions, a range, and a topic of dead letters that is not there are told."""
    source, _, _ = odd
    words = ["record", str(tmp_path / "run.toml"), str(tmp_path / "new.records.jsonl"), "--order", "handled"]

    def told(*more):
        assert main([*words, *more]) == 2
        return capsys.readouterr().err

    assert f"model '{source}' handled topic '{source}' cannot be told" in told()
    assert "kafka.predictions_topic is not set" in told("--set", "kafka.predictions_topic=")
    assert "--from and --until go with --order timestamp" in told("--from", "0:1")
    assert [path.name for path in tmp_path.iterdir()] == ["run.toml"]
