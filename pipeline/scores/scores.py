"""Prequential scores: how good what was served was, beside the baselines; overall, lately and over time.

In: blocks of scored events in event order (`Outcome`). Out: metrics by name. However the stream is cut into
blocks, every figure and the whole state are the same to the last bit; memory does not grow with the number of
events.

Axes: K events, T class targets, V value targets, P predictors of classes, Q of values, R rows of the sums.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.scores import baselines, evaluate
from pipeline.scores.history import History, Point
from pipeline.scores.judge import (
    codes_of,
    columns_of,
    fill_sets,
    fill_values,
    rate_binary,
    rate_classes,
    stack,
)
from pipeline.scores.layout import lay_out
from pipeline.scores.outcome import FloatArray, IntArray, Outcome, Target, Task, sampled
from pipeline.scores.ranking import Ranking
from pipeline.scores.totals import Counter, Fading, Totals, Window

Metrics = dict[str, float]


class Scores:
    """Fold scored events and tell every metric that fits the task.

    Class targets: accuracy, balanced_accuracy, kappa, kappa_m (beyond the majority class), kappa_temporal
    (beyond repeating the previous class), f1_micro, f1_macro, log_loss, brier; for binary ones also f1 (of
    class 1) and roc_auc. Several class targets: the averages of these, exact_match, and hamming. Label sets
    (several binary targets): f1_micro, f1_macro, f1_example, precision_example, recall_example, jaccard,
    exact_match, hamming, log_loss, brier, roc_auc (`_example`: means over events; some papers' example-F1 is the
    harmonic mean of mean precision and mean recall, not the mean of F1). Values: mae, rmse, r2, averaged over targets. Mixed tasks have both.

    hamming is the Hamming loss, the share of known labels that were decided wrongly: 0 is best (river has no
    such metric; it is 1 minus river's MicroAverage(Accuracy)). exact_match is the share of events whose known
    labels are all right. An event that was served no class counts as wrong everywhere; no class counts as
    decided. An undefined value is NaN.

    Args:
        targets: what is predicted.
        window: W, the last scored events that `window()` looks at.
        fading: weight of an event relative to the next in `fading()`.
        sample_every: scored events between two points of the history, at first.
        auc_bins: resolution of roc_auc, see `ranking.py`.

    Raises:
        ValueError: no targets, equal names, or a setting outside its range.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        window: int = 1000,
        fading: float = 0.999,
        sample_every: int = 20,
        auc_bins: int = 2048,
    ) -> None:
        names = [target.name for target in targets]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"scores need at least one target and names that differ, got {names}")
        self.targets = tuple(targets)
        self._layout = lay_out(targets)
        layout = self._layout
        self._counter = Counter(len(layout.classes), len(layout.predictors))
        self._all = Totals(layout, self._counter)
        self._fade = Fading(fading)
        self._faded = Totals(layout, self._counter, faded=True)
        self._window = Window(layout, size=window)
        self._history = History(sampled(layout.task), every=sample_every)
        self._course_rows = evaluate.course_rows(layout)
        self._binary = [t for t, target in enumerate(layout.classes) if target.kind == "binary"]
        self._is_binary = np.array([[target.kind == "binary"] for target in layout.classes], dtype=np.bool_)
        self._ranking = Ranking(len(self._binary), bins=auc_bins)
        self._previous = baselines.Previous(len(layout.classes), nothing=-1.0)
        self._labelsets = baselines.FrequentLabelset(len(layout.classes))
        self._mean = baselines.RunningMean(len(layout.values))
        self._last = baselines.Previous(len(layout.values), nothing=np.nan)
        self._last_of_category = baselines.LastOfCategory(len(layout.values))
        self._settings = {"window": window, "fading": fading, "auc_bins": auc_bins}
        self.events = 0

    @property
    def task(self) -> Task:
        """What the targets make up."""
        return self._layout.task

    @property
    def values(self) -> int:
        """V: how many targets are values; their baselines look at categories."""
        return len(self._layout.values)

    def update(self, outcome: Outcome) -> None:
        """Score a block of events; those without any known truth are passed over."""
        layout = self._layout
        truth = stack(columns_of(outcome, "truth", (*layout.classes, *layout.values)))
        served = stack(columns_of(outcome, "decision", (*layout.classes, *layout.values)))
        number, categories = outcome.number, outcome.categories
        scored = ~np.isnan(truth).all(axis=0)
        probability = [outcome.probability.get(target.name) for target in layout.classes]
        if not scored.all():
            truth, served = truth[:, scored], served[:, scored]
            number = None if number is None else number[scored]
            categories = {field: codes[scored] for field, codes in categories.items()}
            probability = [None if p is None else p[scored] for p in probability]
        events = truth.shape[1]
        if not events:
            return
        quantities = np.zeros((layout.size, events))
        classes = len(layout.classes)
        codes = np.zeros((1, 0, events), dtype=np.int64)
        if layout.classes:
            codes = self._judge_classes(quantities, truth[:classes], served[:classes], probability)
        if layout.values:
            self._judge_values(quantities, truth[classes:], served[classes:], categories)
        self._fold(codes, quantities, number)

    def metrics(self) -> Metrics:
        """Return every metric over all scored events."""
        return self._overall(self._all, 0, self._areas())

    def by_target(self) -> dict[str, Metrics]:
        """Return every metric over all scored events, target by target."""
        layout = self._layout
        found: dict[str, Metrics] = {target.name: {} for target in self.targets}
        groups = []
        if layout.classes:
            groups.append((layout.classes, evaluate.class_vectors(layout, self._all, 0) | self._areas()))
        if layout.values:
            groups.append((layout.values, evaluate.value_vectors(layout, self._all, 0)))
        for targets, vectors in groups:
            for metric, vector in vectors.items():
                for target, value in zip(targets, vector.tolist(), strict=True):
                    if target.kind == "binary" or metric not in ("f1", "roc_auc"):
                        found[target.name][metric] = value
        return found

    def window(self) -> Metrics:
        """Return the metrics over the last W scored events; all but roc_auc."""
        return self._overall(self._window.totals(self.events, self._counter), 0, {})

    def fading(self) -> Metrics:
        """Return the metrics with older events weighing less and less; all but roc_auc and r2."""
        found = self._overall(self._faded, 0, {})
        found.pop("r2", None)
        return found

    def baselines(self) -> dict[str, Metrics]:
        """Return the metrics of the baselines over all scored events; none that needs probabilities.

        `last_of_category` is there once an event has had a categorical field.
        """
        layout = self._layout
        found: dict[str, Metrics] = {}
        for p, name in enumerate(layout.predictors[1:], 1):
            found[name] = self._overall(self._all, p, {}, values=False)
        for p, name in enumerate(layout.regressors[1:], 1):
            if name == "last_of_category" and not self._last_of_category.fields:
                continue
            found[name] = self._overall(self._all, p, {}, classes=False)
        return found

    def history(self) -> dict[str, list[Point]]:
        """Return the course of the primary metric(s): metric -> [(event count, overall, windowed), ...].

        Points are taken at fixed numbers of scored events. The count is that of all events so far if outcomes
        tell event numbers, else that of the scored ones.
        """
        return self._history.points()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was counted, for a checkpoint."""
        return {
            "targets": [f"{target.kind} {target.name}" for target in self.targets],
            "settings": dict(self._settings),
            "events": self.events,
            "all": self._all.state_dict(),
            "faded": self._faded.state_dict(),
            "window": self._window.state_dict(),
            "history": self._history.state_dict(),
            "ranking": self._ranking.state_dict(),
            "previous": self._previous.state_dict(),
            "labelsets": self._labelsets.state_dict(),
            "mean": self._mean.state_dict(),
            "last": self._last.state_dict(),
            "last_of_category": self._last_of_category.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned; the next update is bit-equal.

        Raises:
            ValueError: the state belongs to other targets or settings.
        """
        targets = [f"{target.kind} {target.name}" for target in self.targets]
        if list(state["targets"]) != targets:
            raise ValueError(f"saved scores are of targets {list(state['targets'])}, but this run has {targets}")
        for name, value in self._settings.items():
            if state["settings"][name] != value:
                raise ValueError(
                    f"saved scores have {name} = {state['settings'][name]}, but this run asks for {value};"
                    " keep the setting, or start the scores anew"
                )
        self.events = int(state["events"])
        self._all.load_state_dict(state["all"])
        self._faded.load_state_dict(state["faded"])
        self._window.load_state_dict(state["window"])
        self._history.load_state_dict(state["history"])
        self._ranking.load_state_dict(state["ranking"])
        self._previous.load_state_dict(state["previous"])
        self._labelsets.load_state_dict(state["labelsets"])
        self._mean.load_state_dict(state["mean"])
        self._last.load_state_dict(state["last"])
        self._last_of_category.load_state_dict(state["last_of_category"])
        self._counter = self._counter.room_for(self._all.seen.shape[1] - 1)

    def _judge_classes(
        self,
        rows: FloatArray,
        truth: FloatArray,
        served: FloatArray,
        probability: Sequence[FloatArray | None],
    ) -> IntArray:
        """Fill the rows of the class targets and learn the baselines; returns the codes [1 + P, T, K]."""
        layout = self._layout
        codes = np.empty((1 + len(layout.predictors), *truth.shape), dtype=np.int64)
        codes[:2] = codes_of(np.array([truth, served]), self._is_binary)
        self._widen(int(codes[:2].max()))
        codes[2] = baselines.majority(codes[0], self._all.seen)
        codes[3] = self._previous.predict_learn(codes[0], codes[0] >= 0)
        if layout.task == "multilabel":
            codes[4] = self._labelsets.predict_learn(codes[0])
        known = codes[0] >= 0
        rows[layout.rows["known"]] = known
        rows[layout.rows["right"]] = (codes[0] == codes[1]) & known
        self._rate(rows, codes[0], probability)
        if len(layout.classes) > 1:
            fill_sets(rows, layout, codes)
        return codes

    def _rate(self, rows: FloatArray, truth: IntArray, probability: Sequence[FloatArray | None]) -> None:
        """Fill the rows of the probabilities."""
        loss, brier, rated = (rows[self._layout.rows[name]] for name in ("loss", "brier", "rated"))
        if self._binary and any(probability[t] is not None for t in self._binary):
            nothing = np.full(truth.shape[1], np.nan)
            served = [nothing if p is None else p for p in (probability[t] for t in self._binary)]
            at = slice(None) if len(self._binary) == len(truth) else self._binary
            ratings, log_odds = rate_binary(truth[at], np.array(served, dtype=np.float64))
            loss[at], brier[at], rated[at] = ratings.loss, ratings.brier, ratings.rated
            self._ranking.add(truth[at], log_odds, ratings.rated)
        for t, p in enumerate(probability):
            if p is not None and not self._is_binary[t, 0]:
                ratings = rate_classes(truth[t], p)
                loss[t], brier[t], rated[t] = ratings.loss, ratings.brier, ratings.rated

    def _judge_values(
        self, rows: FloatArray, truth: FloatArray, served: FloatArray, categories: Mapping[str, IntArray]
    ) -> None:
        """Fill the rows of the value targets and learn the baselines."""
        known = ~np.isnan(truth)
        last = self._last.predict_learn(truth, known)
        by_category = self._last_of_category.predict_learn(truth, last, categories)
        predictions = np.array([served, self._mean.predict_learn(truth), last, by_category])
        fill_values(rows, self._layout, truth, predictions, self._all.sums)

    def _widen(self, largest: int) -> None:
        counter = self._counter.room_for(largest)
        if counter is not self._counter:
            self._counter = counter
            self._all.widen(counter)
            self._faded.widen(counter)

    def _fold(self, codes: IntArray, quantities: FloatArray, number: IntArray | None) -> None:
        places = self._counter.places(codes)
        for start, stop in self._pieces(quantities.shape[1]):
            part, rows = places[:, :, start:stop], quantities[:, start:stop]
            self._all.add(part, rows)
            self._faded.add(part, rows, self._fade.weights(self.events, stop - start))
            self._window.put(self.events, codes[:, :, start:stop], rows)
            self.events += stop - start
            if self.events % self._fade.period == 0:
                self._faded.scale(self._fade.shrink)
            if self.events % self._history.every == 0:
                overall = evaluate.course(self._layout, self._all.sums)
                lately = evaluate.course(self._layout, self._window.sums(self.events, self._course_rows))
                count = self.events if number is None else int(number[stop - 1]) + 1
                self._history.add(count, [v for pair in zip(overall, lately, strict=True) for v in pair])

    def _pieces(self, events: int) -> Iterator[tuple[int, int]]:
        """Cut a block where something is due: a point of the history, the end of a period of fading."""
        start = 0
        while start < events:
            left = min(step - self.events % step for step in (self._history.every, self._fade.period))
            stop = min(events, start + left)
            yield start, stop
            start = stop

    def _areas(self) -> dict[str, FloatArray]:
        """roc_auc per class target [T], NaN for multi-class ones; nothing if no target is binary."""
        if not self._binary:
            return {}
        areas = np.full(len(self._layout.classes), np.nan)
        areas[self._binary] = self._ranking.area()
        return {"roc_auc": areas}

    def _overall(
        self,
        totals: Totals,
        predictor: int,
        areas: dict[str, FloatArray],
        *,
        classes: bool = True,
        values: bool = True,
    ) -> Metrics:
        layout = self._layout
        vectors = evaluate.class_vectors(layout, totals, predictor) | areas if layout.classes and classes else {}
        together = evaluate.set_metrics(layout, totals, predictor) if len(layout.classes) > 1 and classes else {}
        numbers = evaluate.value_vectors(layout, totals, predictor) if layout.values and values else {}
        return evaluate.overall(layout, vectors, numbers, together)
