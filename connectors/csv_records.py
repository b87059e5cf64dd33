"""CSV to events: a header line with the names of the fields, then one record a line.

In: lines of a file. Out: blocks of columns. Fields are quoted as RFC 4180 has it: a field that begins with a quotation
mark ends with one, in between it is doubled; elsewhere it is a character like others. A quoted field may hold line
ends. A quotation mark that is never closed spoils its own line only, unless what follows makes a record with the right
number of fields.

Axes: N records of a block, K readable ones.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from connectors.byte_streams import GzipFile, PlainFile
from connectors.cells import Refusal, TextCells
from connectors.decode import CellsBlock
from connectors.errors import SourceError
from connectors.lines import Framed, LineReader, Lines, frame_lines, trim
from connectors.records import IntArray
from connectors.scalars import MISSING_WORDS

_BAD_QUOTES = Refusal(
    "bad_quotes", "a quotation mark is never closed, or something follows a closed one; double those inside a field"
)


class CsvReader:
    """Reads a CSV file block by block.

    Args:
        path: of the file.
        delimiter: between fields.
        ignore: fields that need not be looked at.
        follow: wait for more at the end, and go on with a new file when it is replaced.
        max_record_bytes: longer records are refused.

    Raises:
        SourceError: the delimiter is no single character.
    """

    targets: tuple[str, ...] = ()
    task = ""

    def __init__(
        self, path: Path, *, delimiter: str, ignore: Sequence[str], follow: bool, max_record_bytes: int
    ) -> None:
        if len(delimiter.encode()) != 1 or delimiter in '"\r\n':
            raise SourceError(f"the delimiter is {delimiter!r}; use one ASCII character such as , or ; or a tab")
        self._path, self._ignore = path, frozenset(ignore)
        self._most, self._follow = max_record_bytes, follow
        self._dialect = Dialect(delimiter)
        stream = GzipFile(path) if path.suffix.lower() == ".gz" else PlainFile(path, follow=follow)
        self._lines = LineReader(stream, self._frame, max_record_bytes)
        self._names: tuple[str, ...] = ()

    @property
    def fields(self) -> tuple[str, ...] | None:
        """Names of the fields; None before the header has come."""
        return self._names or None

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Read the header, then go to a mark or stay."""
        self._names = ()
        self._lines.open(None)
        header = self._lines.read(1)
        if header:
            self._take_header(header)
        elif not self._follow:
            raise SourceError(f"{self._path} is empty, expected a header line with the names of the fields")
        if mark is not None:
            self._lines.open(mark)

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last."""
        return self._lines.mark()

    def read(self, most: int) -> CellsBlock | None:
        """Return the next records, at most `most`; none if none are there now, None at the end."""
        lines = self._lines.read(most)
        if lines is not None and lines.begins:
            self._take_header(lines[:1])
            lines = lines[1:]
        return None if lines is None else self._dialect.block(lines, self._names, self._ignore)

    @property
    def progress(self) -> float | None:
        """The share of the file read."""
        return self._lines.progress

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()

    def _frame(self, data: bytes, final: bool) -> Framed:
        framed = self._dialect.frame(data, final, width=len(self._names), most=self._most)
        if self._names or not len(framed.starts):
            return framed
        # the header says how many fields the others have, so it comes alone
        consumed = data.find(b"\n", framed.ends[0]) + 1 or len(data)
        refused = {row: why for row, why in framed.refused.items() if row == 0}
        return Framed(framed.starts[:1], framed.ends[:1], consumed, refused, again=True)

    def _take_header(self, lines: Lines) -> None:
        """Learn the names of the fields, or see that a new file has the same ones."""
        try:
            header = lines.value(0).decode()
        except UnicodeDecodeError as problem:
            raise SourceError(f"the header of {self._path} is not valid UTF-8 ({problem.reason})") from problem
        if lines.refused:
            raise SourceError(f"the header of {self._path} cannot be used: {lines.refused[0].detail}")
        found = self._dialect.split(header) or []
        names = tuple(name.strip() or f"column_{place}" for place, name in enumerate(found))
        twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
        if twice:
            raise SourceError(f"the header of {self._path} names {twice} more than once; give each field a name")
        if self._names and names != self._names:
            raise SourceError(
                f"{self._path} was replaced by a file with other fields: {list(names)} instead of {list(self._names)}"
            )
        self._names = names


class Dialect:
    """How lines are split into fields.

    Args:
        delimiter: one ASCII character.
    """

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter
        d = re.escape(delimiter)
        # possessive throughout, so that no line takes more than one pass
        quoted, plain = r'"(?:[^"]++|"")*+"', rf'(?:[^"{d}\n][^{d}\n]*+)?+'
        one = f"(?:{quoted}|{plain})"
        self._record = re.compile(rf"{one}(?:{d}{one})*+\r?(?=\n|\Z)".encode())
        self._unclosed = re.compile(rf'(?:{one}{d})*+"(?:[^"]++|"")*+\Z'.encode())
        self._field = re.compile(rf'(?:"((?:[^"]++|"")*+)"|((?!")[^{d}]*+))({d}|\Z)')

    def frame(self, data: bytes, final: bool, *, width: int, most: int) -> Framed:
        """Find the records.

        Args:
            data: a piece of a file that begins with a record.
            final: nothing comes behind it.
            width: fields that a record of several lines must have; 0 = any number.
            most: bytes that a record of several lines may have.
        """
        framed = frame_lines(data, final)
        starts, ends, consumed, refused = framed.starts, framed.ends, framed.consumed, dict[int, Refusal]()
        keep = np.ones(len(starts), dtype=bool)
        until = 0  # lines that begin before this byte belong to a record already found
        for row in _with_quotes(data, starts, ends):
            start = int(starts[row])
            if start < until:
                continue
            match = self._record.match(data, start)
            stop = match.end() if match else len(data)
            if match and stop <= ends[row] + 1:
                continue
            undecided = stop == len(data) if match else self._unclosed.match(data, start) is not None
            if undecided and not final and len(data) - start <= most:
                keep[row:], consumed = False, start
                break
            end = int(trim(data, starts[row : row + 1], np.array([stop], dtype=np.int64))[0])
            if match and stop - start <= most and width in (0, self._width(data[start:end])):
                ends[row], until = end, stop
                keep[row + 1 :] &= starts[row + 1 :] >= until
            else:
                refused[row] = _BAD_QUOTES
        if not keep.all():
            places = np.cumsum(keep) - 1
            refused = {int(places[row]): why for row, why in refused.items() if keep[row]}
        return Framed(starts[keep], ends[keep], consumed, refused)

    def split(self, text: str) -> list[str] | None:
        """Split a record into its fields; None if quotation marks are not as they must be."""
        if '"' not in text:
            return text.split(self._delimiter)
        fields, at = list[str](), 0
        while True:
            match = self._field.match(text, at)
            if match is None:
                return None
            quoted, plain, behind = match.groups()
            fields.append(plain if quoted is None else quoted.replace('""', '"'))
            if not behind:
                return fields
            at = match.end()

    def block(self, lines: Lines, names: tuple[str, ...], ignore: frozenset[str]) -> CellsBlock:
        """Split records into fields; those that are not well-formed are refused."""
        refused = dict(lines.refused)
        rows = _without(np.arange(len(lines)), refused)
        text = _joined(lines, rows)
        bad = _not_utf8(lines, rows, text)
        if not bad:
            cells = self._columns(text, len(rows), names, ignore)
            if cells is not None:
                return CellsBlock(lines, cells, rows, refused, text=True)
            bad = self._wrong_width(lines, rows, len(names))
        refused.update(bad)
        if bad:
            return self.block(Lines(lines.data, lines.starts, lines.ends, refused), names, ignore)
        return CellsBlock(lines, self._one_by_one(lines, rows, names, ignore), rows, refused, text=True)

    def _columns(
        self, text: bytes, count: int, names: tuple[str, ...], ignore: frozenset[str]
    ) -> dict[str, TextCells] | None:
        """Split well-formed records in one go; None if the library does not see as many of them as there are."""
        if not count:
            return {}
        if b"\r" in text:  # Arrow takes one for a line end wherever it stands
            return None
        quotes = b'"' in text
        wanted = [name for name in names if name not in ignore]
        try:
            table = csv.read_csv(
                pa.BufferReader(text),
                csv.ReadOptions(use_threads=False, column_names=names, block_size=len(text) + 1),
                csv.ParseOptions(
                    delimiter=self._delimiter, quote_char='"' if quotes else False, newlines_in_values=quotes
                ),
                csv.ConvertOptions(
                    check_utf8=False,  # has been checked
                    column_types=dict.fromkeys(names, pa.string()),
                    include_columns=wanted or names[:1],
                    null_values=MISSING_WORDS,
                    strings_can_be_null=True,
                    quoted_strings_can_be_null=True,
                ),
            )
        except pa.ArrowInvalid:
            return None
        if table.num_rows != count:
            return None
        return {name: TextCells(table.column(name).combine_chunks()) for name in wanted}

    def _one_by_one(
        self, lines: Lines, rows: IntArray, names: tuple[str, ...], ignore: frozenset[str]
    ) -> dict[str, TextCells]:
        """Split well-formed records that the library reads differently."""
        records = [self.split(lines.value(row).decode()) for row in rows.tolist()]
        columns = zip(*(fields for fields in records if fields is not None), strict=True)
        return {name: TextCells.of(column) for name, column in zip(names, columns, strict=True) if name not in ignore}

    def _wrong_width(self, lines: Lines, rows: IntArray, width: int) -> dict[int, Refusal]:
        """Find the records that have too many or too few fields."""
        widths = {row: self._width(lines.value(row)) for row in rows.tolist()}
        return {
            row: Refusal(
                "wrong_field_count",
                f"the record has {found} fields, but the header names {width}; text that holds the delimiter"
                f" {self._delimiter!r} must stand in quotation marks",
            )
            for row, found in widths.items()
            if found != width
        }

    def _width(self, record: bytes) -> int:
        if b'"' not in record:
            return record.count(self._delimiter.encode()) + 1
        return len(self.split(record.decode("latin-1")) or [])  # any reading of the bytes has as many delimiters


def _without(rows: IntArray, refused: Mapping[int, Refusal]) -> IntArray:
    return rows if not refused else rows[~np.isin(rows, list(refused))]


def _with_quotes(data: bytes, starts: IntArray, ends: IntArray) -> list[int]:
    """Return which lines have quotation marks."""
    if b'"' not in data or not len(starts):
        return []
    quotes = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord('"'))
    rows = np.searchsorted(starts, quotes, side="right") - 1
    found: list[int] = np.unique(rows[(rows >= 0) & (quotes < ends[rows])]).tolist()
    return found


def _joined(lines: Lines, rows: IntArray) -> bytes:
    """Return records with a line feed between any two; without a copy of each where they lie so already."""
    starts, ends = lines.starts, lines.ends
    if len(rows) == len(lines) > 0 and bool((starts[1:] == ends[:-1] + 1).all()):
        return lines.data[starts[0] : ends[-1]]
    return b"\n".join([lines.value(row) for row in rows.tolist()])


def _not_utf8(lines: Lines, rows: IntArray, text: bytes) -> dict[int, Refusal]:
    """Find the records that are not valid UTF-8."""
    if _utf8_problem(text) is None:
        return {}
    problems = {row: _utf8_problem(lines.value(row)) for row in rows.tolist()}
    return {row: Refusal("not_utf8", problem) for row, problem in problems.items() if problem is not None}


def _utf8_problem(data: bytes) -> str | None:
    if data.isascii():
        return None
    try:
        data.decode()
    except UnicodeDecodeError as problem:
        return f"the record is not valid UTF-8: {problem.reason} at byte {problem.start}; save the file as UTF-8"
    return None
