"""From what was served for each event to metrics, over the whole stream and over windows.

Axes: N events, T labels. An event for which nothing was served (the first, mostly) is wrong. The first value is scored for
nobody: before it none can know how large values are. A later one for which nothing was served has its error taken from 0.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

WINDOWS = 20
LEAST = 1e-6  # probabilities below count as this: one certain mistake must not decide a log-loss


def classification(
    truth: Sequence[object], served: Sequence[object], chances: Sequence[float | None]
) -> dict[str, float | list[float] | None]:
    """Return accuracy, kappa, kappa-temporal, log-loss and windowed accuracy.

    Args:
        truth: [N] labels.
        served: [N] predicted labels, None = nothing served.
        chances: [N] probability given to the true label; None = none was given to any label.

    kappa = (a - e) / (1 - e), e the agreement by chance (Cohen 1960); kappa-temporal has the accuracy of repeating the
    previous label in the place of e (Zliobaite et al. 2015).
    """
    right = np.array([t == s for t, s in zip(truth, served, strict=True)], dtype=np.float64)
    events = len(right)
    labels = list(dict.fromkeys(truth))
    counts = np.array([[sum(v == label for v in values) for label in labels] for values in (truth, served)])
    accuracy = float(right.mean())
    by_chance = float((counts[0] * counts[1]).sum()) / events**2
    repeat = sum(a == b for a, b in pairwise(truth)) / events
    known = [c for c in chances if c is not None]
    return {
        "accuracy": accuracy,
        "kappa": (accuracy - by_chance) / (1 - by_chance) if by_chance < 1 else 0.0,
        "kappa_temporal": (accuracy - repeat) / (1 - repeat) if repeat < 1 else 0.0,
        "log_loss": float(-np.log(np.clip(known, LEAST, 1)).mean()) if known else None,
        "windows": [float(part.mean()) for part in np.array_split(right, min(WINDOWS, events))],
    }


def regression(truth: Sequence[float], served: Sequence[float | None]) -> dict[str, float | list[float] | None]:
    """Return MAE, RMSE and windowed MAE of all values but the first.

    Args:
        truth: [N] values, two at least.
        served: [N] predicted values, None = nothing served.

    Raises:
        ValueError: there is one value alone.
    """
    if len(truth) < 2:
        raise ValueError(f"the stream has {len(truth)} value(s), but the first is not scored; use a longer one")
    errors = np.array([t - (s or 0.0) for t, s in zip(truth, served, strict=True)], dtype=np.float64)
    errors[0] = np.nan
    parts = np.array_split(np.abs(errors), min(WINDOWS, len(errors) // 2))
    return {
        "mae": float(np.nanmean(np.abs(errors))),
        "rmse": float(np.sqrt(np.nanmean(errors**2))),
        "windows": [float(np.nanmean(part)) for part in parts],
    }


def label_sets(
    truth: Sequence[Sequence[float | None]], served: Sequence[Sequence[int]]
) -> dict[str, float | list[float] | None]:
    """Return F1 (pooled, mean of events, mean of labels), exact match, Hamming loss and windowed F1 of events.

    Args:
        truth: [N, T] of 0, 1 and None = unknown, which is left out.
        served: [N, T] of 0 and 1.

    F1 = 2 hits / (labels + decisions). An event without either counts as 1, a label without either is left out.
    """
    y, decided = np.array(truth, dtype=np.float64), np.array(served, dtype=np.float64)
    known = ~np.isnan(y)
    y, decided = np.where(known, y, 0.0), np.where(known, decided, 0.0)
    hits, either = y * decided, y + decided
    events = np.divide(2 * hits.sum(1), either.sum(1), out=np.ones(len(y)), where=either.sum(1) > 0)
    labels = 2 * hits.sum(0)[either.sum(0) > 0] / either.sum(0)[either.sum(0) > 0]
    return {
        "f1_micro": float(2 * hits.sum() / either.sum()) if either.any() else 1.0,
        "f1_example": float(events.mean()),
        "f1_macro": float(labels.mean()) if len(labels) else 1.0,
        "exact_match": float((y == decided).all(1).mean()),
        "hamming_loss": float((y != decided).sum() / known.sum()),
        "windows": [float(part.mean()) for part in np.array_split(events, min(WINDOWS, len(events)))],
    }
