"""The feature maps and count members of `streamnn.pool.maps`, one event at a time.

Axes: F numeric inputs, P plain inputs, C class capacity, D feature columns.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.layout import Arrays, Layout
from streamnn.pool.maps import BINS, RING, WINDOW, MapRows
from streamnn.pool.mixer import FLOOR
from streamnn.pool.reference.common import Vector, log_softmax

ALPHAS = (0.05, 0.2)
NEIGHBOURS = (1, 5, 15)
Single = npt.NDArray[np.float32]


def run(state: Arrays, layout: Layout, rows: MapRows, operations: Operations) -> None:
    """Run operations: fill `row`, `rank` and the first eight members of `logp`, and move the state on in place."""
    maps = _Maps(state, layout)
    room = len(state["stored"])
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        group = range(start, stop)
        for r in group:
            slot = rows.number[r] % room if room else 0
            if kind == Kind.LEARN and room and state["stored"][slot] == rows.number[r] + 1:
                rows.row[r], rows.rank[r] = state["stored_row"][slot], state["stored_rank"][slot]
            else:
                row, rows.rank[r], members = maps.transform(rows.x[r], rows.plain[r])
                rows.row[r, : len(row)] = row  # a pool for values writes the rest
                if layout.classes:
                    rows.logp[r, :8] = members
            if kind not in (Kind.PREDICT_LEARN, Kind.PREDICT_OBSERVE):
                continue
            maps.observe(rows.x[r])
            if room and (kind == Kind.PREDICT_OBSERVE or rows.label[r] < 0):
                state["stored"][slot] = rows.number[r] + 1
                state["stored_row"][slot], state["stored_rank"][slot] = rows.row[r], rows.rank[r]
        if kind in (Kind.PREDICT_LEARN, Kind.LEARN) and layout.classes:
            for r in group:
                if rows.label[r] >= 0:
                    maps.learn(rows.row[r], rows.rank[r], int(rows.label[r]))


class _Maps:
    def __init__(self, state: Arrays, layout: Layout) -> None:
        self.s, self.layout = state, layout

    def transform(self, x: Vector, plain: Vector) -> tuple[Single, Single, Vector]:
        """Return the feature row [D], Q [F] (NaN = missing) and the members' log-probabilities [8, C]."""
        layout, known = self.layout, ~np.isnan(x)
        scores = np.where(known, self._scores(x, keep=False), 0.0)
        z = scores[0]
        waves = np.where(known, [np.sin(z), np.cos(z), np.sin(2 * z), np.cos(2 * z)], 0.0)
        rank = np.array([self._rank(f, x[f]) for f in range(layout.numeric)], dtype=np.float32)
        as_is = np.where(np.isnan(plain), 0.0, plain)
        key_z = np.concatenate([as_is, z]).astype(np.float32)
        key_q = np.concatenate([as_is.astype(np.float32), np.where(known, rank, np.float32(0))])
        by_z, by_q = self._vote(self.s["keys_z"], key_z), self._vote(self.s["keys_q"], key_q)
        p, log_prior = self._tables(rank)
        ratio = np.log(np.maximum(p, 1e-300)) - log_prior
        parts = [as_is, scores.ravel(), waves.ravel()]
        if layout.targets:
            exists = (self.s["active"] > 0) & known[:, None]
            columns = np.where(exists, 0.7 * np.clip(ratio, -3, 3), 0.0)
            parts.append(columns[:, 1] if layout.classes == 2 else columns.ravel())
        members = [*by_z, *by_q, self._bayes(ratio, log_prior, known), self._rule(p, log_prior, known)]
        return np.concatenate(parts).astype(np.float32), rank, np.array(members)

    def observe(self, x: Vector) -> None:
        """Count inputs [F]."""
        s = self.s
        self._scores(x, keep=True)
        s["ring"][:, s["counts"][0] % RING] = x
        s["counts"][0] += 1
        count = int(s["counts"][0])
        if count <= 10 or (count <= 200 and count % 10 == 0) or count % 50 == 0:
            window = s["ring"][:, np.arange(max(0, count - WINDOW), count) % RING]
            for f, values in enumerate(window):
                values = np.sort(values[~np.isnan(values)])
                s["sorted"][f, : len(values)], s["filled"][f] = values, len(values)
            s["counts"][2] = count

    def learn(self, row: Single, rank: Single, label: int) -> None:
        """Count a label into the tables and the window of neighbours."""
        s, layout = self.s, self.layout
        s["active"][label] = 1
        p, _ = self._tables(rank)
        for f in np.flatnonzero(~np.isnan(rank)):
            w = max(1 / (s["rule_count"][f] + 1), 0.01)
            s["rule_loss"][f] += w * (-np.log(max(p[f, label], 1e-300)) - s["rule_loss"][f])
            s["rule_count"][f] += 1
            s["table"][f, bin_of(rank[f]), label] += s["scale"][0]
            s["table_total"][f, bin_of(rank[f])] += s["scale"][0]
        s["totals"][label] += s["scale"][0]
        s["scale"][0] /= 0.999
        slot = s["counts"][1] % WINDOW
        s["keys_z"][:, slot] = row[: layout.keys]
        s["keys_q"][:, slot] = np.concatenate([row[: layout.plain], np.nan_to_num(rank)])
        s["labels"][slot] = label
        s["counts"][1] += 1
        if s["counts"][1] % 4096 == 0:
            for name in ("table", "table_total", "totals"):
                s[name] *= 1 / s["scale"][0]
            s["scale"][0] = 1.0

    def _scores(self, x: Vector, *, keep: bool) -> Vector:
        """Z and the two exponential scores with the event's own values counted: [3, F]."""
        s, known = self.s, ~np.isnan(x)
        reach = 10 * np.sqrt(s["var"])
        guarded = (s["n"] >= 30) & (s["var"] > 0)
        value = np.where(guarded, np.clip(x, s["mean"] - reach, s["mean"] + reach), x)
        w = 1 / (s["n"] + 1)
        d = value - s["mean"]
        mean, var = s["mean"] + w * d, (1 - w) * s["var"] + w * (1 - w) * (d * d)
        scores = [_scaled(x, mean, var)]
        new = {"n": s["n"] + 1, "mean": mean, "var": var}
        moved = []
        for a, alpha in enumerate(ALPHAS):
            left = s["ema_left"][a] * (1 - alpha)
            w = alpha / (1 - left)
            d = x - s["ema_mean"][a]
            mean, var = s["ema_mean"][a] + w * d, (1 - w) * (s["ema_var"][a] + w * (d * d))
            scores.append(_scaled(x, mean, var))
            moved.append((mean, var, left))
        if keep:
            for name, values in new.items():
                s[name][known] = values[known]
            for a, triple in enumerate(moved):
                for name, values in zip(("ema_mean", "ema_var", "ema_left"), triple, strict=True):
                    s[name][a, known] = values[known]
        return np.array(scores)

    def _rank(self, f: int, x: float) -> float:
        n = int(self.s["filled"][f])
        if np.isnan(x):
            return np.nan
        if n == 0:
            return 0.0
        values = self.s["sorted"][f, :n]
        low, high = np.searchsorted(values, x, side="left"), np.searchsorted(values, x, side="right")
        return float(1.7 * ((low + high) / n - 1))

    def _vote(self, keys: Single, key: Single) -> Vector:
        """Votes of the nearest in one window: log-probabilities [3, C]."""
        s, classes = self.s, self.layout.classes
        stored = min(int(s["counts"][1]), WINDOW)
        distance = np.zeros(stored, dtype=np.float32)
        for g in range(self.layout.keys):
            distance += (key[g] - keys[g, :stored]) ** 2
        near = s["labels"][np.argsort(distance, kind="stable")]
        exists, active = s["active"] > 0, int(s["active"].sum())
        logp = []
        for neighbours in NEIGHBOURS:
            k = min(neighbours, stored)
            votes = np.bincount(near[:k], minlength=classes).astype(np.float64)
            smooth = 0.5 / active if active else 0.0
            with np.errstate(divide="ignore"):
                logp.append(np.where(exists, np.log((votes + smooth) / (k + 0.5)), FLOOR))
        return np.array(logp)

    def _tables(self, rank: Single) -> tuple[Vector, Vector]:
        """Class probabilities by each input's bin [F, C] (the prior where it is missing), and the log-prior [C]."""
        s = self.s
        exists, inverse = s["active"] > 0, 1 / s["scale"][0]
        counts = s["totals"] * inverse
        prior = np.where(exists, (counts + 0.5) / max(counts.sum() + 0.5 * exists.sum(), 1e-300), 0.0)
        log_prior = np.where(exists, np.log(np.where(exists, prior, 1.0)), FLOOR)
        p = np.tile(prior, (len(rank), 1))
        for f in np.flatnonzero(~np.isnan(rank)):
            b = bin_of(rank[f])
            p[f] = (s["table"][f, b] * inverse + prior) / (s["table_total"][f, b] * inverse + 1)
        return p, log_prior

    def _bayes(self, ratio: Vector, log_prior: Vector, known: npt.NDArray[np.bool_]) -> Vector:
        return log_softmax(log_prior + ratio[known].sum(axis=0), self.s["active"])

    def _rule(self, p: Vector, log_prior: Vector, known: npt.NDArray[np.bool_]) -> Vector:
        exists = self.s["active"] > 0
        if not known.any():
            return np.where(exists, log_prior, FLOOR)
        loss = self.s["rule_loss"][known]
        weight = np.exp(-20 * (loss - loss.min()))
        mean = weight @ p[known] / weight.sum()
        return np.where(exists, np.maximum(np.log(np.where(exists, mean, 1.0)), FLOOR), FLOOR)


def _scaled(x: Vector, mean: Vector, var: Vector) -> Vector:
    spread = var > 1e-26 * mean * mean
    return np.where(spread, np.clip((x - mean) / np.sqrt(np.where(spread, var, 1.0)), -5, 5), 0.0)


def bin_of(rank: np.float32) -> int:
    """The bin of a scaled rank."""
    return min(max(int((float(rank) / 1.7 + 1) * (BINS // 2)), 0), BINS - 1)
