"""The pool for several 0/1 labels: its parts against the plain versions, cuts, purity, growth, late and partial labels."""

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.operations import Kind, Operations
from streamnn.pool import PoolLearner, PoolSpec, label_mixer, label_sets, votes
from streamnn.pool.engines import EAGER, NATIVE
from streamnn.pool.inputs import Inputs
from streamnn.pool.labeler import LabelPool, shifted
from streamnn.pool.layout import Layout
from streamnn.pool.net import NetSpec
from streamnn.pool.presets import LABEL_NETWORKS, PRESETS
from streamnn.pool.reference import label_mixer as slow_label_mixer
from streamnn.pool.reference import label_sets as slow_label_sets
from streamnn.pool.reference import votes as slow_votes
from tests.streamnn.helpers import drive, numeric_stream, obj
from tests.streamnn.pool.helpers import batches, late, same_state, singles

LISTS = {"single": lambda n: singles(n), "batch": lambda n: batches(n, 7), "late": lambda n: late(n, 30)}
NUMERIC, PLAIN, LABELS = 4, 2, 5


def label_stream(events, *, unknown=0.15, seed=0):
    """Inputs with gaps, and labels of which some depend on them, one is rare, and some are unknown."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, NUMERIC)) * 10.0 ** np.arange(NUMERIC)
    score = np.sin(x[:, :1]) + np.sign(x[:, 3:]) + 0.5 * rng.normal(size=(events, LABELS))
    y = (score > [0.0, 0.5, 1.0, -0.5, 2.2]).astype(np.float64)
    x[rng.random(x.shape) < 0.1] = np.nan
    y[rng.random(y.shape) < unknown] = np.nan
    y[rng.random(events) < unknown] = np.nan
    flags = (rng.random((events, PLAIN)) < 0.4).astype(np.float64)
    return Inputs(x, flags, np.arange(PLAIN, dtype=np.int32), np.zeros(0)), y, np.arange(events, dtype=np.int64)


def make_pool(preset="fast", *, seed=0, parts=NATIVE):
    """A pool for the stream above."""
    return LabelPool(preset, numeric=NUMERIC, plain=PLAIN, labels=LABELS, seed=seed, parts=parts)


def part_of(data, rows):
    """Some rows of a stream."""
    inputs, y, number = data
    return Inputs(inputs.x[rows], inputs.plain[rows], inputs.field, inputs.moment), y[rows], number[rows]


def copied(state):
    """A copy of a part's state."""
    return {name: array.copy() for name, array in state.items()}


def nobody(*events):
    """Neighbours of rows that have none: slots and weights."""
    return np.zeros((*events, votes.NEAR), dtype=np.int64), np.zeros((*events, votes.NEAR))


def assert_close(got, want):
    """Compare two states array by array."""
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-7, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("listed", LISTS)
def test_votes_equal_reference(listed):
    """Frequencies, votes and state are those of the plain version, through ties, unknown labels and a full window."""
    events = 1200 if listed == "single" else 300
    _, y, _ = label_stream(events)
    layout = Layout(NUMERIC, PLAIN, 0, False)
    rows = np.round(np.random.default_rng(1).normal(size=(events, layout.width)), 1).astype(np.float32)
    a, said = votes.init(layout, LABELS), np.full((2, events, 6, LABELS), 0.5)
    b, near, weight = copied(a), *nobody(2, events)
    votes.run(a, layout, rows, y, said[0], near[0], weight[0], LISTS[listed](events))
    slow_votes.run(b, layout, rows, y, said[1], near[1], weight[1], LISTS[listed](events))
    np.testing.assert_allclose(said[0], said[1], rtol=1e-9)
    np.testing.assert_array_equal(near[0], near[1])
    np.testing.assert_allclose(weight[0], weight[1], rtol=1e-9)
    assert_close(a, b)


@pytest.mark.parametrize("listed", LISTS)
def test_label_mixer_equals_reference(listed):
    """What is served, thresholds, losses and state are those of the plain version."""
    _, y, number = label_stream(300)
    said = np.random.default_rng(1).uniform(size=(300, 3, LABELS))
    a = label_mixer.init(3, LABELS, 64)
    b = copied(a)
    out = [[np.full(y.shape, np.nan), np.full(300, np.nan), np.full(y.shape, np.nan)] for _ in range(2)]
    label_mixer.run(a, said, y, number, LISTS[listed](300), *out[0])
    slow_label_mixer.run(b, said, y, number, LISTS[listed](300), *out[1])
    for got, want in zip(*out, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-7)
    assert_close(a, b)


@pytest.mark.parametrize("mixer", [label_mixer.run, slow_label_mixer.run])
def test_labels_share_what_they_know_of_members(mixer):
    """Of 3,000 labels the member that is right about most carries the common weights; surprises leave them finite."""
    labels, rng = 3000, np.random.default_rng(5)
    y = (rng.random((6, labels)) < 0.3).astype(np.float64)
    said = np.stack([np.full(y.shape, 0.5), np.clip(y, 0.2, 0.8), 1.0 - y], axis=1)
    state = label_mixer.init(3, labels, 0)
    served, loss, cut = np.full(y.shape, np.nan), np.full(6, np.nan), np.full(y.shape, np.nan)
    mixer(state, said, y, np.arange(6), singles(6), served, loss, cut)
    assert state["common"].sum() == pytest.approx(1.0)
    assert state["common"][1] > 0.99
    assert (state["common"] >= 0.001).all()
    assert np.isfinite(served[1:]).all()
    assert loss[-1] < loss[0]


@pytest.mark.parametrize("run", [votes.run, slow_votes.run])
def test_the_nearest_weigh_most(run):
    """Of fifty neighbours two are much nearer than the others: the weighted vote is theirs."""
    layout, rng = Layout(2, 0, 0, False), np.random.default_rng(7)
    rows = np.zeros((60, layout.width), dtype=np.float32)
    rows[:-1, :2] = np.where(np.arange(59)[:, None] % 30 == 0, 0.01, 1.0) * rng.uniform(1, 2, size=(59, 2))
    y = np.where(np.arange(60)[:, None] % 30 == 0, [1.0, np.nan], [0.0, 1.0])
    said = np.full((60, len(votes.MEMBERS), 2), np.nan)
    run(votes.init(layout, 2), layout, rows, y, said, *nobody(60), singles(60))
    by_name = dict(zip(votes.MEMBERS, said[-1], strict=True))
    assert by_name["nn50"][0] < 0.1
    assert by_name["nn_weighted"][0] > 0.75
    assert by_name["nn_weighted"][1] > 0.9  # the two say nothing of it


@pytest.mark.parametrize("mixer", [label_mixer.run, slow_label_mixer.run])
def test_what_a_row_expects_moves_its_thresholds(mixer):
    """A label is on at a lower probability where it is the likeliest of its row than where others are likely."""
    said = np.array([[[0.25, 0.02, 0.02, 0.02]], [[0.25, 0.9, 0.9, 0.9]], [[0.001] * 4]])
    served, loss, cut = np.full((3, 4), np.nan), np.full(3, np.nan), np.full((3, 4), np.nan)
    state = label_mixer.init(1, 4, 0)
    mixer(state, said, np.full((3, 4), np.nan), np.arange(3), singles(3), served, loss, cut)
    assert np.isnan(served).all()
    assert np.isfinite(cut).all()
    state["labels"][:] = 1
    mixer(state, said, np.full((3, 4), np.nan), np.arange(3), singles(3), served, loss, cut)
    on = [[True, False, False, False], [False, True, True, True], [False] * 4]
    np.testing.assert_array_equal(served > cut, on)


@pytest.mark.parametrize("listed", LISTS)
def test_label_sets_equal_reference(listed):
    """Thresholds and the memory are those of the plain version, beyond the window too."""
    events = 1200 if listed == "single" else 300
    _, y, _ = label_stream(events, unknown=0.02)
    rng = np.random.default_rng(3)
    served = rng.uniform(0.05, 0.95, size=y.shape)
    served[:50, 2] = np.nan  # a label that has not been seen yet
    before = np.broadcast_to(rng.uniform(0.2, 0.6, size=LABELS), y.shape)
    cuts = [before.copy(), before.copy()]
    near, weight = nobody(events)
    for r in range(events):  # slots of events that have come, a few neighbours of which are none
        near[r] = rng.integers(0, max(1, min(r // 2, label_sets.WINDOW)), size=votes.NEAR)
        weight[r] = rng.uniform(-0.2, 1, size=votes.NEAR).clip(min=0) * (r > 20)
    a = label_sets.init(LABELS)
    b = copied(a)
    label_sets.run(a, y, served, cuts[0], near, weight, LISTS[listed](events))
    slow_label_sets.run(b, y, served, cuts[1], near, weight, LISTS[listed](events))
    np.testing.assert_allclose(cuts[0], cuts[1], rtol=1e-12)
    assert_close(a, b)
    assert a["times"].sum() == (a["place"] >= 0).sum()
    moved = (cuts[0] != before).any(axis=1)
    assert 0.05 < moved.mean() < 0.9


def test_labels_that_come_together():
    """A label near its threshold is decided by the sets that have been seen; one that is far from it decides itself."""
    state, y = label_sets.init(2), np.array([[1.0, 1.0]] * 20 + [[0.0, 0.0]] * 20)
    label_sets.run(state, y, np.full(y.shape, 0.5), np.full(y.shape, 0.5), *nobody(40), singles(40))
    served = np.array([[0.9, 0.49], [0.1, 0.48], [0.9, 0.1]])
    for run in (label_sets.run, slow_label_sets.run):
        cut = np.full(served.shape, 0.5)
        run(
            *(copied(state), np.full(served.shape, np.nan), served, cut, *nobody(3)),
            singles(3, kind=Kind.PREDICT_OBSERVE),
        )
        np.testing.assert_array_equal(shifted(served, cut) > 0.5, [[True, True], [False, False], [True, False]])


@pytest.mark.parametrize("run", [label_sets.run, slow_label_sets.run])
def test_sets_of_neighbours_decide(run):
    """Of two sets that have come equally often the one that neighbours have is served; their weights count."""
    state, y = label_sets.init(2), np.array([[1.0, 0.0], [0.0, 1.0]] * 20)
    run(state, y, np.full(y.shape, 0.5), np.full(y.shape, 0.5), *nobody(40), singles(40))
    served, cut, (near, weight) = np.full((2, 2), 0.5), np.full((2, 2), 0.5), nobody(2)
    near[:, :3], weight[0, :3], weight[1, :3] = [0, 1, 2], [1.0, 0.1, 1.0], [0.1, 1.0, 0.1]
    run(state, np.full((2, 2), np.nan), served, cut, near, weight, singles(2, kind=Kind.PREDICT_OBSERVE))
    np.testing.assert_array_equal(served > cut, [[True, False], [False, True]])


@pytest.mark.parametrize("preset", PRESETS)
def test_both_engines_agree(preset):
    """The whole pool in C is the whole pool in NumPy, for some events."""
    inputs, y, number = label_stream(40)
    fast, slow = make_pool(preset), make_pool(preset, parts=EAGER)
    got, want = (pool.run(inputs, y, number, singles(40), rate=0.003) for pool in (fast, slow))
    np.testing.assert_allclose(got[0], want[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cuts", [[1] * 300, [7] * 43, [64] * 5, [3, 1, 150, 2, 144]])
@pytest.mark.parametrize("preset", ["lite", "best"])
def test_cuts_change_no_bit(preset, cuts):
    """State, served rows, thresholds and losses are the same however the stream is cut."""
    data = label_stream(300)
    whole, cut = make_pool(preset), make_pool(preset)
    want = whole.run(*data, singles(300), rate=0.003)
    got, at = [], 0
    for size in cuts:
        some = part_of(data, slice(at, at + size))
        got.append(cut.run(*some, singles(len(some[2])), rate=0.003))
        at += size
    for i, whole_out in enumerate(want):
        np.testing.assert_array_equal(np.concatenate([one[i] for one in got]), whole_out)
    assert same_state(whole, cut)


def test_networks_may_draw_from_all_the_past(monkeypatch):
    """A network whose window is 0 draws from a sample of all the past: both engines agree, and cuts change no bit."""
    spec = NetSpec(name="net_all", objective="labels", lean=True, again=2, window=0)
    monkeypatch.setitem(LABEL_NETWORKS, "lite", (spec, NetSpec(name="net_last", objective="labels", again=1, window=9)))
    data = label_stream(300)
    whole, cut, slow = make_pool("lite"), make_pool("lite"), make_pool("lite", parts=EAGER)
    want = whole.run(*data, singles(300), rate=0.003)
    got = [cut.run(*part_of(data, slice(at, at + 60)), singles(60), rate=0.003) for at in range(0, 300, 60)]
    for i, whole_out in enumerate(want):
        np.testing.assert_array_equal(np.concatenate([one[i] for one in got]), whole_out)
    assert same_state(whole, cut)
    learned = int((~np.isnan(data[1])).any(axis=1).sum())
    assert whole.state["replay"]["sample"].any(axis=1).sum() == learned  # all of them are still there
    plain = slow.run(*part_of(data, slice(0, 40)), singles(40), rate=0.003)
    np.testing.assert_allclose(want[0][:40], plain[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("cut", [1, 7, 64, 130])
def test_cuts_change_no_bit_with_late_labels(cut):
    """Operations whose labels come 30 events later may be cut anywhere; the rows are given again with the label."""
    data = label_stream(200)
    operations = late(200, 30)
    whole, pieces = make_pool("best"), make_pool("best")
    want, want_loss, _ = whole.run(*data, operations, rate=0.003)
    got, got_loss = np.full_like(want, np.nan), np.full_like(want_loss, np.nan)
    for at in range(0, len(operations), cut):
        now = slice(at, at + cut)
        some = Operations(operations.kind[now], operations.start[now], operations.stop[now])
        rows = np.unique(some.start)
        place = np.searchsorted(rows, some.start)
        again = Operations(some.kind, place, place + 1)
        served, loss, _ = pieces.run(*part_of(data, rows), again, rate=0.003)
        predicted, learned = some.kind == Kind.PREDICT_OBSERVE, some.kind == Kind.LEARN
        got[some.start[predicted]] = served[place[predicted]]
        got_loss[some.start[learned]] = loss[place[learned]]
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)
    assert same_state(whole, pieces)


@pytest.mark.parametrize("preset", PRESETS)
def test_predict_serves_what_learning_serves_and_changes_nothing(preset):
    """Asking before an event gives exactly what is then served for it, and leaves no trace."""
    data = label_stream(80)
    quiet, asked = make_pool(preset), make_pool(preset)
    for i in range(80):
        inputs, y, number = part_of(data, slice(i, i + 1))
        first, cut = asked.predict(inputs)
        np.testing.assert_array_equal(asked.predict(inputs)[0], first)
        want = quiet.run(inputs, y, number, singles(1), rate=0.003)
        got = asked.run(inputs, y, number, singles(1), rate=0.003)
        np.testing.assert_array_equal(got[0], want[0])
        np.testing.assert_array_equal(got[0], first)
        np.testing.assert_array_equal(got[2], cut)
    assert same_state(quiet, asked)


def test_saved_and_loaded_pool_goes_on_to_the_same_bits():
    """Save, load, next events: equal in every bit, with labels still to come."""
    data, operations = label_stream(200), late(200, 30)
    half = len(operations) // 2
    first, second = (
        Operations(operations.kind[s], operations.start[s], operations.stop[s])
        for s in (slice(0, half), slice(half, None))
    )
    straight, resumed = make_pool("best"), make_pool("best", seed=5)
    straight.run(*data, first, rate=0.003)
    resumed.seed = 0
    resumed.load_state_dict(straight.state_dict())
    want = straight.run(*data, second, rate=0.003)
    got = resumed.run(*data, second, rate=0.003)
    np.testing.assert_array_equal(got[0], want[0])
    assert same_state(straight, resumed)


def test_room_for_more_inputs_changes_no_bit():
    """A stream learned with room for inputs that never come is learned to the same bits; growth moves no prediction."""
    data = label_stream(200)
    tight, roomy = make_pool("best"), make_pool("best")
    head, rest = part_of(data, slice(0, 100)), part_of(data, slice(100, 200))
    for pool in (tight, roomy):
        pool.run(*head, singles(100), rate=0.003)
    before = roomy.predict(rest[0])[0]
    roomy.grow(numeric=20, plain=9)
    np.testing.assert_array_equal(roomy.predict(rest[0])[0], before)
    want, got = (pool.run(*rest, singles(100), rate=0.003) for pool in (tight, roomy))
    np.testing.assert_array_equal(got[0], want[0])


def test_unknown_labels_are_no_labels():
    """A label that is never known stays unserved, and what the others learn does not depend on its column."""
    inputs, y, number = label_stream(150)
    y[:, 2] = np.nan
    served, _, _ = make_pool().run(inputs, y, number, singles(150), rate=0.003)
    assert np.isnan(served[:, 2]).all()
    assert np.isfinite(served[20:, [0, 1, 3, 4]]).all()


def test_event_without_any_label_moves_only_input_statistics():
    """Where nothing is known nothing is learned: networks, votes and mixer keep their bits."""
    inputs, y, number = label_stream(60)
    pool = make_pool()
    pool.run(inputs, y, number, singles(60), rate=0.003)
    before = {part: copied(state) for part, state in pool.state.items()}
    nothing = np.full((1, LABELS), np.nan)
    one = Inputs(inputs.x[:1], inputs.plain[:1], inputs.field, inputs.moment)
    pool.run(one, nothing, np.array([60]), singles(1), rate=0.003)
    for name in ("votes", *(spec.name for spec in pool.nets)):
        for key, array in before[name].items():
            np.testing.assert_array_equal(pool.state[name][key], array, err_msg=f"{name}.{key}")
    for key in ("hedge", "stack", "hits", "threshold", "labels"):
        np.testing.assert_array_equal(pool.state["mixer"][key], before["mixer"][key])


def test_shifted_puts_the_threshold_at_one_half():
    """Decisions at one half are decisions at the threshold; the order stays, and one half changes nothing."""
    p = np.linspace(0.01, 0.99, 99)[:, None]
    np.testing.assert_array_equal(shifted(p, np.full((99, 1), 0.325)) > 0.5, p > 0.325)
    np.testing.assert_allclose(shifted(p, np.full((99, 1), 0.5)), p)


def learner_of(names=("a", "b", "c"), preset="fast"):
    """A learner of several binary targets and one value."""
    return PoolLearner(
        PoolSpec(targets=(*(TargetSpec(n, "binary") for n in names), TargetSpec("v", "regression")), preset=preset)
    )


def learner_stream(events):
    """Columns, and labels of which two can be learned."""
    columns, score = numeric_stream(events)
    sign = np.sign(score)
    labels = {"a": obj((sign > 0).tolist()), "b": obj((sign <= 0).tolist()), "c": obj((score > 1).tolist()), "v": score}
    return columns, labels


@pytest.mark.parametrize("cuts", [[1] * 120, [7] * 18, [64, 56]])
def test_learner_shares_one_pool_and_cuts_change_no_bit(cuts):
    """Several binary targets share a pool beside that of a value, and served rows do not depend on the cuts."""
    columns, labels = learner_stream(120)
    whole, cut = learner_of(), learner_of()
    want, _ = drive(whole, columns, labels, cuts=[120])
    got, _ = drive(cut, columns, labels, cuts=cuts)
    np.testing.assert_array_equal(got, want)
    assert len(whole.tasks) == 2
    assert want.shape == (120, 4)
    resumed = learner_of()
    resumed.load_state_dict(whole.state_dict())
    asked = {name: column[:5] for name, column in columns.items()}
    np.testing.assert_array_equal(resumed.predict(asked, 5), whole.predict(asked, 5))


def test_state_with_a_pool_a_target_is_refused():
    """A state from when every target had a pool of its own is named as such, not loaded in part."""
    columns, labels = learner_stream(20)
    learner = learner_of()
    drive(learner, columns, labels, cuts=[20])
    state = learner.state_dict()
    state["pools"]["a"] = state["pools"].pop("(labels)")
    with pytest.raises(ValueError, match="parts a, v"):
        learner_of().load_state_dict(state)


@pytest.mark.parametrize("preset", PRESETS)
def test_many_inputs_get_smaller_networks(preset):
    """With hundreds of inputs all networks read each input once; predictions come and can be resumed."""
    rng = np.random.default_rng(0)
    inputs = Inputs(rng.normal(size=(30, 300)), np.zeros((30, 0)), np.zeros(0, dtype=np.int32), np.zeros(0))
    y, number = (rng.random((30, 3)) < 0.4).astype(np.float64), np.arange(30)
    pool, other = (LabelPool(preset, numeric=300, plain=0, labels=3, seed=s, parts=NATIVE) for s in (0, 1))
    served, _, _ = pool.run(inputs, y, number, singles(30), rate=0.003)
    assert all(spec.narrow for spec in pool.nets)
    assert np.isfinite(served[1:]).all()
    other.load_state_dict(pool.state_dict())
    np.testing.assert_array_equal(other.predict(inputs)[0], pool.predict(inputs)[0])
