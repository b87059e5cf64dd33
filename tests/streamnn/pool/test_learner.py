"""The pool as a learner: columns in, growth of the indexes, refusals, saving."""

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.native.build import CompilerError
from streamnn.operations import Kind, Operations
from streamnn.pool import PoolLearner, PoolSpec, maps, values
from streamnn.pool.inputs import InputPlan
from streamnn.pool.layout import Layout
from streamnn.targets import decide
from tests.streamnn.helpers import drive, labels_of, numeric_stream, obj
from tests.streamnn.pool.helpers import late, singles

KINDS = ["binary", "multiclass", "regression"]


def make_learner(kind, **settings):
    """A pool for one target t0, the fast one if not said otherwise."""
    return PoolLearner(PoolSpec(targets=(TargetSpec("t0", kind),), **{"preset": "fast", **settings}))


def growing_stream(events=120):
    """Features that come late, categories, moments, gaps, and classes that come late."""
    columns, _ = numeric_stream(events, features=6)
    for i in range(6):
        columns[f"f{i}"][: 9 * i] = np.nan
    columns["f1"][::7] = np.nan
    columns["kind"] = obj([None if i % 11 == 0 else f"k{i * i % (1 + i // 8)}" for i in range(events)])
    columns["at"] = np.datetime64("2026-01-01T00:00:00.000000") + np.arange(events) * np.timedelta64(3600, "s")
    labels = obj([f"c{i % (1 + i // 12)}" for i in range(events)])
    labels[::5] = None
    return columns, {"t0": labels}


def moments(events):
    """Moments that come seconds to hours one after the other; some are missing."""
    seconds = np.cumsum(10 ** np.random.default_rng(0).uniform(0, 4, events)).astype(np.int64)
    at = np.datetime64("2026-01-01T00:00:00.000000") + seconds * np.timedelta64(1, "s")
    at[9::10] = np.datetime64("NaT")
    return at


def flat(state):
    """Every leaf of a nested state by its path."""
    if isinstance(state, dict):
        return {f"{k}.{path}": leaf for k, value in state.items() for path, leaf in flat(value).items()}
    return {"": state}


def same_bits(a, b):
    """Tell whether two learners hold the same bits."""
    left, right = flat(a.state_dict()), flat(b.state_dict())
    return left.keys() == right.keys() and all(
        np.array_equal(leaf, right[path], equal_nan=True) if isinstance(leaf, np.ndarray) else leaf == right[path]
        for path, leaf in left.items()
    )


@pytest.mark.parametrize("cuts", [[1] * 120, [7] * 18, [64, 56], [3, 1, 30, 2, 84]])
def test_cuts_change_no_prediction(cuts):
    """Served rows and losses are the same bits however the stream is cut, through growth of inputs and classes."""
    columns, labels = growing_stream()
    whole, cut = (make_learner("multiclass", feature_capacity=2) for _ in range(2))
    want, want_loss = drive(whole, columns, labels, cuts=[120])
    got, got_loss = drive(cut, columns, labels, cuts=cuts)
    assert whole.growths["features"] > 1
    assert whole.growths["classes"] > 1
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)


def test_same_cuts_through_growth_end_in_the_same_state():
    """What is learned does not depend on where the chunk ended in which an input first came."""
    columns, labels = growing_stream()
    a, b = (make_learner("multiclass", feature_capacity=2) for _ in range(2))
    drive(a, columns, labels, cuts=[120])
    drive(b, columns, labels, cuts=[50, 70])
    asked = {name: column[-5:] for name, column in columns.items()}
    np.testing.assert_array_equal(a.predict(asked, 5), b.predict(asked, 5))


@pytest.mark.parametrize("kind", KINDS)
def test_learns_and_serves_as_the_head_says(kind):
    """Decisions come from served rows by the head, are better than the majority, and probabilities add up."""
    columns, score = numeric_stream(1500)
    labels = {"t0": labels_of(kind, score)}
    learner = make_learner(kind)
    served, _ = drive(learner, columns, labels, cuts=[256] * 6)
    assert served.shape[1] == learner.head.width
    decided = decide(served, learner.head)[750:, 0]
    if kind == "regression":
        truth = labels["t0"][750:]
        assert np.abs(decided - truth).mean() < 0.75 * np.abs(truth - truth.mean()).mean()
        return
    truth = learner.targets.encode(labels, 1500, head=learner.head).truth[750:, 0]
    assert (decided == truth).mean() > np.bincount(truth.astype(int)).max() / 750 + 0.1
    if kind == "multiclass":
        np.testing.assert_allclose(np.nansum(served[1:], axis=1), 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_is_pure_and_serves_what_learning_serves(kind):
    """Asking changes nothing, also about fields, categories and values never learned."""
    columns, score = numeric_stream(40)
    labels = {"t0": labels_of(kind, score)}
    quiet, asked = make_learner(kind), make_learner(kind)
    for n in range(40):
        event = {name: c[n : n + 1] for name, c in columns.items()}
        first = asked.predict(event, 1)
        asked.predict({**event, "unknown": np.array([1.0]), "text": obj(["new"]), "f0": np.array([1e300])}, 1)
        one = {"t0": labels["t0"][n : n + 1]}
        want, _ = drive(quiet, event, one, cuts=[1], start=n)
        got, _ = drive(asked, event, one, cuts=[1], start=n)
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(first, got[:, : first.shape[1]])
    assert same_bits(quiet, asked)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [("regression",), ("regression", "regression"), ("regression", "binary", "multiclass", "binary", "regression")],
    ids=["value", "values", "mixed"],
)
def test_predict_of_best_is_pure(kinds, late):
    """The same for the default pool of a value, of several, and of several kinds; with categories and moments, and labels late."""
    columns, score = numeric_stream(60)
    columns |= {"kind": obj([f"k{i * i % 5}" for i in range(60)]), "at": moments(60)}
    specs = tuple(TargetSpec(f"t{i}", kind) for i, kind in enumerate(kinds))
    labels = {spec.name: labels_of(spec.kind, score * (-1.0) ** i) for i, spec in enumerate(specs)}
    quiet, asked = (PoolLearner(PoolSpec(targets=specs, preset="best", class_capacity=4)) for _ in range(2))
    rows = [learner.encode(columns, labels, np.arange(60)).rows for learner in (quiet, asked)]
    assert len(rows[0]) == 60
    served = []
    for n in range(60):
        event = {name: c[n : n + 1] for name, c in columns.items()}
        first = asked.predict(event, 1)
        other = {**event, "unknown": np.array([1.0]), "kind": obj(["new"]), "f0": np.array([1e300])}
        asked.predict({name: np.concatenate([c, c]) for name, c in other.items()}, 2)
        kind = Kind.PREDICT_OBSERVE if late else Kind.PREDICT_LEARN
        listed = [(kind, n, n + 1), *([(Kind.LEARN, n - 20, n - 19)] if late and n >= 20 else [])]
        want, got = (
            learner.run(own, Operations.of(listed), rate=0.003).served[n]
            for learner, own in zip((quiet, asked), rows, strict=True)
        )
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(first[0], got)
        served.append(got)
    assert np.isfinite(served[30:]).all()
    assert same_bits(quiet, asked)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_meets_what_is_new_as_learning_does(kind):
    """Fields and categories that an event is the first to have count in its prediction as where it is learned at once."""
    columns, labels = growing_stream()
    columns["late"] = np.where(np.arange(120) < 60, np.nan, np.arange(120.0))
    if kind != "multiclass":
        labels = {"t0": labels_of(kind, np.random.default_rng(0).normal(size=120))}
    learner = make_learner(kind, preset="best", feature_capacity=2)
    for n in range(120):
        event = {name: c[n : n + 1] for name, c in columns.items()}
        first = learner.predict(event, 1)
        served, _ = drive(learner, event, {"t0": labels["t0"][n : n + 1]}, cuts=[1], start=n)
        np.testing.assert_array_equal(first, served[:, : first.shape[1]])
    assert learner.growths["features"] > 1


@pytest.mark.parametrize("batch", [1, 8])
def test_save_load_next_event_is_bit_equal(batch):
    """A learner that is saved and loaded goes on to the same bits."""
    columns, labels = growing_stream()
    straight, first = make_learner("multiclass", preset="best"), make_learner("multiclass", preset="best")
    half = {n: c[:64] for n, c in columns.items()}, {n: c[:64] for n, c in labels.items()}
    rest = {n: c[64:] for n, c in columns.items()}, {n: c[64:] for n, c in labels.items()}
    for learner in (straight, first):
        drive(learner, *half, cuts=[64], batch=batch)
    second = make_learner("multiclass", preset="best")
    second.load_state_dict(first.state_dict())
    want, _ = drive(straight, *rest, cuts=[56], batch=batch, start=64)
    got, _ = drive(second, *rest, cuts=[56], batch=batch, start=64)
    np.testing.assert_array_equal(got, want)
    assert same_bits(straight, second)


def test_fresh_learner_can_be_saved_and_loaded():
    """A learner that has seen nothing has a state too."""
    learner = make_learner("binary")
    learner.load_state_dict(make_learner("binary").state_dict())
    assert not learner.built
    assert np.isnan(learner.predict({"a": np.array([1.0])}, 1)).all()


def test_state_holds_no_objects():
    """Everything in the state is an array, a number, a text or a list of these."""
    columns, labels = growing_stream()
    learner = make_learner("multiclass")
    drive(learner, columns, labels, cuts=[120])
    for path, leaf in flat(learner.state_dict()).items():
        plain = isinstance(leaf, (np.ndarray, int, float, str, list)) or leaf is None
        assert plain, path
        assert not (isinstance(leaf, np.ndarray) and leaf.dtype == object), path


@pytest.mark.parametrize("cuts", [[60], [1] * 60, [7] * 9])
def test_input_that_would_break_the_statistics_is_refused(cuts):
    """An input of 1e200 is refused with its name, and the rest is learned as if that event had never come."""
    columns, score = numeric_stream(60)
    labels = labels_of("binary", score)
    columns["f2"][[0, 30]] = [1e200, -np.inf]
    learner = make_learner("binary")
    refused, at, served = {}, 0, []
    for cut in cuts:
        stop = min(at + cut, 60)
        part = {n: c[at:stop] for n, c in columns.items()}
        rows = learner.encode(part, {"t0": labels[at:stop]}, np.arange(at, stop)).rows
        results = learner.run(rows, singles(stop - at), rate=0.003)
        refused |= {at + row: why for row, why in results.refused.items()}
        served += list(results.served)
        at = stop
    assert list(refused) == [0, 30]
    assert "'f2'" in refused[0]
    assert np.isnan(served[0]).all()
    assert np.isnan(served[30]).all()
    assert np.isfinite(np.array(served[2:30])).all()


@pytest.mark.parametrize("kinds", [("multiclass",), ("regression",), ("binary", "binary")])
def test_a_micro_batch_is_served_as_events_whose_labels_are_late(kinds):
    """Inputs count at once, within the batch too: only what is learned waits for its end."""
    columns, score = numeric_stream(96)
    columns["kind"] = obj([f"k{i % 5}" for i in range(96)])
    specs = tuple(TargetSpec(f"t{i}", kind) for i, kind in enumerate(kinds))
    labels = {spec.name: labels_of(spec.kind, score * (-1.0) ** i) for i, spec in enumerate(specs)}
    learners = [PoolLearner(PoolSpec(targets=specs, preset="fast", class_capacity=4)) for _ in range(2)]
    for learner in learners:
        drive(learner, columns, labels, cuts=[64], batch=16)
    rest = {n: c[64:] for n, c in columns.items()}, {n: c[64:] for n, c in labels.items()}
    rows = [learner.encode(*rest, np.arange(64, 96), batch=32).rows for learner in learners]
    one = learners[0].run(rows[0], Operations.of([(Kind.PREDICT_LEARN, 0, 32)]), rate=0.003)
    each = learners[1].run(rows[1], singles(32, kind=Kind.PREDICT_OBSERVE), rate=0.003)
    np.testing.assert_array_equal(one.served, each.served)
    assert len(np.unique(one.served[:, 0])) > 16


def test_refused_rows_leave_their_batch():
    """A micro-batch with a row that is refused is learned as one batch of the others."""
    columns, score = numeric_stream(16)
    labels = labels_of("binary", score)
    kept = np.delete(np.arange(16), 5)
    whole, part = make_learner("binary"), make_learner("binary")
    bad = {n: c.copy() for n, c in columns.items()}
    bad["f1"][5] = 1e300
    rows = whole.encode(bad, {"t0": labels}, np.arange(16), batch=16).rows
    whole.run(rows, Operations.of([(Kind.PREDICT_LEARN, 0, 16)]), rate=0.003)
    rows = part.encode({n: c[kept] for n, c in columns.items()}, {"t0": labels[kept]}, kept, batch=16).rows
    part.run(rows, Operations.of([(Kind.PREDICT_LEARN, 0, 15)]), rate=0.003)
    assert same_bits(whole, part)


def test_clear_forgets_second_moments():
    """With `clear` the networks' next steps are as large as the first ones."""
    columns, score = numeric_stream(60)
    labels = {"t0": labels_of("binary", score)}
    learner = make_learner("binary")
    drive(learner, columns, labels, cuts=[60])
    part = {n: c[:1] for n, c in columns.items()}
    rows = learner.encode(part, {"t0": labels["t0"][:1]}, np.array([60])).rows
    learner.run(rows, Operations.of([(Kind.PREDICT_LEARN, 0, 1)]), rate=0.003, clear=True)
    assert learner.tasks["t0"].pool.state["net"]["left_unit"][0] == 0.99


def test_rows_kept_from_a_smaller_capacity_are_padded():
    """A late label of a row encoded before both axes grew is learned after padding."""
    columns, labels = growing_stream()
    learner = make_learner("multiclass", feature_capacity=2)
    early = {n: c[1:2] for n, c in columns.items()}
    rows = learner.encode(early, {"t0": labels["t0"][1:2]}, np.array([0])).rows
    head = learner.head
    learner.run(rows, Operations.of([(Kind.PREDICT_OBSERVE, 0, 1)]), rate=0.003)
    drive(learner, columns, labels, cuts=[120], start=1)
    padded = learner.pad(rows, head=head)
    assert padded.x.shape[1] == learner.features.capacity
    results = learner.run(padded, Operations.of([(Kind.LEARN, 0, 1)]), rate=0.003)
    assert np.isfinite(results.loss).all()


def test_declared_fields_are_inputs_from_the_start():
    """Fields named before the first event have start weights; naming them later is an error."""
    learner = make_learner("binary")
    learner.declare(["a", "b", "c"])
    learner.encode({"a": np.array([1.0])}, {"t0": np.array([1.0])}, np.array([0]))
    assert learner.tasks["t0"].pool.layout.numeric == 3
    with pytest.raises(RuntimeError, match="before the first event"):
        learner.declare(["d"])


@pytest.mark.parametrize("preset", ["lite", "best"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_engines_run_every_kind_of_target(kind, preset):
    """The NumPy pool follows the one in C for some events with gaps."""
    columns, score = numeric_stream(40, features=3)
    columns["f1"][::7] = np.nan
    labels = {"t0": labels_of(kind, score)}
    native, eager = (make_learner(kind, preset=preset, engine=engine) for engine in ("native", "eager"))
    want, want_loss = drive(native, columns, labels, cuts=[40])
    got, got_loss = drive(eager, columns, labels, cuts=[40])
    np.testing.assert_allclose(got, want, atol=5e-3)
    np.testing.assert_allclose(got_loss, want_loss, atol=5e-2)


def test_what_waits_grows_to_the_same_bits():
    """Rows that wait for labels are the same bits whether there was room for a new input before or after them."""
    early, late_one = maps.init(Layout(3, 0, 2, False), 8), maps.init(Layout(2, 0, 2, False), 8)
    grown = maps.grow(late_one, Layout(2, 0, 2, False), Layout(3, 0, 2, False))
    for name, array in early.items():
        np.testing.assert_array_equal(grown[name], array, err_msg=name)


def test_faces_tell_what_runs():
    """Engine, compilations, parameters and weights are there before and after the first event."""
    learner = make_learner("multiclass")
    assert (learner.engine, learner.compilations, learner.parameters, learner.weights) == ("native", 0, 0, {})
    columns, labels = growing_stream()
    drive(learner, columns, labels, cuts=[120])
    assert learner.parameters > 0
    assert list(learner.weights["t0"])[-2:] == ["net", "net_replay"]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"preset": "huge"}, "preset"),
        ({"seed": -1}, "seed"),
        ({"engine": "gpu"}, "engine"),
        ({"targets": ()}, "targets"),
    ],
)
def test_settings_are_checked(settings, word):
    """A setting outside its range is an error that names it."""
    with pytest.raises(ValueError, match=word):
        PoolSpec(**{"targets": (TargetSpec("t", "binary"),), **settings})


def test_state_of_another_preset_is_refused():
    """The message names both presets."""
    with pytest.raises(ValueError, match=r"'lite'.*'fast'"):
        make_learner("binary").load_state_dict(make_learner("binary", preset="lite").state_dict())


@pytest.mark.parametrize(
    ("kinds", "pool", "part"),
    [(["binary"], "t0", "mixer"), (["regression"], "t0", "blend"), (["binary"] * 2, "(labels)", "mixer")],
)
def test_state_of_other_members_is_refused(kinds, pool, part):
    """A mixture of fewer members, as an older version has written it, is an error, not a read beyond an array's end."""
    targets = tuple(TargetSpec(f"t{i}", kind) for i, kind in enumerate(kinds))
    learner, other = (PoolLearner(PoolSpec(targets=targets, preset="fast")) for _ in range(2))
    columns, _ = numeric_stream(3)
    learner.encode(columns, {}, np.arange(3))
    state = learner.state_dict()
    held = state["pools"][pool]["arrays"][part]
    whole = held["hedge"]
    held["hedge"] = whole[..., :-1]
    with pytest.raises(ValueError, match=rf"the state's {part} are not those of this version"):
        other.load_state_dict(state)
    held["hedge"] = whole
    store = state["pools"][pool]["arrays"]["replay"]
    rows = store["recent"]
    store["recent"] = np.hstack([rows, rows[:, :1]])  # rows had a column more
    with pytest.raises(ValueError, match="the state's replay are not those of this version"):
        other.load_state_dict(state)
    store["recent"] = rows
    other.load_state_dict(state)
    del state["pools"][pool]["arrays"]["maps"]["stored"]
    with pytest.raises(ValueError, match="maps"):
        other.load_state_dict(state)


def test_without_a_compiler_the_pool_warns_and_runs(monkeypatch):
    """Where no compiler answers, auto runs the NumPy parts and says so; native is an error."""
    monkeypatch.setattr("streamnn.pool.native.library", _no_compiler)
    with pytest.warns(RuntimeWarning, match="NumPy"):
        learner = make_learner("binary")
    assert learner.engine == "eager"
    columns, score = numeric_stream(20)
    served, _ = drive(learner, columns, {"t0": labels_of("binary", score)}, cuts=[20])
    assert np.isfinite(served[1:]).all()
    with pytest.raises(CompilerError):
        make_learner("binary", engine="native")


def _no_compiler(name):
    raise CompilerError("no C compiler answers")


def test_every_kind_of_target_has_a_pool_of_its_own():
    """Binary, multi-class and value targets are learned side by side, each from the labels it has."""
    columns, score = numeric_stream(300)
    targets = (TargetSpec("b", "binary"), TargetSpec("m", "multiclass"), TargetSpec("v", "regression"))
    learner = PoolLearner(PoolSpec(targets=targets, preset="lite"))
    labels = {"b": labels_of("binary", score), "m": labels_of("multiclass", score), "v": labels_of("regression", score)}
    labels["b"][::3] = np.nan
    labels["m"][1::3] = None
    labels["v"][2::3] = np.nan
    served, losses = drive(learner, columns, labels, cuts=[100] * 3)
    assert np.isfinite(losses).all()
    assert list(learner.weights) == ["b", "m", "v"]
    alone = PoolLearner(PoolSpec(targets=targets[:1], preset="lite"))
    want, _ = drive(alone, columns, {"b": labels["b"]}, cuts=[300])
    np.testing.assert_array_equal(served[:, learner.head.block("b").columns], want)


@pytest.mark.parametrize("cuts", [[1] * 120, [7] * 18, [64, 56]])
def test_cuts_change_no_bit_of_a_value(cuts):
    """Served values, and losses are the same bits however the stream is cut, through growth and gaps in the labels."""
    columns, _ = growing_stream()
    y = np.cumsum(np.random.default_rng(0).normal(size=120))
    y[::5], y[60] = np.nan, 1e6
    columns["kind"][0] = "k0"  # the fields of the first event are watched
    columns = {name: column[:120] for name, column in columns.items()}
    whole, cut = (make_learner("regression", preset="best", feature_capacity=2) for _ in range(2))
    want, want_loss = drive(whole, columns, {"t0": y}, cuts=[120])
    got, got_loss = drive(cut, columns, {"t0": y}, cuts=cuts)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(got_loss, want_loss)


def test_value_is_saved_and_loaded_bit_by_bit():
    """A value's pool that is saved and loaded goes on to the same bits, with a label still to come."""
    columns, score = numeric_stream(80)
    columns["kind"] = obj([f"k{i % 3}" for i in range(80)])
    columns["at"] = moments(80)
    labels = {"t0": labels_of("regression", score)}
    labels["t0"][::6] = np.nan
    straight, first = make_learner("regression", preset="best"), make_learner("regression", preset="best")
    half = {n: c[:50] for n, c in columns.items()}, {n: c[:50] for n, c in labels.items()}
    rest = {n: c[50:] for n, c in columns.items()}, {n: c[50:] for n, c in labels.items()}
    for learner in (straight, first):
        drive(learner, *half, cuts=[50])
    second = make_learner("regression", preset="best")
    second.load_state_dict(first.state_dict())
    want, _ = drive(straight, *rest, cuts=[30], start=50)
    got, _ = drive(second, *rest, cuts=[30], start=50)
    np.testing.assert_array_equal(got, want)
    assert same_bits(straight, second)


@pytest.mark.parametrize("timed", [True, False])
def test_late_values_are_learned_when_they_come(timed):
    """Values that come 20 events later are learned from what was kept; the result depends on no chunk."""
    columns, score = numeric_stream(100)
    columns["kind"] = obj([f"k{i * i % 7}" for i in range(100)])
    if timed:
        columns["at"] = moments(100)
    y = labels_of("regression", score)
    outs = []
    for cut in (140, 7):
        learner = make_learner("regression", preset="best", feature_capacity=32)
        rows = learner.encode(columns, {"t0": y}, np.arange(100)).rows
        listed, served = late(100, 20), np.full(100, np.nan)
        for at in range(0, len(listed), cut):
            now = slice(at, at + cut)
            some = Operations(listed.kind[now], listed.start[now], listed.stop[now])
            got = learner.run(rows, some, rate=0.003).served[:, 0]
            served = np.where(np.isnan(got), served, got)
        outs.append(served)
    assert np.isfinite(outs[0][20:]).sum() >= 79
    np.testing.assert_array_equal(outs[0], outs[1])
    moves = learner.state_dict()["pools"]["t0"]["arrays"]["values"]["moved"] - values.STILL
    known = ~np.isnat(columns["at"]) if timed else np.ones(100, dtype=bool)
    before = [np.flatnonzero(columns["kind"][: max(i - 20, 0)] == columns["kind"][i]) for i in range(100)]
    assert moves.sum() == sum(known[i] and len(past) > 0 and known[past[-1]] for i, past in enumerate(before))


def test_a_thousandth_of_wild_values_leaves_the_rest_alone():
    """A few targets multiplied by a thousand cost the others at most some 15 % of their error."""
    columns, score = numeric_stream(3000)
    clean = labels_of("regression", score)
    wild = clean.copy()
    hit = np.random.default_rng(1).choice(np.arange(200, 3000), 3, replace=False)
    wild[hit] *= 1000
    errors = []
    for y in (clean, wild):
        served, _ = drive(make_learner("regression", preset="lite"), columns, {"t0": y}, cuts=[3000])
        errors.append(np.abs(np.delete(served[:, 0] - clean, hit))[200:].mean())
    assert errors[1] < 1.15 * errors[0]


def test_a_value_too_large_to_square_is_refused():
    """Its name is in the reason, and nothing of it is learned."""
    learner = make_learner("regression")
    rows = learner.encode({"a": np.arange(3.0)}, {"t0": np.array([1.0, 1e200, 2.0])}, np.arange(3)).rows
    results = learner.run(rows, singles(3), rate=0.003)
    assert list(results.refused) == [1]
    assert "'t0'" in results.refused[1]


def test_moments_are_read_in_their_natural_order():
    """A pool reads days, hour and day of the week of a moment, and midnight is 0."""
    at = np.array(["2026-01-01T00:00", "2026-01-01T23:00", "2026-01-03T12:00", "NaT"], dtype="datetime64[us]")
    learner = make_learner("binary")
    rows = learner.encode({"at": at}, {"t0": np.ones(4)}, np.arange(4)).rows
    inputs = InputPlan(learner.features).read(rows.x)
    np.testing.assert_allclose(inputs.x[:3, 1], [0, 23, 12], atol=1e-6)
    np.testing.assert_allclose(inputs.x[1:3, 2] - inputs.x[0, 2], [23 / 24, 2.5], atol=1e-5)
    assert np.isnan(inputs.x[3]).all()
