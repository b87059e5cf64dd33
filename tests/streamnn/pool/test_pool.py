"""The pool of one target: cuts, purity, growth, late labels, micro-batches, saving."""

import numpy as np
import pytest

from streamnn.operations import Kind, Operations
from streamnn.pool.engines import EAGER
from streamnn.pool.presets import PRESETS
from tests.streamnn.pool.helpers import batches, drive, late, make_pool, part, same_state, singles, stream

CUTS = {"one": [1] * 400, "seven": [7] * 60, "64": [64] * 7, "uneven": [3, 1, 150, 2, 44, 200]}


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("preset", ["lite", "best"])
def test_cuts_change_no_bit(preset, cuts):
    """State, served rows and losses are the same however the stream is cut, through growth of the classes."""
    chunk = stream(400, classes=5, unknown=0.1)
    whole, cut = (make_pool(preset, classes=2) for _ in range(2))
    want, want_loss = drive(whole, chunk, cuts=[400])
    got, got_loss = drive(cut, chunk, cuts=CUTS[cuts])
    assert whole.layout.classes == 8
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)
    assert same_state(whole, cut)


@pytest.mark.parametrize("cut", [1, 7, 64, 130])
def test_cuts_change_no_bit_with_late_labels(cut):
    """Operations whose labels come 30 events later may be cut anywhere; the rows are given again with the label."""
    chunk = stream(200)
    operations = late(200, 30)
    whole, pieces = make_pool("best"), make_pool("best")
    want, want_loss = whole.run(chunk, operations, rate=0.003)
    got, got_loss = np.full_like(want, np.nan), np.full_like(want_loss, np.nan)
    for at in range(0, len(operations), cut):
        now = slice(at, at + cut)
        some = Operations(operations.kind[now], operations.start[now], operations.stop[now])
        rows = np.unique(some.start)
        place = np.searchsorted(rows, some.start)
        served, loss = pieces.run(part(chunk, rows), Operations(some.kind, place, place + 1), rate=0.003)
        predicted, learned = some.kind == Kind.PREDICT_OBSERVE, some.kind == Kind.LEARN
        got[some.start[predicted]] = served[place[predicted]]
        got_loss[some.start[learned]] = loss[place[learned]]
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)
    assert same_state(whole, pieces)


@pytest.mark.parametrize("preset", PRESETS)
def test_predict_serves_what_learning_serves_and_changes_nothing(preset):
    """Asking before an event gives exactly what is then served for it, any number of times, and leaves no trace."""
    chunk = stream(120)
    quiet, asked = make_pool(preset), make_pool(preset)
    for i in range(120):
        row = part(chunk, slice(i, i + 1))
        first = asked.predict(row)
        np.testing.assert_array_equal(asked.predict(row), first)
        want, _ = quiet.run(row, singles(1), rate=0.003)
        got, _ = asked.run(row, singles(1), rate=0.003)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(first, got)
    assert same_state(quiet, asked)


def test_predicting_a_batch_is_predicting_each_row():
    """Rows served together are served as each alone."""
    chunk = stream(150)
    pool = make_pool()
    drive(pool, part(chunk, slice(0, 100)), cuts=[100])
    together = pool.predict(part(chunk, slice(100, 150)))
    alone = np.concatenate([pool.predict(part(chunk, slice(i, i + 1))) for i in range(100, 150)])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_saved_and_loaded_pool_goes_on_to_the_same_bits(preset):
    """Save, load, next events: equal in every bit, with labels still to come."""
    chunk = stream(300, classes=5)
    straight, first = make_pool(preset, classes=8), make_pool(preset, classes=8)
    operations = late(300, 30)
    half = len(operations) // 2
    pieces = slice(0, half), slice(half, None)
    parts = [Operations(operations.kind[s], operations.start[s], operations.stop[s]) for s in pieces]
    for some in parts:
        want, _ = straight.run(chunk, some, rate=0.003)
    first.run(chunk, parts[0], rate=0.003)
    saved = first.state_dict()
    first.run(chunk, parts[1], rate=0.003)  # a saved state is a copy: going on does not change it
    second = make_pool(preset, classes=8, seed=5)
    second.seed = 0
    second.load_state_dict(saved)
    got, _ = second.run(chunk, parts[1], rate=0.003)
    np.testing.assert_array_equal(got, want)
    assert same_state(straight, second)


def test_state_of_another_preset_is_refused():
    """A state with other members is not taken, and the message names the parts."""
    with pytest.raises(ValueError, match="net_replay_all"):
        make_pool("lite").load_state_dict(make_pool("best").state_dict())


@pytest.mark.parametrize("room", [(6, 2, 4), (4, 5, 4), (4, 2, 8), (20, 9, 16)])
def test_growth_leaves_predictions_as_they_are(room):
    """Room for more inputs, categories or classes changes no served bit of what is known."""
    chunk = stream(200)
    pool = make_pool("best")
    drive(pool, part(chunk, slice(0, 150)), cuts=[150])
    rest = part(chunk, slice(150, 200))
    before = pool.predict(rest)
    pool.grow(numeric=room[0], plain=room[1], classes=room[2])
    after = pool.predict(rest)
    np.testing.assert_array_equal(after[:, :4], before)
    assert (after[:, 4:] == 0).all()


def test_room_for_more_inputs_changes_no_bit_while_learning():
    """A stream learned with room for inputs that never come is learned to the same bits."""
    chunk = stream(300)
    tight, roomy = make_pool("best"), make_pool("best")
    roomy.grow(numeric=20, plain=9, classes=4)
    want, _ = drive(tight, chunk, cuts=[300])
    got, _ = drive(roomy, chunk, cuts=[300])
    np.testing.assert_array_equal(got, want)


def test_target_encodings_that_no_longer_fit_are_left_out():
    """With many classes the encodings would cost more than all the rest: the pool goes on without them."""
    chunk = stream(100, numeric=30, classes=3)
    pool = make_pool("fast", numeric=30)
    assert pool.layout.targets
    drive(pool, chunk, cuts=[100])
    pool.grow(numeric=30, plain=2, classes=16)
    assert not pool.layout.targets
    served, _ = drive(pool, chunk, cuts=[100])
    np.testing.assert_allclose(served.sum(axis=1), 1.0)


def test_immediate_labels_are_the_two_operations_in_a_row():
    """Predict-and-observe followed at once by learn serves the same as the joined operation."""
    chunk = stream(150)
    joined, apart = make_pool("best"), make_pool("best")
    want, want_loss = joined.run(chunk, singles(150), rate=0.003)
    got, got_loss = apart.run(chunk, late(150, 0), rate=0.003)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)


def test_label_later_than_the_store_still_teaches_the_members():
    """A label for an event that is no longer remembered is learned from the inputs given; the mixer stays as it is."""
    chunk = stream(2400, numeric=2, plain=0, gaps=False)
    pool = make_pool("lite", numeric=2, plain=0)
    pool.run(part(chunk, slice(0, 50)), singles(50), rate=0.003)
    watched = [(Kind.PREDICT_OBSERVE, i, i + 1) for i in range(2300)]
    later = part(chunk, slice(50, 2400))
    pool.run(later, Operations.of(watched), rate=0.003)
    weights, labels = dict(pool.weights), int(pool.state["maps"]["counts"][1])
    _, loss = pool.run(part(later, slice(0, 1)), singles(1, kind=Kind.LEARN), rate=0.003)
    assert pool.weights == weights
    assert int(pool.state["maps"]["counts"][1]) == labels + 1
    assert np.isfinite(loss).all()
    pool.run(part(later, slice(2299, 2300)), singles(1, kind=Kind.LEARN), rate=0.003)
    assert pool.weights != weights


def test_unlabelled_events_move_input_statistics_only():
    """An event without a label changes the maps' input statistics and what is stored, and no weight."""
    chunk = stream(120)
    pool = make_pool("best")
    drive(pool, part(chunk, slice(0, 100)), cuts=[100])
    before = pool.state_dict()["arrays"]
    rest = part(chunk, slice(100, 120))
    rest.label[:] = -1
    pool.run(rest, singles(20), rate=0.003)
    for name, arrays in pool.state.items():
        for key, array in arrays.items():
            if key in ("counts", "n", "mean", "var", "ring", "sorted", "filled") or key.startswith(("ema", "stored")):
                continue
            np.testing.assert_array_equal(array, before[name][key], err_msg=f"{name}.{key}")
    assert pool.state["maps"]["counts"].tolist()[:2] == [120, 100]


@pytest.mark.parametrize("size", [1, 8, 32])
def test_micro_batches(size):
    """All of a batch is predicted by what was learned before it, each event with the inputs that came before it."""
    chunk = stream(256)
    pool, asked, watching = make_pool("fast"), make_pool("fast"), make_pool("fast")
    served, loss = pool.run(chunk, batches(256, size), rate=0.003)
    assert np.isfinite(loss).all()
    for at in range(0, 256, size):
        watching.load_state_dict(asked.state_dict())
        for i in range(at, at + size):
            row = part(chunk, slice(i, i + 1))
            np.testing.assert_array_equal(served[i : i + 1], watching.predict(row))
            watching.run(row, singles(1, kind=Kind.PREDICT_OBSERVE), rate=0.003)
        asked.run(part(chunk, slice(at, at + size)), batches(size, size), rate=0.003)
    assert same_state(pool, asked)
    if size == 1:
        single = make_pool("fast")
        single.run(chunk, singles(256), rate=0.003)
        assert same_state(pool, single)


@pytest.mark.parametrize("preset", PRESETS)
def test_learns(preset):
    """On a learnable stream with drift the second half is predicted far better than by the majority."""
    chunk = stream(2000, gaps=False)
    pool = make_pool(preset)
    served, _ = drive(pool, chunk, cuts=[2000])
    right = (served.argmax(axis=1) == chunk.label)[1000:]
    share = np.bincount(chunk.label[1000:]).max() / 1000
    assert right.mean() > share + 0.15


def test_seed_decides_everything_random():
    """Equal seeds give equal bits, another seed gives other weights."""
    chunk = stream(80)
    a, b, c = make_pool("best"), make_pool("best"), make_pool("best", seed=1)
    for pool in (a, b, c):
        drive(pool, chunk, cuts=[80])
    assert same_state(a, b)
    assert not same_state(a, c)


def test_weights_tell_who_carries_the_prediction():
    """The hedge's weights sum to 1 over all members, and the best member has more than its share."""
    chunk = stream(1000, gaps=False)
    pool = make_pool("fast")
    drive(pool, chunk, cuts=[1000])
    hedge = {name: pair[0] for name, pair in pool.weights.items()}
    assert list(hedge) == list(pool.members)
    np.testing.assert_allclose(sum(hedge.values()), 1.0)
    assert max(hedge.values()) > 3 / len(hedge)


def test_without_a_compiler_numpy_serves_the_same_to_float_tolerance():
    """The eager engine follows the native one over a few dozen events of all kinds."""
    chunk = stream(60, unknown=0.1)
    native, eager = make_pool("best"), make_pool("best", parts=EAGER)
    want, want_loss = native.run(chunk, singles(60), rate=0.003)
    got, got_loss = eager.run(chunk, singles(60), rate=0.003)
    np.testing.assert_allclose(got, want, atol=2e-3)
    np.testing.assert_allclose(got_loss, want_loss, atol=2e-2)


def test_memory_is_flat():
    """After the windows are full, the state has the same size for ever."""
    chunk = stream(3000, unknown=0.05)
    pool = make_pool("best")
    drive(pool, part(chunk, slice(0, 1500)), cuts=[1500])
    size = sum(a.nbytes for arrays in pool.state.values() for a in arrays.values())
    drive(pool, part(chunk, slice(1500, 3000)), cuts=[1500])
    assert sum(a.nbytes for arrays in pool.state.values() for a in arrays.values()) == size
