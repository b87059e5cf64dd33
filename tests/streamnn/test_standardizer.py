"""Streaming standardisation against a slow loop, and what it promises about missing values and outliers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from streamnn.features import Standardizer

ROWS = torch.ones(1, dtype=torch.bool)


def feed(standardizer, values):
    """Observe a list of values of one feature, one at a time; None is missing."""
    state = standardizer.init(1)
    for value in values:
        x = torch.tensor([[math.nan if value is None else value]], dtype=torch.float64)
        state = standardizer.observe(state, x, ROWS)
    return state


def test_first_event_standardises_to_zero():
    """An input without statistics yet is 0, whatever its value."""
    s = Standardizer()
    z = s.transform(s.init(2), torch.tensor([[1e6, -3.0]], dtype=torch.float64))
    assert z.tolist() == [[0.0, 0.0]]


def test_statistics_equal_numpy_over_many_events():
    """Mean and biased variance equal NumPy's over everything seen."""
    values = np.random.default_rng(1).normal(3, 2, 500)
    state = feed(Standardizer(outlier=0), values.tolist())
    assert state["mean"].item() == pytest.approx(values.mean(), rel=1e-12)
    assert state["var"].item() == pytest.approx(values.var(), rel=1e-10)


def test_transform_counts_the_events_own_value():
    """The k-th event is standardised with mean and deviation of the first k values."""
    values = np.random.default_rng(2).normal(0, 1, 60)
    s = Standardizer(outlier=0, clip=100)
    state = s.init(1)
    for k, value in enumerate(values, start=1):
        x = torch.tensor([[value]], dtype=torch.float64)
        seen = values[:k]
        expected = 0.0 if k == 1 else (value - seen.mean()) / seen.std()
        assert s.transform(state, x).item() == pytest.approx(expected, abs=1e-9)
        state = s.observe(state, x, ROWS)


def test_transform_changes_nothing():
    """`transform` is pure."""
    s = Standardizer()
    state = feed(s, [1.0, 2.0, 3.0])
    before = {name: t.clone() for name, t in state.items()}
    s.transform(state, torch.tensor([[7.0]], dtype=torch.float64))
    assert all(torch.equal(state[name], t) for name, t in before.items())


def test_a_batch_equals_its_events_one_by_one():
    """Chan's update of a batch gives the statistics of the single updates."""
    x = torch.from_numpy(np.random.default_rng(3).normal(5, 3, (64, 4)))
    x[::3, 1] = math.nan
    s = Standardizer(outlier=0)
    whole = s.observe(s.init(4), x, torch.ones(64, dtype=torch.bool))
    single = s.init(4)
    for row in x:
        single = s.observe(single, row[None], ROWS)
    for name in whole:
        torch.testing.assert_close(whole[name], single[name], rtol=1e-12, atol=1e-12)


@given(st.lists(st.floats(-1e150, 1e150), min_size=1, max_size=20), st.integers(1, 7))
def test_variance_is_never_negative(values, batch):
    """No sequence of batches, constant ones included, makes a variance negative."""
    s = Standardizer()
    state = s.init(1)
    for i in range(0, len(values), batch):
        part = torch.tensor(values[i : i + batch], dtype=torch.float64)[:, None]
        state = s.observe(state, part, torch.ones(len(part), dtype=torch.bool))
        assert state["var"].item() >= 0


def test_constant_first_batch_has_no_variance():
    """A constant first batch gives variance 0, not a small negative number."""
    s = Standardizer()
    x = torch.full((3, 1), 0.1 + 0.2, dtype=torch.float64)
    assert s.observe(s.init(1), x, torch.ones(3, dtype=torch.bool))["var"].item() == 0


def test_missing_values_leave_statistics_alone():
    """NaN neither moves nor counts, and standardises to 0."""
    s = Standardizer()
    with_gaps, without = feed(s, [1.0, None, 2.0, None, 5.0]), feed(s, [1.0, 2.0, 5.0])
    assert all(torch.equal(with_gaps[name], without[name]) for name in without)
    assert s.transform(with_gaps, torch.tensor([[math.nan]], dtype=torch.float64)).item() == 0


def test_padded_rows_are_not_counted():
    """A row marked invalid changes nothing."""
    s = Standardizer()
    x = torch.tensor([[1.0], [50.0]], dtype=torch.float64)
    padded = s.observe(s.init(1), x, torch.tensor([True, False]))
    alone = s.observe(s.init(1), x[:1], ROWS)
    assert all(torch.equal(padded[name], alone[name]) for name in alone)


def test_one_wild_value_hardly_moves_the_scale():
    """After 30 values an outlier of 1e12 changes the deviation by a few percent only."""
    values = np.random.default_rng(4).normal(0, 1, 1000).tolist()
    before = feed(Standardizer(), values)["var"].item()
    after = feed(Standardizer(), [*values, 1e12])["var"].item()
    assert before < after < before * 1.2


def test_lasting_change_of_scale_gets_through():
    """A scale a thousand times larger is adopted within the length of the past."""
    rng = np.random.default_rng(5)
    values = [*rng.normal(0, 1, 500), *rng.normal(0, 1000, 500)]
    assert feed(Standardizer(), values)["var"].item() > 200**2


def test_value_that_was_constant_may_change():
    """A feature that was constant for long is not held at its constant."""
    state = feed(Standardizer(), [5.0] * 100 + [6.0] * 100)
    assert state["mean"].item() == pytest.approx(5.5)


def test_horizon_forgets():
    """With a horizon the mean follows a jump; without, it stays between."""
    values = [0.0] * 2000 + [1.0] * 300
    values = [v + 0.1 * math.sin(i) for i, v in enumerate(values)]
    assert feed(Standardizer(horizon=50), values)["mean"].item() > 0.95
    assert feed(Standardizer(), values)["mean"].item() < 0.2


def test_an_event_observed_before_does_not_count_twice():
    """With own=False the statistics are used as they are."""
    s = Standardizer(outlier=0)
    state = feed(s, [1.0, 3.0])
    z = s.transform(state, torch.tensor([[3.0]], dtype=torch.float64), own=False)
    assert z.item() == pytest.approx(1.0)


@pytest.mark.parametrize("setting", [{"clip": 0.0}, {"outlier": -1.0}, {"horizon": -1}])
def test_settings_out_of_range_are_named(setting):
    """The error names the setting and its value."""
    (name, value), *_ = setting.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        Standardizer(**setting)
