"""Scores do not depend on how the stream was cut into blocks, and a restored state goes on bit by bit."""

import math
from collections.abc import Iterator

import numpy as np
import pytest

from pipeline.scores import Outcome, Scores, Target
from pipeline.scores.baselines import FrequentLabelset

N = 1500
STREAMS = {
    "binary": [Target("b", "binary")],
    "multiclass": [Target("m", "multiclass")],
    "labels": [Target(n, "binary") for n in "abcdefghij"],
    "multioutput": [Target("b", "binary"), Target("m", "multiclass"), Target("n", "multiclass")],
    "value": [Target("v", "regression")],
    "values": [Target(n, "regression") for n in "uvw"],
    "mixed": [Target("v", "regression"), Target("m", "multiclass"), Target("b", "binary")],
}


def stream(targets: list[Target], seed: int) -> Outcome:
    """Make N events with growing classes, unknown truths, unserved predictions and gaps in the event numbers."""
    rng = np.random.default_rng(seed)
    truth, decision, probability = {}, {}, {}
    for target in targets:
        if target.kind == "regression":
            y = rng.normal(3, 2, N) ** 3
            d = y + rng.normal(size=N)
        elif target.kind == "binary":
            p = rng.random(N)
            y, d = (rng.random(N) < p).astype(float), (p > 0.5).astype(float)
        else:
            y = np.minimum(rng.integers(0, 21, N), np.arange(N) // 40).astype(float)
            p = rng.dirichlet(np.full(21, 0.3), N)
            d = np.where(rng.random(N) < 0.5, y, p.argmax(axis=1))
        unserved = rng.random(N) < 0.03
        truth[target.name] = np.where(rng.random(N) < 0.1, math.nan, y)
        decision[target.name] = np.where(unserved, math.nan, d)
        if target.kind != "regression":
            p[unserved] = math.nan
            probability[target.name] = p
    number = np.cumsum(rng.integers(1, 3, N))
    categories = {"one": rng.integers(-1, 6, N), "two": np.where(np.arange(N) < 600, -1, rng.integers(6, 40, N))}
    return Outcome(truth, decision, probability, number, categories)


def part(outcome: Outcome, a: int, b: int) -> Outcome:
    """Return events a..b."""
    assert outcome.number is not None
    columns = [{k: v[a:b] for k, v in x.items()} for x in (outcome.truth, outcome.decision, outcome.probability)]
    # a field is not known before it comes
    categories = {k: v[a:b] for k, v in outcome.categories.items() if (v[:b] >= 0).any()}
    return Outcome(*columns, outcome.number[a:b], categories)


def cuts(how: int | str, seed: int) -> Iterator[tuple[int, int]]:
    """Cut N events into pieces of a fixed or of random lengths."""
    rng, start = np.random.default_rng(seed), 0
    while start < N:
        stop = min(N, start + (int(rng.integers(1, 200)) if how == "random" else int(how)))
        yield start, stop
        start = stop


def leaves(state: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Walk a state's leaves."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path, state


def same(a: Scores, b: Scores) -> None:
    """Check that two states and all figures are equal bit by bit."""
    one, two = dict(leaves(a.state_dict())), dict(leaves(b.state_dict()))
    assert one.keys() == two.keys()
    for path, value in one.items():
        if isinstance(value, np.ndarray):
            other = two[path]
            assert isinstance(other, np.ndarray)
            assert value.dtype == other.dtype, path
            assert value.tobytes() == other.tobytes(), path
        else:
            assert value == two[path], path
    for figures in ("metrics", "by_target", "window", "fading", "baselines", "history"):
        np.testing.assert_equal(getattr(a, figures)(), getattr(b, figures)())


def make(targets: list[Target]) -> Scores:
    """Make scores whose window, fading periods and history points all end within the stream."""
    return Scores(targets, window=150, fading=0.7, sample_every=7)


@pytest.mark.parametrize("name", STREAMS)
def test_cuts_do_not_show(name: str) -> None:
    """Blocks of 1, 7, 64, random lengths and the whole stream give bit-identical state and figures."""
    targets = STREAMS[name]
    outcome = stream(targets, 1)
    whole = make(targets)
    whole.update(outcome)
    for how in (1, 7, 64, "random"):
        scores = make(targets)
        for a, b in cuts(how, 3):
            scores.update(part(outcome, a, b))
        same(scores, whole)


@pytest.mark.parametrize("name", STREAMS)
def test_restored_scores_go_on_bit_by_bit(name: str) -> None:
    """State, load, next update: as if there had been no interruption, with leaves a checkpoint can hold."""
    targets = STREAMS[name]
    outcome = stream(targets, 2)
    straight, before = make(targets), make(targets)
    before.update(part(outcome, 0, 777))
    state = before.state_dict()
    for path, leaf in leaves(state):
        if isinstance(leaf, np.ndarray):
            assert leaf.dtype.kind in "iuf", path
        elif isinstance(leaf, list):
            assert all(isinstance(x, str) for x in leaf), path
        else:
            assert isinstance(leaf, int | float | str), path
    before.update(part(outcome, 777, N))  # the saved state must not follow
    after = make(targets)
    after.load_state_dict(state)
    after.update(part(outcome, 777, N))
    straight.update(outcome)
    same(after, before)
    same(after, straight)


def test_a_state_of_other_targets_or_settings_is_refused() -> None:
    """Loading names the difference."""
    state = Scores([Target("y", "binary")]).state_dict()
    with pytest.raises(ValueError, match=r"of targets \['binary y'\], but this run has \['binary z'\]"):
        Scores([Target("z", "binary")]).load_state_dict(state)
    with pytest.raises(ValueError, match="window = 1000, but this run asks for 10"):
        Scores([Target("y", "binary")], window=10).load_state_dict(state)


def test_columns_of_classes_to_come_change_nothing() -> None:
    """Probability rows padded with zeros for more classes give the same scores to the last bit."""
    targets = STREAMS["multiclass"]
    outcome = stream(targets, 5)
    wide = {"m": np.pad(outcome.probability["m"], ((0, 0), (0, 11)))}
    wide["m"][np.isnan(outcome.probability["m"][:, 0])] = math.nan
    a, b = make(targets), make(targets)
    a.update(outcome)
    b.update(Outcome(outcome.truth, outcome.decision, wide, outcome.number))
    same(a, b)


def test_columns_in_another_layout_change_nothing() -> None:
    """Strided views of a wider array are scored as their contiguous copies."""
    targets = STREAMS["binary"]
    outcome = stream(targets, 6)
    table = np.asfortranarray(np.column_stack([outcome.truth["b"], outcome.decision["b"], outcome.probability["b"]]))
    rows = np.ascontiguousarray(table)
    a, b = make(targets), make(targets)
    a.update(outcome)
    b.update(Outcome({"b": rows[:, 0]}, {"b": rows[:, 1]}, {"b": rows[:, 2]}, outcome.number))
    same(a, b)


def test_history_is_bounded_and_its_points_are_fixed() -> None:
    """Above 500 points every second one goes; those left lie at multiples of the doubled spacing."""
    rng = np.random.default_rng(0)
    scores = Scores([Target("y", "binary")], sample_every=1, window=10)
    y = rng.integers(0, 2, 9000).astype(float)
    scores.update(Outcome({"y": y}, {"y": np.ones(9000)}))
    points = scores.history()["accuracy"]
    assert 250 <= len(points) <= 500
    assert [p[0] for p in points] == list(range(32, 9001, 32))
    for count, overall, lately in points[::25]:
        assert overall == pytest.approx(y[:count].mean())
        assert lately == pytest.approx(y[max(0, count - 10) : count].mean())


def test_history_counts_all_events_where_numbers_are_told() -> None:
    """With event numbers a point's count includes the events that were not scored."""
    scores = Scores([Target("y", "binary")], sample_every=2)
    scores.update(Outcome({"y": np.ones(4)}, {"y": np.ones(4)}, number=np.array([0, 5, 6, 9])))
    assert [p[0] for p in scores.history()["accuracy"]] == [6, 10]


def test_labelset_table_is_bounded_and_keeps_the_frequent_sets() -> None:
    """With more distinct sets than the table holds, the most frequent one is still found."""
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (12, 3000))
    frequent = rng.random(3000) < 0.2
    sets[:, frequent] = np.arange(12)[:, None] % 2
    table = FrequentLabelset(12, capacity=50)
    served = table.predict_learn(sets.astype(np.int64))
    assert len(table.state_dict()["counts"]) <= 50
    assert (served[:, -1] == np.arange(12) % 2).all()
