"""Recordings on disk: a file has its name only when it is whole.

In: records in the order in which they are to be replayed. Out: a file, plain or (.gz) compressed.
"""

import fcntl
import gzip
import hashlib
import os
from collections.abc import Sequence, Set
from pathlib import Path
from typing import BinaryIO

from connectors.disk import NO_SPACE, sync_folder
from connectors.errors import SinkError
from connectors.recording.layout import ENDINGS, Ending, Heading, ending_line, heading_line, is_recording, record_line
from connectors.records import Origin, Record

PART = ".part"  # behind the name while the file is written


class RecordingWriter:
    """Writes a recording; used as a context manager, whose end without `finish` leaves nothing.

    Args:
        path: of the file, which must not exist.
        heading: what it holds.
        cuts: records behind which the clock ended a micro-batch.

    Raises:
        SinkError: the name ends otherwise, something has it, or it cannot be written.
    """

    def __init__(self, path: Path, heading: Heading, cuts: Set[Origin] = frozenset()) -> None:
        check_name(path)
        self._path, self._part = path, path.with_name(path.name + PART)
        self._hash, self._records, self._topic, self._cuts = hashlib.sha256(), 0, heading.topic, cuts
        try:
            self._file = os.fdopen(os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb")
        except OSError as problem:
            raise SinkError(f"{path} cannot be written: {problem.strerror}") from problem
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as problem:
            self._file.close()
            raise SinkError(
                f"{path} is being written by another process; wait for it, or choose another name"
            ) from problem
        self._file.truncate()
        packed = path.suffix.lower() == ".gz"
        # neither name nor time in the head of the file: the same records give the same bytes
        self._out: BinaryIO = (
            gzip.GzipFile("", "wb", fileobj=self._file, mtime=0) if packed else self._file  # type: ignore[assignment]
        )
        self._put(heading_line(heading))

    def __enter__(self) -> "RecordingWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def write(self, records: Sequence[Record]) -> None:
        """Write records.

        Raises:
            SinkError: there is no space, or the file cannot be written.
        """
        self._put(b"".join([record_line(record, self._topic, cut=record.origin in self._cuts) for record in records]))
        self._records += len(records)

    def finish(self) -> int:
        """Make the file whole and durable, and give it its name; returns its bytes.

        Raises:
            SinkError: it cannot be written.
        """
        self._put(ending_line(Ending(self._records, self._hash.hexdigest())))
        try:
            if self._out is not self._file:
                self._out.close()
            self._file.flush()
            os.fsync(self._file.fileno())
            size = os.fstat(self._file.fileno()).st_size
            self._part.rename(self._path)
            sync_folder(self._path.parent)
        except OSError as problem:
            raise _translated(self._path, problem) from problem
        self._file.close()
        return size

    def close(self) -> None:
        """Remove what is not finished. May be called twice."""
        if not self._file.closed:
            self._part.unlink(missing_ok=True)
            self._file.close()

    def _put(self, data: bytes) -> None:
        try:
            self._out.write(data)
        except OSError as problem:
            raise _translated(self._path, problem) from problem
        self._hash.update(data)


def check_name(path: Path) -> None:
    """See that a file of this name can be a new recording.

    Raises:
        SinkError: it cannot.
    """
    if not is_recording(path.name):
        raise SinkError(f"{path} must end in {' or '.join(ENDINGS)}")
    if path.exists():
        raise SinkError(f"{path} exists; remove it, or choose another name")


def _translated(path: Path, problem: OSError) -> SinkError:
    if problem.errno in NO_SPACE:
        return SinkError(f"no space left for {path} ({problem.strerror}); make room and begin again")
    return SinkError(f"{path} cannot be written: {problem.strerror}")
