"""Online neural networks: predict and learn one event at a time, exactly in order."""

from streamnn.estimators import Classifier, MultiLabelClassifier, MultiTargetRegressor, Regressor
from streamnn.heads import Head, TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.networks import MLP, MLPSpec

__version__ = "0.1.0"

__all__ = [
    "MLP",
    "Classifier",
    "Head",
    "Learner",
    "LearnerSpec",
    "MLPSpec",
    "MultiLabelClassifier",
    "MultiTargetRegressor",
    "Regressor",
    "TargetSpec",
]
