"""The native engine against the eager one over a pairwise covering set of networks.

Step by step from the same state in float32; end to end in float64. The default suite runs part of the set.
"""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamnn.engine import Control, EagerEngine
from streamnn.native import NativeEngine
from streamnn.operations import Kind, Operations, Rows
from tests.streamnn.native.networks import SETTINGS, build, covering, largest_difference

CHOICES = covering(1)
FEW = 24  # networks in the default suite
LONG = 10


def _name(choice):
    return "-".join(str(v).replace(" ", "") for v in choice.values())


def _marked(choices):
    return [
        pytest.param(c, id=_name(c), marks=[] if i % (len(choices) // FEW) == 0 else [pytest.mark.heavy])
        for i, c in enumerate(choices)
    ]


def control(case, *, rate=1e-3, clear=False):
    """Control values for a case: the last input is used as it is."""
    plain = np.zeros(case.rows.x.shape[1], dtype=bool)
    plain[-1] = True
    return Control(rate, clear, plain)


def part(rows, first, last):
    """Rows [first, last)."""
    return Rows(rows.x[first:last], rows.y[first:last], rows.number[first:last])


def operations(kinds):
    """One operation for each row."""
    steps = np.arange(len(kinds), dtype=np.int64)
    return Operations(kinds, steps, steps + 1)


@pytest.mark.parametrize("choice", _marked(CHOICES))
def test_native_equals_eager(choice):
    """Each step from the same state agrees to 1e-5 in float32; a run from the start agrees to 1e-8 in float64."""
    agrees(choice)


@pytest.mark.heavy
@settings(max_examples=15, deadline=None, derandomize=True)
@given(choice=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SETTINGS.items()}))
def test_other_networks_agree(choice):
    """So do networks beyond the set, in which more than two settings meet that may not have met there."""
    agrees(choice)


def agrees(choice):
    """Compare the engines step by step, and over a run."""
    torch.set_num_threads(1)
    case = build(choice, dtype=torch.float32, events=40)
    native, eager, state = NativeEngine(), EagerEngine(), case.state
    for i, kind in enumerate(case.kinds):
        now = control(case, rate=0.01 / (1 + i), clear=i in (5, 6, 20))
        one, op = part(case.rows, i, i + 1), operations(case.kinds[i : i + 1])
        want, expected, sound = eager._run(case.step, state, one, op, now)
        got, found, fine = native._run(case.step, state, one, op, now)
        assert sound == fine
        worst, place = largest_difference(want, got)
        assert worst < 1e-5, (i, Kind(kind), place)
        np.testing.assert_allclose(found.served, expected.served, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
        state = want
    assert native.compilations == len(set(case.kinds.tolist()))  # a kind is compiled when it first comes
    whole(build(choice, dtype=torch.float64, events=120), tolerance=1e-8)


def whole(case, *, tolerance, rate=1e-4):
    """Run all events in both engines and compare at the end."""
    now, op = control(case, rate=rate), operations(case.kinds)
    want, expected, _ = EagerEngine()._run(case.step, case.state, case.rows, op, now)
    got, found, _ = NativeEngine()._run(case.step, case.state, case.rows, op, now)
    worst, place = largest_difference(want, got)
    assert worst < tolerance, place
    np.testing.assert_allclose(found.served, expected.served, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=tolerance, atol=tolerance)
    assert np.isfinite(expected.loss[case.kinds != Kind.PREDICT_OBSERVE]).all()


@pytest.mark.heavy
@pytest.mark.parametrize("choice", [pytest.param(c, id=_name(c)) for c in CHOICES[:: len(CHOICES) // LONG]])
def test_long_runs_agree(choice):
    """Over 2,000 events in float64 at a small rate nothing drifts apart by more than 1e-8."""
    torch.set_num_threads(1)
    whole(build(choice, dtype=torch.float64, events=2000), tolerance=1e-8)
