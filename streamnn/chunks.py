"""What every learner does with a chunk of named columns: lay it out as rows, up to where more capacity is needed.

In: columns by name. Out: `EncodedChunk`. Axes: K events of a chunk, F input capacity, W head width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from streamnn.features.index import Column, FeatureIndex
from streamnn.heads import Head
from streamnn.operations import FloatArray, IntArray, Rows
from streamnn.targets import TargetIndex


@dataclass(frozen=True, slots=True, eq=False)
class EncodedChunk:
    """The first events of a chunk, ready to run; the rest needs more capacity and is encoded next.

    Attributes:
        rows: inputs and labels.
        truth: [K', T] float64: class number, 0..1 or value, NaN = unknown.
    """

    rows: Rows
    truth: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Indexes:
    """Names to positions, and what to do when either has grown.

    Attributes:
        features: names and categories to inputs.
        targets: classes to outputs.
        head: the present head.
        grown: called after an index doubled, with the number of inputs there were before.
    """

    features: FeatureIndex
    targets: TargetIndex
    head: Callable[[], Head]
    grown: Callable[[int], None]


def encode_chunk(
    indexes: Indexes, columns: Mapping[str, Column], labels: Mapping[str, Column], number: IntArray, *, batch: int
) -> EncodedChunk:
    """Turn the first events of a chunk into rows, growing if the very first needs it.

    Args:
        indexes: what knows the names.
        columns: features by name, each [K]; see `FeatureIndex`.
        labels: targets by name, each [K]; see `TargetIndex`. A target that is absent is unknown.
        number: [K] int64 event numbers, K > 0.
        batch: events with the same number // batch stay together.

    Returns:
        At least one micro-batch of rows; fewer than K where a later one needs more capacity.
    """
    features, targets = indexes.features, indexes.targets
    rows = len(number)
    while True:
        active, classes = features.active, targets.counts
        inputs = features.encode(head_of(columns, rows), rows)
        outputs = targets.encode(head_of(labels, rows), len(inputs.x), head=indexes.head())
        fits = len(outputs.y)
        if fits == rows:
            return EncodedChunk(Rows(inputs.x, outputs.y, number[:rows]), outputs.truth)
        # what comes after the cut is met again later: until then it has no position
        features.truncate(active)
        targets.truncate(classes)
        cut = int(np.searchsorted(number // batch, number[fits] // batch))
        if cut > 0:
            rows = cut
            continue
        before = features.capacity
        if outputs.needed:
            targets.grow(outputs.needed)
        else:
            features.grow(inputs.needed)
        indexes.grown(before)


def pad_rows(rows: Rows, *, inputs: int, old: Head, new: Head) -> Rows:
    """Lay rows that were encoded at a smaller capacity out for `inputs` inputs and the new head."""
    if rows.x.shape[1] == inputs and rows.y.shape[1] == new.width:
        return rows
    x = np.full((len(rows), inputs), np.nan)
    x[:, : rows.x.shape[1]] = rows.x
    return Rows(x, pad_labels(rows.y, old, new), rows.number)


def pad_labels(y: FloatArray, old: Head, new: Head) -> FloatArray:
    """Lay labels [K, W] of one head out for a larger one of the same targets; a new class has probability 0."""
    wide = np.full((len(y), new.width), np.nan)
    for block in new.blocks:
        before = old.block(block.target.name)
        known = ~np.isnan(y[:, before.first])
        wide[known, block.columns] = 0.0
        wide[:, block.first : block.first + before.width] = y[:, before.columns]
    return wide


def no_events(number: IntArray) -> EncodedChunk:
    """Return the rows of an empty chunk."""
    empty = np.zeros((0, 0))
    return EncodedChunk(Rows(empty, empty, number), empty)


def head_of(columns: Mapping[str, Column], rows: int) -> dict[str, Column]:
    """Return the first rows of each column."""
    return {name: column[:rows] for name, column in columns.items()}
