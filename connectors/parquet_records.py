"""Parquet to events: a row is a record, a column a field.

In: a file. Out: blocks of columns. Row groups are read one at a time and in pieces, so that memory stays the same
however long the file is. A row has no bytes of its own: its record is the row as a JSON object.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from connectors.byte_streams import GzipFile, open_file
from connectors.cells import ArrowCells
from connectors.decode import MOST_CELLS, CellsBlock
from connectors.errors import SourceError
from connectors.json_text import json_text
from connectors.records import Record

_TAIL = 1 << 16  # bytes at the end of a file, where its description lies, by which it is known again
_BUFFER = 1 << 20
_MOST_ROWS = 4096  # of a batch


class ParquetReader:
    """Reads a Parquet file block by block.

    Args:
        path: of the file; one that ends in .gz is unpacked into a temporary file first, as Parquet is not read in
            order.
    """

    targets: tuple[str, ...] = ()
    task = ""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._raw: BinaryIO | None = None
        self._file: Any = None
        self._batches: Iterator[Any] = iter(())
        self._left: Any = None  # of a batch
        self._next = 0  # row to read
        self._place = 0  # first row that `read` returned last
        self._mark: dict[str, Any] = {}

    @property
    def fields(self) -> tuple[str, ...] | None:
        """Names of the fields."""
        return None if self._file is None else tuple(self._file.schema_arrow.names)

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Go to a mark, or to the beginning."""
        self.close()
        self._raw = _unpacked(self._path) if self._path.suffix.lower() == ".gz" else open_file(self._path)
        try:
            self._file = parquet.ParquetFile(self._raw, buffer_size=_BUFFER, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as problem:
            raise SourceError(f"{self._path} is not a Parquet file, or a broken one: {problem}") from problem
        names = self._file.schema_arrow.names
        if len(set(names)) < len(names):
            raise SourceError(f"{self._path} has several columns of one name; give each a name of its own")
        size = self._raw.seek(0, os.SEEK_END)
        self._raw.seek(max(0, size - _TAIL))
        self._mark = {"bytes": size, "tail_sha256": hashlib.sha256(self._raw.read(_TAIL)).hexdigest()}
        self._next = self._place = 0
        if mark is not None:
            if any(mark[key] != value for key, value in self._mark.items()):
                raise SourceError(
                    f"{self._path} is not the file it was when it was read before. Bring back the old file, or begin"
                    " afresh."
                )
            self._next = self._place = mark["row"]
        self._batches, self._left = self._from(self._next), None

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last."""
        return {"row": self._place, **self._mark}

    def read(self, most: int) -> CellsBlock | None:
        """Return the next records, at most `most`; None at the end."""
        try:
            while self._left is None or not self._left.num_rows:
                self._left = next(self._batches)
        except StopIteration:
            return None
        except (pa.ArrowInvalid, OSError) as problem:
            raise SourceError(f"{self._path} cannot be read from row {self._next} on: {problem}") from problem
        part, self._left = self._left.slice(0, most), self._left.slice(most)
        self._place, self._next = self._next, self._next + part.num_rows
        cells = {name: ArrowCells(part.column(place)) for place, name in enumerate(part.schema.names)}
        return CellsBlock(_Rows(part), cells, np.arange(part.num_rows), {})

    @property
    def progress(self) -> float | None:
        """The share of the rows read."""
        return None if self._file is None else self._next / max(1, self._file.metadata.num_rows)

    def close(self) -> None:
        """Close the file. May be called twice."""
        if self._raw is not None:
            self._raw.close()
        self._raw, self._file, self._left, self._batches = None, None, None, iter(())

    def _from(self, row: int) -> Iterator[Any]:
        """Read batches from a row on."""
        metadata, first = self._file.metadata, 0
        most = max(16, min(_MOST_ROWS, MOST_CELLS // max(1, len(self.fields or ()))))
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if row < first + rows:
                skip = max(0, row - first)
                for batch in self._file.iter_batches(batch_size=most, row_groups=[group], use_threads=False):
                    if skip < batch.num_rows:
                        yield batch.slice(skip)
                    skip = max(0, skip - batch.num_rows)
            first += rows


@dataclass(frozen=True, slots=True)
class _Rows(Sequence[Record]):
    """Rows of a batch, each of which becomes a record only when asked for."""

    batch: Any

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "_Rows": ...
    def __getitem__(self, index: int | slice) -> "Record | _Rows":
        if isinstance(index, slice):
            first, last, _ = index.indices(len(self))
            return _Rows(self.batch.slice(first, last - first))
        return Record(json_text(self.batch.slice(index, 1).to_pylist()[0]))


def _unpacked(path: Path) -> BinaryIO:
    """Unpack a gzip file into a temporary one without a name.

    Raises:
        SourceError: it is broken, or there is no space.
    """
    with ExitStack() as held:
        stream = GzipFile(path)
        held.callback(stream.close)
        stream.open(None)
        try:
            file = held.enter_context(tempfile.TemporaryFile())
            while piece := stream.read(_BUFFER):
                file.write(piece)
            stream.more()  # an end that is none is told here
            file.seek(0)
        except OSError as problem:
            raise SourceError(f"{path} cannot be unpacked: {problem}") from problem
        held.pop_all()
        stream.close()
        return file
