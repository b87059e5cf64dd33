"""Trees that are grown anew from the last events, for classes and for values."""

import numpy as np
import pytest

from streamnn.pool import forest, mixer, value_forest
from streamnn.pool.layout import Layout, ValueLayout
from streamnn.pool.reference import forest as slow_forest
from streamnn.pool.reference import value_forest as slow_value_forest
from tests.streamnn.pool.helpers import batches, late, singles

LISTS = {"single": singles, "batch": lambda n: batches(n, 7), "late": lambda n: late(n, 30)}
SIZES = [(2, 4), (40, 40), (3, 40), (40, 3)]  # plain and numeric inputs; a tree is given 32 at most
RUNS = {"classes": (forest.run, slow_forest.run), "values": (value_forest.run, slow_value_forest.run)}


def inputs(events, plain, numeric, *, seed=1):
    """Plain and numeric inputs with ties, zeros of either sign and gaps."""
    rng = np.random.default_rng(seed)
    x = np.round(rng.normal(size=(events, numeric)), 1) * rng.choice([1.0, -1.0], size=(events, numeric))
    flags = (rng.random((events, plain)) < 0.4).astype(np.float64)
    x[rng.random(x.shape) < 0.1] = np.nan
    flags[rng.random(flags.shape) < 0.1] = np.nan
    return flags, x


def classes_of(flags, x, *, run=forest.run, operations=None, classes=4, label=None, state=None, seed=3):
    """Learn classes that two inputs decide together; the state and what was said, [K, 2, C]."""
    events, layout = len(x), Layout(x.shape[1], flags.shape[1], classes, False)
    if label is None:
        label = ((np.nan_to_num(x[:, 0]) > 0) ^ (np.nan_to_num(x[:, 1]) > 0.5)).astype(np.int32)
    state = {name: a.copy() for name, a in (state or forest.init(layout)).items()}
    said = np.full((events, 4, classes), mixer.FLOOR)
    run(state, layout, flags, x, label, said, operations or singles(events), first=1, seed=seed)
    assert (said[:, [0, 3]] == mixer.FLOOR).all()
    return state, said[:, 1:3], label


def values_of(flags, x, *, run=value_forest.run, operations=None, y=None, state=None, seed=3):
    """Learn a value of two inputs around 1e6; the state and what was said, [K, 4]."""
    events, layout = len(x), ValueLayout(x.shape[1], flags.shape[1], 0)
    if y is None:
        y = 1e6 + 10 * (np.nan_to_num(x[:, 0]) > 0) * np.nan_to_num(x[:, 1])
    used = np.stack([y, y - 1e6], axis=1)
    used[0, 1] = np.nan  # the first value has no residual
    now = np.tile([7.0, 1.0, 1.0, 1e6], (events, 1))
    state = {name: a.copy() for name, a in (state or value_forest.init(layout)).items()}
    said = np.zeros((events, 6))
    run(state, layout, flags, x, used, now, said, operations or singles(events), first=1, seed=seed)
    assert (said[:, [0, 5]] == 0).all()
    return state, said[:, 1:5], y


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize(
    ("listed", "sizes"), [("single", SIZES[0]), ("late", SIZES[0]), *[("batch", s) for s in SIZES]]
)
def test_forests_equal_reference(kind, listed, sizes):
    """Trees are those of the plain version, split by split; what members say follows."""
    rng = np.random.default_rng(2)
    flags, x = inputs(250, *sizes)
    learn, operations = {"classes": classes_of, "values": values_of}[kind], LISTS[listed](250)
    noise = rng.random(250) < 0.15
    target = {}
    if kind == "classes":
        target["label"] = np.where(noise, -1, (np.nan_to_num(x[:, 0]) > 0) + 2 * (flags[:, 0] > 0)).astype(np.int32)
    else:
        target["y"] = np.where(noise, np.nan, rng.normal(size=250) + 3 * (flags[:, 0] > 0))
    (a, got, _), (b, want, _) = (learn(flags, x, run=run, operations=operations, **target) for run in RUNS[kind])
    assert a["count"][1] == int((~noise).sum() - (kind == "values" and not noise[0])) // 10
    assert (a["feature"] >= 0).any()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_trees_find_what_inputs_decide_together():
    """Neither input alone says anything of the class, or of the value; trees do."""
    rng = np.random.default_rng(4)
    x, flags = rng.normal(size=(1500, 6)), np.zeros((1500, 0))
    label = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(np.int32)
    _, said, _ = classes_of(flags, x, label=label, classes=2)
    assert ((said[1000:].argmax(axis=2) == label[1000:, None]).mean(axis=0) > 0.9).all()
    _, said, y = values_of(flags, x, y=label * 4.0 - 2.0)
    evenly, recently = np.abs(said[1000:, :2] - y[1000:, None]).mean(axis=0)
    assert recently < 0.2 < evenly < 0.8  # the first trees knew few events


def test_trees_that_know_of_a_change_are_trusted():
    """After the concept has changed, the trees grown since outweigh the older ones in the second member."""
    rng = np.random.default_rng(6)
    x, flags = rng.normal(size=(1500, 3)), np.zeros((1500, 0))
    label = (np.where(np.arange(1500) < 300, x[:, 0], x[:, 1]) > 0).astype(np.int32)
    _, said, _ = classes_of(flags, x, label=label, classes=2)
    right = (said.argmax(axis=2) == label[:, None])[800:1100].mean(axis=0)
    assert right[1] > right[0] + 0.15
    _, said, y = values_of(flags, x, y=label * 4.0 - 2.0)
    error = np.abs(said - y[:, None])[800:1100].mean(axis=0)
    assert error[1] < 0.7 * error[0]


def test_what_is_missing_is_a_value():
    """A class that shows in what is missing alone is found."""
    rng = np.random.default_rng(5)
    x, flags = rng.normal(size=(600, 3)), np.zeros((600, 0))
    label = (rng.random(600) < 0.5).astype(np.int32)
    x[label == 1, 2] = np.nan
    _, said, _ = classes_of(flags, x, label=label, classes=2)
    assert (said[200:].argmax(axis=2) == label[200:, None]).mean() > 0.99


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("which", [0, 1])
def test_a_flag_that_is_missing_is_0(kind, which):
    """Room for categories that come later, made before they come or when they do, grows the same trees."""
    flags, x = inputs(200, 2, 3)
    learn = {"classes": classes_of, "values": values_of}[kind]
    (a, got, _), (b, want, _) = (
        learn(np.where(np.isnan(flags), unknown, flags), x, run=RUNS[kind][which]) for unknown in (np.nan, 0.0)
    )
    np.testing.assert_array_equal(a["window"], b["window"])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("kind", RUNS)
def test_a_large_window_is_left_behind(kind):
    """After 4,000 labels the oldest events are overwritten, and after 20 trees the oldest trees."""
    flags, x = inputs(4150, 0, 2)
    state, said, _ = {"classes": classes_of, "values": values_of}[kind](flags, x)
    learned = 4150 - (kind == "values")
    assert state["count"].tolist() == [learned, 39 + (learned - 400) // 100 + 1]
    slot = (learned - 1) % forest.WINDOW
    np.testing.assert_array_equal(state["window"][slot], x[-1])
    np.testing.assert_array_equal(state["window"][slot + 1], x[4150 - forest.WINDOW])
    assert np.isfinite(said).all()


@pytest.mark.parametrize("kind", RUNS)
def test_forests_grow(kind):
    """With room for more inputs and classes trees say of known inputs what they said; too many inputs, and there are none."""
    learn = {"classes": classes_of, "values": values_of}[kind]
    flags, x = inputs(300, 2, 3)
    state, _, _ = learn(flags, x)
    wide_flags = np.concatenate([flags, np.full((300, 2), np.nan)], axis=1)
    wide = np.concatenate([x, np.full((300, 1), np.nan)], axis=1)
    asked = singles(300, kind=1)
    if kind == "classes":
        old, new, more = Layout(3, 2, 4, False), Layout(4, 4, 8, False), {"classes": 8}
        large, part = Layout(300, 4, 8, False), forest
    else:
        old, new, more = ValueLayout(3, 2, 0), ValueLayout(4, 4, 0), {}
        large, part = ValueLayout(300, 4, 0), value_forest
    before = learn(flags, x, state=state, operations=asked)[1]
    grown = part.grow(state, old, new)
    after = learn(wide_flags, wide, state=grown, operations=asked, **more)[1]
    np.testing.assert_array_equal(after[..., :4], before)
    np.testing.assert_array_equal(grown["window"][:, [0, 1, 4, 5, 6]], state["window"])
    assert (grown["window"][:, [2, 3]] == 0).all()  # had they been there, these categories had not come
    assert np.isnan(grown["window"][:, 7]).all()
    none = part.grow(grown, new, large)
    assert none["window"].size == none["cut"].size == none["count"].sum() == 0
    assert {name: a.shape for name, a in none.items()} == {name: a.shape for name, a in part.init(large).items()}
    if kind == "classes":
        np.testing.assert_array_equal(none["totals"], grown["totals"])


def test_without_a_window_frequencies_and_the_mean_are_said():
    """More inputs than there is room for: members say what they know, and grow nothing."""
    flags, x = np.zeros((50, 0)), np.zeros((50, 300))
    state, said, _ = classes_of(flags, x, label=np.repeat([0, 1], 25).astype(np.int32), classes=2)
    assert state["count"].sum() == 0
    np.testing.assert_array_equal(said[:, 0], said[:, 1])
    assert np.exp(said[-1]).sum(axis=1) == pytest.approx(1.0)
    assert np.exp(said[-1, 0, 1]) == pytest.approx(0.5, abs=0.05)
    _, said, _ = values_of(flags, x)
    assert (said == [7.0, 7.0, 1e6, 1e6]).all()


def test_seeds_draw_other_trees():
    """Trees are those of their seed, and of nothing else."""
    flags, x = inputs(200, 2, 4)
    first, again, other = (classes_of(flags, x, seed=seed)[0] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first["cut"], again["cut"])
    assert (first["cut"] != other["cut"]).any()
