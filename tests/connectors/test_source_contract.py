"""What every source promises, whatever it reads: one battery for all of them."""

import json
import random
from datetime import datetime

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors import (
    Cut,
    Extra,
    JsonCodec,
    MemorySource,
    Nothing,
    Record,
    Schema,
    StreamSpec,
    block_source,
    lines,
    open_source,
)
from tests.connectors.helpers import csv_bytes, drain, json_bytes, read, save

EVENTS = 300
SCHEMA = Schema(
    kinds={"a": "number", "b": "integer", "c": "category", "t": "moment", "y": "class"},
    targets=("y",),
    extra="feature",
)


def events():
    """Events of all kinds with missing values, undeclared fields that appear late, and some that are no good."""
    rng = random.Random(7)
    made = []
    for n in range(EVENTS):
        event = {
            "a": None if n % 11 == 3 else round(rng.gauss(0, 1), 6),
            "b": n,
            "c": rng.choice(["x", "y", "ümlaut", 'q"u,o\n"te']),
            "t": f"2024-01-01T00:{n % 60:02}:00",
            "y": rng.choice(["up", "down"]),
        }
        if n >= 100:
            event["late"] = n if n % 3 else None
        if n >= 150:
            event["word"] = rng.choice(["k", "l"])
        if n % 37 == 5:
            event["b"] = 0.5
        if n % 41 == 6:
            event["late"] = "text" if n >= 100 else {"nested": 1}
        made.append(event)
    return made


def text(value):
    """A value as a CSV field."""
    return "" if value is None else json.dumps(value) if isinstance(value, dict) else str(value)


def as_csv(made):
    """The events as CSV: every field in every line, some of which are broken."""
    names = ["a", "b", "c", "t", "y", "late", "word"]
    header, *listed = [csv_bytes(names, [])] + [
        csv_bytes([text(event.get(name)) for name in names], []) for event in made
    ]
    for n in range(20, len(listed), 50):
        listed[n] = [b"1,2\n", b'1,2,"open,x,up,,\n', b"1,2,\xff,,up,,\n", b"x" * 5000 + b"\n"][n // 50 % 4]
    return header + b"".join(listed)


def as_json_lines(made):
    """The events as JSON Lines, some of which are broken."""
    listed = json_bytes(made).split(b"\n")[:-1]
    for n in range(20, len(listed), 50):
        listed[n] = [b"{", b"[1]", b'{"a": "\xff"}', b"x" * 5000][n // 50 % 4]
    return b"\n".join(listed)


def as_libsvm(made):
    """Sparse numbers: indices that appear late, and lines that are broken."""
    listed = [
        f"{event['y']} {n % 7}:{event['b']} {100 + n // 10}:1.5" if n % 29 else f"{event['y']} 3:x" if n % 58 else "a:b"
        for n, event in enumerate(made)
    ]
    return "\n".join(listed).encode() + b"\n"


def write_parquet(path, made):
    """Events in row groups of an odd length, with NaN, null and infinity."""
    table = pa.table(
        {
            "a": pa.array([e["a"] if n % 53 else float("inf") for n, e in enumerate(made)]),
            "b": pa.array([float(e["b"]) for e in made]),
            "c": pa.array([e["c"] for e in made]),
            "t": pa.array([datetime.fromisoformat(e["t"]) for e in made], pa.timestamp("ms")),
            "y": pa.array([e["y"] for e in made]),
            "late": pa.array([n if n > 100 else None for n in range(len(made))]),
        }
    )
    parquet.write_table(table, path, row_group_size=77)
    return path


def sparse_schema():
    """What a libsvm file is read with."""
    return Schema(kinds={"label": "class", "3": "number"}, targets=("label",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The events in every format."""
    path, made = tmp_path_factory.mktemp("streams"), events()
    for name, data in (("s.csv", as_csv(made)), ("s.jsonl", as_json_lines(made)), ("s.libsvm", as_libsvm(made))):
        save(path / name, data)
        save(path / f"{name}.gz", data)
    write_parquet(path / "s.parquet", made)
    save(path / "s.parquet.gz", (path / "s.parquet").read_bytes())
    return path


FILES = ["s.csv", "s.csv.gz", "s.jsonl", "s.jsonl.gz", "s.libsvm", "s.libsvm.gz", "s.parquet", "s.parquet.gz"]
NAMED = ["river:Phishing", "river:SolarFlare", "synth:Agrawal", "synth:RandomRBF?n_classes=3", "memory"]
SOURCES = [*FILES, *NAMED]


@pytest.fixture(params=SOURCES)
def name(request):
    """Each source in turn."""
    return request.param


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few records, so that short streams have many."""
    monkeypatch.setattr(block_source, "MOST_ROWS", 40)
    monkeypatch.setattr(lines, "PIECE", 1500)


def make(name, folder):
    """A source that has not been opened."""
    if name == "memory":
        records = [Record(line) for line in as_json_lines(events()).split(b"\n")]
        return MemorySource(records, JsonCodec(SCHEMA, 4096))
    if name.startswith(("river", "synth")):
        schema = Schema(kinds={"target": "class"}) if name != "river:SolarFlare" else Schema()
        return open_source(StreamSpec(name, seed=3), schema)
    schema = sparse_schema() if "libsvm" in name else SCHEMA
    return open_source(StreamSpec(str(folder / name), max_record_bytes=4096), schema)


def whole(name, folder, cuts=(), **settings):
    """Everything that a source hands out, or the first events of an endless one."""
    source = make(name, folder)
    source.open(0, None)
    try:
        return drain(source, cuts, limit=None if not name.startswith(("synth", "river")) else EVENTS, **settings)
    finally:
        source.close()


def test_there_is_something_to_compare(folder):
    """The streams of this battery hold events and, where the format allows, records of several sorts of no good."""
    for name in FILES:
        found = whole(name, folder)
        assert len(found.events) > 200, name
        assert len({reason for _, reason in found.reasons}) >= (1 if "parquet" in name else 2), name


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_cuts_change_nothing(name, folder, cut):
    """Polls of 1, 7 and 64 events hand out in sum what one big poll does: events, rejects, bytes."""
    found, wanted = whole(name, folder, events=cut), whole(name, folder)
    assert (found.events, found.rejects, found.raw) == (wanted.events, wanted.rejects, wanted.raw)
    assert found.covered[0][0] == wanted.covered[0][0] == 0


def test_random_cuts_change_nothing(name, folder):
    """Polls of random lengths hand out the same in sum."""
    rng = random.Random(1)
    found, wanted = whole(name, folder, cuts=[rng.randint(1, 90) for _ in range(200)]), whole(name, folder)
    assert (found.events, found.rejects, found.raw) == (wanted.events, wanted.rejects, wanted.raw)


def test_resumed_at_any_record(name, folder):
    """A new source opened at any record with the state of the old one goes on exactly there."""
    wanted = whole(name, folder)
    everything = [*wanted.events, *wanted.rejects]
    last = wanted.covered[-1][1]
    source = make(name, folder)
    source.open(0, None)
    drain(source, events=64, limit=EVENTS)  # ahead of what is committed
    for offset in [0, 1, 2, 39, 40, 41, 99, 100, 101, 151, 200, 255]:
        source.commit(offset - offset % 50)
        state = json.loads(json.dumps(source.state(offset)))  # only plain values
        other = make(name, folder)
        other.open(offset, state)
        missing = sum(1 for item in everything if offset <= item[0] < last)
        found = drain(other, events=17, limit=sum(1 for e in wanted.events if e[0] >= offset))
        other.close()
        assert found.covered[0][0] == offset
        assert found.events == [item for item in wanted.events if item[0] >= offset], offset
        kept = [item for item in wanted.rejects if item[0] >= offset]
        assert found.rejects == kept[: len(found.rejects)]
        assert len(found.events) + len(found.rejects) >= missing - 3  # rejects at the very end may not be polled
    source.close()


def test_resumed_after_every_poll(name, folder):
    """Stopping and starting anew after every few events hands out the same in sum."""
    wanted, found = whole(name, folder), []
    offset, state, rng = 0, None, random.Random(5)
    while len(found) < len(wanted.events):
        source = make(name, folder)
        source.open(offset, state)
        part = drain(source, limit=min(rng.randint(20, 60), len(wanted.events) - len(found)), events=9)
        found += part.events
        offset = part.covered[-1][1]
        state = json.loads(json.dumps(source.state(offset)))
        source.close()
    assert found == wanted.events


def test_a_state_before_the_last_commit_is_refused_or_right(folder):
    """What was committed away is not pretended to be found."""
    source = make("s.csv", folder)
    source.open(0, None)
    drain(source)
    source.commit(200)
    from_commit = make("s.csv", folder)
    from_commit.open(200, source.state(200))
    assert from_commit.poll(1).start == 200
    with pytest.raises(Exception, match="record 10 cannot be found again"):
        source.state(10)
    with pytest.raises(Exception, match="record 9999 cannot be found again"):
        source.state(9999)
    source.close()
    from_commit.close()


def test_the_end_stays_the_end(name, folder):
    """After the last record every poll returns None."""
    if name.startswith("synth"):
        pytest.skip("endless")
    source = make(name, folder)
    source.open(0, None)
    while source.poll(10_000) is not None:
        continue
    assert [source.poll(5) for _ in range(3)] == [None, None, None]
    assert source.progress == 1.0
    source.close()


def test_closed_twice(name, folder):
    """A source may be closed twice, opened or not, and opened again."""
    source = make(name, folder)
    source.close()
    source.open(0, None)
    source.poll(3)
    source.close()
    source.close()
    source.open(0, None)
    assert source.poll(3).start == 0
    source.close()


def test_progress_grows(name, folder):
    """The progress begins at 0, never falls, and is None for endless streams alone."""
    source = make(name, folder)
    source.open(0, None)
    shares = []
    for _ in range(12):
        assert source.poll(20) is not None
        shares.append(source.progress)
    source.close()
    if name.startswith("synth"):
        assert shares == [None] * 12
    else:
        assert shares == sorted(shares)
        assert 0.0 <= shares[0] < 0.5
        assert shares[-1] <= 1.0


def test_a_record_is_the_bytes_of_its_line(folder):
    """Records and rejects of line formats hold their lines byte for byte, asked for in any order."""
    data = (folder / "s.jsonl").read_bytes().split(b"\n")
    found = whole("s.jsonl", folder)
    assert found.raw == [data[offset] for offset, _ in found.events]
    assert [value for *_, value in found.rejects] == [data[offset][:4096] for offset, *_ in found.rejects]


def test_state_without_its_source_is_refused(name, folder):
    """A start in the middle without a state is an error, not a start at the beginning."""
    if name == "memory":
        pytest.skip("finds its records by number")
    source = make(name, folder)
    with pytest.raises(Exception, match="state that finds it is missing"):
        source.open(5, None)
    source.close()


def test_a_source_can_wait(folder):
    """A poll that finds nothing returns an empty chunk, and the stream goes on behind it."""
    records = [Record(b'{"a": 1}')] * 4
    source = MemorySource(records, JsonCodec(SCHEMA), script=[Cut(1), Nothing(), Cut(2)])
    source.open(0, None)
    lengths = [len(source.poll(10)) for _ in range(4)]
    assert lengths == [1, 0, 2, 1]
    assert source.poll(10) is None


@pytest.mark.parametrize("extra", ["feature", "ignore"])
@pytest.mark.parametrize("file", ["s.csv", "s.jsonl"])
def test_undeclared_fields(folder, extra: Extra, file):
    """Undeclared fields are read as their first values show, or left out, as the schema says."""
    found = read(folder / file, Schema(kinds=SCHEMA.kinds, extra=extra), max_record_bytes=4096)
    names = {name for _, event in found.events for name in event}
    assert names == {*SCHEMA.kinds, *({"late", "word"} if extra == "feature" else set())}
