"""Recorded streams, whole, against the standard library."""

import csv
import gzip
from itertools import islice

import pytest

from connectors import Schema, StreamSpec, look
from tests.connectors.helpers import read
from tests.recorded import data_folder, stream


@pytest.mark.parametrize("name", ["elec2", "sms_spam", "abalone", "trump_approval"])
def test_csv_streams(name):
    """Every record of a recorded stream is an event, with the values that the standard library finds."""
    path = stream(name)
    head = look(StreamSpec(str(path)))
    kinds = {field.name: "number" if field.kind in ("integer", "number") else "category" for field in head.fields}
    found = read(path, Schema(kinds=kinds))
    assert found.rejects == []
    with gzip.open(path, "rt", newline="") as file:
        wanted = list(csv.DictReader(file))
    assert len(found.events) == len(wanted)
    for (_, event), record in zip(found.events, wanted, strict=True):
        for field, text in record.items():
            assert event.get(field) == (
                None if not text else float(text) if kinds[field] == "number" else ("str", text)
            )


def test_a_stream_of_very_many_fields():
    """A sparse stream of 39,916 fields is read in order, its labels are those of the file."""
    path = data_folder() / "spam_full.libsvm.gz"
    if not path.exists():
        pytest.skip(f"{path} is absent from the folder that STREAMNN_DATA names")
    with gzip.open(path) as file:
        from_file = [line.split(b" ", 1)[0] for line in islice(file, 300)]
    head = look(StreamSpec(str(path)), records=300)
    assert head.records == 300
    assert head.fields[0].name == "label"
    assert {str(value).encode() for value in head.fields[0].values} == set(from_file)
