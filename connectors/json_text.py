"""Events of streams that have no bytes of their own, as JSON."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import orjson


def json_text(event: Mapping[str, object]) -> bytes:
    """Write an event as a JSON object: moments in ISO 8601, NaN as null, what JSON has no form for as its text."""
    return orjson.dumps(event, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value)
