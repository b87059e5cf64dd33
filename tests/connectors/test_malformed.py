"""Bad input of every kind: it is told with position, reason and bytes, and nothing else suffers from it."""

import gzip
import random
import zlib

import pyarrow as pa
import pytest
from pyarrow import parquet

from connectors import Schema, SchemaError, SourceError, StreamSpec, block_source, lines, look, open_source
from connectors.lines import KEPT
from tests.connectors.helpers import Outcome, collect, read, save

GOOD = {"x": "number", "n": "integer", "f": "boolean", "m": "moment", "d": "degree", "y": "class"}
SCHEMA = Schema(kinds=GOOD, targets=("y",))  # type: ignore[arg-type]
JSON_GOOD = b'{"x": 1.5, "n": 2, "f": true, "m": "2024-01-01", "d": 0.5, "y": "a"}'
CSV_HEADER, CSV_GOOD = b"x,n,f,m,d,y", b"1.5,2,true,2024-01-01,0.5,a"
SPARSE_GOOD = b"1 1:2 2:3"

JSON_BAD = {
    b"{": "not_json",
    b'{"x": 1,}': "not_json",
    b'{"x": 1} {"x": 2}': "not_json",
    b'{"x": 1},{"x": 2}': "not_json",
    b'{"x": "\\ud800"}': "not_json",
    b'{"x": NaN, "c": "\\ud800"}': "not_json",
    b"nonsense": "not_json",
    b"[" * 2000: "not_json",
    b"[1, 2]": "not_object",
    b"null": "not_object",
    b'"text"': "not_object",
    b"17": "not_object",
    b"NaN": "not_object",
    b'{"c": "\xff"}': "not_utf8",
    b"\xfe\xff{}": "not_utf8",
    b'{"x": "1"}': "wrong_type",
    b'{"x": true}': "wrong_type",
    b'{"x": [1]}': "wrong_type",
    b'{"x": {"a": 1}}': "wrong_type",
    b'{"x": Infinity}': "not_finite",
    b'{"x": -1e999}': "not_finite",
    b'{"x": 1' + b"0" * 400 + b"}": "not_finite",
    b'{"n": 2.5}': "not_integer",
    b'{"f": "maybe"}': "wrong_type",
    b'{"m": "noon"}': "bad_moment",
    b'{"m": {}}': "bad_moment",
    b'{"d": 1.5}': "out_of_range",
    b'{"y": {"a": 0.9, "b": 0.9}}': "out_of_range",
    b'{"y": 1.5}': "wrong_type",
    b'{"x": "' + b"z" * 3000 + b'"}': "too_large",
}
CSV_BAD = {
    b"1,2": "wrong_field_count",
    b"1.5,2,true,2024-01-01,0.5,a,more": "wrong_field_count",
    b'"1.5,2",true,2024-01-01,0.5,a': "wrong_field_count",
    b'1.5,2,true,2024-01-01,0.5,"a': "bad_quotes",
    b'"1.5"0,2,true,2024-01-01,0.5,a': "bad_quotes",
    b"1.5,2,true,2024-01-01,0.5,\xff": "not_utf8",
    b"abc,2,true,2024-01-01,0.5,a": "wrong_type",
    b"inf,2,true,2024-01-01,0.5,a": "not_finite",
    b"1e999,2,true,2024-01-01,0.5,a": "not_finite",
    b"1,2.5,true,2024-01-01,0.5,a": "not_integer",
    b"1,2,perhaps,2024-01-01,0.5,a": "wrong_type",
    b"1,2,true,2024-13-01,0.5,a": "bad_moment",
    b"1,2,true,2024-01-01,-1,a": "out_of_range",
    b"1,2,true,2024-01-01,0.5," + b"z" * 3000: "too_large",
}
SPARSE_BAD = {
    b"1 1:2 nonsense": "not_sparse",
    b"1 1:2 2:": "not_sparse",
    b"1 2 3 4:5:6: 7": "not_sparse",
    b"1:2": "not_sparse",
    b"1 1:x": "wrong_type",
    b"1 1:inf": "not_finite",
    b"1 7:1.5": "not_integer",
    b"1 2:\xff": "not_utf8",
    b"1 " + b" ".join(b"%d:1" % i for i in range(1000)): "too_large",
}
CASES = [
    *(("s.jsonl", b"", JSON_GOOD, bad, why) for bad, why in JSON_BAD.items()),
    *(("s.csv", CSV_HEADER, CSV_GOOD, bad, why) for bad, why in CSV_BAD.items()),
    *(("s.libsvm", b"", SPARSE_GOOD, bad, why) for bad, why in SPARSE_BAD.items()),
]
SCHEMAS = {
    "s.csv": SCHEMA,
    "s.jsonl": SCHEMA,
    "s.libsvm": Schema(kinds={"label": "class", "7": "integer"}, targets=("label",)),
}


def shown(value):
    """The name of a case."""
    return value[:30] if isinstance(value, bytes) else str(value)


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize(("name", "header", "good", "bad", "reason"), CASES, ids=shown)
def test_one_bad_record(tmp_path, name, header, good, bad, reason, packed):
    """A bad record among good ones is a reject with its position, reason, sentence and bytes; they are events."""
    data = b"\n".join([*([header] if header else []), good, good, bad, good]) + b"\n"
    found = read(save(tmp_path / (name + packed), data), SCHEMAS[name], max_record_bytes=2048)
    assert found.reasons == [(2, reason)]
    assert [offset for offset, _ in found.events] == [0, 1, 3]
    assert found.events[0][1] == found.events[1][1] == found.events[2][1]
    (_, stage, _, detail, value), *_ = found.rejects
    assert stage == "decode"
    assert len(detail) > 20
    assert value == bad[:KEPT] if reason == "too_large" else value == bad
    assert found.raw == [good] * 3


@pytest.mark.parametrize("name", ["s.jsonl", "s.csv", "s.libsvm"])
def test_all_bad_records_together(tmp_path, monkeypatch, name):
    """Every bad record of one stream is told and every good one an event, whatever the order, blocks and polls."""
    cases = [case for case in CASES if case[0] == name] * 2
    random.Random(3).shuffle(cases)
    mixed = [line for _, _, good, bad, _ in cases for line in (bad, good)]
    # a quotation mark that is not closed would join what follows if that fitted; here it does not
    data = b"\n".join([*([cases[0][1]] if cases[0][1] else []), *mixed])
    path = save(tmp_path / name, data)
    wanted = [(2 * n, reason) for n, (*_, reason) in enumerate(cases)]
    whole = read(path, SCHEMAS[name], max_record_bytes=2048)
    assert whole.reasons == wanted
    assert [offset for offset, _ in whole.events] == [2 * n + 1 for n in range(len(cases))]
    assert [value for *_, value in whole.rejects] == [bad[:KEPT] for _, _, _, bad, _ in cases]
    for piece, rows, cut in ((37, 3, 1), (1000, 7, 5)):
        monkeypatch.setattr(lines, "PIECE", piece)
        monkeypatch.setattr(block_source, "MOST_ROWS", rows)
        found = read(path, SCHEMAS[name], cuts=[cut] * 1000, max_record_bytes=2048)
        assert (found.events, found.rejects, found.raw) == (whole.events, whole.rejects, whole.raw)


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_missing_is_not_bad(tmp_path, kind):
    """Empty, null and NaN are missing values of an event, and a missing target makes it an unlabelled one."""
    if kind == "json":
        data = b'{"x": null, "n": 1}\n{"x": NaN, "y": null}\n{"y": ""}\n{}\n'
    else:
        data = CSV_HEADER + b"\n,1,,,,\nNaN,,null,nan,NULL,\n,,,,,\n" + b'"","","","","",""\n'
    found = read(save(tmp_path / f"s.{'jsonl' if kind == 'json' else 'csv'}", data), SCHEMA)
    assert found.rejects == []
    assert found.events == [(0, {"n": 1.0}), (1, {}), (2, {}), (3, {})]


def test_the_first_field_by_name_is_blamed(tmp_path):
    """Of several bad fields the first by name is told, wherever the others were met."""
    data = b'{"late": 1, "x": 1}\n{"x": "a", "late": "b"}\n{"x": "a", "late": 1, "d": 9}\n'
    found = read(save(tmp_path / "s.jsonl", data), SCHEMA)
    assert [detail.split()[1] for *_, detail, _ in found.rejects] == ["'late'", "'d'"]


@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("kept", [1, 40, 4096])
def test_huge_line(tmp_path, monkeypatch, packed, kept):
    """A line far longer than allowed is refused with its length and a beginning, and is never loaded whole."""
    monkeypatch.setattr(lines, "PIECE", 1 << 12)
    monkeypatch.setattr(lines, "KEPT", kept)
    seen = []
    reader = lines.LineReader._frame_on

    def watch(self, piece, *, final):
        reader(self, piece, final=final)
        seen.append(len(self._data))

    monkeypatch.setattr(lines.LineReader, "_frame_on", watch)
    huge = b'{"x": "' + b"z" * 3_000_000 + b'"}\r\n'
    data = JSON_GOOD + b"\n" + huge + JSON_GOOD + b"\n" + huge[:-2]
    source = open_source(StreamSpec(str(save(tmp_path / f"s.jsonl{packed}", data)), max_record_bytes=5000), SCHEMA)
    source.open(0, None)
    found = None
    while (chunk := source.poll(10)) is not None:
        found = [*(found or []), chunk]
    source.close()
    letters = [letter for chunk in found for letter in chunk.rejects]
    assert [(letter.offset, letter.reason) for letter in letters] == [(1, "too_large"), (3, "too_large")]
    assert [letter.record.value for letter in letters] == [huge[:kept]] * 2
    assert all(f"{len(huge) - 2} bytes" in letter.detail for letter in letters)
    assert sum(len(chunk) for chunk in found) == 2
    assert max(seen) < 50_000


def test_unknown_fields_can_be_refused(tmp_path):
    """With extra = "reject" a record with an undeclared value is refused, and a file with such a column at once."""
    strict = Schema(kinds={"x": "number", "y": "class"}, targets=("y",), ignore=("note",), extra="reject")
    data = b'{"x": 1, "note": "n"}\n{"x": 1, "z": 2}\n{"x": 1, "z": null}\n'
    found = read(save(tmp_path / "s.jsonl", data), strict)
    assert found.reasons == [(1, "unknown_field")]
    assert found.rejects[0][4] == b'{"x": 1, "z": 2}'
    with pytest.raises(SchemaError, match=r"'z'.*not declared"):
        read(save(tmp_path / "s.csv", b"x,y,note,z\n1,a,n,2\n"), strict)
    sparse = Schema(kinds={"label": "class", "1": "number"}, ignore=("3",), extra="reject")
    found = read(save(tmp_path / "s.libsvm", b"a 1:2 3:1\na 2:2\n"), sparse)
    assert found.reasons == [(1, "unknown_field")]


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz"])
def test_csv_without_a_header(tmp_path, name):
    """An empty CSV file is one clear error, from a look as from a source."""
    path = save(tmp_path / name, b"")
    for act in (lambda: look(StreamSpec(str(path))), lambda: read(path)):
        with pytest.raises(SourceError, match="is empty, expected a header line"):
            act()


def test_empty_files(tmp_path):
    """An empty stream of lines has no events; there is nothing to be seen by a look, which says so."""
    for name in ("s.jsonl", "s.libsvm", "s.jsonl.gz"):
        path = save(tmp_path / name, b"")
        assert read(path).events == []
        with pytest.raises(SourceError, match="is empty"):
            look(StreamSpec(str(path)))
    header_only = look(StreamSpec(str(save(tmp_path / "h.csv", b"a,b\n"))))
    assert [(field.name, field.missing) for field in header_only.fields] == [("a", 0), ("b", 0)]
    assert header_only.records == 0


def test_nothing_readable_is_one_error(tmp_path):
    """A look at a file of which nothing can be read says so, with the first reason."""
    path = save(tmp_path / "s.jsonl", b"a,b\n1,2\n3,4\n")
    with pytest.raises(SourceError, match=r"none of the first 3 records .*not_json 3.*no JSON"):
        look(StreamSpec(str(path)))


HEADERS = {
    b"a,b,a\n1,2,3\n": "names .*'a'.* more than once",
    b"a,\xff\n1,2\n": "header .* is not valid UTF-8",
    b'a,"b\n1,2\n': "header .* cannot be used",
}


@pytest.mark.parametrize(("data", "message"), HEADERS.items())
def test_csv_headers_that_cannot_be_used(tmp_path, data, message):
    """A header that names a field twice, or cannot be read, is one clear error."""
    with pytest.raises(SourceError, match=message):
        read(save(tmp_path / "s.csv", data))


def test_names_in_headers(tmp_path):
    """Blanks around names do not count, and a column without a name is called after its place."""
    found = read(save(tmp_path / "s.csv", b"\xef\xbb\xbf a ,,c\n1,2,3\n"))
    assert found.events == [(0, {"a": 1.0, "column_1": 2.0, "c": 3.0})]


def until_error(source):
    """What a source hands out before it fails, and what it says then."""
    found = Outcome([], [], [], [])
    try:
        while (chunk := source.poll(1000)) is not None:
            collect(found, chunk)
    except SourceError as problem:
        return found, str(problem)
    return found, ""


GZIP = gzip.compress(b"".join(b'{"x": %d}\n' % i for i in range(20_000)), 1, mtime=0)


@pytest.mark.parametrize("cut", [1, 9, 11, 1000, 40_000, len(GZIP) - 9, len(GZIP) - 1])
def test_truncated_gzip(tmp_path, cut):
    """A gzip file that was cut gives all events that can be read, then one clear error, again at every poll."""
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(GZIP[:cut])
    wanted = zlib.decompressobj(wbits=31).decompress(GZIP[:cut]).count(b"\n")
    source = open_source(StreamSpec(str(path)), Schema(kinds={"x": "number"}))
    source.open(0, None)
    found, problem = until_error(source)
    assert "broken gzip file: it ends in the middle" in problem
    with pytest.raises(SourceError, match="broken gzip file"):
        source.poll(1)
    source.close()
    assert [event["x"] for _, event in found.events] == list(range(wanted))


def test_damaged_gzip(tmp_path):
    """A gzip file with a damaged byte gives everything before the damage, then one clear error."""
    path, damaged = tmp_path / "s.jsonl.gz", bytearray(GZIP)
    damaged[len(GZIP) // 2] ^= 0xFF
    path.write_bytes(bytes(damaged))
    source = open_source(StreamSpec(str(path)), Schema(kinds={"x": "number"}))
    source.open(0, None)
    found, problem = until_error(source)
    source.close()
    assert "broken gzip file" in problem
    assert 7_000 < len(found.events) + len(found.rejects) < 20_000
    path.write_bytes(b"not gzip at all\n" * 10)
    with pytest.raises(SourceError, match="broken gzip file"):
        read(path)


def test_gzip_members_and_padding(tmp_path):
    """Several members one behind the other are one stream, and zeros behind them are nothing."""
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"x": 1}\n{"x"') + gzip.compress(b": 2}\n") + gzip.compress(b"") + b"\0" * 512)
    assert [event for _, event in read(path).events] == [{"x": 1.0}, {"x": 2.0}]


def test_broken_parquet(tmp_path):
    """A file that is no Parquet, or half of one, is one clear error; so are two columns of one name."""
    whole = tmp_path / "w.parquet"
    parquet.write_table(pa.table({"x": list(range(1000))}), whole)
    for data in (b"", b"PAR1", whole.read_bytes()[:500], b"x" * 100):
        with pytest.raises(SourceError, match="not a Parquet file"):
            read(save(tmp_path / "s.parquet", data))
    cut = tmp_path / "t.parquet.gz"
    cut.write_bytes(gzip.compress(whole.read_bytes())[:-20])
    with pytest.raises(SourceError, match="broken gzip"):
        read(cut)
    parquet.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["x", "x"]), whole)
    with pytest.raises(SourceError, match="several columns of one name"):
        read(whole)


def test_parquet_rejects(tmp_path):
    """Rows of Parquet files are refused by the same rules; their bytes are the row as JSON."""
    path = tmp_path / "s.parquet"
    table = pa.table({"x": [1.0, float("inf"), None], "y": ["a", "b", "c"]})
    parquet.write_table(table, path)
    found = read(path, Schema(kinds={"x": "number", "y": "class"}))
    assert found.reasons == [(1, "not_finite")]
    assert found.rejects[0][4] == b'{"x":null,"y":"b"}'
    assert found.raw == [b'{"x":1.0,"y":"a"}', b'{"x":null,"y":"c"}']


def test_a_gzip_error_does_not_hide_what_a_look_has_seen(tmp_path):
    """A look at a cut file tells what can be seen of it."""
    path = tmp_path / "s.jsonl.gz"
    path.write_bytes(GZIP[: len(GZIP) - 100])
    assert look(StreamSpec(str(path)), records=50_000).records > 19_000
    path.write_bytes(GZIP[:12])
    with pytest.raises(SourceError, match="broken gzip"):
        look(StreamSpec(str(path)))


def test_everything_good_is_still_fast_path(tmp_path):
    """One bad cell in a column does not change how its neighbours are read."""
    rows = [b"%d.25,%d,true,2024-01-01,0.5,a" % (n, n) for n in range(500)]
    rows[250] = b"oops,1,true,2024-01-01,0.5,a"
    found = read(save(tmp_path / "s.csv", b"\n".join([CSV_HEADER, *rows])), SCHEMA)
    assert found.reasons == [(250, "wrong_type")]
    assert [event["x"] for _, event in found.events] == [n + 0.25 for n in range(500) if n != 250]
