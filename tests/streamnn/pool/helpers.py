"""Small streams, lists of operations and pools driven by hand, for the tests of this folder."""

import numpy as np

from streamnn.operations import Kind, Operations
from streamnn.pool.classifier import Chunk, ClassPool
from streamnn.pool.engines import NATIVE


def stream(events, *, numeric=4, plain=2, classes=3, gaps=True, unknown=0.0, seed=0):
    """A chunk whose class depends on two inputs; ties, constants, missing values and unknown labels included."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, numeric)) * 10.0 ** np.arange(numeric) + 3
    x[:, -1] = np.round(rng.normal(size=events))  # ties
    x[:, 0] += np.linspace(0, 5, events)  # drift
    score = np.sin(x[:, 0]) + np.sign(x[:, -1]) + 0.3 * rng.normal(size=events)
    label = np.clip(np.floor((score + 1.5) / 3 * classes), 0, classes - 1).astype(np.int32)
    known = np.unique(label, return_index=True)
    order = np.argsort(np.argsort(known[1]))  # classes are numbered in the order of their appearance
    label = order[np.searchsorted(known[0], label)].astype(np.int32)
    flags = (rng.random((events, plain)) < 0.4).astype(np.float64)
    if gaps:
        x[rng.random(x.shape) < 0.1] = np.nan
        flags[rng.random(flags.shape) < 0.1] = np.nan
        x[: events // 4, 1] = 7.0  # constant for a while
    label[rng.random(events) < unknown] = -1
    return Chunk(x, flags, label, np.arange(events, dtype=np.int64))


def part(chunk, rows):
    """Some rows of a chunk."""
    return Chunk(chunk.x[rows], chunk.plain[rows], chunk.label[rows], chunk.number[rows])


def singles(events, *, kind=Kind.PREDICT_LEARN):
    """One operation for each row."""
    return Operations.of([(kind, i, i + 1) for i in range(events)])


def batches(events, size):
    """Micro-batches of `size` rows."""
    return Operations.of([(Kind.PREDICT_LEARN, i, min(i + size, events)) for i in range(0, events, size)])


def late(events, delay):
    """Each row is predicted, and learned after `delay` more have been predicted."""
    listed = []
    for i in range(events + delay):
        if i < events:
            listed.append((Kind.PREDICT_OBSERVE, i, i + 1))
        if i >= delay:
            listed.append((Kind.LEARN, i - delay, i - delay + 1))
    return Operations.of(listed)


def make_pool(preset="fast", *, numeric=4, plain=2, classes=4, seed=0, parts=NATIVE):
    """A pool for the streams above."""
    return ClassPool(preset, numeric=numeric, plain=plain, classes=classes, seed=seed, parts=parts)


def drive(pool, chunk, *, cuts, rate=0.003):
    """Predict and learn a chunk in pieces, growing where a label needs it: served [K, C] and loss."""
    served, losses, at = [], [], 0
    for cut in cuts:
        stop = min(at + cut, len(chunk))
        while at < stop:
            beyond = np.flatnonzero(chunk.label[at:stop] >= pool.layout.classes)
            end = at + int(beyond[0]) if len(beyond) else stop
            if end == at:
                pool.grow(numeric=0, plain=0, classes=pool.layout.classes * 2)
                continue
            rows = slice(at, end)
            out, loss = pool.run(part(chunk, rows), singles(end - at), rate=rate)
            served += list(out)
            losses += list(loss)
            at = end
    wide = np.zeros((len(served), pool.layout.classes))
    for i, row in enumerate(served):
        wide[i, : len(row)] = row
        wide[i, len(row) :] = row[0] * 0
    return wide, np.array(losses)


def same_state(a, b):
    """Tell whether two pools hold the same bits."""
    return a.state.keys() == b.state.keys() and all(
        array.dtype == b.state[name][key].dtype and np.array_equal(array, b.state[name][key], equal_nan=True)
        for name, arrays in a.state.items()
        for key, array in arrays.items()
    )
