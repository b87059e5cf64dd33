"""What one value means: the rules by which a text or a Python value becomes a number, a category, a class or a moment.

In: one text of a CSV field, or one value of a JSON record. Out: what the field's column holds for it, or `UnfitError`.
The columnar ways in `cells` agree with these rules on whatever they accept, and come here with what they do not.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np

from connectors.local_dates import Order, read_date
from connectors.schema import MOMENTS, Kind

# one list for every kind, so that a text is missing or not whatever its field turns out to be
MISSING_WORDS = ("", "null", "NULL", "Null", "nan", "NaN", "NAN")
NUMERIC: frozenset[Kind] = frozenset({"number", "value", "integer", "degree"})
FLOATS: frozenset[Kind] = NUMERIC | {"boolean"}

# Python's float() reads more than any data format means: underscores, digits of every script
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(?:inity)?", re.ASCII | re.IGNORECASE)
_WHOLE = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
_WHOLE_LABEL = re.compile(r"(0|-?[1-9]\d{0,17})(?:\.0*)?", re.ASCII)
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?\s?(?:Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
_TRUTH = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}

_MOMENTS = "ISO 8601 (2016-04-01T12:30:00Z) or seconds since 1970"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_S, LAST_S = -62_135_596_800.0, 253_402_300_800.0  # years 1 to 9999, seconds since 1970
_SUM_TOLERANCE = 0.01  # probabilities of a soft label may have been rounded


class UnfitError(Exception):
    """A value cannot be what its field's kind says.

    Attributes:
        reason: short and stable, for counting.
        why: goes on after "field 'name' ".
    """

    def __init__(self, reason: str, why: str) -> None:
        super().__init__(why)
        self.reason, self.why = reason, why


def read_text(kind: Kind, text: str) -> object:
    """Read a text that is not one of `MISSING_WORDS`.

    Returns:
        float, str, a label or datetime64[us]; NaN where only blanks stand for a number or moment.

    Raises:
        UnfitError: the text is not of that kind.
    """
    if kind == "category":
        return text
    if kind == "class":
        return label(text)
    bare = text.strip()
    if kind == "moment":
        return _moment_of_text(bare)
    if kind == "day_first" or kind == "month_first":
        return _moment_of_date(kind, bare)
    if not bare:
        return math.nan
    word = _TRUTH.get(bare.lower()) if kind in ("boolean", "degree") else None
    if word is not None:
        return word
    if _NUMBER.fullmatch(bare):
        return _numeric(kind, float(bare), bare)
    if _INFINITE.fullmatch(bare):
        raise UnfitError("not_finite", f"is {bare!r}, but must be finite")
    raise UnfitError("wrong_type", f"is {_short(text)}, expected {_expected(kind)}")


def read_value(kind: Kind, value: object) -> object:
    """Read a Python value as JSON, Parquet or river gives it; None and empty text are missing.

    Returns:
        float (NaN = missing), str or label or {label: probability} (None = missing), or datetime64[us] (NaT = missing).

    Raises:
        UnfitError: the value is not of that kind.
    """
    if value is None or value == "" or (isinstance(value, float | np.floating) and math.isnan(value)):
        return absent(kind)
    plain = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, Decimal):
        plain = float(plain)
    if kind in MOMENTS:
        if kind != "moment" and isinstance(plain, str):
            return read_text(kind, plain)
        return _moment_of_value(plain)
    if kind == "category":
        return _category(plain)
    if kind == "class":
        return _class(plain)
    if isinstance(plain, bool):
        if kind in ("boolean", "degree"):
            return float(plain)
    elif isinstance(plain, int | float):
        try:
            return _numeric(kind, float(plain), plain)
        except OverflowError:
            raise UnfitError("not_finite", "is a whole number too large for a float") from None
    elif isinstance(plain, str) and kind == "boolean" and plain.lower() in (*_TRUTH, "0", "1"):
        return _TRUTH.get(plain.lower(), float(plain == "1"))
    raise UnfitError("wrong_type", f"is {_short(value)}, expected {_expected(kind)}")


def absent(kind: Kind) -> object:
    """Return what a column of this kind holds for a missing value."""
    return math.nan if kind in FLOATS else np.datetime64("NaT", "us") if kind in MOMENTS else None


def label(text: str) -> object:
    """Return a text as a class label: a plain whole number is an int, true or false a bool, all else a str.

    3.0 is the int 3 as in JSON: writers that hold labels as floats write it so.
    """
    whole = _WHOLE_LABEL.fullmatch(text)
    if whole:
        return int(whole[1])
    word = text.lower()
    return word == "true" if word in ("true", "false") else text


def kind_of_text(text: str) -> Kind:
    """Return the kind that the first text of an undeclared field fixes for it."""
    bare = text.strip()
    if bare.lower() in ("true", "false"):
        return "boolean"
    return "number" if _NUMBER.fullmatch(bare) or _INFINITE.fullmatch(bare) else "category"


def kind_of_value(value: object) -> Kind:
    """Return the kind that the first value of an undeclared field fixes for it."""
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | float | np.number | Decimal):
        return "number"
    return "moment" if isinstance(value, date) else "category"


def looks_whole(text: str) -> bool:
    """Tell whether a text is a plain whole number."""
    return _WHOLE.fullmatch(text) is not None


def looks_moment(text: str) -> bool:
    """Tell whether a text is a moment in ISO 8601."""
    if not _MOMENT.fullmatch(text):
        return False
    try:
        _moment_of_text(text)
    except UnfitError:
        return False
    return True


def _numeric(kind: Kind, number: float, shown: object) -> float:
    if math.isinf(number):
        raise UnfitError("not_finite", f"is {_short(shown)}, but must be finite")
    if kind == "integer" and not number.is_integer():
        raise UnfitError("not_integer", f"is {shown!r}, but must have no fraction; declare it as number to allow one")
    if kind == "boolean" and number not in (0.0, 1.0):
        raise UnfitError("wrong_type", f"is {shown!r}, expected {_expected(kind)}")
    if kind == "degree" and not 0.0 <= number <= 1.0:
        raise UnfitError("out_of_range", f"is {shown!r}, but must lie between 0 and 1")
    return number


def _category(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isinf(value):
        raise UnfitError("not_finite", f"is {value!r}, but must be finite")
    if isinstance(value, int | float | date):
        return str(value)
    raise UnfitError("wrong_type", f"is {_short(value)}, expected text; name it in ignore if it is not to be used")


def _class(value: object) -> object:
    if isinstance(value, str | int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return _soft(value)
    raise UnfitError("wrong_type", f"is {_short(value)}, expected a class label: text, a whole number, true or false")


def _soft(likeness: Mapping[object, object]) -> dict[str, float] | None:
    """Return the probabilities of a soft label, scaled to sum up to exactly 1; None if there are none."""
    if not likeness:
        return None
    total = 0.0
    for name, p in likeness.items():
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0.0 <= p <= 1.0:
            raise UnfitError("out_of_range", f"gives class {name!r} the probability {_short(p)}, expected 0 to 1")
        total += p
    if abs(total - 1.0) > _SUM_TOLERANCE:
        raise UnfitError("out_of_range", f"has probabilities that sum up to {total!r}, expected 1")
    return {str(name): float(p) / total for name, p in likeness.items() if isinstance(p, int | float)}


def _moment_of_text(text: str) -> np.datetime64:
    if not text:
        return np.datetime64("NaT", "us")
    if _NUMBER.fullmatch(text):
        return _moment_of_seconds(float(text), text)
    if not _MOMENT.fullmatch(text):
        raise UnfitError("bad_moment", f"is {_short(text)}, expected {_MOMENTS}")
    try:
        # fromisoformat knows no blank before the offset
        return _moment_of_datetime(datetime.fromisoformat(re.sub(r"\s(?=[Z+-])", "", text)))
    except (ValueError, OverflowError) as problem:
        raise UnfitError("bad_moment", f"is {text!r}, but there is no such day or time ({problem})") from None


def _moment_of_date(order: Order, text: str) -> np.datetime64:
    if not text:
        return np.datetime64("NaT", "us")
    try:
        return _moment_of_datetime(read_date(order, text))
    except ValueError:
        form = "31/12/2018 23:45" if order == "day_first" else "12/31/2018 23:45"
        why = (
            f"is {_short(text)}, expected a date such as {form}; declare another kind if the field holds something else"
        )
        raise UnfitError("bad_moment", why) from None


def _moment_of_value(value: object) -> np.datetime64:
    if isinstance(value, str):
        return _moment_of_text(value.strip())
    if isinstance(value, datetime):
        return _moment_of_datetime(value)
    if isinstance(value, date):
        return np.datetime64(value, "us")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _moment_of_seconds(value, value)
    raise UnfitError("bad_moment", f"is {_short(value)}, expected {_MOMENTS}")


def _moment_of_datetime(moment: datetime) -> np.datetime64:
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return np.datetime64((aware - _EPOCH) // timedelta(microseconds=1), "us")


def _moment_of_seconds(seconds: float, shown: object) -> np.datetime64:
    if not FIRST_S <= seconds < LAST_S:
        raise UnfitError("bad_moment", f"is {_short(shown)}, but seconds since 1970 must fall into the years 1 to 9999")
    return np.datetime64(int(np.rint(float(seconds) * 1e6)), "us")


def _expected(kind: Kind) -> str:
    return {
        "integer": "a whole number",
        "boolean": "true, false, yes, no, 0 or 1",
        "degree": "a number from 0 to 1, true or false",
    }.get(kind, "a number")


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
