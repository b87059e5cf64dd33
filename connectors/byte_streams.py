"""The bytes of a file in order, from any position: plain, growing and replaced, or compressed.

In: a path. Out: pieces of bytes, and marks with which another process finds the same position in the same file again.
"""

import difflib
import hashlib
import os
import zlib
from collections.abc import Mapping
from io import FileIO
from pathlib import Path
from typing import Any, Literal, Protocol

from connectors.errors import SourceError

HEAD = 1 << 16  # bytes at the beginning of a file by which it is known again
_PIECE = 1 << 16  # compressed bytes taken at a time

More = Literal["wait", "end", "new"]


class ByteStream(Protocol):
    """Bytes in order."""

    position: int

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Open at a mark, or at the beginning.

        Raises:
            SourceError: the file cannot be opened, or is not the one that the mark was made in.
        """

    def mark(self, position: int) -> dict[str, Any]:
        """Return what finds a position, not beyond the current one, in the same file again."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, about `size` of them; nothing where no more are there."""

    def more(self) -> More:
        """Tell what follows when `read` has returned nothing.

        "wait": more may come; "end": nothing ever will; "new": the file was replaced, and is read from its beginning
        now.

        Raises:
            SourceError: the bytes end where they must not.
        """

    @property
    def progress(self) -> float | None:
        """The share of the file read, 0..1; None where its end is not known."""

    def close(self) -> None:
        """Close the file. May be called twice."""


class PlainFile:
    """A file as it is.

    Args:
        path: of the file.
        follow: wait for more at the end, and for a new file under this name when it is replaced or cut to nothing.
    """

    def __init__(self, path: Path, *, follow: bool = False) -> None:
        self._path, self._follow = path, follow
        self._file: FileIO | None = None
        self._replaced = False
        self.position = 0

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Open at a mark, or at the beginning."""
        self.close()
        self._file = open_file(self._path)
        self.position = 0
        if mark is not None:
            check_head(self._file, self._path, mark)
            size = os.fstat(self._file.fileno()).st_size
            if size < mark["byte"]:
                raise SourceError(
                    f"{self._path} has {size} bytes, but {mark['byte']} were read of it before: it was cut or replaced."
                    " Bring back the old file, or begin afresh."
                )
            self.position = mark["byte"]
            self._file.seek(self.position)

    def mark(self, position: int) -> dict[str, Any]:
        """Return what finds a position in the same file again."""
        return {"byte": position, **head_of(self._opened(), self.position)}

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        try:
            piece = self._opened().read(size)
        except OSError as problem:
            raise SourceError(f"{self._path} cannot be read at byte {self.position}: {problem}") from problem
        self.position += len(piece)
        return piece

    def more(self) -> More:
        """Tell what follows at the end."""
        if not self._follow:
            return "end"
        own = os.fstat(self._opened().fileno())
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return "wait"  # taken away; the new one is not there yet
        if (there.st_dev, there.st_ino) == (own.st_dev, own.st_ino):
            if there.st_size >= self.position:
                return "wait"
        elif not self._replaced:
            # the writer may have gone on between our last read and the replacement: look once more
            self._replaced = True
            return "wait"
        self._replaced = False
        self.open(None)
        return "new"

    @property
    def progress(self) -> float | None:
        """The share of the file read."""
        if self._follow or self._file is None:
            return None
        return min(1.0, self.position / max(1, os.fstat(self._file.fileno()).st_size))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _opened(self) -> FileIO:
        assert self._file is not None, "open comes first"
        return self._file


class GzipFile:
    """A gzip file, of one or several members.

    Positions are those of the bytes inside; a mark is reached by reading up to it.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self.position = 0
        self._inflater = zlib.decompressobj(wbits=31)
        self._compressed = b""  # read from the file
        self._ready = b""  # content not handed out yet
        self._inside = False  # a member has begun and not ended
        self._problem = ""

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Open at a mark, or at the beginning."""
        self.close()
        self._file = open_file(self._path)
        self._restart()
        if mark is None:
            return
        check_head(self._file, self._path, mark)
        while self.position < mark["byte"]:
            if not self.read(min(1 << 20, mark["byte"] - self.position)):
                raise SourceError(
                    f"{self._path} holds {self.position} bytes, but {mark['byte']} were read of it before: it was cut"
                    " or replaced. Bring back the old file, or begin afresh."
                )

    def mark(self, position: int) -> dict[str, Any]:
        """Return what finds a position in the same file again."""
        return {"byte": position, **head_of(self._opened(), HEAD)}

    def read(self, size: int) -> bytes:
        """Return the next bytes; all that can be read comes out before the end of a broken file."""
        while not self._ready and not self._problem:
            if not self._compressed:
                self._compressed = self._opened().read(_PIECE)
            ended = not self._compressed
            self._inflate_some(size)
            if ended:
                break
        out, self._ready = self._ready[:size], self._ready[size:]
        self.position += len(out)
        return out

    def more(self) -> More:
        """Tell that the end is reached, or that it is not a proper one."""
        if self._problem or self._inside:
            raise SourceError(
                f"{self._path} is a broken gzip file: {self._problem or 'it ends in the middle'}, after"
                f" {self.position} bytes of content. Everything before has been read; an incomplete last line is not"
                " used. Copy the file again."
            )
        return "end"

    @property
    def progress(self) -> float | None:
        """The share of the compressed file read."""
        if self._file is None:
            return None
        used = self._file.tell() - len(self._compressed)
        return min(1.0, used / max(1, os.fstat(self._file.fileno()).st_size))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _restart(self) -> None:
        self.position, self._inflater, self._inside = 0, zlib.decompressobj(wbits=31), False
        self._compressed, self._ready, self._problem = b"", b"", ""

    def _inflate_some(self, size: int) -> None:
        """Turn compressed bytes into about `size` bytes that are ready."""
        if self._inflater.eof:
            self._compressed = self._compressed.lstrip(b"\0")  # padding between and behind members
            self._inside = False
            if not self._compressed:
                return
            self._inflater = zlib.decompressobj(wbits=31)
        self._inside = self._inside or bool(self._compressed)
        before = self._inflater.copy()
        try:
            self._ready = self._inflater.decompress(self._compressed, size)
        except zlib.error as problem:
            self._problem = str(problem)
            self._ready = _salvage(before, self._compressed)
            return
        self._compressed = self._inflater.unconsumed_tail or self._inflater.unused_data
        self._inside = self._inside and not self._inflater.eof

    def _opened(self) -> FileIO:
        assert self._file is not None, "open comes first"
        return self._file


def open_file(path: Path) -> FileIO:
    """Open a file for reading.

    Raises:
        SourceError: it cannot be opened.
    """
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError as problem:
        near = difflib.get_close_matches(path.name, _listing(path.parent), n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise SourceError(f"{path} does not exist.{hint}") from problem
    except OSError as problem:
        raise SourceError(f"{path} cannot be opened: {problem.strerror}") from problem


def head_of(file: FileIO, most: int) -> dict[str, Any]:
    """Return a fingerprint of the first bytes of a file, at most `most` and `HEAD` of them."""
    head = os.pread(file.fileno(), min(most, HEAD), 0)
    return {"head_bytes": len(head), "head_sha256": hashlib.sha256(head).hexdigest()}


def check_head(file: FileIO, path: Path, mark: Mapping[str, Any]) -> None:
    """See that a file begins as it did when the mark was made.

    Raises:
        SourceError: it does not.
    """
    if head_of(file, mark["head_bytes"])["head_sha256"] != mark["head_sha256"]:
        raise SourceError(
            f"{path} does not begin as it did when it was read before: it was replaced or changed. Bring back the old"
            " file, or begin afresh."
        )


def _salvage(inflater: Any, compressed: bytes) -> bytes:
    """Return what comes out before the first broken byte."""
    out = bytearray()
    try:
        for at in range(len(compressed)):
            out += inflater.decompress(compressed[at : at + 1])
    except zlib.error:
        return bytes(out)
    return bytes(out)


def _listing(folder: Path) -> list[str]:
    try:
        return [entry.name for entry in folder.iterdir()]
    except OSError:
        return []
