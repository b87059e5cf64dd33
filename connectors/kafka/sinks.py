"""Predictions and dead letters as records of topics.

In: predictions and dead letters of the loop. Out: records through a channel (`delivery`: at least once; `transaction`:
exactly once for readers of committed records). The key is kept, so that what belongs together stays together; a record
without a key goes to the partition with the number of its source partition (modulo the partitions there are).

A prediction's value is JSON:

    {"event": 17, "targets": {"class": {"prediction": "UP", "probabilities": {"DOWN": 0.2, "UP": 0.8}, "label": null}}}

with the event number, and per target what was served and what was known of the truth then; null = nothing. Its headers
say where the event lies in the source, by which a reader drops repeats: streamnn-topic, streamnn-partition,
streamnn-offset, streamnn-record (the number of the record among all that were handled), streamnn-event (the number of
the event), streamnn-model and streamnn-started (when the process began to write, milliseconds since 1970, or what is later
than the process before it, where a clock was set back). Those of a micro-batch that the clock ended have streamnn-cut
too: partition:offset of its last event, and before it, after a comma, that of the one before where no prediction could
tell of it. Where labels come on a topic of their own, predictions tell which of their records were handled before the event
and have not been told of: streamnn-labels, runs in the order handled, number:partition:offset:records each with commas
between them, and streamnn-since, the number of the first record that this process handled. There are at most some 3 kB of
them; what is more comes with the predictions that follow.

A dead letter has the record's own value, key and headers, and after them streamnn-topic, streamnn-partition,
streamnn-offset, streamnn-record, streamnn-model, streamnn-started, streamnn-since (as above), streamnn-stage,
streamnn-reason, streamnn-detail; streamnn-truncated where the topic does not take the whole value, which then is its beginning alone,
without key and own headers. All headers are UTF-8 text. The numbers of both together tell in which order records were handled (`handled`).
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import islice, repeat
from typing import Any

import numpy as np

from connectors.errors import SinkError
from connectors.kafka.client import Outgoing
from connectors.kafka.delivery import Channel
from connectors.prediction_text import as_json_values, number_text
from connectors.records import DeadLetter, IntArray, LabelRun, Predictions, Record

_KEPT_BYTES = 4_096  # of the value of a dead letter that is too large for the topic
_KEPT_DETAIL = 1_000


class KafkaPredictions:
    """A `Sink` that writes predictions to a topic.

    Args:
        channel: shared with other sinks, or not.
        topic: where to.
        model: name of the model, for the header streamnn-model.
    """

    def __init__(self, channel: Channel, topic: str, *, model: str) -> None:
        self._channel, self._topic, self._model = channel, topic, model
        self._partitions, self._length = 1, 0
        self._halfway: tuple[Predictions | None, int] = (None, 0)  # an item of which some rows could not be taken

    def truncate(self, length: int) -> None:
        """Open. Nothing is removed from a topic: what was not committed is aborted, or may be repeated."""
        self._channel.open()
        self._partitions, self._length = self._channel.partitions(self._topic), length

    def write(self, item: Predictions) -> None:
        """Write a record for each event; what was taken of the same item before is not written again."""
        before, taken = self._halfway
        first = row = taken if item is before else 0
        write = self._channel.write
        try:
            outgoing = self._telling(item) if item.told else self._outgoing(item)
            for record in islice(outgoing, first, None):
                write(record)
                row += 1
        except SinkError:
            self._halfway = (item, row)
            raise
        finally:
            self._length += row - first
        self._halfway = (None, 0)

    def _outgoing(self, item: Predictions) -> Iterator[Outgoing]:
        """Make the records column by column: one by one they take half as long again."""
        records = list(item.records)
        same = partial(repeat, times=len(records))
        cuts = ",".join(f"{cut.partition}:{cut.offset}" for cut in item.cuts)
        last = (*_whose(self._model, self._channel), *((("streamnn-cut", cuts.encode()),) if cuts else ()))
        numbered = zip(same("streamnn-event"), _digits(item.numbers), strict=True)
        headers = zip(*_places(records, item.offsets), numbered, *map(same, last), strict=True)
        keys = [record.key for record in records]
        where = [_partition(record, self._partitions) for record in records]
        make: Any = tuple.__new__
        rest = zip(same(self._topic), as_json_values(item), keys, headers, where, same(None), same(None), strict=True)
        return map(make, repeat(Outgoing), rest)

    def _telling(self, item: Predictions) -> Iterator[Outgoing]:
        """Have the records tell of labels, too; apart from those that have none to tell of, which are most often all."""
        for row, record in enumerate(self._outgoing(item)):
            runs = item.told.get(row)
            yield record if runs is None else record._replace(headers=(*record.headers, *_told(runs, item.since)))

    def flush(self) -> int:
        """Return when all records are acknowledged; the length is how many there have been."""
        self._channel.flush()
        return self._length

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()


class KafkaDeadLetters:
    """A `Sink` that writes records that could not be used to a topic.

    Args:
        channel: shared with other sinks, or not.
        topic: where to.
        model: name of the model, likewise.
    """

    def __init__(self, channel: Channel, topic: str, *, model: str) -> None:
        self._channel, self._topic, self._model = channel, topic, model
        self._partitions, self._length = 1, 0
        self._halfway: tuple[Sequence[DeadLetter] | None, int] = (None, 0)

    def truncate(self, length: int) -> None:
        """Open. Nothing is removed from a topic."""
        self._channel.open()
        self._partitions, self._length = self._channel.partitions(self._topic), length

    def write(self, item: Sequence[DeadLetter]) -> None:
        """Write a record for each letter; what was taken of the same item before is not written again."""
        before, taken = self._halfway
        for row, letter in enumerate(item):
            if item is before and row < taken:
                continue
            self._halfway = (item, row)
            self._channel.write(self._outgoing(letter))
            self._length += 1
        self._halfway = (None, 0)

    def flush(self) -> int:
        """Return when all records are acknowledged; the length is how many there have been."""
        self._channel.flush()
        return self._length

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def _outgoing(self, letter: DeadLetter) -> Outgoing:
        record = letter.record
        # what Kafka's libraries disagree on (no value and no key, a header without a value) becomes empty, with a note
        empty = [name.encode() for name, value in record.headers if value is None]
        headers = (
            *((name, value or b"") for name, value in record.headers),
            *_place(record, letter.offset),
            *_whose(self._model, self._channel),
            _since(letter.since),
            ("streamnn-stage", letter.stage.encode()),
            ("streamnn-reason", letter.reason.encode()),
            ("streamnn-detail", letter.detail[:_KEPT_DETAIL].encode(errors="replace")),
            *((("streamnn-tombstone", b"true"),) if record.value is None else ()),
            *((("streamnn-null-headers", b",".join(empty)),) if empty else ()),
        )
        value = record.value or b""
        where = _partition(record, self._partitions)
        cut = ("streamnn-truncated", f"{len(value)} bytes, of which the first {_KEPT_BYTES} are kept".encode())
        smaller = Outgoing(self._topic, value[:_KEPT_BYTES], None, (*headers[len(record.headers) :], cut), where)
        return Outgoing(self._topic, value, record.key, headers, where, smaller=smaller)


def _places(records: Sequence[Record], numbers: IntArray) -> list[Iterator[tuple[str, bytes]]]:
    """Return the headers that say where K records lie, and their numbers, a column each; all have an origin, or none."""
    numbered, name = _digits(numbers), partial(repeat, times=len(records))
    origins = [record.origin for record in records if record.origin is not None]
    if len(origins) < len(records):
        return [zip(name(text), numbered, strict=True) for text in ("streamnn-offset", "streamnn-record")]
    offsets = _digits(np.array([origin.offset for origin in origins], dtype=np.int64))
    places = [_place_but_offset(topic, partition) for topic, partition, _ in origins]
    return [
        iter([topic for topic, _ in places]),
        iter([partition for _, partition in places]),
        zip(name("streamnn-offset"), offsets, strict=True),
        zip(name("streamnn-record"), numbered, strict=True),
    ]


def _digits(numbers: IntArray) -> list[bytes]:
    """Return each number as text."""
    return number_text(numbers).split(b",") if len(numbers) else []


def _place(record: Record, number: int) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that say where a record lies, and its number."""
    return next(zip(*_places([record], np.array([number], dtype=np.int64)), strict=True))


@lru_cache(maxsize=1024)
def _place_but_offset(topic: str, partition: int) -> tuple[tuple[str, bytes], ...]:
    return ("streamnn-topic", topic.encode()), ("streamnn-partition", b"%d" % partition)


def _whose(model: str, channel: Channel) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that say which run of which model wrote a record."""
    return (("streamnn-model", model.encode()), ("streamnn-started", b"%d" % channel.opened_ms))


def _told(runs: Sequence[LabelRun], since: int) -> tuple[tuple[str, bytes], ...]:
    """Return the headers that say which records of labels were handled."""
    return ("streamnn-labels", ",".join(":".join(map(str, run)) for run in runs).encode()), _since(since)


def _since(number: int) -> tuple[str, bytes]:
    return "streamnn-since", b"%d" % number


def _partition(record: Record, partitions: int) -> int | None:
    """Return where a record goes; None = where its key says."""
    if record.key is not None:
        return None
    return 0 if record.origin is None else record.origin.partition % partitions
