"""Online estimators in river's habit: `learn_one`, `predict_one`, `predict_proba_one`, `learn_many`, `predict_many`.

Each is a thin face of what a pipeline runs, with the same presets and constants: asked before each event is learned, it
predicts what `streamnn replay` predicts of the same events in the same order, bit for bit, given

- that the first event names all numbers, in the order of the stream's fields (missing ones as NaN): start weights belong to
  places, and a replay looks ahead at the head of its stream;
- of classes, the task multiclass: an estimator numbers classes as they come, and cannot know that there will be but two;
- of preset single, a label: compiled code for events without one may round otherwise in the last bit of a float32.

An event is a dict of named features, see `streamnn.columns`. Features and classes may appear at any time.

    >>> from streamnn import Classifier
    >>> model = Classifier(seed=1)
    >>> for i in range(200):
    ...     model.learn_one({"a": i % 2, "b": 1.0}, "odd" if i % 2 else "even")
    >>> model.predict_one({"a": 1, "b": 1.0})
    'odd'
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from river import base

from streamnn.columns import event_columns, frame_columns, label_column, number_column
from streamnn.drift import make_detector
from streamnn.features.index import Column
from streamnn.heads import TargetKind, TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.lr_control import make_control
from streamnn.networks import MLPSpec
from streamnn.operations import FloatArray, Kind, Operations
from streamnn.optimizers import Adam, Optimizer
from streamnn.pool import PoolLearner, PoolSpec
from streamnn.pool.presets import PRESETS, Preset
from streamnn.targets import Label, decide

TARGET = "target"
ONE_BATCH = 1 << 62  # all events of a call stay together, however many they are
DETECTOR, CONTROL, EVERY = "adwin", "drift", 512  # drift.detector, rate.control and rate.every of a configuration


class _Estimator:
    """What all estimators share: columns from dicts and frames, one learner, one learning rate."""

    def __init__(
        self,
        preset: Preset = "best",
        *,
        network: MLPSpec | None = None,
        optimizer: Optimizer | None = None,
        rate: float = 0.003,
        seed: int = 0,
    ) -> None:
        if preset not in PRESETS:
            raise ValueError(f"preset is {preset!r}; use one of {', '.join(reversed(PRESETS))}")
        given = [name for name, value in (("network", network), ("optimizer", optimizer)) if value is not None]
        if preset != "single" and given:
            raise ValueError(
                f"preset is {preset!r}, a pool with constants of its own, but {' and '.join(given)} is given, which only a"
                " single network has; set preset='single', or leave it out"
            )
        if not rate >= 0:
            raise ValueError(f"rate is {rate}, but a learning rate is at least 0")
        if seed < 0:
            raise ValueError(f"seed is {seed}, but must be at least 0")
        self.preset, self.network, self.optimizer, self.rate, self.seed = preset, network, optimizer, rate, seed
        self._learner: Learner | PoolLearner | None = None
        self._events = 0
        self._control = _Control(rate, seed)

    @property
    def learner(self) -> Learner | PoolLearner | None:
        """The learner behind; None before the first label."""
        return self._learner

    def _learn(self, columns: Mapping[str, Column], labels: Mapping[str, Column], kind: TargetKind) -> None:
        """Learn K events as one micro-batch."""
        events = len(next(iter(labels.values()), ()))
        if not events:
            return
        learner = self._learner or self._make(columns, labels, kind)
        unknown = sorted(set(labels) - {t.name for t in learner.spec.targets})
        if unknown:
            known = [t.name for t in learner.spec.targets]
            raise ValueError(f"targets {unknown} were not in the first label, which fixes them: {known}")
        misfits = learner.targets.misfits(labels, events)
        if misfits:
            raise ValueError(next(iter(misfits.values())))
        number = np.arange(self._events, self._events + events)
        encoded = learner.encode(columns, labels, number, batch=ONE_BATCH)
        self._learner = learner
        what = Kind.PREDICT_OBSERVE if np.isnan(encoded.truth).all() else Kind.PREDICT_LEARN
        control, operations = self._control, Operations.of([(what, 0, events)])
        results = learner.run(encoded.rows, operations, rate=control.rate, clear=control.clear)
        self._events += events
        control.learned(results.loss[~np.isnan(results.loss)], self._events - events, self._events)
        if results.refused:
            raise ValueError(f"the event cannot be learned: {next(iter(results.refused.values()))}")

    def _make(self, columns: Mapping[str, Column], targets: Iterable[str], kind: TargetKind) -> Learner | PoolLearner:
        """Make what learns. The numbers of the first event are inputs in its order, as columns of a file are."""
        named = tuple(TargetSpec(name, kind) for name in targets)
        learner = (
            Learner(
                LearnerSpec(
                    targets=named,
                    network=self.network or MLPSpec(),
                    optimizer=self.optimizer or Adam(beta1=0.0, beta2=0.99),
                    seed=self.seed,
                )
            )
            if self.preset == "single"
            else PoolLearner(PoolSpec(targets=named, preset=self.preset, seed=self.seed))
        )
        learner.declare([name for name, column in columns.items() if column.dtype == np.float64])
        return learner

    def _serve(self, columns: Mapping[str, Column], events: int) -> tuple[FloatArray, FloatArray]:
        """Return served rows [K, W] and decisions [K, T] without changing anything."""
        if self._learner is None:
            return np.full((events, 1), np.nan), np.full((events, 1), np.nan)
        served = self._learner.predict(columns, events)
        return served, decide(served, self._learner.head)


class _Control:
    """The learning rate as a replay with defaults controls it, from the losses of what is learned."""

    def __init__(self, base_rate: float, seed: int) -> None:
        self.rate, self.clear = base_rate, False
        self._detector = make_detector(DETECTOR, {}, seed=seed)
        self._control = make_control(CONTROL, base_rate, {})
        self._losses: list[float] = []

    def learned(self, losses: FloatArray, before: int, after: int) -> None:
        """Take the losses of what was learned, and decide where the number of events crosses a multiple of `EVERY`."""
        if len(losses):
            self._losses += losses.tolist()
            self.clear = False
        if before // EVERY != after // EVERY:
            since, self._losses = np.array(self._losses, dtype=np.float64), []
            action = self._control.update(since, drifted=bool(self._detector.update(since)))
            self.rate, self.clear = action.rate, self.clear or action.clear


class Classifier(_Estimator, base.Classifier):  # type: ignore[misc]
    """Classify into classes that may appear at any time.

    Args:
        preset: best, fast or lite = a pool of small members, more of them predict better and take longer; single = one
            network.
        network: layers of single; the default is one hidden layer of 64 with layer normalisation.
        optimizer: of single; the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate of networks, the highest there will be: it falls where learning no longer helps, and comes back
            with drift.
        seed: of start weights and of what is drawn.

    Raises:
        ValueError: a value is outside its range, or network or optimizer are given to a pool.
    """

    @property
    def _multiclass(self) -> bool:  # what river asks a classifier
        return True

    def learn_one(self, x: Mapping[str, Any], y: Label) -> None:
        """Learn one event."""
        self._learn(event_columns(x), {TARGET: label_column([y])}, "multiclass")

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[Label, float]:
        """Return the probability of each class seen so far; empty before the first label."""
        return self._probabilities(event_columns(x), 1)[0]

    def predict_one(self, x: Mapping[str, Any]) -> Label | None:
        """Return the likeliest class; None before the first label."""
        return self._decisions(event_columns(x), 1)[0]

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn the rows as one micro-batch."""
        self._learn(frame_columns(X), {TARGET: label_column(y.tolist())}, "multiclass")

    def predict_proba_many(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return class probabilities, a column a class."""
        return pd.DataFrame(self._probabilities(frame_columns(X), len(X)), index=X.index)

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Return the likeliest class of each row."""
        return pd.Series(self._decisions(frame_columns(X), len(X)), index=X.index, dtype=object)

    def _probabilities(self, columns: Mapping[str, Column], events: int) -> list[dict[Label, float]]:
        served, _ = self._serve(columns, events)
        classes = () if self._learner is None else self._learner.targets.classes(TARGET)
        return [dict(zip(classes, row.tolist(), strict=False)) for row in served]

    def _decisions(self, columns: Mapping[str, Column], events: int) -> list[Label | None]:
        _, decided = self._serve(columns, events)
        classes = () if self._learner is None else self._learner.targets.classes(TARGET)
        return [None if np.isnan(d) else classes[int(d)] for d in decided[:, 0]]


class Regressor(_Estimator, base.Regressor):  # type: ignore[misc]
    """Predict a number.

    Args:
        preset: best, fast or lite = a pool of small members, more of them predict better and take longer; single = one
            network.
        network: layers of single; the default is one hidden layer of 64 with layer normalisation.
        optimizer: of single; the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate of networks, the highest there will be: it falls where learning no longer helps, and comes back
            with drift.
        seed: of start weights and of what is drawn.

    Raises:
        ValueError: a value is outside its range, or network or optimizer are given to a pool.
    """

    def learn_one(self, x: Mapping[str, Any], y: float) -> None:
        """Learn one event."""
        self._learn(event_columns(x), {TARGET: number_column([y])}, "regression")

    def predict_one(self, x: Mapping[str, Any]) -> float:
        """Return the predicted value; 0 before the first label."""
        return float(np.nan_to_num(self._serve(event_columns(x), 1)[1][0, 0]))

    def learn_many(self, X: pd.DataFrame, y: pd.Series) -> None:
        """Learn the rows as one micro-batch."""
        self._learn(frame_columns(X), {TARGET: y.to_numpy(dtype=np.float64)}, "regression")

    def predict_many(self, X: pd.DataFrame) -> pd.Series:
        """Return the predicted value of each row."""
        return pd.Series(np.nan_to_num(self._serve(frame_columns(X), len(X))[1][:, 0]), index=X.index)


class MultiLabelClassifier(_Estimator, base.MultiLabelClassifier):  # type: ignore[misc]
    """Decide several labels at once. The first label set names them all; absent or None is unknown.

    Args:
        preset: best, fast or lite = a pool of small members that all labels share; single = one network.
        network: layers of single; the default is one hidden layer of 64 with layer normalisation.
        optimizer: of single; the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate of networks, the highest there will be: it falls where learning no longer helps, and comes back
            with drift.
        seed: of start weights and of what is drawn.

    Raises:
        ValueError: a value is outside its range, or network or optimizer are given to a pool.
    """

    def learn_one(self, x: Mapping[str, Any], y: Mapping[str, bool | float | None]) -> None:
        """Learn one event; y maps each label to True, False, a degree between, or None."""
        self._learn(event_columns(x), {name: number_column([v]) for name, v in y.items()}, "binary")

    def predict_proba_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the probability that each label is on; empty before the first label set."""
        served, _ = self._serve(event_columns(x), 1)
        if self._learner is None:
            return {}
        head = self._learner.head
        return {t.name: float(np.nan_to_num(served[0, head.block(t.name).first])) for t in head.targets}

    def predict_one(self, x: Mapping[str, Any]) -> dict[str, bool]:
        """Tell which labels are on; empty before the first label set."""
        return {name: p > 0.5 for name, p in self.predict_proba_one(x).items()}


class MultiTargetRegressor(_Estimator, base.MultiTargetRegressor):  # type: ignore[misc]
    """Predict several numbers. The first label names the targets; absent or None is unknown.

    Args:
        preset: best, fast or lite = a pool of small members for each target; single = one network for all of them, which
            takes a fraction of the time where they are many.
        network: layers of single; the default is one hidden layer of 64 with layer normalisation.
        optimizer: of single; the default is Adam without momentum (beta1 = 0, beta2 = .99), which follows drift.
        rate: learning rate of networks, the highest there will be: it falls where learning no longer helps, and comes back
            with drift.
        seed: of start weights and of what is drawn.

    Raises:
        ValueError: a value is outside its range, or network or optimizer are given to a pool.
    """

    def learn_one(self, x: Mapping[str, Any], y: Mapping[str, float | None]) -> None:
        """Learn one event."""
        self._learn(event_columns(x), {name: number_column([v]) for name, v in y.items()}, "regression")

    def predict_one(self, x: Mapping[str, Any]) -> dict[str, float]:
        """Return the predicted values; empty before the first label."""
        _, decided = self._serve(event_columns(x), 1)
        if self._learner is None:
            return {}
        return {t.name: float(np.nan_to_num(v)) for t, v in zip(self._learner.spec.targets, decided[0], strict=True)}
