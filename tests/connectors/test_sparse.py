"""Sparse records: absent is 0 from the first record on that names a field, and costs nothing."""

import random

import numpy as np
import pytest

from connectors import Schema, SchemaError, StreamSpec, block_source, lines, look, open_source
from tests.connectors.helpers import read, save

SCHEMA = Schema(kinds={"label": "class", "5": "number"}, targets=("label",))


def test_absent_is_zero_once_a_field_is_known(tmp_path):
    """A field is missing before the first record that names it, then 0 where it is not named; a declared one always."""
    path = save(tmp_path / "s.libsvm", b"+1 1:2.5\n-1 2:3 # a comment\n0\n1 1:4 9:1e2\n")
    assert read(path, SCHEMA).events == [
        (0, {"label": ("int", 1), "5": 0.0, "1": 2.5}),
        (1, {"label": ("int", -1), "5": 0.0, "1": 0.0, "2": 3.0}),
        (2, {"label": ("int", 0), "5": 0.0, "1": 0.0, "2": 0.0}),
        (3, {"label": ("int", 1), "5": 0.0, "1": 4.0, "2": 0.0, "9": 100.0}),
    ]


def oracle(records, refused=()):
    """Events record by record."""
    known, events = [], []
    for n, (label, pairs) in enumerate(records):
        if n in refused:
            continue
        known += [name for name in pairs if name not in known]
        event = {"label": ("str", label), "5": 0.0, **dict.fromkeys(known, 0.0)}
        events.append((n, {**event, **{name: float(value) for name, value in pairs.items()}}))
    return events


@pytest.mark.parametrize("seed", range(3))
def test_any_cuts_equal_the_oracle(tmp_path, monkeypatch, seed):
    """Random sparse records give what a record-by-record oracle gives, whatever the blocks and polls."""
    rng = random.Random(seed)
    records = [
        (rng.choice("ab"), {str(rng.randrange(1 + n)): rng.randrange(1, 9) for _ in range(rng.randrange(5))})
        for n in range(150)
    ]
    bad = {n: ["a 3:inf", "a 3", "a 77:x"][n % 3] for n in range(5, 150, 13)}
    listed = [
        bad.get(n, " ".join([label, *(f"{name}:{value}" for name, value in pairs.items())]))
        for n, (label, pairs) in enumerate(records)
    ]
    path = save(tmp_path / "s.libsvm", "\n".join(listed).encode())
    for rows, cut in ((1000, 1000), (7, 3), (1, 1)):
        monkeypatch.setattr(block_source, "MOST_ROWS", rows)
        found = read(path, SCHEMA, cuts=[cut] * 200)
        assert found.events == oracle(records, bad)
        assert [offset for offset, _ in found.reasons] == sorted(bad)


def test_fields_that_a_block_does_not_name_share_one_column(tmp_path, monkeypatch):
    """Of very many known fields only those that occur have a column of their own; the others share one of zeros."""
    monkeypatch.setattr(lines, "MOST_CELLS", 10_000)
    path = save(tmp_path / "s.libsvm", b"".join(b"a %d:1\n" % n for n in range(3000)))
    source = open_source(StreamSpec(str(path)), SCHEMA)
    source.open(0, None)
    while (chunk := source.poll(500)) is not None:
        last = chunk
    source.close()
    assert len(last.columns) == 3000 + 1  # the label, and index 5 is declared and occurs
    arrays = {id(column.base if column.base is not None else column) for column in last.columns.values()}
    assert len(arrays) < 10
    assert not last.columns["0"].flags.writeable
    assert not last.columns["0"].any()


def test_kinds_of_sparse_fields(tmp_path):
    """Declared kinds are checked; a kind that a number cannot be is refused at once."""
    path = save(tmp_path / "s.libsvm", b"a 1:2 2:0.5\na 1:2.5\na 2:3\na 1:nan\n")
    found = read(path, Schema(kinds={"label": "class", "1": "integer", "2": "degree"}))
    assert found.reasons == [(1, "not_integer"), (2, "out_of_range")]
    assert found.events[1] == (3, {"label": ("str", "a"), "2": 0.0})
    with pytest.raises(SchemaError, match="'1' is declared as category"):
        open_source(StreamSpec(str(path)), Schema(kinds={"label": "class", "1": "category"}))


def test_ignored_and_undeclared_fields(tmp_path):
    """Ignored fields do not occur, and with extra = "ignore" only declared ones do."""
    path = save(tmp_path / "s.libsvm", b"a 1:x 2:1 5:2\n")
    assert read(path, Schema(kinds={"label": "class"}, ignore=("1",))).events == [
        (0, {"label": ("str", "a"), "2": 1.0, "5": 2.0})
    ]
    assert read(path, Schema(kinds=SCHEMA.kinds, extra="ignore")).events == [(0, {"label": ("str", "a"), "5": 2.0})]


def test_look(tmp_path):
    """A look names the label as target; absent fields are 0 there, not missing."""
    head = look(StreamSpec(str(save(tmp_path / "s.libsvm", b"1 3:1\n0 7:0.5\n1 3:1 7:1\n"))))
    assert head.targets == ("label",)
    assert [(f.name, f.kind, f.values, f.missing) for f in head.fields] == [
        ("label", "integer", (1, 0), 0),
        ("3", "integer", (1, 0), 0),
        ("7", "number", (0.5, 1, 0), 0),
    ]
    assert np.isclose(head.records, 3)
