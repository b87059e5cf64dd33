"""Learning-rate control: what each control does to the rate, and that a checkpoint changes nothing."""

import numpy as np
import pytest

from streamnn.lr_control import CONTROLS, make_control

EVERY = 512


def losses(level, decisions, seed=0):
    """Losses around a level, in the blocks between decisions."""
    rng = np.random.default_rng(seed)
    return [np.maximum(level + 0.05 * rng.standard_normal(EVERY), 0) for _ in range(decisions)]


def rates(control, blocks, drifts=()):
    """The rate after each block; drifts are the blocks with one."""
    return [control.update(block, drifted=at in drifts).rate for at, block in enumerate(blocks)]


def test_fixed_stays():
    """Whatever comes."""
    control = make_control("fixed", 0.02, {})
    assert set(rates(control, [*losses(0.5, 5), *losses(3.0, 5)], {7})) == {0.02}


def test_exponential_halves_and_stops_at_its_floor():
    """By events, not by decisions."""
    control = make_control("exponential", 0.1, {"half_life": 4 * EVERY, "floor": 0.2})
    found = rates(control, losses(0.5, 20))
    assert found[3] == pytest.approx(0.05)
    assert found[7] == pytest.approx(0.025)
    assert found[-1] == pytest.approx(0.02)


def test_plateau_reduces_only_where_the_loss_no_longer_falls():
    """While it falls the rate stays; later it goes down by the factor, never below the floor, never up."""
    options = {"patience": 4 * EVERY, "cooldown": EVERY, "factor": 0.5, "floor": 0.2}
    control = make_control("plateau", 0.1, options)
    falling = [block for at in range(12) for block in losses(3.0 * 0.8**at, 1, at)]
    assert set(rates(control, falling)) == {0.1}
    found = rates(control, losses(0.2, 60))
    assert found == sorted(found, reverse=True)
    assert found[0] == 0.1
    assert 0.05 in found
    assert found[-1] == pytest.approx(0.02)
    assert rates(control, losses(2.0, 3), {1})[-1] == pytest.approx(0.02)


def test_drift_goes_back_to_the_base_rate_and_clears_once():
    """Where a drift is seen; the waiting begins anew."""
    control = make_control("drift", 0.1, {"patience": 2 * EVERY, "cooldown": 0, "factor": 0.5, "floor": 0.2})
    assert rates(control, losses(0.5, 30))[-1] == pytest.approx(0.02)
    action = control.update(losses(2.0, 1)[0], drifted=True)
    assert (action.rate, action.clear) == (0.1, True)
    action = control.update(losses(2.0, 1)[0], drifted=False)
    assert (action.rate, action.clear) == (0.1, False)
    assert rates(control, losses(2.0, 30))[-1] == pytest.approx(0.02)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_checkpoint_changes_nothing(name):
    """One that is taken up at every decision decides the same, empty decisions among them."""
    blocks = [*losses(2.0, 20), np.empty(0), *losses(0.4, 40, 1)]
    whole, cut, found = make_control(name, 0.1, {}), make_control(name, 0.1, {}), []
    for at, block in enumerate(blocks):
        found.append(cut.update(block, drifted=at in (9, 33)).rate)
        state, cut = cut.state_dict(), make_control(name, 0.1, {})
        cut.load_state_dict(state)
    assert rates(whole, blocks, {9, 33}) == found
    assert whole.state_dict() == cut.state_dict()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("plato", {}, ["plato", "plateau"]),
        ("plateau", {"factor": 2}, ["factor", "2", "1"]),
        ("fixed", {"half": 1}, ["half"]),
    ],
)
def test_wrong_settings_are_told(name, options, words):
    """The message names the value and what is legal."""
    with pytest.raises(ValueError) as told:
        make_control(name, 0.1, options)
    assert all(word in str(told.value) for word in words)
