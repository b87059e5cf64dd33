"""CSV: quoting, line ends, records of several lines; checked against the standard library."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Schema, SchemaError, SourceError, StreamSpec, block_source, lines, open_source
from connectors.csv_records import Dialect
from connectors.lines import Lines
from connectors.scalars import MISSING_WORDS, UnfitError, read_text
from tests.connectors.helpers import csv_bytes, plain, read, save

TEXT = Schema(kinds={"a": "category", "b": "category", "c": "category"})
ODD = st.text(st.sampled_from('ab ,;"\n\r\t\x00é'), max_size=6)


def oracle(records, names, kinds):
    """Events by the standard library and the rules for single values; None = the record is refused."""
    events = []
    for record in records:
        event = {}
        for name, text in zip(names, record, strict=True):
            if text in MISSING_WORDS:
                continue
            try:
                value = plain(read_text(kinds[name], text))
            except UnfitError:
                event = None
                break
            if value is not None:
                event[name] = value
        events.append(event)
    return events


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(ODD, ODD, ODD), min_size=1, max_size=8),
    st.sampled_from(",;\t"),
    st.sampled_from([3, 20, 1 << 19]),
)
def test_what_a_writer_writes_is_read(tmp_path_factory, records, delimiter, piece):
    """Texts with delimiters, quotation marks and line ends come back as the standard library wrote them."""
    path = save(tmp_path_factory.mktemp("csv") / "s.csv", csv_bytes("abc", records, delimiter))
    kept = lines.PIECE
    lines.PIECE = piece
    try:
        found = read(path, TEXT, delimiter=delimiter)
    finally:
        lines.PIECE = kept
    assert found.rejects == []
    assert [event for _, event in found.events] == oracle(records, "abc", TEXT.kinds)


NUMBERS = st.one_of(st.floats().map(repr), st.integers().map(str), st.sampled_from(["", "null", "x", "inf", " 1"]))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, ODD), min_size=1, max_size=30), st.booleans())
def test_decoding_equals_the_record_by_record_oracle(tmp_path_factory, records, quote_all):
    """A block decoded at once holds and refuses what the standard library and single values give, record by record."""
    names, kinds = "abc", {"a": "number", "b": "integer", "c": "class"}
    out = io.StringIO()
    csv.writer(out, lineterminator="\r\n", quoting=csv.QUOTE_ALL if quote_all else csv.QUOTE_MINIMAL).writerows(
        [list(names), *records]
    )
    path = save(tmp_path_factory.mktemp("csv") / "s.csv", out.getvalue().encode())
    found = read(path, Schema(kinds=kinds))
    wanted = oracle(records, names, kinds)
    assert found.events == [(n, event) for n, event in enumerate(wanted) if event is not None]
    assert [offset for offset, *_ in found.rejects] == [n for n, event in enumerate(wanted) if event is None]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from('1a,"\r '), min_size=1, max_size=8), min_size=1, max_size=8))
def test_the_library_and_our_own_splitting_agree(texts):
    """Where the library splits a block, it splits every record as the single-record rule does."""
    data = "\n".join(texts).encode()
    dialect = Dialect(",")
    framed = dialect.frame(data, True, width=2, most=1000)
    block = Lines(data, framed.starts, framed.ends, framed.refused)
    names = ("x", "y")
    fast = dialect.block(block, names, frozenset())
    slow = [dialect.split(block.value(row).decode()) for row in range(len(block))]
    for row, fields in enumerate(slow):
        if fields is None or len(fields) != 2:
            assert row in fast.refused
        else:
            place = fast.rows.tolist().index(row)
            for name, text in zip(names, fields, strict=True):
                column, _ = fast.cells[name].convert("category")
                assert column[place] == (None if text in MISSING_WORDS else text)


def test_line_ends_and_blank_lines(tmp_path):
    """Both kinds of line ends do, blank lines are no records, and the last line needs no end."""
    data = b"a,b,c\r\n1,2,3\r\n\r\n\n4,5,\r\n7,8,9"
    found = read(save(tmp_path / "s.csv", data), Schema(kinds={"a": "number", "b": "number", "c": "number"}))
    assert [event for _, event in found.events] == [
        {"a": 1.0, "b": 2.0, "c": 3.0},
        {"a": 4.0, "b": 5.0},
        {"a": 7.0, "b": 8.0, "c": 9.0},
    ]
    assert found.raw == [b"1,2,3", b"4,5,", b"7,8,9"]


def test_carriage_returns_inside_fields(tmp_path):
    """A carriage return in the middle of a line is a character like others."""
    found = read(save(tmp_path / "s.csv", b"a,b,c\nx\ry,1,2\n3,4,5\n"), TEXT)
    assert [event["a"][1] for _, event in found.events] == ["x\ry", "3"]


def test_quotes_inside_plain_fields(tmp_path):
    """A quotation mark in the middle of a plain field is a character like others."""
    found = read(save(tmp_path / "s.csv", b'a,b,c\n5" disk,1,6" floppy\n"say ""hi""",,\n'), TEXT)
    assert [event["a"][1] for _, event in found.events] == ['5" disk', 'say "hi"']


@pytest.mark.parametrize("piece", [5, 16, 1 << 19])
def test_records_of_several_lines(tmp_path, monkeypatch, piece):
    """A quoted field with line ends is one record, whose bytes are all of its lines."""
    monkeypatch.setattr(lines, "PIECE", piece)
    data = b'a,b,c\n1,"two\nlines\n\nand more",3\n4,5,6\n"\n",,"\r\n"\r\n'
    found = read(save(tmp_path / "s.csv", data), TEXT)
    assert [event.get("b", ("", ""))[1] for _, event in found.events] == ["two\nlines\n\nand more", "5", ""]
    assert found.raw == [b'1,"two\nlines\n\nand more",3', b"4,5,6", b'"\n",,"\r\n"']
    assert found.events[2][1] == {"a": ("str", "\n"), "c": ("str", "\r\n")}


@pytest.mark.parametrize("piece", [7, 64, 1 << 19])
def test_an_unclosed_quote_spoils_its_own_line_only(tmp_path, monkeypatch, piece):
    """A quotation mark that is never closed, or whose closing makes no fitting record, costs one record."""
    monkeypatch.setattr(lines, "PIECE", piece)
    data = b'a,b,c\n1,"open,3\n4,5,6\n7,"closed",9\n10,"never,12\n' + b"".join(b"%d,x,y\n" % n for n in range(500))
    found = read(save(tmp_path / "s.csv", data), TEXT, max_record_bytes=1000)
    assert found.reasons == [(0, "bad_quotes"), (3, "bad_quotes")]
    assert [value for *_, value in found.rejects] == [b'1,"open,3', b'10,"never,12']
    assert len(found.events) == 502


def test_a_record_of_several_lines_has_a_limit(tmp_path):
    """Lines are joined up to the largest record that is allowed, and no further."""
    data = b'a,b,c\n1,"' + b"x\n" * 300 + b'",3\n4,5,6\n'
    fits = read(save(tmp_path / "s.csv", data), TEXT, max_record_bytes=700)
    assert (len(fits.events), fits.rejects) == (2, [])
    beyond = read(tmp_path / "s.csv", TEXT, max_record_bytes=500)
    assert beyond.reasons[0] == (0, "bad_quotes")
    assert {reason for _, reason in beyond.reasons[1:]} <= {"wrong_field_count", "bad_quotes"}
    assert [event["a"][1] for _, event in beyond.events] == ["4"]


def test_resume_in_the_middle_of_records_of_several_lines(tmp_path, monkeypatch):
    """A start at any record works where records have several lines."""
    monkeypatch.setattr(block_source, "MOST_ROWS", 3)
    monkeypatch.setattr(lines, "PIECE", 50)
    data = b"a,b,c\n" + b"".join(b'%d,"x\ny",z\n' % n for n in range(40))
    path = save(tmp_path / "s.csv", data)
    first = open_source(StreamSpec(str(path)), TEXT)
    first.open(0, None)
    for _ in range(12):
        first.poll(2)
    for offset in range(20):
        found = read(path, TEXT, offset=offset, state=first.state(offset))
        assert [event["a"][1] for _, event in found.events] == [str(n) for n in range(offset, 40)]
    first.close()


def test_delimiters(tmp_path):
    """Any ASCII character separates fields; .tsv files have tabs; other delimiters are refused."""
    found = read(save(tmp_path / "s.csv", b"a;b\n1,5;2\n"), delimiter=";")
    assert found.events == [(0, {"a": ("str", "1,5"), "b": 2.0})]
    assert read(save(tmp_path / "s.tsv", b"a\tb\n1\t2\n")).events == [(0, {"a": 1.0, "b": 2.0})]
    for bad in ("", ",,", '"', "\n", "é"):
        with pytest.raises(SourceError, match="the delimiter is"):
            read(tmp_path / "s.csv", delimiter=bad)


def test_declared_fields_must_be_there(tmp_path):
    """A declared field that the header does not have is one clear error with the nearest name."""
    path = save(tmp_path / "s.csv", b"alpha,beta\n1,2\n")
    with pytest.raises(SchemaError, match=r"'aplha' is declared.*Did you mean 'alpha'"):
        read(path, Schema(kinds={"aplha": "number"}))


def test_ignored_fields_are_not_decoded(tmp_path):
    """What stands in an ignored field does not matter."""
    found = read(save(tmp_path / "s.csv", b"a,b\n1,junk\nx,2\n"), Schema(kinds={"a": "number"}, ignore=("b",)))
    assert (found.events, found.reasons) == ([(0, {"a": 1.0})], [(1, "wrong_type")])
    found = read(tmp_path / "s.csv", Schema(ignore=("a", "b")))
    assert found.events == [(0, {}), (1, {})]


def test_id_and_moment_need_no_kind(tmp_path):
    """The field that identifies an event is text, the one with its time a moment, without being declared so."""
    path = save(tmp_path / "s.csv", b"key,when,x\n007,2024-05-06,1\n")
    found = read(path, Schema(id="key", moment="when"))
    assert found.events == [(0, {"key": ("str", "007"), "when": "2024-05-06T00:00:00.000000", "x": 1.0})]


def test_one_column(tmp_path):
    """A file of one column is read; a quoted empty text is a record with a missing value."""
    assert read(save(tmp_path / "s.csv", b'a\n1\n""\n3\n')).events == [(0, {"a": 1.0}), (1, {}), (2, {"a": 3.0})]
