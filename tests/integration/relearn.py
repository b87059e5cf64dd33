"""What a run should have written, learned anew from its records alone: one micro-batch after the other, by plain rules.

In: the settings, the records of the input topic, and where the clock ended a micro-batch. Out: every prediction and dead
letter that there should be, and the learner at the end. Nothing of the pipeline is used but its settings, and nothing of the
connectors but the records: the order, what is no event and why, which events are learned together, and what is served are
worked out here once more. The network itself is the product's, run on one micro-batch (in sample mode: one event) at a time.
"""

import heapq
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from connectors import Record, StreamHead
from pipeline.assembly import learner_spec
from pipeline.config import Config
from pipeline.tasks import resolve
from streamnn.learner import Learner
from streamnn.operations import Kind, Operations

Place = tuple[int, int]  # partition and offset


class NotVerifiableError(Exception):
    """The run has settings, or its records something, that is not worked out here."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter that there should be: the record, its number in the merged order, and why it is no event."""

    record: Record
    number: int
    stage: str
    reason: str


@dataclass(slots=True)
class Relearned:
    """What a run should have come to.

    Attributes:
        learner: at the end.
        served: the value of the prediction of each event, as JSON.
        letters: the dead letters.
        events: records that could be decoded.
        records: all.
    """

    learner: Learner
    served: dict[Place, dict[str, Any]] = field(default_factory=dict)
    letters: dict[Place, Letter] = field(default_factory=dict)
    events: int = 0
    records: int = 0


@dataclass(frozen=True, slots=True)
class _Event:
    """A record that could be decoded: its number among all, its number among these, what it says."""

    record: Record
    at: int
    number: int
    fields: Mapping[str, float]
    label: Any


def relearn(config: Config, records: Iterable[Record], cuts: Collection[Place] = ()) -> Relearned:
    """Learn the records of a topic.

    Args:
        config: of the run.
        records: each partition's in the order of the log.
        cuts: the last event of each micro-batch that the clock ended.

    Raises:
        NotVerifiableError: the run is one that this cannot work out.
    """
    if (config.rate.control, config.kafka.order, config.model.preset) != ("fixed", "timestamp", "single"):
        raise NotVerifiableError("needs rate.control=fixed, kafka.order=timestamp, model.preset=single")
    if len(config.stream.targets) != 1 or config.labels.delay_events or config.labels.delay_s:
        raise NotVerifiableError("needs one target whose label comes with its event")
    if set(config.stream.kinds.values()) - {"number"}:
        raise NotVerifiableError("needs fields that are all declared as numbers")
    resolved = resolve(config.stream, StreamHead((), 0))
    target, found = config.stream.targets[0], Relearned(Learner(learner_spec(config, resolved)))
    for name, classes in resolved.classes.items():
        found.learner.targets.declare(name, classes)
    found.learner.declare(resolved.feature_fields)
    together: list[_Event] = []
    for record in _merged(records):
        event = _event(record.value, config.stream.kinds, target, config.stream)
        if isinstance(event, str):
            found.letters[place(record)] = Letter(record, found.records, "decode", event)
        else:
            label = event.pop(target, None)
            together.append(_Event(record, found.records, found.events, event, label))
            found.events += 1
            if len(together) == config.mode.batch or place(record) in cuts:
                _learn(found, together, target, config)
                together = []
        found.records += 1
    if together:
        raise NotVerifiableError(f"the last micro-batch has {len(together)} of {config.mode.batch} events")
    return found


def place(record: Record) -> Place:
    """Return where a record lies."""
    assert record.origin is not None
    return record.origin.partition, record.origin.offset


def _merged(records: Iterable[Record]) -> Iterable[Record]:
    """Bring partitions into one order: of their next records the oldest first, ties by partition."""
    logs: dict[int, list[Record]] = {}
    for record in records:
        logs.setdefault(place(record)[0], []).append(record)
    # merge() looks at heads alone, as it should where timestamps run backwards within a partition
    return heapq.merge(*logs.values(), key=lambda record: (record.timestamp_ms, place(record)))


def _learn(found: Relearned, together: Sequence[_Event], target: str, config: Config) -> None:
    """Predict and learn a micro-batch, and note what should have been served."""
    learner, task = found.learner, config.stream.task
    events, known = list[_Event](), [*learner.targets.classes(target)] if task == "binary" else []
    for event in together:
        label = event.label
        if task != "binary" and isinstance(label, dict):
            raise NotVerifiableError("soft labels are not worked out here")
        new = task == "binary" and label is not None and (isinstance(label, dict) or label not in known)
        if new and (isinstance(label, dict) or len(known) > 1):
            found.letters[place(event.record)] = Letter(event.record, event.at, "label", "unfit_label")
            continue
        known += [label] if new else []
        events.append(event)
    if not events:
        return
    labels = [event.label for event in events]
    column = np.array([math.nan if y is None else y for y in labels]) if task == "regression" else _objects(*labels)
    names = {name for event in events for name in event.fields}
    columns = {name: np.array([event.fields.get(name, math.nan) for event in events]) for name in sorted(names)}
    encoded = learner.encode(columns, {target: column}, np.array([event.number for event in events]))
    kind = Kind.PREDICT_OBSERVE if all(label is None for label in labels) else Kind.PREDICT_LEARN
    results = learner.run(encoded.rows, Operations.of([(kind, 0, len(events))]), rate=config.optimizer.rate)
    if results.refused and config.mode.batch > 1:
        raise NotVerifiableError("a micro-batch that cannot be learned is not worked out here")
    for row, event in enumerate(events):
        if row in results.refused:
            found.letters[place(event.record)] = Letter(event.record, event.at, "learn", "not_finite")
        else:
            said = _said(learner, results.served[row], target, event.label)
            found.served[place(event.record)] = {"event": event.number, "targets": {target: said}}


def _said(learner: Learner, served: Any, target: str, label: Any) -> dict[str, Any]:
    """Return what a prediction says of its target."""
    part = served[learner.head.block(target).columns].tolist()
    spec, classes = learner.head.targets[0], learner.targets.classes(target)
    if spec.kind == "regression":
        return {"prediction": None if math.isnan(part[0]) else part[0], "label": label}
    p = [1 - part[0], part[0]] if spec.kind == "binary" else part[: len(classes)]
    likely = {str(name): q for name, q in zip(classes, p, strict=True) if q > 0}  # what is not served is left out
    best = int(p[1] > 0.5) if spec.kind == "binary" else int(np.argmax(p)) if likely else 0
    return {"prediction": classes[best] if likely else None, "label": label, "probabilities": likely}


def _event(value: bytes | None, kinds: Mapping[str, str], target: str, stream: Any) -> dict[str, Any] | str:
    """Return what is known of an event; or, if it is none, the reason."""
    if value is None:
        return "tombstone"
    if len(value) > stream.max_record_bytes:
        return "too_large"
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    try:
        fields = json.loads(text)
        json.dumps(fields, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(fields, dict):
        return "not_object"
    event: dict[str, Any] = {}
    for name in sorted(fields):
        if name in stream.ignore or (name != target and name not in kinds and stream.extra == "ignore"):
            continue
        if name != target and name not in kinds:
            raise NotVerifiableError(f"field {name!r} is not declared")
        if fields[name] is None or fields[name] == "" or fields[name] != fields[name]:
            continue
        read = _class(fields[name]) if name == target and stream.task != "regression" else _number(fields[name])
        if isinstance(read, _Why):
            return read.reason
        event[name] = read
    return event


@dataclass(frozen=True, slots=True)
class _Why:
    reason: str


def _number(value: object) -> float | _Why:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _Why("wrong_type")
    try:
        return float(value) if math.isfinite(float(value)) else _Why("not_finite")
    except OverflowError:
        return _Why("not_finite")


def _class(value: object) -> Any:
    if isinstance(value, dict):
        sound = all(not isinstance(p, bool) and isinstance(p, int | float) and 0 <= p <= 1 for p in value.values())
        return value if sound and abs(sum(value.values()) - 1) <= 0.01 else _Why("out_of_range")
    if isinstance(value, str | int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() else _Why("wrong_type")


def _objects(*values: object) -> "np.ndarray[Any, Any]":
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
