"""One field of a block of records, not yet typed, and how it becomes a column.

In: the texts of a CSV field, or the values of a JSON field. Out: the column of a given kind, and the rows whose value
is not of that kind. The common case is converted in one call of a library; what that refuses goes through the rules of
`scalars`, value by value, and the outcome is the same.

Axes: K rows of a block.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from connectors.records import Column, IntArray, missing
from connectors.scalars import (
    FIRST_S,
    FLOATS,
    LAST_S,
    MISSING_WORDS,
    NUMERIC,
    UnfitError,
    absent,
    kind_of_text,
    kind_of_value,
    read_text,
    read_value,
)
from connectors.schema import MOMENTS, Kind

BoolArray = npt.NDArray[np.bool_]
Reader = Callable[[Kind, Any], object]  # `read_text` or `read_value`
_AS_THEY_ARE: dict[Kind, frozenset[type]] = {"category": frozenset({str}), "class": frozenset({str, int, bool})}
_PLAIN = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"  # the numbers that Arrow reads as `scalars` does


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a record cannot be used: a reason for counting, and a sentence (of a field: what goes on after its name)."""

    reason: str
    detail: str


class Cells(Protocol):
    """One field of a block."""

    def convert(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:
        """Return the column [K], and the rows whose value is not of that kind (missing in the column)."""

    def present(self) -> BoolArray:
        """Return where there is a value, [K]."""

    def kind_at(self, row: int) -> tuple[Kind, Refusal | None]:
        """Return the kind that the value of this row shows, and why it is not even of that kind, if so."""

    def tail(self, first: int) -> "Cells":
        """Return the rows from `first` on."""

    def sample(self) -> list[object]:
        """Return the values that are there as the stream has them."""


class TextCells:
    """A field whose values are texts.

    Args:
        texts: [K] Arrow strings; null = missing.
    """

    def __init__(self, texts: Any) -> None:
        self._texts = texts

    @classmethod
    def of(cls, texts: Sequence[str]) -> "TextCells":
        """Take texts in which missing values are still words."""
        return cls(pa.array([None if text in MISSING_WORDS else text for text in texts], type=pa.string()))

    def convert(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:  # noqa: D102 - as the protocol says
        column = self._numbers() if kind in NUMERIC else self._moments() if kind == "moment" else None
        if column is None:
            return self._by_word(kind)
        if kind in NUMERIC:
            return column, _check_numbers(kind, column, self._text_at, read_text)
        return column, {}

    def present(self) -> BoolArray:  # noqa: D102
        return _bools(pc.is_valid(self._texts))

    def kind_at(self, row: int) -> tuple[Kind, Refusal | None]:  # noqa: D102
        text = self._text_at(row)
        return _shown(kind_of_text(text), text, read_text)

    def tail(self, first: int) -> "TextCells":  # noqa: D102
        return TextCells(self._texts.slice(first))

    def sample(self) -> list[object]:  # noqa: D102
        texts: list[object] = pc.drop_null(self._texts).to_pylist()
        return texts

    def _text_at(self, row: int) -> str:
        text: str = self._texts[row].as_py()
        return text

    def _numbers(self) -> Column | None:
        """Read plain numbers in one go; None if others are among them."""
        try:
            column = _numpy(pc.cast(self._texts, pa.float64()))
        except pa.ArrowInvalid:
            return None
        if not self._texts.null_count and _sum_is_finite(column):
            return column
        # Arrow also reads spellings of NaN that we do not
        return column if int(np.isnan(column).sum()) == self._texts.null_count else None

    def _moments(self) -> Column | None:
        """Read moments, all in ISO 8601 without offset or all in seconds, in one go; None if others are among them."""
        try:
            column = _numpy(pc.cast(self._texts, pa.timestamp("us")))
        except pa.ArrowInvalid:
            seconds = self._numbers()
            if seconds is None:
                return None
            return None if ((seconds < FIRST_S) | (seconds >= LAST_S)).any() else _moments_of_seconds(seconds)
        # Arrow reads a year 0, which Python has not
        return None if (column < np.datetime64(int(FIRST_S), "s")).any() else column

    def _by_word(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:
        """Read each distinct text once."""
        texts = self._texts
        if kind in NUMERIC:
            return self._mixed(kind)
        coded = pc.dictionary_encode(texts)
        words = coded.dictionary.to_pylist()
        read, refused = _each(kind, words, read_text)
        values = _column(kind, [*read, absent(kind)])
        codes = _numpy(pc.fill_null(coded.indices, len(words)))
        rows = np.flatnonzero(np.isin(codes, list(refused))) if refused else ()
        return values[codes], {int(row): refused[int(codes[row])] for row in rows}

    def _mixed(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:
        """Read numbers of which some are not plain: those one by one."""
        plain = pc.match_substring_regex(self._texts, _PLAIN)
        column = _numpy(pc.cast(pc.if_else(plain, self._texts, None), pa.float64()))
        refused = _check_numbers(kind, column, self._text_at, read_text)
        for row in np.flatnonzero(~_bools(pc.fill_null(plain, True))):
            read, why = _each(kind, [self._text_at(int(row))], read_text)
            column[row] = read[0]
            refused.update({int(row): refusal for refusal in why.values()})
        return column, refused


class ValueCells:
    """A field whose values are Python values.

    Args:
        values: [K], or only those of `rows`; None, NaN and "" = missing.
        rows: where the values stand, ascending; None = everywhere.
        count: K.
    """

    def __init__(self, values: Sequence[object], rows: IntArray | None, count: int) -> None:
        self._values, self._rows, self._count = values, rows, count

    def convert(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:  # noqa: D102
        column, refused = self._dense(kind)
        if self._rows is None:
            return column, refused
        wide = missing(column.dtype, self._count)
        wide[self._rows] = column
        return wide, {int(self._rows[i]): why for i, why in refused.items()}

    def present(self) -> BoolArray:  # noqa: D102
        here = np.fromiter((not _missing(value) for value in self._values), dtype=bool, count=len(self._values))
        if self._rows is None:
            return here
        wide = np.zeros(self._count, dtype=bool)
        wide[self._rows] = here
        return wide

    def kind_at(self, row: int) -> tuple[Kind, Refusal | None]:  # noqa: D102
        value = self._values[row if self._rows is None else int(np.searchsorted(self._rows, row))]
        return _shown(kind_of_value(value), value, read_value)

    def tail(self, first: int) -> "ValueCells":  # noqa: D102
        if self._rows is None:
            return ValueCells(self._values[first:], None, self._count - first)
        cut = int(np.searchsorted(self._rows, first))
        return ValueCells(self._values[cut:], self._rows[cut:] - first, self._count - first)

    def sample(self) -> list[object]:  # noqa: D102
        return [value for value in self._values if not _missing(value)]

    def _dense(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:
        types = set(map(type, self._values)) - {type(None)}
        if kind in NUMERIC and types <= {int, float}:
            column = self._floats()
            if column is not None:
                return column, _check_numbers(kind, column, self._values.__getitem__, read_value)
        elif kind == "boolean" and types <= {bool}:
            return np.array(self._values, dtype=np.float64), {}
        elif kind == "moment" and types <= {str} and "" not in self._values:
            return TextCells(pa.array(self._values, type=pa.string())).convert(kind)
        elif types <= _AS_THEY_ARE.get(kind, frozenset()) and "" not in self._values:
            return _column(kind, self._values), {}
        read, refused = _each(kind, self._values, read_value)
        return _column(kind, read), refused

    def _floats(self) -> Column | None:
        try:
            return np.array(self._values, dtype=np.float64)
        except OverflowError:  # a whole number beyond the largest float
            return None


class ArrowCells:
    """A field of a Parquet file.

    Args:
        array: [K] an Arrow array of any type; null and NaN = missing.
    """

    def __init__(self, array: Any) -> None:
        self._array = array

    def convert(self, kind: Kind) -> tuple[Column, dict[int, Refusal]]:  # noqa: D102
        array, type_ = self._array, self._array.type
        if kind in NUMERIC and (pa.types.is_integer(type_) or pa.types.is_floating(type_)):
            column = _numpy(pc.cast(array, pa.float64(), safe=False))
            return column, _check_numbers(kind, column, lambda row: array[row].as_py(), read_value)
        if kind in MOMENTS and pa.types.is_timestamp(type_) and type_.unit in ("s", "ms", "us"):
            return _numpy(pc.cast(array, pa.timestamp("us"), safe=False)), {}
        if kind in ("category", "class") and pa.types.is_string(type_):
            coded = pc.dictionary_encode(array)
            words = [word or None for word in coded.dictionary.to_pylist()]
            return _column(kind, [*words, None])[_numpy(pc.fill_null(coded.indices, len(words)))], {}
        return self._plain().convert(kind)

    def present(self) -> BoolArray:  # noqa: D102
        if pa.types.is_integer(self._array.type):
            return _bools(pc.is_valid(self._array))
        return self._plain().present()

    def kind_at(self, row: int) -> tuple[Kind, Refusal | None]:  # noqa: D102
        value = self._array[row].as_py()
        return _shown(kind_of_value(value), value, read_value)

    def tail(self, first: int) -> "ArrowCells":  # noqa: D102
        return ArrowCells(self._array.slice(first))

    def sample(self) -> list[object]:  # noqa: D102
        return self._plain().sample()

    def _plain(self) -> ValueCells:
        return ValueCells(self._array.to_pylist(), None, len(self._array))


def cells_of(rows: Sequence[dict[str, object]]) -> dict[str, ValueCells]:
    """Turn K records of named values into fields, in order of appearance."""
    count = len(rows)
    if not count:
        return {}
    if set(map(len, rows)) == {len(rows[0])}:
        try:
            return {name: ValueCells(list(map(itemgetter(name), rows)), None, count) for name in rows[0]}
        except KeyError:  # as many, but not the same
            return _scattered(rows)
    return _scattered(rows)


def _scattered(rows: Sequence[dict[str, object]]) -> dict[str, ValueCells]:
    """Turn records that have not all the same fields into fields."""
    count, places = len(rows), dict[str, tuple[list[int], list[object]]]()
    for row, record in enumerate(rows):
        for name, value in record.items():
            at, values = places.setdefault(name, ([], []))
            at.append(row)
            values.append(value)
    return {
        name: ValueCells(values, None if len(at) == count else np.array(at, dtype=np.int64), count)
        for name, (at, values) in places.items()
    }


def _shown(kind: Kind, value: object, read: Reader) -> tuple[Kind, Refusal | None]:
    return kind, _each(kind, [value], read)[1].get(0)


def _each(kind: Kind, values: Iterable[Any], read: Reader) -> tuple[list[object], dict[int, Refusal]]:
    """Read values one by one; what is refused counts as missing."""
    column, refused = list[object](), dict[int, Refusal]()
    for row, value in enumerate(values):
        try:
            column.append(absent(kind) if value is None else read(kind, value))
        except UnfitError as problem:
            column.append(absent(kind))
            refused[row] = Refusal(problem.reason, problem.why)
    return column, refused


def _check_numbers(kind: Kind, column: Column, value_at: Callable[[int], Any], read: Reader) -> dict[int, Refusal]:
    """Find what is infinite, has a fraction or lies outside 0..1 where it must not; it becomes missing there."""
    if kind in ("number", "value") and _sum_is_finite(column):
        return {}
    bad = np.isinf(column)
    if kind == "integer":
        bad |= (column != np.floor(column)) & ~np.isnan(column)
    elif kind == "degree":
        bad |= (column < 0.0) | (column > 1.0)
    rows = np.flatnonzero(bad)
    column[rows] = np.nan
    _, refused = _each(kind, [value_at(int(row)) for row in rows], read)
    return {int(rows[i]): why for i, why in refused.items()}


def _sum_is_finite(column: Column) -> bool:
    """Tell in one pass, as is usual, that no value is infinite or NaN; False leaves it open."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(column.sum()))


def _moments_of_seconds(seconds: Column) -> Column:
    microseconds = np.rint(np.nan_to_num(seconds) * 1e6).astype(np.int64).astype("datetime64[us]")
    return np.where(np.isnan(seconds), np.datetime64("NaT", "us"), microseconds)


def _column(kind: Kind, values: Sequence[object]) -> Column:
    if kind in FLOATS:
        return np.array(values, dtype=np.float64)
    if kind in MOMENTS:
        return np.array(values, dtype="datetime64[us]")
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _missing(value: object) -> bool:
    return value is None or value == "" or value != value  # NaN is not equal to itself


def _numpy(array: Any) -> Column:
    """Return an Arrow array as a NumPy array of its own, null as NaN or NaT."""
    column: Column = array.to_numpy(zero_copy_only=False)
    return column if column.flags.writeable else column.copy()


def _bools(array: Any) -> BoolArray:
    values: BoolArray = np.asarray(array.to_numpy(zero_copy_only=False), dtype=bool)
    return values
