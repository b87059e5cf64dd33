"""Small networks of every kind, and the events to run them on: a pairwise covering set.

A covering set holds every pair of choices of any two settings in at least one network.
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

Choice = dict[str, object]


def covering(seed):
    """A list of choices in which every two values of any two settings meet."""
    draw = random.Random(seed)
    names = list(SETTINGS)
    unmet = {
        (a, x, b, y)
        for a, b in itertools.permutations(names, 2)
        for x in range(len(SETTINGS[a]))
        for y in range(len(SETTINGS[b]))
    }
    found = []
    while unmet:
        a, x, b, y = min(unmet) if draw.random() < 0.5 else max(unmet)
        row = {a: x, b: y}
        rest = [n for n in names if n not in row]
        draw.shuffle(rest)
        for name in rest:  # each further setting takes the value that meets most partners for the first time
            gains = [sum((name, v, n, w) in unmet for n, w in row.items()) for v in range(len(SETTINGS[name]))]
            best = [v for v, gain in enumerate(gains) if gain == max(gains)]
            row[name] = draw.choice(best)
        unmet -= {(a, row[a], b, row[b]) for a, b in itertools.permutations(names, 2)}
        found.append({name: SETTINGS[name][row[name]] for name in names})
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
    """The largest difference between two states, as a share of 1 + size, and where it is."""
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
                d = ((t - u).abs() / (1 + t.abs())).nan_to_num(0.0).max().item()
                if d > worst:
                    worst, place = d, f"{part}.{name}"
    return worst, place
