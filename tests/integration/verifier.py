"""Prove from the topics and the final checkpoint alone that every event counted once.

`python -m tests.integration.verifier RUN.toml` reads the input and output topics (committed records only), learns the
model anew event by event with a `Learner` of its own, and compares every prediction, dead letter and weight bit for
bit. For runs with a single network, the records' timestamps as their order, and a fixed learning rate.
"""

import argparse
import hashlib
import json
import math
import os
import sys
from pathlib import Path

import numpy as np
from torch import Tensor

from connectors import Record, StreamHead
from pipeline.assembly import learner_spec
from pipeline.checkpoint import CheckpointStore
from pipeline.config import Config
from pipeline.settings import read_settings
from pipeline.tasks import resolve
from streamnn.learner import Learner
from streamnn.operations import Kind, Operations
from tests.integration import helpers

Place = tuple[int, int]  # partition and offset


def main() -> int:
    """Verify one run; exit 1 with a line for each finding."""
    parser = argparse.ArgumentParser(description="Prove that every event of a run counted once.")
    parser.add_argument("config", type=Path)
    found = verify(parser.parse_args().config)
    print("\n".join(found) or "every event counted once")
    return int(bool(found))


def verify(path: Path) -> list[str]:
    """Return what is wrong with a finished run, a line each."""
    config = read_settings(Config, path, overrides=[], environ=os.environ)
    if config.rate.control != "fixed" or config.kafka.order != "timestamp" or config.mode.batch != 1:
        raise SystemExit("the verifier needs rate.control=fixed, kafka.order=timestamp and mode.batch=1")
    once = config.kafka.delivery == "transactional"
    records = _topic(config, config.stream.source.removeprefix("kafka:"))
    records.sort(key=lambda record: (record.timestamp_ms, *_own_place(record)))
    learner, served, bad = _learn(config, records)

    problems: list[str] = []
    seen: dict[Place, int] = {}
    for record in _topic(config, config.kafka.predictions_topic):
        place = _source_place(record)
        seen[place] = seen.get(place, 0) + 1
        said = json.loads(record.value or b"")["targets"][config.stream.targets[0]]["probabilities"]
        if place not in served or list(said.values()) != served[place]:
            problems.append(f"{place}: predicted {said}, recomputed {served.get(place)}")
    problems += _counted("prediction", seen, set(served), once=once)
    letters: dict[Place, int] = {}
    for record in _topic(config, config.kafka.dead_letters_topic):
        place = _source_place(record)
        letters[place] = letters.get(place, 0) + 1
        if bad.get(place) != record.value:
            problems.append(f"{place}: the dead letter is {record.value!r}, the event {bad.get(place)!r}")
    problems += _counted("dead letter", letters, set(bad), once=once)

    newest = CheckpointStore(path.parent / config.checkpoint.folder).latest()
    if newest is None:
        return [*problems, "there is no checkpoint"]
    events = newest.state["loop"]["counters"]["events"]
    if events != len(served):
        problems.append(f"the checkpoint counts {events} events, the topic holds {len(served)}")
    if newest.state["loop"]["offset"] != len(records):
        problems.append(f"the checkpoint covers {newest.state['loop']['offset']} of {len(records)} records")
    mine, theirs = (_hashes(state["tensors"]) for state in (learner.state_dict(), newest.state["learner"]))
    problems += [f"{n}: not bit-identical" for n in sorted(mine.keys() | theirs) if mine.get(n) != theirs.get(n)]
    return problems


def _learn(
    config: Config, records: list[Record]
) -> tuple[Learner, dict[Place, list[float]], dict[Place, bytes | None]]:
    """Return the model, what it serves for each event, and the records that are no events."""
    resolved = resolve(config.stream, StreamHead((), 0))
    learner, (target,) = Learner(learner_spec(config, resolved)), config.stream.targets
    learner.targets.declare(target, resolved.classes[target])
    learner.declare(resolved.feature_fields)
    served: dict[Place, list[float]] = {}
    bad: dict[Place, bytes | None] = {}
    step = Operations.of([(Kind.PREDICT_LEARN, 0, 1)])
    for record in records:
        event = _event(record.value)
        if event is None:
            bad[_own_place(record)] = record.value
            continue
        label = np.array([event.pop(target)])
        columns = {name: np.array([value]) for name, value in event.items()}
        encoded = learner.encode(columns, {target: label}, np.array([len(served)]))
        p = float(learner.run(encoded.rows, step, rate=config.optimizer.rate).served[0, 0])
        served[_own_place(record)] = [q for q in (1 - p, p) if q > 0]  # what is not served is left out
    return learner, served, bad


def _event(value: bytes | None) -> dict[str, float] | None:
    """Return the numbers of an event; None = it is none."""
    try:
        event = json.loads(value or b"")
    except ValueError:
        return None
    if not isinstance(event, dict) or not all(isinstance(v, int | float) and math.isfinite(v) for v in event.values()):
        return None
    return {name: float(number) for name, number in event.items()}


def _topic(config: Config, name: str) -> list[Record]:
    client = helpers.library("confluent-kafka", config.kafka.bootstrap_servers)
    return helpers.everything(client, name)


def _own_place(record: Record) -> Place:
    assert record.origin is not None
    return record.origin.partition, record.origin.offset


def _source_place(record: Record) -> Place:
    headers = dict(record.headers)
    return int(headers["streamnn-partition"] or b""), int(headers["streamnn-offset"] or b"")


def _counted(what: str, seen: dict[Place, int], wanted: set[Place], *, once: bool) -> list[str]:
    missing = [f"{place}: no {what}" for place in sorted(wanted - seen.keys())]
    extra = [f"{place}: a {what} too many" for place in sorted(seen.keys() - wanted)]
    return missing + extra + [f"{place}: {n} times a {what}" for place, n in sorted(seen.items()) if once and n > 1]


def _hashes(tensors: dict[str, dict[str, Tensor]]) -> dict[str, str]:
    return {
        f"{part}.{name}": hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for part, named in tensors.items()
        for name, tensor in named.items()
    }


if __name__ == "__main__":
    sys.exit(main())
