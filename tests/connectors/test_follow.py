"""Files that grow, are replaced or cut while they are read."""

import gzip
import json

import pytest

from connectors import Schema, SourceError, StreamSpec, look, open_source
from tests.connectors.helpers import Outcome, collect

SCHEMA = Schema(kinds={"x": "number"})


@pytest.fixture(params=["s.csv", "s.jsonl"])
def path(request, tmp_path):
    """An empty stream of each format that can be followed."""
    path = tmp_path / request.param
    path.write_bytes(b"x\n" if path.suffix == ".csv" else b"")
    return path


def line(path, n):
    """A record."""
    return b"%d\n" % n if path.suffix == ".csv" else b'{"x": %d}\n' % n


def header(path):
    """What a new file begins with."""
    return b"x\n" if path.suffix == ".csv" else b""


def append(path, data):
    """Write at the end of a file."""
    with path.open("ab") as file:
        file.write(data)


def follow(path, offset=0, state=None):
    """A source that waits at the end."""
    source = open_source(StreamSpec(str(path), follow=True), SCHEMA)
    source.open(offset, state)
    return source


def now(source, polls=4):
    """Everything that is there now."""
    found = Outcome([], [], [], [])
    for _ in range(polls):
        chunk = source.poll(100)
        assert chunk is not None
        if chunk.stop > chunk.start:
            collect(found, chunk)
    return [event["x"] for _, event in found.events]


def test_growing(path):
    """What is appended comes, a line only when it has ended; nothing is ever the end."""
    source = follow(path)
    assert now(source) == []
    append(path, line(path, 1) + line(path, 2)[:-1])
    assert now(source) == [1.0]
    append(path, b"\n" + line(path, 3))
    assert now(source) == [2.0, 3.0]
    assert source.progress is None
    source.close()


def test_replaced(path):
    """A file that is moved away is read to its end, then the new one of its name from its beginning."""
    source = follow(path)
    append(path, line(path, 1))
    assert now(source) == [1.0]
    append(path, line(path, 2) + line(path, 3)[:-1])
    path.rename(path.with_suffix(".1"))
    assert now(source) == [2.0]  # the new one is not there yet
    append(path.with_suffix(".1"), b"")
    path.write_bytes(header(path) + line(path, 4))
    assert now(source) == [3.0, 4.0]  # a last line without an end is taken as it is
    append(path, line(path, 5))
    assert now(source) == [5.0]
    source.close()


def test_cut(path):
    """A file that is cut to nothing is read from its beginning again."""
    source = follow(path)
    append(path, b"".join(line(path, n) for n in range(9)))
    assert len(now(source)) == 9
    path.write_bytes(header(path) + line(path, 10))
    assert now(source) == [10.0]
    source.close()


def test_resume_after_replacement(path):
    """A start goes on in the new file, also at a record that was handed out after the replacement."""
    source = follow(path)
    append(path, b"".join(line(path, n) for n in range(5)))
    now(source)
    path.rename(path.with_suffix(".1"))
    path.write_bytes(header(path) + b"".join(line(path, n) for n in range(5, 12)))
    assert now(source) == [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]
    for offset in (5, 6, 9, 12):
        other = follow(path, offset, json.loads(json.dumps(source.state(offset))))
        assert now(other) == [float(n) for n in range(offset, 12)]
        other.close()
    with pytest.raises(SourceError, match="replaced"):
        follow(path, 2, source.state(2))
    source.close()


def test_resume_while_growing(path):
    """A start at any record of a file that has grown since goes on there."""
    source = follow(path)
    append(path, b"".join(line(path, n) for n in range(3)))
    now(source)
    states = {offset: source.state(offset) for offset in range(4)}
    append(path, b"".join(line(path, n) for n in range(3, 6)))
    for offset, state in states.items():
        other = follow(path, offset, state)
        assert now(other) == [float(n) for n in range(offset, 6)]
        other.close()
    source.close()


def test_a_new_file_with_other_fields_is_refused(tmp_path):
    """A CSV file that is replaced by one with another header is one clear error."""
    path = tmp_path / "s.csv"
    path.write_bytes(b"x,y\n1,2\n")
    source = follow(path)
    assert now(source) == [1.0]
    path.rename(tmp_path / "old.csv")
    path.write_bytes(b"y,x\n1,2\n")
    assert now(source, polls=1) == []
    with pytest.raises(SourceError, match="other fields"):
        source.poll(1)
    source.close()


def test_a_header_may_come_late(tmp_path):
    """A followed CSV file may be empty at first."""
    path = tmp_path / "s.csv"
    path.write_bytes(b"")
    source = follow(path)
    assert now(source) == []
    append(path, b"x\n7\n")
    assert now(source) == [7.0]
    source.close()
    path.write_bytes(b"")
    assert look(StreamSpec(str(path), follow=True)).fields == ()


@pytest.mark.parametrize("change", ["shorter", "other beginning", "gone"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_changed_file_is_noticed(tmp_path, change, packed):
    """A start with a file that is not what it was is one clear error with the remedy."""
    squeeze = gzip.compress if packed else bytes
    path = tmp_path / f"s.jsonl{packed}"
    path.write_bytes(squeeze(b"".join(b'{"x": %d}\n' % n for n in range(100))))
    source = open_source(StreamSpec(str(path)), SCHEMA)
    source.open(0, None)
    source.poll(60)
    state = source.state(60)
    state["mark"]["byte"] = 700  # as if blocks were shorter
    source.close()
    if change == "gone":
        path.unlink()
    else:
        data = {"shorter": b'{"x": 0}\n', "other beginning": b"".join(b'{"x": %d}\n' % n for n in range(50, 200))}
        path.write_bytes(squeeze(data[change]))
    again = open_source(StreamSpec(str(path)), SCHEMA)
    with pytest.raises(SourceError, match=r"Bring back the old file|does not exist"):
        again.open(60, state)
    again.close()


@pytest.mark.parametrize("name", ["s.csv.gz", "s.parquet", "s.libsvm", "river:Phishing", "synth:Mv"])
def test_what_cannot_grow_is_not_followed(tmp_path, name):
    """Following anything but a plain CSV or JSON Lines file is one clear error."""
    with pytest.raises(SourceError, match="follow is set"):
        open_source(StreamSpec(name if ":" in name else str(tmp_path / name), follow=True), SCHEMA)
