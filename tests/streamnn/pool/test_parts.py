"""Each part in C against the same part in NumPy."""

import numpy as np
import pytest

from streamnn.operations import Kind, Operations
from streamnn.pool import linear, maps, mixer, net, replay, tables
from streamnn.pool.layout import Layout
from streamnn.pool.reference import linear as slow_linear
from streamnn.pool.reference import maps as slow_maps
from streamnn.pool.reference import mixer as slow_mixer
from streamnn.pool.reference import net as slow_net
from streamnn.pool.reference import replay as slow_replay
from streamnn.pool.reference import tables as slow_tables
from tests.streamnn.pool.helpers import batches, late, singles, stream

LISTS = {"single": lambda n: singles(n), "batch": lambda n: batches(n, 7), "late": lambda n: late(n, 30)}


def copied(state):
    """A copy of a part's state."""
    return {name: array.copy() for name, array in state.items()}


def assert_close(got, want, *, rtol=1e-9, atol=1e-9):
    """Compare two states array by array."""
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=rtol, atol=atol, err_msg=name)


def map_rows(chunk, layout):
    """Empty outputs beside a chunk's inputs."""
    k = len(chunk)
    row = np.zeros((k, layout.width), dtype=np.float32)
    rank = np.full((k, layout.numeric), np.nan, dtype=np.float32)
    logp = np.full((k, 9, layout.classes), mixer.FLOOR)
    return maps.MapRows(chunk.x, chunk.plain, chunk.label, chunk.number, row, rank, logp)


@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize(("classes", "targets"), [(2, True), (4, True), (4, False)])
def test_maps_equal_reference(listed, classes, targets):
    """Feature rows, ranks, members and state are those of the plain version, through gaps, ties and a full window."""
    events = 1300 if listed == "single" and classes == 2 else 400
    chunk = stream(events, classes=min(classes, 3), unknown=0.1)
    layout = Layout(4, 2, classes, targets)
    fast, slow = map_rows(chunk, layout), map_rows(chunk, layout)
    a = maps.init(layout, 64)
    b = copied(a)
    operations = LISTS[listed](events)
    maps.run(a, layout, fast, operations)
    slow_maps.run(b, layout, slow, operations)
    np.testing.assert_allclose(fast.row, slow.row, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fast.rank, slow.rank)
    np.testing.assert_allclose(fast.logp, slow.logp, rtol=1e-6, atol=1e-6)
    assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_counts_are_brought_back_without_changing_what_they_say():
    """After 4,096 labels the counts are rescaled; the plain version does the same, and their ratio is the decay."""
    chunk = stream(4200, numeric=1, plain=0, classes=2, gaps=False)
    layout = Layout(1, 0, 2, True)
    fast, slow = map_rows(chunk, layout), map_rows(chunk, layout)
    a = maps.init(layout, 0)
    b = copied(a)
    maps.run(a, layout, fast, singles(4200))
    slow_maps.run(b, layout, slow, singles(4200))
    assert a["scale"][0] < 2
    decayed = sum(0.999 ** (4200 - i) for i in range(4200))
    np.testing.assert_allclose(a["totals"].sum() / a["scale"][0], decayed, rtol=1e-9)
    assert_close(a, b, rtol=1e-9)
    np.testing.assert_allclose(fast.logp, slow.logp, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("listed", LISTS)
def test_linear_equals_reference(listed):
    """Softmax regressions learn and say what the plain version does."""
    rng = np.random.default_rng(1)
    layout = Layout(3, 1, 4, False)
    rows = rng.normal(size=(300, layout.width)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.2] = 0
    label = rng.integers(-1, 3, 300).astype(np.int32)
    a, operations = linear.init(layout), LISTS[listed](300)
    b = copied(a)
    got, want = np.full((300, 6, 4), mixer.FLOOR), np.full((300, 6, 4), mixer.FLOOR)
    linear.run(a, layout, rows, label, got, operations, first=1)
    slow_linear.run(b, layout, rows, label, want, operations, first=1)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)
    assert_close(a, b)


@pytest.mark.parametrize("noisy", [True, False])
def test_the_scale_of_a_linear_member_is_learned(noisy):
    """Where a plane parts the classes it becomes surer than four times the logits, where labels are noise it does not."""
    rng = np.random.default_rng(2)
    layout = Layout(3, 0, 2, False)
    rows = rng.normal(size=(1000, layout.width)).astype(np.float32)
    label = (rng.random(1000) < 0.5 if noisy else rows[:, 0] > rows[:, 1]).astype(np.int32)
    state, logp = linear.init(layout), np.full((1000, 4, 2), mixer.FLOOR)
    linear.run(state, layout, rows, label, logp, singles(1000), first=0)
    loss = dict(zip(linear.MEMBERS, -logp[500:, :, :][np.arange(500), :, label[500:]].mean(axis=0), strict=True))
    assert loss["linear_scaled"] < loss["linear_x4"]
    assert np.exp(state["sure"][0]) == pytest.approx(1.0, abs=0.5) if noisy else np.exp(state["sure"][0]) > 8


@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize(("inputs", "classes"), [(3, 4), (600, 4), (0, 4)])
def test_tables_equal_reference(listed, inputs, classes):
    """Members and counts are those of the plain version; values beyond what there is room for are left out."""
    rng = np.random.default_rng(1)
    x = np.round(rng.normal(size=(300, inputs)) * 3)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[:, :1] *= -0.0
    label = rng.integers(-1, 3, 300).astype(np.int32)
    number, operations = np.arange(300), LISTS[listed](300)
    a = tables.init(Layout(inputs, 0, classes, False), 64)
    b = copied(a)
    got, want = np.full((300, 4, classes), mixer.FLOOR), np.full((300, 4, classes), mixer.FLOOR)
    tables.run(a, x, label, number, got, operations, first=1)
    slow_tables.run(b, x, label, number, want, operations, first=1)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
    assert_close(a, b, rtol=1e-6, atol=1e-6)
    assert len(a["loss"]) == (inputs if inputs * classes <= tables.MOST_COLUMNS else 0)


def test_an_exact_value_decides():
    """Where a code decides, whatever its size, one_value is sure after having seen each code a few times."""
    rng = np.random.default_rng(2)
    code = rng.integers(0, 40, 2000)
    label = (code * 2654435761 >> 7 & 1).astype(np.int32)  # near codes say nothing of each other
    x = np.stack([rng.normal(size=2000), code], axis=1)
    state = tables.init(Layout(2, 0, 2, False), 0)
    logp = np.full((2000, 2, 2), mixer.FLOOR)
    tables.run(state, x, label, np.arange(2000), logp, singles(2000), first=0)
    assert np.exp(logp[1000:, 0][np.arange(1000), label[1000:]]).min() > 0.7


def test_what_comes_after_a_label():
    """Where labels follow one another, after_label is sure; late labels are counted under what was last when served."""
    label = np.tile(np.array([0, 1, 2, 2], dtype=np.int32), 100)
    for listed, chance in ((singles(400), 0.45), (late(400, 3), 0.45)):
        state = tables.init(Layout(0, 0, 4, False), 64)
        logp = np.full((400, 2, 4), mixer.FLOOR)
        tables.run(state, np.zeros((400, 0)), label, np.arange(400), logp, listed, first=0)
        said = np.exp(logp[200:, 1][np.arange(200), label[200:]])
        assert said.min() > chance
        assert said.mean() > 0.7


def test_tables_grow_and_are_left_out_when_too_large():
    """Counts keep their places; beyond the bound there are none."""
    state = tables.init(Layout(2, 0, 2, False), 8)
    x, label = np.array([[1.0, 2.0], [3.0, np.nan]]), np.array([0, 1], dtype=np.int32)
    tables.run(state, x, label, np.arange(2), np.zeros((2, 2, 2)), singles(2), first=0)
    grown = tables.grow(state, Layout(3, 0, 4, False))
    np.testing.assert_array_equal(grown["counts"][:2, :, :2], state["counts"])
    np.testing.assert_array_equal(grown["pairs"][:2, :2], state["pairs"])
    assert grown["counts"].sum() == state["counts"].sum()
    large = tables.grow(grown, Layout(3, 0, 1024, False))
    assert large["counts"].size == large["pairs"].size == 0
    np.testing.assert_array_equal(large["totals"][:2], state["totals"])


@pytest.mark.parametrize("listed", LISTS)
def test_mixer_equals_reference(listed):
    """Served rows, losses and weights are those of the plain version."""
    rng = np.random.default_rng(2)
    logp = np.log(rng.dirichlet(np.ones(3), size=(300, 5)))
    logp = np.concatenate([logp, np.full((300, 5, 1), mixer.FLOOR)], axis=2)
    label = rng.integers(-1, 3, 300).astype(np.int32)
    number = np.arange(300)
    operations = LISTS[listed](300)
    a = mixer.init(5, 4, 64)
    b = copied(a)
    outs = [(np.full((300, 4), np.nan), np.full(300, np.nan)) for _ in range(2)]
    mixer.run(a, logp, label, number, operations, *outs[0])
    slow_mixer.run(b, logp, label, number, operations, *outs[1])
    np.testing.assert_allclose(outs[0][0], outs[1][0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(outs[0][1], outs[1][1], rtol=1e-9, atol=1e-12)
    assert np.isfinite(outs[0][1][label >= 0]).all()
    assert_close(a, b)
    np.testing.assert_allclose(a["hedge"].sum(), 1.0)


@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize("objective", net.LOSSES)
def test_net_equals_reference(listed, objective):
    """Outputs, losses and weights follow the plain version to single precision, with past events learned again."""
    rng = np.random.default_rng(3)
    layout = Layout(3, 1, 4, False)
    spec = net.NetSpec(name="n", again=2, rate=1.0)
    events = 60
    rows = rng.normal(size=(events, layout.width)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.3] = 0
    label = rng.integers(-1, 3, events).astype(np.int32)
    y = rng.random((events, 4)) if objective == "labels" else rng.normal(size=(events, 4)) * 2
    y[rng.random(y.shape) < 0.3] = np.nan
    draws = rng.integers(-10, 0, (events, 2)).astype(np.int32)
    draws[::9] = replay.NONE
    draws[20:, 0] = 5
    kept = (rows[::-1][:10].copy(), np.abs(label[:10]), np.nan_to_num(y[:10]))
    label[5], y[5] = 1, 0.5
    units = np.stack([rng.normal(size=events), 0.5 + rng.random(events)], axis=1)
    units[3, 1] = 0
    data = net.NetRows(rows, label, y, units, draws, kept)
    a = net.init(spec, layout, 4, seed=0, objective=objective)
    b = copied(a)
    operations = LISTS[listed](events)
    if objective == "classes":  # a draw never names a class that has not been learned
        first = [(Kind.LEARN, i, i + 1) for i in np.flatnonzero(label >= 0)[:12]]
        operations = Operations.of(first + list_of(operations))
        data.draws[np.flatnonzero(label >= 0)[:12]] = replay.NONE
    outs = [(np.zeros((events, 2, 4)), np.full(events, np.nan)) for _ in range(2)]
    net.run(spec, a, data, operations, *outs[0], member=1, rate=0.003, objective=objective)
    slow_net.run(spec, b, data, operations, *outs[1], member=1, rate=0.003, objective=objective)
    np.testing.assert_allclose(outs[0][0], outs[1][0], rtol=1e-3, atol=2e-4)
    np.testing.assert_allclose(outs[0][1], outs[1][1], rtol=1e-3, atol=2e-4)
    assert_close(a, b, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("setting", "value"), [("window", -1), ("window", replay.RECENT + 1), ("again", -1)])
def test_net_draws_from_what_is_kept(setting, value):
    """A window of events that are not kept, or fewer events than none, are refused with name and value."""
    with pytest.raises(ValueError, match=rf"{setting} is {value}, but must be"):
        net.NetSpec(name="n", **{setting: value})


def list_of(operations):
    """Operations as triples."""
    return list(zip(operations.kind.tolist(), operations.start.tolist(), operations.stop.tolist(), strict=True))


@pytest.mark.parametrize("window", [0, 5, 1000])
def test_draws_equal_reference(window):
    """The same events are drawn, from the chunk, the ring and the sample of all the past."""
    rng = np.random.default_rng(4)
    order = rng.permutation(50)[:40].astype(np.int32)
    number = rng.integers(0, 10**9, 50)
    for learned, room in ((0, 20), (7, 20), (3000, 20)):
        outs, wheres = [], []
        for run in (replay.choose, slow_replay.choose):
            out, where = np.full((50, 3), replay.NONE, dtype=np.int32), np.full(room, -1, dtype=np.int32)
            run(order, number, learned, window, room, (3, 4), where, out)
            outs.append(out)
            wheres.append(where)
        np.testing.assert_array_equal(outs[0], outs[1])
        np.testing.assert_array_equal(wheres[0], wheres[1])
        assert (np.delete(outs[0], order, axis=0) == replay.NONE).all()


def test_draws_are_uniform_over_the_past():
    """Each past event is drawn about equally often, from the sample of all the past too."""
    events, again = 3000, 8
    number = np.arange(events)
    where = np.full(500, -1, dtype=np.int32)
    out = np.full((events, again), replay.NONE, dtype=np.int32)
    replay.choose(np.arange(events, dtype=np.int32), number, 0, 0, 500, (1, 2), where, out)
    late_draws = out[-1000:].ravel() / np.repeat(np.arange(events - 1000, events), again)
    assert abs(late_draws.mean() - 0.5) < 0.02
    assert abs(np.quantile(late_draws, 0.25) - 0.25) < 0.03
    assert ((out[1:] >= 0) & (out[1:] < np.arange(1, events)[:, None])).all()
