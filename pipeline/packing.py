"""Records in a checkpoint: events that wait for their label are kept with the bytes they came as.

In: records. Out: arrays and plain values, and the same records back.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from connectors import Origin, Record

NOTHING = -1  # the length of a value or key that is None, as opposed to empty


def pack(records: Sequence[Record]) -> dict[str, Any]:
    """Return records as columns for a checkpoint."""
    listed = list(records)
    topics = list(dict.fromkeys(r.origin.topic for r in listed if r.origin is not None))
    origin = np.full((len(listed), 3), -1, dtype=np.int64)
    for row, record in enumerate(listed):
        if record.origin is not None:
            origin[row] = (topics.index(record.origin.topic), record.origin.partition, record.origin.offset)
    return {
        "value": _pack_bytes([r.value for r in listed]),
        "key": _pack_bytes([r.key for r in listed]),
        "headers": [[[n, None if v is None else v.hex()] for n, v in r.headers] for r in listed if r.headers],
        "with_headers": np.array([row for row, r in enumerate(listed) if r.headers], dtype=np.int64),
        "timestamp_ms": np.array([r.timestamp_ms for r in listed], dtype=np.int64),
        "topics": topics,
        "origin": origin,
    }


def unpack(state: Mapping[str, Any]) -> list[Record]:
    """Return the records that `pack` was given."""
    values, keys = _unpack_bytes(state["value"]), _unpack_bytes(state["key"])
    headers: dict[int, tuple[tuple[str, bytes | None], ...]] = {
        row: tuple((name, None if text is None else bytes.fromhex(text)) for name, text in listed)
        for row, listed in zip(state["with_headers"].tolist(), state["headers"], strict=True)
    }
    topics = state["topics"]
    return [
        Record(
            value,
            key,
            headers.get(row, ()),
            int(moment),
            None if topic < 0 else Origin(topics[topic], int(partition), int(offset)),
        )
        for row, (value, key, moment, (topic, partition, offset)) in enumerate(
            zip(values, keys, state["timestamp_ms"], state["origin"], strict=True)
        )
    ]


def pack_texts(texts: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Return texts as columns for a checkpoint; many would not fit what is written as JSON."""
    return _pack_bytes([text.encode("utf-8", "surrogatepass") for text in texts])


def unpack_texts(state: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return the texts that `pack_texts` was given."""
    return [item.decode("utf-8", "surrogatepass") for item in _unpack_bytes(state) if item is not None]


def _pack_bytes(items: list[bytes | None]) -> dict[str, npt.NDArray[Any]]:
    lengths = [NOTHING if item is None else len(item) for item in items]
    whole = b"".join(item for item in items if item is not None)
    return {"length": np.array(lengths, dtype=np.int64), "bytes": np.frombuffer(whole, np.uint8)}


def _unpack_bytes(state: Mapping[str, npt.NDArray[Any]]) -> list[bytes | None]:
    whole, at, items = state["bytes"].tobytes(), 0, list[bytes | None]()
    for length in state["length"].tolist():
        items.append(None if length == NOTHING else whole[at : at + length])
        at += max(length, 0)
    return items
