"""Small networks of every kind, and the events to run them on: a pairwise covering set.

A covering set holds every pair of choices of any two settings in at least one network where both do something: without
hidden layers there is nothing to normalise, activate, drop out or skip, and without a value as target no loss of values.
"""

import itertools
import random
from dataclasses import dataclass

import numpy as np
import torch

from streamnn.features.standardizer import Standardizer
from streamnn.heads import Head, TargetSpec
from streamnn.networks import MLP, MLPSpec
from streamnn.operations import Kind, Rows
from streamnn.optimizers import COCOB, SGD, Adadelta, Adagrad, Adam, NAdam, ObGD, RMSprop
from streamnn.step import Step

HEADS = {
    "binary": ["binary"], "labels": ["binary"] * 3, "classes": ["multiclass"], "two classes": ["multiclass"] * 2,
    "value": ["regression"], "mixed": ["multiclass", "regression", "binary", "regression"],
}  # fmt: skip
OPTIMIZERS = {
    "sgd": SGD(), "momentum": SGD(momentum=0.9, nesterov=True, weight_decay=0.01), "velocity": SGD(momentum=0.8),
    "adam": Adam(), "adam0": Adam(beta1=0.0, beta2=0.99), "nadam": NAdam(), "adagrad": Adagrad(), "rmsprop": RMSprop(),
    "centered": RMSprop(centered=True, momentum=0.5), "adadelta": Adadelta(), "cocob": COCOB(), "obgd": ObGD(),
}  # fmt: skip
SETTINGS = {
    "head": list(HEADS),
    "optimizer": list(OPTIMIZERS),
    "normalizer": ["none", "layer", "rms", "streaming", "online"],
    "activation": ["relu", "leaky_relu", "tanh", "gelu", "silu", "mish", "selu"],
    "units": [(), (5,), (8, 3)],
    "loss": ["huber", "squared", "absolute"],
    "missing": ["nothing", "inputs", "labels", "both"],
    "dropout": [0.0, 0.3],
    "accumulate": [1, 3],
    "skip": [False, True],
    "horizon": [0, 40],
    "inputs": [3, 8],
}
# settings that do something only where another has one of these values
HIDDEN, VALUES = ("units", ((5,), (8, 3))), ("head", ("value", "mixed"))
NEEDS = {**dict.fromkeys(("normalizer", "activation", "dropout", "skip"), HIDDEN), "loss": VALUES}

Choice = dict[str, object]


def at_work(choice):
    """The settings of a (part of a) choice that do something."""
    return [n for n in choice if n not in NEEDS or choice.get(NEEDS[n][0]) in (None, *NEEDS[n][1])]


def meeting(choice):
    """Every two settings of a choice that both do something, with their values, in either order."""
    return {(a, choice[a], b, choice[b]) for a, b in itertools.permutations(at_work(choice), 2)}


def covering(seed):
    """A list of choices in which every two values of any two settings meet, where there is a network in which both work."""
    draw = random.Random(seed)
    pairs = [
        (a, x, b, y)
        for (a, values), (b, others) in itertools.permutations(SETTINGS.items(), 2)
        for x, y in itertools.product(values, others)
        if len(at_work({a: x, b: y})) == 2
    ]
    unmet, found = set(pairs), []
    while unmet:
        a, x, b, y = next(pair for pair in pairs[:: draw.choice((1, -1))] if pair in unmet)
        row = {a: x, b: y}
        rest = [n for n in SETTINGS if n not in row]
        draw.shuffle(rest)
        rest.sort(key=lambda name: name not in (HIDDEN[0], VALUES[0]))  # first what others need
        for name in rest:  # takes the value that meets most partners for the first time, or else leaves most at work
            gains = {}
            for v in SETTINGS[name]:
                working = at_work({**row, name: v})
                new = sum((name, v, n, row[n]) in unmet for n in working if n != name) if name in working else 0
                gains[v] = (a in working and b in working, new, len(working))
            row[name] = draw.choice([v for v, gain in gains.items() if gain == max(gains.values())])
        unmet -= meeting(row)
        found.append({name: row[name] for name in SETTINGS})
    return found


@dataclass
class Case:
    """A step, its first state and events for it."""

    step: Step
    state: dict
    rows: Rows
    kinds: np.ndarray


def build(choice, *, dtype, events, seed=0):
    """Make the network of a choice, and a stream with a mix of all operations."""
    kinds = HEADS[choice["head"]]
    targets = [TargetSpec(f"t{i}", kind) for i, kind in enumerate(kinds)]
    head = Head(targets, {t.name: 4 for t in targets}, regression_loss=choice["loss"])
    spec = MLPSpec(
        units=choice["units"], activation=choice["activation"], normalizer=choice["normalizer"],
        dropout=choice["dropout"], skip=choice["skip"],
    )  # fmt: skip
    inputs = choice["inputs"]
    network = MLP(spec, inputs, outputs=head.width, seed=seed, dtype=dtype)
    standardizer = Standardizer(horizon=choice["horizon"])
    step = Step(network, head, OPTIMIZERS[choice["optimizer"]], standardizer, dtype, choice["accumulate"])
    params = {n: p.detach().clone() for n, p in network.named_parameters()}
    buffers = {n: b.detach().clone() for n, b in network.named_buffers()}
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(events, inputs)) * np.arange(1, inputs + 1) + 2
    y = _labels(head, x, rng)
    if choice["missing"] in ("inputs", "both"):
        x[rng.random(x.shape) < 0.2] = np.nan
    if choice["missing"] in ("labels", "both"):
        for block in head.blocks:
            y[rng.random(events) < 0.3, block.columns] = np.nan
    learned = np.where(np.isnan(y).all(axis=1), Kind.PREDICT_OBSERVE, Kind.PREDICT_LEARN)
    late = (rng.random(events) < 0.1) & (learned == Kind.PREDICT_LEARN)
    learned[late] = Kind.LEARN
    state = step.init(params, buffers, inputs)
    return Case(step, state, Rows(x, y, np.arange(events)), learned.astype(np.int8))


def _labels(head, x, rng):
    y = np.full((len(x), head.width), np.nan)
    score = (x[:, 0] - 2) + 0.5 * (x[:, 1] - 4) * (x[:, 2] - 5) / 3 + 0.3 * rng.normal(size=len(x))
    for i, block in enumerate(head.blocks):
        shifted = score + 0.2 * i
        if block.target.kind == "binary":
            y[:, block.first] = shifted > 0
        elif block.target.kind == "regression":
            y[:, block.first] = 50 + 3 * shifted
        else:
            names = np.digitize(shifted, [-1.5, 0.0, 1.5])
            y[:, block.columns] = np.eye(4)[names]
    return y


def largest_difference(a, b):
    """The largest difference between two states, as a share of 1 + the largest number of its tensor, and where it is.

    Not of the number itself: what centred RMSprop divides by, or COCOB adds up, is the difference of larger ones.
    """
    worst, place = 0.0, ""
    for part, tensors in a.items():
        for name, t in tensors.items():
            u = b[part][name]
            assert u.dtype == t.dtype
            assert u.shape == t.shape
            if not t.is_floating_point():
                assert torch.equal(t, u), f"{part}.{name}: {t} and {u}"
            elif t.numel():
                assert torch.equal(t.isnan(), u.isnan()), f"{part}.{name}"
                size = 1 + t.abs().nan_to_num(0.0, posinf=0.0).max()
                d = ((t - u).abs() / size).nan_to_num(0.0).max().item()
                if d > worst:
                    worst, place = d, f"{part}.{name}"
    return worst, place
