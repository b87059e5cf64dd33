"""CapyMOA's learners (MOA's, in Java), each with the library's defaults; see `exchange` for what is read and written."""

import warnings
from importlib.metadata import version

import numpy as np
from capymoa.classifier import (
    KNN,
    AdaptiveRandomForestClassifier,
    HoeffdingAdaptiveTree,
    HoeffdingTree,
    NaiveBayes,
    StreamingRandomPatches,
)
from capymoa.core import LabeledInstance
from capymoa.stream import Schema
from exchange import work

CLASSIFIERS = {  # name -> ((schema, seed) -> model, whether it needs scaled inputs)
    "naive_bayes": (lambda schema, seed: NaiveBayes(schema), False),
    "knn": (lambda schema, seed: KNN(schema, random_seed=seed), True),
    "hoeffding_tree": (lambda schema, seed: HoeffdingTree(schema, random_seed=seed), False),
    "hat": (lambda schema, seed: HoeffdingAdaptiveTree(schema, random_seed=seed), False),
    "arf": (lambda schema, seed: AdaptiveRandomForestClassifier(schema, random_seed=seed), False),
    "srp": (lambda schema, seed: StreamingRandomPatches(schema, random_seed=seed), False),
}


class Classifier:
    """A classifier of the library, one row at a time; it is told all classes at the start, as the library asks for."""

    def __init__(self, model, schema):
        self.model, self.schema = model, schema

    def predict(self, x):
        # what is predicted lies in a labelled instance, whose label 0 learners do not look at to predict
        given = self.model.predict_proba(LabeledInstance.from_array(self.schema, x, 0))
        if given is None or not np.sum(given) > 0:
            return np.nan, None
        chances = np.asarray(given, dtype=np.float64)
        return int(chances.argmax()), chances / chances.sum()

    def learn(self, x, y):
        self.model.train(LabeledInstance.from_array(self.schema, x, int(y)))


def make(learner, classes, seed, raw, scaled, y):
    """Return a learner and its inputs."""
    names = [f"x{i}" for i in range(raw.shape[1])]
    schema = Schema.from_custom([*names, "y"], "y", {"y": [str(c) for c in range(classes)]})
    build, needs_scaled = CLASSIFIERS[learner]
    return Classifier(build(schema, seed), schema), scaled if needs_scaled else raw


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    work(make, {"capymoa": version("capymoa")})
