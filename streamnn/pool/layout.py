"""Where things lie in a feature row, and how arrays move when there is more to hold.

A feature row is [plain P][Z F][E.05 F][E.2 F][sin F][cos F][sin 2 F][cos 2 F][target F V], with V = 1 column for two
classes and V = C otherwise. Blocks keep their order when they grow, so sums in the order of columns keep their bits.

Axes: F numeric inputs, P plain inputs (0/1 of a category), C class capacity, D columns of a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
IntArray = npt.NDArray[np.int64]

PER_INPUT = 7  # Z, two exponential scores, four waves
TARGET_COLUMNS = 200  # above this many, target encodings are left out: they would cost more than all the rest


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes of a pool's arrays.

    Attributes:
        numeric: F.
        plain: P.
        classes: C; 0 for a pool without classes.
        targets: whether a row holds target encodings.
    """

    numeric: int
    plain: int
    classes: int
    targets: bool

    @property
    def views(self) -> int:
        """V: columns that one quantity per class takes."""
        return 1 if self.classes == 2 else self.classes

    @property
    def keys(self) -> int:
        """Entries of a neighbour key: the plain inputs and Z, or Q."""
        return self.plain + self.numeric

    @property
    def lean(self) -> int:
        """Columns in front of the target encodings."""
        return self.plain + PER_INPUT * self.numeric

    @property
    def width(self) -> int:
        """D: columns of a feature row."""
        return self.lean + (self.numeric * self.views if self.targets else 0)

    def holds(self, *, numeric: int, plain: int, classes: int) -> bool:
        """Tell whether so much fits."""
        return numeric <= self.numeric and plain <= self.plain and classes <= self.classes

    def grown(self, *, numeric: int, plain: int, classes: int, targets: bool) -> "Layout":
        """Return a layout with room for so much, and at least for what this one has."""
        return Layout(
            self.numeric if numeric <= self.numeric else room_for(numeric),
            self.plain if plain <= self.plain else room_for(plain),
            max(self.classes, classes),
            targets,
        )

    def places(self, larger: "Layout") -> IntArray:
        """Tell where each column of a row lies in a row of a larger layout: [D], -1 for one that is left out."""
        parts = [np.arange(self.plain)]
        parts += [larger.plain + b * larger.numeric + np.arange(self.numeric) for b in range(PER_INPUT)]
        if self.targets:
            at = self._targets(larger, self._classes(larger))
            parts.append(at if larger.targets else np.full(len(at), -1))
        return np.concatenate(parts).astype(np.int64)

    def fresh(self, larger: "Layout") -> IntArray:
        """List the columns of a larger layout that belong to classes without a place in this one."""
        if larger.classes <= 2 or not larger.targets:
            return np.zeros(0, dtype=np.int64)
        return self._targets(larger, np.arange(self.classes, larger.classes))

    def _targets(self, larger: "Layout", classes: IntArray) -> IntArray:
        """Where a larger layout has the target encodings of these classes: this one's inputs in order, each with all of them."""
        at = larger.lean + larger.views * np.arange(self.numeric)[:, None] + classes
        return at.reshape(-1)

    def _classes(self, larger: "Layout") -> IntArray:
        """Where the class columns of one block lie in the larger layout's block."""
        if self.classes == 2:
            return np.array([0 if larger.classes == 2 else 1])
        return np.arange(self.classes)


@dataclass(frozen=True, slots=True)
class ValueLayout:
    """The sizes of a pool for one value.

    A row is [plain P][Z F][E.05 F][E.2 F][sin F][cos F][sin 2 F][cos 2 F][lags 7 + 4 K][changes F][encodings 2 F + 2 K].

    Attributes:
        numeric: F.
        plain: P.
        fields: K, fields whose categories the plain inputs are.
    """

    numeric: int
    plain: int
    fields: int

    classes: ClassVar[int] = 0
    targets: ClassVar[bool] = False

    @property
    def keys(self) -> int:
        """Entries of a neighbour key: the plain inputs and Z, or Q."""
        return self.plain + self.numeric

    @property
    def first_lag(self) -> int:
        """The column at which the lags begin."""
        return self.plain + PER_INPUT * self.numeric

    @property
    def lags(self) -> int:
        """L: columns of lags."""
        return 7 + 4 * self.fields

    @property
    def lean(self) -> int:
        """Columns in front of the encodings."""
        return self.first_change + self.numeric

    @property
    def first_change(self) -> int:
        """The column at which the changes begin."""
        return self.first_lag + self.lags

    @property
    def width(self) -> int:
        """D: columns of a feature row."""
        return self.lean + 2 * self.numeric + 2 * self.fields

    def grown(self, *, numeric: int, plain: int, fields: int) -> "ValueLayout":
        """Return a layout with room for so much, and at least for what this one has."""
        return ValueLayout(
            self.numeric if numeric <= self.numeric else room_for(numeric),
            self.plain if plain <= self.plain else room_for(plain),
            max(self.fields, fields),
        )

    def places(self, larger: "ValueLayout") -> IntArray:
        """Tell where each column of a row lies in a row of a larger layout: [D]."""
        parts = [np.arange(self.plain)]
        parts += [larger.plain + b * larger.numeric + np.arange(self.numeric) for b in range(PER_INPUT)]
        parts.append(larger.first_lag + np.arange(self.lags))
        parts.append(larger.first_change + np.arange(self.numeric))
        parts.append(larger.lean + np.arange(2 * self.numeric))
        parts.append(larger.lean + 2 * larger.numeric + np.arange(2 * self.fields))
        return np.concatenate(parts).astype(np.int64)

    def fresh(self, larger: "ValueLayout") -> IntArray:  # noqa: ARG002
        """List the columns of classes that are new: a value has none."""
        return np.zeros(0, dtype=np.int64)


RowLayout = Layout | ValueLayout
Sized = TypeVar("Sized", Layout, ValueLayout)  # two layouts of one kind


def room_for(inputs: int) -> int:
    """Round a number of inputs up, so that inputs that come one by one do not copy everything each time."""
    step = 1 if inputs <= 16 else 8 if inputs <= 128 else 32
    return -(-inputs // step) * step


def moved(old: Array, fresh: Array, places: Mapping[int, IntArray]) -> Array:
    """Copy `old` into `fresh` (start values of what is new): along each axis named, entry i goes to places[axis][i].

    Other axes have the same size in both. Entries with place -1 are dropped.
    """
    index = []
    for axis, size in enumerate(old.shape):
        at = places.get(axis, np.arange(size))
        index.append(at)
    kept = [np.flatnonzero(at >= 0) for at in index]
    fresh[np.ix_(*(at[k] for at, k in zip(index, kept, strict=True)))] = old[np.ix_(*kept)]
    return fresh
