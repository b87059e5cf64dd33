"""Served rows and labels, as the scores and the prediction sinks want them.

Axes: K events, W head width, T targets, C classes of one target.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from connectors import Origin, Predictions
from pipeline.blocks import Block
from pipeline.model import Model
from pipeline.scores import Outcome
from streamnn.heads import Head
from streamnn.operations import FloatArray, IntArray
from streamnn.targets import decide


def outcome(
    number: IntArray,
    served: FloatArray,
    truth: FloatArray,
    head: Head,
    categories: Mapping[str, IntArray] | None = None,
) -> Outcome:
    """Describe K scored events.

    Args:
        number: [K] event numbers.
        served: [K, W] as `Head.serve` gives it.
        truth: [K, T] class numbers, 0..1 or values in the order of the head's targets; NaN = unknown.
        head: whose layout `served` has.
        categories: field -> [K], see `Outcome`.
    """
    decisions = decide(served, head)
    probability: dict[str, FloatArray] = {}
    for target in head.targets:
        block = head.block(target.name)
        if target.kind == "binary":
            probability[target.name] = served[:, block.first]
        elif target.kind == "multiclass":
            probability[target.name] = served[:, block.columns]
    names = [t.name for t in head.targets]
    return Outcome(
        truth={name: _class(truth[:, t], head, t) for t, name in enumerate(names)},
        decision={name: decisions[:, t] for t, name in enumerate(names)},
        probability=probability,
        number=number,
        categories=categories or {},
    )


def predictions(block: Block, learner: Model, cuts: tuple[Origin, ...] = ()) -> Predictions:
    """Describe the events of a block for a prediction sink, with classes by name; `cuts` as `Predictions` has them.

    A class that does not exist yet is left out.
    """
    head, served, truth = learner.head, block.served, block.truth
    decisions = decide(served, head)
    decided: dict[str, npt.NDArray[np.object_] | FloatArray] = {}
    labels: dict[str, npt.NDArray[np.object_] | FloatArray] = {}
    probabilities: dict[str, tuple[tuple[object, ...], FloatArray]] = {}
    for t, target in enumerate(head.targets):
        name, classes = target.name, learner.targets.classes(target.name)
        place = head.block(name)
        if target.kind == "regression":
            decided[name], labels[name] = decisions[:, t], truth[:, t]
        elif target.kind == "binary" and not classes:
            p = served[:, place.first]
            decided[name], labels[name] = decisions[:, t], truth[:, t]
            probabilities[name] = ((1,), p[:, None])
        else:
            decided[name] = _names(decisions[:, t], classes)
            labels[name] = _names(truth[:, t], classes)
            p = served[:, place.columns]
            if target.kind == "binary":
                p = np.stack([1 - p[:, 0], p[:, 0]], axis=1)
            p = p[:, : len(classes)]
            probabilities[name] = (classes, np.where(p > 0, p, np.nan))
    return Predictions(
        offsets=block.offset,
        numbers=block.rows.number,
        targets=tuple(t.name for t in head.targets),
        decisions=decided,
        probabilities=probabilities,
        labels=labels,
        records=block.records,
        cuts=cuts,
    )


def _class(truth: FloatArray, head: Head, t: int) -> FloatArray:
    """Round a soft 0..1 label to its class."""
    if head.targets[t].kind != "binary":
        return truth
    return np.where(np.isnan(truth), np.nan, truth > 0.5)


def _names(numbers: FloatArray, classes: tuple[object, ...]) -> npt.NDArray[np.object_]:
    lookup = np.empty(len(classes) + 1, dtype=object)  # the last entry stays None: unknown
    lookup[: len(classes)] = classes
    known = ~np.isnan(numbers)
    return lookup[np.where(known, numbers, len(classes)).astype(np.int64)]
