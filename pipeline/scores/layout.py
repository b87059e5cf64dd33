"""Where each quantity that is summed over events has its row.

Scores rest on two things only: counts of classes (`totals.py`) and sums of per-event quantities. The sums of
all targets and predictors lie in one matrix with one row per quantity, so that a block is folded by one call.

Axes: T class targets, V value targets, P predictors of classes, Q of values; the model is predictor 0 of
    both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.scores.outcome import Target, Task, task_of

MODEL = "model"
BY_EXAMPLE = ("f1_example", "precision_example", "recall_example", "jaccard")  # means over events of a set's figures


@dataclass(frozen=True, slots=True)
class Layout:
    """The rows of the sums.

    Attributes:
        task: what the targets make up.
        classes: the T class targets, in the order given.
        values: the V regression targets.
        predictors: names of the P predictors of classes; the model, then its baselines.
        regressors: names of the Q predictors of values.
        rows: quantity -> its rows [first, last).
        size: number of rows.

    Quantities of class targets: `right`, `known` [T] of the model; `loss` (log-loss), `brier`, `rated`
    (events with a probability) [T]. Of several class targets: `judged` [1] events with any truth, `exact`
    [P]. Of a label set: `hits` (labels rightly on), `on` (labels on in truth plus labels on in the decision),
    and those of `BY_EXAMPLE` [P]. Of values, per regressor and target [Q * V]: `count`, `total` (of the truth),
    `absolute`, `squared`, `spread` (see `values.py`).
    """

    task: Task
    classes: tuple[Target, ...]
    values: tuple[Target, ...]
    predictors: tuple[str, ...]
    regressors: tuple[str, ...]
    rows: dict[str, slice]
    size: int


def lay_out(targets: Sequence[Target]) -> Layout:
    """Number the rows for a list of targets."""
    task = task_of(targets)
    classes = tuple(t for t in targets if t.kind != "regression")
    values = tuple(t for t in targets if t.kind == "regression")
    predictors: tuple[str, ...] = (MODEL, "majority", "no_change") if classes else ()
    if task == "multilabel":
        predictors += ("majority_labelset",)
    regressors = (MODEL, "mean", "last", "last_of_category") if values else ()
    widths: dict[str, int] = {}
    if classes:
        widths |= dict.fromkeys(("right", "known", "loss", "brier", "rated"), len(classes))
    if len(classes) > 1:
        widths |= {"judged": 1, "exact": len(predictors)}
    if task == "multilabel":
        widths |= dict.fromkeys(("hits", "on", *BY_EXAMPLE), len(predictors))
    if values:
        each = len(regressors) * len(values)
        widths |= dict.fromkeys(("count", "total", "absolute", "squared", "spread"), each)
    rows, first = {}, 0
    for name, width in widths.items():
        rows[name] = slice(first, first + width)
        first += width
    return Layout(task, classes, values, predictors, regressors, rows, first)
