"""Topics and configurations for `streamnn run` as a process, and the verifier's word on what it left."""

import json
import os
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from connectors.kafka.client import Outgoing
from tests.integration import helpers, verifier
from tests.pipeline.helpers import ROOT, write_csv

POISON = [b"{broken", b"[1, 2]", b'{"f0": "text", "f1": 1.0, "f2": 1.0, "y": 1}', b"\xff\xfe", b""]
MOST = 50_000  # records at once, of which the library takes 100,000


def config(bootstrap: str, source: str, out: str, dead: str, *, delivery: str, task: str = "binary") -> str:
    """A configuration that reads a topic to its present end."""
    return f"""
[stream]
source = "kafka:{source}"
targets = ["y"]
task = "{task}"
classes = {"{y = [0, 1]}" if task == "binary" else "{}"}
kinds = {{f0 = "number", f1 = "number", f2 = "number"}}
max_record_bytes = 2000
[model]
preset = "single"
[kafka]
bootstrap_servers = "{bootstrap}"
model = "{source}"
until = "end"
delivery = "{delivery}"
predictions_topic = "{out}"
dead_letters_topic = "{dead}"
[checkpoint]
folder = "ck-{source}"
every_events = 50
[telemetry]
enabled = false
"""


def events(folder: Path, count: int, *, task: str = "binary", seed: int = 0) -> list[bytes]:
    """Events that can be learned, as JSON."""
    names, *lines = (line.split(",") for line in write_csv(folder / "s.csv", count, kind=task, seed=seed))
    return [json.dumps(dict(zip(names, [*map(float, x), _label(y, task)], strict=True))).encode() for *x, y in lines]


def spread(values: Sequence[bytes | None]) -> list[Outgoing]:
    """Give values partitions of four and rising timestamps."""
    began_ms = int(time.time() * 1000)  # old records would fall to the broker's retention
    return [Outgoing("", value, partition=(i * 7) % 4, timestamp_ms=began_ms + i) for i, value in enumerate(values)]


def write(bootstrap: str, topic: str, records: Sequence[Outgoing]) -> None:
    """Write records into a topic."""
    writer = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    for start in range(0, len(records), MOST):
        for record in records[start : start + MOST]:
            writer.produce(record._replace(topic=topic))
        settled = writer.settle(60.0)
        assert (settled.waiting, settled.failed) == (0, ())
    writer.close()


def prepared(
    folder: Path,
    bootstrap: str,
    records: Sequence[Outgoing],
    *,
    delivery: str = "transactional",
    task: str = "binary",
    seen_at: str = "",
) -> str:
    """Make a configuration (run.toml) and its topics, and write the records; returns the topic of predictions.

    With `seen_at` the run is given that address instead of the broker's.
    """
    source, out, dead = helpers.topic(bootstrap, 4), helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
    write(bootstrap, source, records)
    text = config(seen_at or bootstrap, source, out, dead, delivery=delivery, task=task)
    (folder / "run.toml").write_text(text + '[rate]\ncontrol = "fixed"\n')
    return out


def named(folder: Path, setting: str) -> str:
    """What the folder's configuration says of a setting of [kafka]."""
    kafka = tomllib.loads((folder / "run.toml").read_text())["kafka"]
    return str(kafka[setting])


def reached(folder: Path) -> int:
    """The event that the newest checkpoint is at."""
    numbers = [int(path.stem.split("-")[1]) for path in folder.glob("ck-*/checkpoint-*.safetensors")]
    return max(numbers, default=0)


def start(folder: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    """Start a Python program in the folder."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *words: str, **variables: str) -> "subprocess.Popen[str]":
    """Start `streamnn run` of the folder's configuration."""
    return start(folder, "-m", "pipeline", "run", "run.toml", "--quiet", *words, **variables)


def finished(folder: Path, *words: str) -> None:
    """Run to the end of the topic, and have the verifier judge what is there then."""
    said, _ = (process := run(folder, *words)).communicate(timeout=300)
    assert process.returncode == 0, said
    assert verifier.verify(folder / "run.toml") == []


def _label(text: str, task: str) -> object:
    return int(text) if task == "binary" else float(text) if task == "regression" else text
