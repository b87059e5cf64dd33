"""Growing a tree as `trees.c` does, in NumPy.

Axes: N draws, G inputs, M columns that a tree may split by.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from streamnn.pool.forest import LEAF, TREES
from streamnn.pool.layout import Arrays
from streamnn.pool.reference.common import Vector, mixed

COLUMNS = 32  # as in trees.c
EVERY, SOON, START = 100, 10, 400
Part = npt.NDArray[np.int64]


def trees_of(state: Arrays) -> int:
    """How many trees there are, of either kind."""
    return min(int(state["count"][1]), TREES)


def draws(stored: int, most: int, seed: int) -> Part:
    """Draw as many events as are stored, `most` at most, with replacement."""
    base = mixed(seed + 1)
    return np.array([mixed(base + i) % stored for i in range(min(stored, most))], dtype=np.int64)


def chosen(values: Vector, plain: int, seed: int) -> list[int]:
    """List the columns of the draws' inputs [N, G] that a tree may split by, in the order in which they are tried."""
    half, known = COLUMNS // 2, np.nan_to_num(values, nan=-np.inf)
    varying = np.flatnonzero((known != known[0]).any(axis=0)).tolist()
    flags, numbers = [c for c in varying if c < plain], [c for c in varying if c >= plain]
    some = len(flags)
    if len(varying) > COLUMNS and some >= half:
        some = COLUMNS - len(numbers) if len(numbers) < half else half
    return [
        *_taken(flags, some, mixed(seed + 2)),
        *_taken(numbers, min(len(numbers), COLUMNS - some), mixed(seed + 3)),
    ]


def _taken(found: list[int], many: int, seed: int) -> list[int]:
    taken = []
    for i in range(many):
        j = i + mixed(seed + i) % (len(found) - i) if many < len(found) else i
        taken.append(found[j])
        found[j] = found[i]
    return taken


def leaf_of(feature: npt.NDArray[np.int32], cut: Vector, left: npt.NDArray[np.int32], row: Vector) -> int:
    """The leaf at which a row [G] ends."""
    node = 0
    while feature[node] >= 0:
        node = int(left[node]) + bool(row[feature[node]] > cut[node])
    return node


class Splits:
    """A tree in the making.

    Args:
        feature, cut, left: of its nodes, filled here.
        values: [N, G] inputs of the draws.
        columns: which may be split by.
    """

    def __init__(
        self,
        feature: npt.NDArray[np.int32],
        cut: Vector,
        left: npt.NDArray[np.int32],
        values: Vector,
        columns: list[int],
    ) -> None:
        self._feature, self._cut, self._left = feature, cut, left
        self._values, self._columns, self._nodes = values, columns, 1

    def grow(
        self,
        floor: Callable[[Part], float],
        whole: Callable[[Part], float],
        scores: Callable[[Part, float], Vector],
        leaf: Callable[[Part], int],
    ) -> None:
        """Grow depth first, left before right.

        Args:
            floor: what a split of these draws has to exceed; they are ordered by the first column.
            whole: what `scores` has to know of all of them, in the same order.
            scores: of draws in order, what a split before each of them but the first is worth.
            leaf: writes a leaf of these draws, ordered by the first column, and returns where.
        """
        waiting = [(0, np.arange(len(self._values)))]
        while waiting:
            node, part = waiting.pop()
            ordered = self._sorted(part, self._columns[0]) if self._columns else part
            found = self._best(part, floor(ordered), whole(ordered), scores)
            if found is None:
                self._feature[node], self._left[node] = -1, leaf(ordered)
                continue
            column, low, high = found
            cut = -np.inf if np.isnan(low) else low + 0.5 * (high - low)
            self._feature[node], self._cut[node], self._left[node] = column, cut if cut < high else low, self._nodes
            right = self._values[part, column] >= high
            waiting += [(self._nodes + 1, part[right]), (self._nodes, part[~right])]
            self._nodes += 2

    def _sorted(self, part: Part, column: int) -> Part:
        value = self._values[part, column]
        return part[np.argsort(np.where(np.isnan(value), -np.inf, value), kind="stable")]

    def _best(
        self, part: Part, floor: float, whole: float, scores: Callable[[Part, float], Vector]
    ) -> tuple[int, float, float] | None:
        """The column and the two values between which to split."""
        found = None
        if len(part) < 2 * LEAF:
            return None
        for column in self._columns:
            order = self._sorted(part, column)
            ordered, score = self._values[order, column], scores(order, whole)
            same = (ordered[1:] == ordered[:-1]) | (np.isnan(ordered[1:]) & np.isnan(ordered[:-1]))
            score[same] = -np.inf
            score[: LEAF - 1] = score[len(score) - LEAF + 1 :] = -np.inf
            at = int(np.argmax(score))
            if score[at] > floor:
                found, floor = (column, float(ordered[at]), float(ordered[at + 1])), float(score[at])
        return found
