"""Online estimators in river's habit: `learn_one`, `predict_one`, `predict_proba_one`, `learn_many`, `predict_many`.

Each is a thin face of one `Learner`. An event is a dict of named features; numbers and booleans are numeric, strings
are categories, `datetime`s are moments, None and NaN are missing. Features and classes may appear at any time.

    >>> from streamnn import Classifier
    >>> model = Classifier(seed=1)
    >>> for i in range(200):
    ...     model.learn_one({"a": i % 2, "b": 1.0}, "odd" if i % 2 else "even")
    >>> model.predict_one({"a": 1, "b": 1.0})
    'odd'
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from river import base

from streamnn.features.index import Column
from streamnn.heads import TargetKind, TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.networks import MLPSpec
from streamnn.operations import FloatArray, Kind, Operations
from streamnn.optimizers import Adam, Optimizer
from streamnn.targets import Label, decide

TARGET = "target"
ONE_BATCH = 1 << 62  # all events of a call stay together, however many they are


class _Estimator:
    """What all estimators share: columns from dicts and frames, one learner, one learning rate."""

    def __init__(self, network: MLPSpec | None, optimizer: Optimizer | None, rate: float, seed: int) -> None:
        if not rate >= 0:
            raise ValueError(f"rate is {rate}, but a learning rate is at least 0")
        self.network, self.optimizer, self.rate, self.seed = network, optimizer, rate, seed
        self._learner: Learner | None = None
        self._events = 0

    @property
    def learner(self) -> Learner | None:
        """The learner behind; None before the first label."""
        return self._learner

    def _learn(self, columns: Mapping[str, Column], labels: Mapping[str, Column], kind: TargetKind) -> None:
        """Learn K events as one micro-batch."""
        if self._learner is None:
            self._learner = Learner(
                LearnerSpec(
                    targets=tuple(TargetSpec(name, kind) for name in labels),
                    network=self.network or MLPSpec(),
                    optimizer=self.optimizer or Adam(beta1=0.0, beta2=0.99),
                    seed=self.seed,
                    engine="eager",  # an estimator that learns a few events does not earn the compiling back
                )
            )
        learner = self._learner
        unknown = sorted(set(labels) - {t.name for t in learner.spec.targets})
        if unknown:
            known = [t.name for t in learner.spec.targets]
            raise ValueError(f"targets {unknown} were not in the first label, which fixes them: {known}")
        events = len(next(iter(labels.values())))
        misfits = learner.targets.misfits(labels, events)
        if misfits:
            raise ValueError(next(iter(misfits.values())))
        number = self._events + np.arange(events, dtype=np.int64)
        rows = learner.encode(columns, labels, number, batch=ONE_BATCH).rows
        results = learner.run(rows, Operations.of([(Kind.PREDICT_LEARN, 0, events)]), rate=self.rate)
        if results.refused:
            raise ValueError(f"the event cannot be learned: {next(iter(results.refused.values()))}")
        self._events += events

    def _serve(self, columns: Mapping[str, Column], events: int) -> tuple[FloatArray, FloatArray]:
        """Return served rows [K, W] and decisions [K, T] without changing anything."""
        if self._learner is None or not self._learner.built:
            return np.full((events, 1), np.nan), np.full((events, 1), np.nan)
        served = self._learner.predict(columns, events)
        return served, decide(served, self._learner.head)


class Classifier(_Estimator, base.Classifier):  # type: ignore[misc]
    """A network that classifies into classes that may appear at any time.

    Args:
        network: layers; the default is one hidden layer of 64 with layer normalisation.
        optimizer: the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate.
        seed: of the start weights.
    """

    def __init__(
        self,
        network: MLPSpec | None = None,
        optimizer: Optimizer | None = None,
        *,
        rate: float = 0.003,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, rate, seed)

    @property
    def _multiclass(self) -> bool:  # what river asks a classifier
        return True

    def learn_one(self, x: Mapping[str, Any], y: Label) -> None:
        """Learn one event."""
        self._learn(_columns([x]), {TARGET: _labels([y])}, "multiclass")

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[Label, float]:
        """Return the probability of each class seen so far; empty before the first label."""
        return self._probabilities(_columns([x]), 1)[0]

    def predict_one(self, x: Mapping[str, Any]) -> Label | None:
        """Return the likeliest class; None before the first label."""
        return self._decisions(_columns([x]), 1)[0]

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn the rows as one micro-batch."""
        self._learn(_frame_columns(X), {TARGET: _labels(y.tolist())}, "multiclass")

    def predict_proba_many(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return class probabilities, a column a class."""
        return pd.DataFrame(self._probabilities(_frame_columns(X), len(X)), index=X.index)

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Return the likeliest class of each row."""
        return pd.Series(self._decisions(_frame_columns(X), len(X)), index=X.index, dtype=object)

    def _probabilities(self, columns: Mapping[str, Column], events: int) -> list[dict[Label, float]]:
        served, _ = self._serve(columns, events)
        classes = () if self._learner is None else self._learner.targets.classes(TARGET)
        return [dict(zip(classes, row.tolist(), strict=False)) for row in served]

    def _decisions(self, columns: Mapping[str, Column], events: int) -> list[Label | None]:
        _, decided = self._serve(columns, events)
        classes = () if self._learner is None else self._learner.targets.classes(TARGET)
        return [None if np.isnan(d) else classes[int(d)] for d in decided[:, 0]]


class Regressor(_Estimator, base.Regressor):  # type: ignore[misc]
    """A network that predicts a number.

    Args:
        network: layers; the default is one hidden layer of 64 with layer normalisation.
        optimizer: the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate.
        seed: of the start weights.
    """

    def __init__(
        self,
        network: MLPSpec | None = None,
        optimizer: Optimizer | None = None,
        *,
        rate: float = 0.003,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, rate, seed)

    def learn_one(self, x: Mapping[str, Any], y: float) -> None:
        """Learn one event."""
        self._learn(_columns([x]), {TARGET: np.array([y], dtype=np.float64)}, "regression")

    def predict_one(self, x: Mapping[str, Any]) -> float:
        """Return the predicted value; 0 before the first label."""
        return float(np.nan_to_num(self._serve(_columns([x]), 1)[1][0, 0]))

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn the rows as one micro-batch."""
        self._learn(_frame_columns(X), {TARGET: y.to_numpy(dtype=np.float64)}, "regression")

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Return the predicted value of each row."""
        return pd.Series(np.nan_to_num(self._serve(_frame_columns(X), len(X))[1][:, 0]), index=X.index)


class MultiLabelClassifier(_Estimator, base.MultiLabelClassifier):  # type: ignore[misc]
    """A network that decides several labels at once. The first label set names them all; absent or None is unknown.

    Args:
        network: layers; the default is one hidden layer of 64 with layer normalisation.
        optimizer: the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate.
        seed: of the start weights.
    """

    def __init__(
        self,
        network: MLPSpec | None = None,
        optimizer: Optimizer | None = None,
        *,
        rate: float = 0.003,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, rate, seed)

    def learn_one(self, x: Mapping[str, Any], y: Mapping[str, bool | float | None]) -> None:
        """Learn one event; y maps each label to True, False, a degree between, or None."""
        self._learn(_columns([x]), {name: _number([v]) for name, v in y.items()}, "binary")

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the probability that each label is on; empty before the first label set."""
        served, _ = self._serve(_columns([x]), 1)
        if self._learner is None:
            return {}
        head = self._learner.head
        return {t.name: float(np.nan_to_num(served[0, head.block(t.name).first])) for t in head.targets}

    def predict_one(self, x: Mapping[str, Any]) -> dict[str, bool]:
        """Tell which labels are on; empty before the first label set."""
        return {name: p > 0.5 for name, p in self.predict_proba_one(x).items()}


class MultiTargetRegressor(_Estimator, base.MultiTargetRegressor):  # type: ignore[misc]
    """A network that predicts several numbers. The first label names the targets; absent or None is unknown.

    Args:
        network: layers; the default is one hidden layer of 64 with layer normalisation.
        optimizer: the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate.
        seed: of the start weights.
    """

    def __init__(
        self,
        network: MLPSpec | None = None,
        optimizer: Optimizer | None = None,
        *,
        rate: float = 0.003,
        seed: int = 0,
    ) -> None:
        super().__init__(network, optimizer, rate, seed)

    def learn_one(self, x: Mapping[str, Any], y: Mapping[str, float | None]) -> None:
        """Learn one event."""
        self._learn(_columns([x]), {name: _number([v]) for name, v in y.items()}, "regression")

    def predict_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the predicted values; empty before the first label."""
        _, decided = self._serve(_columns([x]), 1)
        if self._learner is None:
            return {}
        return {t.name: float(np.nan_to_num(v)) for t, v in zip(self._learner.spec.targets, decided[0], strict=True)}


def _columns(events: Sequence[Mapping[str, Any]]) -> dict[str, Column]:
    """Turn dicts into columns; the kind of a field follows from its value."""
    names = dict.fromkeys(name for event in events for name in event)
    return {name: _column([event.get(name) for event in events]) for name in names}


def _column(values: list[Any]) -> Column:
    present = [v for v in values if v is not None]
    if all(isinstance(v, (bool, int, float, np.number, np.bool_)) for v in present):
        return _number(values)
    if all(isinstance(v, dt.date) for v in present):
        return np.array(values, dtype="datetime64[us]")
    return _labels(values)


def _number(values: Sequence[Any]) -> FloatArray:
    return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def _labels(values: Sequence[Any]) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = [v.item() if isinstance(v, np.generic) else v for v in values]
    return column


def _frame_columns(frame: pd.DataFrame) -> dict[str, Column]:
    return {str(name): _column(frame[name].tolist()) for name in frame}
