"""Past events to learn again: two bounded stores of feature rows, and draws from them.

`recent` is a ring of the last 1,000 events learned; `sample` a uniform sample of all the past (Vitter 1985, algorithm
R).
A draw depends on the member's seed and on the number of the event that is learned, on nothing else.

Axes: K rows of a chunk, D feature columns, V kinds of label, W label width.
"""

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
import numpy.typing as npt

from streamnn.native.memory import address
from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Array, Arrays, Sized, moved
from streamnn.pool.native import library

RECENT = 1000
SAMPLE = 10_000
NONE = np.iinfo(np.int32).min


def init(width: int, *, values: int, outputs: int, sample: bool) -> Arrays:
    """Return empty stores; the sample has no room where no member draws from it.

    Args:
        width: D.
        values: V, kinds of labels kept beside the class, each in an array of its own.
        outputs: W, how many values one kind has.
        sample: whether a member draws from all the past.
    """
    room = SAMPLE if sample else 0
    return {
        "learned": np.zeros(1, dtype=np.int64),
        "recent": np.zeros((RECENT, width), dtype=np.float32),
        "recent_label": np.zeros(RECENT, dtype=np.int32),
        "recent_y": np.zeros((values, RECENT, outputs)),
        "sample": np.zeros((room, width), dtype=np.float32),
        "sample_label": np.zeros(room, dtype=np.int32),
        "sample_y": np.zeros((values, room, outputs)),
    }


def grow(state: Arrays, old: Sized, new: Sized) -> Arrays:
    """Return stores of wider rows."""
    values, _, outputs = state["recent_y"].shape
    fresh = init(new.width, values=values, outputs=outputs, sample=bool(len(state["sample"])))
    places = {1: old.places(new)}
    return {name: moved(a, fresh[name], places if name in ("recent", "sample") else {}) for name, a in state.items()}


def order(operations: Operations, labelled: npt.NDArray[np.bool_]) -> npt.NDArray[np.int32]:
    """List the rows that are learned, in their order."""
    learns = operations.kind != Kind.PREDICT_OBSERVE
    start, stop = operations.start[learns], operations.stop[learns]
    lengths = stop - start
    if (lengths == 1).all():
        rows = start
    else:
        rows = np.repeat(start - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths) + np.arange(lengths.sum())
    learned: npt.NDArray[np.int32] = rows[labelled[rows]].astype(np.int32)
    return learned


class Draws:
    """The draws of one chunk: which rows are learned again, and what the stores hold afterwards."""

    def __init__(
        self,
        run: Callable[..., None],
        state: Arrays,
        learned: npt.NDArray[np.int32],
        number: npt.NDArray[np.int64],
        *,
        seed: int,
    ) -> None:
        """Take the chunk's rows in the order in which they are learned; `run` is `choose` of an engine."""
        self._run, self._state, self._order, self._number, self._seed = run, state, learned, number, seed
        self._where = np.full(len(state["sample"]), -1, dtype=np.int32)
        self._sampled = False

    def choose(self, again: int, window: int, *, seed: int) -> npt.NDArray[np.int32]:
        """Draw `again` events for each row: [K, again] int32.

        A row of the chunk is its number, an entry of the store -1 - entry; rows that are not learned have `NONE`.

        Args:
            again: how many.
            window: from the last so many (at most 1,000); 0 from all the past.
            seed: the member's.
        """
        out = np.full((len(self._number), again), NONE, dtype=np.int32)
        if not again:
            return out
        if window == 0:
            self._where.fill(-1)
            self._sampled = True
        room = RECENT if window else len(self._where)
        learned = int(self._state["learned"][0])
        self._run(self._order, self._number, learned, window, room, (seed, self._seed), self._where, out)
        return out

    def commit(self, rows: npt.NDArray[np.float32], label: npt.NDArray[np.int32], y: npt.NDArray[np.float64]) -> None:
        """Keep the rows of the chunk that were learned: feature rows [K, D], classes [K], labels [V, K, W]."""
        state, learned = self._state, int(self._state["learned"][0])
        if len(self._where) and not self._sampled:
            self.choose(1, 0, seed=0)
        last = self._order[-RECENT:]
        slots = (learned + len(self._order) - len(last) + np.arange(len(last))) % RECENT
        _put(state, "recent", slots, (rows[last], label[last], y[:, last]))
        slots = np.flatnonzero(self._where >= 0)
        taken = self._where[slots]
        _put(state, "sample", slots, (rows[taken], label[taken], y[:, taken]))
        state["learned"][0] += len(self._order)


def choose(
    learned_rows: npt.NDArray[np.int32],
    number: npt.NDArray[np.int64],
    learned: int,
    window: int,
    room: int,
    seeds: tuple[int, int],
    where: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Draw in C; see replay.c.

    Args:
        learned_rows: rows in the order in which they are learned.
        number: [K] event numbers.
        learned: how many events were learned before.
        window: the last so many, or 0 for the sample of all the past.
        room: entries of the store.
        seeds: the member's and the sample's.
        where: [room] row that lies in a slot of the sample now, -1 = what the store holds; changed in place.
        out: [K, again], filled for the rows learned.
    """
    _choose()(
        len(learned_rows), address(learned_rows), address(number), learned, out.shape[1],
        window, room, *seeds, address(where), address(out),
    )  # fmt: skip


@cache
def _choose() -> Callable[..., None]:
    run = library("replay").choose
    run.restype = None
    integer, pointer, unsigned = ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64
    run.argtypes = [integer, pointer, pointer, integer, integer, integer, integer, unsigned, unsigned, pointer, pointer]
    return run


def _put(state: Arrays, store: str, slots: npt.NDArray[np.int64], values: tuple[Array, Array, Array]) -> None:
    state[store][slots], state[f"{store}_label"][slots], state[f"{store}_y"][:, slots] = values
