"""When labels arrive: at once, so many events later, or so much stream time later.

The queue holds events that were predicted and whose label is on its way, in the order of the events, and turns each
block of new events into one list of operations in merged order: a label is learned before the first event that is
predicted after its arrival.

Axes: K new events, P pending events, F input capacity, W head width, T targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from connectors import Chunk, Picked
from pipeline.blocks import Block, Work, join, select
from pipeline.model import Model
from pipeline.packing import pack, unpack
from pipeline.steps import Steps
from streamnn.chunks import pad_labels
from streamnn.heads import Head
from streamnn.operations import FloatArray, IntArray, Kind, Operations, Rows


class LabelQueue:
    """Decide what is done with new events and with labels that arrive.

    In micro-batch mode with a delay, `arrange` is given one micro-batch at a time, so that the labels that are due all
    lie in the queue, one behind the other.

    Args:
        delay_events: the label of event n arrives just before event n + delay_events is predicted; 0 = at once, with
            the event.
        delay_s: the label arrives this much stream time after its event (needs event times); 0 = use delay_events.
        batch: events that are predicted and learned as one micro-batch; 1 = sample mode.
        capacity: most labels that wait at a time; what comes on top pushes the oldest out unlearned, and is counted.

    Raises:
        ValueError: a setting is outside its range.
    """

    def __init__(
        self, *, delay_events: int = 0, delay_s: float = 0.0, batch: int = 1, capacity: int = 1_000_000
    ) -> None:
        if delay_events < 0 or delay_s < 0:
            raise ValueError(
                f"label delay is {min(delay_events, delay_s)}, but labels cannot arrive before their event"
            )
        if delay_events and delay_s:
            raise ValueError("label delay is given in events and in seconds; give one of them")
        if batch < 1:
            raise ValueError(f"batch is {batch}, but a micro-batch has at least 1 event")
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, but at least 1 label must be able to wait")
        self._events, self._seconds, self._batch, self._capacity = delay_events, delay_s, batch, capacity
        self._pending: Block | None = None
        self._head: Head | None = None  # under which the pending labels are laid out
        self._now_s = -np.inf
        self.expired = 0

    def __len__(self) -> int:
        return 0 if self._pending is None else len(self._pending)

    @property
    def immediate(self) -> bool:
        """Whether labels come with their events."""
        return self._events == 0 and self._seconds == 0

    def steps(self, chunk: Chunk, number: IntArray, targets: Sequence[str]) -> list[Steps]:
        """Tell what happens in a chunk: its events come, each with its label."""
        labels = {name: chunk.columns[name] for name in targets if name in chunk.columns}
        row = np.arange(len(chunk))
        return [Steps(row, number, labels, chunk.offsets, Picked(chunk.records, row))]

    def arrange(self, block: Block, learner: Model, since: int = 0, /) -> Work:
        """List the operations for new events and for the labels that arrive before each of them."""
        labelled: npt.NDArray[np.bool_] = ~np.all(np.isnan(block.truth), axis=1)
        number = block.rows.number - since
        if self.immediate:
            return Work(block, self._immediate(labelled, number), 0)
        pending = self._take(learner, block)
        due = self._due(pending, block)  # per new event: how many pending labels have arrived before it
        merged = join(pending, block)
        old = len(pending)
        # a new event's own label waits behind the old ones; `waiting` are row numbers in `merged`
        waiting = np.concatenate([np.arange(old), old + np.flatnonzero(labelled)])
        groups = self._groups(number)
        for start, stop in groups if self._batch > 1 else ():
            due[start:stop] = due[start]  # none is learned within a micro-batch
        late = _too_late(due, old + np.cumsum(labelled) - self._capacity, len(waiting))
        expired, waiting = waiting[late], waiting[~late]
        due = np.concatenate([[0], np.cumsum(~late)])[due]
        if self._batch == 1:
            return Work(merged, _merge(waiting, due, old), old, expired)
        listed, learned = list[tuple[Kind, int, int]](), 0
        for start, stop in groups:
            while learned < due[start]:
                group = waiting[learned : min(learned + self._batch, int(due[start]))].tolist()
                listed += _runs(Kind.LEARN, group)
                learned += len(group)
            listed.append((Kind.PREDICT_OBSERVE, old + start, old + stop))
        return Work(merged, Operations.of(listed), old, expired)

    def keep(self, work: Work, served: FloatArray, learner: Model, refused: Mapping[int, str]) -> None:
        """Remember events of a finished work whose labels have not arrived yet."""
        if self.immediate:
            return
        learned = work.operations.covered(len(work.block), Kind.LEARN)
        waits = ~learned & ~np.isnan(work.block.truth).all(axis=1)
        waits[list(refused)] = False
        waits[work.expired] = False
        self.expired += len(work.expired)
        self._pending, self._head = select(replace(work.block, served=served), waits), learner.head

    def drain(self, learner: Model) -> Work | None:
        """At the end of a stream: learn the labels still on their way, in order. None if there are none."""
        if self._pending is None or not len(self._pending):
            return None
        pending = self._padded(learner)
        rows = list(range(len(pending)))
        listed = [run for i in range(0, len(rows), self._batch) for run in _runs(Kind.LEARN, rows[i : i + self._batch])]
        return Work(pending, Operations.of(listed), len(pending))

    def state_dict(self) -> dict[str, Any]:
        """Return the pending events for a checkpoint."""
        state: dict[str, Any] = {"expired": self.expired, "now_s": float(self._now_s)}
        if self._pending is not None:
            p = self._pending
            state["pending"] = {
                "x": p.rows.x, "y": p.rows.y, "number": p.rows.number, "truth": p.truth, "served": p.served,
                "offset": p.offset, "moment_s": p.moment_s, "records": pack(p.records),
            }  # fmt: skip
        return state

    def load_state_dict(self, state: Mapping[str, Any], *, learner: Model) -> None:
        """Take back what `state_dict` returned; the learner has been restored before."""
        self.expired, self._now_s = state["expired"], state["now_s"]
        self._pending, self._head = None, None
        if "pending" in state:
            p = state["pending"]
            rows = Rows(p["x"], p["y"], p["number"])
            records = unpack(p["records"])
            self._pending = Block(rows, p["truth"], p["served"], p["offset"], p["moment_s"], records)
            self._head = learner.head

    def _groups(self, number: IntArray) -> list[tuple[int, int]]:
        """Cut rows into micro-batches, which are fixed by their numbers: [start, stop) each."""
        edges = np.flatnonzero(np.diff(number // self._batch)) + 1
        return list(zip([0, *edges.tolist()], [*edges.tolist(), len(number)], strict=True)) if len(number) else []

    def _immediate(self, labelled: npt.NDArray[np.bool_], number: IntArray) -> Operations:
        edges = np.flatnonzero(np.diff(number // self._batch)) + 1
        start = np.concatenate([[0], edges]) if len(number) else edges
        some = np.logical_or.reduceat(labelled, start) if len(number) else labelled
        kind = np.where(some, Kind.PREDICT_LEARN, Kind.PREDICT_OBSERVE).astype(np.int8)
        return Operations(kind, start, np.append(start[1:], len(number)) if len(number) else start)

    def _due(self, pending: Block, block: Block) -> IntArray:
        """Count, for each new event, the labels (pending, then of this block) that arrive before it."""
        labelled = ~np.isnan(block.truth).all(axis=1)
        number = np.concatenate([pending.rows.number, block.rows.number[labelled]])
        if self._events:
            return np.searchsorted(number + self._events, block.rows.number, side="right")
        moment = np.concatenate([pending.moment_s, block.moment_s[labelled]])
        return np.searchsorted(np.maximum.accumulate(moment) + self._seconds, block.moment_s, side="right")

    def _take(self, learner: Model, block: Block) -> Block:
        if self._seconds:
            # stream time never runs backwards, and an event without a time happens now
            filled = np.maximum.accumulate(np.concatenate([[self._now_s], np.nan_to_num(block.moment_s, nan=-np.inf)]))
            block.moment_s[:] = filled[1:]
            self._now_s = float(filled[-1])
        return block.slice(0, 0) if self._pending is None else self._padded(learner)

    def _padded(self, learner: Model) -> Block:
        p, head = self._pending, self._head
        assert p is not None
        assert head is not None
        served = p.served
        if head.width != learner.head.width:
            served = pad_labels(served, head, learner.head)
        return replace(p, rows=learner.pad(p.rows, head=head), served=served)


def _merge(waiting: IntArray, due: IntArray, old: int) -> Operations:
    """List, for each new event, the labels that have come since the one before, then the event; one row each.

    Args:
        waiting: rows whose labels are awaited, in the order in which they arrive.
        due: [K], how many of these have arrived before each new event; never falls.
        old: row of the first new event.
    """
    events, labels = len(due), int(due[-1]) if len(due) else 0
    kind = np.full(events + labels, Kind.LEARN, dtype=np.int8)
    row = np.empty(events + labels, dtype=np.int64)
    place = np.arange(events) + due
    kind[place] = Kind.PREDICT_OBSERVE
    row[place] = old + np.arange(events)
    row[kind == Kind.LEARN] = waiting[:labels]
    return Operations(kind, row, row + 1)


def _too_late(due: IntArray, beyond: IntArray, labels: int) -> npt.NDArray[np.bool_]:
    """Find the labels that are pushed out before they come, [labels] bool, in the order in which they arrive.

    Args:
        due: [K], how many have arrived before each new event; never falls.
        beyond: [K], how many of the oldest there is no room for once each new event's label is awaited; never falls.
        labels: that are awaited, old and new.
    """
    each = np.arange(labels)
    came = np.searchsorted(due, each, side="right")
    pushed = np.searchsorted(beyond, each, side="right")
    return pushed < came


def _runs(kind: Kind, rows: list[int]) -> list[tuple[Kind, int, int]]:
    """Cut row numbers into runs of neighbours."""
    runs: list[tuple[Kind, int, int]] = []
    for row in rows:
        if runs and runs[-1][2] == row:
            runs[-1] = (kind, runs[-1][1], row + 1)
        else:
            runs.append((kind, row, row + 1))
    return runs
