"""Totals to metric values: of one predictor, overall and per target.

Axes: T class targets, V value targets, P predictors.
"""

import numpy as np

from pipeline.scores import formulas
from pipeline.scores.layout import BY_EXAMPLE, Layout
from pipeline.scores.outcome import FloatArray
from pipeline.scores.totals import Totals

Vectors = dict[str, FloatArray]


def class_vectors(layout: Layout, totals: Totals, predictor: int) -> Vectors:
    """Metrics of one predictor for each class target: name -> [T]; those of probabilities if the model."""
    row, cols, hits = totals.tables()
    col, hit = cols[predictor], hits[predictor]
    p = formulas.accuracy(row, hit)
    vectors = {
        "accuracy": p,
        "balanced_accuracy": formulas.balanced_accuracy(row, hit),
        "kappa": formulas.kappa(row, col, hit),
        "kappa_m": formulas.kappa_against(p, formulas.accuracy(row, hits[layout.predictors.index("majority")])),
        "kappa_temporal": formulas.kappa_against(p, formulas.accuracy(row, hits[layout.predictors.index("no_change")])),
        "f1_micro": formulas.f1_micro(row, col, hit),
        "f1_macro": formulas.f1_macro(row, col, hit),
    }
    if any(t.kind == "binary" for t in layout.classes):
        binary = np.array([t.kind == "binary" for t in layout.classes])
        vectors["f1"] = np.where(binary & ~np.isnan(p), formulas.f1(row[:, 1], col[:, 1], hit[:, 1]), np.nan)
    if predictor == 0:
        rated = totals.sums[layout.rows["rated"]]
        vectors["log_loss"] = formulas.ratio(totals.sums[layout.rows["loss"]], rated, empty=np.nan)
        vectors["brier"] = formulas.ratio(totals.sums[layout.rows["brier"]], rated, empty=np.nan)
    return vectors


def value_vectors(layout: Layout, totals: Totals, predictor: int) -> Vectors:
    """Metrics of one predictor for each value target: name -> [V]."""
    width = len(layout.values)
    part = {
        name: totals.sums[layout.rows[name]][predictor * width : (predictor + 1) * width]
        for name in ("count", "absolute", "squared", "spread")
    }
    return {
        "mae": formulas.ratio(part["absolute"], part["count"], empty=np.nan),
        "rmse": np.sqrt(formulas.ratio(part["squared"], part["count"], empty=np.nan)),
        "r2": formulas.r2(part["count"], part["squared"], part["spread"]),
    }


def set_metrics(layout: Layout, totals: Totals, predictor: int) -> dict[str, float]:
    """Metrics that judge several class targets of an event together."""
    row, _, hits = totals.tables()
    known, judged = row.sum(), totals.sums[layout.rows["judged"]]

    def share(name: str, of: FloatArray, factor: float = 1.0) -> float:
        chosen = totals.sums[layout.rows[name]][predictor : predictor + 1]
        return float(formulas.ratio(factor * chosen, of, empty=0.0 if judged[0] else np.nan)[0])

    found = {
        "exact_match": share("exact", judged),
        "hamming": float((known - hits[predictor].sum()) / known) if known else float("nan"),
    }
    if layout.task == "multilabel":
        on = totals.sums[layout.rows["on"]][predictor : predictor + 1]
        found |= {
            "f1_micro": share("hits", on, 2.0),
            **{name: share(name, judged) for name in BY_EXAMPLE},
        }
    return found


def overall(layout: Layout, vectors: Vectors, values: Vectors, together: dict[str, float]) -> dict[str, float]:
    """Put one predictor's metrics of all targets into one set of figures.

    The values of several targets are averaged (undefined ones left out). A label set keeps only what suits
    it, and its f1_macro is the mean of its labels' F1.
    """
    kept: tuple[str, ...]
    if layout.task == "multilabel":
        found = {"f1_macro": formulas.mean_of(vectors["f1"])}
        kept = ("log_loss", "brier", "roc_auc")
    else:
        found, kept = {}, tuple(name for name in vectors if name != "f1" or len(layout.classes) == 1)
    found |= {name: formulas.mean_of(vectors[name]) for name in kept if name in vectors}
    found |= together
    return found | {name: formulas.mean_of(vector) for name, vector in values.items()}


def course_rows(layout: Layout) -> list[slice]:
    """Tell which rows `course` needs."""
    names = ("hits", "on") if layout.task == "multilabel" else ("right", "known", "absolute", "count")
    return [layout.rows[name] for name in names if name in layout.rows]


def course(layout: Layout, sums: FloatArray) -> list[float]:
    """Return the values of the sampled metrics (`outcome.sampled`) from sums alone."""
    rows = layout.rows
    if layout.task == "multilabel":
        hits, on = sums[rows["hits"]][0], sums[rows["on"]][0]
        return [float(2.0 * hits / on) if on else 0.0]
    found = []
    if layout.classes:
        found.append(_mean_ratio(sums[rows["right"]].tolist(), sums[rows["known"]].tolist()))
    if layout.values:
        width = len(layout.values)
        absolute, count = sums[rows["absolute"]][:width], sums[rows["count"]][:width]
        found.append(_mean_ratio(absolute.tolist(), count.tolist()))
    return found


def _mean_ratio(totals: list[float], counts: list[float]) -> float:
    # plain floats: this runs at every point of the history, mostly for one target
    ratios = [total / count for total, count in zip(totals, counts, strict=True) if count]
    return sum(ratios) / len(ratios) if ratios else float("nan")
