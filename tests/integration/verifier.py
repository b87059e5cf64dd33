"""Prove from the topics and the checkpoints alone that every event counted once.

`python -m tests.integration.verifier RUN.toml` reads the input and output topics (committed records only), learns the
model anew event by event, and compares every prediction, dead letter and weight bit for bit, and the committed
positions with those of the checkpoint. With `--halfway` it judges a run that was interrupted: positions, and with
transactions that exactly what lies before them has been written. For runs with a single network, in sample mode or in
micro-batches of which the last is whole, with the records' timestamps as their order and a fixed learning rate; see
`tests.integration.relearn`. Where the clock ended a micro-batch is taken from the predictions.
"""

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from connectors import Record
from connectors.kafka.client import Committed, Partition
from pipeline.checkpoint import Checkpoint, CheckpointStore
from pipeline.config import Config
from pipeline.settings import read_settings
from tests.integration import helpers
from tests.integration.relearn import Letter, Place, place, relearn

FOUND_NOTHING = "every event counted once"
_SHOWN = 50  # findings


def main() -> int:
    """Verify one run; exit 1 with a line for each finding."""
    parser = argparse.ArgumentParser(description="Prove that every event of a run counted once.")
    parser.add_argument("config", type=Path)
    parser.add_argument("--halfway", action="store_true", help="of a run that is not finished: positions only")
    space = parser.parse_args()
    found = halfway(space.config) if space.halfway else verify(space.config)
    print("\n".join(found) or FOUND_NOTHING)
    return int(bool(found))


def verify(path: Path) -> list[str]:
    """Return what is wrong with a finished run, a line each."""
    config = _read(path)
    once = config.kafka.delivery == "transactional"
    predicted = _topic(config, config.kafka.predictions_topic)
    ended = {at for record in predicted for at in cuts(record)}
    wanted = relearn(config, _topic(config, _source(config)), ended)
    problems: list[str] = []
    seen: dict[Place, int] = {}
    for record in predicted:
        at = _source_place(record)
        seen[at] = seen.get(at, 0) + 1
        said = json.loads(record.value or b"")
        if said != wanted.served.get(at):
            problems.append(f"{at}: predicted {said}, recomputed {wanted.served.get(at)}")
    problems += _counted("prediction", seen, set(wanted.served), once=once)
    letters: dict[Place, int] = {}
    for record in _topic(config, config.kafka.dead_letters_topic):
        at = _source_place(record)
        letters[at] = letters.get(at, 0) + 1
        problems += _letter(config, record, wanted.letters.get(at))
    problems += _counted("dead letter", letters, set(wanted.letters), once=once)

    newest = _store(config, path).latest()
    if newest is None:
        return [*problems, "there is no checkpoint"]
    loop = newest.state["loop"]
    if loop["counters"]["events"] != wanted.events:
        problems.append(f"the checkpoint counts {loop['counters']['events']} events, the topic holds {wanted.events}")
    if loop["offset"] != wanted.records:
        problems.append(f"the checkpoint covers {loop['offset']} of {wanted.records} records")
    counted = sum(loop["counters"]["dropped"].values())
    if counted != len(wanted.letters):
        problems.append(f"the checkpoint counts {counted} dropped records, and there are {len(wanted.letters)}")
    mine, theirs = (_hashes(state["tensors"]) for state in (wanted.learner.state_dict(), newest.state["learner"]))
    problems += [f"{n}: not bit-identical" for n in sorted(mine.keys() | theirs) if mine.get(n) != theirs.get(n)]
    return (problems + _positions(config, path))[:_SHOWN]


def repeated(path: Path) -> int:
    """Count the predictions of a run that stand in their topic more than once."""
    config = _read(path)
    places = [_source_place(record) for record in _topic(config, config.kafka.predictions_topic)]
    return len(places) - len(set(places))


def committed_records(path: Path) -> int:
    """Count the records before the positions that a run has committed; none may have been deleted."""
    return sum(at.offset for at in _committed(_read(path)).values())


def halfway(path: Path) -> list[str]:
    """Return what is wrong with a run that was interrupted, a line each."""
    config = _read(path)
    problems = _positions(config, path)
    if config.kafka.delivery != "transactional":
        return problems
    before = {partition.number: at.offset for partition, at in _committed(config).items()}
    records = _topic(config, _source(config))
    wanted = {place(record) for record in records if place(record)[1] < before.get(place(record)[0], 0)}
    seen: dict[Place, int] = {}
    for name in (config.kafka.predictions_topic, config.kafka.dead_letters_topic):
        for record in _topic(config, name):
            seen[_source_place(record)] = seen.get(_source_place(record), 0) + 1
    return (problems + _counted("prediction or dead letter", seen, wanted, once=True))[:_SHOWN]


def _positions(config: Config, path: Path) -> list[str]:
    """Compare committed positions with the checkpoints: never ahead, and with transactions those of the one named."""
    committed = _committed(config)
    notes = {at.note for at in committed.values()}
    store = _store(config, path)
    checkpoint: Checkpoint | None
    if config.kafka.delivery == "transactional" and committed:
        names = {str(json.loads(note)["checkpoint"]) for note in notes}
        named = store.folder / min(names)
        if len(names) != 1 or not named.exists():
            return [f"the committed positions name the checkpoints {sorted(names)}, there are {store.paths()}"]
        checkpoint = store.load(named)
    else:
        checkpoint = store.latest()
    covered = {} if checkpoint is None else dict(checkpoint.state["source"]["positions"])
    same = config.kafka.delivery == "transactional"
    return [
        f"partition {partition.number}: position {at.offset} is committed, the checkpoint is at {covered}"
        for partition, at in sorted(committed.items())
        if at.offset > covered.get(partition.number, 0) or (same and at.offset != covered.get(partition.number))
    ]


def _letter(config: Config, record: Record, wanted: Letter | None) -> list[str]:
    """Compare a dead letter with what it should be: bytes, key, headers, position, stage and reason."""
    if wanted is None:
        return []  # counted as one too many
    theirs, origin = wanted.record, wanted.record.origin
    assert origin is not None
    own = record.headers[len(theirs.headers) :]
    named: Mapping[str, bytes | None] = dict(own)
    said = {
        "value": (record.value, theirs.value or b""),
        "key": (record.key, theirs.key),
        "headers": (record.headers[: len(theirs.headers)], tuple((n, v or b"") for n, v in theirs.headers)),
        "topic": (named.get("streamnn-topic"), origin.topic.encode()),
        "record": (named.get("streamnn-record"), b"%d" % wanted.number),
        "stage": (named.get("streamnn-stage"), wanted.stage.encode()),
        "reason": (named.get("streamnn-reason"), wanted.reason.encode()),
        "tombstone": ("streamnn-tombstone" in named, theirs.value is None),
        "detail": (len(named.get("streamnn-detail") or b"") > 20, True),
    }
    return [
        f"{place(theirs)}: {what} of the dead letter is {got!r}, expected {want!r}"
        for what, (got, want) in said.items()
        if got != want
    ]


def _read(path: Path) -> Config:
    return read_settings(Config, path, overrides=[], environ=os.environ)


def _source(config: Config) -> str:
    return config.stream.source.removeprefix("kafka:")


def _store(config: Config, path: Path) -> CheckpointStore:
    return CheckpointStore(path.parent / config.checkpoint.folder)


def _topic(config: Config, name: str) -> list[Record]:
    client = helpers.library("confluent-kafka", config.kafka.bootstrap_servers)
    return helpers.everything(client, name)


def _committed(config: Config) -> dict[Partition, Committed]:
    client = helpers.library("confluent-kafka", config.kafka.bootstrap_servers)
    reader = client.reader(group=config.kafka.group or config.kafka.model, committed_only=False)
    try:
        numbers = reader.partitions(_source(config), timeout_s=10.0)
        return reader.committed([Partition(_source(config), number) for number in numbers], timeout_s=10.0)
    finally:
        reader.close()


def _source_place(record: Record) -> Place:
    headers: dict[str, Any] = dict(record.headers)
    return int(headers["streamnn-partition"] or b""), int(headers["streamnn-offset"] or b"")


def cuts(record: Record) -> list[Place]:
    """The last events of the micro-batches that ended by the clock, as far as a prediction tells of them."""
    told = (dict(record.headers).get("streamnn-cut") or b"").decode()
    return [
        (int(partition), int(offset)) for partition, _, offset in (at.partition(":") for at in told.split(",") if at)
    ]


def _counted(what: str, seen: dict[Place, int], wanted: set[Place], *, once: bool) -> list[str]:
    missing = [f"{at}: no {what}" for at in sorted(wanted - seen.keys())]
    extra = [f"{at}: a {what} too many" for at in sorted(seen.keys() - wanted)]
    return missing + extra + [f"{at}: {n} times a {what}" for at, n in sorted(seen.items()) if once and n > 1]


def _hashes(tensors: dict[str, dict[str, Tensor]]) -> dict[str, str]:
    return {
        f"{part}.{name}": hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
        for part, named in tensors.items()
        for name, tensor in named.items()
    }


if __name__ == "__main__":
    sys.exit(main())
