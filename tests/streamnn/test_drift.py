"""Drift detectors: detections equal river's, cuts and checkpoints change nothing, and C does what Python does."""

import math

import numpy as np
import pytest
from river import drift
from river.drift import binary

from streamnn.drift import (
    ADWIN,
    DDM,
    DETECTORS,
    EDDM,
    HDDMA,
    HDDMW,
    KSWIN,
    PageHinkley,
    adwin,
    error_degree,
    make_detector,
)

EVENTS = 6_000


def levels(seed, *, events=EVENTS, errors=False):
    """Values in [0, 1] whose level jumps up and down, and creeps; or errors drawn with that level."""
    rng = np.random.default_rng(seed)
    level = np.repeat([0.1, 0.35, 0.12, 0.5, 0.2, 0.9], events // 6) + np.linspace(0, 0.08, events)
    if errors:
        return (rng.random(events) < level).astype(float)
    return np.clip(level + 0.15 * rng.standard_normal(events), 0, 1)


def found_by_river(detector, values):
    """The indices at which river's detector flags."""
    found = []
    for at, x in enumerate(values.tolist()):
        detector.update(x)
        if detector.drift_detected:
            found.append(at)
    return found


def same(a, b):
    """Tell whether two states hold the same bits."""
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name], equal_nan=True) for name in a)


PAIRS = {
    "adwin": (lambda: ADWIN(one_sided=False), drift.ADWIN, False),
    "adwin, every event": (
        lambda: ADWIN(one_sided=False, clock=1, delta=0.05, max_buckets=3),
        lambda: drift.ADWIN(clock=1, delta=0.05, max_buckets=3),
        False,
    ),
    "kswin": (lambda: KSWIN(one_sided=False, seed=7), lambda: drift.KSWIN(seed=7), False),
    "page_hinkley": (
        lambda: PageHinkley(threshold=20.0, one_sided=False),
        lambda: drift.PageHinkley(threshold=20.0),
        False,
    ),
    "ddm": (DDM, binary.DDM, True),
    "eddm": (EDDM, binary.EDDM, True),
    "hddm_a": (lambda: HDDMA(one_sided=False), lambda: binary.HDDMA(two_sided_test=True), True),
    "hddm_a, one-sided": (HDDMA, lambda: binary.HDDMA(two_sided_test=False), True),
    "hddm_w": (lambda: HDDMW(one_sided=False), lambda: binary.HDDMW(two_sided_test=True), True),
    "hddm_w, one-sided": (HDDMW, lambda: binary.HDDMW(two_sided_test=False), True),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_detections_are_those_of_river(name, seed):
    """On a stream whose level changes both flag the same events, and some."""
    ours, theirs, errors = PAIRS[name]
    values = levels(seed, errors=errors)
    found = ours().update(values)
    assert found == found_by_river(theirs(), values)
    assert found


def detectors():
    """Each detector as it is configured by name."""
    return [name for name in DETECTORS if name != "none"]


def losses(seed):
    """Log losses whose level changes."""
    return -np.log1p(-np.minimum(levels(seed), 0.99))


@pytest.mark.parametrize("name", detectors())
def test_cuts_and_checkpoints_change_nothing(name):
    """Updates of any lengths, with a checkpoint between each two, find what one update finds."""
    loss = losses(1)
    once, cut, rng = make_detector(name, {}, seed=3), make_detector(name, {}, seed=3), np.random.default_rng(5)
    whole, at, found = once.update(loss), 0, []
    while at < len(loss):
        n = int(rng.integers(0, 150))
        found += [at + i for i in cut.update(loss[at : at + n])]
        at += n
        state, cut = cut.state_dict(), make_detector(name, {}, seed=3)
        cut.load_state_dict(state)
    assert found == whole
    assert whole
    assert same(once.state_dict(), cut.state_dict())


@pytest.mark.parametrize("name", [n for n in detectors() if "one_sided" in DETECTORS[n]])
def test_a_fall_is_no_drift_unless_asked_for(name):
    """One-sided detectors flag the rise alone, also after a fall."""
    rng = np.random.default_rng(2)
    level = np.repeat([2.0, 0.2, 2.0], 3000)
    loss = np.maximum(level + 0.1 * rng.standard_normal(len(level)), 0)
    one = make_detector(name, {"alpha": 1e-6} if name == "kswin" else {}, seed=1).update(loss)
    both = make_detector(name, {"one_sided": 0, **({"alpha": 1e-6} if name == "kswin" else {})}, seed=1).update(loss)
    assert all(at >= 6000 for at in one)
    assert one
    assert any(3000 <= at < 6000 for at in both)


@pytest.fixture
def compiled():
    """Adwin.c, built."""
    library = adwin._library()
    if library is None:
        pytest.skip("no C compiler")
    return library


@pytest.mark.parametrize("one_sided", [True, False])
@pytest.mark.parametrize(("clock", "max_buckets", "least", "grace"), [(32, 5, 5, 10), (1, 2, 1, 1), (100, 9, 20, 300)])
def test_c_does_what_python_does(compiled, one_sided, clock, max_buckets, least, grace):
    """Bit for bit, through changes, falls, cuts of any length, and values that are not finite."""
    settings = {
        "clock": clock,
        "max_buckets": max_buckets,
        "min_window_length": least,
        "grace_period": grace,
        "one_sided": one_sided,
        "delta": 0.02,
    }
    here, in_c, rng = ADWIN(**settings), ADWIN(**settings), np.random.default_rng(clock)
    values = np.concatenate([levels(seed) for seed in range(3)])
    flagged, at = 0, 0
    while at < len(values):
        part = values[at : at + int(rng.integers(0, 700))]
        found = here._update_here(part)
        assert in_c._update_in_c(compiled, part) == found
        flagged += len(found)
        at += max(len(part), 1)
        assert same(here.state_dict(), in_c.state_dict())
    assert flagged
    with np.errstate(all="ignore"):
        odd = np.array([np.inf, 1.0, np.nan, -np.inf, 0.5] * 60)
        assert in_c._update_in_c(compiled, odd) == here._update_here(odd)
    assert same(in_c.state_dict(), here.state_dict())


def test_without_a_compiler_nothing_changes(monkeypatch):
    """The same detections."""
    loss = losses(4)
    found = make_detector("adwin", {}, seed=0).update(loss)
    monkeypatch.setattr(adwin, "_library", lambda: None)
    assert make_detector("adwin", {}, seed=0).update(loss) == found


def test_error_degree():
    """It is 1 - exp(-loss); negative losses and those that are missing count as none."""
    loss = np.array([0.0, -0.0, -1.0, 1e-12, 0.5, 2.0, 800.0, np.inf, np.nan])
    degree = error_degree(loss)
    assert degree.tolist() == [0.0, 0.0, 0.0, -math.expm1(-1e-12), -math.expm1(-0.5), -math.expm1(-2.0), 1.0, 1.0, 0.0]
    assert not np.signbit(degree).any()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adwyn", {}, ["adwyn", "adwin"]),
        ("adwin", {"delta": 2.0}, ["delta", "2.0", "0.5"]),
        ("adwin", {"clok": 3}, ["clok", "clock"]),
        ("kswin", {"stat_size": 60}, ["stat_size", "60", "100"]),
    ],
)
def test_wrong_settings_are_told(name, options, words):
    """The message names the value and what is legal."""
    with pytest.raises(ValueError) as told:
        make_detector(name, options, seed=0)
    assert all(word in str(told.value) for word in words)
