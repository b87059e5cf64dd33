"""Sparse records of the libsvm format to events: `label index:value index:value ... # comment`, one a line.

In: lines of a file. Out: blocks of columns. The label is the field "label"; a field's name is its index as the line
writes it. A field that a line does not name is 0 there, not missing: from the first line on that names it, or from the
first of all if it is declared. Before that the field does not exist, and is missing. Of all the fields known, those
that no line of a block names share one column of zeros, so that a block costs what its lines hold.

Axes: N records of a block, K readable ones, P pairs of index and value.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from connectors.byte_streams import GzipFile, PlainFile
from connectors.cells import BoolArray, Refusal, TextCells
from connectors.decode import MOST_FIELDS, TOO_MANY, UNKNOWN, Blame, Decoded, FieldKinds, Sample, type_fields
from connectors.errors import SchemaError
from connectors.lines import LineReader, Lines, frame_lines
from connectors.records import Column, FloatArray, IntArray, Record
from connectors.scalars import FLOATS
from connectors.schema import Kind, Schema

LABEL = "label"

_LINE = re.compile(r"\s*+([^\s:#]++)((?:\s++[^\s:#]++:[^\s:#]++)*+)\s*+(?:#.*+)?", re.DOTALL)
_NOT_SPARSE = Refusal("not_sparse", "the record is not of the form: label index:value index:value ...")
_NOT_UTF8 = Refusal("not_utf8", "the record is not valid UTF-8; save the file as UTF-8")


class SparseReader:
    """Reads a libsvm file block by block.

    Args:
        path: of the file.
        max_record_bytes: longer records are refused.
    """

    fields: tuple[str, ...] | None = None
    targets: tuple[str, ...] = (LABEL,)
    task = ""

    def __init__(self, path: Path, *, max_record_bytes: int) -> None:
        stream = GzipFile(path) if path.suffix.lower() == ".gz" else PlainFile(path)
        self._lines = LineReader(stream, frame_lines, max_record_bytes)

    def open(self, mark: Mapping[str, Any] | None) -> None:
        """Go to a mark, or to the beginning."""
        self._lines.open(mark)

    def mark(self) -> dict[str, Any]:
        """Return what finds the first record of those that `read` returned last."""
        return self._lines.mark()

    def read(self, most: int) -> "SparseBlock | None":
        """Return the next records, at most `most`; none if none are there now, None at the end."""
        return self._lines.read_fitting(most, sparse_block, lambda block: len(block.names))

    @property
    def progress(self) -> float | None:
        """The share of the file read."""
        return self._lines.progress

    def close(self) -> None:
        """Close the file. May be called twice."""
        self._lines.close()


@dataclass(frozen=True, slots=True)
class SparseBlock:
    """A block of sparse records.

    Attributes:
        records: all N.
        rows: [K] which of them are readable, ascending.
        refused: the others.
        labels: [K] texts.
        names: the fields that occur.
        field: [P] which field each pair is of.
        row: [P] which readable record it stands in, ascending.
        value: [P] its text.
    """

    records: Sequence[Record]
    rows: IntArray
    refused: Mapping[int, Refusal]
    labels: Sequence[str]
    names: Sequence[str]
    field: IntArray
    row: IntArray
    value: Sequence[str]

    def tail(self, first: int) -> "SparseBlock":
        """Return the records from `first` on."""
        cut = int(np.searchsorted(self.rows, first))
        pair = int(np.searchsorted(self.row, cut))
        return SparseBlock(
            self.records[first:],
            self.rows[cut:] - first,
            {row - first: why for row, why in self.refused.items() if row >= first},
            self.labels[cut:],
            self.names,
            self.field[pair:],
            self.row[pair:] - cut,
            self.value[pair:],
        )

    def decode(self, schema: Schema, kinds: FieldKinds, offsets: IntArray) -> Decoded:
        """Turn the records into columns; `offsets` are their numbers."""
        blame, numbers = Blame(), offsets[self.rows]
        of_field = self._kinds(schema)
        value = self._values(of_field, blame)
        columns = type_fields({LABEL: TextCells.of(self.labels)}, schema, kinds, numbers, blame)
        self._discover(of_field, kinds, numbers, value, blame)
        unfit = blame.refused
        keep = ~np.isin(np.arange(len(self.rows)), list(unfit))
        columns = {name: column[keep] for name, column in columns.items()}
        columns |= self._columns(schema, of_field, kinds, numbers, value, keep)
        refused = {**self.refused, **{int(self.rows[row]): why for row, why in unfit.items()}}
        return Decoded(columns, self.rows[keep], refused)

    def sample(self) -> Sample:
        """Return the texts of the readable records."""
        values: dict[str, list[object]] = {LABEL: [*self.labels]}
        listed = [values.setdefault(name, []) for name in self.names]
        for code, text in zip(self.field.tolist(), self.value, strict=True):
            listed[code].append(text)
        return Sample(values, len(self.rows), True, True, tuple(self.refused.values()))

    def _kinds(self, schema: Schema) -> list[str]:
        """Return what each field that occurs is: a kind, "new" if it has none, or "ignore" or "reject"."""
        extra = "new" if schema.extra == "feature" else schema.extra
        return ["ignore" if name in schema.ignore else schema.kind(name) or extra for name in self.names]

    def _values(self, of_field: Sequence[str], blame: Blame) -> FloatArray:
        """Return the pairs' numbers [P]; NaN where one is missing or no good."""
        value = np.full(len(self.value), np.nan)
        groups: dict[str, list[int]] = {}
        for code, group in enumerate(of_field):
            groups.setdefault(group, []).append(code)
        for group, codes in groups.items():
            pairs = np.flatnonzero(np.isin(self.field, codes))
            bad = dict[int, Refusal]()
            if group == "reject":
                bad = dict.fromkeys(range(len(pairs)), UNKNOWN)
            elif group != "ignore":
                kind: Kind = "number" if group == "new" else group  # type: ignore[assignment] # all others are kinds
                value[pairs], bad = TextCells.of([self.value[pair] for pair in pairs.tolist()]).convert(kind)
            for place, why in bad.items():
                pair = int(pairs[place])
                blame.add(self.names[int(self.field[pair])], {int(self.row[pair]): why})
        return value

    def _discover(
        self, of_field: Sequence[str], kinds: FieldKinds, numbers: IntArray, value: FloatArray, blame: Blame
    ) -> None:
        """Take note of fields named for the first time, in the order of the records."""
        new = [code for code, group in enumerate(of_field) if group == "new" and kinds.kind(self.names[code]) is None]
        for pair in np.flatnonzero(np.isin(self.field, new) & ~np.isnan(value)):
            row, name = int(self.row[pair]), self.names[self.field[pair]]
            if row in blame or name in kinds.known:
                continue
            if len(kinds.known) < MOST_FIELDS:
                kinds.known[name] = "number", int(numbers[row])
            else:
                blame.add(name, {row: TOO_MANY})

    def _columns(
        self,
        schema: Schema,
        of_field: Sequence[str],
        kinds: FieldKinds,
        numbers: IntArray,
        value: FloatArray,
        keep: BoolArray,
    ) -> dict[str, Column]:
        """Return a column [K'] of the kept records for every field known."""
        zeros = np.zeros(int(keep.sum()))
        zeros.setflags(write=False)  # it stands for many
        known = [name for name in (*schema.declared, *kinds.known) if name != LABEL and name not in schema.ignore]
        columns: dict[str, Column] = dict.fromkeys(known, zeros)
        here = [code for code, group in enumerate(of_field) if group != "ignore" and self.names[code] in columns]
        place = np.full(len(self.names), -1, dtype=np.int64)
        place[here] = np.arange(len(here))
        dense = np.zeros((len(here), len(self.rows)))
        line = place[self.field]
        dense[line[line >= 0], self.row[line >= 0]] = value[line >= 0]
        for code in here:
            met = kinds.known.get(self.names[code])
            if met is not None and of_field[code] == "new" and met[1] > numbers[0]:
                dense[place[code], numbers < met[1]] = np.nan  # it did not exist yet
        dense = dense if keep.all() else dense[:, keep]
        columns.update(zip([self.names[code] for code in here], dense, strict=True))
        return columns


def sparse_block(lines: Lines) -> SparseBlock:
    """Split records into label and pairs."""
    refused, rows, labels = dict(lines.refused), list[int](), list[str]()
    names, values, lengths = list[str](), list[str](), list[int]()
    for row, line in enumerate(lines.values()):
        if row in refused:
            continue
        try:
            match = _LINE.fullmatch(line.decode())
        except UnicodeDecodeError:
            refused[row] = _NOT_UTF8
            continue
        if match is None:
            refused[row] = _NOT_SPARSE
            continue
        parts = match[2].replace(":", " ").split()
        rows.append(row)
        labels.append(match[1].removeprefix("+"))  # +1 and -1 are what many files call their classes
        names += parts[0::2]
        values += parts[1::2]
        lengths.append(len(parts) // 2)
    codes = dict[str, int]()
    field = np.array([codes.setdefault(name, len(codes)) for name in names], dtype=np.int64)
    row_of = np.repeat(np.arange(len(rows)), lengths)
    return SparseBlock(lines, np.array(rows, dtype=np.int64), refused, labels, list(codes), field, row_of, values)


def check_sparse(schema: Schema) -> None:
    """See that the fields of a libsvm file are declared as what they can be.

    Raises:
        SchemaError: one is not.
    """
    for name in schema.declared:
        kind = schema.kind(name)
        if name != LABEL and kind not in FLOATS:
            raise SchemaError(f"field {name!r} is declared as {kind}, but all fields of a libsvm file are numbers")
