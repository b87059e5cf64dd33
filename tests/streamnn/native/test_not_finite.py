"""NaN, infinities and the sign of 0 in reductions, products and pooling: where torch has them, and nowhere else."""

import numpy as np
import pytest
import torch
from torch.nn import functional as fn

from tests.streamnn.native.helpers import assert_same, native

NAN, INF = float("nan"), float("inf")
ROWS, COLUMNS = 18, 21  # more than a register holds, and no multiple of one


def hard(dtype, seed=0):
    """A matrix [ROWS, COLUMNS] with rows for every case; what comes at the first place of a row may be its only one."""
    x = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    for i, value in enumerate((NAN, INF, -INF)):
        for j, place in enumerate((0, COLUMNS // 2, COLUMNS - 1)):
            x[3 * i + j, place] = value
    x[9], x[10], x[11] = NAN, INF, -INF
    x[12, 2], x[12, -2] = INF, -INF
    x[13, 0], x[13, 5], x[13, -1] = NAN, INF, NAN
    x[14, 0], x[14, 5], x[14, -1] = INF, NAN, -INF
    x[15], x[16] = 0.0, -0.0
    return x


REDUCTIONS = {
    "sum": lambda x, d: x.sum(d), "mean": lambda x, d: x.mean(d), "amax": lambda x, d: x.amax(d),
    "amin": lambda x, d: x.amin(d), "argmax": lambda x, d: x.argmax(d), "argmin": lambda x, d: x.argmin(d),
    "max": lambda x, d: x.max(d)[0], "where max": lambda x, d: x.max(d)[1], "min": lambda x, d: x.min(d)[0],
    "where min": lambda x, d: x.min(d)[1], "std": lambda x, d: x.std(d), "var": lambda x, d: x.var(d, correction=0),
    "prod": lambda x, d: x.prod(d), "cumsum": lambda x, d: x.cumsum(d), "norm": lambda x, d: x.norm(dim=d),
    "norm1": lambda x, d: x.norm(p=1, dim=d), "norm3": lambda x, d: x.norm(p=3, dim=d),
    "norm0": lambda x, d: torch.linalg.vector_norm(x, 0, dim=d), "largest": lambda x, d: x.norm(p=INF, dim=d),
    "least": lambda x, d: torch.linalg.vector_norm(x, -INF, dim=d), "any": lambda x, d: (x > 1).any(d),
    "all": lambda x, d: x.bool().all(d), "logsumexp": lambda x, d: x.logsumexp(d), "softmax": lambda x, d: x.softmax(d),
    "log_softmax": lambda x, d: x.log_softmax(d),
}  # fmt: skip
LAID = {
    "rows": lambda x: (x, 1),
    "columns": lambda x: (x, 0),
    "turned rows": lambda x: (x.t(), 0),
    "turned columns": lambda x: (x.t(), 1),
    "middle": lambda x: (x.reshape(2, ROWS // 2, COLUMNS), 1),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_reductions_along_rows_and_columns(dtype):
    """Wherever NaN and infinities stand, and if there is nothing else, results and places are torch's."""
    x = hard(dtype)

    def run(x):
        return [f(*laid(x)) for laid in LAID.values() for f in REDUCTIONS.values()]

    names = [f"{name} of {laid}" for laid in LAID for name in REDUCTIONS]
    tight = dtype == torch.float64
    assert_same(native(run, x), run(x), names=names, rtol=1e-12 if tight else 1e-5, atol=1e-13 if tight else 1e-6)


def test_places_of_integers():
    """Largest and least integers are found too where their negatives are not integers, or have no sign."""
    least = torch.iinfo(torch.int64).min
    x, y = (
        torch.tensor([[3, least, 0], [least, least + 1, 7]]),
        torch.tensor([[3, 0, 255], [0, 1, 0]], dtype=torch.uint8),
    )

    def run(*tensors):
        return [f(t) for t in tensors for f in (lambda t: t.argmin(1), lambda t: t.argmax(1), lambda t: t.min(0)[0])]

    assert_same(native(run, x, y), run(x, y))


def test_a_zero_keeps_its_sign():
    """Where only one 0 can be meant: the first of a running sum, a product, the largest or least of equal ones."""
    x = torch.full((5, 9), -0.0)

    def run(x):
        found = [x.cumsum(1)[:, 0], x.prod(1), x.amax(1), x.amin(0), x.max(0)[0], x.min(1)[0], x.sum(1)[:, None] * x]
        return [*found, *fn.max_pool2d(x[None, None], 2, return_indices=True)[:1], x * 2, x.clamp(max=1.0)]

    for got, want in zip(native(run, x), run(x), strict=True):
        np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(torch.signbit(got), torch.signbit(want))


PRODUCTS = {
    "mv": lambda x, y, v, w: x @ v, "vm": lambda x, y, v, w: w @ x, "mm": lambda x, y, v, w: x @ y,
    "mm turned": lambda x, y, v, w: y.t() @ x.t(), "with itself": lambda x, y, v, w: x @ x.t(),
    "addmm": lambda x, y, v, w: torch.addmm(x[:, :5], x, y), "scaled": lambda x, y, v, w: torch.addmm(x[:, :5], x, y, beta=0.5, alpha=2.0),
    "beta 0": lambda x, y, v, w: torch.addmm(x[:, :5], w[:, None], v[None, :5], beta=0),
    "addmv": lambda x, y, v, w: torch.addmv(x[:, 0], x, v), "linear": lambda x, y, v, w: fn.linear(x, y.t(), y[0]),
    "bmm": lambda x, y, v, w: torch.bmm(x.reshape(2, ROWS // 2, COLUMNS), torch.stack([y, y * 2])),
    "outer": lambda x, y, v, w: torch.outer(x[:, 0], v), "dot": lambda x, y, v, w: torch.stack([row @ v for row in x]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products(dtype):
    """A row or column that holds NaN, or an infinity that meets 0 or its opposite, gives NaN; else infinity or a number."""
    generator = torch.Generator().manual_seed(1)
    y, v, w = (torch.randn(*n, generator=generator, dtype=dtype) for n in ((COLUMNS, 5), (COLUMNS,), (ROWS,)))
    y[3, 1] = y[-1, 3] = v[COLUMNS // 2] = w[4] = 0.0
    given = (hard(dtype), y, v, w)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12

    def run(*tensors):
        return [f(*tensors) for f in PRODUCTS.values()]

    assert_same(native(run, *given), run(*given), names=list(PRODUCTS), rtol=tolerance, atol=tolerance)


POOLS = {
    "max": lambda x: fn.max_pool2d(x, 2, return_indices=True),
    "overlapping": lambda x: fn.max_pool2d(x, 3, stride=1, padding=1, return_indices=True),
    "dilated": lambda x: fn.max_pool2d(x, 2, stride=1, dilation=2, return_indices=True),
    "ceil": lambda x: fn.max_pool2d(x, (2, 3), ceil_mode=True, return_indices=True),
    "alone": lambda x: fn.max_pool2d(x, 1, return_indices=True),
    "average": lambda x: (fn.avg_pool2d(x, 2),),
    "average padded": lambda x: (fn.avg_pool2d(x, 3, stride=2, padding=1),),
}


def test_pooling():
    """Windows with NaN and infinities, all of them or some, give torch's values, places and gradients."""
    x = hard(torch.float64)
    x[10:12, :4], x[0:2, 8:10] = -INF, NAN  # whole windows, and more than one NaN in others

    def run(x):
        found = []
        for pool in POOLS.values():
            leaf = x.detach().requires_grad_()
            out, *place = pool(leaf)
            (grad,) = torch.autograd.grad(
                out, [leaf], torch.arange(1.0, 1 + out.numel(), dtype=x.dtype).reshape(out.shape)
            )
            found += [out.detach(), *place, grad]
        return found

    names = [f"{name} {what}" for name in POOLS for what in ("value", *["place"] * ("average" not in name), "gradient")]
    assert_same(native(run, x[None]), run(x[None]), names=names)
