"""Avro records to events: one record of a record schema each, its fields the fields.

In: the bytes of records from a log. Out: chunks of columns, by the same rules as for JSON. Two forms are read:

- plain: each value is one datum in binary encoding, written with a schema that is known beforehand;
- framed: a zero byte, the number of the writer's schema in four bytes (big endian), and the datum. The schema is looked
  up by its number in a schema registry, once.

Moments, dates, decimals become what they stand for; UUIDs and times their text; bytes their hexadecimal text. What is
no datum of its schema, has bytes after it, or is nested deeper than is read (`connectors.avro_schema`) is refused.

Axes: K readable records of a block.
"""

import base64
import binascii
import io
import json
import math
import os
import ssl
import struct
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time as time_of_day
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from connectors.avro_schema import TooDeepError, Writer, parsed
from connectors.cells import Refusal, cells_of
from connectors.decode import CellsBlock, FieldKinds, make_chunk
from connectors.errors import NotYetError, SchemaError, SourceError
from connectors.json_records import too_large
from connectors.records import Chunk, IntArray, Record
from connectors.schema import Schema

_MAGIC, _FRAME = 0, struct.Struct(">bI")
_MOST_SCHEMAS = 1_000  # remembered, those of garbage numbers included
_LONGEST_PAUSE_S = 5.0  # between two requests to a registry that does not answer
_TOMBSTONE = Refusal("tombstone", "the record has no value; it deletes its key in the log and is no event")
_UNREADABLE = (EOFError, ValueError, IndexError, TypeError, KeyError, OverflowError, ArithmeticError, struct.error)
_NO_JSON = (ValueError, RecursionError)  # what comes of text that is none, or is nested without end


class WriterSchemas(Protocol):
    """Where the schema that a datum was written with comes from."""

    def split(self, value: bytes) -> tuple[Writer, int] | Refusal:
        """Return the schema of a record's value, and where in it the datum begins.

        Raises:
            NotYetError: the schema cannot be looked up now.
            SourceError: nor ever, as it seems.
        """


class FileSchema:
    """One schema for all records, from a file.

    Args:
        path: of a JSON schema (.avsc).

    Raises:
        SchemaError: it cannot be read, or describes no record.
    """

    def __init__(self, path: Path) -> None:
        try:
            found = json.loads(path.read_text())
        except (OSError, *_NO_JSON) as error:
            raise SchemaError(f"the Avro schema {str(path)!r} cannot be read: {error}") from error
        self._writer = parsed(found, {}, str(path))

    def split(self, value: bytes) -> tuple[Writer, int] | Refusal:
        """Return the schema; the datum is the whole value."""
        del value
        return self._writer, 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySettings:
    """How to reach a schema registry.

    Attributes:
        url: its address, such as https://registry:8081.
        user: who logs in; "" = nobody.
        password_file, password_env: where the password is: the first line of a file, or an environment variable.
        ca_file: certificates that are trusted, PEM; "" = those of the system.
        timeout_s: for one request.
        start_wait_s: how long a registry that has never answered is waited for; then the source cannot be read.
        give_up_s: likewise one that has.
    """

    url: str
    user: str = ""
    password_file: str = ""
    password_env: str = ""
    ca_file: str = ""
    timeout_s: float = 3.0
    start_wait_s: float = 30.0
    give_up_s: float = math.inf

    def __post_init__(self) -> None:
        if urllib.parse.urlsplit(self.url).scheme not in {"http", "https"}:
            raise SchemaError(f"the schema registry's url is {self.url!r}; it must begin with http:// or https://")

    def password(self, environ: Mapping[str, str] = os.environ) -> str:
        """Read the password; "" where none is configured."""
        if self.password_file:
            try:
                return Path(self.password_file).read_text().splitlines()[0]
            except (OSError, IndexError) as error:
                raise SchemaError(
                    f"kafka.registry_password_file {self.password_file!r} cannot be read, or is empty"
                ) from error
        if self.password_env and self.password_env not in environ:
            raise SchemaError(f"kafka.registry_password_env names {self.password_env!r}, which is not set")
        return environ[self.password_env] if self.password_env else ""


@dataclass(frozen=True, slots=True)
class _Silence:
    """A registry that does not answer: since when, when to ask it again, after which pause, and what the problem is."""

    since: float
    again: float = 0.0
    pause_s: float = 0.1
    problem: str = ""


@dataclass(slots=True)
class RegistrySchemas:
    """Schemas by the number in each record, from a registry; each is asked for once.

    A registry that does not answer is asked again, ever more seldom, when records are decoded again.

    Attributes:
        settings: how to reach it.
        clock: monotonic seconds.
    """

    settings: RegistrySettings
    clock: Callable[[], float] = time.monotonic
    _known: dict[int, Writer | Refusal] = field(default_factory=dict)
    _answered: bool = False
    _silent: "_Silence | None" = None

    def split(self, value: bytes) -> tuple[Writer, int] | Refusal:
        """Return the schema that the frame names."""
        if len(value) < _FRAME.size or value[0] != _MAGIC:
            return Refusal("not_framed", "the record does not begin with a zero byte and a schema number; is it plain?")
        number = int(_FRAME.unpack_from(value)[1])
        if number not in self._known:
            if len(self._known) >= _MOST_SCHEMAS:
                self._known.pop(next(iter(self._known)))
            self._known[number] = self._look_up(number)
        found = self._known[number]
        return found if isinstance(found, Refusal) else (found, _FRAME.size)

    def _look_up(self, number: int) -> Writer | Refusal:
        answer = self._get(f"schemas/ids/{number}")
        if answer is None:
            return Refusal("unknown_schema", f"the registry has no schema number {number}")
        if answer.get("schemaType", "AVRO") != "AVRO":
            return Refusal("unknown_schema", f"schema number {number} is of type {answer['schemaType']!r}, not AVRO")
        try:
            named: dict[str, Any] = {}
            self._collect(answer, named, set())
            return parsed(json.loads(answer["schema"]), named, f"number {number}")
        except (SchemaError, KeyError, TypeError, *_NO_JSON) as error:
            return Refusal("unknown_schema", f"schema number {number} cannot be used: {error}")

    def _collect(self, answer: Mapping[str, Any], named: dict[str, Any], seen: set[tuple[str, int]]) -> None:
        """Look up the schemas that a schema refers to, each before those that use it."""
        for reference in answer.get("references") or []:
            subject, version = str(reference["subject"]), int(reference["version"])
            if (subject, version) in seen:
                continue
            seen.add((subject, version))
            part = self._get(f"subjects/{urllib.parse.quote(subject, safe='')}/versions/{version}")
            if part is None:
                raise SchemaError(f"it refers to version {version} of {subject!r}, which the registry does not have")
            self._collect(part, named, seen)
            parsed(json.loads(part["schema"]), named, f"{subject!r}, version {version},")

    def _get(self, path: str) -> dict[str, Any] | None:
        """Ask the registry; None where it has no such thing.

        Raises:
            NotYetError: it does not answer, or it is too soon to ask again.
            SourceError: it has not answered for long, or refuses to.
        """
        settings = self.settings
        if self._silent is not None and self.clock() < self._silent.again:
            raise NotYetError(self._silent.problem)
        request = urllib.request.Request(f"{settings.url.rstrip('/')}/{path}")  # noqa: S310 - the scheme is checked
        request.add_header("Accept", "application/vnd.schemaregistry.v1+json, application/json")
        if settings.user:
            login = base64.b64encode(f"{settings.user}:{settings.password()}".encode()).decode()
            request.add_header("Authorization", f"Basic {login}")
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        began, found = self.clock(), None
        try:
            with urllib.request.urlopen(request, timeout=settings.timeout_s, context=context) as answer:  # noqa: S310
                found = json.loads(answer.read())
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in {401, 403}:
                raise SourceError(
                    f"the schema registry at {settings.url} refuses user {settings.user!r} ({error.code}); "
                    "check user and password"
                ) from error
            if error.code != 404:
                raise self._unanswered(began, error) from error
        except (OSError, *_NO_JSON) as error:
            raise self._unanswered(began, error) from error
        self._answered, self._silent = True, None
        return found

    def _unanswered(self, began: float, problem: Exception) -> NotYetError | SourceError:
        """Note that the registry was asked in vain, and return what to raise."""
        settings, now = self.settings, self.clock()
        silent = self._silent or _Silence(began)
        limit_s = settings.give_up_s if self._answered else settings.start_wait_s
        if now - silent.since >= limit_s:
            return SourceError(
                f"the schema registry at {settings.url} has not answered for {now - silent.since:.0f} s ({problem}); "
                "check its address, and whether it runs"
            )
        pause_s = min(2 * silent.pause_s, _LONGEST_PAUSE_S)
        said = f"the schema registry at {settings.url} does not answer ({problem})"
        self._silent = _Silence(silent.since, now + pause_s, pause_s, said)
        return NotYetError(said)


class AvroCodec:
    """Decodes records that hold an Avro datum each.

    Args:
        schema: what the fields are.
        writers: where the schema that a record was written with comes from.
        max_record_bytes: longer values are refused.
    """

    def __init__(self, schema: Schema, writers: WriterSchemas, max_record_bytes: int = 1 << 20) -> None:
        self._schema, self._writers, self._most = schema, writers, max_record_bytes
        self._kinds = FieldKinds()

    def decode(self, records: Sequence[Record], offsets: IntArray, *, start: int, stop: int) -> Chunk:
        """Decode consecutive records, see `connectors.base.Codec`."""
        refused, objects, rows = dict[int, Refusal](), list[dict[str, object]](), list[int]()
        for row, record in enumerate(records):
            found = self._read(record.value)
            if isinstance(found, Refusal):
                refused[row] = found
            else:
                objects.append(found)
                rows.append(row)
        block = CellsBlock(records, cells_of(objects), np.array(rows, dtype=np.int64), refused)
        return make_chunk(block, self._schema, self._kinds, offsets, start, stop)

    def state(self, offset: int) -> dict[str, Any]:
        """Return the kinds of undeclared fields met before record number `offset`."""
        return self._kinds.state(offset)

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        self._kinds.load(state)

    def _read(self, value: bytes | None) -> dict[str, object] | Refusal:
        if value is None:
            return _TOMBSTONE
        if len(value) > self._most:
            return too_large(len(value), self._most)
        split = self._writers.split(value)
        if isinstance(split, Refusal):
            return split
        writer, begin = split
        stream = io.BytesIO(value)
        stream.seek(begin)
        try:
            datum = writer.read(stream)
        except TooDeepError as error:
            return Refusal("too_deep", str(error))
        except MemoryError:
            return Refusal("too_large", "the datum takes more memory than there is")
        except _UNREADABLE as error:
            return Refusal("not_avro", f"the record is no datum of its schema: {type(error).__name__}: {error}")
        left = len(value) - stream.tell()
        if left:
            return Refusal("not_avro", f"{left} bytes follow the datum; was it written with another schema?")
        if not isinstance(datum, dict):
            return Refusal("not_object", f"the datum is of type {type(datum).__name__}, expected a record of fields")
        return {name: _plain(each) for name, each in datum.items()}


def _plain(value: object) -> object:
    """Turn what has no kind into text; moments, numbers and texts stay."""
    if isinstance(value, bytes):
        return binascii.hexlify(value).decode()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, time_of_day):
        return value.isoformat()
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value
