"""Fields of a block become the columns of a chunk, whatever format they came from.

Here it is decided which records are refused, and what an undeclared field is. Both depend on the records alone and on
what came before them, never on where a block begins or ends.

Axes: K rows of a block.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from connectors.cells import Cells, Refusal
from connectors.records import Chunk, Column, DeadLetter, IntArray, Picked, Record
from connectors.schema import Kind, Schema

MOST_CELLS = 1 << 22  # values of a block, so that streams with very many fields have shorter blocks
MOST_FIELDS = 200_000  # undeclared fields that a source remembers; records with a further one are refused

UNKNOWN = Refusal("unknown_field", 'is not declared, and extra is "reject"; declare it, or set extra to ignore')
TOO_MANY = Refusal("too_many_fields", f"is new, but {MOST_FIELDS} undeclared ones are known; declare or ignore it")


@dataclass(slots=True)
class FieldKinds:
    """What the first values of undeclared fields have shown.

    Attributes:
        known: field name -> (kind, number of the record that fixed it).
    """

    known: dict[str, tuple[Kind, int]] = field(default_factory=dict)

    def kind(self, name: str) -> Kind | None:
        """Return the kind of an undeclared field; None if it has not been met."""
        entry = self.known.get(name)
        return None if entry is None else entry[0]

    def state(self, offset: int) -> dict[str, Any]:
        """Return what was known before record number `offset`, as plain values."""
        return {name: [kind, first] for name, (kind, first) in self.known.items() if first < offset}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.known = {name: (kind, first) for name, (kind, first) in state.items()}


class Block(Protocol):
    """Consecutive records as one format reads them."""

    @property
    def records(self) -> Sequence[Record]:
        """All of them."""

    def tail(self, first: int) -> "Block":
        """Return the records from `first` on."""

    def decode(self, schema: Schema, kinds: FieldKinds, offsets: IntArray) -> "Decoded":
        """Turn them into columns; `offsets` are their numbers."""

    def sample(self) -> "Sample":
        """Return the values of the readable ones as the stream has them."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What became of the records of a block.

    Attributes:
        columns: field name -> [K].
        rows: [K] which records they are, ascending.
        refused: the others.
    """

    columns: dict[str, Column]
    rows: IntArray
    refused: dict[int, Refusal]


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of the readable records of a block.

    Attributes:
        values: field name -> its values, without the missing ones.
        count: K.
        text: whether they are texts, whose kind has to be guessed.
        sparse: whether a field that a record does not name is 0 there, not missing.
        refused: why the unreadable ones are so.
    """

    values: dict[str, list[object]]
    count: int
    text: bool
    sparse: bool
    refused: tuple[Refusal, ...]


@dataclass(frozen=True, slots=True)
class CellsBlock:
    """A block whose readable records have been split into fields.

    Attributes:
        records: all records.
        cells: fields of the readable ones.
        rows: [K] which records those are, ascending.
        refused: the unreadable ones.
        text: whether the fields are texts.
    """

    records: Sequence[Record]
    cells: Mapping[str, Cells]
    rows: IntArray
    refused: Mapping[int, Refusal]
    text: bool = False

    def tail(self, first: int) -> "CellsBlock":
        """Return the records from `first` on."""
        cut = int(np.searchsorted(self.rows, first))
        return CellsBlock(
            self.records[first:],
            {name: cells.tail(cut) for name, cells in self.cells.items()},
            self.rows[cut:] - first,
            {row - first: why for row, why in self.refused.items() if row >= first},
            self.text,
        )

    def decode(self, schema: Schema, kinds: FieldKinds, offsets: IntArray) -> Decoded:
        """Turn the records into columns; `offsets` are their numbers."""
        blame = Blame()
        columns = type_fields(self.cells, schema, kinds, offsets[self.rows], blame)
        unfit = blame.refused
        if not unfit:
            return Decoded(columns, self.rows, dict(self.refused))
        keep = np.ones(len(self.rows), dtype=bool)
        keep[list(unfit)] = False
        refused = {**self.refused, **{int(self.rows[row]): why for row, why in unfit.items()}}
        return Decoded({name: column[keep] for name, column in columns.items()}, self.rows[keep], refused)

    def sample(self) -> Sample:
        """Return the values of the readable records."""
        values = {name: cells.sample() for name, cells in self.cells.items()}
        return Sample(values, len(self.rows), self.text, False, tuple(self.refused.values()))


def make_chunk(block: Block, schema: Schema, kinds: FieldKinds, offsets: IntArray, start: int, stop: int) -> Chunk:
    """Decode a block into a chunk.

    Args:
        block: N records.
        schema: what declared fields are.
        kinds: what undeclared ones are; new ones are entered.
        offsets: [N] numbers of the records.
        start: number of the first record that the chunk covers.
        stop: number of the next record after it.
    """
    decoded = block.decode(schema, kinds, offsets)
    rejects = tuple(
        DeadLetter(int(offsets[row]), "decode", why.reason, why.detail, block.records[row])
        for row, why in sorted(decoded.refused.items())
    )
    records = block.records if not rejects else Picked(block.records, decoded.rows)
    return Chunk(decoded.columns, offsets[decoded.rows], records, rejects, start, stop)


class Blame:
    """Which field each refused row is blamed on: the first by name, in whichever order they are looked at."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, Refusal]] = {}

    def __contains__(self, row: int) -> bool:
        return row in self._found

    def add(self, name: str, refused: Mapping[int, Refusal], *, after: int = -1) -> None:
        """Blame a field for the rows behind `after`."""
        for row, why in refused.items():
            if row > after and (row not in self._found or name < self._found[row][0]):
                self._found[row] = name, why

    @property
    def refused(self) -> dict[int, Refusal]:
        """All refused rows, each with a whole sentence."""
        return {row: Refusal(why.reason, f"field {name!r} {why.detail}") for row, (name, why) in self._found.items()}


def type_fields(
    cells: Mapping[str, Cells], schema: Schema, kinds: FieldKinds, offsets: IntArray, blame: Blame
) -> dict[str, Column]:
    """Turn fields into columns [K] of their kinds.

    Args:
        cells: the fields of K rows.
        schema: kinds of declared fields, and what is done with others.
        kinds: kinds of undeclared fields met earlier; those met here are entered.
        offsets: [K] numbers of the records.
        blame: rows that are refused; those refused here are entered.
    """
    columns, new = dict[str, Column](), list[str]()
    for name, field_cells in cells.items():
        if name in schema.ignore:
            continue
        declared = schema.kind(name)
        if declared is None and schema.extra == "ignore":
            continue
        if declared is None and schema.extra == "reject":
            blame.add(name, dict.fromkeys(map(int, np.flatnonzero(field_cells.present())), UNKNOWN))
            continue
        kind = declared or kinds.kind(name)
        if kind is None:
            new.append(name)
            continue
        columns[name], refused = field_cells.convert(kind)
        blame.add(name, refused)
    if new:
        _discover(new, cells, kinds, offsets, columns, blame)
    return columns


def _discover(
    new: Sequence[str],
    cells: Mapping[str, Cells],
    kinds: FieldKinds,
    offsets: IntArray,
    columns: dict[str, Column],
    blame: Blame,
) -> None:
    """Fix the kinds of fields not met before: by their first value in a record that is not refused.

    Rows are taken in order, because a row that one field's kind refuses fixes nothing for the others.
    """
    present = {name: np.flatnonzero(cells[name].present()) for name in new}
    queue = [(int(rows[0]), name, 0) for name, rows in present.items() if len(rows)]
    heapq.heapify(queue)
    while queue:
        row = queue[0][0]
        group = list[tuple[str, int]]()
        while queue and queue[0][0] == row:
            _, name, place = heapq.heappop(queue)
            group.append((name, place))
        found = dict[str, Kind]()
        if row not in blame:
            for name, _ in group:
                found[name], why = cells[name].kind_at(row)
                if len(kinds.known) + len(found) > MOST_FIELDS:
                    why = TOO_MANY
                if why is not None:
                    blame.add(name, {row: why})
        if row in blame:
            for name, place in group:
                if place + 1 < len(present[name]):
                    heapq.heappush(queue, (int(present[name][place + 1]), name, place + 1))
            continue
        for name, kind in found.items():
            kinds.known[name] = kind, int(offsets[row])
            columns[name], refused = cells[name].convert(kind)
            blame.add(name, refused, after=row)
