"""A file that grows by whole items, survives a full disk, and can be cut back to any length that was made durable.

In: bytes. Out: a file. What could not be written waits in memory, one item at most, and the next attempt goes on where
the last one stopped, so nothing is lost or doubled.
"""

import os
import stat
from contextlib import suppress
from pathlib import Path

from connectors.disk import NO_SPACE, sync_folder
from connectors.errors import SinkError


class AppendFile:
    """A file written from its beginning, or from where it was cut.

    Args:
        path: of the file; its folder must exist. A device or pipe will do, but cannot be cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._regular = True
        self._waiting = bytearray()
        self._length = 0  # of the file and what waits together

    @property
    def length(self) -> int:
        """Bytes taken so far."""
        return self._length

    def truncate(self, length: int) -> None:
        """Open the file, and forget everything after the first `length` bytes.

        Raises:
            SinkError: it cannot be opened, or is shorter.
        """
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            found = os.fstat(self._file)
            self._regular = stat.S_ISREG(found.st_mode)
            if self._regular:
                if found.st_size < length:
                    raise SinkError(
                        f"{self._path} has {found.st_size} bytes, but {length} were written before: it was cut or"
                        " replaced. Bring back the old file, or begin afresh."
                    )
                os.ftruncate(self._file, length)
                os.lseek(self._file, length, os.SEEK_SET)
                sync_folder(self._path.parent)
        except OSError as problem:
            raise SinkError(f"{self._path} cannot be opened for writing: {problem.strerror}") from problem
        self._waiting.clear()
        self._length = length

    def make_room(self) -> None:
        """Write out what waits since an attempt failed, before another item is taken.

        Raises:
            SinkError: it cannot be written.
        """
        self._write_out()

    def write(self, data: bytes) -> None:
        """Take bytes and write them out at once, so that readers see them; what cannot be written now waits."""
        assert self._file >= 0, "truncate comes first"
        self._waiting += data
        self._length += len(data)
        with suppress(SinkError):  # told by the next `make_room` or `flush`, which comes before anything is lost
            self._write_out()

    def flush(self) -> int:
        """Make everything taken durable; returns the length of the file.

        Raises:
            SinkError: it cannot be written.
        """
        assert self._file >= 0, "truncate comes first"
        self._write_out()
        try:
            if self._regular:
                os.fsync(self._file)
        except OSError as problem:
            raise _translated(self._path, problem) from problem
        return self._length

    def close(self) -> None:
        """Flush and close the file, which is closed also where flushing fails. May be called twice."""
        if self._file < 0:
            return
        try:
            self.flush()
        finally:
            os.close(self._file)
            self._file = -1

    def _write_out(self) -> None:
        while self._waiting:
            try:
                with memoryview(self._waiting) as waiting:
                    written = os.write(self._file, waiting)
            except OSError as problem:
                raise _translated(self._path, problem) from problem
            del self._waiting[:written]


def _translated(path: Path, problem: OSError) -> SinkError:
    if problem.errno in NO_SPACE:
        return SinkError(
            f"no space left for {path} ({problem.strerror}); make room, nothing is lost meanwhile", retryable=True
        )
    return SinkError(f"{path} cannot be written: {problem.strerror}")
