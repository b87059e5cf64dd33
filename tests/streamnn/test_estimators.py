"""Estimators in river's habit: their presets, their purity, and what river expects of its own."""

import copy
import datetime as dt
import doctest
import pickle

import numpy as np
import pandas as pd
import pytest
from river import datasets
from river.checks import clf, common

from streamnn import Classifier, MLPSpec, MultiLabelClassifier, MultiTargetRegressor, Regressor, estimators
from streamnn.operations import Kind, Operations
from streamnn.optimizers import SGD
from streamnn.pool import PoolLearner

ALL = (Classifier, Regressor, MultiLabelClassifier, MultiTargetRegressor)
PRESETS = ("best", "fast", "lite", "single")


def stream(events, seed=0):
    """Events with numbers, a category, a moment and gaps; the score of each."""
    rng = np.random.default_rng(seed)
    listed = []
    for i in range(events):
        a, b = rng.normal(size=2)
        x = {"b": b, "kind": f"k{rng.integers(3)}", "a": a, "at": dt.datetime(2026, 1, 1, i % 24)}
        if i % 5 == 4:
            x["b"] = None
        listed.append((x, a - b + 0.1 * rng.normal()))
    return listed


def label(model, score):
    """The label of a kind of estimator for a score."""
    if isinstance(model, Classifier):
        return "high" if score > 0 else "low"
    if isinstance(model, MultiLabelClassifier):
        return {"up": score > 0, "far": None if abs(score) < 0.2 else abs(score) > 1}
    if isinstance(model, MultiTargetRegressor):
        return {"y": 10 + score, "z": -score}
    return 10 + score


def ask(model, x):
    """The most that an estimator says of an event."""
    return model.predict_one(x) if isinstance(model, (Regressor, MultiTargetRegressor)) else model.predict_proba_one(x)


def pickled(model):
    """What comes back of a pickle."""
    return pickle.loads(pickle.dumps(model))  # noqa: S301  its own


def teach(model, events):
    """Learn events."""
    for x, score in events:
        model.learn_one(x, label(model, score))


@pytest.mark.parametrize("preset", ["best", "single"])
@pytest.mark.parametrize("kind", ALL)
def test_asking_changes_nothing(kind, preset):
    """Between events anything may be asked, about fields, categories and values never met too: later answers stay the same."""
    events = stream(16)
    quiet, asked = kind(preset), kind(preset)
    for x, score in events:
        strange = {**x, "new": 1.0, "kind": "never", "word": "text", "a": 1e300}
        assert ask(asked, strange) == pytest.approx(ask(asked, strange), nan_ok=True)
        assert ask(asked, x) == ask(quiet, x)
        for model in (quiet, asked):
            model.learn_one(x, label(model, score))
    assert ask(asked, events[0][0]) == ask(quiet, events[0][0])


@pytest.mark.parametrize("kind", ALL)
def test_the_default_is_the_best_pool(kind):
    """Who names nothing gets the pool that predicts best."""
    model = kind()
    teach(model, stream(2))
    assert isinstance(model.learner, PoolLearner)
    assert model.learner.spec.preset == model.preset == "best"


def test_more_members_predict_better():
    """On a learnable stream all presets learn, and the best pool makes the fewest mistakes."""
    wrong = {}
    for preset in ("best", "single"):
        model, wrong[preset] = Classifier(preset, seed=1), 0
        for x, y in datasets.Phishing():
            wrong[preset] += model.predict_one(x) != y
            model.learn_one(x, y)
    assert wrong["best"] < wrong["single"] < 0.15 * 1250


def test_what_only_a_network_has_is_refused_by_a_pool():
    """Network or optimizer for a pool is an error that names both and says what to set."""
    with pytest.raises(ValueError, match=r"preset is 'best'.*network is given.*preset='single'"):
        Classifier(network=MLPSpec())
    with pytest.raises(ValueError, match=r"preset is 'fast'.*network and optimizer is given"):
        Regressor("fast", network=MLPSpec(), optimizer=SGD())
    model = Regressor("single", network=MLPSpec(units=(8,)), optimizer=SGD())
    teach(model, stream(3))
    assert model.learner.spec.network.units == (8,)
    assert model.learner.spec.optimizer == SGD()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"preset": "auto"}, "preset is 'auto'; use one of best, fast, lite, single"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"rate": float("nan")}, "rate is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_settings_are_checked_when_they_are_given(given, says):
    """A value outside its range is told at once."""
    with pytest.raises(ValueError, match=says):
        Classifier(**given)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@pytest.mark.parametrize("preset", ["best", "single"])
@pytest.mark.parametrize("kind", ALL)
def test_copies_go_on_alike(kind, preset, copied):
    """A copy, or what was pickled, learns on to the same bits, and neither changes the other."""
    events = stream(50)
    model = kind(preset, seed=2)
    teach(model, events[:30])
    other = copied(model)
    teach(other, events[30:])
    before = ask(model, events[30][0])
    assert ask(model, events[30][0]) == before
    teach(model, events[30:])
    assert ask(model, events[0][0]) == ask(other, events[0][0])


@pytest.mark.parametrize("preset", ["best", "single"])
@pytest.mark.parametrize("kind", ALL)
def test_a_clone_begins_afresh_with_the_same_settings(kind, preset):
    """`clone` keeps what was given, takes other settings, and has learned nothing."""
    model = kind(preset, rate=0.01, seed=5)
    teach(model, stream(5))
    cloned = model.clone()
    assert (cloned.preset, cloned.rate, cloned.seed, cloned.learner) == (preset, 0.01, 5, None)
    assert model.clone({"preset": "lite"}).preset == "lite"
    whole = model.clone(include_attributes=True)
    assert ask(whole, stream(6)[5][0]) == ask(model, stream(6)[5][0])


@pytest.mark.parametrize("kind", ALL)
def test_what_river_expects_of_every_estimator(kind):
    """River's own checks that need no stream: parameters, clones, pickles, tags, text."""
    for check in (
        common.check_repr,
        common.check_str,
        common.check_tags,
        common.check_clone_same_class,
        common.check_clone_is_idempotent,
        common.check_init_has_default_params_for_tests,
        common.check_init_default_params_are_not_mutable,
        common.check_doc,
        common.check_clone_changes_memory_addresses,
        common.check_mutate_can_be_idempotent,
        common.check_pickling_supports_roundtrip,
        common.check_repr_roundtrips_clone,
        common.check_clone_with_new_params_applies,
        common.check_get_params_matches_signature,
    ):
        check(kind())


@pytest.mark.parametrize("preset", ["lite", "single"])
def test_what_river_expects_on_a_stream(preset):
    """River's checks of a classifier on a few events: pickling, purity, features that come and go, late classes."""
    events = [*datasets.ImageSegments().take(40)]
    for check in (
        common.check_learn_one,
        common.check_pickling,
        common.check_emerging_features,
        common.check_disappearing_features,
        common.check_radically_disappearing_features,
        common.check_predict_one_pure,
        common.check_predict_one_before_any_learn,
        common.check_no_state_aliasing_with_input,
        common.check_clone_is_independent,
        clf.check_classifier_tracks_seen_labels,
    ):
        check(Classifier(preset), events)
    if preset != "single":  # whose probabilities add up to 1 as float32 does
        clf.check_predict_proba_one(Classifier(preset), events)


@pytest.mark.parametrize("preset", ["lite", "single"])
def test_many_are_one_micro_batch(preset):
    """`learn_many` learns rows as one operation, and `predict_many` says of each row what `predict_one` says."""
    events = stream(24)
    frame = pd.DataFrame([x for x, _ in events], index=np.arange(24) * 2)
    y = pd.Series([label(Classifier(), score) for _, score in events], index=frame.index)
    batch, other = Classifier(preset), Classifier(preset)
    batch.learn_many(frame[:16], y[:16])
    columns = estimators.frame_columns(frame[:16])
    learner = other._make(columns, ["target"], "multiclass")
    rows = learner.encode(columns, {"target": y[:16].to_numpy(dtype=object)}, np.arange(16), batch=16).rows
    learner.run(rows, Operations.of([(Kind.PREDICT_LEARN, 0, 16)]), rate=0.003)
    want = learner.predict(estimators.frame_columns(frame), 24)
    got = batch.predict_proba_many(frame)
    np.testing.assert_array_equal(got.to_numpy(), want[:, : len(got.columns)])
    assert list(got.index) == list(frame.index)
    assert batch.predict_many(frame).tolist() == got.idxmax(axis=1).tolist()
    x, _ = events[20]
    assert batch.predict_proba_one(x) == pytest.approx(got.loc[40].to_dict(), rel=1e-5)
    batch.learn_many(frame[:0], y[:0])
    np.testing.assert_array_equal(batch.predict_proba_many(frame), got)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_event_without_a_label_is_observed(preset):
    """Its inputs count in the statistics; no class or weight comes of it."""
    model = Classifier(preset)
    teach(model, stream(20))
    weights = {name: p.copy() for name, p in arrays(model.learner).items()}
    model.learn_one({"b": 100.0, "a": -100.0}, None)
    assert model.learner.targets.classes("target") == ("high", "low") or model.learner.targets.classes("target") == (
        "low",
        "high",
    )
    for name, p in arrays(model.learner).items():
        np.testing.assert_array_equal(p, weights[name])


def arrays(learner):
    """The weights of a pool's first network, or of the one network."""
    if isinstance(learner, PoolLearner):
        return learner.tasks["target"].pool.state["net"]
    return {name: t.numpy() for name, t in learner.state["params"].items()}


def test_a_first_label_that_is_refused_leaves_nothing():
    """What no head can learn is an error, and the estimator is as if it had never come."""
    model = MultiLabelClassifier()
    with pytest.raises(ValueError, match="between 0 and 1"):
        model.learn_one({"a": 1.0}, {"up": 2.0})
    assert model.learner is None
    assert model.predict_one({"a": 1.0}) == {}
    model.learn_one({"a": 1.0}, {"other": True})
    with pytest.raises(ValueError, match=r"targets \['up'\] were not in the first label"):
        model.learn_one({"a": 1.0}, {"up": True})


@pytest.mark.parametrize("preset", ["lite", "single"])
def test_an_infinite_target_is_refused(preset):
    """What would make statistics infinite is an error, and what was learned stays."""
    model = Regressor(preset)
    teach(model, stream(20))
    before = model.predict_one({"a": 1.0, "b": 2.0})
    with pytest.raises(ValueError, match="cannot be learned"):
        model.learn_one({"a": 1.0, "b": 2.0}, 1e300)
    assert np.isfinite(before)
    assert model.predict_one({"a": 1.0, "b": 2.0}) == pytest.approx(before, rel=0.05)
    model.learn_one({"a": 1.0, "b": 2.0}, 9.0)


@pytest.mark.parametrize("preset", PRESETS)
def test_features_may_be_named_by_numbers(preset):
    """River's features of arrays are named 0, 1, ...: they are names like others."""
    numbered, named = Classifier(preset), Classifier(preset)
    for i in range(20):
        numbered.learn_one({0: i % 2, 1: 1.0 * i}, i % 2)
        named.learn_one({"0": i % 2, "1": 1.0 * i}, i % 2)
    assert numbered.predict_proba_one({0: 1, 1: 3.0}) == named.predict_proba_one({"0": 1, "1": 3.0})


def test_the_example_runs():
    """The example in the module's docstring."""
    assert doctest.testmod(estimators).failed == 0
    assert doctest.testmod(estimators).attempted > 0
