"""A schema that Avro data were written with: checked, and read so that no bytes can end the process or fill its memory.

In: a schema as JSON has it. Out: `Writer`, which reads one datum after the other. What bytes alone can do to whoever
decodes them is ruled out here:

- A record that holds records of its own kind may be nested as deep as a producer likes. The library's compiled reader
  calls itself for each level until the stack of the process is used up, and dies. So data of such a schema are read by
  the library's Python code, several times slower, which has an end to its calls; all others by the compiled one.
- Items that take no bytes (null, a record without fields) cost nothing: five bytes are an array of millions. Such a
  schema is refused. The entries of a map have keys, which take bytes.
"""

import io
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastavro import parse_schema, schemaless_reader
from fastavro._read_py import read_data
from fastavro.io.binary_decoder import BinaryDecoder
from fastavro.schema import SchemaParseException, UnknownType

from connectors.errors import SchemaError

# records, arrays and maps within one another, where a schema leaves it open: far from where Python ends its calls (1,000,
# of which each level takes six), so that this alone decides, wherever the reader is called from
DEEPEST = 100
_LONGEST_NUMBER = 10  # bytes: seven bits each, 64 in all


class TooDeepError(ValueError):
    """A datum is nested deeper than is read."""

    def __init__(self) -> None:
        super().__init__(f"the datum is nested more than {DEEPEST} deep, at most so much is read")


@dataclass(frozen=True, slots=True)
class Writer:
    """A schema that data were written with.

    Attributes:
        schema: as the library has parsed it.
        named: the types in it that have a name.
        recursive: whether a datum may be nested as deep as it likes.
    """

    schema: Any
    named: Mapping[str, Any]
    recursive: bool

    def read(self, stream: io.BytesIO) -> object:
        """Read one datum from where the stream is, and leave the stream behind it.

        Raises:
            TooDeepError: it is nested too deep.
            Exception: it is no datum of this schema; the library's readers raise what they happen upon.
        """
        if not self.recursive:
            return schemaless_reader(stream, self.schema, None)
        try:
            datum = read_data(_Decoder(stream), self.schema, {"writer": self.named, "reader": {}})  # type: ignore[no-untyped-call]
        except RecursionError:
            raise TooDeepError from None
        if _deeper(datum, DEEPEST):
            raise TooDeepError
        return datum


class _Decoder(BinaryDecoder):
    """The library's, but for numbers that never end: each byte of one would take longer than the one before."""

    def read_long(self) -> int:
        found = 0
        for at, byte in enumerate(self._bytes()):
            found |= (byte & 0x7F) << 7 * at
            if not byte & 0x80:
                return (found >> 1) ^ -(found & 1)
        raise ValueError(f"a number has more than {_LONGEST_NUMBER} bytes")

    read_int = read_enum = read_index = read_long

    def _bytes(self) -> Iterator[int]:
        for _ in range(_LONGEST_NUMBER):
            byte = self.fo.read(1)
            if not byte:
                raise EOFError
            yield byte[0]


def parsed(schema: Any, named: dict[str, Any], where: str) -> Writer:
    """Check a schema and prepare it for reading.

    Args:
        schema: as JSON has it.
        named: types that it may refer to; its own are added.
        where: it comes from, for messages.

    Raises:
        SchemaError: it is none, or is one whose data could be of any size.
    """
    try:
        found = parse_schema(schema, named_schemas=named)
        return Writer(found, named, _recursive(found, named, (), set()))
    except (SchemaParseException, UnknownType, ValueError, TypeError, KeyError) as error:
        raise SchemaError(f"the Avro schema {where} is not valid: {error}") from error
    except RecursionError as error:
        raise SchemaError(f"the Avro schema {where} is nested too deep") from error


def _recursive(schema: Any, named: Mapping[str, Any], within: Collection[str], done: set[str]) -> bool:
    """Tell whether a type may hold one of its own kind.

    Args:
        schema: the type.
        named: those that have a name.
        within: names of the types that it is a part of.
        done: names of those that have been looked at; more are added.

    Raises:
        ValueError: there is an array of items that take no bytes.
    """
    if isinstance(schema, str):
        if schema in within:
            return True
        return schema in named and schema not in done and _recursive(named[schema], named, within, done)
    if isinstance(schema, list):
        found = [_recursive(one, named, within, done) for one in schema]  # every one is looked at
        return any(found)
    kind = schema["type"]
    if kind == "array":
        if not _takes_bytes(schema["items"], named, set()):
            raise ValueError(
                f"items of type {_shown(schema['items'])} take no bytes, so that a few bytes could be an array of any"
                " number of them; give the items another type"
            )
        return _recursive(schema["items"], named, within, done)
    if kind == "map":
        return _recursive(schema["values"], named, within, done)
    if kind in ("record", "error"):
        done.add(schema["name"])
        inside = {*within, schema["name"]}
        found = [_recursive(field["type"], named, inside, done) for field in schema["fields"]]
        return any(found)
    return False


def _takes_bytes(schema: Any, named: Mapping[str, Any], seen: set[str]) -> bool:
    """Tell whether each datum of a type has at least one byte.

    Args:
        schema: the type.
        named: those that have a name.
        seen: names of records that are looked at, or have nothing with a byte; more are added.
    """
    if isinstance(schema, str):
        return schema not in seen and (
            _takes_bytes(named[schema], named, seen) if schema in named else schema != "null"
        )
    if isinstance(schema, list):
        return True
    kind = schema["type"]
    if kind in ("record", "error"):
        seen.add(schema["name"])
        return any(_takes_bytes(field["type"], named, seen) for field in schema["fields"])
    return kind != "null" and not (kind == "fixed" and schema["size"] < 1)


def _shown(schema: Any) -> str:
    return repr(schema if isinstance(schema, str) else schema.get("name", schema["type"]))


def _deeper(value: object, levels: int) -> bool:
    """Tell whether records, arrays and maps are nested deeper than so many levels."""
    if not isinstance(value, dict | list):
        return False
    return levels < 1 or any(
        _deeper(each, levels - 1) for each in (value.values() if isinstance(value, dict) else value)
    )
