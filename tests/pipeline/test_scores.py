"""Scores against river's metrics, scikit-learn and slow oracles, over random and degenerate streams."""

import math
import warnings
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from river import metrics as rm
from river.metrics import multioutput as rmo
from sklearn.metrics import hamming_loss, roc_auc_score

from pipeline.scores import Outcome, Scores, Target, higher_is_better, primary, task_of

BINARY = [Target("y", "binary")]
MULTICLASS = [Target("y", "multiclass")]
LABELS = [Target(name, "binary") for name in "abcde"]
VALUE = [Target("y", "regression")]


def single(truth: list[float], decision: list[float], probability: object = None) -> Outcome:
    """Make a block of one target."""
    p = {} if probability is None else {"y": np.asarray(probability, dtype=np.float64)}
    return Outcome({"y": np.asarray(truth, dtype=np.float64)}, {"y": np.asarray(decision, dtype=np.float64)}, p)


def binary_stream(seed: int, n: int, *, base: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Return truths and probabilities that know something of them."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < base).astype(np.float64)
    p = 1.0 / (1.0 + np.exp(-(2.0 * y - 1.0 + rng.normal(0, 1.5, n))))
    return y, p


@pytest.mark.parametrize(
    ("seed", "base"), [(0, 0.4), (1, 0.02), (2, 1.0), (3, 0.0)], ids=["usual", "rare", "all-1", "all-0"]
)
def test_binary_equals_river(seed: int, base: float) -> None:
    """Binary metrics equal river's after every few events, on balanced, rare and one-class streams."""
    y, p = binary_stream(seed, 300, base=base)
    decision = (p > 0.5).astype(np.float64)
    river = {
        "accuracy": rm.Accuracy(),
        "balanced_accuracy": rm.BalancedAccuracy(),
        "kappa": rm.CohenKappa(),
        "f1_micro": rm.MicroF1(),
        "f1_macro": rm.MacroF1(),
        "f1": rm.F1(),
        "log_loss": rm.LogLoss(),
    }
    scores, start = Scores(BINARY), 0
    for stop in (1, 2, 3, 10, 50, 300):
        scores.update(single(y[start:stop], decision[start:stop], p[start:stop]))
        for t, d, q in zip(y[start:stop], decision[start:stop], p[start:stop], strict=True):
            for name, metric in river.items():
                metric.update(bool(t), float(q) if name == "log_loss" else bool(d))
        start = stop
        found = scores.metrics()
        for name, metric in river.items():
            assert found[name] == pytest.approx(metric.get(), rel=1e-12, abs=1e-12), (name, stop)
    assert found["brier"] == pytest.approx(np.mean((p - y) ** 2), rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 40])
def test_multiclass_equals_river(classes: int) -> None:
    """Multi-class metrics equal river's, also while classes appear one after the other."""
    rng = np.random.default_rng(classes)
    n = 400
    y = np.minimum(rng.integers(0, classes, n), np.arange(n) // 5).astype(np.float64)
    p = rng.dirichlet(np.full(classes, 0.5), n)
    p[np.arange(n), y.astype(int)] += 0.3
    p /= p.sum(axis=1, keepdims=True)
    decision = p.argmax(axis=1).astype(np.float64)
    river = {
        "accuracy": rm.Accuracy(),
        "balanced_accuracy": rm.BalancedAccuracy(),
        "kappa": rm.CohenKappa(),
        "f1_micro": rm.MicroF1(),
        "f1_macro": rm.MacroF1(),
        "log_loss": rm.CrossEntropy(),
    }
    scores = Scores(MULTICLASS)
    for start in range(0, n, 80):
        part = slice(start, start + 80)
        scores.update(single(y[part], decision[part], p[part]))
        for t, d, q in zip(y[part], decision[part], p[part], strict=True):
            for name, metric in river.items():
                metric.update(int(t), dict(enumerate(q.tolist())) if name == "log_loss" else int(d))
        found = scores.metrics()
        for name, metric in river.items():
            assert found[name] == pytest.approx(metric.get(), rel=1e-12, abs=1e-12), name
    assert "roc_auc" not in found
    assert found["brier"] == pytest.approx(np.mean(((p - np.eye(classes)[y.astype(int)]) ** 2).sum(axis=1)))


def slow_baselines(y: list[float]) -> tuple[list[float], list[float]]:
    """Majority class and previous class before each event."""
    seen: Counter[float] = Counter()
    majority, previous = [], []
    for i, t in enumerate(y):
        best = max(seen.values(), default=0)
        majority.append(min(c for c, k in seen.items() if k == best) if seen else math.nan)
        previous.append(y[i - 1] if i else math.nan)
        seen[t] += 1
    return majority, previous


@pytest.mark.parametrize(("kind", "classes"), [("binary", 2), ("multiclass", 2), ("multiclass", 9)])
def test_kappas_against_baselines_follow_their_formula(kind: str, classes: int) -> None:
    """kappa_m and kappa_temporal are (p0 - pb) / (1 - pb) with the baseline's own prequential accuracy."""
    rng = np.random.default_rng(classes)
    y = np.repeat(rng.integers(0, classes, 120), 3).astype(np.float64)  # runs of three: no change is strong
    decision = np.where(rng.random(360) < 0.7, y, rng.integers(0, classes, 360))
    scores = Scores([Target("y", kind)])
    for start in range(0, 360, 45):
        scores.update(single(y[start : start + 45], decision[start : start + 45]))
    p0 = np.mean(y == decision)
    majority, previous = (np.mean(np.array(b) == y) for b in slow_baselines(y.tolist()))
    found, baselines = scores.metrics(), scores.baselines()
    assert baselines["majority"]["accuracy"] == pytest.approx(majority)
    assert baselines["no_change"]["accuracy"] == pytest.approx(previous)
    assert found["kappa_m"] == pytest.approx((p0 - majority) / (1 - majority))
    assert found["kappa_temporal"] == pytest.approx((p0 - previous) / (1 - previous))
    assert baselines["majority"]["kappa_m"] == pytest.approx(0.0)


def test_roc_auc_is_within_its_stated_doubt_of_the_exact_one() -> None:
    """The binned AUC differs from scikit-learn's exact one by at most half the share of pairs in one bin."""
    for seed, sharpness in ((0, 1.0), (1, 5.0), (2, 0.1)):
        y, p = binary_stream(seed, 4000, base=0.2)
        p = 1.0 / (1.0 + np.exp(-sharpness * np.log(p / (1 - p))))
        scores = Scores(BINARY)
        scores.update(single(y, (p > 0.5).astype(float), p))
        exact = roc_auc_score(y, p)
        off = abs(scores.metrics()["roc_auc"] - exact)
        assert off <= float(scores._ranking.doubt()[0]) + 1e-12
        assert scores._ranking.doubt()[0] < 0.003
        assert off < 2e-4


def test_roc_auc_of_few_distinct_probabilities_is_exact() -> None:
    """Where probabilities are equal or bins apart, AUC equals scikit-learn's, ties counting one half."""
    rng = np.random.default_rng(5)
    y = (rng.random(500) < 0.5).astype(float)
    p = rng.choice([0.0, 1e-6, 0.1, 0.3, 0.5, 0.9, 1.0], 500)
    scores = Scores(BINARY)
    scores.update(single(y, (p > 0.5).astype(float), p))
    assert scores.metrics()["roc_auc"] == pytest.approx(roc_auc_score(y, p), abs=1e-12)


def label_stream(seed: int, n: int, density: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return label sets [n, 5], probabilities and decisions."""
    rng = np.random.default_rng(seed)
    y = rng.random((n, 5)) < density * np.array([0.1, 0.5, 1.0, 1.0, 1.6])
    p = np.clip(0.5 * y + 0.6 * rng.random((n, 5)), 0, 1)
    return y, p, p > 0.5


def labels(y: np.ndarray, p: np.ndarray, d: np.ndarray) -> Outcome:
    """Make a block of label sets."""
    names = [t.name for t in LABELS]
    return Outcome(
        {n: y[:, i].astype(float) for i, n in enumerate(names)},
        {n: d[:, i].astype(float) for i, n in enumerate(names)},
        {n: p[:, i].astype(float) for i, n in enumerate(names)},
    )


@pytest.mark.parametrize("density", [0.5, 0.05, 0.0], ids=["usual", "sparse", "empty"])
def test_label_sets_equal_river_and_sklearn(density: float) -> None:
    """Multi-label metrics equal river's multi-output metrics; hamming equals scikit-learn's Hamming loss."""
    y, p, d = label_stream(3, 250, density)
    river = {
        "f1_micro": rmo.MicroAverage(rm.F1()),
        "f1_macro": rmo.MacroAverage(rm.F1()),
        "f1_example": rmo.SampleAverage(rm.F1()),
        "precision_example": rmo.SampleAverage(rm.Precision()),
        "recall_example": rmo.SampleAverage(rm.Recall()),
        "jaccard": rmo.SampleAverage(rm.Jaccard()),
        "exact_match": rmo.ExactMatch(),
    }
    accuracy, loss = rmo.MicroAverage(rm.Accuracy()), rmo.MacroAverage(rm.LogLoss())
    scores = Scores(LABELS)
    for start in range(0, 250, 50):
        part = slice(start, start + 50)
        scores.update(labels(y[part], p[part], d[part]))
        for t, q, e in zip(y[part], p[part], d[part], strict=True):
            truth, decision = dict(enumerate(t.tolist())), dict(enumerate(e.tolist()))
            for metric in (*river.values(), accuracy):
                metric.update(truth, decision)
            loss.update(truth, dict(enumerate(q.tolist())))
        found = scores.metrics()
        for name, metric in river.items():
            assert found[name] == pytest.approx(metric.get(), rel=1e-12, abs=1e-12), name
        assert found["hamming"] == pytest.approx(1.0 - accuracy.get())
        assert found["log_loss"] == pytest.approx(loss.get())
    assert found["hamming"] == pytest.approx(hamming_loss(y, d))
    assert set(scores.by_target()) == {t.name for t in LABELS}
    assert scores.by_target()["c"]["accuracy"] == pytest.approx(np.mean(y[:, 2] == d[:, 2]))


def test_multioutput_averages_targets_as_river_does() -> None:
    """Several class targets: per-target metrics averaged as river's MacroAverage, and exact match."""
    rng = np.random.default_rng(8)
    targets = [Target("u", "multiclass"), Target("v", "binary"), Target("w", "multiclass")]
    n, sizes = 300, (3, 2, 12)
    y = np.column_stack([rng.integers(0, c, n) for c in sizes])
    d = np.where(rng.random(y.shape) < 0.6, y, np.column_stack([rng.integers(0, c, n) for c in sizes]))
    columns = [{t.name: x[:, i].astype(float) for i, t in enumerate(targets)} for x in (y, d)]
    scores = Scores(targets)
    scores.update(Outcome(*columns))
    river = {
        "accuracy": rmo.MacroAverage(rm.Accuracy()),
        "kappa": rmo.MacroAverage(rm.CohenKappa()),
        "f1_macro": rmo.MacroAverage(rm.MacroF1()),
        "balanced_accuracy": rmo.MacroAverage(rm.BalancedAccuracy()),
        "exact_match": rmo.ExactMatch(),
    }
    for t, e in zip(y.tolist(), d.tolist(), strict=True):
        for metric in river.values():
            metric.update(dict(enumerate(t)), dict(enumerate(e)))
    found = scores.metrics()
    assert scores.task == "multioutput"
    for name, metric in river.items():
        assert found[name] == pytest.approx(metric.get()), name
    assert found["hamming"] == pytest.approx(np.mean(y != d))


@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_values_equal_river(offset: float) -> None:
    """mae, rmse and r2 equal river's, however far from zero the values lie."""
    rng = np.random.default_rng(2)
    y = offset + np.cumsum(rng.normal(size=400))
    d = y + rng.normal(size=400)
    river = {"mae": rm.MAE(), "rmse": rm.RMSE(), "r2": rm.R2()}
    scores, start = Scores(VALUE), 0
    for stop in (1, 2, 5, 100, 400):
        scores.update(single(y[start:stop], d[start:stop]))
        for t, e in zip(y[start:stop].tolist(), d[start:stop].tolist(), strict=True):
            for metric in river.values():
                metric.update(t, e)
        start = stop
        for name, metric in river.items():
            assert scores.metrics()[name] == pytest.approx(metric.get(), rel=1e-6 if offset else 1e-11), name


def test_constant_values_have_r2_zero_as_in_river() -> None:
    """r2 of a constant truth is 0, not a division by zero."""
    scores = Scores(VALUE)
    scores.update(single([3.0] * 5, [1.0, 2, 3, 4, 5]))
    assert scores.metrics()["r2"] == 0.0
    assert scores.window()["r2"] == 0.0


def test_value_baselines_predict_before_they_learn() -> None:
    """`mean` and `last` are scored with what they knew before each event, and not on the first one."""
    y = np.array([2.0, 4.0, 9.0, 1.0])
    scores = Scores(VALUE)
    scores.update(single(y[:2], [0.0, 0.0]))
    scores.update(single(y[2:], [0.0, 0.0]))
    found = scores.baselines()
    assert found["mean"]["mae"] == pytest.approx(np.mean([abs(4 - 2), abs(9 - 3), abs(1 - 5)]))
    assert found["last"]["mae"] == pytest.approx(np.mean([2, 5, 8]))
    assert set(found["mean"]) == {"mae", "rmse", "r2"}


def slow_last_of_category(y: np.ndarray, categories: dict[str, np.ndarray]) -> list[float]:
    """Say the last value of the same category, by the field with the least error so far; event by event."""
    known: dict[tuple[str, int], float] = {}
    last, error, served = math.nan, dict.fromkeys([*categories, ""], 0.0), []
    for i, value in enumerate(y.tolist()):
        said = {"": last}
        for field, codes in categories.items():
            said[field] = known.get((field, int(codes[i])), last) if codes[i] >= 0 else last
        served.append(said[min(error, key=error.__getitem__)])
        if math.isnan(value):
            continue
        for field in error:
            error[field] += 0.0 if math.isnan(said[field]) else abs(said[field] - value)
            if field and categories[field][i] >= 0:
                known[field, int(categories[field][i])] = value
        last = value
    return served


def test_the_last_value_of_a_category_follows_the_nearest_field() -> None:
    """Of two fields the one that tells more is followed; missing categories and unknown values are passed over."""
    rng = np.random.default_rng(3)
    n = 400
    region, kind = rng.integers(0, 4, n), 4 + rng.integers(0, 3, n)
    region[rng.random(n) < 0.1] = -1
    y = 10.0 * region + kind + rng.normal(size=n).cumsum() / 5
    y[rng.random(n) < 0.1] = math.nan
    scores = Scores(VALUE)
    for start in range(0, n, 37):
        part = slice(start, start + 37)
        categories = {"kind": kind[part], "region": region[part]} if start else {"kind": kind[part]}
        scores.update(Outcome({"y": y[part]}, {"y": np.zeros(len(y[part]))}, categories=categories))
    region[:37] = -1  # a field that is not there yet has no category
    said = np.array(slow_last_of_category(y, {"kind": kind, "region": region}))
    found = scores.baselines()
    assert found["last_of_category"]["mae"] == pytest.approx(np.nanmean(np.abs(said - y)), rel=1e-12)
    assert found["last_of_category"]["mae"] < 0.6 * found["last"]["mae"]


def test_without_categories_there_is_no_last_value_of_one() -> None:
    """The baseline is told only where there is a categorical field."""
    scores = Scores(VALUE)
    scores.update(single([1.0, 2.0], [0.0, 0.0]))
    assert set(scores.baselines()) == {"mean", "last"}


def test_several_values_are_averaged() -> None:
    """Multi-target metrics are the averages of the targets' values, as river's MacroAverage."""
    rng = np.random.default_rng(0)
    y, d = rng.normal(size=(50, 3)), rng.normal(size=(50, 3))
    targets = [Target(n, "regression") for n in "abc"]
    scores = Scores(targets)
    scores.update(Outcome(*({t.name: x[:, i] for i, t in enumerate(targets)} for x in (y, d))))
    average = rmo.MacroAverage(rm.RMSE())
    for t, e in zip(y.tolist(), d.tolist(), strict=True):
        average.update(dict(enumerate(t)), dict(enumerate(e)))
    assert scores.metrics()["rmse"] == pytest.approx(average.get())
    assert scores.by_target()["b"]["mae"] == pytest.approx(np.mean(np.abs(y[:, 1] - d[:, 1])))


def test_mixed_tasks_have_both_families() -> None:
    """A class and a value target: both families of metrics and of baselines, each over its own events."""
    targets = [Target("v", "regression"), Target("c", "binary")]
    nan = math.nan
    scores = Scores(targets, sample_every=1)
    truth = {"v": np.array([1.0, nan, 3.0]), "c": np.array([nan, 1.0, 0.0])}
    scores.update(Outcome(truth, {"v": np.array([2.0, 5.0, 3.0]), "c": np.array([1.0, 1.0, 1.0])}))
    assert scores.metrics()["mae"] == 0.5
    assert scores.metrics()["accuracy"] == 0.5
    assert set(scores.baselines()) == {"majority", "no_change", "mean", "last"}
    assert list(scores.by_target()) == ["v", "c"]
    assert set(scores.history()) == {"accuracy", "mae"}
    assert [p[0] for p in scores.history()["mae"]] == [1, 2, 3]


def test_unknown_truth_is_not_counted_and_an_unserved_class_is_wrong() -> None:
    """Events without truth are passed over; one that was served nothing is wrong, yet no class was decided."""
    nan = math.nan
    scores = Scores(BINARY)
    scores.update(single([1, nan, 0, 1], [1, 0, nan, nan], [0.9, 0.2, nan, nan]))
    found = scores.metrics()
    assert scores.events == 3
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert found["f1_micro"] == pytest.approx(2 * 1 / (3 + 1))
    assert found["log_loss"] == pytest.approx(-math.log(0.9))
    values = Scores(VALUE)
    values.update(single([1, 2, nan], [nan, 5, 7]))
    assert values.metrics()["mae"] == 3.0
    assert values.events == 2


def test_partly_known_label_sets_are_judged_by_their_known_labels() -> None:
    """Unknown labels take no part in set metrics, and a wholly unserved set is judged as empty but wrong."""
    nan = math.nan
    targets = [Target("a", "binary"), Target("b", "binary")]
    scores = Scores(targets)
    scores.update(
        Outcome(
            {"a": np.array([1, nan, 0.0]), "b": np.array([nan, nan, 0])},
            {"a": np.array([1, 1, nan]), "b": np.array([1, 1, nan])},
        )
    )
    found = scores.metrics()
    assert scores.events == 2
    assert found["exact_match"] == 0.5
    assert found["f1_micro"] == 1.0
    assert found["hamming"] == pytest.approx(2 / 3)


def test_a_class_without_a_probability_costs_the_clipped_loss() -> None:
    """The first event of a class that has no column yet has probability 0, clipped to 1e-15."""
    scores = Scores(MULTICLASS)
    scores.update(single([2.0], [0.0], [[0.5, 0.5]]))
    assert scores.metrics()["log_loss"] == pytest.approx(-math.log(1e-15))
    assert scores.metrics()["brier"] == pytest.approx(1.5)


def test_before_the_first_event_every_figure_is_undefined() -> None:
    """Without a scored event there is no value, not a zero."""
    for targets in (BINARY, MULTICLASS, LABELS, VALUE):
        scores = Scores(targets)
        figures = [scores.metrics(), scores.window(), scores.fading(), *scores.baselines().values()]
        assert all(math.isnan(v) for found in figures for v in found.values())


def test_labelset_baseline_serves_the_most_frequent_set() -> None:
    """Where single labels are rare, the most frequent set still is a set, and `majority` is empty."""
    sets = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 1], [0, 1, 0]])
    targets = [Target(n, "binary") for n in "abc"]
    scores = Scores(targets)
    columns = {t.name: sets[:, i].astype(float) for i, t in enumerate(targets)}
    scores.update(Outcome(columns, columns))
    found = scores.baselines()
    assert found["majority_labelset"]["exact_match"] == pytest.approx(2 / 7)
    assert found["no_change"]["exact_match"] == 0.0
    assert scores.metrics()["f1_example"] == 1.0
    assert found["majority"]["f1_micro"] < found["majority_labelset"]["f1_micro"]


def metrics_of(scores: Callable[[], Scores], outcome: Callable[[int, int], Outcome], a: int, b: int) -> dict:
    """Score only the events a..b."""
    fresh = scores()
    fresh.update(outcome(a, b))
    return fresh.metrics()


@pytest.mark.parametrize("task", ["binary", "multiclass", "labels", "value"])
def test_window_scores_exactly_the_last_events(task: str) -> None:
    """Windowed metrics equal those of a fresh count over the last W events."""
    rng = np.random.default_rng(1)
    n, w = 700, 60
    y, p = binary_stream(4, n)
    ly, lp, ld = label_stream(1, n, 0.5)
    v, m, md = rng.normal(5, 2, n), rng.integers(0, 5, n).astype(float), rng.dirichlet(np.ones(5), n)
    make = {
        "binary": (BINARY, lambda a, b: single(y[a:b], (p[a:b] > 0.5).astype(float), p[a:b])),
        "multiclass": (MULTICLASS, lambda a, b: single(m[a:b], md[a:b].argmax(1).astype(float), md[a:b])),
        "labels": (LABELS, lambda a, b: labels(ly[a:b], lp[a:b], ld[a:b])),
        "value": (VALUE, lambda a, b: single(v[a:b], v[a:b] * 0.9)),
    }
    targets, outcome = make[task]
    scores, start = Scores(targets, window=w), 0
    for stop in (30, 59, 60, 75, 300, 700):
        scores.update(outcome(start, stop))
        start = stop
        expected = metrics_of(lambda: Scores(targets), outcome, max(0, stop - w), stop)
        found = scores.window()
        for name in found.keys() - {"kappa_m", "kappa_temporal"}:
            assert found[name] == pytest.approx(expected[name], rel=1e-12, abs=1e-12), (name, stop)
        assert expected.keys() - found.keys() <= {"roc_auc"}


def test_fading_equals_the_weighted_sums() -> None:
    """Faded metrics equal the formula's slow sums of f^(n - i), also across periods and with class counts."""
    n, f = 900, 0.8  # a short memory makes short periods, so several end within the stream
    y, p = binary_stream(9, n)
    d = (p > 0.5).astype(float)
    scores = Scores(BINARY, fading=f)
    for start in range(0, n, 70):
        part = slice(start, min(n, start + 70))
        scores.update(single(y[part], d[part], p[part]))
    weight = f ** np.arange(n - 1, -1, -1)
    share = lambda mask: float((weight * mask).sum() / weight.sum())  # noqa: E731
    found = scores.fading()
    p0 = share(y == d)
    pe = share(y == 1) * share(d == 1) + share(y == 0) * share(d == 0)
    assert found["accuracy"] == pytest.approx(p0)
    assert found["kappa"] == pytest.approx((p0 - pe) / (1 - pe))
    assert found["log_loss"] == pytest.approx(share(-np.log(np.where(y == 1, p, 1 - p))))
    f1 = [2 * share((y == c) & (d == c)) / (share(y == c) + share(d == c)) for c in (0, 1)]
    assert found["f1_macro"] == pytest.approx(np.mean(f1))
    v = np.random.default_rng(0).normal(size=n)
    values = Scores(VALUE, fading=f)
    values.update(single(v, v * 0.5))
    assert values.fading()["mae"] == pytest.approx(share(np.abs(v * 0.5)))
    assert values.fading()["rmse"] == pytest.approx(math.sqrt(share((v * 0.5) ** 2)))


def test_perfect_baselines_leave_kappa_defined_only_for_a_perfect_model() -> None:
    """With a baseline that is never wrong in the window, kappa_m is 0 for a perfect model and else undefined."""
    scores = Scores(BINARY, window=4)
    scores.update(single([1] * 10, [1] * 10))
    assert scores.window()["kappa_m"] == 0.0
    scores.update(single([1], [0]))
    assert math.isnan(scores.window()["kappa_m"])


def test_tasks_are_named_by_their_targets() -> None:
    """The task and its primary metric follow from the kinds of the targets."""
    b, c, v = Target("b", "binary"), Target("c", "multiclass"), Target("v", "regression")
    w = Target("w", "binary")
    cases = [
        ([b], "classification", "accuracy"),
        ([c], "classification", "accuracy"),
        ([b, w], "multilabel", "f1_micro"),
        ([b, c], "multioutput", "accuracy"),
        ([v], "regression", "mae"),
        ([v, Target("x", "regression")], "multitarget", "mae"),
        ([b, v], "mixed", "accuracy"),
    ]
    for targets, task, metric in cases:
        assert task_of(targets) == task
        assert primary(task_of(targets)) == metric
    assert higher_is_better("kappa")
    assert not higher_is_better("hamming")


def test_wrong_arguments_are_named() -> None:
    """Wrong settings and incomplete outcomes are refused with the name of what is wrong."""
    for wrong, message in (
        ({"window": 0}, "window is 0"),
        ({"fading": 1.0}, "fading is 1.0"),
        ({"sample_every": 0}, "sample_every is 0"),
        ({"auc_bins": 1}, "auc_bins is 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Scores(BINARY, **wrong)
    with pytest.raises(ValueError, match="at least one target"):
        Scores([])
    with pytest.raises(ValueError, match="kind 'ordinal'"):
        Target("y", "ordinal")
    with pytest.raises(ValueError, match=r"\['y'\] have a truth but no decision"):
        Outcome({"y": np.zeros(1)}, {})
    with pytest.raises(ValueError, match="probability of 'y' has 2 events"):
        single([1.0], [1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match="no truth of target 'y'"):
        Scores(BINARY).update(Outcome({"x": np.zeros(1)}, {"x": np.zeros(1)}))


def test_no_warning_on_huge_and_infinite_values() -> None:
    """Infinite predictions count as not served; no arithmetic warning reaches the user."""
    scores = Scores(VALUE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores.update(single([1.0, 2.0, 3.0], [math.inf, -math.inf, 3.5]))
    assert scores.metrics()["mae"] == 0.5
