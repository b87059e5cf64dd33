"""What happens in a block of records, in its order: an event comes, or a label of an event that came before.

In: a chunk. Out: steps, which the loop lays out as rows in one go, so that classes get their places in the order in which
labels come.

Axes: K events of a chunk, M steps.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from connectors import Chunk, Column, DeadLetter, Picked, Record, missing
from pipeline.blocks import Block, Work
from pipeline.model import Model
from streamnn.operations import FloatArray, IntArray


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """Consecutive steps.

    Attributes:
        row: [M] int64, which event of the chunk each is; -1 = a label of an event that came before.
        number: [M] int64, number of the event concerned.
        labels: target -> [M]; a target that is absent is unknown.
        offset: [M] int64, position of the record that came.
        records: M, that record.
        apart: whether labels are records of their own: then an event can do without one that cannot be used.
        early: step -> position and record of the label that waited for that event.
    """

    row: IntArray
    number: IntArray
    labels: Mapping[str, Column]
    offset: IntArray
    records: Sequence[Record]
    apart: bool = False
    early: Mapping[int, tuple[int, Record]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.row)

    @property
    def order(self) -> IntArray:
        """Ascending numbers [M] by which the learner keeps micro-batches together."""
        return np.arange(len(self)) if self.apart else self.number

    def of(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Lay columns [K] of the chunk out as [M]; missing where there is no event."""
        if not self.apart:
            return {name: column[self.row] for name, column in columns.items()}
        return {n: np.concatenate([c, missing(c.dtype, 1)])[self.row] for n, c in columns.items()}

    def split(self, count: int) -> tuple["Steps", "Steps"]:
        """Return the first `count` steps, and the others. What waited for an event is left behind."""
        return self._pick(slice(count)), self._pick(slice(count, None))

    def without(self, misfits: Mapping[int, str]) -> tuple["Steps", list[DeadLetter]]:
        """Leave out labels that cannot be learned {step: why}: the events that hold them, or the labels alone.

        Returns:
            The steps; where labels come apart all of them stay, without those labels. And the records left out.
        """
        if not misfits:
            return self, []
        letters = []
        for step, why in misfits.items():
            offset, record = self.early.get(step, (int(self.offset[step]), self.records[step]))
            letters.append(DeadLetter(offset, "label", "unfit_label", why, record))
        if self.apart:
            cleared = {name: _cleared(column, list(misfits)) for name, column in self.labels.items()}
            return replace(self, labels=cleared), letters
        keep = np.ones(len(self), dtype=bool)
        keep[list(misfits)] = False
        return self._pick(np.flatnonzero(keep)), letters

    def _pick(self, steps: "slice | IntArray") -> "Steps":
        records = self.records[steps] if isinstance(steps, slice) else Picked(self.records, steps)
        labels = {name: column[steps] for name, column in self.labels.items()}
        return Steps(self.row[steps], self.number[steps], labels, self.offset[steps], records, self.apart)


class Arrivals(Protocol):
    """Says what is done with events and labels; `pipeline.labels.LabelQueue` and `pipeline.join.LabelJoin` do."""

    @property
    def immediate(self) -> bool:
        """Whether labels come with their events."""

    @property
    def expired(self) -> int:
        """How many labels were given up."""

    def __len__(self) -> int:
        """Count the events whose label is awaited."""

    def steps(self, chunk: Chunk, number: IntArray, targets: Sequence[str]) -> Iterable[Steps]:
        """Tell what happens in a chunk, in pieces that are each run before the next."""

    def arrange(self, block: Block, learner: Model, since: int = 0, /) -> Work:
        """List the operations for a piece; event number `since` began a micro-batch."""

    def keep(self, work: Work, served: FloatArray, learner: Model, refused: Mapping[int, str]) -> None:
        """Remember events of a finished work whose labels have not arrived yet."""

    def drain(self, learner: Model, /) -> Work | None:
        """At the end of a stream: learn the labels still on their way. None if there are none."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything for a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any], *, learner: Model) -> None:
        """Take back what `state_dict` returned; the learner has been restored before."""


def _cleared(column: Column, rows: list[int]) -> Column:
    """Return a copy that is missing in these rows."""
    copy = column.copy()
    copy[rows] = missing(column.dtype, 1)[0]
    return copy
