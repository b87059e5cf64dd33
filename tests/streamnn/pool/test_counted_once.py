"""No label counts twice, but through the replay that a network declares: what each part of a pool keeps tells how often it learned.

Of a network and of linear members the decay of second moments tells the steps, of sums that fade their size, of least squares
the inverse of the spread (1 + the number of events, where it belongs to the constant input).
"""

from dataclasses import replace

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.pool import PoolLearner, PoolSpec, presets
from tests.streamnn.helpers import drive, labels_of, numeric_stream
from tests.streamnn.pool.helpers import late

EVENTS, FADE = 96, 0.999
TABLES = {"classes": presets.NETWORKS, "values": presets.VALUE_NETWORKS, "labels": presets.LABEL_NETWORKS}
KINDS = {"classes": ("multiclass",), "values": ("regression",), "labels": ("binary", "binary", "binary")}
WAYS = {"each": (1, 0), "batches": (8, 0), "late": (1, 30), "cut": (1, 0)}  # events of a batch, events a label is late


def made(task, preset):
    """A learner with room for all that comes, so that it never grows."""
    targets = tuple(TargetSpec(f"t{i}", kind) for i, kind in enumerate(KINDS[task]))
    return PoolLearner(PoolSpec(targets=targets, preset=preset, class_capacity=4))


def stream(task, share):
    """Columns and labels, of which a share is known; the very first always is, of every target and class."""
    columns, score = numeric_stream(EVENTS)
    rng = np.random.default_rng(5)
    labels = {}
    for i, kind in enumerate(KINDS[task]):
        label = labels_of(kind, score * (-1.0) ** i)
        hidden = rng.random(EVENTS) >= share
        hidden[:8] = False
        label[hidden] = None if label.dtype == object else np.nan
        labels[f"t{i}"] = label
    return columns, labels


def learned(task, preset, way, share):
    """Let a pool learn the stream; returns its state, the rows' labels known [K, T] and how often networks could learn."""
    learner, (columns, labels), (batch, delay) = made(task, preset), stream(task, share), WAYS[way]
    known = np.array([[v is not None and v == v for v in label] for label in labels.values()]).T
    some = known.any(axis=1)
    if delay:
        rows = learner.encode(columns, labels, np.arange(EVENTS)).rows
        learner.run(rows, late(EVENTS, delay), rate=0.003)
    else:
        drive(learner, columns, labels, cuts=[7] * 14 if way == "cut" else [EVENTS], batch=batch)
    (pool,) = (one.pool for one in learner.tasks.values())
    return pool, known, int(some.reshape(-1, batch).any(axis=1).sum())


def steps(left, beta2):
    """How many steps decay 1 to this."""
    return round(float(np.log(left) / np.log(beta2)))


def faded(count, fade=FADE):
    """The sum of so many ones that fade."""
    return (1 - fade**count) / (1 - fade)


def without_replay(monkeypatch, task, preset):
    """Let the networks of a preset learn no past event again."""
    nets = tuple(replace(spec, again=0) for spec in TABLES[task][preset])
    monkeypatch.setitem(TABLES[task], preset, nets)


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("preset", ["lite", "best"])
@pytest.mark.parametrize("task", KINDS)
def test_without_replay_each_label_is_learned_once(monkeypatch, task, preset, way, share):
    """Every part has counted each label just once: singly, in batches, late, in pieces, and where some labels are missing."""
    without_replay(monkeypatch, task, preset)
    pool, known, groups = learned(task, preset, way, share)
    state, events = pool.state, int(known.any(axis=1).sum())
    assert (share == 1) == (events == EVENTS)
    assert state["replay"]["learned"][0] == events
    for spec in pool.nets:
        # a value has no scale before the second one, and its residual none before the third
        least = groups - (2 if task == "values" and WAYS[way][0] == 1 else 1 if task == "values" else 0)
        assert least <= steps(state[spec.name]["left_unit"][0], spec.beta2) <= groups, spec.name
    if task == "classes":
        assert state["maps"]["counts"][1] == events
        np.testing.assert_allclose(state["tables"]["totals"].sum(), faded(events), rtol=1e-9)
        np.testing.assert_allclose(state["maps"]["totals"].sum() * FADE ** (events - 1), faded(events), rtol=1e-9)
        # where the first label comes alone there is one class, and no slope
        assert steps(state["linear"]["left"][0], FADE) == groups - (WAYS[way][0] == 1)
        assert state["mixer"]["count"][0] == events - 3  # nobody is judged by the first of a class
        assert all(state[spec.name]["count"][0] == events for spec in pool.nets)
    elif task == "values":
        assert state["values"]["counts"][0] == state["blend"]["count"][0] == events
        for model in ("squares", "changes"):
            count = np.linalg.inv(state[model]["spread"][0])[0, 0] - 1
            assert events - 2 - WAYS[way][0] <= round(count) <= events
            assert count == pytest.approx(round(count), abs=1e-6)
    else:
        assert state["votes"]["count"][0] == state["sets"]["count"][0] == events
        np.testing.assert_array_equal(state["mixer"]["labels"], known.sum(axis=0))
        np.testing.assert_allclose(state["votes"]["weight"], faded(known.sum(axis=0)), rtol=1e-6)


@pytest.mark.parametrize("preset", ["fast", "best"])
@pytest.mark.parametrize("task", KINDS)
def test_replay_is_what_is_declared(task, preset):
    """A network takes one step for a label and as many for past ones as it declares; the first label has no past."""
    pool, known, _ = learned(task, preset, "each", 0.3)
    events = int(known.any(axis=1).sum())
    assert any(spec.again for spec in pool.nets)
    for spec in pool.nets:
        taken = steps(pool.state[spec.name]["left_unit"][0], spec.beta2)
        if task == "values":  # nothing is learned, nor learned again, before there is a scale
            assert (events - 2) * (1 + spec.again) <= taken <= events + spec.again * (events - 1), spec.name
        else:
            assert taken == events + spec.again * (events - 1), spec.name
