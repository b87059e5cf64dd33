"""A block of events as what the sums need: class codes of every predictor, and the per-event quantities.

Axes: K scored events, T class targets, V value targets, P predictors of classes, Q of values, C classes of
one target, R rows of the sums (see `layout.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.scores.layout import Layout
from pipeline.scores.outcome import BoolArray, FloatArray, IntArray, Outcome, Target

_CLIP = 1e-15  # as river's LogLoss and CrossEntropy; one certain error costs 34.5


def stack(columns: Sequence[FloatArray]) -> FloatArray:
    """Lay columns [K] under each other: [N, K]; what is not finite becomes NaN."""
    out = np.array(columns, dtype=np.float64)
    finite = np.isfinite(out)
    return out if finite.all() else np.where(finite, out, np.nan)


def codes_of(labels: FloatArray, binary: BoolArray) -> IntArray:
    """Turn class indices and 0/1 [..., T, K] into codes; NaN becomes -1, a soft 0..1 label its likelier side.

    `binary` [T, 1] tells which targets are binary.
    """
    indices = np.where(binary, labels > 0.5, labels)
    codes: IntArray = np.where(np.isnan(labels), -1.0, indices).astype(np.int64)
    return codes


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """Log-loss and Brier score (0 where not counted) and what was counted; each [..., K]."""

    loss: FloatArray
    brier: FloatArray
    rated: BoolArray


def rate_binary(truth: IntArray, p: FloatArray) -> tuple[Ratings, FloatArray]:
    """Rate the probabilities of 1 of binary targets.

    Log-loss is -log of the probability of what came true, clipped as river does; the Brier score is (p -
    y)^2.

    Args:
        truth: [N, K] codes.
        p: [N, K], contiguous, so that every cut takes the same vector path; NaN = nothing.

    Returns:
        The ratings and the log-odds [N, K].
    """
    rated = (truth >= 0) & ~np.isnan(p)
    if not rated.all():
        p = np.where(rated, p, 0.5)
    on = truth == 1
    clipped = np.minimum(np.maximum(p, _CLIP), 1.0 - _CLIP)
    log_p, log_q = np.log(clipped), np.log(1.0 - clipped)
    loss = np.where(on, log_p, log_q) * -1.0 * rated
    return Ratings(loss, np.square(p - on) * rated, rated), log_p - log_q


def rate_classes(truth: IntArray, probability: FloatArray) -> Ratings:
    """Rate the probabilities of one multi-class target.

    Log-loss as for a binary target; a class without a column had probability 0 (river would count a loss of
    0). The Brier score is sum_c (p_c - [c = y])^2 (Brier 1950), between 0 and 2.

    Args:
        truth: [K] codes.
        probability: [K, C].
    """
    rated = (truth >= 0) & ~np.isnan(probability[:, 0])
    p = np.nan_to_num(np.ascontiguousarray(probability, dtype=np.float64))
    within = rated & (truth < p.shape[1])
    hit = np.where(within, p[np.arange(len(p)), np.where(within, truth, 0)], 0.0)
    loss = np.log(np.minimum(np.maximum(hit, _CLIP), 1.0 - _CLIP)) * -1.0
    # a running sum, so that columns of classes that do not exist yet change nothing
    squares = np.add.accumulate(np.square(p), axis=1)[:, -1]
    return Ratings(loss * rated, (squares - 2.0 * hit + 1.0) * rated, rated)


def fill_sets(rows: FloatArray, layout: Layout, codes: IntArray) -> None:
    """Fill the rows that judge the class targets of an event together.

    Only targets whose truth is known take part. A set has F1 2 |hit| / (|truth| + |decision|), precision
    |hit| / |decision|, recall |hit| / |truth| and Jaccard |hit| / |truth or decision|, 0 where there is nothing to
    divide by (as river's SampleAverage; others count 1).
    """
    truth, served = codes[0], codes[1:]
    known = truth >= 0
    rows[layout.rows["judged"]] = known.any(axis=0)
    rows[layout.rows["exact"]] = ((served == truth) | ~known).all(axis=1) & known.any(axis=0)
    if layout.task != "multilabel":
        return
    on, decided = truth == 1, (served == 1) & known
    hits = (decided & on).sum(axis=1).astype(np.float64)
    served_on, truly_on = decided.sum(axis=1).astype(np.float64), on.sum(axis=0).astype(np.float64)
    either = served_on + truly_on
    rows[layout.rows["hits"]], rows[layout.rows["on"]] = hits, either
    shares = {
        "f1_example": (2 * hits, either),
        "precision_example": (hits, served_on),
        "recall_example": (hits, np.broadcast_to(truly_on, hits.shape)),
        "jaccard": (hits, either - hits),
    }
    for name, (part, whole) in shares.items():
        rows[layout.rows[name]] = np.divide(part, whole, out=np.zeros(hits.shape), where=whole > 0)


def fill_values(rows: FloatArray, layout: Layout, truth: FloatArray, served: FloatArray, sums: FloatArray) -> None:
    """Fill the rows of the value targets.

    `spread` adds up to the squared deviations of the truth from its mean over the events scored so far, by
    (y_n - mean_{n-1}) (y_n - mean_n) (Welford 1962): no cancellation, however far from 0 the values lie.

    Args:
        rows: [R, K], to be filled.
        layout: of the rows.
        truth: [V, K], NaN = unknown.
        served: [Q, V, K], NaN = nothing.
        sums: [R], the totals before this block.
    """
    counted = (~np.isnan(truth) & ~np.isnan(served)).reshape(-1, truth.shape[1])
    y = np.where(counted, np.broadcast_to(truth, served.shape).reshape(counted.shape), 0.0)
    error = np.where(counted, served.reshape(counted.shape) - y, 0.0)
    rows[layout.rows["count"]], rows[layout.rows["total"]] = counted, y
    rows[layout.rows["absolute"]] = np.abs(error)
    rows[layout.rows["squared"]] = np.square(error)
    before = slice(layout.rows["count"].start, layout.rows["total"].stop)
    running = np.add.accumulate(np.column_stack([sums[before], rows[before]]), axis=1)
    count, total = running[: len(counted)], running[len(counted) :]
    mean = np.divide(total, count, out=np.zeros(total.shape), where=count > 0)
    spread = (y - mean[:, :-1]) * (y - mean[:, 1:])
    rows[layout.rows["spread"]] = np.where(counted & (count[:, :-1] > 0), spread, 0.0)


def columns_of(outcome: Outcome, part: str, targets: Sequence[Target]) -> list[FloatArray]:
    """Pick the targets' columns in order, with a readable error for one that is missing."""
    columns = outcome.truth if part == "truth" else outcome.decision
    try:
        return [columns[target.name] for target in targets]
    except KeyError as error:
        raise ValueError(
            f"the outcome has no {part} of target {error.args[0]!r}; only {sorted(columns)}; give NaN where unknown"
        ) from None
