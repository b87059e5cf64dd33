"""deep-river's networks with the library's defaults, but for the rate of its own benchmarks: .005 where its default is .001.

See `exchange` for what is read and written.
"""

import warnings
from importlib.metadata import version

import torch
from deep_river.classification.zoo import LogisticRegression, LSTMClassifier, MultiLayerPerceptron
from exchange import work

CLASSIFIERS = {"logistic": LogisticRegression, "mlp": MultiLayerPerceptron, "lstm": LSTMClassifier}


class Classifier:
    """A classifier of the library, one event at a time, as a dict of the same inputs in the same order."""

    def __init__(self, model, inputs, classes):
        self.model, self.classes = model, classes
        self.names = [f"{i:05d}" for i in range(inputs)]

    def predict(self, x):
        given = self.model.predict_proba_one(self._event(x))
        chances = [float(given.get(c, 0.0)) for c in range(self.classes)]
        return max(range(self.classes), key=chances.__getitem__), chances

    def learn(self, x, y):
        self.model.learn_one(self._event(x), int(y))

    def _event(self, x):
        return dict(zip(self.names, x.tolist(), strict=True))


def make(learner, classes, seed, raw, scaled, y):
    """Return a learner and its inputs."""
    model = CLASSIFIERS[learner](n_features=raw.shape[1], n_init_classes=classes, lr=0.005, seed=seed)
    return Classifier(model, raw.shape[1], classes), scaled


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    work(make, {name: version(name) for name in ("deep-river", "river", "torch")})
