"""The hard cases in one stream, through both engines, operation by operation.

Late labels, events that are only observed, dropout, streamed statistics of single samples, events with every feature
missing, one event that cannot be learned, an optimizer that forgets, and growth of inputs and of classes.
"""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from streamnn.engine import Control, EagerEngine
from streamnn.heads import Head, TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native import NativeEngine
from streamnn.networks import MLPSpec
from streamnn.normalizers import NORMALIZERS
from streamnn.operations import Kind, Operations, Rows
from streamnn.optimizers import OPTIMIZERS, NAdam
from tests.streamnn.helpers import numeric_stream, obj

EVENTS, LATE, REFUSED, CLEARED = 24, 5, 17, 20


def hard_stream():
    """Columns f0.. (one comes late), a category, a class that comes late, and a value without a finite square."""
    columns, score = numeric_stream(EVENTS, features=3)
    columns["f2"][:12] = np.nan  # with the category: more than 4 inputs from here on
    columns["kind"] = obj(["a" if n % 3 else "b" for n in range(EVENTS)])
    for column in columns.values():
        column[6] = column[13] = None if column.dtype == object else np.nan
    classes = obj([f"c{n % 2 + (n > 9)}" for n in range(EVENTS)])  # a third one from event 10 on
    values = 5 + score
    values[REFUSED] = 1e200
    return columns, {"class": classes, "value": values}


@dataclass
class Waiting:
    """An event whose label has not come yet, as it was encoded."""

    rows: Rows
    head: Head


def labels_at(labels, n, *, value=True):
    """The labels of one event."""
    return {"class": labels["class"][n : n + 1], **({"value": labels["value"][n : n + 1]} if value else {})}


def play(learner):
    """Yield, operation by operation, (rows, operations, whether the optimizer forgets first) for the whole stream."""
    columns, labels = hard_stream()
    waiting = {}
    for n in range(EVENTS):
        event = {name: c[n : n + 1] for name, c in columns.items()}
        kind = Kind.PREDICT_OBSERVE if n % 4 == 1 or n % 7 == 5 else Kind.PREDICT_LEARN
        late = n % 4 == 1  # its label comes LATE events later; that of n % 7 == 5 never does
        encoded = learner.encode(event, labels_at(labels, n, value=n % 3 > 0 or n == REFUSED), np.array([n]))
        assert len(encoded.rows) == 1
        if n - LATE in waiting:
            old = waiting.pop(n - LATE)
            yield learner.pad(old.rows, head=old.head), Operations.of([(Kind.LEARN, 0, 1)]), False
        yield encoded.rows, Operations.of([(kind, 0, 1)]), n == CLEARED
        if late:
            waiting[n] = Waiting(encoded.rows, learner.head)


def copied(state):
    """A deep copy of a state."""
    return {part: {name: t.clone() for name, t in tensors.items()} for part, tensors in state.items()}


def assert_close(got, want, tolerance, where):
    """Compare arrays up to a tolerance that is relative to the largest entry."""
    got, want = np.asarray(got), np.asarray(want)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=where)
    scale = np.nanmax(np.abs(want), initial=1.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale, equal_nan=True, err_msg=where)


def compare(learner, tolerance):
    """Run every operation with both engines from the same state; the stream goes on with the eager one's result."""
    eager, native = EagerEngine(), NativeEngine()
    refused = []
    for rows, operations, clear in play(learner):
        control = Control(rate=0.01, clear=clear, plain=learner.features.plain)
        before = copied(learner.state)
        want_state, want = eager.run(learner.step, learner.state, rows, operations, control)
        got_state, got = native.run(learner.step, learner.state, rows, operations, control)
        at = f"operation {Kind(operations.kind[0]).name} of event {rows.number[0]}"
        for part, tensors in before.items():
            assert all(torch.equal(t, learner.state[part][n]) for n, t in tensors.items()), f"{at} changed its argument"
        assert got.refused.keys() == want.refused.keys(), at
        refused += [int(rows.number[0])] * len(want.refused)
        assert_close(got.served, want.served, tolerance, f"served by {at}")
        assert_close(got.loss, want.loss, tolerance, f"loss of {at}")
        for part, tensors in want_state.items():
            for name, t in tensors.items():
                assert_close(got_state[part][name], t, tolerance, f"{part}.{name} after {at}")
                assert got_state[part][name].dtype == t.dtype
        learner.run(rows, operations, rate=control.rate, clear=clear)
    assert refused == [REFUSED]
    assert learner.growths == {"features": 1, "classes": 1}


def hard_learner(**settings):
    """A learner with a class and a value as targets, and room for four inputs and two classes."""
    network = {"units": (6, 5), "dropout": 0.3, "normalizer": "streaming", **settings.pop("network", {})}
    return Learner(
        LearnerSpec(
            targets=(TargetSpec("class", "multiclass"), TargetSpec("value", "regression")),
            network=MLPSpec(**network),
            feature_capacity=4,
            class_capacity=2,
            engine="eager",
            **settings,
        )
    )


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-5)])
def test_engines_agree_step_by_step(dtype, tolerance):
    """State, predictions and losses agree after every operation."""
    units = (6, 5) if dtype == "float64" else (5,)
    compare(hard_learner(dtype=dtype, network={"units": units}), tolerance)


def test_engines_agree_with_accumulated_gradients():
    """Likewise where three events make one update, with other parts."""
    optimizer, network = NAdam(), {"units": (5,), "normalizer": "online"}
    compare(hard_learner(accumulate=3, optimizer=optimizer, network=network, dtype="float64"), 1e-9)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "normalizer"),
    # half of the pairs: on plainer streams all meet in the covering set of native/test_covering.py, with hidden layers
    [(name, one) for i, name in enumerate(OPTIMIZERS) for j, one in enumerate(NORMALIZERS) if (i + j) % 2 == 0],
)
def test_engines_agree_for_all_parts(name, normalizer):
    """Likewise for every normaliser with every second optimizer, and the other way round."""
    network = {"units": (5,), "normalizer": normalizer}
    compare(hard_learner(optimizer=OPTIMIZERS[name](), network=network, dtype="float64"), 1e-9)
