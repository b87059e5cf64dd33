"""`streamnn record`: the records of a topic, or a range of them, into a file that replays them as they were.

In: the configuration of a run. Out: a recording (`connectors.recording`).
"""

import argparse
import os
import re
import sys
import threading
import time
from dataclasses import dataclass, replace

from connectors import SinkError, SourceError
from connectors.kafka import KafkaReading, KafkaSource, library
from connectors.raw import RawCodec
from connectors.recording import Heading, RecordingWriter, Stretch
from connectors.recording.writer import check_name
from pipeline.config import Config
from pipeline.outside import SCHEME, connection, is_kafka, reading
from pipeline.progress import Progress
from pipeline.settings import SettingsError, read_settings
from pipeline.signals import collected

_PIECE = 2_000  # records read at a time
_POSITIONS = re.compile(r"\d+:\d+(,\d+:\d+)*")


def record(space: argparse.Namespace) -> int:
    """Record a topic; returns the exit code."""
    config = read_settings(Config, space.config, overrides=space.set, environ=os.environ)
    if not is_kafka(config.stream.source):
        raise SettingsError(
            f"stream.source is {config.stream.source!r}, expected a topic to record, such as {SCHEME}readings"
        )
    check_name(space.file)
    k, began_s = config.kafka, time.monotonic()
    start = "earliest" if k.start == "latest" else k.start
    what = _ranged(
        replace(reading(k, config.stream.source.removeprefix(SCHEME)), start=start, order="timestamp"), space
    )
    source, stopping = KafkaSource(what, library(connection(k)), RawCodec(), commits=False), threading.Event()
    with collected(stopping) as got, Progress("recorded", stream=sys.stderr, quiet=space.quiet) as progress:
        try:
            source.open(0, None)
            with RecordingWriter(space.file, _heading(source, what)) as writer:
                try:
                    records = _copy(source, writer, progress, stopping)
                    size = 0 if got else writer.finish()
                except (SourceError, SinkError) as error:
                    print(f"streamnn: {error} Nothing has been recorded.", file=sys.stderr)
                    return 1
        finally:
            source.close()
    if got:
        print(f"streamnn: stopped after {records:,} records; {space.file} has not been written", file=sys.stderr)
        return 128 + got[0]
    if not space.quiet:
        told = f"{records:,} records of {what.topic}, in the order of their timestamps"
        print(f"{told}, in {time.monotonic() - began_s:.1f} s: {space.file}, {size / 1e6:,.1f} MB")
    return 0


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


def _heading(source: KafkaSource, what: KafkaReading) -> Heading:
    """Describe what is going to be read."""
    state, ends = source.state(0), source.ends
    assert ends is not None, "a recording has an end"
    until = {partition.number: end for partition, end in ends.items()}
    stretches = tuple(Stretch(number, at, max(at, until[number])) for number, at in state["positions"])
    return Heading(what.topic, state["topic_id"], "timestamp", stretches)


def _ranged(what: KafkaReading, space: argparse.Namespace) -> KafkaReading:
    """Return what is read, within the range that the command line names."""
    what = replace(what, until="end")
    first, last = _place("--from", space.first), _place("--until", space.until)
    if first is not None:
        what = replace(what, start=first.moment or what.start, start_positions=first.positions)
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
    if _POSITIONS.fullmatch(text):
        pairs = [part.split(":") for part in text.split(",")]
        return _Place("", {int(partition): int(offset) for partition, offset in pairs})
    if not text[:4].isdecimal():
        raise SettingsError(
            f"{flag} is {text!r}, expected a moment such as 2026-11-01T12:00:00Z, or offsets of partitions such as"
            " 0:1200,1:800"
        )
    return _Place(text, {})
