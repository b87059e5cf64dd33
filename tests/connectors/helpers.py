"""Streams in files, what sources hand out in a form that can be compared, and slow oracles."""

import csv
import gzip
import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from connectors import Schema, StreamSpec, open_source


@dataclass(frozen=True)
class Outcome:
    """Everything that a source handed out.

    Attributes:
        events: per event its offset and {field: value}, missing values left out.
        rejects: per reject offset, stage, reason, detail, bytes.
        raw: the bytes of each event's record.
        covered: what the chunks covered, [start, stop) of each.
    """

    events: list
    rejects: list
    raw: list
    covered: list

    @property
    def reasons(self):
        """Offset and reason of each reject."""
        return [(offset, reason) for offset, _, reason, _, _ in self.rejects]


def plain(value):
    """A value of a column for comparison; None = missing."""
    if value is None:
        return None
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, float | np.floating):
        return None if math.isnan(value) else float(value)
    return value if isinstance(value, dict) else (type(value).__name__, value)


def rows(chunk):
    """The events of a chunk."""
    columns = {name: [plain(v) for v in column] for name, column in chunk.columns.items()}
    return [
        (int(offset), {name: values[i] for name, values in columns.items() if values[i] is not None})
        for i, offset in enumerate(chunk.offsets)
    ]


def drain(source, cuts=(), *, events=10_000, limit=None):
    """Poll a source to its end, or until `limit` events: first with the given cuts, then `events` at a time."""
    found, cuts = Outcome([], [], [], []), list(cuts)
    while limit is None or len(found.events) < limit:
        want = cuts.pop(0) if cuts else events
        if limit is not None:
            want = min(want, limit - len(found.events))
        chunk = source.poll(want)
        if chunk is None:
            break
        assert len(chunk) <= want
        if chunk.start == chunk.stop:
            break  # nothing there now
        collect(found, chunk)
    return found


def collect(found, chunk):
    """Add a chunk to an outcome, after checking that it follows and is consistent."""
    if found.covered:
        assert chunk.start == found.covered[-1][1]
    assert list(chunk.offsets) == sorted({*map(int, chunk.offsets)})
    numbers = sorted([*map(int, chunk.offsets), *(letter.offset for letter in chunk.rejects)])
    assert numbers == list(range(chunk.start, chunk.stop))
    assert [letter.offset for letter in chunk.rejects] == sorted(letter.offset for letter in chunk.rejects)
    assert len(chunk.records) == len(chunk) == len(chunk.offsets)
    for column in chunk.columns.values():
        assert len(column) == len(chunk)
        assert column.dtype == np.float64 or column.dtype == object or column.dtype == np.dtype("datetime64[us]")
    found.events.extend(rows(chunk))
    found.rejects.extend(
        (letter.offset, letter.stage, letter.reason, letter.detail, letter.record.value) for letter in chunk.rejects
    )
    found.raw.extend(record.value for record in chunk.records)
    found.covered.append((chunk.start, chunk.stop))


def read(path, schema=None, *, offset=0, state=None, cuts=(), **settings):
    """Everything that is in a file."""
    source = open_source(StreamSpec(str(path), **settings), schema or Schema())
    source.open(offset, state)
    try:
        return drain(source, cuts)
    finally:
        source.close()


def save(path, data):
    """Write bytes to a file, compressed if its name says so."""
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


def json_bytes(events):
    """Events as JSON Lines, written by the standard library."""
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def csv_bytes(names: Sequence[str], records: Sequence[Sequence[str]], delimiter=",") -> bytes:
    """Records as CSV, written by the standard library."""
    out = io.StringIO()
    # with this line end the writer also quotes a carriage return
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
    writer.writerow(names)
    writer.writerows(records)
    return out.getvalue().encode()


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micro(moment):
    """A moment of the standard library as `plain` shows it."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return str(np.datetime64((aware - EPOCH) // timedelta(microseconds=1), "us"))
