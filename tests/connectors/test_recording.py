"""Recordings: every byte of every record comes back, in order, and what is damaged is told with its line."""

import gzip
import json
import resource

import numpy as np
import pytest

from connectors import JsonCodec, Origin, Record, Schema, SinkError, SourceError
from connectors.byte_text import meant, shown
from connectors.errors import NotYetError
from connectors.raw import RawCodec
from connectors.recording import Heading, RecordingReader, RecordingSource, RecordingWriter, Stretch, is_recording

HEADING = Heading("readings", "an-id", "timestamp", (Stretch("readings", 0, 0, 40), Stretch("marks", 1, 7, 7)))
ODD = [
    Record(b'{"a": 1.5}', b"key", (("h", b"1"), ("h", None), ("\u00e4", b"\xff")), 5, Origin("readings", 0, 3)),
    Record(None, b"", (), -1, Origin("marks", 1, 0)),  # a tombstone of another topic
    Record(b"", None, (("", b""),), 0, Origin("readings", 0, 4)),
    Record(b"\xff\xfe\x00", b"\xc3", (), 1 << 41, Origin("readings", 2, 1 << 40)),
    Record("line\nbreak \u2028 \x00 \U0001f600".encode(), None, (), 7, Origin("readings", 0, 6)),
    Record(b"x" * 3_000_000, None, (), 7, Origin("readings", 0, 9)),
]


def written(path, records, *, pieces=3):
    """A recording of some records."""
    with RecordingWriter(path, HEADING) as writer:
        for at in range(0, len(records), pieces):
            writer.write(records[at : at + pieces])
        writer.finish()
    return path


def numbered(count):
    """Records that hold JSON."""
    return [Record(json.dumps({"a": i}).encode(), None, (), i, Origin("readings", 0, i)) for i in range(count)]


def everything(source, events=64, records=None):
    """The records that a source still has, put behind others also where reading fails."""
    records = [] if records is None else records
    while (chunk := source.poll(events)) is not None:
        assert chunk.stop - chunk.start == len(chunk) <= events
        records += list(chunk.records)
    return records


OPENED = []


@pytest.fixture(autouse=True)
def closed():
    """Close what a test has opened."""
    yield
    while OPENED:
        OPENED.pop().close()


def opened(path, codec=None, offset=0, state=None):
    """A source over a recording."""
    source = RecordingSource(path, codec or RawCodec())
    OPENED.append(source)
    source.open(offset, state)
    return source


@pytest.fixture(params=["r.records.jsonl", "r.records.jsonl.gz"])
def path(request, tmp_path):
    """A name for a plain and for a compressed recording."""
    return tmp_path / request.param


def test_every_byte_comes_back(path):
    """Values, keys, headers, timestamps and places are what they were, tombstones and broken text among them."""
    source = opened(written(path, ODD))
    assert everything(source) == ODD
    assert source.progress == 1.0
    source.close()
    source.close()
    reader = RecordingReader(path)
    assert reader.heading == HEADING
    reader.close()
    assert sorted(p.name for p in path.parent.iterdir()) == [path.name]


def test_same_records_give_the_same_file(path, tmp_path):
    """Neither the time nor the pieces in which records come leave a trace."""
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    assert written(path, ODD, pieces=1).read_bytes() == written(other, ODD, pieces=100).read_bytes()


@pytest.mark.parametrize("events", [1, 7, 64])
def test_cuts_and_stops_change_nothing(path, events):
    """Polls of any size, and a new start anywhere, hand out the same columns."""
    written(path, numbered(100))
    schema = Schema(kinds={"a": "number"})
    source, values = opened(path, JsonCodec(schema)), []
    while (chunk := source.poll(events)) is not None:
        values += chunk.columns["a"].tolist()
        if len(values) % 3 == 0:
            state = json.loads(json.dumps(source.state(chunk.stop)))
            source.commit(chunk.stop)
            source.close()
            source = opened(path, JsonCodec(schema), chunk.stop, state)
    assert values == list(range(100))
    assert opened(path).poll(5).offsets.tolist() == np.arange(5).tolist()


@pytest.mark.parametrize("events", [1, 7, 64])
def test_ends_of_micro_batches_come_with_their_records(path, events):
    """A record behind which the clock ended a micro-batch says so, in polls of any size and after a new start."""
    ends = {Origin("readings", 0, offset) for offset in (0, 13, 14, 99)} | {Origin("marks", 0, 50)}
    with RecordingWriter(path, HEADING, ends) as writer:
        writer.write(numbered(100))
        writer.finish()
    for first in (0, 14, 15):
        source, found = opened(path, offset=first), []
        while (chunk := source.poll(events)) is not None:
            assert all(chunk.start <= cut < chunk.stop for cut in chunk.cuts)
            found += chunk.cuts
        assert found == [cut for cut in (0, 13, 14, 99) if cut >= first]
    assert everything(opened(path)) == numbered(100)


def test_another_recording_than_the_checkpoint_s_is_refused(tmp_path):
    """A state fits the file it was taken from."""
    state = opened(written(tmp_path / "a.records.jsonl", numbered(3))).state(1)
    with RecordingWriter(tmp_path / "b.records.jsonl", Heading("other", "", "timestamp", ())) as writer:
        writer.write(numbered(3))
        writer.finish()
    with pytest.raises(SourceError, match="not what the checkpoint was read from"):
        opened(tmp_path / "b.records.jsonl", offset=1, state=state)


def test_a_cut_file_is_told_with_its_line(tmp_path):
    """Whole records before the cut are handed out first; then the error names the line, wherever the cut is."""
    whole = written(tmp_path / "whole.records.jsonl", numbered(5)).read_bytes()
    lines = whole.splitlines(keepends=True)
    path = tmp_path / "cut.records.jsonl"
    for cut in range(len(lines[0]), len(whole)):
        path.write_bytes(whole[:cut])
        source, got = opened(path), []
        with pytest.raises(SourceError, match=r"cut\.records\.jsonl, line \d: ") as told:
            everything(source, 2, got)
        line = whole[:cut].count(b"\n") + 1
        assert f"line {line}: " in str(told.value)
        assert got == numbered(5)[: line - 2]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ((b'"offset":2', b'"offset":"x"'), r"line 4: .*invalid literal"),
        ((b'"offset":2', b'"offsets":2'), r"line 4: 'offset' is missing"),
        ((b'"value":{"text":"{\\"a\\":3}"}', b'"value":{"text":3}'), r"line 5: expected null"),
        ((b'"value":{"text":"{\\"a\\":3}"}', b'"value":{"base64":"?"}'), r"line 5: '\?' is no base64"),
        ((b'{\\"a\\":3}', b'{\\"a\\":4}'), r"line 7: the lines before are not those that were written"),
        ((b'{"records":5', b'{"records":6'), r"line 7: 6 records were written, and 5 stand before"),
        ((b'"offset":1,', b'"offset":1'), r"line 3: no JSON"),
    ],
)
def test_damage_is_told_with_its_line(tmp_path, change, told):
    """A changed line, or a changed byte anywhere, is an error that says where."""
    path = tmp_path / "r.records.jsonl"
    whole = written(
        path, [Record(b'{"a":%d}' % i, None, (), i, Origin("readings", 0, i)) for i in range(5)]
    ).read_bytes()
    assert whole.count(change[0]) == 1
    path.write_bytes(whole.replace(*change))
    with pytest.raises(SourceError, match=told):
        everything(opened(path))


def test_more_behind_the_end_is_told(tmp_path):
    """Two recordings one behind the other are no recording."""
    path = written(tmp_path / "r.records.jsonl", numbered(2))
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(SourceError, match="line 4: this is the last line of a recording, and more follows"):
        everything(opened(path))


def test_broken_gzip_is_told_with_its_line(tmp_path):
    """A compressed file that is cut hands out what is whole, and names the line."""
    whole = written(tmp_path / "r.records.jsonl.gz", numbered(2000)).read_bytes()
    (tmp_path / "cut.records.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    source, got = opened(tmp_path / "cut.records.jsonl.gz"), []
    with pytest.raises(SourceError, match=r"line \d+: .* is a broken gzip file") as told:
        everything(source, 10, got)
    assert 0 < len(got) < 2000
    assert got == numbered(len(got))
    assert f"line {len(got) + 2}:" in str(told.value)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b'{"recording":2,"topic":"t"}\n', "line 1: the format is version 2, and this program reads version 1"),
        (b'{"a":1}\n', "line 1: expected the first line of a recording"),
        (b"a,b\n", "line 1: no JSON"),
        (b'{"recording":1,"topic":"t"}\n', "line 1: the first line lacks 'partitions'"),
        (b'{"recording":1,"topic":"t","topic_id":"","order":"odd","partitions":[]}\n', "line 1: order is 'odd'"),
        (b"", "line 1: the file ends here"),
    ],
)
def test_what_is_no_recording_is_refused_at_the_start(tmp_path, first, told):
    """Another version and another kind of file are told before anything is read."""
    path = tmp_path / "r.records.jsonl"
    path.write_bytes(first)
    with pytest.raises(SourceError, match=told):
        opened(path)
    with pytest.raises(SourceError, match=r"does not exist\. Did you mean r\.records\.jsonl"):
        opened(tmp_path / "rr.records.jsonl")


def test_an_unfinished_recording_leaves_nothing(path):
    """A file has its name only when it is whole; what a kill left behind is in nobody's way."""
    with RecordingWriter(path, HEADING) as writer:
        writer.write(ODD)
        assert not path.exists()
    assert list(path.parent.iterdir()) == []
    path.with_name(path.name + ".part").write_bytes(b"left behind" * 1_000_000)
    assert everything(opened(written(path, ODD))) == ODD


def test_names_that_are_taken_or_wrong_are_refused(path, tmp_path):
    """Nothing is overwritten, two processes do not write one file, and the ending says what a file is."""
    with (
        RecordingWriter(path, HEADING),
        pytest.raises(SinkError, match="is being written by another process"),
    ):
        RecordingWriter(path, HEADING)
    written(path, ODD)
    with pytest.raises(SinkError, match="exists; remove it"):
        RecordingWriter(path, HEADING)
    with pytest.raises(SinkError, match=r"must end in \.records\.jsonl"):
        RecordingWriter(tmp_path / "r.jsonl", HEADING)
    with pytest.raises(SinkError, match="cannot be written: No such file"):
        RecordingWriter(tmp_path / "nowhere" / "r.records.jsonl", HEADING)


def test_a_full_disk_is_told(path):
    """Where there is no space the writer says so, and leaves nothing."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(SinkError, match="no space left for"):
            written(path, [Record(np.random.default_rng(1).bytes(400_000), origin=Origin("readings", 0, 0))])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(path.parent.iterdir()) == []


def test_bytes_in_json_come_back():
    """Text is for people, and nothing is lost where bytes are none."""
    for data in (None, b"", b"a", b"\xff", "\ud7ff\u00e9".encode(), bytes(range(256))):
        assert meant(json.loads(json.dumps(shown(data)))) == data
    for wrong in (5, "a", {}, {"text": "a", "base64": ""}, {"base64": "a"}, {"hex": "00"}):
        with pytest.raises(ValueError):
            meant(wrong)


def test_names_of_recordings():
    """The ending tells."""
    assert is_recording("a/B.records.jsonl")
    assert is_recording("x.records.jsonl.GZ")
    assert not is_recording("records.jsonl")
    assert not is_recording("x.jsonl.gz")


def test_compressed_files_are_plain_gzip(tmp_path):
    """Other programs can read what is written."""
    path = written(tmp_path / "r.records.jsonl.gz", numbered(2))
    with gzip.open(path) as file:
        assert len(file.readlines()) == 4


class Awaiting(RawCodec):
    """A codec that cannot decode the first few times."""

    def __init__(self, times):
        self.times = times

    def decode(self, records, offsets, *, start, stop):
        if len(records) and self.times:
            self.times -= 1
            raise NotYetError("the registry does not answer")
        return super().decode(records, offsets, start=start, stop=stop)


def test_what_cannot_be_decoded_yet_is_handed_out_later(tmp_path, caplog):
    """Meanwhile polls return at once, with nothing; it is told once, and no record is missed or comes twice."""
    records = numbered(20)
    source = opened(written(tmp_path / "r.records.jsonl", records), codec=Awaiting(3))
    polled = [source.poll(8) for _ in range(3)]
    assert [(len(chunk), chunk.start, chunk.stop) for chunk in polled] == [(0, 0, 0)] * 3
    assert caplog.text.count("the registry does not answer; waiting for it") == 1
    assert everything(source, 8) == records
