"""Avro records: plain and framed, good and bad."""

import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.avro import AvroCodec, FileSchema, RegistrySchemas, RegistrySettings
from connectors.avro_schema import DEEPEST, Writer, parsed
from connectors.errors import NotYetError, SchemaError, SourceError
from connectors.records import Chunk, Record
from connectors.schema import Schema

READING: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "n", "type": ["null", "double"]},
        {"name": "count", "type": "long"},
        {"name": "on", "type": "boolean"},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}},
        {"name": "raw", "type": "bytes"},
    ],
}
ROW: dict[str, Any] = {
    "n": 1.5,
    "count": 3,
    "on": True,
    "kind": "B",
    "at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "id": UUID(int=7),
    "price": Decimal("12.25"),
    "raw": b"\x00\xff",
}
SMALL: dict[str, Any] = {"type": "record", "name": "Small", "fields": [{"name": "n", "type": "double"}]}


def datum(row: object, schema: dict[str, Any] = READING) -> bytes:
    """Write a datum without anything around it."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(dict(schema)), row)
    return stream.getvalue()


def frame(number: int, value: bytes) -> bytes:
    """Put the number of a schema before a datum."""
    return b"\x00" + number.to_bytes(4, "big") + value


def decode(codec: AvroCodec, values: list[bytes | None], start: int = 0) -> Chunk:
    """Decode values as consecutive records."""
    stop = start + len(values)
    return codec.decode([Record(value) for value in values], np.arange(start, stop), start=start, stop=stop)


@pytest.fixture
def plain(tmp_path: Path) -> AvroCodec:
    """A codec for plain data of one schema."""
    path = tmp_path / "reading.avsc"
    path.write_text(json.dumps(READING))
    return AvroCodec(Schema(), FileSchema(path))


def test_each_type_becomes_its_column(plain: AvroCodec) -> None:
    """Numbers, booleans, enums, moments, UUIDs, decimals and bytes become columns of the kinds they stand for."""
    chunk = decode(plain, [datum(ROW), datum(ROW | {"n": None, "on": False, "kind": "A"})])
    assert chunk.columns["n"].tolist()[0] == 1.5
    assert np.isnan(chunk.columns["n"][1])
    assert chunk.columns["count"].tolist() == [3.0, 3.0]
    assert chunk.columns["on"].tolist() == [1.0, 0.0]
    assert chunk.columns["kind"].tolist() == ["B", "A"]
    assert chunk.columns["at"][0] == np.datetime64("2026-01-02T03:04:05", "us")
    assert chunk.columns["id"].tolist()[0] == str(UUID(int=7))
    assert chunk.columns["price"].tolist() == [12.25, 12.25]
    assert chunk.columns["raw"].tolist()[0] == "00ff"


def test_bad_data_are_refused_with_their_reason(plain: AvroCodec) -> None:
    """Truncated, prolonged and empty data, tombstones and long ones are rejects; the good ones around them events."""
    good = datum(ROW)
    chunk = decode(plain, [good, good[:-1], good + b"x", b"", None, bytes(1 << 21), good], start=10)
    assert chunk.offsets.tolist() == [10, 16]
    assert [(letter.offset, letter.reason) for letter in chunk.rejects] == [
        (11, "not_avro"),
        (12, "not_avro"),
        (13, "not_avro"),
        (14, "tombstone"),
        (15, "too_large"),
    ]


class Fixed:
    """One schema for all records; or something else that reads them."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def split(self, value: bytes) -> tuple[Any, int]:
        """Return the schema."""
        return self._writer, 0


def codec(schema: Any) -> AvroCodec:
    """A codec for plain data of a schema."""
    return AvroCodec(Schema(), Fixed(parsed(json.loads(json.dumps(schema)), {}, "here")))


def record(name: str, **fields: object) -> dict[str, Any]:
    """Return the schema of a record."""
    return {"type": "record", "name": name, "fields": [{"name": at, "type": kind} for at, kind in fields.items()]}


def array(items: object) -> dict[str, Any]:
    """Return the schema of an array."""
    return {"type": "array", "items": items}


NODE = record("Node", next=["null", "Node"])
LIST = record("List", n="long", items=array("List"))
TREE = record("Tree", n="double", by_name={"type": "map", "values": ["null", "string", "Tree"]})
PAIR = record("Left", n=["null", "long"], right=["null", record("Right", left=["null", array("Left")])])
ENDLESS = record("Endless", again="Endless")
FLAT = record(
    "Flat",
    union=["null", "long", "string", record("Inner", n="int")],
    some=array(["null", "Inner"]),
    more={"type": "map", "values": array("boolean")},
    nothing={"type": "map", "values": "null"},
)
CODECS = [codec(schema) for schema in (READING, NODE, LIST, TREE, PAIR, ENDLESS, FLAT)]


@given(value=st.binary(max_size=60), chosen=st.sampled_from(CODECS))
def test_no_bytes_raise(value: bytes, chosen: AvroCodec) -> None:
    """Whatever bytes come, they are an event or a reject."""
    chunk = decode(chosen, [value])
    assert len(chunk) + len(chunk.rejects) == 1


# how deep a value is nested, by schema: as many records, or records and arrays or maps, as it begins with
NESTED = {
    "records": (NODE, lambda levels: b"\x02" * (levels - 1) + b"\x00"),
    "arrays": (LIST, lambda levels: b"\x02\x02" * (levels // 2 - 1) + b"\x02\x00" + b"\x00" * (levels // 2 - 1)),
}


@pytest.mark.parametrize(("schema", "value"), NESTED.values(), ids=NESTED)
def test_what_is_nested_too_deep_is_refused(schema: dict[str, Any], value: Any) -> None:
    """So deep and no deeper, wherever the codec is called from; the records around it are events."""
    depths = (2, DEEPEST, DEEPEST + 2, 400, 100_000)
    chunk = decode(
        AvroCodec(Schema(ignore=("next", "items")), Fixed(parsed(schema, {}, "here"))), [*map(value, depths)]
    )
    assert chunk.offsets.tolist() == [0, 1]
    assert [(letter.offset, letter.reason) for letter in chunk.rejects] == [(n, "too_deep") for n in (2, 3, 4)]
    assert len({letter.detail for letter in chunk.rejects}) == 1


IN_A_PROCESS = """
import sys
from tests.connectors.test_avro import ENDLESS, LIST, NODE, PAIR, TREE, codec, decode
deep = 500_000
for schema, value in (
    (NODE, b"\\x02" * 10_000 + b"\\x00"), (NODE, b"\\x02" * deep), (LIST, b"\\x02" * deep), (PAIR, b"\\x00\\x02\\x02\\x02" * deep),
    (TREE, (bytes(8) + b"\\x02\\x00\\x04") * 50_000), (ENDLESS, b""),
):
    print(*[letter.reason for letter in decode(codec(schema), [value[: 1 << 20]]).rejects])
"""


def test_no_bytes_end_the_process() -> None:
    """Data nested without end, which overflow the stack of a compiled reader, are refused, and the process goes on."""
    words, root = [sys.executable, "-c", IN_A_PROCESS], Path(__file__).parents[2]
    done = subprocess.run(words, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["too_deep"] * 6), done.stderr


def test_a_number_without_end_is_refused() -> None:
    """A number longer than any is no datum, whatever reads it, and takes no time for each of its bytes."""
    for schema in (LIST, record("Plain", n="long")):
        (letter,) = decode(codec(schema), [b"\xff" * 1_000_000]).rejects
        assert letter.reason == "not_avro"


def test_memory_that_is_used_up_refuses_the_record() -> None:
    """Where a datum takes more than there is, it is a reject, and not the end."""

    class Greedy:
        """Reads nothing."""

        def read(self, stream: io.BytesIO) -> object:
            """Want too much."""
            raise MemoryError

    (letter,) = decode(AvroCodec(Schema(), Fixed(Greedy())), [b""]).rejects
    assert letter.reason == "too_large"


def test_both_readers_read_the_same() -> None:
    """What is read by Python code where a schema is recursive is what the compiled reader makes of it elsewhere."""
    inner = {"n": 7}
    flat = {"union": inner, "some": [None, inner], "more": {"a": [True, False], "b": []}, "nothing": {"c": None}}
    for schema, row in (
        (READING, ROW),
        (READING, ROW | {"n": None, "on": False}),
        (FLAT, flat),
        (FLAT, flat | {"union": -3}),
    ):
        writer, value = parsed(dict(schema), {}, "here"), datum(row, schema)
        assert not writer.recursive
        streams = [io.BytesIO(value + b"more") for _ in range(2)]
        compiled, python = (
            one.read(s) for one, s in zip((writer, Writer(writer.schema, writer.named, True)), streams, strict=True)
        )
        assert compiled == python
        assert [stream.tell() for stream in streams] == [len(value)] * 2


@pytest.mark.parametrize("schema", [NODE, LIST, TREE, PAIR, ENDLESS])
def test_what_may_hold_its_own_kind_is_recursive(schema: dict[str, Any]) -> None:
    """Directly, in an array or a map, or by way of another record."""
    assert parsed(dict(schema), {}, "here").recursive


def test_a_type_that_is_used_twice_is_not_recursive() -> None:
    """Named a second time, beside itself and not within itself; nor do many such take long."""
    twice: dict[str, Any] = record("R0", n="long")
    for level in range(60):
        twice = record(f"R{level + 1}", a=twice, b=f"R{level}")
    assert not parsed(twice, {}, "here").recursive


@pytest.mark.parametrize(
    "items",
    ["null", {"type": "null"}, record("Empty"), record("Nulls", a="null", b=record("Inner")), record("Own", a="Own"),
     {"type": "fixed", "name": "Nothing", "size": 0}],
    ids=str,
)  # fmt: skip
def test_arrays_of_nothing_are_refused(items: Any, tmp_path: Path) -> None:
    """Items that take no bytes could be any number in five bytes: a schema with such is refused, wherever they are in it."""
    path = tmp_path / "nothing.avsc"
    for schema in (
        array(items),
        record("Deep", one=["null", record("In", some={"type": "map", "values": array(items)})]),
    ):
        path.write_text(json.dumps(schema))
        with pytest.raises(SchemaError, match=r"nothing\.avsc.* take no bytes.*give the items another type"):
            FileSchema(path)


class Registry(BaseHTTPRequestHandler):
    """A schema registry of a few schemas."""

    asked: list[str] = []  # noqa: RUF012
    failures = 0

    def do_GET(self) -> None:
        """Answer."""
        Registry.asked.append(self.path)
        inner = {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": "double"}]}
        fields = [{"name": "n", "type": "double"}, {"name": "in", "type": "Inner"}]
        outer = {"type": "record", "name": "Outer", "fields": fields}
        known: dict[str, object] = {
            "/schemas/ids/1": {"schema": json.dumps(SMALL)},
            "/schemas/ids/2": {"schema": "syntax = ...", "schemaType": "PROTOBUF"},
            "/schemas/ids/3": {
                "schema": json.dumps(outer),
                "references": [{"name": "Inner", "subject": "in/ner", "version": 4}],
            },
            "/schemas/ids/5": {"schema": '{"type": "nonsense"}'},
            "/schemas/ids/6": {"schema": json.dumps(record("Many", n=array("null")))},
            "/schemas/ids/7": {"schema": '{"type": "array", "items": ' * 5_000},
            "/schemas/ids/8": {
                "schema": json.dumps(outer),
                "references": [{"name": "Inner", "subject": "wrong", "version": 1}],
            },
            "/subjects/wrong/versions/1": {"schema": '{"type": "record"}'},
            "/subjects/in%2Fner/versions/4": {"schema": json.dumps(inner)},
        }
        if Registry.failures:
            Registry.failures -= 1
            self.send_error(503)
        elif self.headers.get("Authorization") == "Basic Ym9iOndyb25n":
            self.send_error(401)
        elif self.path in known:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(known[self.path]).encode())
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing."""


@pytest.fixture
def registry() -> Iterator[str]:
    """The address of a registry."""
    Registry.asked, Registry.failures = [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_frame_names_the_schema_which_is_asked_for_once(registry: str) -> None:
    """Framed records are read with the schema of their number; each number is looked up once, unknown ones too."""
    codec = AvroCodec(Schema(), RegistrySchemas(RegistrySettings(url=registry)))
    value = datum({"n": 2.5}, SMALL)
    for _ in range(3):
        framed = [frame(number, value) for number in (1, 9, 2, 5, 6, 7, 8)]
        chunk = decode(codec, [*framed, b"{no frame", b"\x00\x00"])
        assert chunk.columns["n"].tolist() == [2.5]
        assert [letter.reason for letter in chunk.rejects] == ["unknown_schema"] * 6 + ["not_framed"] * 2
    numbers = [f"/schemas/ids/{number}" for number in (1, 2, 5, 6, 7, 8, 9)]
    assert sorted(Registry.asked) == [*numbers, "/subjects/wrong/versions/1"]


def test_references_are_followed(registry: str) -> None:
    """A schema that uses another one by name is read with it."""
    codec = AvroCodec(Schema(ignore=("in",)), RegistrySchemas(RegistrySettings(url=registry)))
    small = datum({"n": 2.5}, SMALL) + datum({"n": 3.5}, SMALL)
    chunk = decode(codec, [frame(3, small)])
    assert chunk.columns["n"].tolist() == [2.5]
    assert chunk.rejects == ()


def test_a_registry_that_does_not_answer_is_waited_for(registry: str) -> None:
    """A registry that fails for a while costs nothing but time: it is asked ever more seldom, and nothing is refused."""
    now = [0.0]
    codec = AvroCodec(Schema(), RegistrySchemas(RegistrySettings(url=registry), clock=lambda: now[0]))
    Registry.failures = 3
    for pause_s in (0.2, 0.4, 0.8):
        left = Registry.failures
        for _ in range(2):  # the second does not ask
            with pytest.raises(NotYetError, match=r"does not answer \(HTTP Error 503"):
                decode(codec, [frame(1, datum({"n": 1.0}, SMALL))])
        assert Registry.failures == left - 1
        now[0] += pause_s
    assert len(decode(codec, [frame(1, datum({"n": 1.0}, SMALL))])) == 1


@pytest.mark.parametrize(
    ("answered", "start_wait_s", "give_up_s"), [(False, 10.0, 0.0), (False, 10.0, 50.0), (True, 1.0, 10.0)]
)
def test_a_registry_that_stays_away_is_told(
    registry: str, answered: bool, start_wait_s: float, give_up_s: float
) -> None:
    """At the start, and later, a registry is waited for as long as was said."""
    now = [0.0]
    settings = RegistrySettings(url=registry, start_wait_s=start_wait_s, give_up_s=give_up_s)
    codec = AvroCodec(Schema(), RegistrySchemas(settings, clock=lambda: now[0]))
    if answered:
        decode(codec, [frame(1, datum({"n": 1.0}, SMALL))])
    Registry.failures = 1000
    while now[0] < 10.0:
        with pytest.raises(NotYetError):
            decode(codec, [frame(2, b"")])
        now[0] += 0.1
    now[0] += 5.0
    with pytest.raises(SourceError, match=r"has not answered for 1\d s .* check its address"):
        decode(codec, [frame(2, b"")])


@pytest.mark.parametrize("answered", [False, True])
def test_a_registry_that_is_not_to_be_waited_for_is_told_at_once(registry: str, answered: bool) -> None:
    """No wait is no wait, before its first answer and after it."""
    codec = AvroCodec(Schema(), RegistrySchemas(RegistrySettings(url=registry, start_wait_s=0.0, give_up_s=0.0)))
    if answered:
        decode(codec, [frame(1, datum({"n": 1.0}, SMALL))])
    Registry.failures = 1000
    with pytest.raises(SourceError, match="has not answered for 0 s"):
        decode(codec, [frame(2, b"")])


def test_a_registry_that_has_answered_is_waited_for_without_end(registry: str) -> None:
    """By default nothing but its answer ends the wait."""
    now = [0.0]
    codec = AvroCodec(Schema(), RegistrySchemas(RegistrySettings(url=registry), clock=lambda: now[0]))
    value = datum({"n": 1.0}, SMALL)
    decode(codec, [frame(1, value)])
    Registry.failures = 5
    for _ in range(5):
        with pytest.raises(NotYetError):
            decode(codec, [frame(9, value)])
        now[0] += 86_400.0
    assert [letter.reason for letter in decode(codec, [frame(9, value)]).rejects] == ["unknown_schema"]


def test_a_wrong_password_is_told(registry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that refuses the user is an error that names the user, and not the password."""
    monkeypatch.setenv("REGISTRY_PASSWORD", "wrong")
    settings = RegistrySettings(url=registry, user="bob", password_env="REGISTRY_PASSWORD")
    with pytest.raises(SourceError, match="refuses user 'bob'") as caught:
        decode(AvroCodec(Schema(), RegistrySchemas(settings)), [frame(1, b"")])
    assert "wrong" not in str(caught.value) + repr(settings)


def test_a_wrong_schema_file_is_told(tmp_path: Path) -> None:
    """A schema file that is missing, no JSON or no schema is an error with its path."""
    with pytest.raises(SchemaError, match=r"nowhere\.avsc"):
        FileSchema(tmp_path / "nowhere.avsc")
    for text in ("{", '{"type": "nonsense"}', '{"type": "array", "items": ' * 5_000):
        (tmp_path / "bad.avsc").write_text(text)
        with pytest.raises(SchemaError, match=r"bad\.avsc"):
            FileSchema(tmp_path / "bad.avsc")
    with pytest.raises(SchemaError, match="must begin with http"):
        RegistrySettings(url="file:///etc/passwd")
