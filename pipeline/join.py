"""Labels that come as records of their own, joined to their events by id.

In: chunks of events with labels beside them (`connectors.labels`). Out: steps in the order in which the records came: an
event is predicted when it comes, and learned when its label does, scored with what was predicted for it. A label that
comes before its event waits for it; then the event is predicted and learned at once.

Time is the stream's: the largest timestamp of a record so far. An event waits for its label for `wait_s`, a label for its
event as long, an id that is done with is remembered as long again; of each there are at most `capacity`, and the oldest
goes first. So what becomes of a label is a function of the records and their order alone. It believes them: one dated far
ahead ends every wait, for no rule over timestamps alone tells it from the first record after a long silence; brokers can
refuse it, since they know the time.

    joined      it was learned, or could not be (then there is a dead letter)
    duplicate   its event has a label already, or one that waits: the first counts
    late        its event has been given up
    unmatched   no event came for it in time. That of an id long forgotten is one too, and so is one pushed out

and of an event:

    expired     given up: no label came in time, or too many waited
    repeated    its id is that of an event that waits or is done with; predicted, and never labelled
    without_id  predicted, and never labelled

Axes: K events of a chunk, M steps, L labels among them, T targets.
"""

import json
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from connectors import Chunk, Labels, Record, missing
from pipeline.blocks import Block, Work
from pipeline.model import Model
from pipeline.packing import pack, pack_texts, unpack, unpack_texts
from pipeline.pending import PendingRows
from pipeline.steps import Steps
from streamnn.operations import IntArray, Kind, Operations, Rows

_log = logging.getLogger(__name__)

_LARGE = 1e15  # an input beyond may not be countable

FATES = ("joined", "early", "duplicate", "late", "unmatched", "expired", "pushed_out", "repeated", "without_id")


@dataclass(frozen=True, slots=True)
class EarlyLabel:
    """A label that waits for its event: since when (ms), its values, and the record it came as."""

    since_ms: int
    values: tuple[Any, ...]  # [T]
    offset: int
    record: Record


@dataclass(slots=True)
class _Piece:
    """Steps being put together."""

    row: list[int] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    values: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    early: dict[int, tuple[int, Record]] = field(default_factory=dict)

    def add(self, row: int, number: int, offset: int, record: Record) -> int:
        """Add a step; returns its place."""
        self.row.append(row)
        self.number.append(number)
        self.offset.append(offset)
        self.records.append(record)
        return len(self.row) - 1

    def steps(self, kinds: "Mapping[str, np.dtype[Any]]") -> Steps:
        """Return the steps."""
        labels = {name: missing(kind, len(self.row)) for name, kind in kinds.items()}
        for place, values in self.values.items():
            for column, value in zip(labels.values(), values, strict=True):
                column[place] = value
        row, number, offset = (np.array(one, dtype=np.int64) for one in (self.row, self.number, self.offset))
        return Steps(row, number, labels, offset, self.records, apart=True, early=self.early)


class LabelJoin:
    """Join labels to events, within a bound of stream time and one of size.

    Args:
        kinds: target -> dtype of its labels: object for classes, float64 otherwise.
        id_field: the field that identifies an event.
        wait_s: how long an event and a label wait for each other, seconds of stream time; 0 = `capacity` alone bounds.
        capacity: events, labels and ids done with that are remembered, at most, each.

    Attributes:
        counts: how many, by what became of them, see above; `early` = of those joined, labels that came before their
            event; `pushed_out` = of those expired and unmatched, how many `capacity` pushed out.

    Raises:
        ValueError: a setting is outside its range.
    """

    immediate = False

    def __init__(self, kinds: "Mapping[str, np.dtype[Any]]", *, id_field: str, wait_s: float, capacity: int) -> None:
        if wait_s < 0:
            raise ValueError(f"labels wait for {wait_s} s, expected 0 (no limit) or more")
        if capacity < 1:
            raise ValueError(f"capacity is {capacity}, but at least 1 label must be able to wait")
        self._kinds, self._id = dict(kinds), id_field
        self._wait_ms, self._capacity = round(1000 * wait_s), capacity
        self._now_ms = 0
        self._leapt = False  # whether a leap of time has been told
        self._events: OrderedDict[str, tuple[int, int]] = OrderedDict()  # id -> since when (ms), event number
        self._early: OrderedDict[str, EarlyLabel] = OrderedDict()
        self._done: OrderedDict[str, tuple[int, bool]] = OrderedDict()  # id -> since when (ms), whether given up
        self._rows = PendingRows()
        self._wanted: set[int] = set()  # numbers of events whose row is still needed
        self._awaiting: set[int] = set()  # those of the chunk in hand that have begun to wait
        self._last = -1  # number of the newest event arranged
        self.counts = dict.fromkeys(FATES, 0)

    def __len__(self) -> int:
        return len(self._events)

    @property
    def early(self) -> int:
        """How many labels wait for their event."""
        return len(self._early)

    @property
    def expired(self) -> int:
        """How many events were given up."""
        return self.counts["expired"]

    def steps(self, chunk: Chunk, number: IntArray, targets: Sequence[str]) -> list[Steps]:
        """Go through events and labels in their order.

        A label begins a new piece where its event is in the same one and may not be countable: then that is known, and
        the event left out, before its label would be learned.
        """
        self._awaiting.clear()
        ids = chunk.columns.get(self._id, missing(np.dtype(object), len(chunk)))
        labels = chunk.labels or _NO_LABELS
        columns = [labels.columns.get(name, missing(self._kinds[name], len(labels))) for name in targets]
        values = list(zip(*(column.tolist() for column in columns), strict=True))
        records, label_records = list(chunk.records), list(labels.records)
        pieces, piece, first = list[Steps](), _Piece(), int(number[0]) if len(number) else self._last + 1
        events, doubtful = len(chunk), self._doubtful(chunk, number)
        for place in np.argsort(np.concatenate([chunk.offsets, labels.offsets]), kind="stable").tolist():
            if place < events:
                record = records[place]
                self._pass_time(record)
                step = piece.add(place, int(number[place]), int(chunk.offsets[place]), record)
                label = self._meet_event(ids[place], int(number[place]))
                if label is not None:
                    piece.values[step], piece.early[step] = label.values, (label.offset, label.record)
                continue
            row = place - events
            label = EarlyLabel(0, values[row], int(labels.offsets[row]), label_records[row])
            self._pass_time(label.record)
            found = self._meet_label(labels.ids[row], label)
            if found is None:
                continue
            if found >= first and found in doubtful:
                pieces.append(piece.steps(self._kinds))
                piece, first = _Piece(), max(first, int(number[np.searchsorted(chunk.offsets, label.offset) - 1]) + 1)
            piece.values[piece.add(-1, found, label.offset, label.record)] = label.values
        if piece.row:
            pieces.append(piece.steps(self._kinds))
        return pieces

    def arrange(self, block: Block, learner: Model, _since: int = 0, /) -> Work:
        """List the operations for a piece: a row whose number is that of an event before is a label of that event."""
        number, fresh = block.rows.number, np.zeros(len(block), dtype=bool)
        fresh[:] = number > np.maximum.accumulate(np.concatenate([[self._last], number[:-1]]))
        self._last = max(self._last, int(number.max()))
        labelled = ~np.isnan(block.truth).all(axis=1)
        self._wanted.difference_update(number[~fresh].tolist())
        # one that cannot be used, and one of an event that could not be counted, have nothing to learn
        for row in np.flatnonzero(~fresh & ~labelled).tolist():
            self._rows.drop(int(number[row]))
        new = np.flatnonzero(fresh)
        here = dict(zip(number[new].tolist(), range(len(new)), strict=True))
        known = np.array([n in self._rows or n in here for n in number.tolist()], dtype=bool)
        come = np.flatnonzero(~fresh & labelled & known)
        echo = np.array([here.get(n, -1) for n in number[come].tolist()], dtype=np.int64)
        merged = self._gather(block, come, new, echo, learner)
        place = np.full(len(block), -1, dtype=np.int64)
        place[come], place[new] = np.arange(len(come)), len(come) + np.arange(len(new))
        kind = np.where(fresh, np.where(labelled, Kind.PREDICT_LEARN, Kind.PREDICT_OBSERVE), Kind.LEARN).astype(np.int8)
        some = place >= 0
        operations = Operations(kind[some], place[some], place[some] + 1)
        awaited = [len(come) + i for i, n in enumerate(number[new].tolist()) if n in self._awaiting]
        echo[echo >= 0] += len(come)
        return Work(merged, operations, len(come), awaited=np.array(awaited, dtype=np.int64), echo=echo)

    def keep(self, work: Work, served: npt.NDArray[np.float64], learner: Model, refused: Mapping[int, str]) -> None:
        """Remember the new events whose label is still awaited."""
        number = work.block.rows.number.tolist()
        rows = [r for r in range(work.old, len(number)) if number[r] in self._wanted and r not in refused]
        self._rows.put(replace(work.block, served=served), np.array(rows, dtype=np.int64), learner)

    def drain(self, _learner: Model, /) -> Work | None:
        """Return nothing: what has not come by the end of the stream does not come."""
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what waits, and what is remembered, for a checkpoint."""
        return {
            "now_ms": self._now_ms,
            "last": self._last,
            "counts": dict(self.counts),
            "events": {"id": pack_texts(self._events), "at": _table(self._events.values())},
            "done": {"id": pack_texts(self._done), "at": _table(self._done.values())},
            "early": {
                "id": pack_texts(self._early),
                "at": _table((label.since_ms, label.offset) for label in self._early.values()),
                "values": pack_texts(json.dumps([_plain(v) for v in one.values]) for one in self._early.values()),
                "records": pack([label.record for label in self._early.values()]),
            },
            "rows": self._rows.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], *, learner: Model) -> None:
        """Take back what `state_dict` returned; the learner has been restored before."""
        self._now_ms, self._last, self.counts = state["now_ms"], state["last"], dict(state["counts"])
        events, done, early = state["events"], state["done"], state["early"]
        pairs = zip(unpack_texts(events["id"]), events["at"].tolist(), strict=True)
        self._events = OrderedDict((name, (since, number)) for name, (since, number) in pairs)
        pairs = zip(unpack_texts(done["id"]), done["at"].tolist(), strict=True)
        self._done = OrderedDict((name, (since, bool(given_up))) for name, (since, given_up) in pairs)
        waiting = zip(
            unpack_texts(early["id"]), early["at"].tolist(), unpack_texts(early["values"]), unpack(early["records"]),
            strict=True,
        )  # fmt: skip
        self._early = OrderedDict(
            (name, EarlyLabel(since, tuple(map(_value, json.loads(text))), offset, record))
            for name, (since, offset), text, record in waiting
        )
        self._rows.load_state_dict(state["rows"], learner=learner)
        self._wanted = {number for _, number in self._events.values()}

    def _meet_event(self, name: str | None, number: int) -> EarlyLabel | None:
        """Take note of an event; returns the label that waits for it."""
        if name is None:
            self.counts["without_id"] += 1
            return None
        if name in self._events or name in self._done:
            self.counts["repeated"] += 1
            return None
        label = self._early.pop(name, None)
        if label is not None:
            self.counts["joined"] += 1
            self.counts["early"] += 1
            self._close(name, given_up=False)
            return label
        self._events[name] = self._now_ms, number
        self._wanted.add(number)
        self._awaiting.add(number)
        if len(self._events) > self._capacity:
            self.counts["pushed_out"] += 1
            self._give_up()
        return None

    def _meet_label(self, name: str, label: EarlyLabel) -> int | None:
        """Take note of a label; returns the number of its event if that waits for it."""
        event = self._events.pop(name, None)
        if event is not None:
            self.counts["joined"] += 1
            self._close(name, given_up=False)
            return event[1]
        done = self._done.get(name)
        if done is not None or name in self._early:
            self.counts["late" if done is not None and done[1] else "duplicate"] += 1
            return None
        self._early[name] = replace(label, since_ms=self._now_ms)
        if len(self._early) > self._capacity:
            self.counts["pushed_out"] += 1
            self.counts["unmatched"] += 1
            self._early.popitem(last=False)
        return None

    def _pass_time(self, record: Record) -> None:
        """Let the time of a record pass: what has waited for too long goes."""
        before, self._now_ms = self._now_ms, max(self._now_ms, record.timestamp_ms)
        if not self._wait_ms:
            return
        if self._now_ms - before > self._wait_ms and before:
            self._note_leap(record, before)
        limit = self._now_ms - self._wait_ms
        while self._events and next(iter(self._events.values()))[0] < limit:
            self._give_up()
        while self._early and next(iter(self._early.values())).since_ms < limit:
            self._early.popitem(last=False)
            self.counts["unmatched"] += 1
        while self._done and next(iter(self._done.values()))[0] < limit:
            self._done.popitem(last=False)

    def _note_leap(self, record: Record, before_ms: int) -> None:
        """Say once that a record ends every wait: it may be dated wrongly, which the records themselves do not tell."""
        if self._leapt or not (self._events or self._early):
            return
        self._leapt, origin = True, record.origin
        _log.warning(
            "%s is dated %.0f s after every record before it, more than labels.wait_s (%g): %d events and %d labels that"
            " wait are given up. If its date is wrong, have the brokers refuse such records"
            " (message.timestamp.after.max.ms).",
            "a record" if origin is None else f"record {origin.offset} of {origin.topic}/{origin.partition}",
            (record.timestamp_ms - before_ms) / 1000,
            self._wait_ms / 1000,
            len(self._events),
            len(self._early),
        )

    def _give_up(self) -> None:
        """Give up the event that has waited longest."""
        name, (_, number) = self._events.popitem(last=False)
        self.counts["expired"] += 1
        self._wanted.discard(number)
        self._rows.drop(number)
        self._close(name, given_up=True)

    def _close(self, name: str, *, given_up: bool) -> None:
        """Remember an id that is done with."""
        self._done[name] = self._now_ms, given_up
        if len(self._done) > self._capacity:
            self._done.popitem(last=False)

    def _doubtful(self, chunk: Chunk, number: IntArray) -> set[int]:
        """Return numbers of events with a value so large that its square may not be counted."""
        large = np.zeros(len(chunk), dtype=bool)
        for column in chunk.columns.values():
            if column.dtype == np.float64:
                large |= np.abs(column) > _LARGE
        return set(number[large].tolist())

    def _gather(self, block: Block, come: IntArray, new: IntArray, echo: IntArray, learner: Model) -> Block:
        """Put the events whose labels have come before the new ones, with the labels that the block has for them.

        Args:
            block: a piece.
            come: rows of the labels.
            new: rows of the events.
            echo: for each label, which of `new` it belongs to, or -1.
            learner: for whose size rows are laid out.
        """
        rows, records = block.rows, block.records
        of_event = come.copy()
        of_event[echo >= 0] = new[echo[echo >= 0]]
        both, source = np.concatenate([come, new]), np.concatenate([of_event, new])
        x, served, offset = rows.x[source], block.served[source], block.offset[source]
        kept = np.flatnonzero(echo < 0)
        listed = [records[row] for row in source.tolist()]
        if len(kept):
            old, places, found = self._rows.take(rows.number[come[kept]].tolist(), learner)
            x[kept], served[kept], offset[kept] = old.x, old.y, places
            for place, record in zip(kept.tolist(), found, strict=True):
                listed[place] = record
        return Block(
            Rows(x, rows.y[both], rows.number[both]), block.truth[both], served, offset, block.moment_s[both], listed
        )


_NO_LABELS = Labels(np.zeros(0, dtype=object), {}, np.zeros(0, dtype=np.int64), ())


def label_kinds(kinds: Mapping[str, str], targets: Sequence[str]) -> "dict[str, np.dtype[Any]]":
    """Return the dtype of each target's labels from how its field is read."""
    return {name: np.dtype(object) if kinds[name] == "class" else np.dtype(np.float64) for name in targets}


def _table(pairs: Any) -> IntArray:
    """Return pairs of whole numbers as [N, 2]."""
    return np.array([(int(a), int(b)) for a, b in pairs], dtype=np.int64).reshape(-1, 2)


def _plain(value: Any) -> Any:
    """Write a label as JSON: a soft one as a list of pairs."""
    return [list(pair) for pair in value.items()] if isinstance(value, dict) else value


def _value(plain: Any) -> Any:
    return dict(plain) if isinstance(plain, list) else plain
