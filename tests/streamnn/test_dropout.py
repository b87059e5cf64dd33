"""Dropout masks: what they are a function of, and whether they look random."""

import numpy as np
import pytest
import torch

from streamnn.context import Context
from streamnn.dropout import Dropout

WORD = (1 << 64) - 1


def context(numbers, *, training=True):
    """A pass over the events of these numbers."""
    numbers = torch.as_tensor(numbers, dtype=torch.int64)
    return Context(
        training=training,
        valid=torch.ones(len(numbers), dtype=torch.bool),
        number=numbers,
        updated=torch.tensor(True),
    )


def masks(events, units, *, p=0.5, seed=0, stream=0, first=0):
    """Which units of which events are kept: [events, units] of 0 and 1."""
    drop = Dropout(p, seed=seed, stream=stream)
    ones = torch.ones(events, units, dtype=torch.float64)
    return (drop(ones, context(range(first, first + events))) > 0).numpy().astype(np.float64)


def mix(z):
    """SplitMix64's mixing function in Python integers."""
    z &= WORD
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & WORD
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & WORD
    return z ^ (z >> 31)


@pytest.mark.parametrize(("seed", "stream"), [(0, 0), (7, 2), (-3, 1)])
def test_masks_are_the_formula_in_unsigned_integers(seed, stream):
    """Signed tensor arithmetic gives what 64-bit unsigned arithmetic gives, for huge event numbers too."""
    golden, row, unit = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95, 0xAF251AF3B0F025B5
    key = mix(mix(seed + golden) + (stream + 1) * golden)
    numbers = [0, 1, 2, 1 << 40, (1 << 62) + 12345]
    drop = Dropout(0.3, seed=seed, stream=stream)
    got = drop(torch.ones(len(numbers), 50, dtype=torch.float64), context(numbers)) > 0
    for i, number in enumerate(numbers):
        for u in range(50):
            drawn = mix(mix(number * row + key) + u * unit) / (1 << 64)
            assert got[i, u].item() == (drawn >= 0.3)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_of_dropped_units(p):
    """Of a million draws the share p is dropped, to 4 standard errors, for every unit and in every event."""
    kept = masks(4000, 250, p=p)
    error = np.sqrt(p * (1 - p))
    assert abs(kept.mean() - (1 - p)) < 4 * error / np.sqrt(kept.size)
    assert np.abs(kept.mean(axis=0) - (1 - p)).max() < 4.5 * error / np.sqrt(4000)
    assert np.abs(kept.mean(axis=1) - (1 - p)).max() < 5 * error / np.sqrt(250)


def correlation(a, b):
    """In standard errors."""
    return np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std()) * np.sqrt(a.size)


@pytest.mark.parametrize("lag", [1, 2, 3, 8, 64, 100])
def test_masks_are_independent_between_events_and_units(lag):
    """A unit's mask tells nothing of the next events' or of its neighbours', nor do both together."""
    kept = masks(2000, 200)
    assert abs(correlation(kept[lag:], kept[:-lag])) < 4
    assert abs(correlation(kept[:, lag:], kept[:, :-lag])) < 4
    assert abs(correlation(kept[lag:, lag:], kept[:-lag, :-lag])) < 4
    assert abs(correlation(kept[lag:, :-lag], kept[:-lag, lag:])) < 4


def test_masks_are_independent_between_seeds_and_layers():
    """Neighbouring seeds and layers of one network draw different masks."""
    base = masks(2000, 200)
    others = [masks(2000, 200, seed=1), masks(2000, 200, seed=-1), masks(2000, 200, stream=1)]
    others += [masks(2000, 200, seed=1, stream=1), masks(2000, 200, seed=2)]
    for other in others:
        assert abs(correlation(base, other)) < 4


def test_counts_in_an_event_are_binomial():
    """How many units of an event are kept has a binomial's variance: units do not fall together."""
    counts = masks(5000, 64).sum(axis=1)
    assert counts.var() == pytest.approx(64 / 4, rel=0.1)


def test_a_mask_depends_on_the_event_alone():
    """The same event has the same mask in any batch, and a narrower layer has the first units' masks."""
    whole = masks(20, 16)
    np.testing.assert_array_equal(np.concatenate([masks(1, 16, first=n) for n in range(20)]), whole)
    np.testing.assert_array_equal(masks(20, 10), whole[:, :10])


def test_kept_units_are_scaled_up_and_gradients_with_them():
    """A kept unit is divided by 1 - p, a dropped one is 0 and has no gradient; so the mean stays."""
    x = torch.randn(50, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    y = Dropout(0.2, seed=3, stream=0)(x, context(range(50)))
    y.sum().backward()
    kept = y != 0
    torch.testing.assert_close(y[kept], x[kept] / 0.8)
    torch.testing.assert_close(x.grad, torch.where(kept, 1.25, 0.0).double())


def test_evaluation_and_p_of_0_hand_the_input_on():
    """Outside of training, and with nothing to drop, the very same tensor comes back."""
    x = torch.randn(2, 3)
    assert Dropout(0.5, seed=0, stream=0)(x, context([0, 1], training=False)) is x
    assert Dropout(0.0, seed=0, stream=0)(x, context([0, 1])) is x


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_p_is_checked(p):
    """A share that leaves nothing, or is none, is refused."""
    with pytest.raises(ValueError, match=f"p is {p}, but must be at least 0 and below 1"):
        Dropout(p, seed=0, stream=0)
