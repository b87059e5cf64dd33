"""Events that wait, row by row, each reached by its number.

In: rows of a finished block. Out: the same rows, whenever their label comes, laid out for the learner's present size.

Axes: C rows that there is room for, N rows asked for, F input capacity, W head width.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from connectors import Record
from pipeline.blocks import Block
from pipeline.model import Model
from pipeline.packing import pack, unpack
from streamnn.heads import Head
from streamnn.operations import IntArray, Rows

_ROOM = 64  # rows at the start


class PendingRows:
    """Inputs, served outputs, positions and records of events that have been predicted."""

    def __init__(self) -> None:
        self._slots: dict[int, int] = {}  # event number -> place
        self._free: list[int] = []
        self._rows: Rows | None = None  # [C]: inputs, and what was served in the place of labels
        self._offset: IntArray = np.zeros(0, dtype=np.int64)
        self._records: list[Record | None] = []
        self._head: Head | None = None  # under which the rows are laid out

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, number: int) -> bool:
        return number in self._slots

    def put(self, block: Block, rows: IntArray, learner: Model) -> None:
        """Keep some rows of a block, which has been served by the learner; none, to bring those held to its size."""
        if not len(rows) and self._rows is None:
            return
        held = self._fit(block.rows.x.shape[1], block.served.shape[1], learner)
        held = self._widen(held, len(rows))
        places = [self._free.pop() for _ in range(len(rows))]
        held.x[places], held.y[places] = block.rows.x[rows], block.served[rows]
        held.number[places], self._offset[places] = block.rows.number[rows], block.offset[rows]
        for place, row in zip(places, rows.tolist(), strict=True):
            self._records[place] = block.records[row]
        self._slots.update(zip(block.rows.number[rows].tolist(), places, strict=True))

    def take(self, numbers: Sequence[int], learner: Model) -> tuple[Rows, IntArray, list[Record]]:
        """Return rows (with what was served as their labels), positions and records, and forget them.

        Args:
            numbers: N of those that are here, at least one.
            learner: for whose size they are laid out.
        """
        assert self._rows is not None
        held = self._fit(self._rows.x.shape[1], self._rows.y.shape[1], learner)
        places = [self._slots[number] for number in numbers]
        found = Rows(held.x[places], held.y[places], held.number[places])
        records = [record for place in places if (record := self._records[place]) is not None]
        offset = self._offset[places]
        for number in numbers:
            self.drop(number)
        return found, offset, records

    def drop(self, number: int) -> None:
        """Forget a row; nothing happens if it is not here."""
        place = self._slots.pop(number, None)
        if place is not None:
            self._records[place] = None
            self._free.append(place)

    def state_dict(self) -> dict[str, Any]:
        """Return the rows for a checkpoint, by number."""
        if self._rows is None or not self._slots:
            return {}
        places = [self._slots[number] for number in sorted(self._slots)]
        return {
            "x": self._rows.x[places],
            "served": self._rows.y[places],
            "number": self._rows.number[places],
            "offset": self._offset[places],
            "records": pack([record for place in places if (record := self._records[place]) is not None]),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, learner: Model) -> None:
        """Take back what `state_dict` returned; the learner has been restored before."""
        for number in list(self._slots):
            self.drop(number)
        if state:
            rows = Rows(state["x"], state["served"], state["number"])
            none = np.zeros((len(rows), 0))
            block = Block(rows, none, rows.y, state["offset"], np.zeros(len(rows)), unpack(state["records"]))
            self.put(block, np.arange(len(block)), learner)

    def _fit(self, inputs: int, width: int, learner: Model) -> Rows:
        """Bring what is held to the learner's present size."""
        if self._rows is None:
            self._rows = Rows(np.zeros((0, inputs)), np.zeros((0, width)), np.zeros(0, dtype=np.int64))
            self._head = learner.head
        if self._head is not learner.head or self._rows.x.shape[1] != learner.features.capacity:
            assert self._head is not None
            self._rows, self._head = learner.pad(self._rows, head=self._head), learner.head
        return self._rows

    def _widen(self, held: Rows, more: int) -> Rows:
        """Make room for more rows, doubling."""
        before = len(held)
        if len(self._free) >= more:
            return held
        add = max(_ROOM, before, more - len(self._free))
        self._rows = Rows(
            np.concatenate([held.x, np.full((add, held.x.shape[1]), np.nan)]),
            np.concatenate([held.y, np.full((add, held.y.shape[1]), np.nan)]),
            np.concatenate([held.number, np.zeros(add, dtype=np.int64)]),
        )
        self._offset = np.concatenate([self._offset, np.zeros(add, dtype=np.int64)])
        self._records += [None] * add
        self._free += range(before + add - 1, before - 1, -1)
        return self._rows
