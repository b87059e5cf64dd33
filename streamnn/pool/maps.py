"""Causal feature maps and the count members that read the same tables.

An event's features may count its own inputs, never its label. In: raw rows, labels in their order. Out: feature rows
and the log-probabilities of eight members: six of the votes of the nearest 1, 5 and 15 of the last 1,000 labelled events, by Z
and by Q, naive Bayes, and OneR.

    Z       (x - mean) / deviation over all the past, clipped to +-5; a value 10 deviations out is pulled in first
    E.a     the same against exponential mean and deviation, a = .05 and .2, without bias at the start
    waves   sin Z, cos Z, sin 2 Z, cos 2 Z
    Q       1.7 (2 r - 1), r the mid-rank among the last 1,000 values, refreshed every 50 events (sooner at the start)
    target  .7 clip(log p - log prior, +-3), p = (n + prior) / (sum n + 1), n counts of the class in one of 16 bins of
            Q, decayed by .999 a label

Missing values give 0 everywhere and count in nothing. A label that comes late updates the tables with what the event's
row was when it was served, which is kept for the last `pending` events. In a micro-batch each event's inputs count before
the next one's row is made, as they do where labels are late; its label counts at the end.

Axes: K rows, F numeric inputs, P plain inputs, C class capacity, D feature columns, S pending events.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Array, Arrays, RowLayout, Sized, moved
from streamnn.pool.native import call

WINDOW, STRIDE, RING, BINS = 1000, 1024, 1104, 16  # as in maps.c
MEMBERS = ("nn1", "nn5", "nn15", "nn1_rank", "nn5_rank", "nn15_rank", "naive_bayes", "one_rule")


@dataclass(frozen=True, slots=True, eq=False)
class MapRows:
    """What the maps read and write, a row an event.

    Attributes:
        x: [K, F] float64, NaN = missing.
        plain: [K, P] float64, NaN = missing.
        label: [K] int32, -1 = unknown.
        number: [K] int64 event numbers.
        row: [K, D] float32, out.
        rank: [K, F] float32, out: Q, NaN = missing.
        logp: [K, M, C] float64, out: the first eight members are filled.
    """

    x: npt.NDArray[np.float64]
    plain: npt.NDArray[np.float64]
    label: npt.NDArray[np.int32]
    number: npt.NDArray[np.int64]
    row: npt.NDArray[np.float32]
    rank: npt.NDArray[np.float32]
    logp: npt.NDArray[np.float64]


def init(layout: RowLayout, pending: int) -> Arrays:
    """Return the state of maps that have seen nothing; its order is that of `State` in maps.c."""
    f, g, c, d = layout.numeric, layout.keys, layout.classes, layout.width
    return {
        "counts": np.zeros(3, dtype=np.int64),
        "n": np.zeros(f),
        "mean": np.zeros(f),
        "var": np.zeros(f),
        "ema_mean": np.zeros((2, f)),
        "ema_var": np.zeros((2, f)),
        "ema_left": np.ones((2, f)),
        "ring": np.full((f, RING), np.nan),
        "sorted": np.zeros((f, WINDOW)),
        "filled": np.zeros(f, dtype=np.int64),
        "keys_z": np.zeros((g, STRIDE), dtype=np.float32),
        "keys_q": np.zeros((g, STRIDE), dtype=np.float32),
        "labels": np.zeros(STRIDE, dtype=np.int32),
        "table": np.zeros((f, BINS, c)),
        "table_total": np.zeros((f, BINS)),
        "totals": np.zeros(c),
        "scale": np.ones(1),
        "rule_loss": np.zeros(f),
        "rule_count": np.zeros(f),
        "active": np.zeros(c, dtype=np.int8),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_row": np.zeros((pending, d), dtype=np.float32),
        "stored_rank": np.full((pending, f), np.nan, dtype=np.float32),
    }


def grow(state: Arrays, old: Sized, new: Sized) -> Arrays:
    """Return the state with room for more; what is there keeps its meaning."""
    fresh = init(new, len(state["stored"]))
    inputs, classes = np.arange(old.numeric), np.arange(old.classes)
    keys = np.concatenate([np.arange(old.plain), new.plain + inputs])
    axes = {
        **{name: {0: inputs} for name in ("n", "mean", "var", "filled", "rule_loss", "rule_count")},
        **{name: {1: inputs} for name in ("ema_mean", "ema_var", "ema_left")},
        **{name: {0: inputs} for name in ("ring", "sorted", "table_total")},
        **{name: {0: keys} for name in ("keys_z", "keys_q")},
        **{name: {0: classes} for name in ("totals", "active")},
        "table": {0: inputs, 2: classes},
        "stored_row": {1: old.places(new)},
        "stored_rank": {1: inputs},
    }
    return {name: moved(array, fresh[name], axes.get(name, {})) for name, array in state.items()}


def run(state: Arrays, layout: RowLayout, rows: MapRows, operations: Operations) -> None:
    """Run operations in C: fill `row`, `rank` and the first members of `logp`, and move the state on in place."""
    sizes = [
        layout.numeric, layout.plain, layout.classes, layout.width, len(state["stored"]), int(layout.targets),
        rows.logp.shape[1],
    ]  # fmt: skip
    io: list[Array] = [rows.x, rows.plain, rows.label, rows.number, rows.row, rows.rank, rows.logp]
    call("maps", operations, sizes, [*state.values(), *io])
