"""What must hold for every head, normaliser and optimizer: saving, growth, room for more, cuts."""

import json

import numpy as np
import pytest
import torch

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.networks import MLPSpec
from streamnn.normalizers import NORMALIZERS
from streamnn.optimizers import OPTIMIZERS
from tests.streamnn.helpers import drive, labels_of, numeric_stream, obj, same_state

KINDS = {
    "binary": ("binary",),
    "multiclass": ("multiclass",),
    "regression": ("regression",),
    "mixed": ("binary", "multiclass", "regression"),
}
EVENTS = 24
PARTS = [("adam", n) for n in NORMALIZERS] + [(o, "layer") for o in OPTIMIZERS if o != "adam"]


def stream(kinds, events=EVENTS, seed=0):
    """Features and classes that come late, gaps, and labels of which some are missing."""
    columns, score = numeric_stream(events, features=4, seed=seed)
    columns["f3"][: events // 2] = np.nan
    columns["f1"][::7] = np.nan
    columns["kind"] = obj([f"k{n % (1 + n // 8)}" for n in range(events)])
    labels = {}
    for i, kind in enumerate(kinds):
        labels[f"t{i}"] = labels_of(kind, score)
        labels[f"t{i}"][3 + i :: 8] = None if kind == "multiclass" else np.nan
        if kind == "multiclass":
            labels[f"t{i}"][: events // 2] = "c0"
    return columns, labels


def learner_of(kinds, optimizer, normalizer, *, capacity=2, dropout=0.2, **settings):
    """A small learner whose capacity soon has to grow."""
    return Learner(
        LearnerSpec(
            targets=tuple(TargetSpec(f"t{i}", kind) for i, kind in enumerate(kinds)),
            network=MLPSpec(units=(5,), normalizer=normalizer, dropout=dropout),
            optimizer=OPTIMIZERS[optimizer](),
            feature_capacity=capacity,
            class_capacity=capacity,
            engine="eager",
            **settings,
        )
    )


def rate_of(optimizer):
    """A usual learning rate."""
    return 1.0 if optimizer in ("adadelta", "obgd") else 0.01


def part(columns, first, last):
    """Events [first, last)."""
    return {name: c[first:last] for name, c in columns.items()}


def through_a_file(state):
    """What comes back if tensors are written as their bytes and all else as JSON."""
    if isinstance(state, torch.Tensor):
        array = state.numpy()
        copy = np.frombuffer(array.tobytes(), dtype=array.dtype).reshape(array.shape)
        return torch.from_numpy(copy.copy())
    if isinstance(state, dict):
        assert all(isinstance(key, str) for key in state)
        return {key: through_a_file(value) for key, value in state.items()}
    return json.loads(json.dumps(state, allow_nan=False))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("kinds", KINDS)
def test_saved_and_loaded_goes_on_with_the_same_bits(kinds, optimizer, normalizer):
    """After saving and loading, the next steps, growth among them, give the same bits in state and predictions."""
    columns, labels = stream(KINDS[kinds], 13)
    whole = learner_of(KINDS[kinds], optimizer, normalizer)
    drive(whole, part(columns, 0, 6), part(labels, 0, 6), cuts=[6], rate=rate_of(optimizer))
    saved = through_a_file(whole.state_dict())
    loaded = learner_of(KINDS[kinds], optimizer, normalizer)
    loaded.load_state_dict(saved)
    assert same_state(whole, loaded)
    before = dict(whole.growths)
    rest = part(columns, 6, 12), part(labels, 6, 12)
    want, want_loss = drive(whole, *rest, cuts=[6], rate=rate_of(optimizer), start=6)
    got, got_loss = drive(loaded, *rest, cuts=[6], rate=rate_of(optimizer), start=6)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)
    assert same_state(whole, loaded)
    assert whole.growths == loaded.growths
    assert whole.growths["features"] > before["features"]


@pytest.mark.parametrize(("optimizer", "normalizer"), PARTS)
def test_growth_keeps_outputs_and_room_changes_nothing(optimizer, normalizer):
    """Growing leaves outputs as they are at that moment; later ones are as if there had been room from the start."""
    columns, labels = stream(KINDS["mixed"])
    runs = []
    for capacity in (2, 32):
        learner = learner_of(KINDS["mixed"], optimizer, normalizer, capacity=capacity, dtype="float64")
        served, _ = drive(learner, columns, labels, cuts=[EVENTS], rate=rate_of(optimizer))
        assert (learner.growths["features"] > 0) == (capacity == 2)
        event = part(columns, EVENTS - 1, EVENTS)
        before = learner.predict(event, 1)[0]
        late = {**event, **{f"new{i}": np.array([float(i)]) for i in range(40)}}
        learner.encode(late, {"t1": obj(["never seen"])}, np.array([EVENTS]))
        assert learner.growths["features"] > 0
        after = learner.predict(late, 1)[0]
        np.testing.assert_allclose(after[: len(before)], before, rtol=1e-12, atol=1e-15)
        runs.append(served)
    # a class without room yet was not served at all; with room, at probability 0
    small, large = np.nan_to_num(runs[0]), np.nan_to_num(runs[1])
    np.testing.assert_allclose(large[:, : small.shape[1]], small, rtol=1e-7, atol=1e-9)
    assert not large[:, small.shape[1] :].any()


@pytest.mark.parametrize(("optimizer", "normalizer"), PARTS)
@pytest.mark.parametrize("accumulate", [1, 3])
def test_cuts_change_no_bit(optimizer, normalizer, accumulate):
    """Weights, statistics, slots and predictions are the same however the stream is cut."""
    columns, labels = stream(KINDS["mixed"])
    whole, cut = (learner_of(KINDS["mixed"], optimizer, normalizer, accumulate=accumulate) for _ in range(2))
    want, _ = drive(whole, columns, labels, cuts=[EVENTS], rate=rate_of(optimizer))
    got, _ = drive(cut, columns, labels, cuts=[1, 7, 3, 13], rate=rate_of(optimizer))
    np.testing.assert_array_equal(got, want)
    assert same_state(whole, cut)
