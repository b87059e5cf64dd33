"""From encoded rows to what a pool reads: numeric inputs, plain inputs, and the field of each plain input.

A moment has five inputs in the index: days, and day and week on circles, which a single network can use at once. A
pool makes its own waves, and ranks and bins want numbers in their natural order: it reads days, hour of the day and
day of the week.

Axes: K rows, F numeric inputs, P plain inputs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from streamnn.features.index import FeatureIndex
from streamnn.operations import FloatArray

CIRCLES = {".hour_sin": (".hour_cos", 24.0), ".week_sin": (".week_cos", 7.0)}  # sine -> cosine, units of a turn


@dataclass(frozen=True, slots=True)
class Inputs:
    """Rows as pools read them.

    Attributes:
        x: [K, F] float64, NaN = missing.
        plain: [K, P] float64, 0/1 of categories, NaN = missing.
        field: [P] int32, the field of each plain input, numbered in their order.
        moment: [K] float64, seconds since 1970 of the first field that is a moment, NaN = missing; no rows without one.
    """

    x: FloatArray
    plain: FloatArray
    field: npt.NDArray[np.int32]
    moment: FloatArray

    @property
    def fields(self) -> int:
        """How many fields have plain inputs."""
        return int(self.field.max(initial=-1)) + 1


class InputPlan:
    """Where in an index's rows the inputs lie; append-only, as the index is."""

    def __init__(self, index: FeatureIndex) -> None:
        state: dict[str, Any] = index.state_dict()
        fields, parts = state["fields"], state["parts"]
        where = {(field, part): i for i, (field, part) in enumerate(zip(fields, parts, strict=True))}
        cosines = {cosine for cosine, _ in CIRCLES.values()}
        self.active = len(fields)
        self.names: list[str] = []
        self._numeric: list[int] = []
        self._circles: list[tuple[int, int, int, float]] = []  # column, sine, cosine, turn
        self._plain: list[int] = []
        self._days = next((i for i, part in enumerate(parts) if part == ".days"), -1)
        numbers: dict[str, int] = {}
        field_of = []
        for i, (field, part) in enumerate(zip(fields, parts, strict=True)):
            if part.startswith("="):
                self._plain.append(i)
                field_of.append(numbers.setdefault(field, len(numbers)))
            elif part not in cosines:
                if part in CIRCLES:
                    cosine, turn = CIRCLES[part]
                    self._circles.append((len(self._numeric), i, where[field, cosine], turn))
                self._numeric.append(i)
        self.field = np.array(field_of, dtype=np.int32)

    def read(self, x: FloatArray) -> Inputs:
        """Take the inputs out of encoded rows [K, capacity]."""
        numeric = x[:, self._numeric]
        for column, sine, cosine, turn in self._circles:
            angle = np.arctan2(x[:, sine], x[:, cosine]) / (2 * np.pi) * turn
            numeric[:, column] = np.round(angle, 6) % turn  # midnight is 0, not a rounding error below 24
        # as moments come, in microseconds, not with what is lost in counting days
        moment = np.round(x[:, self._days] * 86400.0, 6) if self._days >= 0 else np.zeros(0)
        return Inputs(numeric, x[:, self._plain], self.field, moment)
