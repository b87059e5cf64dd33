"""The order in which a run handled the records of a topic, from what it wrote: predictions and dead letters.

In: both topics, whose headers say of each record where it lay, its number, and when the process began that handled it:
later than the one before, whatever its clock said (`Channel.follow`). Out: for each number, from the first to the last,
partition and offset. A process that was killed may have written more than its checkpoint held; the next one began again
before that, so what a later process wrote replaces everything from its first number on. And where the clock ended
micro-batches, which predictions say too.

Axes: N records handled, M traces of them.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from connectors.errors import SourceError
from connectors.kafka.client import Library
from connectors.kafka.settings import KafkaReading
from connectors.kafka.source import KafkaSource
from connectors.raw import RawCodec
from connectors.records import IntArray, Record

_PIECE = 5_000
_SHOWN = 5  # numbers in a message


Place = tuple[int, int]  # partition and offset


@dataclass(frozen=True, slots=True, eq=False)
class HandledOrder:
    """Where the records lie that a run handled, in order.

    Attributes:
        first: number of the first one.
        partition: [N].
        offset: [N].
        cuts: where those lie behind which the clock ended a micro-batch.
    """

    first: int
    partition: IntArray
    offset: IntArray
    cuts: frozenset[Place] = frozenset()

    @property
    def stretches(self) -> dict[int, tuple[int, int]]:
        """Return for each partition the offset of its first record, and the one after its last."""
        return {
            int(p): (int(self.offset[self.partition == p][0]), int(self.offset[self.partition == p][-1]) + 1)
            for p in np.unique(self.partition)
        }


@dataclass(slots=True)
class Traces:
    """What tells of records handled, in any order.

    Attributes:
        number, partition, offset: [M] of a record.
        started: [M] when the process began, milliseconds since 1970, later than the one before.
        late: [M] whether it may tell of a record that an earlier process has handled: its label came later, and could
            not be learned.
        cuts: number and start of a trace that tells where the clock ended a micro-batch, and behind which record.
    """

    number: "array[int]" = field(default_factory=lambda: array("q"))
    partition: "array[int]" = field(default_factory=lambda: array("q"))
    offset: "array[int]" = field(default_factory=lambda: array("q"))
    started: "array[int]" = field(default_factory=lambda: array("q"))
    late: "array[int]" = field(default_factory=lambda: array("b"))
    cuts: list[tuple[int, int, Place]] = field(default_factory=list)

    def add(
        self, number: int, place: Place, *, started_ms: int, late: bool = False, cuts: Iterable[Place] = ()
    ) -> None:
        """Take a trace."""
        self.cuts += [(number, started_ms, cut) for cut in cuts]
        self.number.append(number)
        self.partition.append(place[0])
        self.offset.append(place[1])
        self.started.append(started_ms)
        self.late.append(late)

    def kept_cuts(self) -> frozenset[Place]:
        """Return behind which records the clock ended a micro-batch, in what no later process has done again."""
        number, started, late = np.array(self.number), np.array(self.started), np.array(self.late, dtype=bool)
        begun = {int(moment): number[(started == moment) & ~late] for moment in np.unique(started)}
        first = {moment: int(numbers.min()) for moment, numbers in begun.items() if len(numbers)}
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
            raise SourceError("nothing tells of a record that was handled")
        number, partition, offset = (np.array(column) for column in (self.number, self.partition, self.offset))
        late, started = np.array(self.late, dtype=bool), np.array(self.started)
        base = int(number.min())
        places = np.full((int(number.max()) - base + 1, 2), -1, dtype=np.int64)
        for moment in np.unique(started):
            rows = np.flatnonzero(started == moment)
            at, told = number[rows] - base, np.stack([partition[rows], offset[rows]], axis=1)
            known = late[rows] & (places[at] == told).all(axis=1)
            at, told = at[~known], told[~known]
            if not len(at):
                continue
            places[at.min() :] = -1
            places[at] = told
            if (places[at] != told).any():
                wrong = int(at[(places[at] != told).any(axis=1)][0]) + base
                raise SourceError(f"one process has handled two records as number {wrong}: two runs share a model name")
        return _checked(base, places, self.kept_cuts())


def _checked(base: int, places: IntArray, cuts: frozenset[Place]) -> HandledOrder:
    """See that an order is whole, and keeps that of each partition."""
    there = np.flatnonzero(places[:, 0] >= 0)
    places, base = places[there[0] : there[-1] + 1], base + int(there[0])
    gaps = np.flatnonzero(places[:, 0] < 0) + base
    if len(gaps):
        listed = ", ".join(map(str, gaps[:_SHOWN])) + (", ..." if len(gaps) > _SHOWN else "")
        raise SourceError(
            f"neither a prediction nor a dead letter tells where {len(gaps)} of the records handled lie (numbers {listed});"
            " both topics have to be written, and to be kept as long as what is recorded"
        )
    for p in np.unique(places[:, 0]):
        rows = np.flatnonzero(places[:, 0] == p)
        back = np.flatnonzero(np.diff(places[rows, 1]) <= 0)
        if len(back):
            raise SourceError(
                f"partition {p}: record {rows[back[0] + 1] + base} was handled behind a later one. Two runs share a model"
                " name, or the clocks of their machines differ."
            )
    return HandledOrder(base, places[:, 0], places[:, 1], cuts)


def handled_order(
    library: Library, *, topic: str, predictions: str, dead_letters: str, model: str, stopping: Callable[[], bool]
) -> HandledOrder | None:
    """Read what a run wrote; None if `stopping` said so before the end.

    Args:
        library: makes the client.
        topic: whose records were handled.
        predictions: topic; "" = there is none.
        dead_letters: topic; "" = there is none.
        model: its name in the headers.
        stopping: asked between pieces.

    Raises:
        SourceError: a topic cannot be read, or the order is not whole.
    """
    traces = _traces(library, topic, [name for name in (predictions, dead_letters) if name], model, stopping)
    if stopping():
        return None
    try:
        return traces.order()
    except SourceError as problem:
        raise SourceError(
            f"the order in which model {model!r} handled topic {topic!r} cannot be told from"
            f" {' and '.join(repr(name) for name in (predictions, dead_letters) if name)}: {problem}"
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


def _traces(library: Library, topic: str, names: Sequence[str], model: str, stopping: Callable[[], bool]) -> Traces:
    """Read what topics tell of the records of a topic."""
    traces = Traces()
    for name in names:
        for record in _records(library, name, stopping):
            headers = dict(record.headers)
            if headers.get("streamnn-model") != model.encode() or headers.get("streamnn-topic") != topic.encode():
                continue
            number, partition, offset, started = (
                int(headers.get(f"streamnn-{what}") or b"-1") for what in ("record", "partition", "offset", "started")
            )
            if min(number, partition, offset, started) < 0:
                raise SourceError(f"a record of topic {name!r} lacks headers that tell of the order: {record.origin}")
            stage = headers.get("streamnn-stage")
            late = stage == b"learn"
            # a dead letter tells of none, but may have such a header from the record that it is
            told = b"" if stage is not None else headers.get("streamnn-cut") or b""
            cuts = [place.split(b":") for place in told.split(b",") if place]
            places = [(int(where), int(at)) for where, at in cuts]
            traces.add(number, (partition, offset), started_ms=started, late=late, cuts=places)
    return traces


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
