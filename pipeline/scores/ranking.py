"""ROC AUC of binary targets from a histogram of their probabilities.

A bin spans an even step of the signed root of the log-odds. So probabilities near 0 and 1, where confident models put
nearly all of theirs, are told apart, and so are those of a beginner around one half (AUC depends on the order alone).
Two events in one bin count as tied, that is one half: the AUC is exact but for pairs (a 1 and a 0) that share a bin,
and off by at most half their share of all pairs. With the default of 2,048 bins that is some 0.001 to 0.003 and, as
errors of either sign cancel, mostly below 0.0002. River's ROCAUC reads the curve at 10 thresholds and is off by several
points.

Axes: T binary targets, K events.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.scores.outcome import BoolArray, FloatArray, IntArray

_REACH = 34.54**0.5  # the root of the log-odds of 1 - 1e-15, where probabilities are clipped


class Ranking:
    """Histograms of the log-odds of events that turned out 0 and 1.

    Args:
        targets: T.
        bins: per histogram, at least 2.
    """

    def __init__(self, targets: int, *, bins: int = 2048) -> None:
        if bins < 2:
            raise ValueError(f"auc_bins is {bins}, but at least 2 are needed to rank anything")
        self._bins = bins
        self._counts = np.zeros((targets, 2, bins), dtype=np.int64)
        self._first = np.arange(targets)[:, None] * (2 * bins)

    def add(self, truth: IntArray, log_odds: FloatArray, rated: BoolArray) -> None:
        """Count events: truth 0 or 1 and log-odds, where `rated` is True; each [T, K]."""
        root = np.copysign(np.sqrt(np.abs(log_odds)), log_odds)
        place = ((root + _REACH) * (self._bins / (2 * _REACH))).astype(np.int64)
        place = np.minimum(np.maximum(place, 0), self._bins - 1) + truth * self._bins + self._first
        np.add.at(self._counts.reshape(-1), place.reshape(-1) if rated.all() else place[rated], 1)

    def area(self) -> FloatArray:
        """Return the AUC per target: [T]; NaN while only one of 0 and 1 has occurred."""
        zeros, ones = self._counts[:, 0].astype(np.float64), self._counts[:, 1].astype(np.float64)
        below = np.cumsum(zeros, axis=1) - zeros
        won = (ones * (below + 0.5 * zeros)).sum(axis=1)
        pairs = zeros.sum(axis=1) * ones.sum(axis=1)
        area = np.full(len(pairs), np.nan)
        np.divide(won, pairs, out=area, where=pairs > 0)
        return area

    def doubt(self) -> FloatArray:
        """Return the most by which `area` may be off, per target: half the share of pairs within one bin."""
        zeros, ones = self._counts[:, 0].astype(np.float64), self._counts[:, 1].astype(np.float64)
        pairs = zeros.sum(axis=1) * ones.sum(axis=1)
        tied = np.full(len(pairs), np.nan)
        np.divide((zeros * ones).sum(axis=1), pairs, out=tied, where=pairs > 0)
        return 0.5 * tied

    def state_dict(self) -> dict[str, Any]:
        """Return the histograms."""
        return {"counts": self._counts.copy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        counts = np.array(state["counts"], dtype=np.int64)
        if counts.shape != self._counts.shape:
            raise ValueError(
                f"saved AUC histograms have shape {counts.shape}, but auc_bins asks for {self._counts.shape}"
            )
        self._counts = counts
