"""JSON records to events: one object a record, its members the fields.

In: the bytes of records, from a file's lines or a log. Out: blocks, or chunks, of columns. `NaN` and `Infinity`, which
JSON has not but many writers write, are read: the first is a missing value, the second refused like any infinite one.
Of a member named twice the last counts.

Axes: K readable records of a block.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from connectors.cells import Refusal, cells_of
from connectors.decode import CellsBlock, FieldKinds, make_chunk
from connectors.records import Chunk, IntArray, Record
from connectors.schema import Schema


class JsonCodec:
    """Decodes records that hold a JSON object each.

    Args:
        schema: what the fields are.
        max_record_bytes: longer values are refused.
    """

    def __init__(self, schema: Schema, max_record_bytes: int = 1 << 20) -> None:
        self._schema, self._most = schema, max_record_bytes
        self._kinds = FieldKinds()

    def decode(self, records: Sequence[Record], offsets: IntArray, *, start: int, stop: int) -> Chunk:
        """Decode consecutive records, see `connectors.base.Codec`."""
        values = [record.value for record in records]
        refused = {
            row: _TOMBSTONE if value is None else too_large(len(value), self._most)
            for row, value in enumerate(values)
            if value is None or len(value) > self._most
        }
        block = json_block(values, records, refused)
        return make_chunk(block, self._schema, self._kinds, offsets, start, stop)

    def state(self, offset: int) -> dict[str, Any]:
        """Return the kinds of undeclared fields met before record number `offset`."""
        return self._kinds.state(offset)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._kinds.load(state)


_TOMBSTONE = Refusal("tombstone", "the record has no value; it deletes its key in the log and is no event")


def too_large(length: int, most: int) -> Refusal:
    """Return the refusal of a record that is too long."""
    return Refusal("too_large", f"the record has {length} bytes, at most {most} are read; see max_record_bytes")


def json_block(values: Sequence[bytes | None], records: Sequence[Record], refused: Mapping[int, Refusal]) -> CellsBlock:
    """Parse records.

    Args:
        values: what they hold; looked at only where they are not refused already.
        records: the same records as they came.
        refused: those that cannot be read for another reason.
    """
    kept = [row for row in range(len(values)) if row not in refused] if refused else range(len(values))
    parsed = _parse_all([values[row] for row in kept] if refused else values)
    if parsed is not None:
        return CellsBlock(records, cells_of(parsed), np.array(kept, dtype=np.int64), refused)
    bad, objects, rows = dict(refused), list[dict[str, object]](), list[int]()
    for row in kept:
        found = _parse(values[row] or b"")
        if isinstance(found, Refusal):
            bad[row] = found
        else:
            objects.append(found)
            rows.append(row)
    return CellsBlock(records, cells_of(objects), np.array(rows, dtype=np.int64), bad)


def _parse_all(values: Sequence[bytes | None]) -> list[dict[str, object]] | None:
    """Parse records that are all well-formed objects; None if one is not."""
    try:
        parsed = list(map(orjson.loads, values))  # type: ignore[arg-type] # None is refused like other rubbish
    except orjson.JSONDecodeError:
        return None
    return parsed if set(map(type, parsed)) <= {dict} else None


def _parse(value: bytes) -> dict[str, object] | Refusal:
    """Parse one record."""
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError as problem:
        found = _parse_loosely(value, problem)
    if isinstance(found, dict | Refusal):
        return found
    kind = "null" if found is None else type(found).__name__
    return Refusal("not_object", f"the record is JSON of type {kind}, expected an object with the fields as members")


def _parse_loosely(value: bytes, problem: orjson.JSONDecodeError) -> object:
    """Parse what is no JSON to the letter: NaN, Infinity, and numbers beyond the largest float."""
    try:
        text = value.decode()
    except UnicodeDecodeError as wrong:
        return Refusal("not_utf8", f"the record is not valid UTF-8: {wrong.reason} at byte {wrong.start}")
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()  # fails on half a surrogate pair, which no text can hold
    except (ValueError, RecursionError):
        return Refusal("not_json", f"the record is no JSON: {problem}")
    return found
