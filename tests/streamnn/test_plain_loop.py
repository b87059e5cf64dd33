"""Sample mode against a loop in plain PyTorch, written without any of our parts.

The loop standardises with Python floats, holds an ordinary `nn.Module` and an ordinary `torch.optim` optimizer, and
learns each label when it arrives. Served probabilities must agree to 1e-9 over 1,000 events in float64.
"""

import math
from collections import deque

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as fn

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.networks import MLPSpec
from streamnn.operations import Kind, Operations
from streamnn.optimizers import Adam
from tests.oracles import PlainStreamingNorm
from tests.streamnn.helpers import numeric_stream

EVENTS, FEATURES, UNITS, RATE = 1000, 5, 16, 0.01


class PlainNetwork(nn.Module):
    """Linear, norm, relu, linear, and a linear path beside them."""

    def __init__(self, norm):
        super().__init__()
        self.hidden, self.norm = nn.Linear(FEATURES, UNITS).double(), norm
        self.out, self.beside = nn.Linear(UNITS, 1).double(), nn.Linear(FEATURES, 1, bias=False).double()

    def forward(self, x):
        h = self.hidden(x)
        h = fn.layer_norm(h, (UNITS,)) if self.norm is None else self.norm(h, training=self.training)
        return self.out(torch.relu(h)) + 0.3 * self.beside(x)


class Scaler:
    """Welford's mean and variance of each feature, in Python floats."""

    def __init__(self):
        self.n, self.mean, self.m2 = 0, [0.0] * FEATURES, [0.0] * FEATURES

    def added(self, x):
        n, mean, m2 = self.n + 1, [], []
        for i in range(FEATURES):
            value = x[i]
            if self.n >= 30 and self.m2[i] > 0:
                reach = 10 * math.sqrt(self.m2[i] / self.n)
                value = min(max(value, self.mean[i] - reach), self.mean[i] + reach)
            d = value - self.mean[i]
            mean.append(self.mean[i] + d / n)
            m2.append(self.m2[i] + d * (value - mean[i]))
        return n, mean, m2

    def observe(self, x):
        self.n, self.mean, self.m2 = self.added(x)

    def transform(self, x, *, own):
        n, mean, m2 = self.added(x) if own else (self.n, self.mean, self.m2)
        z = [(x[i] - mean[i]) / math.sqrt(m2[i] / n) if m2[i] > 0 else 0.0 for i in range(FEATURES)]
        return torch.tensor([[min(max(v, -5.0), 5.0) for v in z]], dtype=torch.float64)


class PlainLoop:
    """The whole of online learning with one binary target, as one would write it by hand."""

    def __init__(self, network):
        self.net, self.scaler = network, Scaler()
        self.optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.999))
        self.labels, self.positive_seen, self.entry = 0, False, 0.0

    def predict(self, x):
        if self.labels == 0:
            return math.nan
        if not self.positive_seen:
            return 0.0
        self.net.eval()
        with torch.no_grad():
            return torch.sigmoid(self.net(self.scaler.transform(x, own=True)) + self.entry).item()

    def learn(self, x, y, *, own):
        if y == 1 and not self.positive_seen:
            p = max(0.01, 1 / (self.labels + 2))
            self.entry, self.positive_seen = math.log(p / (1 - p)), True
        self.labels += 1
        self.net.train()
        logit = self.net(self.scaler.transform(x, own=own)) + self.entry
        self.optimizer.zero_grad()
        loss = fn.binary_cross_entropy_with_logits(logit, torch.tensor([[y]], dtype=torch.float64))
        (loss if self.positive_seen else 0.0 * logit.sum()).backward()
        self.optimizer.step()


def plain_run(network, columns, y, delay):
    """Predict every event; learn each label when it arrives."""
    loop, waiting, served = PlainLoop(network), deque(), []
    for n in range(EVENTS):
        x = [float(c[n]) for c in columns.values()]
        while waiting and waiting[0][0] + delay <= n:
            _, old, label = waiting.popleft()
            loop.learn(old, label, own=False)
        served.append(loop.predict(x))
        if delay == 0:
            loop.learn(x, float(y[n]), own=True)
        else:
            waiting.append((n, x, float(y[n])))
        loop.scaler.observe(x)
    return np.array(served)


def our_run(learner, columns, y, delay):
    """The same with our learner, all operations in one list."""
    rows, at = None, 0
    while at < EVENTS:  # the first call makes the network
        encoded = learner.encode({n: c[at:] for n, c in columns.items()}, {"t": y[at:]}, np.arange(at, EVENTS))
        rows, at = encoded.rows, at + len(encoded.rows)
    assert len(rows) == EVENTS
    listed = []
    for n in range(EVENTS):
        if delay == 0:
            listed.append((Kind.PREDICT_LEARN, n, n + 1))
            continue
        if n >= delay:
            listed.append((Kind.LEARN, n - delay, n - delay + 1))
        listed.append((Kind.PREDICT_OBSERVE, n, n + 1))
    return learner.run(rows, Operations.of(listed), rate=RATE).served[:, 0]


@pytest.mark.parametrize("delay", [0, 1, 25])
@pytest.mark.parametrize("normalizer", ["layer", "streaming"])
def test_sample_mode_equals_a_plain_loop(normalizer, delay):
    """Served probabilities agree to 1e-9, with labels at once and late, for layer and streaming normalisation."""
    columns, score = numeric_stream(EVENTS, features=FEATURES)
    y = (score > 0).astype(np.float64)
    learner = Learner(
        LearnerSpec(
            targets=(TargetSpec("t", "binary"),),
            network=MLPSpec(units=(UNITS,), normalizer=normalizer),
            optimizer=Adam(beta1=0.9, beta2=0.999),
            dtype="float64",
            seed=3,
        )
    )
    learner.declare(list(columns))
    learner.encode({n: c[:1] for n, c in columns.items()}, {"t": y[:1]}, np.arange(1))
    network = PlainNetwork(None if normalizer == "layer" else PlainStreamingNorm(UNITS))
    params = learner.state["params"]
    with torch.no_grad():
        network.hidden.weight.copy_(params["linears.0.weight"][:, :FEATURES])
        network.hidden.bias.copy_(params["linears.0.bias"])
        network.out.weight.copy_(params["output.weight"])
        network.out.bias.copy_(params["output.bias"])
        network.beside.weight.copy_(params["skip.weight"][:, :FEATURES])
    want = plain_run(network, columns, y, delay)
    got = our_run(learner, columns, y, delay)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    assert np.nanmax(np.abs(got - want)) < 1e-9
    late = slice(EVENTS // 2, None)
    # something was learned, so there was something to compare
    assert ((want[late] > 0.5) == (y[late] == 1)).mean() > 0.7
