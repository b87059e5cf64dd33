"""Optimizers as pure functions of (gradients, slots, parameters, rate)."""

from streamnn.optimizers.adam import Adam, NAdam
from streamnn.optimizers.base import Optimizer, Slots
from streamnn.optimizers.cocob import COCOB
from streamnn.optimizers.scaled import Adadelta, Adagrad, RMSprop
from streamnn.optimizers.sgd import SGD, ObGD

OPTIMIZERS: dict[str, type] = {
    "sgd": SGD,
    "adagrad": Adagrad,
    "rmsprop": RMSprop,
    "adadelta": Adadelta,
    "adam": Adam,
    "nadam": NAdam,
    "cocob": COCOB,
    "obgd": ObGD,
}

__all__ = [
    "COCOB",
    "OPTIMIZERS",
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "NAdam",
    "ObGD",
    "Optimizer",
    "RMSprop",
    "Slots",
]
