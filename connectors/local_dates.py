"""Dates as people write them: 31/12/2018 23:45, or 12/31/2018 23:45, with / . or - between.

In: texts. Out: moments in UTC, and which of the two orders a field's texts are in.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal

Order = Literal["day_first", "month_first"]
ORDERS: tuple[Order, ...] = ("day_first", "month_first")

_DATE = re.compile(r"(\d{1,2})([/.-])(\d{1,2})\2(\d{4})(?:[T ](\d{1,2}):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?)?", re.ASCII)


def read_date(order: Order, text: str) -> datetime:
    """Read a date with or without a time of day.

    Raises:
        ValueError: the text is no such date.
    """
    found = _DATE.fullmatch(text)
    if not found:
        raise ValueError("no such form")
    first, _, second, year, hour, minute, second_of, fraction = found.groups()
    day, month = (first, second) if order == "day_first" else (second, first)
    microsecond = int((fraction or "").ljust(6, "0"))
    clock = (int(hour or 0), int(minute or 0), int(second_of or 0), microsecond)
    return datetime(int(year), int(month), int(day), *clock, tzinfo=UTC)


def looks_date(text: str) -> Order | None:
    """Tell whether a text is a date, and an order in which it is one: day first where both will do."""
    return next((order for order in ORDERS if _read(order, text) is not None), None)


def order_of(texts: Sequence[str]) -> Order:
    """Choose the order that fits a field's texts.

    It is the one in which most of them are dates; where both will do, the one in which time moves least from one to the
    next, as streams are mostly in order; and day first where even that is equal.
    """
    return min(ORDERS, key=lambda order: _misfit(order, texts))


def _misfit(order: Order, texts: Sequence[str]) -> tuple[int, timedelta]:
    read = [moment for text in texts if (moment := _read(order, text)) is not None]
    way = sum((abs(b - a) for a, b in pairwise(read)), timedelta())
    return len(texts) - len(read), way


def _read(order: Order, text: str) -> datetime | None:
    try:
        return read_date(order, text)
    except ValueError:
        return None
