"""Optimizers that are tried beside those of the package make the steps of their papers, and run as one network does."""

import warnings

import numpy as np
import pytest
import torch

from pipeline.bench.quality.runs import Job
from pipeline.bench.quality.streams import given
from tests.benchmarks.quality.rates import DoG, Hypergradient
from tests.benchmarks.quality.runs import run

RATE = torch.tensor(0.05, dtype=torch.float64)


def steps(optimizer, grads):
    """The weights [K + 1, 3] that gradients [K, 3] lead to, spread over two parameters."""
    w = {"a": torch.tensor([[1.0, -2.0]], dtype=torch.float64), "b": torch.tensor([0.5], dtype=torch.float64)}
    slots, found = optimizer.init(w, growing={}), [[1.0, -2.0, 0.5]]
    for g in grads:
        w, slots = optimizer.update({"a": torch.tensor(g[None, :2]), "b": torch.tensor(g[2:])}, slots, w, RATE)
        found.append([*w["a"][0].tolist(), *w["b"].tolist()])
    return np.array(found)


def test_dog_goes_as_far_as_it_has_been():
    """The step is the largest distance from the start over the root of all squared gradients."""
    grads = np.random.default_rng(0).normal(size=(40, 3))
    w = np.array([1.0, -2.0, 0.5])
    start, square, far, want = w.copy(), 0.0, 1e-6 * (1 + np.linalg.norm(w)), [w]
    for g in grads:
        far, square = max(far, np.linalg.norm(w - start)), square + g @ g
        w = w - far / np.sqrt(square + 1e-8) * g
        want.append(w)
    np.testing.assert_allclose(steps(DoG(), grads), want, rtol=1e-10)


def test_hypergradient_follows_the_product_of_gradients():
    """The rate grows where gradients agree with those before, shrinks where they do not, and never turns round."""
    grads = np.random.default_rng(1).normal(size=(40, 3)) + np.where(np.arange(40) < 20, 1.0, 0.0)[:, None]
    w, rate, before, want = np.array([1.0, -2.0, 0.5]), 0.05, np.zeros(3), [np.array([1.0, -2.0, 0.5])]
    for g in grads:
        rate = max(rate + 0.05 * (g @ before), 0.0)
        w, before = w - rate * g, g
        want.append(w)
    np.testing.assert_allclose(steps(Hypergradient(beta=0.05), grads), want, rtol=1e-10)


@pytest.mark.parametrize("learner", ["dog", "hypergradient"])
def test_they_run_in_the_place_of_sgd(learner, tmp_path):
    """In compiled code, with results of their own."""
    x = np.random.default_rng(8).normal(size=(300, 2))
    rows = [f"{a:.4f},{b:.4f},{'ud'[int(a > b)]}\n" for a, b in x]
    (tmp_path / "two.csv").write_text("p,q,way\n" + "".join(rows))
    stream = given(f"{tmp_path / 'two.csv'} --target way")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = {name: run(Job(name, stream, 300, 0))["log_loss"] for name in (learner, "sgd_fixed")}
    assert losses[learner] != losses["sgd_fixed"]
    assert losses[learner] < 0.72
