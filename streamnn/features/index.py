"""Names to positions: columns of named fields become rows of a fixed-width array, and the width grows by doubling.

The index is append-only: a field or category keeps its position for ever, and a new one takes the next free position.
Positions are given out in the order of the events that first need them (by field name within one event), so they do not
depend on how the stream is cut into chunks.

Axes: K events of a chunk, F capacity (inputs of the network).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

Column = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MOMENT_PARTS = ("days", "hour_sin", "hour_cos", "week_sin", "week_cos")


@dataclass(frozen=True, slots=True)
class Encoded:
    """The first rows of a chunk as network inputs.

    Attributes:
        x: [K', F] float64, NaN = missing or absent. K' may be smaller than the chunk: it ends before the event that
            first needs more capacity.
        needed: capacity that this next event needs, or 0 if the whole chunk was encoded. Where only what is known was
            encoded: capacity that all of the chunk needs, or 0 if nothing was left out.
    """

    x: FloatArray
    needed: int


@dataclass(frozen=True, slots=True)
class _Need:
    """A position that some row of the chunk is the first to need."""

    row: int
    field: str
    part: str


class FeatureIndex:
    """Give every field, category and part of a moment its input position.

    A numeric field (float64 column) takes one position. A category (object column) takes one 0/1 position for each
    distinct value; a field's values beyond `max_categories` share `hash_buckets` positions, by a hash that depends on
    the seed, the field and the value alone. A moment (datetime64 column) takes five: days, and the time of day and of
    the week on circles.

    Args:
        capacity: width F at the start, a power of two; `fit` widens it to what comes first, `grow` doubles it.
        max_categories: distinct values of one field that get positions of their own.
        hash_buckets: positions shared by all further values of one field.
        seed: of the hash.

    Raises:
        ValueError: a setting is outside its range.
    """

    def __init__(self, *, capacity: int = 8, max_categories: int = 100, hash_buckets: int = 32, seed: int = 0) -> None:
        if capacity < 1 or capacity & (capacity - 1):
            raise ValueError(f"capacity is {capacity}, but must be a power of two")
        if max_categories < 0:
            raise ValueError(f"max_categories is {max_categories}, but must be at least 0")
        if hash_buckets < 1:
            raise ValueError(f"hash_buckets is {hash_buckets}, but must be at least 1")
        self.capacity = capacity
        self._max_categories, self._buckets, self._seed = max_categories, hash_buckets, seed
        self._positions: dict[str, dict[str, int]] = {}  # field -> part -> position
        self._categories: dict[str, int] = {}  # field -> distinct values with a position of their own
        self._members: dict[str, list[int]] = {}  # field -> positions of its categories, ascending
        self._plain: list[bool] = []

    @property
    def active(self) -> int:
        """Positions in use."""
        return len(self._plain)

    @property
    def names(self) -> list[str]:
        """A readable name for each position in use, such as `pressure` or `region=R1`."""
        names = [""] * self.active
        for field, parts in self._positions.items():
            for part, position in parts.items():
                names[position] = field + part
        return names

    @property
    def plain(self) -> BoolArray:
        """[F] bool: inputs used as they are (0/1 of a category), not standardised."""
        return np.array(self._plain + [False] * (self.capacity - self.active), dtype=bool)

    def declare(self, fields: Sequence[str]) -> None:
        """Give numeric fields their positions before the first event, in the order given; capacity grows as needed."""
        for field in fields:
            if field not in self._positions:
                self.grow(self.active + 1)
                self._assign(_Need(0, field, ""))

    def fit(self, needed: int) -> None:
        """Make room for `needed` positions before anything has been made for a capacity: by doubling, or by eights if that is less.

        Whoever brings 784 inputs at once does not pay for 1,024.
        """
        eights = -(-needed // 8) * 8
        if self.capacity < needed:
            self.grow(needed)
            self.capacity = min(self.capacity, eights)

    def grow(self, needed: int) -> bool:
        """Double the capacity until `needed` positions fit. Returns whether it changed."""
        before = self.capacity
        while self.capacity < needed:
            self.capacity *= 2
        return self.capacity != before

    def encode(self, columns: Mapping[str, Column], events: int, *, known_only: bool = False) -> Encoded:
        """Turn columns of K events into rows, up to the event that first needs more capacity.

        Args:
            columns: field name to array [K]: float64, object or datetime64, see the class.
            events: K.
            known_only: change nothing; fields and categories without a position are left out.

        Raises:
            TypeError: a column has another dtype.
        """
        parts = {field: self._parts(field, column) for field, column in columns.items()}
        needs = sorted(
            (need for field, column in columns.items() for need in self._needs(field, column, parts[field])),
            key=lambda n: (n.row, n.field, n.part),
        )
        rows, needed = events, 0
        if known_only and needs:
            needed, needs = self.active + len({(n.field, n.part) for n in needs}), []
        for row, group in groupby(needs, key=lambda n: n.row):
            # a hash bucket may be asked for by several values
            new = list(dict.fromkeys(n for n in group if n.part not in self._positions.get(n.field, {})))
            if self.active + len(new) > self.capacity:
                rows, needed = row, self.active + len(new)
                break
            for need in new:
                self._assign(need)
        # what only the events beyond the cut need is not given out yet: the next chunk begins with them
        x = np.full((rows, self.capacity), np.nan)
        for field, column in columns.items():
            self._fill(x, field, column[:rows], parts[field])
        return Encoded(x, needed)

    def categories(self, x: FloatArray) -> dict[str, npt.NDArray[np.int64]]:
        """Tell, for rows [K, F] that `encode` made, each field's category: field -> [K] its position, -1 = none."""
        found = {}
        for field, members in self._members.items():
            positions = np.array(members, dtype=np.int64)
            on = x[:, positions] == 1.0
            found[field] = np.where(on.any(axis=1), positions[on.argmax(axis=1)], -1)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the index for a checkpoint: the positions in order."""
        order = sorted(
            ((position, field, part) for field, parts in self._positions.items() for part, position in parts.items()),
        )
        return {
            "capacity": self.capacity,
            "fields": [field for _, field, _ in order],
            "parts": [part for _, _, part in order],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.capacity = state["capacity"]
        self._positions, self._categories, self._members, self._plain = {}, {}, {}, []
        for field, part in zip(state["fields"], state["parts"], strict=True):
            self._assign(_Need(0, field, part))

    def truncate(self, active: int) -> None:
        """Take back every position from `active` on, as if what needed them had not been met yet."""
        kept = self.state_dict()
        self.load_state_dict({**kept, "fields": kept["fields"][:active], "parts": kept["parts"][:active]})

    def _assign(self, need: _Need) -> None:
        self._positions.setdefault(need.field, {})[need.part] = self.active
        if need.part.startswith("=") and not need.part.startswith("=#"):
            self._categories[need.field] = self._categories.get(need.field, 0) + 1
        if need.part.startswith("="):
            self._members.setdefault(need.field, []).append(self.active)
        self._plain.append(need.part.startswith("="))

    def _parts(self, field: str, column: Column) -> tuple[npt.NDArray[np.int64], list[str]] | None:
        """Return each row's category code (-1 = missing) and the part each code stands for; None for other columns."""
        if column.dtype != object:
            return None
        codes, values = pd.factorize(column)
        known = self._positions.get(field, {})
        taken = self._categories.get(field, 0)
        parts = []
        for value in values:
            part = f"={_text(value)}"
            if part not in known:
                taken += 1
                if taken > self._max_categories:
                    part = self._bucket(field, part)
            parts.append(part)
        return codes.astype(np.int64), parts

    def _needs(self, field: str, column: Column, parts: tuple[npt.NDArray[np.int64], list[str]] | None) -> list[_Need]:
        known = self._positions.get(field, {})
        if parts is not None:
            codes, names = parts
            new = [i for i, part in enumerate(names) if part not in known]
            if not new:
                return []
            # factorize numbers values in order of appearance, so the first row of a code is its first occurrence
            _, first = np.unique(codes, return_index=True)
            offset = 1 if codes.size and codes.min() < 0 else 0
            return [_Need(int(first[i + offset]), field, names[i]) for i in new]
        if column.dtype == np.float64:
            if "" in known:
                return []
            present = ~np.isnan(column)
            return [_Need(int(np.argmax(present)), field, "")] if present.any() else []
        if column.dtype.kind != "M":
            raise TypeError(f"column {field!r} has dtype {column.dtype}; use float64, object or datetime64[us]")
        if ".days" in known or np.isnat(column).all():
            return []
        row = int(np.argmax(~np.isnat(column)))
        return [_Need(row, field, f".{part}") for part in MOMENT_PARTS]

    def _fill(
        self, x: FloatArray, field: str, column: Column, parts: tuple[npt.NDArray[np.int64], list[str]] | None
    ) -> None:
        known = self._positions.get(field, {})
        if parts is not None:
            codes = parts[0][: len(x)]
            here = np.flatnonzero(codes >= 0)
            places = [p for part, p in known.items() if part.startswith("=")]
            if len(here):
                x[np.ix_(here, np.array(places, dtype=np.int64))] = 0.0
                position = np.array([known.get(part, -1) for part in parts[1]], dtype=np.int64)[codes[here]]
                found = position >= 0
                x[here[found], position[found]] = 1.0
        elif column.dtype == np.float64:
            if "" in known:
                x[:, known[""]] = column
        elif ".days" in known:
            for part, values in zip(MOMENT_PARTS, _moment_parts(column), strict=True):
                x[:, known[f".{part}"]] = values

    def _bucket(self, field: str, part: str) -> str:
        digest = hashlib.blake2b(f"{self._seed}\0{field}\0{part}".encode(), digest_size=8).digest()
        return f"=#{int.from_bytes(digest, 'big') % self._buckets}"


def _text(value: object) -> str:
    """Write a category as text; a string that would look like a hash bucket is marked."""
    text = str(value)
    return "\\" + text if text.startswith(("#", "\\")) else text


def _moment_parts(column: Column) -> tuple[FloatArray, ...]:
    """Return days since 1970 and the circles of day and week, [K] each, NaN where the moment is missing."""
    missing = np.isnat(column)
    days = column.astype("datetime64[us]").astype(np.int64) / 86_400e6
    days[missing] = np.nan
    day, week = 2 * np.pi * days, 2 * np.pi * days / 7
    return days, np.sin(day), np.cos(day), np.sin(week), np.cos(week)
