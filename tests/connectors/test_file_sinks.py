"""Files of predictions and dead letters: what stands in them, full disks, and cutting back."""

import base64
import csv
import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import (
    DeadLetter,
    Origin,
    Predictions,
    Record,
    SinkError,
    open_dead_letters,
    open_predictions,
)

ROOT = Path(__file__).parent.parent.parent


def objects(values):
    """A column of labels."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def binary(first, events, *, classes=("a", "b")):
    """Predictions of one target with classes."""
    p = np.random.default_rng(first).random(events)
    labels = [classes[int(q > 0.5)] for q in p]
    return Predictions(
        offsets=np.arange(first, first + events),
        numbers=np.arange(events),
        targets=("y",),
        decisions={"y": objects(labels)},
        probabilities={"y": (classes, np.stack([1 - p, p], axis=1))},
        labels={"y": objects([None if n % 5 == 0 else label for n, label in enumerate(labels)])},
        records=[Record(b"")] * events,
    )


def mixed():
    """Predictions of several targets, with classes that appear late and values that are not known."""
    nan = math.nan
    return Predictions(
        offsets=np.array([3, 7, 8]),
        numbers=np.array([0, 1, 2]),
        targets=("kind", "100%", "size"),
        decisions={
            "kind": objects(["a,b", 'say "hi"\n', None]),
            "100%": objects([1, True, 0]),
            "size": np.array([0.1, nan, -0.0]),
        },
        probabilities={
            "kind": (("a,b", 'say "hi"\n', "late"), np.array([[1.0, nan, nan], [0.25, 0.75, nan], [nan, nan, nan]])),
            "100%": ((1, True), np.array([[0.5, 0.5], [1e-7, 1.0], [1 / 3, 2 / 3]])),
        },
        labels={
            "kind": objects([None, "ü", "late"]),
            "100%": objects([None, 0, 1]),
            "size": np.array([1e16, 5e-324, nan]),
        },
        records=[Record(b"")] * 3,
    )


def written(path, items, flush_each=False):
    """Write items to a new file; returns its bytes."""
    sink = open_predictions(path)
    sink.truncate(0)
    for item in items:
        sink.write(item)
        if flush_each:
            sink.flush()
    sink.close()
    return path.read_bytes()


def test_json_lines_of_one_target(tmp_path):
    """A line has position, prediction, probabilities by class and label, in this order."""
    data = written(tmp_path / "p.jsonl", [binary(0, 6)])
    p = np.random.default_rng(0).random(6)
    for n, line in enumerate(data.decode().splitlines()):
        label = "b" if p[n] > 0.5 else "a"
        wanted = {
            "position": n,
            "prediction": label,
            "probabilities": {"a": 1 - p[n], "b": p[n]},
            "label": None if n % 5 == 0 else label,
        }
        assert line == json.dumps(wanted, separators=(",", ":"))


def test_json_lines_of_several_targets(tmp_path):
    """With several targets the members are objects; NaN is null and a class that did not exist is left out."""
    first, second, third = map(json.loads, written(tmp_path / "p.jsonl", [mixed()]).splitlines())
    assert first == {
        "position": 3,
        "prediction": {"kind": "a,b", "100%": 1, "size": 0.1},
        "probabilities": {"kind": {"a,b": 1.0}, "100%": {"1": 0.5, "true": 0.5}},
        "label": {"kind": None, "100%": None, "size": 1e16},
    }
    assert second["probabilities"]["kind"] == {"a,b": 0.25, 'say "hi"\n': 0.75}
    assert second["prediction"] == {"kind": 'say "hi"\n', "100%": True, "size": None}
    assert third["probabilities"]["kind"] is None
    assert math.copysign(1, third["prediction"]["size"]) == -1


def test_csv_of_one_target(tmp_path):
    """CSV has a header and the same things, probabilities as a JSON object, nothing where nothing is known."""
    written(tmp_path / "p.csv", [binary(0, 2), binary(2, 4)])
    with (tmp_path / "p.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["position"] for row in rows] == list("012345")
    assert [*rows[0]] == ["position", "prediction", "probabilities", "label"]
    assert (rows[0]["label"], rows[1]["label"]) == ("", rows[1]["prediction"])
    assert json.loads(rows[3]["probabilities"]).keys() == {"a", "b"}


def test_csv_of_several_targets(tmp_path):
    """With several targets each has columns of its own; texts are quoted where they must be."""
    written(tmp_path / "p.csv", [mixed()])
    with (tmp_path / "p.csv").open(newline="") as file:
        first, second, third = csv.DictReader(file)
    assert [*first] == [
        "position",
        *("prediction_kind", "probabilities_kind", "label_kind"),
        *("prediction_100%", "probabilities_100%", "label_100%"),
        *("prediction_size", "label_size"),
    ]
    assert (first["prediction_kind"], second["prediction_kind"], third["prediction_kind"]) == ("a,b", 'say "hi"\n', "")
    assert (second["prediction_size"], second["prediction_100%"], third["probabilities_kind"]) == ("", "true", "")


def test_regression(tmp_path):
    """Without classes there are no probabilities."""
    values = Predictions(
        offsets=np.arange(2),
        numbers=np.arange(2),
        targets=("y",),
        decisions={"y": np.array([1.5, math.nan])},
        probabilities={},
        labels={"y": np.array([2.0, 3.0])},
        records=[Record(b"")] * 2,
    )
    assert written(tmp_path / "p.jsonl", [values]) == (
        b'{"position":0,"prediction":1.5,"label":2.0}\n{"position":1,"prediction":null,"label":3.0}\n'
    )
    assert written(tmp_path / "p.csv", [values]) == b"position,prediction,label\n0,1.5,2.0\n1,,3.0\n"


def part(item, first, last):
    """Some events of predictions."""
    return Predictions(
        item.offsets[first:last],
        item.numbers[first:last],
        item.targets,
        {t: c[first:last] for t, c in item.decisions.items()},
        {t: (names, p[first:last]) for t, (names, p) in item.probabilities.items()},
        {t: c[first:last] for t, c in item.labels.items()},
        item.records[first:last],
    )


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
@pytest.mark.parametrize("make", [lambda: binary(0, 40), mixed], ids=["binary", "mixed"])
def test_same_bytes_however_cut(tmp_path, ending, make):
    """However predictions are cut into blocks and flushed, the bytes of the file are the same."""
    whole, rng = make(), random.Random(2)
    wanted = written(tmp_path / f"w.{ending}", [whole])
    cuts = sorted(rng.choices(range(len(whole) + 1), k=5))
    parts = [part(whole, a, b) for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert written(tmp_path / f"p.{ending}", parts, flush_each=True) == wanted
    assert written(tmp_path / f"q.{ending}", [part(whole, n, n + 1) for n in range(len(whole))]) == wanted


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_resumed_file_is_byte_identical(tmp_path, ending):
    """Cut back to any flushed length and written on, a file is byte for byte that of an uninterrupted run."""
    items = [binary(10 * n, 10) for n in range(8)]
    wanted = written(tmp_path / f"w.{ending}", items)
    path = tmp_path / f"p.{ending}"
    for stop in range(8):
        sink = open_predictions(path)
        sink.truncate(0)
        for item in items[:stop]:
            sink.write(item)
        length = sink.flush()
        assert length == path.stat().st_size
        for item in items[stop:]:
            sink.write(item)  # after the checkpoint; the process dies somewhere here
        sink.close()
        with path.open("ab") as file:
            file.write(b'{"half a li')
        again = open_predictions(path)
        again.truncate(length)
        for item in items[stop:]:
            again.write(item)
        again.close()
        again.close()
        assert path.read_bytes() == wanted


def test_truncate_checks_what_is_there(tmp_path):
    """A file shorter than what was made durable is one clear error."""
    path = tmp_path / "p.jsonl"
    path.write_bytes(b"abc")
    sink = open_predictions(path)
    with pytest.raises(SinkError, match="has 3 bytes, but 10 were written"):
        sink.truncate(10)
    sink.truncate(2)
    assert (sink.flush(), path.read_bytes()) == (2, b"ab")
    sink.close()


def test_names_of_files(tmp_path):
    """Compressed files, other endings, absent folders and folders are refused with the reason."""
    for opened in (open_predictions, open_dead_letters):
        with pytest.raises(SinkError, match="cannot be cut back after a crash"):
            opened(tmp_path / "p.jsonl.gz")
        with pytest.raises(SinkError, match=r"must end in \.jsonl"):
            opened(tmp_path / "p.txt")
    with pytest.raises(SinkError, match="cannot be opened for writing"):
        open_predictions(tmp_path / "absent" / "p.jsonl").truncate(0)
    (tmp_path / "f.csv").mkdir()
    with pytest.raises(SinkError, match="cannot be opened for writing"):
        open_predictions(str(tmp_path / "f.csv")).truncate(0)


def test_readers_see_each_item_at_once(tmp_path):
    """What was written is in the file before a flush."""
    path = tmp_path / "p.jsonl"
    sink = open_predictions(path)
    sink.truncate(0)
    for n in range(3):
        sink.write(binary(5 * n, 5))
        assert path.read_text().count("\n") == 5 * (n + 1)
    sink.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is absent: it stands for a full disk")
def test_full_device():
    """A full disk is told as no space, at every attempt."""
    sink = open_predictions("/dev/full")
    sink.truncate(0)
    sink.write(binary(0, 3))
    for _ in range(2):
        with pytest.raises(SinkError, match="no space left"):
            sink.flush()
    with pytest.raises(SinkError, match="no space left"):
        sink.close()
    sink.close()  # what could not be written is given up: nothing is held open


FULL = """
import resource, sys
from connectors import SinkError, open_predictions
from tests.connectors.test_file_sinks import binary

path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
sink, refused = open_predictions(path), 0
sink.truncate(0)
for n in range(40):
    item = binary(10 * n, 10)
    while True:
        try:
            sink.write(item)
            break
        except SinkError as problem:
            assert "no space" in str(problem), problem
            refused += 1
            limit += 700  # somebody makes room, a little at a time
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
while True:
    try:
        length = sink.flush()
        break
    except SinkError:
        refused += 1
        limit += 700
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
sink.close()
print(refused, length)
"""


def test_full_disk_loses_and_doubles_nothing(tmp_path):
    """Writes that were refused for lack of space succeed later, and the file is as if the disk had been large."""
    wanted = written(tmp_path / "w.jsonl", [binary(10 * n, 10) for n in range(40)])
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "p.jsonl", "5000"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, length = map(int, done.stdout.split())
    assert refused > 10
    assert length == len(wanted)
    assert (tmp_path / "p.jsonl").read_bytes() == wanted


LETTERS = [
    DeadLetter(0, "decode", "not_json", "a sentence", Record(b"plain \xc3\xa9\n")),
    DeadLetter(5, "decode", "not_utf8", "another", Record(b"\xff\x00")),
    DeadLetter(9, "label", "tombstone", "", Record(None, b"\xfe", (("h", b"v"), ("n", None)), 12, Origin("t", 3, 4))),
]


def test_dead_letters(tmp_path):
    """A dead letter holds everything, its bytes as text where they are valid UTF-8 and else in base64."""
    path = tmp_path / "d.jsonl"
    sink = open_dead_letters(path)
    sink.truncate(0)
    sink.write(LETTERS[:2])
    length = sink.flush()
    sink.write(LETTERS[2:])
    sink.close()
    first, second, third = map(json.loads, path.read_bytes().splitlines())
    assert first == {
        "position": 0,
        "stage": "decode",
        "reason": "not_json",
        "detail": "a sentence",
        "record": {"text": "plain é\n"},
    }
    assert base64.b64decode(second["record"]["base64"]) == b"\xff\x00"
    assert third["record"] is None
    assert third["key"] == {"base64": base64.b64encode(b"\xfe").decode()}
    assert third["headers"] == [["h", {"text": "v"}], ["n", None]]
    assert (third["timestamp_ms"], third["origin"]) == (12, {"topic": "t", "partition": 3, "offset": 4})
    whole = path.read_bytes()
    again = open_dead_letters(path)
    again.truncate(length)
    again.write(LETTERS[2:])
    again.close()
    assert path.read_bytes() == whole


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.floats(),
            st.one_of(st.none(), st.text(st.characters(codec="utf-8")), st.booleans(), st.integers(-99, 99)),
        )
    )
)
def test_what_is_written_can_be_read(tmp_path_factory, pairs):
    """Values come back bit for bit, labels as they were, from any JSON reader."""
    item = Predictions(
        np.arange(len(pairs)),
        np.arange(len(pairs)),
        ("v", "y"),
        {"v": np.array([v for v, _ in pairs], dtype=np.float64), "y": objects([label for _, label in pairs])},
        {},
        {"v": np.full(len(pairs), math.nan), "y": objects([None] * len(pairs))},
        [Record(b"")] * len(pairs),
    )
    lines = written(tmp_path_factory.mktemp("sink") / "p.jsonl", [item]).splitlines()
    for (value, label), line in zip(pairs, lines, strict=True):
        found = json.loads(line)["prediction"]
        assert found["v"] == value if math.isfinite(value) else found["v"] is None
        assert (type(found["y"]), found["y"]) == (type(label), label)
