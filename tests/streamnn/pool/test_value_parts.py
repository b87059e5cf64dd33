"""The parts of the pool for a value, in C against the same part in NumPy."""

import numpy as np
import pytest

from streamnn.operations import Kind, Operations
from streamnn.pool import blend, maps, squares, values
from streamnn.pool.layout import ValueLayout
from streamnn.pool.reference import blend as slow_blend
from streamnn.pool.reference import squares as slow_squares
from streamnn.pool.reference import values as slow_values
from streamnn.pool.reference.common import PREDICT
from tests.streamnn.pool.helpers import batches, late, singles, stream

LISTS = {"single": lambda n: singles(n), "batch": lambda n: batches(n, 7), "late": lambda n: late(n, 30)}
FIELD = np.array([0, 0, 1, -1], dtype=np.int32)


def wild_values(events, seed=0):
    """Values with a trend, levels by category, one outlier, a change of scale, and gaps."""
    rng = np.random.default_rng(seed)
    y = np.cumsum(rng.normal(size=events)) + 5 * rng.integers(0, 2, events)
    y[events // 3] = 1e4
    y[events // 2 :] = 500 + 50 * y[events // 2 :]
    y[rng.random(events) < 0.1] = np.nan
    return y


def value_rows(events, layout, members, *, seed=0, timed=True):
    """Rows as the maps leave them, and empty outputs."""
    chunk = stream(events, plain=layout.plain, seed=seed)
    row, rank = np.zeros((events, layout.width), dtype=np.float32), np.zeros((events, layout.numeric), dtype=np.float32)
    nobody = np.full(events, -1, dtype=np.int32)
    silent = np.zeros((events, 1, 0))
    data = maps.MapRows(chunk.x, chunk.plain, nobody, chunk.number, row, rank, silent)
    maps.run(maps.init(layout, 0), layout, data, singles(events))
    said, used = np.zeros((events, members)), np.full((events, 2), np.nan)
    now, then, age = np.zeros((events, 4)), np.zeros((events, 3)), np.full((events, layout.fields), -1)
    moment = np.cumsum(np.random.default_rng(seed).exponential(60, events * timed))
    moment[5::50] = np.nan
    y = wild_values(events)
    return values.ValueRows(chunk.plain, FIELD, y, chunk.number, row, rank, said, now, then, used, age, moment)


def doubled(rows):
    """The same rows with outputs of their own."""
    names = values.ValueRows.__slots__
    return values.ValueRows(*(getattr(rows, name).copy() for name in names))


def assert_states_close(got, want, tolerance):
    """Compare two states array by array."""
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("listed", LISTS)
def test_values_equal_reference(listed, timed):
    """Lags, encodings, members, units and state are those of the plain version, through outliers and a new scale."""
    events = 1200 if listed == "single" else 300
    layout = ValueLayout(4, 4, 2)
    members = len(values.member_names(2)) + 1
    fast = value_rows(events, layout, members, timed=timed)
    slow = doubled(fast)
    a = values.init(layout, members, 64)
    b = {name: array.copy() for name, array in a.items()}
    operations = LISTS[listed](events)
    values.run(a, layout, fast, operations)
    slow_values.run(b, layout, slow, operations)
    for name in ("row", "said", "now", "then", "used", "age"):
        np.testing.assert_allclose(getattr(fast, name), getattr(slow, name), rtol=1e-5, atol=1e-5, err_msg=name)
    assert_states_close(a, b, 1e-5)
    assert a["counts"][1] < a["counts"][0]  # the new scale was taken as one


@pytest.mark.parametrize("model", squares.MODELS.values(), ids=squares.MODELS)
@pytest.mark.parametrize("listed", LISTS)
def test_squares_equal_reference(listed, model):
    """Least squares learn and say what the plain version does."""
    layout = ValueLayout(4, 4, 2)
    fast = value_rows(200, layout, 6)
    rng = np.random.default_rng(0)
    fast.row[:] = rng.normal(size=fast.row.shape)
    fast.now[:] = rng.random(fast.now.shape)
    fast.then[:] = 0.5 + rng.random(fast.then.shape)
    fast.used[:] = rng.normal(size=fast.used.shape)
    fast.used[::7] = np.nan
    slow = doubled(fast)
    a = squares.init(model, layout)
    b = {name: array.copy() for name, array in a.items()}
    operations = LISTS[listed](200)
    squares.run(model, a, layout, fast, operations, first=1)
    slow_squares.run(model, b, layout, slow, operations, first=1)
    np.testing.assert_allclose(fast.said, slow.said, rtol=1e-6, atol=1e-8)
    assert_states_close(a, b, 1e-6)


def test_squares_find_a_plane():
    """On a linear target without noise the weights become those of the plane."""
    layout = ValueLayout(3, 0, 0)
    rows = value_rows(300, ValueLayout(4, 4, 2), 4)
    rng = np.random.default_rng(0)
    row = rng.normal(size=(300, layout.width)).astype(np.float32)
    truth = 1.5 + row[:, :3].astype(np.float64) @ [1.0, -2.0, 0.5]
    now, then = np.tile([0.0, 1.0, 1.0, 0.0], (300, 1)), np.tile([0.0, 1.0, 1.0], (300, 1))
    used = np.stack([truth, truth], axis=1)
    data = values.ValueRows(
        rows.plain, FIELD, truth, rows.number, row, rows.rank, rows.said, now, then, used, rows.age, rows.moment
    )
    model = squares.MODELS["squares"]
    state = squares.init(model, layout)
    squares.run(model, state, layout, data, singles(300), first=0)
    np.testing.assert_allclose(state["weights"][1, 0, :4], [1.5, 1.0, -2.0, 0.5], atol=0.01)


@pytest.mark.parametrize("run", [values.run, slow_values.run])
def test_changes_since_the_event_before(run):
    """An input's change is in root mean squares of its changes; a gap is no change, and what follows it is one."""
    layout = ValueLayout(2, 0, 0)
    rows = value_rows(6, ValueLayout(4, 4, 2), len(values.member_names(0)))
    row, rank = np.zeros((6, layout.width), dtype=np.float32), np.zeros((6, 2), dtype=np.float32)
    row[:, 0] = [1, 1, 3, 0, 3, 7]
    rank[3, 0] = np.nan
    data = values.ValueRows(
        np.zeros((6, 0)), FIELD[:0], np.arange(6.0), rows.number, row, rank, rows.said, rows.now, rows.then, rows.used,
        rows.age[:, :0], rows.moment,
    )  # fmt: skip
    state = values.init(layout, rows.said.shape[1], 0)
    run(state, layout, data, singles(5, kind=Kind.PREDICT_LEARN))
    np.testing.assert_allclose(row[:5, layout.first_change], [0, 0, np.sqrt(2), 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(row[:, layout.first_change + 1], 0)  # it never changes
    before = state["before"].copy()
    run(state, layout, data, Operations(np.full(1, PREDICT, dtype=np.int8), np.array([5]), np.array([6])))
    assert row[5, layout.first_change] == pytest.approx(4 / np.sqrt(5))  # squares 0, 4, 0, 16
    np.testing.assert_array_equal(state["before"], before)


@pytest.mark.parametrize("run", [values.run, slow_values.run])
@pytest.mark.parametrize("timed", [True, False])
def test_a_value_moves_with_its_age(run, timed):
    """What a category's value does in a short and in a long time is told apart, by seconds, or by events without moments."""
    events, layout = 400, ValueLayout(0, 2, 1)
    rng, members = np.random.default_rng(0), len(values.member_names(1))
    plain = np.zeros((events, 2))
    plain[np.arange(events), np.arange(events) // 2 % 2] = 1  # twice the one, then twice the other
    moment = np.cumsum(rng.choice([3.0, 400.0], events)) if timed else np.zeros(0)
    clock = moment if timed else np.arange(events, dtype=np.float64)
    y, truth, last = np.zeros(events), np.zeros(events), {}
    for i, key in enumerate(plain.argmax(1).tolist()):
        value, at = last.get(key, (10.0 * key, clock[i]))
        truth[i] = value + (-7 if clock[i] - at >= 2 ** (6 if timed else 1) else 3)
        y[i] = truth[i] + (rng.random() < 0.2)
        last[key] = y[i], clock[i]
    nothing, unknown = np.zeros((events, 0), dtype=np.float32), np.full((events, 2), np.nan)
    rows = values.ValueRows(
        plain, np.zeros(2, dtype=np.int32), y, np.arange(events), np.zeros((events, layout.width), dtype=np.float32), nothing,
        np.zeros((events, members)), np.zeros((events, 4)), np.zeros((events, 3)), unknown, np.full((events, 1), -1), moment,
    )  # fmt: skip
    run(values.init(layout, members, 0), layout, rows, singles(events))
    moved, still = rows.said[:, values.member_names(1).index("moved_0")], rows.said[:, 4]
    assert (moved == truth)[200:].mean() > 0.9
    assert (still == truth).sum() <= 2
    np.testing.assert_array_equal(moved[:8], still[:8])  # at first all moves are 0
    np.testing.assert_array_equal(moved[rows.age[:, 0] < 0], still[rows.age[:, 0] < 0])


@pytest.mark.parametrize("run", [values.run, slow_values.run])
def test_moves_of_many_categories_and_of_unknown_moments(run):
    """Only the first categories have lists; where a moment is missing, or the one of the last value, none counts."""
    events, layout = 60, ValueLayout(0, values.MOVERS + 1, 1)
    members = len(values.member_names(1))
    plain = np.zeros((events, layout.plain))
    plain[np.arange(events), np.where(np.arange(events) % 2, values.MOVERS, 0)] = 1
    moment = 10.0 * np.arange(events)
    moment[20] = np.nan
    rows = values.ValueRows(
        plain, np.zeros(layout.plain, dtype=np.int32), np.arange(events) * 2.0, np.arange(events),
        np.zeros((events, layout.width), dtype=np.float32), np.zeros((events, 0), dtype=np.float32),
        np.zeros((events, members)), np.zeros((events, 4)), np.zeros((events, 3)), np.full((events, 2), np.nan),
        np.full((events, 1), -1), moment,
    )  # fmt: skip
    state = values.init(layout, members, 0)
    run(state, layout, rows, singles(events))
    age = rows.age[:, 0]
    np.testing.assert_array_equal(np.flatnonzero(age >= 0), [i for i in range(2, 60, 2) if i not in (20, 22)])
    assert state["moved"].sum() - values.STILL * state["moved"].size == 27
    assert rows.said[58, values.member_names(1).index("moved_0")] == rows.y[58]
    np.testing.assert_array_equal(rows.said[3::2, values.member_names(1).index("moved_0")], rows.y[1:-2:2])


@pytest.mark.parametrize("listed", LISTS)
def test_blend_equals_reference(listed):
    """Served values, losses and weights are those of the plain version."""
    rng = np.random.default_rng(0)
    y = np.cumsum(rng.normal(size=300))
    said = y[:, None] + rng.normal(size=(300, 5)) * [0.1, 0.5, 1, 2, 50]
    y[::9] = np.nan
    used, number = np.stack([y, y], axis=1), np.arange(300)
    a = blend.init(5, 64)
    b = {name: array.copy() for name, array in a.items()}
    outs = [(np.full(300, np.nan), np.full(300, np.nan)) for _ in range(2)]
    operations = LISTS[listed](300)
    blend.run(a, said, y, used, number, operations, *outs[0], past=3)
    slow_blend.run(b, said, y, used, number, operations, *outs[1], past=3)
    np.testing.assert_allclose(outs[0][0], outs[1][0], rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(outs[0][1], outs[1][1], rtol=1e-7, atol=1e-8)
    assert_states_close(a, b, 1e-7)
    if listed != "late":  # late, a value that wanders leaves the range seen
        assert np.nanmean(np.abs(outs[0][0] - y)[150:]) < 0.12
    assert a["hedge"][0].argmax() == 0


@pytest.mark.parametrize("counts", [True, False])
def test_values_that_repeat_are_served_themselves(counts):
    """Of counts the nearest that has come is served; of values that hardly repeat, more than are remembered, none is."""
    rng = np.random.default_rng(1)
    y = np.round(8 + 3 * rng.normal(size=900), 0 if counts else 2)
    said = y[:, None] + rng.normal(size=(900, 4)) * [0.3, 0.4, 0.5, 4]
    a = blend.init(4, 0)
    b = {name: array.copy() for name, array in a.items()}
    outs = [(np.full(900, np.nan), np.full(900, np.nan)) for _ in range(2)]
    for run, state, out in zip((blend.run, slow_blend.run), (a, b), outs, strict=True):
        run(state, said, y, np.stack([y, y], axis=1), np.arange(900), singles(900), *out, past=1)
    np.testing.assert_allclose(outs[0][0], outs[1][0], rtol=1e-7, atol=1e-8)
    assert_states_close(a, b, 1e-7)
    last = outs[0][0][300:]
    assert np.isin(last, y).mean() == (1.0 if counts else 0.0)
    if counts:
        assert np.abs(last - y[300:]).mean() < 0.8 * np.abs(said[300:, :3].mean(axis=1) - y[300:]).mean()
    else:
        assert a["known"][0] == blend.GRID + 1


def test_nothing_is_served_before_the_first_value():
    """Without a label the mixture is unknown, not 0."""
    served, loss = np.zeros(3), np.zeros(3)
    nothing = np.full(3, np.nan)
    state = blend.init(2, 8)
    blend.run(state, np.ones((3, 2)), nothing, np.full((3, 2), np.nan), np.arange(3), singles(3), served, loss, past=1)
    assert np.isnan(served).all()


@pytest.mark.parametrize("run", [blend.run, slow_blend.run])
def test_the_first_value_judges_nobody(run):
    """It is as far from what was said before it as it is from 0: values that all lie higher are mixed as before."""
    rng, found = np.random.default_rng(2), []
    y, said = np.cumsum(rng.normal(size=200)), rng.normal(size=(200, 3)) * [0.1, 1.0, 3.0]
    for level in (0.0, 5000.0):
        at = y + level
        served, loss, told = np.full(200, np.nan), np.full(200, np.nan), at[:, None] + said
        told[0] = 0.0  # what members say before they know of a value
        run(blend.init(3, 0), told, at, np.stack([at, at], axis=1), np.arange(200), singles(200), served, loss, past=1)
        found.append(served - level)
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)


@pytest.mark.parametrize("run", [blend.run, slow_blend.run])
def test_at_first_the_past_is_served(run):
    """For a dozen values it is the nearest of the first members, the later one of two as near; then anybody."""
    y = np.arange(60.0) % 5
    y[:2] = -50, 50  # members within this range are taken at their word
    said = np.stack([y + 3, y - 1, y - 1, y + 2, y], axis=1)
    said[:, 2] -= np.where(np.arange(60) == 9, 0.25, 0)  # no longer as near as its neighbour
    served, loss = np.full(60, np.nan), np.full(60, np.nan)
    run(blend.init(5, 0), said, y, np.stack([y, y], axis=1), np.arange(60), singles(60), served, loss, past=4)
    np.testing.assert_allclose(served[3:10], said[3:10, 2])
    np.testing.assert_allclose(served[10:13], said[10:13, 1])
    np.testing.assert_allclose(served[30:], y[30:], atol=0.2)
