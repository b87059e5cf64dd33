"""Small streams and a learner driven by hand, for the tests of this folder."""

import numpy as np

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.operations import Kind, Operations


def obj(values):
    """Make an object column."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def numeric_stream(events, *, features=5, seed=0):
    """A learnable stream: columns f0.. and a score that depends on them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, features)) * np.arange(1, features + 1) + 3
    score = np.sin(x[:, 0]) + (x[:, 1] - 3) * (x[:, 2] - 3) / 6 + 0.1 * rng.normal(size=events)
    return {f"f{i}": x[:, i].copy() for i in range(features)}, score


def labels_of(kind, score):
    """The label column of a kind for a score."""
    if kind == "regression":
        return 100 + 20 * score
    if kind == "binary":
        return (score > 0).astype(np.float64)
    return obj([f"c{min(2, int(s > -0.4) + int(s > 0.4))}" for s in score])


def make_learner(kind, *, targets=1, **settings):
    """A learner with `targets` targets of one kind, named t0.., run eagerly unless `engine` says otherwise."""
    listed = tuple(TargetSpec(f"t{i}", kind) for i in range(targets))
    return Learner(LearnerSpec(targets=listed, **{"engine": "eager", **settings}))


def drive(learner, columns, labels, *, cuts, batch=1, rate=0.003, start=0):
    """Predict and learn a stream in pieces. Returns served rows [K, W] (last width) and losses [K]."""
    events = len(next(iter(columns.values())))
    served, losses, at = [], [], 0
    for cut in cuts:
        stop = min(at + cut, events)
        while at < stop:
            encoded = learner.encode(
                {n: c[at:stop] for n, c in columns.items()},
                {n: c[at:stop] for n, c in labels.items()},
                np.arange(start + at, start + stop),
                batch=batch,
            )
            k = len(encoded.rows)
            known = ~np.isnan(encoded.truth).all(axis=1)
            groups = range(0, k, batch)
            listed = [
                (
                    Kind.PREDICT_LEARN if known[g : g + batch].any() else Kind.PREDICT_OBSERVE,
                    g,
                    min(g + batch, k),
                )
                for g in groups
            ]
            results = learner.run(encoded.rows, Operations.of(listed), rate=rate)
            assert not results.refused
            served += list(results.served)
            losses += results.loss.tolist()
            at += k
    wide = np.full((events, learner.head.width), np.nan)
    for i, r in enumerate(served):
        wide[i, : len(r)] = r
    return wide, np.array(losses)


def same_state(a, b):
    """Tell whether two learners hold the same bits."""
    return a.state.keys() == b.state.keys() and all(
        t.dtype == b.state[part][name].dtype and np.array_equal(t.numpy(), b.state[part][name].numpy(), equal_nan=True)
        for part, tensors in a.state.items()
        for name, t in tensors.items()
    )
