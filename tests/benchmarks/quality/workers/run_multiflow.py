"""scikit-multiflow's learners, each with the library's defaults; see `exchange` for what is read and written."""

import os
import warnings
from importlib.metadata import version

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_threads] = "1"

import numpy as np  # noqa: E402  threads are counted when it is loaded
from exchange import work  # noqa: E402
from sklearn.linear_model import Perceptron  # noqa: E402
from skmultiflow.bayes import NaiveBayes  # noqa: E402
from skmultiflow.lazy import KNNClassifier  # noqa: E402
from skmultiflow.meta import AdaptiveRandomForestClassifier, ClassifierChain, MultiOutputLearner  # noqa: E402
from skmultiflow.neural_networks import PerceptronMask  # noqa: E402
from skmultiflow.trees import (  # noqa: E402
    HoeffdingAdaptiveTreeClassifier,
    HoeffdingTreeClassifier,
    LabelCombinationHoeffdingTreeClassifier,
)

CLASSIFIERS = {  # name -> (seed -> model, whether it needs scaled inputs)
    "naive_bayes": (lambda seed: NaiveBayes(), False),
    "perceptron": (lambda seed: PerceptronMask(random_state=seed), True),
    "knn": (lambda seed: KNNClassifier(max_window_size=1000), True),
    "hoeffding_tree": (lambda seed: HoeffdingTreeClassifier(), False),
    "hat": (lambda seed: HoeffdingAdaptiveTreeClassifier(random_state=seed), False),
    "arf": (lambda seed: AdaptiveRandomForestClassifier(random_state=seed), False),
}


class Online(Perceptron):
    """A perceptron whose first event may be its first call: both meta learners begin with `fit`, which wants all classes."""

    def fit(self, X, y, classes=None, sample_weight=None):
        return self.partial_fit(X, y, classes=[0, 1], sample_weight=sample_weight)


LABELERS = {  # name -> ((labels, seed) -> model, whether it needs scaled inputs)
    "relevance_perceptron": (lambda labels, seed: MultiOutputLearner(Online(random_state=seed)), True),
    "chain_perceptron": (lambda labels, seed: ClassifierChain(Online(random_state=seed)), True),
    "powerset_tree": (lambda labels, seed: LabelCombinationHoeffdingTreeClassifier(n_labels=labels), False),
}


class Classifier:
    """A classifier of the library, one row at a time; it is told all classes at the start, as the library asks for."""

    def __init__(self, model, classes):
        self.model, self.classes = model, list(range(classes))

    def predict(self, x):
        chances = np.asarray(self.model.predict_proba(x[None])[0], dtype=np.float64)
        total = chances.sum()
        return int(self.model.predict(x[None])[0]), chances / total if total > 0 else None

    def learn(self, x, y):
        self.model.partial_fit(x[None], np.array([int(y)]), classes=self.classes)


class Labeler:
    """A learner of sets of labels, one row at a time; it learns those that are known as a whole."""

    def __init__(self, model):
        self.model = model

    def predict(self, x):
        return np.asarray(self.model.predict(x[None]), dtype=np.float64)[0], None

    def learn(self, x, y):
        if not np.isnan(y).any():
            self.model.partial_fit(x[None], y[None].astype(int), classes=[0, 1])


def make(learner, classes, seed, raw, scaled, y):
    """Return a learner and its inputs."""
    if y.ndim == 2:
        build, needs_scaled = LABELERS[learner]
        return Labeler(build(y.shape[1], seed)), scaled if needs_scaled else raw
    build, needs_scaled = CLASSIFIERS[learner]
    return Classifier(build(seed), classes), scaled if needs_scaled else raw


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # the library is older than its dependencies
    work(make, {"scikit-multiflow": version("scikit-multiflow")})
