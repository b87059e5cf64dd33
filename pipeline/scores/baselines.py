"""The predictors that any model must beat; each predicts before it learns, on the events that are scored.

Classes: `majority`, the most frequent class so far (the lowest index of equals); `no_change`, the previous
class. For a label set `majority` decides label by label (on if it was on in more than half of the events), so
on sparse label sets it may serve the empty set for ever; `majority_labelset`, the most frequent set of labels
so far, is the stronger baseline there. Values: `mean` of all so far, `last`, and `last_of_category`, the last one that
had the same category.

Before its first truth a baseline serves nothing: wrong for a class, not scored for a value.

Axes: T class targets, V value targets, K events, N categorical fields. Codes are class indices, int64; -1 = unknown or
    nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.scores.outcome import FloatArray, IntArray


def majority(truth: IntArray, seen: IntArray) -> IntArray:
    """Predict the most frequent class before each event.

    Args:
        truth: [T, K] codes.
        seen: [T, C] int64, how often each class had been true before this block; C exceeds every code.
    """
    if seen.shape[1] == 2:
        ones = _before((truth == 1).astype(np.int64), seen[:, 1])
        known = _before((truth >= 0).astype(np.int64), seen.sum(axis=1))
        return np.where(known == 0, -1, (2 * ones > known).astype(np.int64))
    return np.array([_leaders(codes, counts) for codes, counts in zip(truth, seen, strict=True)])


def _before(increments: IntArray, start: IntArray) -> IntArray:
    """Running totals before each event: [T, K]."""
    total: IntArray = np.add.accumulate(increments, axis=1) - increments + start[:, None]
    return total


def _leaders(truth: IntArray, seen: IntArray) -> IntArray:
    leader = int(np.argmax(seen))
    after = seen + np.bincount(truth[truth >= 0], minlength=len(seen))
    after[leader] = -1
    if after.max() < seen[leader]:
        return np.full(len(truth), leader)  # nothing in this block can overtake: the usual case
    counts, served = seen.tolist(), []
    most = counts[leader]
    for code in truth.tolist():
        served.append(leader if most else -1)
        if code >= 0:
            counts[code] += 1
            if counts[code] > most or (counts[code] == most and code < leader):
                leader, most = code, counts[code]
    return np.array(served, dtype=np.int64)


class Previous:
    """Repeat, for each target, what was true at the last event where it was known.

    Args:
        targets: how many.
        nothing: what is served before the first truth.
    """

    def __init__(self, targets: int, *, nothing: float) -> None:
        self._last = np.full(targets, nothing)

    def predict_learn(self, truth: FloatArray | IntArray, known: np.ndarray[Any, np.dtype[np.bool_]]) -> FloatArray:
        """Predict for truths [T, K], known where the mask is True; then remember the last of them."""
        events = truth.shape[1]
        line = np.empty((len(truth), events + 1))
        line[:, 0] = self._last
        line[:, 1:] = truth
        if not known.all():
            at = np.zeros(line.shape, dtype=np.int64)
            at[:, 1:] = np.where(known, np.arange(1, events + 1), 0)
            line = np.take_along_axis(line, np.maximum.accumulate(at, axis=1), axis=1)
        self._last = line[:, -1].copy()
        return line[:, :-1]

    def state_dict(self) -> dict[str, Any]:
        """Return the last truths."""
        return {"last": self._last.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._last = np.array(state["last"], dtype=np.float64)


class RunningMean:
    """Predict the mean of all truths so far."""

    def __init__(self, targets: int) -> None:
        self._count = np.zeros(targets)
        self._total = np.zeros(targets)

    def predict_learn(self, truth: FloatArray) -> FloatArray:
        """Predict for truths [V, K] (NaN = unknown), then count them in; NaN before the first."""
        known = ~np.isnan(truth)
        count = np.column_stack([self._count, known])
        total = np.column_stack([self._total, np.where(known, truth, 0.0)])
        np.add.accumulate(count, axis=1, out=count)
        np.add.accumulate(total, axis=1, out=total)
        self._count, self._total = count[:, -1].copy(), total[:, -1].copy()
        served = np.full(truth.shape, np.nan)
        np.divide(total[:, :-1], count[:, :-1], out=served, where=count[:, :-1] > 0)
        return served

    def state_dict(self) -> dict[str, Any]:
        """Return count and total of each target."""
        return {"count": self._count.copy(), "total": self._total.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._count = np.array(state["count"], dtype=np.float64)
        self._total = np.array(state["total"], dtype=np.float64)


class LastOfCategory:
    """Repeat the last truth of an event with the same category, by the field whose last ones have been nearest so far.

    A field says the last truth of all where the event has no category of it, or one without a truth yet. Nearest is the
    least sum of absolute errors before the event; of equal ones the field that came first. The last truth of all is followed
    where that is nearer than every field.

    Args:
        targets: V.
    """

    def __init__(self, targets: int) -> None:
        self.fields: list[str] = []  # in the order in which they came
        self._last = np.full((targets, 0), np.nan)  # [V, positions of categories]
        self._error = np.zeros((targets, 1))  # [V, N + 1] sums; the last one is that of the last truth of all

    def predict_learn(self, truth: FloatArray, last: FloatArray, categories: Mapping[str, IntArray]) -> FloatArray:
        """Predict for truths [V, K] (NaN = unknown), then remember them.

        Args:
            truth: [V, K].
            last: [V, K], what `Previous` predicts for them.
            categories: field -> [K] positions of categories, -1 = none; no two fields share one.
        """
        for field in categories:
            if field not in self.fields:
                self.fields.append(field)  # what it would have said so far is the last truth of all
                self._error = np.column_stack([self._error, self._error[:, -1]])
        targets, events = truth.shape
        nothing = np.full(events, -1)
        code = np.array([*(categories.get(field, nothing) for field in self.fields), nothing])  # [N + 1, K]
        said = np.repeat(last[:, None, :], len(self.fields) + 1, axis=1)
        row, event = np.nonzero(code >= 0)
        if len(event):
            found = self._repeat(truth[:, event], code[row, event])
            said[:, row, event] = np.where(np.isnan(found), last[:, event], found)
        error = np.abs(said - truth[:, None, :])
        line = np.concatenate([self._error[:, :, None], np.where(np.isnan(error), 0.0, error)], axis=2)
        np.add.accumulate(line, axis=2, out=line)
        self._error = line[:, :, -1].copy()
        leader = np.argmin(line[:, :, :-1], axis=1)
        return np.take_along_axis(said, leader[:, None, :], axis=1).reshape(targets, events)

    def state_dict(self) -> dict[str, Any]:
        """Return the fields, the last truth of each category and the errors of each field."""
        return {"fields": list(self.fields), "last": self._last.copy(), "error": self._error.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.fields = list(state["fields"])
        self._last = np.array(state["last"], dtype=np.float64)
        self._error = np.array(state["error"], dtype=np.float64)

    def _repeat(self, truth: FloatArray, code: IntArray) -> FloatArray:
        """Return, for truths [V, J] of categories [J] in the order of their events, the one before it of the same category."""
        here = np.unique(code)
        room = int(here[-1]) + 1 - self._last.shape[1]
        if room > 0:
            self._last = np.pad(self._last, ((0, 0), (0, room)), constant_values=np.nan)
        # category by category, each behind what was known of it
        order = np.argsort(np.concatenate([here, code]), kind="stable")
        line = np.concatenate([self._last[:, here], truth], axis=1)[:, order]
        first = order < len(here)
        at = np.maximum.accumulate(np.where(first | ~np.isnan(line), np.arange(len(order)), 0), axis=1)
        line = np.take_along_axis(line, at, axis=1)
        self._last[:, here] = line[:, np.append(np.flatnonzero(first)[1:], len(order)) - 1]
        before = np.empty_like(line)
        before[:, order[1:]] = line[:, :-1]
        return before[:, len(here) :]


class FrequentLabelset:
    """Predict the most frequent set of labels so far (the first to reach its count of equals).

    Only events with every label known are counted. The table has a bound: when full, the rarer half of the
    sets is forgotten (the younger of equals first). So beyond `capacity` distinct sets a count may be too
    small, but a set that is among the frequent ones stays.

    Args:
        labels: T, how many labels.
        capacity: label sets remembered.
    """

    def __init__(self, labels: int, *, capacity: int = 4096) -> None:
        self._labels, self._capacity = labels, capacity
        self._counts: dict[bytes, int] = {}
        self._leader = b""
        self._most = 0

    def predict_learn(self, truth: IntArray) -> IntArray:
        """Predict for codes [T, K] of 0, 1 and -1, then count them in."""
        packed = np.packbits(truth == 1, axis=0).T
        width, data = packed.shape[1], packed.tobytes()
        complete: list[bool] = np.logical_and.reduce(truth >= 0, axis=0).tolist()
        served, counts = bytearray(), self._counts
        nothing = 0
        for k, whole in enumerate(complete):
            if self._most:
                served += self._leader
            else:
                nothing += 1  # only at the very start
            if not whole:
                continue
            key = data[k * width : (k + 1) * width]
            count = counts.get(key, 0) + 1
            if count == 1 and len(counts) >= self._capacity:
                self._forget()
            counts[key] = count
            if count > self._most:
                self._leader, self._most = key, count
        out = np.full(truth.shape, -1)
        rows = np.frombuffer(bytes(served), dtype=np.uint8).reshape(-1, width)
        out[:, nothing:] = np.unpackbits(rows, axis=1, count=self._labels).T
        return out

    def state_dict(self) -> dict[str, Any]:
        """Return the table: sets [N, bytes] uint8 and their counts, in the order they were met."""
        width = (self._labels + 7) // 8
        sets = np.frombuffer(b"".join(self._counts), dtype=np.uint8).reshape(len(self._counts), width).copy()
        leader = list(self._counts).index(self._leader) if self._most else -1
        return {
            "sets": sets,
            "counts": np.array(list(self._counts.values()), dtype=np.int64),
            "leader": leader,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        sets, counts = np.asarray(state["sets"], dtype=np.uint8), np.asarray(state["counts"]).tolist()
        self._counts = {row.tobytes(): count for row, count in zip(sets, counts, strict=True)}
        self._leader, self._most = b"", 0
        if state["leader"] >= 0:
            self._leader = list(self._counts)[state["leader"]]
            self._most = self._counts[self._leader]

    def _forget(self) -> None:
        kept = sorted(self._counts.items(), key=lambda item: -item[1])[: max(1, self._capacity // 2)]
        keep = {key for key, _ in kept} | {self._leader}
        for key in [key for key in self._counts if key not in keep]:
            del self._counts[key]
