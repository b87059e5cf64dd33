"""The bases, lags, encodings and neighbours of `streamnn.pool.values`, one event at a time.

Axes: F numeric inputs, P plain inputs, K fields, D feature columns, L lags.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays, ValueLayout
from streamnn.pool.maps import WINDOW
from streamnn.pool.reference.common import PREDICT
from streamnn.pool.reference.maps import NEIGHBOURS, bin_of
from streamnn.pool.values import AGES, MOVERS, MOVES, ValueRows

MEAN, VAR, LAST, BEFORE, EMA05, EMA20, LEFT05, LEFT20 = range(8)
CLEARLY = 0.8  # a base beats a simpler one by at least a fifth
KEYS = ("keys_z", "keys_q", "keys_l")
Single = npt.NDArray[np.float32]


def run(state: Arrays, layout: ValueLayout, rows: ValueRows, operations: Operations) -> None:
    """Run operations: complete `row`, fill the outputs, and move the state on in place."""
    past = _Values(state, layout, rows)
    room = len(state["stored"])
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop):
            slot = rows.number[r] % room if room else 0
            if kind == Kind.LEARN and room and state["stored"][slot] == rows.number[r] + 1:
                rows.row[r], rows.rank[r] = state["stored_row"][slot], state["stored_rank"][slot]
                kept = state["stored_said"][slot]
                rows.said[r], rows.now[r, 3] = kept[: rows.said.shape[1]], kept[rows.said.shape[1]]
                rows.age[r] = kept[rows.said.shape[1] + 1 :]
                continue
            past.predict(r)
            observed = kind in (Kind.PREDICT_LEARN, Kind.PREDICT_OBSERVE)
            past.change(r, moves=observed)
            if observed:
                state["clock"][0] = rows.number[r] + 1
            waits = kind == Kind.PREDICT_OBSERVE or (kind == Kind.PREDICT_LEARN and np.isnan(rows.y[r]))
            if room and waits:
                state["stored"][slot] = rows.number[r] + 1
                state["stored_row"][slot], state["stored_rank"][slot] = rows.row[r], rows.rank[r]
                state["stored_said"][slot] = [*rows.said[r], rows.now[r, 3], *rows.age[r]]
        if kind in (Kind.PREDICT_OBSERVE, PREDICT):
            continue
        rows.then[start:stop] = past.units()
        for r in range(start, stop):
            if not np.isnan(rows.y[r]):
                past.learn(r)


class _Values:
    def __init__(self, state: Arrays, layout: ValueLayout, rows: ValueRows) -> None:
        self.s, self.layout, self.rows = state, layout, rows

    def units(self) -> tuple[float, float, float]:
        """Return mean, deviation and residual scale (0 where there is none yet)."""
        level, residual = self.s["level"], self.s["residual"]
        scale = residual[0] / (1 - residual[2]) if residual[2] < 1 else 0.0
        return level[MEAN], np.sqrt(level[VAR]), scale

    def predict(self, r: int) -> None:
        """Write the lags, encodings, members and units of row r."""
        s, layout, rows = self.s, self.layout, self.rows
        level, at = s["level"], self._categories(r)
        known = [c >= 0 and s["key_left"][c] < 1 for c in at]
        last = [s["key_last"][c] if k else level[LAST] for c, k in zip(at, known, strict=True)]
        mean = [s["key_mean"][c] if k else level[EMA20] for c, k in zip(at, known, strict=True)]
        for k, c in enumerate(at):
            rows.age[r, k] = self._list(c, r) if known[k] else -1
        moved = [v + self._median(a) for v, a in zip(last, rows.age[r].tolist(), strict=True)]
        bases = [level[MEAN], level[LAST], *last]
        error, left = np.split(s["base_error"], 2)
        bad = np.where(left < 1, error / np.where(left < 1, 1 - left, 1), np.inf)
        best = 0
        for b in range(1, len(bases)):
            if bad[b] < CLEARLY * bad[best]:
                best = b
        base = bases[best]
        rows.now[r] = [*self.units(), base]
        lags = [self._level(v) for v in (level[LAST], level[EMA05], level[EMA20], base)]
        lags += [
            self._step(level[LAST] - level[EMA20]),
            self._step(level[LAST] - level[BEFORE]),
            self._step(level[EMA20] - level[EMA05]),
        ]
        for was, usual in zip(last, mean, strict=True):
            lags += [self._level(was), self._level(usual), self._step(was - usual), self._step(was - level[LAST])]
        rank = rows.rank[r]
        cells = [None if np.isnan(q) else s["bins"][f, bin_of(q)] for f, q in enumerate(rank)]
        cells += [None if c < 0 else s["cells"][c] for c in at]
        codes = []
        for cell in cells:
            shrink = s["scale"][0]
            codes += [0.0, 0.0] if cell is None else [
                self._level((cell[1] + shrink * level[MEAN]) / (cell[0] + shrink)),
                self._step(cell[2] / (cell[0] + shrink)),
            ]  # fmt: skip
        row = rows.row[r]
        row[layout.first_lag : layout.first_change], row[layout.lean :] = lags, codes
        keys = self._keys(row, rank)
        near = [v for key, held in zip(keys, KEYS, strict=True) for v in self._near(key, held, base)]
        said = [level[MEAN], level[LAST], level[EMA05], level[EMA20], *last, *mean, *moved, *near]
        rows.said[r, : len(said)] = said

    def change(self, r: int, *, moves: bool) -> None:
        """Write how far each input of row r is from where it was; `moves` when it is the event before the next."""
        layout, row = self.layout, self.rows.row[r]
        for f, before in enumerate(self.s["before"]):
            at, known = float(row[layout.plain + f]), not np.isnan(self.rows.rank[r, f])
            row[layout.first_change + f] = 0.0
            if not known:
                continue
            if before[2] > 0:
                d = at - before[0]
                square = before[1] + max(1 / before[2], 0.001) * (d * d - before[1])
                if square > 0:
                    row[layout.first_change + f] = np.clip(d / np.sqrt(square), -5, 5)
                if moves:
                    before[1] = square
            if moves:
                before[0], before[2] = at, before[2] + 1

    def learn(self, r: int) -> None:
        """Count the value of row r."""
        s, rows, at = self.s, self.rows, self._categories(r)
        y, base, level = self._pulled_in(float(rows.y[r])), rows.now[r, 3], self.s["level"]
        first = s["counts"][0] == 0
        residual = 0.0 if first else y - base
        rows.used[r] = y, np.nan if first else residual
        slot = s["counts"][0] % WINDOW
        for key, held in zip(self._keys(rows.row[r], rows.rank[r]), KEYS, strict=True):
            s[held][:, slot] = key
        s["past"][slot] = y, residual
        counted = s["scale"][0] * np.array([1.0, y, residual])
        for f in np.flatnonzero(~np.isnan(rows.rank[r])):
            s["bins"][f, bin_of(rows.rank[r, f])] += counted
        for k, c in enumerate(at):
            if c >= 0:
                s["cells"][c] += counted
                s["key_left"][c] *= 0.8
                s["key_last"][c], s["key_moment"][c] = y, self._moment(r, rows.number[r])
                if rows.age[r, k] >= 0:
                    self._count(int(rows.age[r, k]), y - rows.said[r, 4 + k])
                s["key_mean"][c] += 0.2 / (1 - s["key_left"][c]) * (y - s["key_mean"][c])
        s["scale"][0] /= 0.999
        if not first:
            k = self.layout.fields
            bases = rows.said[r, [0, 1, *range(4, 4 + k)]]
            s["base_error"][: 2 + k] += 0.01 * (np.abs(y - bases) - s["base_error"][: 2 + k])
            s["base_error"][2 + k :] *= 0.99
            s["residual"][:2] += 0.005 * (np.array([abs(residual), residual * residual]) - s["residual"][:2])
            s["residual"][2] *= 0.995
        s["counts"][1] += 1
        w = 1 / s["counts"][1]
        d = y - level[MEAN]
        level[MEAN] += w * d
        level[VAR] = (1 - w) * (level[VAR] + w * (d * d))
        level[BEFORE] = y if first else level[LAST]
        level[LAST] = y
        for e, alpha in enumerate((0.05, 0.2)):
            level[LEFT05 + e] *= 1 - alpha
            level[EMA05 + e] += alpha / (1 - level[LEFT05 + e]) * (y - level[EMA05 + e])
        s["counts"][0] += 1
        if s["counts"][0] % 4096 == 0:
            s["bins"] *= 1 / s["scale"][0]
            s["cells"] *= 1 / s["scale"][0]
            s["scale"][0] = 1.0

    def _pulled_in(self, y: float) -> float:
        s = self.s
        level, counts = s["level"], s["counts"]
        if counts[1] < 30 or not level[VAR] > 0:
            return y
        reach = 10 * np.sqrt(level[VAR])
        if abs(y - level[MEAN]) <= reach:
            counts[2] = 0
            return y
        counts[2] += 1
        if counts[2] < 3:
            far = (y - level[MEAN]) / (10 * reach)  # in hundreds of deviations
            return float(level[MEAN] + (reach / far if abs(far) > 1 else np.sign(far) * reach))
        counts[1], level[MEAN], level[VAR] = 0, 0.0, 0.0
        s["residual"][:] = 0.0, 0.0, 1.0
        return y

    def _moment(self, r: int, number: int) -> float:
        """Return when row r was, in seconds, or the number where events have no moments."""
        return float(self.rows.moment[r]) if len(self.rows.moment) else float(number)

    def _list(self, category: int, r: int) -> int:
        """Return the list of moves for a category whose last value is as old as it is to row r."""
        age = self._moment(r, self.s["clock"][0]) - self.s["key_moment"][category]
        if category >= MOVERS or np.isnan(age):
            return -1
        return category * AGES + min(int(np.log2(max(age, 1.0))), AGES - 1)

    def _median(self, which: int) -> float:
        """Return the median of a list of moves, of the two in the middle the one nearer to 0; 0 without a list."""
        if which < 0:
            return 0.0
        category, age = divmod(which, AGES)
        move = np.sort(self.s["moves"][category, age, : self.s["moved"][category, age]])
        return float(min(move[(len(move) - 1) // 2], move[len(move) // 2], key=abs))

    def _count(self, which: int, move: float) -> None:
        category, age = divmod(which, AGES)
        self.s["moves"][category, age, self.s["moved"][category, age] % MOVES] = move
        self.s["moved"][category, age] += 1

    def _near(self, key: Single, held: str, base: float) -> list[float]:
        """Means of the nearest values and residuals."""
        s = self.s
        stored = min(int(s["counts"][0]), WINDOW)
        distance = np.zeros(stored, dtype=np.float32)
        for g, at in enumerate(key):
            distance += (at - s[held][g, :stored]) ** 2
        near = s["past"][:stored][np.argsort(distance, kind="stable")]
        means = [near[:k].mean(axis=0) if stored else np.array([s["level"][MEAN], 0.0]) for k in NEIGHBOURS]
        return [float(m[0]) for m in means] + [float(base + m[1]) for m in means]

    def _keys(self, row: Single, rank: Single) -> tuple[Single, Single, Single]:
        layout = self.layout
        z = row[: layout.keys]
        q = np.concatenate([row[: layout.plain], np.nan_to_num(rank)])
        return z, q, np.concatenate([z, row[layout.first_lag : layout.first_change]])

    def _categories(self, r: int) -> list[int]:
        """The plain input of each field in this row, or -1."""
        on = self.rows.plain[r] == 1
        found = [np.flatnonzero(on & (self.rows.field == k)) for k in range(self.layout.fields)]
        return [int(c[-1]) if len(c) else -1 for c in found]

    def _level(self, y: float) -> float:
        level = self.s["level"]
        return float(np.clip((y - level[MEAN]) / np.sqrt(level[VAR]), -5, 5)) if level[VAR] > 0 else 0.0

    def _step(self, d: float) -> float:
        square, left = self.s["residual"][1:]
        return float(np.clip(d / np.sqrt(square / (1 - left)), -5, 5)) if square > 0 else 0.0
