"""`streamnn record`: the records of a topic, or a range of them, into a file that replays them as they were.

In: the configuration of a run. Out: a recording (`connectors.recording`).
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from connectors import Origin, SinkError, SourceError
from connectors.kafka import KafkaReading, KafkaSource, Library, handled_cuts, handled_order, library, positions
from connectors.kafka.client import Partition
from connectors.kafka.handled import Place
from connectors.kafka.merge import GivenMerge
from connectors.raw import RawCodec
from connectors.recording import Heading, Order, RecordingWriter, Stretch
from connectors.recording.writer import check_name
from pipeline.config import Config
from pipeline.outside import SCHEME, connection, is_kafka, reading
from pipeline.progress import Progress
from pipeline.settings import SettingsError, read_settings
from pipeline.signals import collected

_PIECE = 2_000  # records read at a time
_TOLD: dict[Order, str] = {"timestamp": "in the order of their timestamps", "handled": "in the order handled"}


def record(space: argparse.Namespace) -> int:
    """Record a topic; returns the exit code."""
    config = read_settings(Config, space.config, overrides=space.set, environ=os.environ)
    if not is_kafka(config.stream.source):
        raise SettingsError(
            f"stream.source is {config.stream.source!r}, expected a topic to record, such as {SCHEME}readings"
        )
    order: Order = space.order or ("handled" if config.kafka.order == "arrival" else "timestamp")
    check_name(space.file)
    began_s, stopping = time.monotonic(), threading.Event()
    with ExitStack() as stack:
        got = stack.enter_context(collected(stopping))
        progress = stack.enter_context(Progress("recorded", stream=sys.stderr, quiet=space.quiet))
        made = library(connection(config.kafka))
        found = (_handled if order == "handled" else _by_timestamp)(config, space, made, stopping)
        records = size = 0
        if found is not None:
            source, cuts = found
            stack.callback(source.close)
            source.open(0, None)
            heading = _heading(source, order)
            if not space.quiet:
                for line in _doubts(config, space, heading):
                    print(f"streamnn: {line}", file=sys.stderr)
            writer = stack.enter_context(RecordingWriter(space.file, heading, cuts))
            try:
                records = _copy(source, writer, progress, stopping)
                size = 0 if got else writer.finish()
            except (SourceError, SinkError) as error:
                print(f"streamnn: {error}\nstreamnn: {space.file} has not been written", file=sys.stderr)
                return 1
    if got:
        print(f"streamnn: stopped after {records:,} records; {space.file} has not been written", file=sys.stderr)
        return 128 + got[0]
    if not space.quiet:
        told = f"{records:,} records of {config.stream.source.removeprefix(SCHEME)}, {_TOLD[order]}"
        print(f"{told}, in {time.monotonic() - began_s:.1f} s: {space.file}, {size / 1e6:,.1f} MB")
    return 0


def _doubts(config: Config, space: argparse.Namespace, heading: Heading) -> list[str]:
    """Say where what is recorded may not be what the run has handled; nothing of the run itself is known here."""
    told = bool(config.kafka.predictions_topic) and not config.labels.topic
    handled = "; --order handled takes what it handled from its predictions" if told else ""
    found = []
    if heading.order == "timestamp" and space.order is None and len(heading.partitions) > 1:
        found.append(
            f"{len(heading.partitions)} partitions are recorded in the order of their timestamps. The run took records in"
            " another one where a wait for an idle partition ended by the clock (kafka.idle_wait_s; its metric"
            f" streamnn_consumer_expired_waits counts them){handled}."
        )
    if heading.order == "timestamp" and space.first is None and config.kafka.start == "latest":
        found.append(
            "kafka.start is latest, and where the run began is not known here: what lies before is recorded too. Give the"
            f" place with --from{handled}."
        )
    return found


def _copy(source: KafkaSource, writer: RecordingWriter, progress: Progress, stopping: threading.Event) -> int:
    """Copy records until none are left, or until it is to stop; returns how many."""
    records = 0
    while not stopping.is_set():
        chunk = source.poll(_PIECE)
        if chunk is None:
            break
        writer.write(chunk.records)
        records += len(chunk)
        progress.show(records, source.progress)
    return records


def _heading(source: KafkaSource, order: Order) -> Heading:
    """Describe what is going to be read."""
    state, ends = source.state(0), source.ends
    assert ends is not None, "a recording has an end"
    stretches = tuple(
        Stretch(one["topic"], number, at, max(at, ends[Partition(one["topic"], number)]))
        for one in (state, state["labels"])
        if one
        for number, at in one["positions"]
    )
    return Heading(state["topic"], state["topic_id"], order, stretches)


def _handled(
    config: Config, space: argparse.Namespace, made: Library, stopping: threading.Event
) -> tuple[KafkaSource, frozenset[Origin]] | None:
    """Return a source that reads what the run has handled, in that order, and where the clock ended micro-batches.

    None if it is to stop before that is known.
    """
    k, topic = config.kafka, config.stream.source.removeprefix(SCHEME)
    if not k.predictions_topic:
        raise SettingsError(
            "the order in which a run handled records is told by its predictions, and kafka.predictions_topic is not"
            " set; record with --order timestamp"
        )
    if space.first is not None or space.until is not None:
        raise SettingsError("--from and --until go with --order timestamp; handled is all that the predictions tell of")
    order = handled_order(
        made,
        topic=topic,
        label_topic=config.labels.topic,
        predictions=k.predictions_topic,
        dead_letters=k.dead_letters_topic,
        model=k.model,
        stopping=stopping.is_set,
    )
    if order is None:
        return None
    what = replace(
        reading(k, topic, config.labels.topic if order.label_stretches else ""),
        label_stretches=order.label_stretches,
        partitions=tuple(order.stretches),
        start="earliest",
        start_positions={number: first for number, (first, _) in order.stretches.items()},
        until="end",
        until_positions={number: until for number, (_, until) in order.stretches.items()},
    )

    def merge(partitions: Sequence[Partition]) -> GivenMerge:
        whose = np.zeros(len(order.offset), dtype=np.int64)
        for index, partition in enumerate(partitions):
            whose[(order.apart == (partition.topic != topic)) & (order.partition == partition.number)] = index
        return GivenMerge(len(partitions), whose, order.offset)

    source = KafkaSource(what, made, RawCodec(), commits=False, merge=merge)
    return source, frozenset(Origin(topic, *cut) for cut in order.cuts)


def _by_timestamp(
    config: Config, space: argparse.Namespace, made: Library, stopping: threading.Event
) -> tuple[KafkaSource, frozenset[Origin]] | None:
    """Return a source that reads the topic in the order of timestamps, and where the clock ended micro-batches of the run.

    None if it is to stop before that is known.
    """
    k, topic, cuts = config.kafka, config.stream.source.removeprefix(SCHEME), frozenset[Place]()
    if config.mode.batch > 1 and config.mode.max_wait_ms:
        if not k.predictions_topic:
            raise SettingsError(
                "mode.max_wait_ms is set, and predictions tell where the clock ended micro-batches, but"
                " kafka.predictions_topic is not set; set it, or mode.max_wait_ms to 0"
            )
        told = handled_cuts(made, topic=topic, predictions=k.predictions_topic, model=k.model, stopping=stopping.is_set)
        if told is None:
            return None
        cuts = told
    source = KafkaSource(_range(config, space), made, RawCodec(), commits=False)
    return source, frozenset(Origin(topic, *cut) for cut in cuts)


def _range(config: Config, space: argparse.Namespace) -> KafkaReading:
    """Return what is read, within the range that the command line names."""
    k = config.kafka
    topics = reading(k, config.stream.source.removeprefix(SCHEME), config.labels.topic)
    start = "earliest" if topics.start == "latest" else topics.start
    what = replace(topics, start=start, order="timestamp", until="end")
    first, last = _place("--from", space.first), _place("--until", space.until)
    if first is not None:
        places = {} if first.moment else {**what.start_positions, **first.positions}
        what = replace(what, start=first.moment or what.start, start_positions=places)
    if last is not None:
        what = replace(what, until=last.moment or "end", until_positions=last.positions)
    return what


@dataclass(frozen=True, slots=True)
class _Place:
    moment: str
    positions: dict[int, int]


def _place(flag: str, text: str | None) -> _Place | None:
    """Read a moment, or positions such as 0:1200,1:800."""
    if text is None:
        return None
    if places := positions(text):
        return _Place("", places)
    if not text[:4].isdecimal():
        raise SettingsError(
            f"{flag} is {text!r}, expected a moment such as 2026-11-01T12:00:00Z, or offsets of partitions such as"
            " 0:1200,1:800"
        )
    return _Place(text, {})
