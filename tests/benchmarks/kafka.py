"""Kafka to Kafka in one process on a real broker: `python -m tests.benchmarks.kafka [--rounds 3] [--sides ...] [--quick]`.

Needs STREAMNN_DATA, KAFKA_LIBS and Java 17. A broker of its own (one node, 4 partitions a topic) holds elec2 as JSON, again
and again until there are enough records. Each side runs in a process of its own, on the same topic, in turns:

    ceiling    the client's own consumer and producer with our settings: values and keys copied, nothing else
    in and out    our source and sink: records decoded, a constant prediction for each encoded and delivered with its headers
    no model   the whole loop but features and network: in blocks, scored, watched for drift; a constant is served
    single, best    `streamnn run` as it is, without its telemetry: decode, predict, score, learn, encode, deliver

A rate is records over seconds, to the last acknowledgement (or commit), a last checkpoint included, from the opened source or,
for whole loops, from the first few thousand records on: imports, connecting, tracing and compiling are over by then. Cores are
processor seconds over the same time, of the process and of the broker. Figures are medians of the rounds; the share of the loop
without a model is the median of each round's own, by the clock and by processor time of the process. Latency: an independent process produces 1,000 events a second and reads the predictions; from the call that produces
an event to its prediction in hand.
"""

import argparse
import csv
import gzip
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import confluent_kafka
import kafka
import numpy as np
import orjson

from connectors import Predictions, StreamHead, StreamSpec
from connectors.kafka.client import Outgoing, Partition
from deploy.kafka import Broker
from deploy.kafka.jars import VERSION
from pipeline.assembly import assemble
from pipeline.bench.machine import describe
from pipeline.commands import spare_collector
from pipeline.config import Config
from pipeline.outside import connect
from pipeline.prequential import Prequential
from pipeline.settings import read_settings
from pipeline.tasks import resolve
from streamnn.chunks import EncodedChunk
from streamnn.features.index import Column
from streamnn.learner import Learner
from streamnn.operations import IntArray, Operations, Results, Rows
from tests.integration import helpers
from tests.recorded import data_folder

ROOT = Path(__file__).parent.parent.parent
PARTITIONS = 4
CHUNK = 4096
DELIVERIES = ("at_least_once", "transactional")
LOOPS = ("no model", "single", "best")
SIDES = ("ceiling", *(f"{side} {delivery}" for side in ("in and out", *LOOPS) for delivery in DELIVERIES))
WARM, AT_RATE = 5_000, 1_000
WARM_S, WAIT_S = 3.0, 20.0
SPARE = 10_000
NUMBERS = ("date", "day", "period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Took:
    """What one side took: seconds, and processor seconds of it and of the broker."""

    records: int
    seconds: float
    own_s: float
    broker_s: float


def events() -> Iterator[bytes]:
    """Elec2 as JSON, without end."""
    with gzip.open(data_folder() / "elec2.csv.gz", "rt") as source:
        rows = list(csv.DictReader(source))
    typed = [{name: text if name == "class" else float(text) for name, text in row.items()} for row in rows]
    return itertools.cycle([orjson.dumps(row) for row in typed])


def fill(bootstrap: str, records: int) -> str:
    """Make a topic with so many events, and return its name."""
    name = helpers.topic(bootstrap, PARTITIONS)
    writer = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    began_ms = int(time.time() * 1000) - records
    for number, value in enumerate(itertools.islice(events(), records)):
        writer.produce(Outgoing(name, value, partition=number % PARTITIONS, timestamp_ms=began_ms + number))
        if writer.in_flight > 50_000:
            writer.settle(60.0)
    assert not writer.settle(60.0).waiting
    writer.close()
    return name


def settings(space: argparse.Namespace, topic: str, out: str, folder: Path, limit: int) -> Config:
    """The configuration of a run."""
    side, _, delivery = space.side.rpartition(" ")
    text = f"""
[stream]
source = "kafka:{topic}"
targets = ["class"]
task = "binary"
classes = {{class = ["DOWN", "UP"]}}
kinds = {{{", ".join(f'{name} = "number"' for name in NUMBERS)}}}
limit = {limit}
[model]
preset = "{side if side in ("single", "best") else "single"}"
[kafka]
bootstrap_servers = "{space.bootstrap}"
client = "{space.client}"
model = "{out}"
delivery = "{delivery}"
predictions_topic = "{out}"
[checkpoint]
folder = "{folder}"
"""
    path = folder.with_suffix(".toml")
    path.write_text(text)
    return read_settings(Config, path, overrides=[], environ={})


def processor_s(pid: int) -> float:
    """Processor seconds that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def spent_s(space: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds by the clock, and processor seconds of this process and of the broker, from moments in the past."""
    return time.perf_counter(), time.process_time(), processor_s(space.broker)


def timed(space: argparse.Namespace, records: int, work: Callable[[], object]) -> Took:
    """Take the time of what is to be measured."""
    spare_collector()
    began = spent_s(space)
    work()
    return Took(records, *np.subtract(spent_s(space), began).tolist())


class Nothing(Learner):
    """No model: labels are read, for the scores, and the same is served for every event."""

    def encode(
        self, columns: Mapping[str, Column], labels: Mapping[str, Column], number: IntArray, *, batch: int = 1
    ) -> EncodedChunk:
        """Lay out the labels alone."""
        if not self.built:
            super().encode(columns, labels, number, batch=batch)
        known = self.targets.encode(labels, len(number), head=self.head)
        return EncodedChunk(Rows(np.zeros((len(number), 0)), known.y, number), known.truth)

    def run(self, rows: Rows, operations: Operations, *, rate: float, clear: bool = False) -> Results:
        """Serve a constant."""
        return Results(np.full((len(rows), self.head.width), 0.75), np.full(len(rows), 0.5))


def run_loop(space: argparse.Namespace, folder: Path, records: int) -> Took:
    """Decode, predict, learn, encode."""
    out, most = helpers.topic(space.bootstrap, PARTITIONS), WARM + records
    run = assemble(settings(space, space.topic, out, folder / out, most))
    learner = run.loop.parts.learner
    if space.side.startswith("no model"):
        assert isinstance(learner, Learner)
        nothing = Nothing(learner.spec)
        nothing.targets = learner.targets
        run.loop.parts = replace(run.loop.parts, learner=nothing)
    began = list[tuple[int, tuple[float, float, float]]]()

    def report(loop: Prequential) -> None:
        if not began and loop.counters.events >= WARM:
            spare_collector()
            began.append((loop.counters.events, spent_s(space)))

    run.loop.open(run.checkpoint)
    run.loop.run(stop=lambda: False, report=report)
    (events_before, before), after = began[0], spent_s(space)
    assert run.loop.failure is None, run.loop.failure
    assert run.loop.counters.events == most
    run.close()
    return Took(most - events_before, *np.subtract(after, before).tolist())


def run_in_and_out(space: argparse.Namespace, folder: Path, records: int) -> Took:
    """Decode, encode."""
    out = helpers.topic(space.bootstrap, PARTITIONS)
    config = settings(space, space.topic, out, folder / out, records)
    schema = resolve(config.stream, StreamHead((), 0)).schema
    outside = connect(config, StreamSpec(source=config.stream.source), schema, lambda: False)
    source, sink, commits = outside.source, outside.predictions, outside.commits
    assert sink is not None
    if commits is not None:
        commits.last_checkpoint()
    source.open(0, None)
    sink.truncate(0)

    def work() -> None:
        done = 0
        while done < records:
            chunk = source.poll(min(CHUNK, records - done))
            assert chunk is not None
            if len(chunk):
                sink.write(constant(chunk, done))
                done += len(chunk)
        sink.flush()
        if commits is not None:
            commits.commit("1", source.state(records))
        source.commit(records)

    took = timed(space, records, work)
    sink.close()
    source.close()
    return took


def constant(chunk: Any, first: int) -> Predictions:
    """The same prediction for every event."""
    number = len(chunk)
    served = np.full((number, 2), [0.25, 0.75])
    decided = np.full(number, "UP", dtype=object)
    return Predictions(
        chunk.offsets,
        first + np.arange(number),
        ("class",),
        {"class": decided},
        {"class": (("DOWN", "UP"), served)},
        {"class": chunk.columns["class"]},
        chunk.records,
    )


def run_ceiling(space: argparse.Namespace, folder: Path, records: int) -> Took:
    """Copy bytes with the client alone, as it is set by us."""
    del folder
    out = helpers.topic(space.bootstrap, PARTITIONS)
    library = helpers.library(space.client, space.bootstrap)
    reader: Any = library.reader(group="", committed_only=True)
    writer: Any = library.writer(transactional_id="", transaction_timeout_s=60.0)
    reader.assign({Partition(space.topic, n): 0 for n in range(PARTITIONS)})
    consumer, producer = reader._consumer, writer._producer

    def python() -> None:
        done = 0
        while done < records:
            for listed in consumer.poll(timeout_ms=100, max_records=min(5_000, records - done)).values():
                for one in listed:
                    producer.send(out, value=one.value, key=one.key)
                done += len(listed)
        producer.flush()

    def fast() -> None:
        done = 0
        while done < records:
            for one in consumer.consume(min(5_000, records - done), 0.1):
                if one.error() is None:
                    try:
                        producer.produce(out, one.value(), one.key())
                    except BufferError:
                        producer.flush()
                        producer.produce(out, one.value(), one.key())
                    done += 1
            producer.poll(0)
        producer.flush()

    took = timed(space, records, python if space.client == "kafka-python" else fast)
    reader.close()
    writer.close()
    return took


def run_side(space: argparse.Namespace) -> None:
    """Do what a side's process does; what does not warm up by itself does it once for a few records before."""
    side = space.side.rpartition(" ")[0]
    run = run_in_and_out if side == "in and out" else run_loop if side in LOOPS else run_ceiling
    with tempfile.TemporaryDirectory() as folder:
        if side not in LOOPS:
            run(space, Path(folder), WARM)
        took = run(space, Path(folder), space.records)
    print(json.dumps([took.records, took.seconds, took.own_s, took.broker_s]))


def measured(broker: Broker, topic: str, client: str, side: str, records: int) -> Took:
    """Run a side in a process of its own."""
    pid = (broker.folder / "node-1" / "pid").read_text()
    words = ["--side", side, "--client", client, "--bootstrap", broker.bootstrap, "--broker", pid]
    words += ["--topic", topic, "--records", str(records)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.kafka", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return Took(*json.loads(done.stdout.splitlines()[-1]))


def latencies(broker: Broker, client: str, side: str, seconds: float, folder: Path) -> list[float]:
    """Seconds from producing an event to its prediction, for events produced at a steady rate."""
    topic, out = helpers.topic(broker.bootstrap, PARTITIONS), helpers.topic(broker.bootstrap, PARTITIONS)
    space = argparse.Namespace(side=side, bootstrap=broker.bootstrap, client=client)
    settings(space, topic, out, folder / out, 0)
    words = ["-m", "pipeline", "run", str(folder / f"{out}.toml"), "--quiet"]
    words += ["--set", "telemetry.enabled=false", "--set", "checkpoint.every_s=1"]
    reader = helpers.library("confluent-kafka", broker.bootstrap).reader(group="", committed_only=True)
    reader.assign({Partition(out, n): 0 for n in range(PARTITIONS)})
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 0})
    sent: dict[tuple[int, int], float] = {}
    seen: list[tuple[tuple[int, int], float]] = []

    def produce(number: int, value: bytes) -> None:
        at = time.perf_counter()

        def note(error: object, message: Any) -> None:
            assert error is None, error
            sent[message.partition(), message.offset()] = at

        producer.produce(topic, value, partition=number % PARTITIONS, on_delivery=note)

    def receive() -> None:
        producer.poll(0)
        for records in reader.poll(0.0005, 1000).values():
            for record in records:
                headers = dict(record.headers)
                place = int(headers["streamnn-partition"] or 0), int(headers["streamnn-offset"] or 0)
                seen.append((place, time.perf_counter()))

    process = subprocess.Popen([sys.executable, *words], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        values = events()
        for number in range(PARTITIONS):
            produce(number, next(values))
        while not seen:  # it starts and compiles
            assert process.poll() is None, "the processor has ended"
            receive()
        start, number = time.perf_counter(), 0
        while time.perf_counter() < start + WARM_S + seconds:
            while number < (time.perf_counter() - start) * AT_RATE:
                produce(number, next(values))
                number += 1
            receive()
        until, missing = time.perf_counter() + WAIT_S, number + PARTITIONS
        while len(seen) < missing and time.perf_counter() < until:
            receive()
    finally:
        process.terminate()
        process.wait(60)
        reader.close()
    return [at - sent[place] for place, at in seen if sent[place] >= start + WARM_S]


def rates(broker: Broker, rounds: int, sizes: dict[str, int], sides: Sequence[str]) -> None:
    """Print a line for each client and side."""
    # more than is read: at the end of a topic the last records wait for idle partitions
    topic = fill(broker.bootstrap, max(sizes.values()) + SPARE)
    took: dict[tuple[str, str], list[Took]] = defaultdict(list)
    for _ in range(rounds):
        for client, side in itertools.product(helpers.CLIENTS, sides):
            records = sizes["best"] if side.startswith("best") else sizes[client]
            took[client, side].append(measured(broker, topic, client, side, records))
    print(
        "| client | side | records/s | of no model, clock | processor | of the ceiling | own cores, µs a record |"
        " broker's cores, µs a record |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for client, side in itertools.product(helpers.CLIENTS, sides):
        some = took[client, side]
        name, _, delivery = side.rpartition(" ")
        bare = took[client, f"no model {delivery}"] if name in ("single", "best") else []
        shares = [
            share(bare, some, "seconds"),
            share(bare, some, "own_s"),
            share(took[client, "ceiling"], some, "seconds"),
        ]
        taken = [spent([(t.own_s, t) for t in some]), spent([(t.broker_s, t) for t in some])]
        rate = f"{statistics.median(t.records / t.seconds for t in some):,.0f}"
        print(f"| {' | '.join([client, side, rate, *shares, *taken])} |", flush=True)


def share(of: list[Took], some: list[Took], what: str) -> str:
    """What a side reaches of another one in the same round, the median of all; - where there is no other one."""
    each = [getattr(a, what) / a.records / (getattr(b, what) / b.records) for a, b in zip(of, some, strict=False)]
    return f"{statistics.median(each):.2f}" if each else "-"


def spent(some: list[tuple[float, Took]]) -> str:
    """Processor time beside the clock, and for each record."""
    cores = statistics.median(s / t.seconds for s, t in some)
    return f"{cores:.2f}, {statistics.median(1e6 * s / t.records for s, t in some):.1f}"


def table(*, quick: bool, rounds: int, sides: Sequence[str]) -> None:
    """Print everything."""
    print(describe())
    print(f"Kafka {VERSION}, kafka-python {kafka.__version__}, confluent-kafka {confluent_kafka.__version__}\n")
    rounds, seconds = (1, 3.0) if quick else (rounds, 10.0)
    sizes = {"kafka-python": 100_000, "confluent-kafka": 300_000, "best": 30_000}
    if quick:
        sizes = {name: size // 10 for name, size in sizes.items()}
    with tempfile.TemporaryDirectory() as at, Broker(Path(at) / "broker", partitions=PARTITIONS) as broker:
        rates(broker, rounds, sizes, [side for side in SIDES if not sides or side.startswith(tuple(sides))])
        if sides:
            helpers.close()
            return
        print("\n| client | side | p50, ms | p99, ms |\n|---|---|---|---|")
        for client, side in itertools.product(helpers.CLIENTS, (s for s in SIDES if s.startswith(("single", "best")))):
            found = np.array(latencies(broker, client, side, seconds, Path(at))) * 1e3
            p50, p99 = np.percentile(found, [50, 99])
            print(f"| {client} | {side} | {p50:.0f} | {p99:.0f} |", flush=True)
        helpers.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each side (default 3)")
    parser.add_argument("--sides", default="", help="these alone, by commas, without latencies: no model,single")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth of the records, to try it")
    for name in ("--side", "--client", "--bootstrap", "--topic"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    for name in ("--broker", "--records"):
        parser.add_argument(name, type=int, help=argparse.SUPPRESS)
    space = parser.parse_args()
    if space.side:
        run_side(space)
    else:
        table(quick=space.quick, rounds=space.rounds, sides=[side for side in space.sides.split(",") if side])
