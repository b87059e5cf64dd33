"""Dicts and frames to columns: the kind of a field follows from its values.

Numbers and booleans are numeric, strings (and all else) categories, `datetime`s moments; None and NaN are missing. A field
without any value says nothing of its kind, and is left out.

Axes: K events.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from streamnn.features.index import Column
from streamnn.operations import FloatArray

NUMBERS = (bool, int, float, np.number, np.bool_)


def event_columns(event: Mapping[Any, Any]) -> dict[str, Column]:
    """Return the columns [1] of one event, in its order."""
    return {str(name): _column([value]) for name, value in event.items() if value is not None}


def frame_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Return the columns [K] of a frame, in its order."""
    listed = {str(name): frame[name].tolist() for name in frame}
    return {name: _column(values) for name, values in listed.items() if any(v is not None for v in values)}


def number_column(values: Sequence[Any]) -> FloatArray:
    """Return numbers as a column, None as NaN."""
    return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def label_column(values: Sequence[Any]) -> Column:
    """Return classes or categories as a column, NumPy's scalars as Python's."""
    column = np.empty(len(values), dtype=object)
    column[:] = [v.item() if isinstance(v, np.generic) else v for v in values]
    return column


def _column(values: list[Any]) -> Column:
    present = [v for v in values if v is not None]
    if all(isinstance(v, NUMBERS) for v in present):
        return number_column(values)
    if all(isinstance(v, dt.date) for v in present):
        return np.array(values, dtype="datetime64[us]")
    return label_column(values)
