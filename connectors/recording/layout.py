"""How a recording is laid out: lines of JSON, of which the first says what it holds and the last that it is whole.

In: records. Out: lines, and back.

    {"recording":1,"topic":"readings","topic_id":"...","order":"timestamp",
     "partitions":[{"topic":"readings","partition":0,"from":0,"until":2}]}
    {"partition":0,"offset":0,"timestamp_ms":1700000000000,"key":{"text":"a"},"headers":[["h",{"base64":"/w=="}]],"value":{"text":"{}"}}
    {"partition":0,"offset":1,"timestamp_ms":1700000000001,"cut":true,"value":null}
    {"records":2,"sha256":"..."}

(the first one all on one line). Key and headers stand only where there are some; a value of null is a tombstone. A record
of another topic than that of the first line (a label) says so: "topic". Behind a record with "cut" the clock ended a
micro-batch when a run handled it. The sum of the last line is that of all
bytes before it. Offsets of a partition lie in [from, until), and are not all there where the log has gaps.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from connectors.byte_text import meant, shown
from connectors.records import Origin, Record

VERSION = 1
ENDINGS = (".records.jsonl", ".records.jsonl.gz")

Order = Literal["timestamp", "handled"]


def is_recording(name: str) -> bool:
    """Tell whether a name is one of a recording."""
    return name.lower().endswith(ENDINGS)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets [first, until) of one partition."""

    topic: str
    partition: int
    first: int
    until: int


@dataclass(frozen=True, slots=True)
class Heading:
    """What a recording holds.

    Attributes:
        topic: where the events lay; labels may have lain in another one.
        topic_id: what tells the topic from a later one of the same name; "" = not known.
        order: "timestamp": the smallest timestamp first, ties by partition and offset; "handled": as the run handled
            them whose predictions told it.
        partitions: what was read of each.
    """

    topic: str
    topic_id: str
    order: Order
    partitions: tuple[Stretch, ...]


def heading_line(heading: Heading) -> bytes:
    """Return the first line."""
    told = {
        "recording": VERSION,
        "topic": heading.topic,
        "topic_id": heading.topic_id,
        "order": heading.order,
        "partitions": [
            {"topic": s.topic, "partition": s.partition, "from": s.first, "until": s.until} for s in heading.partitions
        ],
    }
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def read_heading(line: bytes) -> Heading:
    """Read the first line.

    Raises:
        ValueError: it is none, or one of a version that is not known here.
    """
    told = _object(line)
    if "recording" not in told:
        raise ValueError('expected the first line of a recording, {"recording":1,...}')
    if told["recording"] != VERSION:
        raise ValueError(f"the format is version {told['recording']!r}, and this program reads version {VERSION}")
    try:
        partitions = tuple(
            Stretch(str(p["topic"]), int(p["partition"]), int(p["from"]), int(p["until"])) for p in told["partitions"]
        )
        heading = Heading(str(told["topic"]), str(told["topic_id"]), told["order"], partitions)
    except (KeyError, TypeError) as problem:
        raise ValueError(f"the first line lacks {problem}") from problem
    if heading.order not in get_args(Order):
        raise ValueError(f"order is {heading.order!r}, expected one of {', '.join(get_args(Order))}")
    return heading


def record_line(record: Record, topic: str, *, cut: bool = False) -> bytes:
    """Return the line of a record that has an origin; `topic` is that of the first line.

    With `cut` the clock ended a micro-batch behind it.
    """
    origin = record.origin
    assert origin is not None, "only records of a log are recorded"
    told: dict[str, Any] = {
        "partition": origin.partition,
        "offset": origin.offset,
        "timestamp_ms": record.timestamp_ms,
    }
    if origin.topic != topic:
        told["topic"] = origin.topic
    if record.key is not None:
        told["key"] = shown(record.key)
    if record.headers:
        told["headers"] = [[name, shown(value)] for name, value in record.headers]
    if cut:
        told["cut"] = True
    told["value"] = shown(record.value)
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)


def read_line(line: bytes, topic: str) -> "tuple[Record, bool] | Ending":
    """Read the line of a record, or the last line; `topic` is that of the first line.

    Returns:
        The record, and whether the clock ended a micro-batch behind it; or what the last line says.

    Raises:
        ValueError: it is neither.
    """
    told = _object(line)
    try:
        if "records" in told:
            return Ending(int(told["records"]), str(told["sha256"]))
        record = Record(
            meant(told["value"]),
            meant(told.get("key")),
            tuple((str(name), meant(value)) for name, value in told.get("headers", ())),
            int(told["timestamp_ms"]),
            Origin(str(told.get("topic", topic)), int(told["partition"]), int(told["offset"])),
        )
        return record, bool(told.get("cut", False))
    except KeyError as problem:
        raise ValueError(f"{problem} is missing") from problem
    except TypeError as problem:
        raise ValueError(f"a value has the wrong type: {problem}") from problem


@dataclass(frozen=True, slots=True)
class Ending:
    """The last line: how many records there are, and the sum of all bytes before it."""

    records: int
    sha256: str


def ending_line(ending: Ending) -> bytes:
    """Return the last line."""
    return orjson.dumps({"records": ending.records, "sha256": ending.sha256}, option=orjson.OPT_APPEND_NEWLINE)


def _object(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise ValueError("the line has no end")
    try:
        told = orjson.loads(line)
    except orjson.JSONDecodeError as problem:
        raise ValueError(f"no JSON: {problem}") from problem
    if not isinstance(told, dict):
        raise ValueError(f"expected an object, and not {str(told)[:40]}")  # noqa: TRY004 (one kind of error for a line)
    return told
