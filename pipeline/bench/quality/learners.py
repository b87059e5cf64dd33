"""The learners of the comparison, each with its library's defaults; ours by preset or by settings.

Where a learner needs scaled inputs it gets river's running standardiser, and one-hot categories. Nothing is tuned for a
stream.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

from river import (
    compose,
    dummy,
    ensemble,
    forest,
    linear_model,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    preprocessing,
    stats,
    tree,
)

PRESETS = ("best", "fast", "lite", "single")  # without settings of a network `auto` is `best`
_SGD = ("optimizer.name=sgd", "optimizer.rate=0.05")
# one network: each optimizer and control with its default constants; SGD has no default rate of its own
RATES: dict[str, tuple[str, ...]] = {
    "adam_fixed": ("rate.control=fixed",),
    "adam_exponential": ("rate.control=exponential",),
    "adam_plateau": ("rate.control=plateau",),
    "adam_drift": ("rate.control=drift",),
    "sgd_fixed": (*_SGD, "rate.control=fixed"),
    "sgd_exponential": (*_SGD, "rate.control=exponential"),
    "sgd_plateau": (*_SGD, "rate.control=plateau"),
    "sgd_drift": (*_SGD, "rate.control=drift"),
    "cocob": ("optimizer.name=cocob", "optimizer.rate=1", "rate.control=fixed"),
    "obgd": ("optimizer.name=obgd", "optimizer.rate=1", "rate.control=fixed"),
}
OURS: dict[str, tuple[str, ...]] = {
    **{name: (f"model.preset={name}",) for name in PRESETS},
    **{name: ("model.preset=single", *words) for name, words in RATES.items()},
}


class LastOfCategory:
    """Repeat the last value with the same category, by the field whose last ones were nearest; see `pipeline.scores.baselines`."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, object], float] = {}
        self._error = {"": 0.0}  # by field; "" is the last value of all

    def predict_one(self, x: dict[str, Any]) -> float:
        """Return a value, 0 before the first."""
        said = self._said(x)
        nearest = min(self._error, key=lambda field: (self._error[field], not field))  # "" after fields as near
        return said.get(nearest, said[""])

    def learn_one(self, x: dict[str, Any], y: float) -> None:
        """Remember a value."""
        said = self._said(x)
        for field in said:
            self._error.setdefault(field, self._error[""])
        if self._last:
            for field in self._error:
                self._error[field] += abs(said.get(field, said[""]) - y)
        self._last["", ""] = y
        self._last.update({(field, x[field]): y for field in said if field})

    def _said(self, x: dict[str, Any]) -> dict[str, float]:
        last = self._last.get(("", ""), 0.0)
        return {"": last} | {f: self._last.get((f, v), last) for f, v in x.items() if isinstance(v, str)}


class RepeatedSet:
    """Say the last set of labels again, or the most frequent one."""

    def __init__(self, *, frequent: bool) -> None:
        self._frequent, self._said = frequent, dict[Any, bool]()
        self._counts = Counter[tuple[tuple[Any, bool], ...]]()

    def predict_one(self, x: dict[str, Any]) -> dict[Any, bool]:
        """Return a set, empty before the first."""
        del x
        return self._said

    def learn_one(self, x: dict[str, Any], y: dict[Any, bool]) -> None:
        """Remember a set."""
        del x
        self._counts[tuple(y.items())] += 1
        self._said = dict(self._counts.most_common(1)[0][0]) if self._frequent else y


Make = Callable[[int, int], Any]  # (classes, seed) -> a learner with learn_one and predict_one


def _scaled(model: Any) -> Any:
    numbers = compose.SelectType(float, int) | preprocessing.StandardScaler()
    names = compose.SelectType(str) | preprocessing.OneHotEncoder()
    return (numbers + names) | model


def _logistic(classes: int, *_: int) -> Any:
    return _scaled(linear_model.LogisticRegression() if classes <= 2 else linear_model.SoftmaxRegression())


def _alma(classes: int, *_: int) -> Any:
    alma = linear_model.ALMAClassifier()
    return _scaled(alma if classes <= 2 else multiclass.OneVsRestClassifier(alma))


def _neighbours() -> Any:
    return neighbors.LazySearch(window_size=1000)


CLASSIFIERS: dict[str, Make] = {
    "no_change": lambda *_: dummy.NoChangeClassifier(),
    "majority": lambda *_: dummy.PriorClassifier(),
    "logistic": _logistic,
    "alma": _alma,
    "knn": lambda *_: _scaled(neighbors.KNNClassifier(engine=_neighbours())),
    "hoeffding_tree": lambda *_: tree.HoeffdingTreeClassifier(),
    "hat": lambda _, seed: tree.HoeffdingAdaptiveTreeClassifier(seed=seed),
    "arf": lambda _, seed: forest.ARFClassifier(seed=seed),
    "amf": lambda _, seed: compose.SelectType(float, int) | forest.AMFClassifier(seed=seed),
    "srp": lambda _, seed: ensemble.SRPClassifier(seed=seed),
    "leveraging_bagging": lambda _, seed: ensemble.LeveragingBaggingClassifier(
        tree.HoeffdingTreeClassifier(), seed=seed
    ),
}
# the trees' leaves hold linear models, which diverge on inputs that are not scaled
REGRESSORS: dict[str, Make] = {
    "mean": lambda *_: dummy.StatisticRegressor(stats.Mean()),
    "last": lambda *_: dummy.StatisticRegressor(stats.Shift(0)),
    "last_of_category": lambda *_: LastOfCategory(),
    "linear": lambda *_: _scaled(linear_model.LinearRegression()),
    "knn": lambda *_: _scaled(neighbors.KNNRegressor(engine=_neighbours())),
    "hoeffding_tree": lambda *_: _scaled(tree.HoeffdingTreeRegressor()),
    "hat": lambda _, seed: _scaled(tree.HoeffdingAdaptiveTreeRegressor(seed=seed)),
    "bagging": lambda _, seed: _scaled(ensemble.BaggingRegressor(tree.HoeffdingTreeRegressor(), seed=seed)),
    "arf": lambda _, seed: _scaled(forest.ARFRegressor(seed=seed)),
    "srp": lambda _, seed: _scaled(ensemble.SRPRegressor(seed=seed)),
    "amf": lambda _, seed: _scaled(forest.AMFRegressor(seed=seed)),
}
# label by label, a label after the other with those before as inputs, and each set of labels as a class
LABELERS: dict[str, Make] = {
    "no_change_set": lambda *_: RepeatedSet(frequent=False),
    "majority_set": lambda *_: RepeatedSet(frequent=True),
    "relevance_bayes": lambda *_: multioutput.PerOutputClassifier(naive_bayes.GaussianNB()),
    "relevance_knn": lambda *_: _scaled(multioutput.PerOutputClassifier(neighbors.KNNClassifier(engine=_neighbours()))),
    "relevance_tree": lambda *_: multioutput.PerOutputClassifier(tree.HoeffdingTreeClassifier()),
    "relevance_arf": lambda _, seed: multioutput.PerOutputClassifier(forest.ARFClassifier(seed=seed)),
    "relevance_logistic": lambda *_: _scaled(multioutput.PerOutputClassifier(linear_model.LogisticRegression())),
    "chain_logistic": lambda *_: _scaled(multioutput.ClassifierChain(linear_model.LogisticRegression())),
    "powerset_tree": lambda *_: multioutput.MultiClassEncoder(tree.HoeffdingTreeClassifier()),
}
