"""River's learners, and others with its methods, on a CSV file: predict, count, write the prediction, learn, one event at a time."""

import csv
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from river import forest, linear_model, multiclass, preprocessing, stream, tree

PEERS: dict[str, Callable[[], Any]] = {
    "logistic regression": lambda: (
        preprocessing.StandardScaler() | multiclass.OneVsRestClassifier(linear_model.LogisticRegression())
    ),
    "Hoeffding tree": tree.HoeffdingTreeClassifier,
    "adaptive random forest": lambda: forest.ARFClassifier(seed=1),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a learner did with a file."""

    events: int
    seconds: float
    accuracy: float


def replay(made: Any, path: Path, target: str, rows: int, predictions: Path) -> Outcome:
    """Let a classifier learn the first rows of a CSV file of numbers."""
    with path.open(encoding="utf-8") as source:
        fields = [field for field in next(csv.reader(source)) if field != target]
    events = stream.iter_csv(str(path), target=target, converters=dict.fromkeys(fields, float))
    right, done, began = 0, 0, time.perf_counter()
    with predictions.open("w", encoding="utf-8") as out:
        for x, y in itertools.islice(events, rows):
            served = made.predict_proba_one(x)
            said = max(served, key=served.get) if served else None
            right += said == y
            out.write(json.dumps({"prediction": said, "p": served}) + "\n")
            made.learn_one(x, y)
            done += 1
    return Outcome(done, time.perf_counter() - began, right / max(done, 1))
