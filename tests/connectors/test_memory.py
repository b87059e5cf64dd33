"""The source and sink in memory, and how much memory the others take."""

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors import (
    Cut,
    End,
    Fail,
    JsonCodec,
    MemorySink,
    MemorySource,
    Nothing,
    Schema,
    SinkError,
    SourceError,
    StreamSpec,
    open_source,
    records_of,
)
from tests.connectors.helpers import save

RECORDS = records_of([{"x": n} for n in range(10)])


def source(*script, endless=False):
    """A source of ten records."""
    made = MemorySource(RECORDS, JsonCodec(Schema()), script=script, endless=endless)
    made.open(0, None)
    return made


def test_script():
    """Polls do what the script says, in order, then take what they can."""
    s = source(Cut(2), Nothing(), Fail(SourceError("the line is down")), Cut(1))
    assert s.poll(5).stop == 2
    nothing = s.poll(5)
    assert (nothing.start, nothing.stop) == (2, 2)
    with pytest.raises(SourceError, match="the line is down"):
        s.poll(5)
    assert [s.poll(5).stop, s.poll(5).stop, s.poll(5).stop] == [3, 8, 10]
    assert s.poll(5) is None


def test_end_comes_early():
    """A script may end the stream for good."""
    s = source(Cut(2), End(), Cut(3))
    assert s.poll(5).stop == 2
    assert [s.poll(5), s.poll(5)] == [None, None]


def test_endless():
    """An endless source waits at its end for records that are appended."""
    records = list(RECORDS)
    s = MemorySource(records, JsonCodec(Schema()), endless=True)
    s.open(0, None)
    assert s.poll(20).stop == 10
    assert s.poll(20).stop == 10
    records += records_of([{"x": 77}])
    assert s.poll(20).columns["x"].tolist() == [77.0]
    assert s.progress is None


def test_commit_and_close_are_remembered():
    """What the pipeline tells a source can be asked for."""
    s = source()
    s.commit(4)
    s.close()
    assert (s.committed, s.closed) == (4, True)
    with pytest.raises(SourceError, match="record 11 is asked for"):
        s.open(11, {"codec": {}})


def test_sink_fails_when_told():
    """Writes and flushes fail by number; a failed one takes nothing."""
    sink = MemorySink(fail_write=[1], fail_flush=[0])
    sink.truncate(0)
    sink.write("a")
    with pytest.raises(SinkError, match="write number 1"):
        sink.write("b")
    sink.write("b")
    with pytest.raises(SinkError, match="flush number 0"):
        sink.flush()
    assert sink.durable == 0
    assert sink.flush() == 2
    assert sink.items == ["a", "b"]


def test_sink_after_a_crash():
    """A crash leaves what was flushed, and truncate goes back to any length up to that."""
    sink = MemorySink()
    sink.truncate(0)
    for item in "abc":
        sink.write(item)
    sink.flush()
    sink.write("d")
    sink.crash()
    assert sink.items == ["a", "b", "c"]
    with pytest.raises(SinkError, match="only 3 were made durable"):
        sink.truncate(4)
    sink.truncate(2)
    sink.write("x")
    sink.close()
    sink.close()
    assert (sink.items, sink.durable) == (["a", "b", "x"], 3)


@pytest.mark.parametrize("name", ["s.csv", "s.jsonl", "s.parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    """What the library beneath holds stays the same over a long file."""
    path = tmp_path / name
    if name == "s.parquet":
        table = pa.table({"x": [float(n) for n in range(200_000)], "c": [f"word{n % 9}" for n in range(200_000)]})
        parquet.write_table(table, path, row_group_size=20_000)
        del table
    else:
        form = b"%d.5,w%d\n" if name == "s.csv" else b'{"x": %d.5, "c": "w%d"}\n'
        save(path, (b"x,c\n" if name == "s.csv" else b"") + b"".join(form % (n, n % 9) for n in range(200_000)))
    s = open_source(StreamSpec(str(path)), Schema(kinds={"x": "number", "c": "category"}))
    s.open(0, None)
    held, count = [], 0
    while (chunk := s.poll(512)) is not None:
        count += len(chunk)
        held.append(pa.total_allocated_bytes())
    s.close()
    assert count == 200_000
    assert max(held[len(held) // 2 :]) <= 2 * max(held[: len(held) // 2]) + (1 << 20)
    assert max(held) < 32 << 20
