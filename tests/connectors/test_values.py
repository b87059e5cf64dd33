"""What values mean, one by one and in columns."""

import json
import math
import re
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.cells import ArrowCells, TextCells, ValueCells
from connectors.scalars import MISSING_WORDS, UnfitError, absent, label, read_text, read_value
from connectors.schema import KINDS
from tests.connectors.helpers import micro, plain

NAN = math.nan

TEXTS = [
    ("number", "1.5", 1.5),
    ("number", " -2e3 ", -2000.0),
    ("number", "+.5", 0.5),
    ("number", "5.", 5.0),
    ("number", "007", 7.0),
    ("number", "  ", None),
    ("value", "3", 3.0),
    ("integer", "3.0", 3.0),
    ("integer", "-12", -12.0),
    ("boolean", "TRUE", 1.0),
    ("boolean", "no", 0.0),
    ("boolean", "1", 1.0),
    ("degree", "0.25", 0.25),
    ("degree", "false", 0.0),
    ("category", " a ", ("str", " a ")),
    ("category", "12", ("str", "12")),
    ("class", "12", ("int", 12)),
    ("class", "12.0", ("int", 12)),
    ("class", "-1", ("int", -1)),
    ("class", "012", ("str", "012")),
    ("class", "1.5", ("str", "1.5")),
    ("class", "True", ("bool", True)),
    ("class", "UP", ("str", "UP")),
    ("moment", "2016-04-01", "2016-04-01T00:00:00.000000"),
    ("moment", "2016-04-01 10:30", "2016-04-01T10:30:00.000000"),
    ("moment", "2016-04-01T10:30:05.25Z", "2016-04-01T10:30:05.250000"),
    ("moment", "2016-04-01T10:30:05+02:00", "2016-04-01T08:30:05.000000"),
    ("moment", "2016-04-01 10:30:05 -0130", "2016-04-01T12:00:05.000000"),
    ("moment", "86400.5", "1970-01-02T00:00:00.500000"),
    ("day_first", "3/12/2018", "2018-12-03T00:00:00.000000"),
    ("day_first", "31.12.2018 23:45:01.5", "2018-12-31T23:45:01.500000"),
    ("month_first", "12-31-2018 7:05", "2018-12-31T07:05:00.000000"),
]
WRONG_TEXTS = [
    ("number", "abc", "wrong_type"),
    ("number", "1_0", "wrong_type"),
    ("number", "٣", "wrong_type"),
    ("number", "0x10", "wrong_type"),
    ("number", "true", "wrong_type"),
    ("number", "-nan", "wrong_type"),
    ("number", "nan(1)", "wrong_type"),
    ("number", "inf", "not_finite"),
    ("number", "-Infinity", "not_finite"),
    ("number", "1e999", "not_finite"),
    ("integer", "1.5", "not_integer"),
    ("boolean", "2", "wrong_type"),
    ("boolean", "maybe", "wrong_type"),
    ("degree", "1.5", "out_of_range"),
    ("degree", "-0.1", "out_of_range"),
    ("moment", "yesterday", "bad_moment"),
    ("day_first", "12/31/2018", "bad_moment"),
    ("month_first", "31/12/2018", "bad_moment"),
    ("day_first", "3/12-2018", "bad_moment"),
    ("day_first", "3/12/18", "bad_moment"),
    ("month_first", "2018-12-31", "bad_moment"),
    ("moment", "2016-02-30", "bad_moment"),
    ("moment", "2016-04-01T25:00", "bad_moment"),
    ("moment", "0000-01-01", "bad_moment"),
    ("moment", "1e300", "bad_moment"),
    ("moment", "20160401T10", "bad_moment"),
]
VALUES = [
    ("number", 3, 3.0),
    ("number", NAN, None),
    ("number", "", None),
    ("number", None, None),
    ("number", np.float32(0.5), 0.5),
    ("number", 2**60, float(2**60)),
    ("integer", 3.0, 3.0),
    ("boolean", True, 1.0),
    ("boolean", 0, 0.0),
    ("boolean", "Yes", 1.0),
    ("degree", False, 0.0),
    ("degree", 0.75, 0.75),
    ("category", "a", ("str", "a")),
    ("category", 5, ("str", "5")),
    ("category", True, ("str", "true")),
    ("class", "3", ("str", "3")),
    ("class", 3, ("int", 3)),
    ("class", 3.0, ("int", 3)),
    ("class", False, ("bool", False)),
    ("class", {"a": 0.25, "b": 0.75}, {"a": 0.25, "b": 0.75}),
    ("class", {"a": 1}, {"a": 1.0}),
    ("class", {}, None),
    ("moment", 86400, "1970-01-02T00:00:00.000000"),
    ("moment", "2016-04-01", "2016-04-01T00:00:00.000000"),
    ("moment", datetime(2020, 1, 2, 3), "2020-01-02T03:00:00.000000"),
]
WRONG_VALUES = [
    ("number", "3", "wrong_type"),
    ("number", True, "wrong_type"),
    ("number", [1], "wrong_type"),
    ("number", math.inf, "not_finite"),
    ("number", 10**400, "not_finite"),
    ("integer", 1.5, "not_integer"),
    ("boolean", 2, "wrong_type"),
    ("boolean", "maybe", "wrong_type"),
    ("category", {"a": 1}, "wrong_type"),
    ("category", math.inf, "not_finite"),
    ("class", 1.5, "wrong_type"),
    ("class", [1], "wrong_type"),
    ("class", {"a": 0.5, "b": 0.1}, "out_of_range"),
    ("class", {"a": 2, "b": -1}, "out_of_range"),
    ("class", {"a": NAN}, "out_of_range"),
    ("degree", 2, "out_of_range"),
    ("moment", True, "bad_moment"),
    ("moment", [], "bad_moment"),
    ("moment", math.inf, "bad_moment"),
]


@pytest.mark.parametrize(("kind", "text", "wanted"), TEXTS)
def test_texts(kind, text, wanted):
    """A text becomes what its field's kind says."""
    assert plain(read_text(kind, text)) == wanted


@pytest.mark.parametrize(("kind", "text", "reason"), WRONG_TEXTS)
def test_texts_of_another_kind(kind, text, reason):
    """A text that is not of its field's kind is refused with a stable reason and a sentence that shows it."""
    with pytest.raises(UnfitError) as caught:
        read_text(kind, text)
    assert caught.value.reason == reason
    assert re.match("is .*(expected|must|but)", caught.value.why)


@pytest.mark.parametrize(("kind", "value", "wanted"), VALUES)
def test_values(kind, value, wanted):
    """A Python value becomes what its field's kind says."""
    assert plain(read_value(kind, value)) == wanted


@pytest.mark.parametrize(("kind", "value", "reason"), WRONG_VALUES)
def test_values_of_another_kind(kind, value, reason):
    """A value that is not of its field's kind is refused with a stable reason."""
    with pytest.raises(UnfitError) as caught:
        read_value(kind, value)
    assert caught.value.reason == reason


def test_soft_labels_are_scaled():
    """Probabilities that were rounded are scaled to sum up to 1."""
    found = read_value("class", {"a": 0.333, "b": 0.333, "c": 0.333})
    assert math.isclose(sum(found.values()), 1.0, rel_tol=1e-15)


def test_labels_distinguish_one_and_true():
    """The texts 1 and true are different labels."""
    assert [type(label(text)).__name__ for text in ("1", "true", "1.0", "one", "1" * 30)] == [
        "int",
        "bool",
        "int",
        "str",
        "str",
    ]


def each(kind, values, read, lost):
    """The slow oracle: value by value."""
    found, refused = [], {}
    for row, value in enumerate(values):
        try:
            found.append(plain(absent(kind) if value in lost else read(kind, value)))
        except UnfitError as problem:
            found.append(None)
            refused[row] = problem.reason
    return found, refused


ODD = [text for _, text, *_ in TEXTS + WRONG_TEXTS]
NUMBERS = st.one_of(
    st.floats(allow_nan=False).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.from_regex(r"[+-]?[0-9]{0,4}\.?[0-9]{0,4}([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)
MOMENTS = st.one_of(
    st.datetimes().map(lambda m: m.isoformat(" ")),
    st.datetimes().map(lambda m: m.isoformat() + "Z"),
    st.dates().map(str),
    st.from_regex(
        r"[0-9]{4}-[0-1][0-9]-[0-3][0-9]([T ][0-2][0-9](:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,7})?)?)?)?", fullmatch=True
    ),
)
WORDS = st.sampled_from([*MISSING_WORDS, *ODD, "inf", "true", "Yes", "a", "null ", "NULL", "é"])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.one_of(
        st.lists(st.one_of(NUMBERS, st.just("")), max_size=12),
        st.lists(st.one_of(MOMENTS, st.just("")), max_size=12),
        st.lists(st.one_of(NUMBERS, MOMENTS, WORDS, st.text(max_size=6)), max_size=12),
    ),
)
def test_text_columns_equal_single_texts(kind, texts):
    """A column of texts holds and refuses exactly what its texts do one by one."""
    column, refused = TextCells.of(texts).convert(kind)
    found = [plain(value) for value in column], {row: why.reason for row, why in refused.items()}
    assert found == each(kind, texts, read_text, MISSING_WORDS)


JSON_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=4),
    st.sampled_from([value for _, value, *_ in VALUES + WRONG_VALUES]),
    MOMENTS,
)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.one_of(
        st.lists(st.one_of(st.none(), st.floats(), st.integers(-9, 9)), max_size=12),
        st.lists(st.one_of(st.none(), st.booleans()), max_size=12),
        st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=12),
        st.lists(st.one_of(st.none(), MOMENTS), max_size=12),
        st.lists(JSON_VALUES, max_size=12),
    ),
    st.booleans(),
)
def test_value_columns_equal_single_values(kind, values, scattered):
    """A column of values holds and refuses exactly what its values do one by one, also where few rows have one."""
    rows = np.arange(len(values)) * 2 + 1 if scattered else None
    cells = ValueCells(values, rows, len(values) * 2 + 2 if scattered else len(values))
    column, refused = cells.convert(kind)
    wanted, reasons = each(kind, values, read_value, (None,))
    assert {row: why.reason for row, why in refused.items()} == {
        (row * 2 + 1 if scattered else row): reason for row, reason in reasons.items()
    }
    assert [plain(value) for value in (column[rows] if scattered else column)] == wanted
    if scattered:
        assert all(plain(value) is None for value in column[::2])


ARROW = [
    pa.array([1, None, 3]),
    pa.array([2**53 + 1, -5, None], pa.int64()),
    pa.array([1.5, math.nan, math.inf]),
    pa.array([1.5, None, 2.0], pa.float32()),
    pa.array([True, None, False]),
    pa.array(["a", None, ""]),
    pa.array(["a", "b", "a"]).dictionary_encode(),
    pa.array([datetime(2020, 1, 1), None, datetime(2021, 5, 5, 5)], pa.timestamp("ms")),
    pa.array([datetime(2020, 1, 1), None, datetime(2021, 5, 5, 5)], pa.timestamp("us", tz="Europe/Paris")),
    pa.array([1_000_000_007, None, 5], pa.timestamp("ns")),
    pa.array([datetime(2020, 1, 1).date(), None], pa.date32()),
    pa.array([None, None]),
    pa.array([[1], None]),
    pa.array([{"a": 0.5, "b": 0.5}, None]),
    pa.array(["1.5", "2"], pa.large_string()),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("array", ARROW, ids=lambda array: str(array.type).replace(" ", ""))
@pytest.mark.filterwarnings("ignore:Discarding nonzero nanoseconds")
def test_arrow_columns_equal_single_values(kind, array):
    """A column of a Parquet file holds and refuses exactly what its values do one by one."""
    column, refused = ArrowCells(array).convert(kind)
    wanted, reasons = each(kind, array.to_pylist(), read_value, (None,))
    assert {row: why.reason for row, why in refused.items()} == reasons
    assert [plain(value) for value in column] == wanted


SAFE = {"min_value": datetime(1, 1, 3), "max_value": datetime(9999, 12, 29)}


@settings(max_examples=100, deadline=None)
@given(st.datetimes(**SAFE, timezones=st.one_of(st.none(), st.timezones())))
def test_moments_are_utc(moment):
    """A moment with an offset is the same instant in UTC, one without an offset is UTC."""
    assert plain(read_value("moment", moment)) == micro(moment)
    if moment.utcoffset() is None:
        assert plain(read_text("moment", moment.isoformat())) == micro(moment)


def test_json_numbers_round_trip():
    """A float written by the standard library is read back as the same bits."""
    values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0]
    column, _ = ValueCells([json.loads(json.dumps(v)) for v in values], None, 5).convert("number")
    texts, _ = TextCells.of([repr(v) for v in values]).convert("number")
    assert column.tobytes() == texts.tobytes() == np.array(values).tobytes()
