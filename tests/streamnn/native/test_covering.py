"""The native engine against the eager one over a pairwise covering set of networks.

Step by step from the same state in float32; end to end in float64. The default suite runs part of the set.
"""

from itertools import combinations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamnn.engine import Control, EagerEngine
from streamnn.native import NativeEngine
from streamnn.normalizers import NORMALIZERS
from streamnn.operations import Kind, Operations, Results, Rows
from streamnn.optimizers import OPTIMIZERS
from tests.streamnn.native import networks
from tests.streamnn.native.networks import SETTINGS, build, covering, largest_difference
from tests.streamnn.native.tape import Tape

CHOICES = covering(29)  # a short set, of which few hold every value
FEW = 24  # networks in the default suite
EVENTS = 2000  # of a long run
TAPED = 100  # of them the eager engine runs itself, at least


def _name(choice):
    return "-".join(str(v).replace(" ", "") for v in choice.values())


def _few(choices):
    return [choices[i * len(choices) // FEW] for i in range(FEW)]


def _marked(choices):
    few = [_name(c) for c in _few(choices)]
    return [pytest.param(c, id=_name(c), marks=[] if _name(c) in few else [pytest.mark.heavy]) for c in choices]


def test_every_two_settings_meet_where_both_do_something():
    """Normalisers, activations and dropout in networks with hidden layers, losses of values with values as targets."""
    met = set()
    for choice in CHOICES:
        idle = set() if choice["units"] else {"normalizer", "activation", "dropout", "skip"}
        idle |= set() if choice["head"] in ("value", "mixed") else {"loss"}
        met |= {frozenset(pair) for pair in combinations([item for item in choice.items() if item[0] not in idle], 2)}
    never = {("units", ()): ("normalizer", "activation", "dropout", "skip")}
    never |= {("head", head): ("loss",) for head in ("binary", "labels", "classes", "two classes")}
    for (a, values), (b, others) in combinations(SETTINGS.items(), 2):
        for x, y in product(values, others):
            if b not in never.get((a, x), ()) and a not in never.get((b, y), ()):
                assert frozenset(((a, x), (b, y))) in met, f"{a} {x} and {b} {y}"


def test_every_value_of_every_setting_is_in_the_default_suite():
    """The networks that always run hold each optimizer, normaliser and so on at least once."""
    for name, values in SETTINGS.items():
        assert {*values} == {choice[name] for choice in _few(CHOICES)}, name


def test_every_optimizer_and_normaliser_is_among_the_settings():
    """So every two of them meet in the set, in a network with hidden layers."""
    assert set(SETTINGS["normalizer"]) == {*NORMALIZERS}
    assert {type(one) for one in networks.OPTIMIZERS.values()} == {*OPTIMIZERS.values()}


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
def test_steps_agree(choice):
    """Each step from the same state agrees to 1e-5 in float32."""
    steps_agree(choice)


@pytest.mark.parametrize("choice", [pytest.param(c, id=_name(c)) for c in _few(CHOICES)])
def test_runs_agree(choice):
    """A run from the start agrees to 1e-8 in float64."""
    runs_agree(choice)


@pytest.mark.heavy
@pytest.mark.parametrize("choice", [pytest.param(c, id=_name(c)) for c in CHOICES])
def test_long_runs_agree(choice):
    """Over 2,000 events in float64 at a small rate nothing drifts apart by more than 1e-8.

    The eager engine's side is repeated from a tape (see there), once that has given what the engine gives for the first events.
    """
    torch.set_num_threads(1)
    case = build(choice, dtype=torch.float64, events=EVENTS)
    now, tape = control(case, rate=1e-4), Tape(case.step, case.state, case.kinds)
    taped = max(TAPED, 1 + max(np.unique(case.kinds, return_index=True)[1]))  # every kind has come
    early, kinds = part(case.rows, 0, taped), case.kinds[:taped]
    leaves, first = tape.run(tape.leaves, early, kinds, now)
    state, own, _ = EagerEngine()._run(case.step, case.state, early, operations(kinds), now)
    worst, place = largest_difference(state, tape.flat.nested(leaves))
    assert worst < 1e-12, place  # most have the same bits, but a product may depend on where its factors lie in memory
    np.testing.assert_allclose(first.served, own.served, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(first.loss, own.loss, rtol=1e-12, atol=1e-12)
    leaves, rest = tape.run(leaves, part(case.rows, taped, EVENTS), case.kinds[taped:], now)
    served, loss = np.concatenate([first.served, rest.served]), np.concatenate([first.loss, rest.loss])
    agrees(case, now, tape.flat.nested(leaves), Results(served, loss))


@pytest.mark.heavy
@settings(max_examples=15, deadline=None, derandomize=True)
@given(choice=st.fixed_dictionaries({name: st.sampled_from(values) for name, values in SETTINGS.items()}))
def test_other_networks_agree(choice):
    """So do networks beyond the set, in which more than two settings meet that may not have met there."""
    steps_agree(choice)
    runs_agree(choice)


def steps_agree(choice):
    """Compare the engines step by step."""
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


def runs_agree(choice):
    """Compare the engines over a short run."""
    torch.set_num_threads(1)
    case = build(choice, dtype=torch.float64, events=120)
    now = control(case, rate=1e-4)
    want, expected, _ = EagerEngine()._run(case.step, case.state, case.rows, operations(case.kinds), now)
    agrees(case, now, want, expected)


def agrees(case, now, want, expected, *, tolerance=1e-8):
    """Run all events natively and compare with the state and the results that are wanted."""
    got, found, _ = NativeEngine()._run(case.step, case.state, case.rows, operations(case.kinds), now)
    worst, place = largest_difference(want, got)
    assert worst < tolerance, place
    np.testing.assert_allclose(found.served, expected.served, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=tolerance, atol=tolerance)
    assert np.isfinite(expected.loss[case.kinds != Kind.PREDICT_OBSERVE]).all()
