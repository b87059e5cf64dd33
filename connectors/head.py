"""What the first values of a field show.

In: the values of the first records. Out: `FieldHead`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import numpy as np

from connectors.cells import Refusal
from connectors.errors import SourceError
from connectors.local_dates import ORDERS, looks_date, order_of
from connectors.scalars import UnfitError, kind_of_text, label, looks_moment, looks_whole, read_text, read_value
from connectors.schema import MOST_VALUES, FieldHead, Kind

_ODD_ONES = 10  # one value in so many may be an odd one out


def field_head(name: str, values: Sequence[object], records: int, *, text: bool, sparse: bool) -> FieldHead:
    """Describe a field.

    Args:
        name: of the field.
        values: those that were there, in order.
        records: how many records were looked at.
        text: whether the values are texts of a format that knows nothing else.
        sparse: whether a record without the field means 0.
    """
    zeros = [("0" if text else 0)] if sparse and len(values) < records else []
    shown = [*values, *zeros]
    kind = _kind([_kind_of(value, text) for value in shown], shown)
    distinct: dict[tuple[type, object], object] = {}
    for value in shown:
        for one in _labels(value, kind, text):
            distinct.setdefault((type(one), one), one)
        if len(distinct) >= MOST_VALUES:
            break
    return FieldHead(name, kind, tuple(distinct.values())[:MOST_VALUES], 0 if sparse else records - len(values))


def nothing_readable(source: str, refused: Sequence[Refusal]) -> SourceError:
    """Return the error that tells that none of the first records could be read."""
    counts = Counter(refusal.reason for refusal in refused)
    told = ", ".join(f"{reason} {count}" for reason, count in counts.most_common())
    first = refused[0].detail
    return SourceError(f"none of the first {len(refused)} records of {source} can be read ({told}): {first}")


def _kind(kinds: Sequence[Kind], values: Sequence[object]) -> Kind:
    """Return the kind that all values show but a few odd ones out, which are all different."""
    if not kinds:
        return "category"
    numeric = [kind in ("integer", "number") for kind in kinds]
    for candidate, fits in (
        ("number" if "number" in kinds else "integer", numeric),
        ("boolean", [kind == "boolean" for kind in kinds]),
        ("moment", [kind == "moment" for kind in kinds]),
    ):
        odd = [repr(value) for value, fit in zip(values, fits, strict=True) if not fit]
        if len(odd) * _ODD_ONES <= len(kinds) and len(set(odd)) == len(odd):
            return candidate  # type: ignore[return-value] # each is a kind
    texts = [str(value) for value, kind in zip(values, kinds, strict=True) if kind in ORDERS]
    if texts and (len(kinds) - len(texts)) * _ODD_ONES <= len(kinds):
        return order_of(texts)
    return "category"


def _kind_of(value: object, text: bool) -> Kind:
    if isinstance(value, str):
        if text and looks_whole(value.strip()):
            return "integer"
        if looks_moment(value):
            return "moment"
        order = looks_date(value)
        if order is not None:
            return order
        kind = kind_of_text(value) if text else "category"
        return "category" if kind == "number" and not _fits(kind, value) else kind
    if isinstance(value, bool | np.bool_):
        return "boolean"
    if isinstance(value, int | np.integer):
        return "integer"
    if isinstance(value, float | np.floating | Decimal):
        return "number" if math.isfinite(value) else "category"
    return "moment" if isinstance(value, date) else "category"


def _fits(kind: Kind, text: str) -> bool:
    try:
        read_text(kind, text)
    except UnfitError:
        return False
    return True


def _labels(value: object, kind: Kind, text: bool) -> list[object]:
    """Return a value as a column of classes would hold it, a soft label as the classes it names."""
    if text:
        found = label(str(value))
        return [float(found) if kind == "number" and isinstance(found, str) and _fits(kind, found) else found]
    try:
        found = read_value("class", value)
    except UnfitError:
        return [float(value)] if isinstance(value, float | np.floating | Decimal) else [str(value)]
    return list(found) if isinstance(found, dict) else [found]
