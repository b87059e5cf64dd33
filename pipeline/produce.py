"""`streamnn produce`: a recorded stream into a topic, at a chosen pace.

In: a file, a stream of river's, or a recording. Out: records in a topic, each once as far as one process can say.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Literal, cast

from connectors import SinkError, SourceError, StreamSpec
from connectors.json_stream import Records, open_records
from connectors.kafka import Delivery, library
from connectors.kafka.client import Outgoing
from connectors.kafka.stamps import RisingStamps
from connectors.recording import is_recording
from connectors.records import Record
from connectors.schema import KINDS, Kind
from pipeline.config import Config
from pipeline.outside import connection
from pipeline.progress import Progress
from pipeline.settings import Given, SettingsError, read_settings
from pipeline.signals import collected

_PIECE = 500  # records read at a time
_WAIT_S = 0.2  # how long the progress display stands still at most

Stamp = Literal["now", "original"]


@dataclass(frozen=True, slots=True)
class Pace:
    """When a record is due.

    Attributes:
        rate: records a second; 0 = as fast as possible.
        speed: of the stream's own time; 0 = that does not count.
    """

    rate: float = 0.0
    speed: float = 0.0

    @classmethod
    def parse(cls, text: str) -> "Pace":
        """Read what the command line says: max, a number, original, or 60x.

        Raises:
            SettingsError: it is something else.
        """
        if text in ("max", "original"):
            return cls(speed=float(text == "original"))
        try:
            number = float(text.removesuffix("x"))
        except ValueError:
            number = 0.0
        if not 0 < number < float("inf"):
            raise SettingsError(
                f"--rate is {text!r}, expected records a second, max, original, or a multiple of the original pace such"
                " as 60x"
            )
        return cls(speed=number) if text.endswith("x") else cls(rate=number)

    def due_s(self, number: int, since_first_ms: int) -> float:
        """Return how many seconds after the first record the one of this number and time is due."""
        if self.rate:
            return number / self.rate
        return since_first_ms / 1000 / self.speed if self.speed else 0.0


@dataclass(slots=True)
class Producer:
    """Writes records when they are due.

    Attributes:
        write: takes a record for the topic.
        topic, partitions: where to, and how many it has.
        pace: when.
        stamp: which timestamps records get.
        show: told how many there are.
        records: written so far.
    """

    write: Callable[[Outgoing], None]
    topic: str
    partitions: int
    pace: Pace
    stamp: Stamp
    show: Callable[[int], None]
    stopping: threading.Event
    records: int = 0
    _stamps: RisingStamps = field(default_factory=RisingStamps)
    _began_s: float = field(default_factory=time.monotonic)
    _first_ms: int = -1
    _last_ms: int = -1

    def run(self, source: Records, skip: int, limit: int) -> None:
        """Write records from number `skip` on, at most `limit` (0 = all), until it is to stop.

        Raises:
            SourceError: the stream cannot be read.
            SinkError: the topic cannot be written.
        """
        number = 0
        while not self.stopping.is_set() and not (limit and self.records >= limit):
            records = source.read(_PIECE)
            if not records:
                return
            for record in records[max(0, skip - number) :]:
                if limit and self.records >= limit:
                    break
                if not self._wait(record):
                    return
                self.write(self._outgoing(record, skip + self.records))
                self.records += 1
            number += len(records)
            self.show(self.records)

    def _wait(self, record: Record) -> bool:
        """Wait until a record is due; False if it is to stop."""
        if record.timestamp_ms >= 0:  # a record without a time of its own comes with the one before
            self._last_ms = record.timestamp_ms
            self._first_ms = record.timestamp_ms if self._first_ms < 0 else self._first_ms
        due_s = self._began_s + self.pace.due_s(self.records, self._last_ms - self._first_ms)
        while (left_s := due_s - time.monotonic()) > 0.001:
            self.stopping.wait(min(left_s, _WAIT_S))
            self.show(self.records)
            if self.stopping.is_set():
                return False
        return not self.stopping.is_set()

    def _outgoing(self, record: Record, number: int) -> Outgoing:
        """Address a record: to the partition it had, to that of its key, or to each in turn."""
        partition = None if record.key is not None else number % self.partitions
        if record.origin is not None:
            partition = record.origin.partition % self.partitions
        if self.stamp == "original" and self._last_ms >= 0:
            stamp_ms = self._last_ms
        else:
            stamp_ms = self._stamps.next(time.time_ns() // 1_000_000)
        return Outgoing(self.topic, record.value, record.key, record.headers, partition, stamp_ms)


def produce(space: argparse.Namespace) -> int:
    """Produce a stream into a topic; returns the exit code."""
    given = {}
    if space.bootstrap_servers is not None:
        given["kafka.bootstrap_servers"] = Given(space.bootstrap_servers, "--bootstrap-servers")
    config = read_settings(Config, space.config, overrides=space.set, environ=os.environ, given=given)
    pace, began_s = Pace.parse(space.rate), time.monotonic()
    recording = is_recording(space.stream)
    moment = space.moment or ("" if recording else config.stream.moment)
    stamp: Stamp = space.timestamps or ("original" if recording else "now")
    if not recording and not moment and (pace.speed or stamp == "original"):
        flag = f"--rate {space.rate}" if pace.speed else "--timestamps original"
        raise SettingsError(f"{flag} needs --moment FIELD, the field of {space.stream} that holds the event time")
    kind = config.stream.kinds.get(moment, "moment")
    if kind not in KINDS:
        raise SettingsError(f"stream.kinds.{moment} is {kind!r}, expected one of {', '.join(KINDS)}")
    spec = StreamSpec(source=space.stream, delimiter=config.stream.delimiter, seed=config.seed)
    stopping = threading.Event()
    with ExitStack() as stack:
        source = open_records(
            spec, key=space.key or "", moment=moment, moment_kind=cast(Kind, kind), topic=space.recorded or ""
        )
        stack.callback(source.close)
        channel = Delivery(
            library(connection(config.kafka)), give_up_s=config.kafka.give_up_s, stopping=stopping.is_set
        )
        stack.callback(channel.close)
        channel.open()
        partitions = channel.partitions(space.topic)
        got = stack.enter_context(collected(stopping))
        progress = stack.enter_context(Progress("produced", stream=sys.stderr, quiet=space.quiet))

        def show(records: int) -> None:
            share = source.progress
            progress.show(records, max(records / space.limit, share or 0.0) if space.limit else share)

        producer = Producer(channel.write, space.topic, partitions, pace, stamp, show, stopping)
        try:
            try:
                producer.run(source, space.skip, space.limit)
            finally:  # a stream that breaks off leaves what came before
                channel.flush()
        except (SourceError, SinkError) as error:
            print(f"streamnn: {error} {producer.records:,} records were produced before.", file=sys.stderr)
            return 1
    if got:
        again = f"; --skip {space.skip + producer.records} goes on behind them"
        print(f"streamnn: stopped after {producer.records:,} records{again}", file=sys.stderr)
        return 128 + got[0]
    if not space.quiet:
        seconds = time.monotonic() - began_s
        print(f"{producer.records:,} records into {space.topic} ({partitions} partitions) in {seconds:.1f} s")
    return 0
