"""JSON records: the codec against a slow oracle, and what undeclared fields become."""

import json
import math

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import JsonCodec, Origin, Record, Schema, block_source, decode, lines
from connectors.scalars import UnfitError, kind_of_value, read_value
from tests.connectors.helpers import Outcome, collect, json_bytes, plain, read, save

SCHEMA = Schema(kinds={"x": "number", "n": "integer", "c": "category", "y": "class", "m": "moment"}, ignore=("skip",))


def decoded(codec, values, *, start=0, cuts=()):
    """What a codec makes of values in pieces of the given lengths."""
    found, at, cuts = Outcome([], [], [], []), 0, [*cuts]
    while at < len(values):
        stop = min(len(values), at + (cuts.pop(0) if cuts else len(values)))
        records = [Record(value) for value in values[at:stop]]
        collect(found, codec.decode(records, np.arange(start + at, start + stop), start=start + at, stop=start + stop))
        at = stop
    return found


def oracle(values, schema):
    """Record by record, by the standard library and the rules for single values: events, and refused records."""
    known, events, refused = {}, [], []
    for offset, value in enumerate(values):
        event, new, bad = {}, {}, False
        for name, one in json.loads(value).items():
            if name in schema.ignore:
                continue
            kind = schema.kind(name) or known.get(name)
            if kind is None:
                if schema.extra == "ignore" or one is None or one == "" or (isinstance(one, float) and math.isnan(one)):
                    continue
                bad = bad or schema.extra == "reject"
                kind = new[name] = kind_of_value(one)
            try:
                read_as = plain(read_value(kind, one))
            except UnfitError:
                bad = True
                continue
            if read_as is not None:
                event[name] = read_as
        if bad:
            refused.append(offset)
        else:
            known.update(new)
            events.append((offset, event))
    return events, refused


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53), 2**53),
    st.floats(),
    st.sampled_from(["", "a", "b", "2024-01-01", "1", "ü\u2028\n"]),
    st.just([1]),
    st.just({"a": 0.5, "b": 0.5}),
)
NAMES = ["x", "n", "c", "y", "m", "skip", "u", "v", "w"]
EVENTS = st.lists(st.dictionaries(st.sampled_from(NAMES), SCALARS, max_size=6), min_size=1, max_size=14)


@settings(max_examples=200, deadline=None)
@given(EVENTS, st.sampled_from(["feature", "ignore", "reject"]), st.lists(st.integers(1, 5), max_size=10))
def test_decoding_equals_the_record_by_record_oracle(events, extra, cuts):
    """However records are cut into chunks, they become what single values make of them, one record after the other."""
    schema = Schema(kinds=SCHEMA.kinds, ignore=("skip",), extra=extra)
    values = [json.dumps(event).encode() for event in events]
    found = decoded(JsonCodec(schema), values, cuts=cuts)
    wanted, refused = oracle(values, schema)
    assert found.events == wanted
    assert [offset for offset, *_ in found.rejects] == refused
    assert found.rejects == decoded(JsonCodec(schema), values).rejects


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "x": st.floats(allow_infinity=False),
                "c": st.text(st.characters(codec="utf-8")),
                "y": st.integers(-(2**63), 2**63),
            }
        ),
        min_size=1,
    )
)
def test_what_is_written_is_read(events):
    """Floats come back bit for bit, texts character for character, whoever wrote the JSON."""
    for write in (
        orjson.dumps,
        lambda event: json.dumps(event).encode(),
        lambda event: json.dumps(event, ensure_ascii=False).encode(),
    ):
        values = [write(event) for event in events]
        found = decoded(JsonCodec(SCHEMA), values)
        for event, (_, got) in zip(events, found.events, strict=True):
            assert got.get("x", math.nan) == event["x"] or math.isnan(event["x"])
            assert got.get("c", ("str", ""))[1] == event["c"]


def test_first_value_fixes_the_kind(tmp_path):
    """An undeclared field is from its first value on what that is; later values of another kind are refused."""
    values = [("u", None), ("u", 1), ("u", "a"), ("u", 2.5), ("u", True), ("v", "a"), ("v", 3), ("w", True), ("w", 7)]
    found = read(save(tmp_path / "s.jsonl", json_bytes([{name: value} for name, value in values])))
    assert [event for _, event in found.events] == [
        {},
        {"u": 1.0},
        {"u": 2.5},
        {"v": ("str", "a")},
        {"v": ("str", "3")},
        {"w": 1.0},
    ]
    assert found.reasons == [(2, "wrong_type"), (4, "wrong_type"), (8, "wrong_type")]


def test_a_refused_record_fixes_nothing():
    """The first value of an undeclared field in a record that is refused does not fix its kind."""
    values = [b'{"x": "bad", "u": "text"}', b'{"u": [1], "v": "text"}', b'{"u": 1, "v": 2}', b'{"u": "t"}', b'{"v": 1}']
    for cuts in ((), (1,), (2,), (1, 1, 1, 1)):
        found = decoded(JsonCodec(SCHEMA), values, cuts=cuts)
        assert found.reasons == [(0, "wrong_type"), (1, "wrong_type"), (3, "wrong_type")]
        assert [event for _, event in found.events] == [{"u": 1.0, "v": 2.0}, {"v": 1.0}]


def test_state_of_a_codec():
    """The kinds met before an offset are its state; with them another codec decodes the rest alike."""
    values = [b'{"u": 1}', b'{"v": "a"}', b'{"u": "x"}', b'{"v": 2, "w": true}', b'{"w": 3}']
    first = JsonCodec(SCHEMA)
    wanted = decoded(first, values)
    assert first.state(1) == {"u": ["number", 0]}
    for offset in range(6):
        other = JsonCodec(SCHEMA)
        other.load(json.loads(json.dumps(first.state(offset))))
        found = decoded(other, values[offset:], start=offset)
        assert found.events == [e for e in wanted.events if e[0] >= offset]
        assert found.rejects == [r for r in wanted.rejects if r[0] >= offset]


def test_records_of_a_log():
    """Tombstones and records that are too long are refused; key, headers and origin stay with the record."""
    origin = Origin("topic", 1, 77)
    records = [
        Record(b'{"x": 1}', key=b"k", headers=(("h", None),), timestamp_ms=5, origin=origin),
        Record(None, key=b"gone"),
        Record(b'{"x": ' + b"1" * 50 + b"}"),
        Record(b'{"x": 2}'),
    ]
    chunk = JsonCodec(SCHEMA, 20).decode(records, np.array([3, 5, 6, 9]), start=3, stop=12)
    assert chunk.offsets.tolist() == [3, 9]
    assert [(letter.offset, letter.reason) for letter in chunk.rejects] == [(5, "tombstone"), (6, "too_large")]
    assert [letter.record for letter in chunk.rejects] == records[1:3]
    assert [*chunk.records] == [records[0], records[3]]
    assert (chunk.start, chunk.stop) == (3, 12)


def test_no_records():
    """Nothing decoded is an empty chunk."""
    chunk = JsonCodec(SCHEMA).decode([], np.zeros(0, dtype=np.int64), start=4, stop=6)
    assert (len(chunk), chunk.start, chunk.stop, chunk.rejects) == (0, 4, 6, ())


def test_a_member_named_twice():
    """Of a member named twice the last counts, as in every common JSON library."""
    assert decoded(JsonCodec(SCHEMA), [b'{"x": 1, "x": 2}']).events == [(0, {"x": 2.0})]


def test_undeclared_fields_have_a_bound(monkeypatch):
    """A stream that names new fields without end is refused from a bound on, and the known ones go on."""
    monkeypatch.setattr(decode, "MOST_FIELDS", 3)
    values = [b'{"f%d": 1}' % n for n in range(6)] + [b'{"f1": 2}']
    for cuts in ((), (1,) * 7, (2, 3)):
        found = decoded(JsonCodec(Schema()), values, cuts=cuts)
        assert found.reasons == [(3, "too_many_fields"), (4, "too_many_fields"), (5, "too_many_fields")]
        assert found.events[-1] == (6, {"f1": 2.0})


@pytest.mark.parametrize("cells", [8, 64, 10_000])
def test_many_different_fields_make_shorter_blocks(tmp_path, monkeypatch, cells):
    """Records with ever different fields are handed out in short blocks, so that columns hold something."""
    events = [{f"f{n % 50}": n, "x": 1} for n in range(200)]
    path = save(tmp_path / "s.jsonl", json_bytes(events))
    wanted = [(n, {f"f{n % 50}": float(n), "x": 1.0}) for n in range(200)]
    for module in (lines, block_source):
        monkeypatch.setattr(module, "MOST_CELLS", cells)
    monkeypatch.setattr(lines, "PIECE", 2000)
    found = read(path, Schema(kinds={"x": "number"}))
    assert found.events == wanted
    if cells == 64:
        assert max(stop - start for start, stop in found.covered) <= 16


def test_nan_and_infinity_of_other_writers(tmp_path):
    """NaN is a missing value and Infinity a refused one, although JSON has neither."""
    data = b'{"x": NaN, "c": "a"}\n{"x": 1}\n{"x": -Infinity}\n'
    found = read(save(tmp_path / "s.jsonl", data), SCHEMA)
    assert (found.events, found.reasons) == ([(0, {"c": ("str", "a")}), (1, {"x": 1.0})], [(2, "not_finite")])


def test_soft_labels(tmp_path):
    """A target may hold {class: probability}."""
    found = read(save(tmp_path / "s.jsonl", b'{"y": {"a": 0.25, "b": 0.75}}\n{"y": "a"}\n'), SCHEMA)
    assert [event["y"] for _, event in found.events] == [{"a": 0.25, "b": 0.75}, ("str", "a")]
