"""What past values of a target tell: bases, lags, encodings, neighbours, and the units in which networks learn.

    base      running mean, last value or last value of each field's category: the later ones of this list where their
              exponential (.01) absolute error is clearly less; the residual is r = y - base
    lags      last, E.05, E.2 and base in deviations of y; last - E.2, last - last but one, E.2 - E.05 in root mean
              squares of r; per field: last and E.2 of its category, their difference, and last of it - last
    changes   of each input since the event before, in root mean squares of its changes (over 1,000 events)
    encodings decayed mean of y and of r in 16 bins of each input's rank, and per category, shrunk by one event
    members   mean, last, E.05, E.2, last and E.2 of each field's category, moved; means of y, and of r on top of the base,
              of the nearest 1, 5, 15 of the last 1,000 events on Z, on Q, and on Z with lags
    moved     per field: last of its category + the median of how far the category's values were from its last one when that
              was as old: of 64 with an age of the same power of 2, at the start 8 that are 0 (the 24 powers from 2^0 on;
              the first 128 categories). Age is in seconds where events have a moment, else in events
    outliers  after 30 values, one d > 10 deviations from the mean is pulled in to 10 deviations, beyond d = 100 to
              1,000 / d, so that what is far out counts as if nothing had been; three in a row are another scale, and the
              statistics begin again

Axes: K rows (K fields in sizes), F numeric inputs, P plain inputs, D feature columns, M members, S pending events.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Array, Arrays, ValueLayout, moved
from streamnn.pool.native import call

STRIDE, BINS = 1024, 16  # as in windows.c
AGES, MOVES, STILL, MOVERS = 24, 64, 8, 128  # as in values.c
FloatArray = npt.NDArray[np.float64]


def member_names(fields: int) -> tuple[str, ...]:
    """Names of this part's members in their order."""
    nearest = [f"nn{k}{kind}{keys}" for keys in ("", "_rank", "_lag") for kind in ("", "_residual") for k in (1, 5, 15)]
    by_field = [f"{kind}_{k}" for kind in ("last", "mean", "moved") for k in range(fields)]
    return ("mean", "last", "slow_mean", "fast_mean", *by_field, *nearest)


def past_members(fields: int) -> int:
    """How many of them, the first, say what the past's own values are."""
    return 4 + 3 * fields


@dataclass(frozen=True, slots=True, eq=False)
class ValueRows:
    """What this part reads and writes, a row an event.

    Attributes:
        plain: [K, P] float64.
        field: [P] int32, the field of each plain input.
        y: [K] float64, NaN = unknown.
        number: [K] int64.
        row: [K, D] float32; the maps have filled the first columns, lags, encodings and changes are written here.
        rank: [K, F] float32.
        said: [K, M] float64, out: the first members.
        now: [K, 4] float64, out: mean, deviation, residual scale and base when the row was served.
        then: [K, 3] float64, out: mean, deviation, residual scale when it was learned.
        used: [K, 2] float64, out: value and residual as they count; NaN where there is none.
        age: [K, fields] int64, out: the list of moves that fits the row's category and the age of its last value; -1 = none.
        moment: [K] float64, seconds; NaN = unknown. No rows: age is counted in events.
    """

    plain: FloatArray
    field: npt.NDArray[np.int32]
    y: FloatArray
    number: npt.NDArray[np.int64]
    row: npt.NDArray[np.float32]
    rank: npt.NDArray[np.float32]
    said: FloatArray
    now: FloatArray
    then: FloatArray
    used: FloatArray
    age: npt.NDArray[np.int64]
    moment: FloatArray


def init(layout: ValueLayout, members: int, pending: int) -> Arrays:
    """Return the state of a target that has not been seen; its order is that of `State` in values.c."""
    f, p, k, g = layout.numeric, layout.plain, layout.fields, layout.keys
    return {
        "counts": np.zeros(3, dtype=np.int64),
        "level": np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=np.float64),
        "residual": np.array([0.0, 0.0, 1.0]),
        "base_error": np.concatenate([np.zeros(2 + k), np.ones(2 + k)]),
        "key_last": np.zeros(p),
        "key_mean": np.zeros(p),
        "key_left": np.ones(p),
        "bins": np.zeros((f, BINS, 3)),
        "cells": np.zeros((p, 3)),
        "scale": np.ones(1),
        "keys_z": np.zeros((g, STRIDE), dtype=np.float32),
        "keys_q": np.zeros((g, STRIDE), dtype=np.float32),
        "keys_l": np.zeros((g + layout.lags, STRIDE), dtype=np.float32),
        "past": np.zeros((STRIDE, 2)),
        "before": np.zeros((f, 3)),
        "clock": np.zeros(1, dtype=np.int64),
        "key_moment": np.zeros(p),
        "moves": np.zeros((min(p, MOVERS), AGES, MOVES)),
        "moved": np.full((min(p, MOVERS), AGES), STILL),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_row": np.zeros((pending, layout.width), dtype=np.float32),
        "stored_rank": np.full((pending, f), np.nan, dtype=np.float32),
        "stored_said": np.zeros((pending, members + 1 + k)),
    }


def grow(state: Arrays, old: ValueLayout, new: ValueLayout, members: int) -> Arrays:
    """Return the state with room for more inputs. The number of fields must stay."""
    fresh = init(new, members, len(state["stored"]))
    inputs, plain = np.arange(old.numeric), np.arange(old.plain)
    keys = np.concatenate([plain, new.plain + inputs])
    axes = {
        **{name: {0: plain} for name in ("key_last", "key_mean", "key_left", "key_moment", "cells")},
        **{name: {0: plain[:MOVERS]} for name in ("moves", "moved")},
        **{name: {0: inputs} for name in ("bins", "before")},
        **{name: {0: keys} for name in ("keys_z", "keys_q")},
        "keys_l": {0: np.concatenate([keys, new.keys + np.arange(old.lags)])},
        "stored_row": {1: old.places(new)},
        "stored_rank": {1: inputs},
    }
    return {name: moved(array, fresh[name], axes.get(name, {})) for name, array in state.items()}


def run(state: Arrays, layout: ValueLayout, rows: ValueRows, operations: Operations) -> None:
    """Run operations in C: complete `row`, fill the outputs, and move the state on in place."""
    sizes = [
        layout.numeric, layout.plain, layout.fields, layout.width, layout.first_lag, rows.said.shape[1],
        len(state["stored"]), int(len(rows.moment) > 0),
    ]  # fmt: skip
    io: list[Array] = [
        rows.plain, rows.field, rows.y, rows.number, rows.row, rows.rank, rows.said, rows.now, rows.then, rows.used,
        rows.age, rows.moment,
    ]  # fmt: skip
    call("values", operations, sizes, [*state.values(), *io])
