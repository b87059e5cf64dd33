"""Starts in streams that are not what they were, and the memory of where records lie."""

import gzip
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from pyarrow import parquet
from river import datasets

from connectors import Schema, SourceError, StreamSpec, block_source, lines, open_source
from tests.connectors.helpers import drain, read, save

SCHEMA = Schema(kinds={"x": "number"})


def test_marks_have_a_bound(tmp_path, monkeypatch):
    """Without commits only so many places are remembered, and a start still finds every record."""
    monkeypatch.setattr(block_source, "MOST_ROWS", 16)
    monkeypatch.setattr(block_source, "_MOST_MARKS", 8)
    monkeypatch.setattr(lines, "PIECE", 256)
    path = save(tmp_path / "s.csv", b"x\n" + b"".join(b"%d\n" % n for n in range(1000)))
    source = open_source(StreamSpec(str(path)), SCHEMA)
    source.open(0, None)
    drain(source, events=50)
    assert len(source._marks) <= 8
    for offset in (0, 1, 333, 500, 777, 999, 1000):
        found = read(path, SCHEMA, offset=offset, state=source.state(offset))
        assert [event["x"] for _, event in found.events] == [float(n) for n in range(offset, 1000)]
    source.close()


def start(source, offset, state):
    """Open a source and take the first event."""
    source.open(offset, state)
    source.poll(1)


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.parquet"])
def test_a_stream_that_lost_its_end(tmp_path, name):
    """A start behind the end of what is left is one clear error."""
    path = tmp_path / name

    def write(events):
        if name == "s.parquet":
            parquet.write_table(pa.table({"x": [float(n) for n in range(events)]}), path)
        else:
            data = b"".join(b'{"x": %d}\n' % n for n in range(events))
            path.write_bytes(gzip.compress(data, mtime=0) if name.endswith("gz") else data)

    write(50)
    source = open_source(StreamSpec(str(path)), SCHEMA)
    source.open(0, None)
    source.poll(40)
    state = source.state(40)
    source.close()
    write(20)
    again = open_source(StreamSpec(str(path)), SCHEMA)
    with pytest.raises(SourceError, match=r"not what it was|replaced|not the file it was"):
        start(again, 40, state)
    again.close()


def test_a_generator_cannot_be_skipped_past_its_end():
    """A start behind the end of a finite stream of river is one clear error."""
    source = open_source(StreamSpec("river:TrumpApproval"), Schema())
    source.open(5000, {"record": 0, "mark": {"row": 0}, "fields": {}})
    with pytest.raises(SourceError, match="the stream ends before record 5000"):
        source.poll(1)
    source.close()


def test_rows_of_parquet_as_json(tmp_path):
    """The record of a row is JSON whatever its columns hold; a row group begins anywhere."""
    path = tmp_path / "s.parquet"
    table = pa.table(
        {
            "d": pa.array([Decimal("1.50"), None], pa.decimal128(5, 2)),
            "t": pa.array([datetime(2024, 1, 2, 3), None], pa.timestamp("us")),
            "b": pa.array([b"raw", b"\xff"]),
        }
    )
    parquet.write_table(table, path, row_group_size=1)
    found = read(path, Schema(kinds={"d": "number"}, ignore=("b",)))
    assert found.events == [(0, {"d": 1.5, "t": "2024-01-02T03:00:00.000000"}), (1, {})]
    assert found.raw[0].startswith(b'{"d":1.5,"t":"2024-01-02T03:00:00"')


def test_errors_inside_river_are_told(monkeypatch):
    """A data set that fails while it is read is one clear error with its name."""

    def broken(self):
        yield {"a": 1}, 1
        raise ValueError("a damaged line")

    monkeypatch.setattr(datasets.Phishing, "__iter__", broken)
    source = open_source(StreamSpec("river:Phishing"), Schema())
    source.open(0, None)
    with pytest.raises(SourceError, match="river:Phishing cannot be read: a damaged line"):
        source.poll(5)
    source.close()
    monkeypatch.setattr(datasets.Phishing, "__iter__", lambda self: iter([(["no", "names"], 1)]))
    with pytest.raises(SourceError, match="features without names"):
        source.open(0, None)
