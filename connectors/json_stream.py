"""Any recorded stream as records for a log: JSON objects, with a key and a timestamp where fields say so.

In: `StreamSpec`. Out: records in the order of the stream. JSON Lines, Parquet and river's streams have their values as
they are; a CSV row becomes an object of its fields, without those that are missing, numbers digit by digit. What cannot
be read goes on as it came: whoever reads the log will tell why.

Axes: K events of a chunk.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson

from connectors.errors import SchemaError, SourceError
from connectors.recording import RecordingReader, is_recording
from connectors.records import Chunk, Column, Record
from connectors.scalars import UnfitError, read_text
from connectors.schema import Kind, Schema
from connectors.streams import StreamSpec, look, open_source, stream_format

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_NONE = np.datetime64("NaT", "us")


class Records(Protocol):
    """Hands out the records of a stream."""

    def read(self, most: int) -> list[Record]:
        """Return the next records, at most `most` that can be read with the others among them; none at the end.

        Raises:
            SourceError: the stream cannot be read.
        """

    @property
    def progress(self) -> float | None:
        """The share of the stream read; None where its end is not known."""

    def close(self) -> None:
        """Give up what is held open. May be called twice."""


def open_records(
    spec: StreamSpec, *, key: str = "", moment: str = "", moment_kind: Kind = "moment", topic: str = ""
) -> Records:
    """Open a stream, or a recording, whose records have keys and timestamps of their own.

    Args:
        spec: the stream.
        key: field whose text becomes the key; "" = none.
        moment: field that holds the event time, which becomes the timestamp; "" = none.
        moment_kind: how that is written.
        topic: of a recording that holds labels, too, the topic whose records are wanted; "" = that of the events.

    Raises:
        SourceError: it cannot be opened, or is of a kind that has no form in JSON.
        SchemaError: there is no such field, or no such topic.
    """
    if is_recording(spec.source):
        if key or moment:
            raise SchemaError(f"{spec.source} is a recording, which has keys and timestamps; name no field for them")
        return _OfTopic(RecordingReader(Path(spec.source)), topic)
    if topic:
        raise SchemaError(f"{spec.source} is no recording, and topic {topic!r} is asked for; leave it out")
    return _JsonStream(spec, key, moment, moment_kind)


class _OfTopic:
    """The records of one topic in a recording."""

    def __init__(self, reader: RecordingReader, topic: str) -> None:
        self._reader, self._topic = reader, topic or reader.heading.topic
        names = {reader.heading.topic: 0} | {stretch.topic: 0 for stretch in reader.heading.partitions}
        if self._topic not in names:
            reader.close()
            raise SchemaError(f"{self._topic!r} is not in the recording; it holds {', '.join(names)}")

    def read(self, most: int) -> list[Record]:
        """Return the next records."""
        while records := self._reader.read(most):
            wanted = [one for one in records if one.origin is not None and one.origin.topic == self._topic]
            if wanted:
                return wanted
        return []

    @property
    def progress(self) -> float | None:
        """The share of the recording read."""
        return self._reader.progress

    def close(self) -> None:
        """Close the file."""
        self._reader.close()


class _JsonStream:
    """A stream that is no recording."""

    def __init__(self, spec: StreamSpec, key: str, moment: str, moment_kind: Kind) -> None:
        if stream_format(spec.source) == "libsvm":
            raise SourceError(
                f"{spec.source} is sparse: a field that a line does not name is 0 there, and JSON has no form for that;"
                " convert the file to JSON Lines first"
            )
        head = look(spec)
        names = [field.name for field in head.fields]
        for name in filter(None, (key, moment)):
            if name not in names:
                raise SchemaError(f"{name!r} is not a field of {spec.source}; it has {', '.join(names[:20])}")
        self._key, self._moment, self._moment_kind = key, moment, moment_kind
        self._kinds = {field.name: field.kind for field in head.fields}
        self._text = stream_format(spec.source) == "csv"
        if self._text:  # every field as its text
            schema = Schema(kinds=dict.fromkeys(names, "category"))
        else:
            schema = Schema(kinds={moment: moment_kind} if moment else {}, id=key, extra="ignore")
        self._source = open_source(spec, schema)
        self._source.open(0, None)
        self._stop = 0

    def read(self, most: int) -> list[Record]:
        """Return the next records."""
        while True:
            chunk = self._source.poll(most)
            if chunk is None:
                return []
            self._stop = chunk.stop
            if chunk.stop > chunk.start:
                return list(self._records(chunk))

    @property
    def progress(self) -> float | None:
        """The share of the stream read."""
        return self._source.progress

    def close(self) -> None:
        """Close the stream."""
        self._source.close()

    def _records(self, chunk: Chunk) -> Iterator[Record]:
        values = self._objects(chunk) if self._text else [record.value for record in chunk.records]
        keys = _column(chunk, self._key, None)
        moments = self._moments(chunk)
        row, letters = 0, iter(chunk.rejects)
        letter = next(letters, None)
        while row < len(chunk) or letter is not None:
            if letter is not None and (row == len(chunk) or letter.offset < chunk.offsets[row]):
                yield letter.record
                letter = next(letters, None)
                continue
            key = None if keys[row] is None else str(keys[row]).encode()
            yield Record(values[row], key, timestamp_ms=moments[row])
            row += 1

    def _objects(self, chunk: Chunk) -> list[bytes]:
        """Return each row as a JSON object."""
        names = [name for name in self._kinds if name in chunk.columns]
        columns = [chunk.columns[name].tolist() for name in names]
        kinds = [self._kinds[name] for name in names]
        return [
            orjson.dumps(
                {n: _json(text, kind) for n, kind, text in zip(names, kinds, row, strict=True) if text is not None}
            )
            for row in zip(*columns, strict=True)
        ]

    def _moments(self, chunk: Chunk) -> list[int]:
        """Return event times [K] in milliseconds since 1970; -1 = there is none."""
        column = _column(chunk, self._moment, _NONE)
        if self._text and self._moment:
            column = np.array([self._moment_of(text) for text in column.tolist()], dtype="datetime64[us]")
        times = column.astype("datetime64[us]")
        milliseconds: list[int] = np.where(np.isnat(times), -1, times.astype(np.int64) // 1000).tolist()
        return milliseconds

    def _moment_of(self, text: str | None) -> object:
        if text is None:
            return _NONE
        try:
            return read_text(self._moment_kind, text)
        except UnfitError:
            return _NONE


def _column(chunk: Chunk, name: str, absent: object) -> Column:
    """Return a column; one of missing values where there is none."""
    if name in chunk.columns:
        return chunk.columns[name]
    return np.full(len(chunk), absent)


def _json(text: str, kind: Kind) -> object:
    """Return the text of a field of some kind as JSON has it."""
    bare = text.strip()
    if kind in ("number", "integer"):
        if _JSON_NUMBER.fullmatch(bare):
            return orjson.Fragment(bare)
        try:
            return float(bare)  # +5, .5, 007
        except ValueError:
            return text
    if kind == "boolean" and bare.lower() in ("true", "false"):
        return bare.lower() == "true"
    return text
