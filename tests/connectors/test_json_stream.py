"""Recorded streams as records for a log: nothing is changed on the way to JSON."""

import gzip
import json

import pytest

from connectors import JsonCodec, Origin, Record, Schema, SchemaError, SourceError, StreamSpec, open_source
from connectors.json_stream import open_records
from connectors.kafka.stamps import MOST_AHEAD_MS, RisingStamps
from connectors.recording import Heading, RecordingWriter, Stretch


def records(path, most=3, **fields):
    """All records of a stream."""
    stream = open_records(StreamSpec(source=str(path)), **fields)
    found = []
    while some := stream.read(most):
        found += some
    assert stream.progress == 1.0
    stream.close()
    stream.close()
    return found


def test_csv_rows_become_objects(tmp_path):
    """Numbers keep their digits, texts stay texts, what is missing is left out, and what is broken stays as it is."""
    path = tmp_path / "s.csv"
    path.write_text(
        "a,n,word,flag,when\n"
        '1.50,12345678901234567,"x, ""y""",true,1996-05-07 00:30:00\n'
        ",2,03,False,\n"
        "too,many,fields,in,this,row\n"
        ".5,-4,3,TRUE,1996-05-07T01:00:00.5\n"
        "oops,1e3,nan,false,1996-05-07 01:30:00\n" + "2.25,7,z,true,1996-05-07 02:00:00\n" * 20
    )
    first, second, broken, fourth, fifth, *rest = records(path, key="word", moment="when")
    assert first.value == (
        b'{"a":1.50,"n":12345678901234567,"word":"x, \\"y\\"","flag":true,"when":"1996-05-07 00:30:00"}'
    )
    assert (first.key, first.timestamp_ms) == (b'x, "y"', 831429000000)
    assert json.loads(second.value) == {"n": 2, "word": "03", "flag": False}
    assert (second.key, second.timestamp_ms) == (b"03", -1)
    assert broken == Record(b"too,many,fields,in,this,row")
    assert json.loads(fourth.value) == {"a": 0.5, "n": -4, "word": "3", "flag": True, "when": "1996-05-07T01:00:00.5"}
    assert fourth.timestamp_ms == 831430800500
    assert fifth.value == b'{"a":"oops","n":1e3,"flag":false,"when":"1996-05-07 01:30:00"}'
    assert (fifth.key, len(rest)) == (None, 20)


def test_a_csv_in_json_is_read_as_the_csv_is(tmp_path):
    """The objects decode to the columns of the file, whatever kinds are declared."""
    path = tmp_path / "s.csv.gz"
    lines = ["a,b,c,t"] + [f"{i / 7},{i},c{i % 3},2001-02-03 04:05:{i:02d}" for i in range(50)]
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    schema = Schema(kinds={"a": "number", "b": "class", "c": "category", "t": "moment"}, targets=("b",))
    source = open_source(StreamSpec(source=str(path)), schema)
    source.open(0, None)
    want = source.poll(100)
    source.close()
    codec, found = JsonCodec(schema), records(path)
    got = codec.decode(found, want.offsets, start=0, stop=50)
    assert not got.rejects
    assert got.columns.keys() == want.columns.keys()
    for name, column in want.columns.items():
        assert got.columns[name].tolist() == column.tolist(), name


def test_json_lines_stay_as_they_are(tmp_path):
    """Bytes of each line, also of one that is no JSON, with key and time of those that have them."""
    lines = [b'{"id": 7, "t": 10.5}', b"{broken", b'{"id":"x","nested":{"a":[1]}}', b'{"t": "1970-01-01T00:00:02"}']
    (tmp_path / "s.jsonl").write_bytes(b"\n".join(lines))
    found = records(tmp_path / "s.jsonl", key="id", moment="t")
    assert [record.value for record in found] == lines
    assert [record.key for record in found] == [b"7", None, b"x", None]
    assert [record.timestamp_ms for record in found] == [10500, -1, -1, 2000]


def test_a_recording_keeps_what_it_has(tmp_path):
    """Keys, headers, timestamps and places of a recording are its own."""
    path, kept = tmp_path / "r.records.jsonl.gz", Record(None, b"k", (("h", b"\xff"),), 5, Origin("t", 3, 9))
    label = Record(b"{}", None, (), 6, Origin("labels", 0, 0))
    with RecordingWriter(path, Heading("t", "", "timestamp", (Stretch("labels", 0, 0, 5),))) as writer:
        writer.write([label] * 4 + [kept, label])
        writer.finish()
    assert records(path) == [kept]
    assert records(path, topic="labels") == [label] * 5
    with pytest.raises(SchemaError, match="'u' is not in the recording; it holds t, labels"):
        open_records(StreamSpec(source=str(path)), topic="u")
    with pytest.raises(SchemaError, match="is a recording, which has keys and timestamps"):
        open_records(StreamSpec(source=str(path)), key="id")


def test_what_has_no_form_in_json_is_refused(tmp_path):
    """A sparse file, an unknown ending and an unknown field are told at once."""
    (tmp_path / "s.libsvm").write_text("1 3:0.5\n")
    with pytest.raises(SourceError, match="is sparse"):
        open_records(StreamSpec(source=str(tmp_path / "s.libsvm")))
    with pytest.raises(SourceError, match="is no stream that can be read"):
        open_records(StreamSpec(source="x.doc"))
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SchemaError, match=r"'c' is not a field of .*; it has a, b"):
        open_records(StreamSpec(source=str(tmp_path / "s.csv")), key="c")


def test_river_streams_have_a_form(tmp_path):
    """A stream of river's is produced, too."""
    stream = open_records(StreamSpec(source="river:Phishing"), key="https")
    (first,) = stream.read(1)
    stream.close()
    event = json.loads(first.value)
    assert (str(event["https"]).encode(), event["target"]) == (first.key, True)


def test_stamps_rise_within_a_bound():
    """Each is later than the last and none is before the clock; too far ahead some are equal, and none goes back."""
    stamps = RisingStamps()
    assert [stamps.next(now) for now in (100, 100, 100, 200, 150)] == [100, 101, 102, 200, 201]
    stamps = RisingStamps()
    stamps.next(100 + MOST_AHEAD_MS - 2)
    assert [stamps.next(100) - 100 - MOST_AHEAD_MS for _ in range(4)] == [-1, 0, 0, 0]
    assert stamps.next(50) == 100 + MOST_AHEAD_MS
