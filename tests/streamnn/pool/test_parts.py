"""Each part in C against the same part in NumPy."""

import numpy as np
import pytest

from streamnn.operations import Kind, Operations
from streamnn.pool import linear, maps, mixer, net, replay
from streamnn.pool.layout import Layout
from streamnn.pool.reference import linear as slow_linear
from streamnn.pool.reference import maps as slow_maps
from streamnn.pool.reference import mixer as slow_mixer
from streamnn.pool.reference import net as slow_net
from streamnn.pool.reference import replay as slow_replay
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
