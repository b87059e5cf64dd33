"""The order in which a run handled the records of a topic, from what it wrote: predictions and dead letters.

In: both topics, whose headers say of each record where it lay, its number, and when the process began that handled it:
later than the one before, whatever its clock said (`Channel.follow`); predictions say so of labels that came on a topic of
their own, too. Out: for each number, from the first to the last, topic, partition and offset. A process that was killed may
have written more than its checkpoint held; the next one began again before that, so what a later process wrote replaces
everything from its first number on. And where the clock ended
micro-batches, which predictions say too.

Axes: N records handled, M traces of them.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import numpy as np
import numpy.typing as npt

from connectors.errors import SourceError
from connectors.kafka.client import Library
from connectors.kafka.settings import KafkaReading
from connectors.kafka.source import KafkaSource
from connectors.raw import RawCodec
from connectors.records import IntArray, LabelRun, Record

_PIECE = 5_000
_SHOWN = 5  # numbers in a message

NOTHING = "nothing tells of a record that was handled"

Place = tuple[int, int]  # partition and offset
Stretches = dict[int, tuple[int, int]]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class HandledOrder:
    """Where the records lie that a run handled, in order.

    Attributes:
        first: number of the first one.
        apart: [N] whether it is one of the topic of labels.
        partition: [N].
        offset: [N].
        cuts: where those lie behind which the clock ended a micro-batch.
    """

    first: int
    apart: BoolArray
    partition: IntArray
    offset: IntArray
    cuts: frozenset[Place] = frozenset()

    @property
    def stretches(self) -> Stretches:
        """Return for each partition of events the offset of its first record, and the one after its last."""
        return self._stretches(~self.apart)

    @property
    def label_stretches(self) -> Stretches:
        """Return the same for each partition of labels."""
        return self._stretches(self.apart)

    def _stretches(self, rows: BoolArray) -> Stretches:
        partition, offset = self.partition[rows], self.offset[rows]
        return {
            int(p): (int(offset[partition == p][0]), int(offset[partition == p][-1]) + 1) for p in np.unique(partition)
        }


@dataclass(slots=True)
class Traces:
    """What tells of records handled, in any order.

    Attributes:
        labelled: whether labels come on a topic of their own. Predictions alone tell of those, so what lies behind the last
            prediction may be missing.
        number, partition, offset: [M] of a record.
        started: [M] when the process began that tells of it, milliseconds since 1970, later than the one before.
        apart: [M] whether it is one of the topic of labels.
        predicted: [M] whether it has a prediction.
        since: number of the first record that a process handled, by its start, where it tells that itself. It may tell of
            records before that: of a label that could not be learned when it came, or of labels that an earlier process
            handled and had no prediction to tell of them with.
        cuts: number and start of a trace that tells where the clock ended a micro-batch, and behind which record.
    """

    labelled: bool = False
    number: "array[int]" = field(default_factory=lambda: array("q"))
    partition: "array[int]" = field(default_factory=lambda: array("q"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    started: "array[int]" = field(default_factory=lambda: array("q"))
    apart: "array[int]" = field(default_factory=lambda: array("b"))
    predicted: "array[int]" = field(default_factory=lambda: array("b"))
    since: dict[int, int] = field(default_factory=dict)
    cuts: list[tuple[int, int, Place]] = field(default_factory=list)

    def add(
        self,
        number: int,
        place: Place,
        *,
        started_ms: int,
        apart: bool = False,
        predicted: bool = True,
        since: int | None = None,
        cuts: Iterable[Place] = (),
        labels: Iterable[LabelRun] = (),
    ) -> None:
        """Take a trace, with the labels and ends of micro-batches that it tells of."""
        self.cuts += [(number, started_ms, cut) for cut in cuts]
        if since is not None:
            self.since[started_ms] = min(self.since.get(started_ms, since), since)
        self._put(LabelRun(number, *place, 1), started_ms, apart=apart, predicted=predicted)
        for run in labels:
            self._put(run, started_ms, apart=True, predicted=False)

    def _put(self, run: LabelRun, started_ms: int, *, apart: bool, predicted: bool) -> None:
        self.number.extend(range(run.number, run.number + run.records))
        self.partition.extend(repeat(run.partition, run.records))
        self.offset.extend(range(run.offset, run.offset + run.records))
        self.started.extend(repeat(started_ms, run.records))
        self.apart.extend(repeat(apart, run.records))
        self.predicted.extend(repeat(predicted, run.records))

    def kept_cuts(self) -> frozenset[Place]:
        """Return behind which records the clock ended a micro-batch, in what no later process has done again."""
        first = self._first()
        return frozenset(
            cut
            for told, moment, cut in self.cuts
            if all(begins > told for later, begins in first.items() if later > moment)
        )

    def order(self) -> HandledOrder:
        """Return the order that they tell.

        Raises:
            SourceError: there are none, some are missing, or they contradict one another.
        """
        if not self.number:
            raise SourceError(NOTHING)
        number, started = np.array(self.number), np.array(self.started)
        told = np.stack([np.array(column) for column in (self.apart, self.partition, self.offset)], axis=1)
        predicted, base = np.array(self.predicted, dtype=bool), int(number.min())
        places = np.full((int(number.max()) - base + 1, 3), -1, dtype=np.int64)
        shown = np.zeros(len(places), dtype=bool)
        for moment, begins in self._first().items():
            rows = np.flatnonzero(started == moment)
            at, again = number[rows] - base, slice(max(begins - base, 0), None)
            places[again], shown[again] = -1, False
            places[at], shown[at] = told[rows], False
            shown[at[predicted[rows]]] = True
            wrong = (places[at] != told[rows]).any(axis=1)
            if wrong.any():
                first = int(at[wrong][0]) + base
                raise SourceError(f"one process has handled two records as number {first}: two runs share a model name")
        if self.labelled:
            places = _without_end(places, shown)
        return _checked(base, places, self.kept_cuts())

    def _first(self) -> dict[int, int]:
        """Return the number of the first record that each process handled, by its start, in order."""
        number, started = np.array(self.number), np.array(self.started)
        return {
            moment: self.since[moment] if moment in self.since else int(number[started == moment].min())
            for moment in np.unique(started).tolist()
        }


def _without_end(places: IntArray, shown: BoolArray) -> IntArray:
    """Leave out what lies behind the last prediction, from where the first record is missing."""
    last = int(np.flatnonzero(shown)[-1]) if shown.any() else -1
    behind = np.flatnonzero(places[last + 1 :, 0] < 0)
    return places[: last + 1 + int(behind[0])] if len(behind) else places


def _checked(base: int, places: IntArray, cuts: frozenset[Place]) -> HandledOrder:
    """See that an order is whole, and keeps that of each partition; `places` are topic, partition, offset."""
    there = np.flatnonzero(places[:, 0] >= 0)
    if not (places[there, 0] == 0).any():
        raise SourceError(NOTHING)
    places, base = places[there[0] : there[-1] + 1], base + int(there[0])
    gaps = np.flatnonzero(places[:, 0] < 0) + base
    if len(gaps):
        listed = ", ".join(map(str, gaps[:_SHOWN])) + (", ..." if len(gaps) > _SHOWN else "")
        raise SourceError(
            f"neither a prediction nor a dead letter tells where {len(gaps)} of the records handled lie (numbers {listed});"
            " both topics have to be written, and to be kept as long as what is recorded"
        )
    for apart, p in np.unique(places[:, :2], axis=0).tolist():
        rows = np.flatnonzero((places[:, 0] == apart) & (places[:, 1] == p))
        back = np.flatnonzero(np.diff(places[rows, 2]) <= 0)
        if len(back):
            raise SourceError(
                f"partition {p}{' of the labels' * apart}: record {rows[back[0] + 1] + base} was handled behind a later"
                " one. Two runs share a model name, or the clocks of their machines differ."
            )
    return HandledOrder(base, places[:, 0] == 1, places[:, 1], places[:, 2], cuts)


def handled_order(
    library: Library,
    *,
    topic: str,
    label_topic: str = "",
    predictions: str,
    dead_letters: str,
    model: str,
    stopping: Callable[[], bool],
) -> HandledOrder | None:
    """Read what a run wrote; None if `stopping` said so before the end.

    Args:
        library: makes the client.
        topic: whose records were handled.
        label_topic: of their labels; "" = these came with them.
        predictions: topic; "" = there is none.
        dead_letters: topic; "" = there is none.
        model: its name in the headers.
        stopping: asked between pieces.

    Raises:
        SourceError: a topic cannot be read, or the order is not whole.
    """
    names = [name for name in (predictions, dead_letters) if name]
    traces = _traces(library, topic, names, model, stopping, label_topic=label_topic)
    if stopping():
        return None
    try:
        return traces.order()
    except SourceError as problem:
        raise SourceError(
            f"the order in which model {model!r} handled topic {topic!r} cannot be told from"
            f" {' and '.join(map(repr, names))}: {problem}"
        ) from problem


def handled_cuts(
    library: Library, *, topic: str, predictions: str, model: str, stopping: Callable[[], bool]
) -> frozenset[Place] | None:
    """Read behind which records of a topic the clock ended a micro-batch of a run; see `handled_order`.

    Raises:
        SourceError: the topic of predictions cannot be read.
    """
    traces = _traces(library, topic, [predictions], model, stopping)
    return None if stopping() else traces.kept_cuts()


def _traces(
    library: Library,
    topic: str,
    names: Sequence[str],
    model: str,
    stopping: Callable[[], bool],
    *,
    label_topic: str = "",
) -> Traces:
    """Read what topics tell of the records of a topic, and of that of its labels."""
    traces = Traces(labelled=bool(label_topic))
    apart = {topic.encode(): False} | ({label_topic.encode(): True} if label_topic else {})
    for name in names:
        for record in _records(library, name, stopping):
            headers = dict(record.headers)
            whose = headers.get("streamnn-topic") or b""
            if headers.get("streamnn-model") != model.encode() or whose not in apart:
                continue
            number, partition, offset, started = (
                int(headers.get(f"streamnn-{what}") or b"-1") for what in ("record", "partition", "offset", "started")
            )
            if min(number, partition, offset, started) < 0:
                raise SourceError(f"a record of topic {name!r} lacks headers that tell of the order: {record.origin}")
            predicted, since = headers.get("streamnn-stage") is None, headers.get("streamnn-since")
            traces.add(
                number,
                (partition, offset),
                started_ms=started,
                apart=apart[whose],
                predicted=predicted,
                since=None if since is None else int(since),
                # a dead letter tells of none, but may have such headers from the record that it is
                cuts=[(p, at) for p, at in _told(headers.get("streamnn-cut"))] if predicted else (),
                labels=[LabelRun(*run) for run in _told(headers.get("streamnn-labels"))] if predicted else (),
            )
    return traces


def _told(header: bytes | None) -> list[list[int]]:
    """Read groups of numbers with commas between them."""
    return [[int(number) for number in group.split(b":")] for group in (header or b"").split(b",") if group]


def _records(library: Library, topic: str, stopping: Callable[[], bool]) -> Iterator[Record]:
    """Hand out the committed records of a topic, up to its present end."""
    reading = KafkaReading(topic=topic, group="streamnn-record", until="end", order="arrival")
    source = KafkaSource(reading, library, RawCodec(), commits=False)
    try:
        source.open(0, None)
        while not stopping() and (chunk := source.poll(_PIECE)) is not None:
            yield from chunk.records
    finally:
        source.close()
