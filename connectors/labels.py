"""Labels that come on a topic of their own, among the events of another.

In: records of both topics in one order, a codec for each. Out: chunks whose events have no labels, with the labels beside
them (`Chunk.labels`). A label record has the field that identifies its event and at least one target; what lacks either
is a dead letter of stage "label", as is one that does not decode.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from connectors.base import Codec
from connectors.records import Chunk, Column, DeadLetter, IntArray, Labels, Picked, Record, missing
from connectors.schema import Kind, Schema

NO_ID = "the label does not say whose it is: field {!r} is missing, expected the id of its event"
NO_TARGET = "the label is empty: expected a value for one of {}"


def event_schema(schema: Schema) -> Schema:
    """Return how events are read whose labels come apart from them: a target among their fields is left out."""
    kinds: dict[str, Kind] = {name: kind for name, kind in schema.kinds.items() if name not in schema.targets}
    return replace(schema, kinds=kinds, targets=(), ignore=(*schema.ignore, *schema.targets))


def label_schema(schema: Schema) -> Schema:
    """Return how labels are read: the id, the targets, and nothing else."""
    kinds: dict[str, Kind] = {name: kind for name, kind in schema.kinds.items() if name in (*schema.targets, schema.id)}
    return Schema(kinds=kinds, targets=schema.targets, id=schema.id, extra="ignore")


@dataclass(frozen=True, slots=True)
class LabelledCodec:
    """A `Codec` for the records of two topics.

    Attributes:
        events: decodes what is not of the label topic; see `event_schema`.
        labels: decodes what is; see `label_schema`.
        topic: of the labels.
        id: the field that identifies an event.
        targets: names, in order.
    """

    events: Codec
    labels: Codec
    topic: str
    id: str
    targets: tuple[str, ...]

    def decode(self, records: Sequence[Record], offsets: IntArray, *, start: int, stop: int) -> Chunk:
        """Decode consecutive records of both topics."""
        apart = np.array([r.origin is not None and r.origin.topic == self.topic for r in records], dtype=bool)
        if not apart.any():
            return self.events.decode(records, offsets, start=start, stop=stop)
        here, there = np.flatnonzero(~apart), np.flatnonzero(apart)
        chunk = self.events.decode(Picked(records, here), offsets[here], start=start, stop=stop)
        found = self.labels.decode(Picked(records, there), offsets[there], start=start, stop=stop)
        labels, unfit = self._usable(found)
        rejects = sorted([*chunk.rejects, *unfit], key=lambda letter: letter.offset)
        return replace(chunk, labels=labels, rejects=tuple(rejects))

    def state(self, offset: int) -> dict[str, Any]:
        """Return what both codecs learned before record number `offset`."""
        return {"events": self.events.state(offset), "labels": self.labels.state(offset)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self.events.load(state.get("events", {}))
        self.labels.load(state.get("labels", {}))

    def _usable(self, found: Chunk) -> tuple[Labels, list[DeadLetter]]:
        """Return the labels that name an event and a target, and dead letters for the others."""
        ids = found.columns.get(self.id, missing(np.dtype(object), len(found)))
        columns = {name: found.columns[name] for name in self.targets if name in found.columns}
        nameless = np.array([one is None for one in ids], dtype=bool)
        empty = np.ones(len(found), dtype=bool)
        for column in columns.values():
            empty &= _missing(column)
        letters = [replace(letter, stage="label") for letter in found.rejects]
        for row in np.flatnonzero(nameless | empty).tolist():
            reason, why = ("no_id", NO_ID.format(self.id)) if nameless[row] else ("no_target", self._no_target())
            letters.append(DeadLetter(int(found.offsets[row]), "label", reason, why, found.records[row]))
        keep = np.flatnonzero(~(nameless | empty))
        kept = {name: column[keep] for name, column in columns.items()}
        return Labels(ids[keep], kept, found.offsets[keep], Picked(found.records, keep)), letters

    def _no_target(self) -> str:
        return NO_TARGET.format(", ".join(self.targets))


def _missing(column: Column) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    if column.dtype == np.float64:
        return np.isnan(column)
    return np.array([value is None for value in column], dtype=bool)
