"""A recording as a source: its records in the order in which they stand there, decoded like those of the topic.

In: a file, a codec. Out: chunks. A line that is damaged, or an end that is missing, is told with the number of the
line, when everything before it has been handed out.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from connectors.base import Codec
from connectors.byte_streams import ByteStream, GzipFile, PlainFile
from connectors.errors import NotYetError, SourceError
from connectors.recording.layout import Ending, Heading, read_heading, read_line
from connectors.records import Chunk, Record

_log = logging.getLogger(__name__)

_PIECE = 1 << 20  # bytes read at a time
_MOST_BYTES = 1 << 30  # of a line; Kafka's records are far smaller


class RecordingReader:
    """Reads the lines of a recording.

    Args:
        path: of the file.

    Raises:
        SourceError: it cannot be opened, or does not begin like a recording that can be read here.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: ByteStream = GzipFile(path) if path.suffix.lower() == ".gz" else PlainFile(path)
        self._stream.open(None)
        self._data, self._at = b"", 0  # bytes in hand, and how many of them are done with
        self._hash, self._line = hashlib.sha256(), 0
        self._problem: SourceError | None = None
        self.records = 0  # read so far
        self.cuts: tuple[int, ...] = ()  # numbers of those read last behind which the clock ended a micro-batch
        self.ended = False
        try:
            line = self._next()
            self.heading: Heading = read_heading(line)
        except SourceError:
            self.close()
            raise
        except ValueError as problem:
            self.close()
            raise SourceError(f"{path}, line 1: {problem}") from problem
        self.heading_sha256 = hashlib.sha256(line).hexdigest()
        self._hash.update(line)

    def read(self, most: int) -> list[Record]:
        """Return the next records, at most `most`; none at the end.

        Raises:
            SourceError: the next line is damaged, or missing.
        """
        records: list[Record] = []
        cuts: list[int] = []
        if self._problem is not None:
            raise self._problem
        try:
            while len(records) < most and not self.ended:
                line = self._next()
                found = read_line(line, self.heading.topic)
                if isinstance(found, Ending):
                    self._end(found, self.records + len(records))
                else:
                    if found[1]:
                        cuts.append(self.records + len(records))
                    records.append(found[0])
                    self._hash.update(line)
        except (SourceError, ValueError) as problem:
            told = problem if isinstance(problem, SourceError) else self._damaged(str(problem))
            if not records:
                raise told from problem
            self._problem = told  # what stands before it comes first
        self.records += len(records)
        self.cuts = tuple(cuts)
        return records

    def skip(self, records: int) -> None:
        """Pass over records without looking into them.

        Raises:
            SourceError: there are fewer.
        """
        for _ in range(records):
            self._hash.update(self._next())
        self.records += records

    @property
    def progress(self) -> float:
        """The share of the file read."""
        return 1.0 if self.ended else self._stream.progress or 0.0

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._stream.close()

    def _next(self) -> bytes:
        """Return the next line; there has to be one."""
        self._line += 1
        line = self._next_bytes()
        if not line:
            raise self._damaged("the file ends here, and its last line is missing: it was cut")
        return line

    def _next_bytes(self) -> bytes:
        """Return the bytes up to the next line end, or the end of the file."""
        end = self._data.find(b"\n", self._at)
        while end < 0:
            looked = len(self._data) - self._at
            if looked > _MOST_BYTES:
                raise self._damaged(f"no record is longer than {_MOST_BYTES} bytes")
            piece = self._stream.read(max(_PIECE, looked))
            if not piece:
                try:
                    self._stream.more()
                except SourceError as problem:
                    raise self._damaged(str(problem)) from problem
                end = len(self._data) - 1
                break
            self._data, self._at = self._data[self._at :] + piece, 0
            end = self._data.find(b"\n", looked)
        line, self._at = self._data[self._at : end + 1], end + 1
        return line

    def _end(self, ending: Ending, records: int) -> None:
        self.ended = True
        if ending.records != records:
            raise self._damaged(f"{ending.records} records were written, and {records} stand before this line")
        if ending.sha256 != self._hash.hexdigest():
            raise self._damaged("the lines before are not those that were written (their sum differs)")
        if self._next_bytes():
            raise self._damaged("this is the last line of a recording, and more follows")

    def _damaged(self, what: str) -> SourceError:
        return SourceError(
            f"{self._path}, line {self._line}: {what}. Everything before this line has been read; copy or record the"
            " file again."
        )


class RecordingSource:
    """A `Source` that reads a recording.

    Args:
        path: of the file.
        codec: turns records into columns.
    """

    def __init__(self, path: Path, codec: Codec) -> None:
        self._path, self._codec = path, codec
        self._reader: RecordingReader | None = None
        self._undecoded: list[Record] = []  # read, when what decoding needs did not answer

    def open(self, offset: int, state: Mapping[str, Any] | None) -> None:
        """Make ready to hand out the record number `offset` next."""
        self.close()
        self._reader = reader = RecordingReader(self._path)
        if state is not None and state.get("heading_sha256") != reader.heading_sha256:
            self.close()
            raise SourceError(
                f"{self._path} is not what the checkpoint was read from; bring back the old file, or begin afresh in"
                " another folder of checkpoints"
            )
        reader.skip(offset)
        self._undecoded = []
        self._codec.load({} if state is None else state["codec"])

    def poll(self, events: int) -> Chunk | None:
        """Return the next records; none of them while what decoding needs does not answer."""
        reader = self._opened()
        records = self._undecoded or reader.read(events)
        if not records:
            return None
        start = reader.records - len(records)
        offsets = np.arange(start, reader.records, dtype=np.int64)
        try:
            chunk = self._codec.decode(records, offsets, start=start, stop=reader.records)
        except NotYetError as error:
            if not self._undecoded:
                _log.warning("%s; waiting for it", error)
            self._undecoded = records
            return self._codec.decode([], offsets[:0], start=start, stop=start)
        self._undecoded = []
        return replace(chunk, cuts=reader.cuts) if reader.cuts else chunk

    def state(self, offset: int) -> dict[str, Any]:
        """Return what `open` needs to go on with record number `offset`."""
        return {
            "kind": "recording",
            "heading_sha256": self._opened().heading_sha256,
            "codec": self._codec.state(offset),
        }

    def commit(self, offset: int) -> None:
        """Nothing is remembered that could be forgotten."""

    @property
    def progress(self) -> float | None:
        """The share of the recording handed out."""
        return None if self._reader is None else self._reader.progress

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _opened(self) -> RecordingReader:
        assert self._reader is not None, "open comes first"
        return self._reader
