"""Normalisers against slow oracles, forward and gradient, over many steps."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as fn

from streamnn.backward import differentiate, evaluate
from streamnn.context import Context
from streamnn.normalizers import NORMALIZERS, OnlineNorm, StreamingNorm, make_normalizer
from tests.oracles import OnlineNormOracle, StreamingNormOracle

UNITS = 3


class Alone(nn.Module):
    """A normaliser whose input is a parameter, so that its input's gradient can be read."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x, context):
        """The input given is not used."""
        return self.norm(self.x, context)


class Driver:
    """Runs training and evaluation passes of one normaliser."""

    def __init__(self, norm):
        self.network = Alone(norm)
        self.buffers = {f"norm.{name}": b for name, b in norm.named_buffers()}

    def train(self, x, dy, valid, updated=True):
        """One training pass: returns the output and the input's gradient, given the output's gradient."""
        self.network.x = nn.Parameter(torch.from_numpy(x))
        context = self._context(valid, updated, training=True)
        y, _, grads, self.buffers = differentiate(
            self.network, {"x": self.network.x}, self.buffers, None, context, lambda y: (y * torch.from_numpy(dy)).sum()
        )
        return y.numpy(), grads["x"].numpy()

    def evaluate(self, x):
        """One evaluation pass."""
        self.network.x = nn.Parameter(torch.from_numpy(x))
        context = self._context(np.ones(len(x), dtype=bool), False, training=False)
        return evaluate(self.network, {"x": self.network.x}, self.buffers, None, context).detach().numpy()

    def buffer(self, name):
        """A buffer as an array."""
        return self.buffers[f"norm.{name}"].numpy()

    def _context(self, valid, updated, *, training):
        return Context(
            training=training,
            valid=torch.from_numpy(valid),
            number=torch.zeros(len(valid), dtype=torch.int64),
            updated=torch.tensor(updated),
        )


def batches(rows, steps, *, masked=False, seed=0):
    """Drifting activations and gradients of their outputs; some rows are padding, with a wild value and no gradient."""
    rng = np.random.default_rng(seed)
    for step in range(steps):
        x = rng.normal(size=(rows, UNITS), scale=[0.5, 1, 3], loc=[0, 2, -step / 10])
        dy = rng.normal(size=(rows, UNITS), loc=[0.5, 0, -0.2])
        valid = np.ones(rows, dtype=bool)
        if masked:
            valid = rng.random(rows) < 0.7
            valid[rng.integers(rows)] = True
            x[~valid], dy[~valid] = 1e3, 0.0
        yield x, dy, valid


MIXES = [
    ((0.7, 0.3, 0.0), (0.7, 0.0, 0.3), (0.7, 0.3)),
    ((0.5, 0.5, 0.0), (0.5, 0.5, 0.0), (0.9, 0.1)),
    ((0.4, 0.4, 0.2), (0.2, 0.5, 0.3), (0.5, 0.5)),
]


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_streaming_norm_follows_its_oracle(p, mix, every, rows):
    """Outputs and gradients are the oracle's, with an update after every pass or every third, and with padding."""
    alpha, beta, kappa = mix
    driver = Driver(StreamingNorm(UNITS, p=p, alpha=alpha, beta=beta, kappa=kappa))
    oracle = StreamingNormOracle(p, alpha, beta, kappa)
    for step, (x, dy, valid) in enumerate(batches(rows, 30, masked=rows > 1)):
        updated = step % every == 0
        want = oracle.forward(x, valid, updated)
        want_dx = oracle.backward(dy)
        got, got_dx = driver.train(x, dy, valid, updated)
        np.testing.assert_allclose(got[valid], want[valid], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got_dx[valid], want_dx[valid], rtol=1e-7, atol=1e-9)
    for name in ("mean", "power"):
        np.testing.assert_allclose(driver.buffer(f"long_{name}"), oracle.long[name], rtol=1e-9)
        np.testing.assert_allclose(driver.buffer(f"short_{name}"), np.mean(oracle.short[name], axis=0), rtol=1e-9)
        np.testing.assert_allclose(driver.buffer(f"long_gradient_{name}"), oracle.long[f"{name} gradient"], rtol=1e-6)
    assert driver.buffer("passes") == len(oracle.short["mean"]) == (every if every == 3 else 1)


@pytest.mark.parametrize("p", [1.0, 1.5, 2.0, 3.0])
def test_streaming_norm_without_history_is_batch_norm(p):
    """Short-term statistics of one micro-batch and present gradients alone: batch normalisation by autograd."""
    driver = Driver(StreamingNorm(UNITS, p=p, alpha=(0.0, 1.0, 0.0), beta=(0.0, 0.0, 1.0)))
    for x, dy, valid in batches(6, 5):
        leaf = torch.from_numpy(x).requires_grad_()
        if p == 2:
            want = fn.batch_norm(leaf, None, None, training=True, eps=1e-5)
        else:
            d = leaf - leaf.mean(0)
            want = d / ((d.abs() ** p).mean(0) + 1e-5) ** (1 / p)
        (want * torch.from_numpy(dy)).sum().backward()
        got, got_dx = driver.train(x, dy, valid)
        np.testing.assert_allclose(got, want.detach().numpy(), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got_dx, leaf.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize(("f", "b"), [(0.999, 0.99), (0.9, 0.8)])
def test_online_norm_follows_its_oracle(f, b, rows):
    """Outputs, gradients and control variables are the oracle's, row by row, with padding."""
    driver = Driver(OnlineNorm(UNITS, forward_decay=f, backward_decay=b))
    oracle = OnlineNormOracle(UNITS, f, b)
    for x, dy, valid in batches(rows, 60, masked=rows > 1):
        want = oracle.forward(x, valid)
        np.testing.assert_allclose(driver.buffer("u") + driver.buffer("gradient_u"), oracle.u, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(driver.buffer("v") + driver.buffer("gradient_v"), oracle.v, rtol=1e-7, atol=1e-9)
        want_dx = oracle.backward(dy)
        got, got_dx = driver.train(x, dy, valid)
        np.testing.assert_allclose(got[valid], want[valid], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(got_dx[valid], want_dx[valid], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(driver.buffer("mean"), oracle.mean, rtol=1e-9)
    np.testing.assert_allclose(driver.buffer("var"), oracle.var, rtol=1e-9)


def test_online_norm_controls_the_gradient():
    """In the long run outputs have mean 0 and deviation 1, and gradients are orthogonal to 1 and to the output."""
    rng = np.random.default_rng(5)
    driver, kept = Driver(OnlineNorm(UNITS, forward_decay=0.99, backward_decay=0.9)), []
    for step in range(2500):
        x = 2 + 3 * rng.normal(size=(1, UNITS))
        y, dx = driver.train(x, rng.normal(size=(1, UNITS)) + 1 + 0.3 * x, np.array([True]))
        if step >= 500:
            kept.append((y[0], dx[0], (x[0] - 2) / 3))
    y, dx, normal = (np.array(part) for part in zip(*kept, strict=True))
    assert np.abs(y.mean(axis=0)).max() < 0.05
    assert np.abs(dx.mean(axis=0)).max() < 0.01
    assert np.abs((dx * normal).mean(axis=0)).max() < 0.02


def test_online_norm_survives_outliers():
    """Three hundred values 100 deviations away do not make the control variables explode."""
    driver = Driver(OnlineNorm(UNITS))
    for step in range(300):
        x = np.full((1, UNITS), 100.0 * (-1) ** step)
        _, dx = driver.train(x, np.ones((1, UNITS)), np.array([True]))
        assert np.abs(dx).max() < 1e3


@pytest.mark.parametrize("name", NORMALIZERS)
def test_evaluation_changes_nothing_and_is_finite_from_the_start(name):
    """Evaluation passes before, between and after training leave no trace, and one sample is always enough."""
    asked, quiet = Driver(make_normalizer(name, UNITS)), Driver(make_normalizer(name, UNITS))
    for x, dy, valid in batches(1, 20):
        assert np.isfinite(asked.evaluate(10 * x)).all()
        for driver in (asked, quiet):
            driver.train(x, dy, valid)
    assert all(torch.equal(b, quiet.buffers[n]) for n, b in asked.buffers.items())
    np.testing.assert_array_equal(asked.evaluate(x), quiet.evaluate(x))


@pytest.mark.parametrize("name", NORMALIZERS)
def test_training_depends_on_valid_rows_only(name):
    """What stands in a padding row, NaN included, changes neither buffers nor the gradients of other rows."""
    zeros, wild = Driver(make_normalizer(name, UNITS)), Driver(make_normalizer(name, UNITS))
    for x, dy, valid in batches(4, 20, masked=True):
        x[~valid] = 0.0
        _, want = zeros.train(x, dy, valid)
        x[~valid] = np.nan
        dy[~valid] = 0.0
        _, got = wild.train(x, dy, valid)
        np.testing.assert_array_equal(got[valid], want[valid])
    assert all(torch.equal(b, wild.buffers[n]) for n, b in zeros.buffers.items())


@pytest.mark.parametrize("name", NORMALIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_statistics_are_float64_and_outputs_as_the_inputs(name, dtype):
    """Buffers are float64 (or counts) whatever the network's precision, and stay so; outputs keep it."""
    driver = Driver(make_normalizer(name, UNITS))
    for x, dy, valid in batches(1, 3):
        y, dx = driver.train(x.astype(dtype), dy.astype(dtype), valid)
        assert y.dtype == dx.dtype == dtype
        assert driver.evaluate(x.astype(dtype)).dtype == dtype
    assert all(b.dtype in (torch.float64, torch.int64) for b in driver.buffers.values())


def test_rowwise_norms_are_their_formulas():
    """Layer normalisation is torch's; RMS normalisation divides by the root mean square; none hands on."""
    for x, dy, valid in batches(4, 3):
        leaf = torch.from_numpy(x)
        formulas = {
            "layer": fn.layer_norm(leaf, (UNITS,)),
            "rms": leaf / torch.sqrt((leaf**2).mean(1, keepdim=True) + 1e-5),
            "none": leaf,
        }
        for name, want in formulas.items():
            got, _ = Driver(make_normalizer(name, UNITS)).train(x, dy, valid)
            np.testing.assert_allclose(got, want.numpy(), rtol=1e-12)


def test_settings_are_checked():
    """Wrong settings are refused with name, value and range."""
    with pytest.raises(ValueError, match=r"alpha is \(0.5, 0.2, 0.0\), but must be weights"):
        StreamingNorm(UNITS, alpha=(0.5, 0.2, 0.0))
    with pytest.raises(ValueError, match=r"beta is \(-0.1, 0.8, 0.3\)"):
        StreamingNorm(UNITS, beta=(-0.1, 0.8, 0.3))
    with pytest.raises(ValueError, match=r"p is 0\.5, but must be at least 1"):
        StreamingNorm(UNITS, p=0.5)
    with pytest.raises(ValueError, match=r"backward_decay is 1\.0"):
        OnlineNorm(UNITS, backward_decay=1.0)
    with pytest.raises(ValueError, match="normalizer is 'batch'; use one of none, layer, rms, streaming, online"):
        make_normalizer("batch", UNITS)
