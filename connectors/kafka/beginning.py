"""Where reading begins: the positions of the very first start, or those of a checkpoint, against what is there.

In: settings, a reader, the state of a checkpoint. Out: a position for each partition that the model owns, or an
error that says what was lost and what can be done.
"""

import logging
from collections.abc import Collection, Mapping
from typing import Any

from connectors.errors import SourceError
from connectors.kafka.client import LogReader, Partition, known_partitions, missing
from connectors.kafka.settings import KafkaReading

_log = logging.getLogger(__name__)

START_S = 10.0  # what a broker is given to answer at the start


def partitions(reader: LogReader, reading: KafkaReading, *, timeout_s: float = START_S) -> tuple[int, ...]:
    """Return the partitions that the topic has.

    Raises:
        SourceError: there is no such topic.
    """
    there = known_partitions(lambda: reader.partitions(reading.topic, timeout_s=timeout_s))
    if not there:
        raise SourceError(missing(reading.topic))
    return there


def first(reader: LogReader, reading: KafkaReading, there: tuple[int, ...]) -> dict[Partition, int]:
    """Return the positions of the very first start."""
    wanted = reading.partitions or there
    unknown = sorted((set(wanted) | set(reading.start_positions)) - set(there))
    if unknown:
        raise SourceError(f"topic {reading.topic!r} has partitions {list(there)}, and not {unknown}")
    foreign = sorted(set(reading.start_positions) - set(wanted))
    if foreign:
        raise SourceError(
            f"kafka.start names partitions {foreign} of {reading.topic!r}, and kafka.partitions is {list(wanted)}"
        )
    owned = [Partition(reading.topic, number) for number in wanted]
    moment = reading.start_ms()
    if reading.start == "earliest":
        positions = reader.begin(owned, timeout_s=START_S)
    else:
        positions = reader.end(owned, timeout_s=START_S)
    if moment is not None:
        found = reader.at_time(dict.fromkeys(owned, moment), timeout_s=START_S)
        positions |= {partition: at for partition, at in found.items() if at is not None}
    given = {Partition(reading.topic, number): at for number, at in reading.start_positions.items()}
    return positions | {partition: at for partition, at in given.items() if partition in positions}


def last(reader: LogReader, reading: KafkaReading, owned: Collection[Partition]) -> dict[Partition, int] | None:
    """Return the offsets to stop before; None = never stop.

    Raises:
        SourceError: a partition does not reach so far.
    """
    if reading.until == "forever":
        return None
    there = reader.end(owned, timeout_s=START_S)
    ends, moment = dict(there), reading.until_ms()
    if moment is not None:
        found = reader.at_time(dict.fromkeys(owned, moment), timeout_s=START_S)
        ends |= {partition: at for partition, at in found.items() if at is not None}
    for partition in owned:
        end = ends[partition] = reading.until_positions.get(partition.number, ends[partition])
        if end > there[partition]:
            name = f"{partition.topic}/{partition.number}"
            raise SourceError(f"{name} is to be read up to offset {end}, and ends at {there[partition]}")
    unknown = sorted(set(reading.until_positions) - {partition.number for partition in owned})
    if unknown:
        raise SourceError(
            f"topic {reading.topic!r} is to be read up to a place in partitions {unknown}, which are not read"
        )
    return ends


def resumed(
    reader: LogReader, reading: KafkaReading, there: tuple[int, ...], state: Mapping[str, Any], topic_id: str
) -> dict[Partition, int]:
    """Return the positions that a checkpoint holds, with those of partitions that were added since.

    Raises:
        SourceError: the checkpoint is another topic's, or of other partitions.
    """
    if state.get("kind") != "kafka" or state["topic"] != reading.topic:
        raise SourceError(
            f"the checkpoint belongs to {state.get('topic', 'another kind of source')!r}, and the source is topic "
            f"{reading.topic!r}; correct the name, or start afresh in another folder of checkpoints"
        )
    if state["topic_id"] and topic_id and state["topic_id"] != topic_id:
        raise SourceError(
            f"topic {reading.topic!r} was deleted and made again since the checkpoint was taken (its id was "
            f"{state['topic_id']}, now it is {topic_id}), so the positions mean nothing there; "
            "start afresh in another folder of checkpoints"
        )
    positions = {Partition(reading.topic, number): at for number, at in state["positions"]}
    owned = {partition.number for partition in positions}
    if reading.partitions and set(reading.partitions) != owned:
        raise SourceError(
            f"the model owns partitions {sorted(owned)} of {reading.topic!r}, and kafka.partitions is "
            f"{list(reading.partitions)}: they move together; set it to what the model owns"
        )
    if not owned <= set(there):
        raise SourceError(f"topic {reading.topic!r} has partitions {list(there)}; the model owns {sorted(owned)}")
    return positions | added(reader, reading, there, owned)


def in_order(
    positions: Mapping[Partition, int], reading: KafkaReading, state: Mapping[str, Any] | None
) -> list[Partition]:
    """Return partitions as they are merged: events, then labels, each by number; those added later behind them."""
    placed = dict[Partition, int]()
    for kept in () if state is None else (state, state.get("labels")):
        if kept:
            numbers = [number for number, _ in kept["positions"]]
            placed |= {Partition(kept["topic"], n): at for n, at in zip(numbers, kept["places"], strict=True)}
    return sorted(positions, key=lambda p: (placed.get(p, len(placed)), p.topic != reading.topic, p.number))


def added(reader: LogReader, reading: KafkaReading, there: tuple[int, ...], owned: set[int]) -> dict[Partition, int]:
    """Return the beginnings of the partitions that the model does not own; none if its partitions are named.

    Raises:
        SourceError: there are some, and they are to be refused.
    """
    new = [Partition(reading.topic, number) for number in there if number not in owned]
    if reading.partitions or not new:
        return {}
    if reading.new_partitions == "refuse":
        raise SourceError(
            f"topic {reading.topic!r} has got partitions {[p.number for p in new]}, and the model owns "
            f"{sorted(owned)}; records of a key may have moved to them. Set kafka.new_partitions to accept to read "
            "them too, or kafka.partitions to those that the model owns to leave the new ones to others."
        )
    return reader.begin(new, timeout_s=START_S)


def in_range(reader: LogReader, reading: KafkaReading, positions: Mapping[Partition, int]) -> dict[Partition, int]:
    """Compare positions with what is there.

    Returns:
        The positions to read from: behind what retention has deleted, if that is to be skipped.

    Raises:
        SourceError: records behind a position are gone, and are not to be skipped; or the end is before it.
    """
    begin = reader.begin(list(positions), timeout_s=START_S)
    end = reader.end(list(positions), timeout_s=START_S)
    checked = dict(positions)
    for partition, at in sorted(positions.items()):
        earliest, latest = begin[partition], end[partition]
        name = f"{partition.topic}/{partition.number}"
        if at < earliest:
            if reading.lost == "stop":
                raise SourceError(
                    f"records {at} to {earliest - 1} of {name} have not been read, and have been deleted "
                    "(retention). To go on without them, set kafka.lost to skip: they are counted. To learn from them, "
                    "start afresh in another folder of checkpoints, from a copy that holds them."
                )
            _log.warning("skipping records %d to %d of %s, which have been deleted", at, earliest - 1, name)
            checked[partition] = earliest
        elif at > latest:
            raise SourceError(
                f"the position in {name} is {at}, and the partition ends at {latest}: it has lost records that were "
                "read. Restore it, or start afresh in another folder of checkpoints."
            )
    return checked
