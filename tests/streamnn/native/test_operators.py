"""Every operator with a lowering against torch, on ordinary numbers, ties, NaN, infinities and signed zeros."""

import re

import numpy as np
import pytest
import torch
from torch.nn import functional as fn

from streamnn.native import UnsupportedOperatorError
from tests.streamnn.native.helpers import assert_same, call, compile_function, native

NAN, INF = float("nan"), float("inf")
HARD = [
    NAN,
    INF,
    -INF,
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    2.5,
    -2.5,
    3.5,
    1e-3,
    -1e-3,
    7.0,
    -7.0,
    20.0,
    -20.0,
    90.0,
    -90.0,
]

UNARY = {
    "neg": torch.neg, "exp": torch.exp, "exp2": torch.exp2, "log": torch.log, "log1p": torch.log1p, "log2": torch.log2,
    "expm1": torch.expm1, "sqrt": torch.sqrt, "rsqrt": torch.rsqrt, "tanh": torch.tanh, "sin": torch.sin,
    "cos": torch.cos, "erf": torch.erf, "sigmoid": torch.sigmoid, "relu": torch.relu, "abs": torch.abs,
    "reciprocal": torch.reciprocal, "sign": torch.sign, "floor": torch.floor, "ceil": torch.ceil, "trunc": torch.trunc,
    "round": torch.round, "square": torch.square, "isnan": torch.isnan, "isinf": torch.isinf,
    "isfinite": torch.isfinite, "logical_not": torch.logical_not, "clamp": lambda x: x.clamp(-1, 2),
    "clamp_min": lambda x: x.clamp(min=0.5), "clamp_max": lambda x: x.clamp(max=0.5), "pow2": lambda x: x**2,
    "pow3": lambda x: x**3, "pow_half": lambda x: x**0.5, "pow_minus_half": lambda x: x**-0.5, "pow1.7": lambda x: x**1.7,
    "2pow": lambda x: 2.0**x, "nan_to_num": lambda x: x.nan_to_num(0.5, 3.0, -3.0), "where": lambda x: torch.where(x > 0, x, 0.1),
    "double": lambda x: x.double(), "int": lambda x: x.nan_to_num(0, 0, 0).long(), "bool": lambda x: x.bool(),
    "gelu": lambda x: fn.gelu(x.clamp(-90, 90)),  # at infinity torch itself gives inf or NaN, by processor
    "gelu_tanh": lambda x: fn.gelu(x, approximate="tanh"), "silu": fn.silu, "mish": fn.mish,
    "selu": fn.selu, "elu": fn.elu, "leaky_relu": fn.leaky_relu, "softplus": fn.softplus, "hardtanh": fn.hardtanh,
    "hardsigmoid": fn.hardsigmoid, "hardswish": fn.hardswish, "logsigmoid": fn.logsigmoid, "softsign": fn.softsign,
    "softmax": lambda x: fn.softmax(x, 0), "amax": torch.amax, "amin": torch.amin, "sum": torch.sum, "mean": torch.mean,
    "any": lambda x: (x > 1).any(), "all": lambda x: (x > -100).all(), "argmax": torch.argmax, "argmin": torch.argmin,
    "cumsum": lambda x: torch.cumsum(x.nan_to_num(0, 1, 1), 0), "max": lambda x: x.max(0)[1], "min": lambda x: x.min(0)[0],
    "flip": lambda x: x.flip(0) + x, "std": lambda x: x.nan_to_num(0, 1, 2).std(), "norm": lambda x: x[5:].norm(),
    "norm1": lambda x: x[5:].norm(p=1), "norm3": lambda x: x[5:].norm(p=3), "norminf": lambda x: x[5:].norm(p=INF),
    "count_nonzero": torch.count_nonzero, "logcumsum": lambda x: x[6:].abs().cumprod(0),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_operators_of_one_tensor(dtype):
    """Each operator and activation of one tensor gives torch's values, NaN and infinities included."""
    x = torch.tensor(HARD, dtype=dtype)
    got = native(lambda x: [f(x) for f in UNARY.values()], x)
    tight = dtype == torch.float64
    want = [f(x) for f in UNARY.values()]
    assert_same(got, want, names=list(UNARY), rtol=1e-13 if tight else 2e-6, atol=1e-15 if tight else 1e-7)


def test_operators_of_one_integer_tensor():
    """Integers wrap, shift and count as torch's do."""
    x = torch.tensor([-(2**63), -5, -1, 0, 1, 7, 2**62, 2**63 - 1])
    functions = {
        "mul": lambda x: x * 3935559000370003845, "add": lambda x: x + x, "neg": lambda x: -x, "xor": lambda x: x ^ 12345,
        "and": lambda x: x & 255, "or": lambda x: x | 6, "left": lambda x: x << 3, "right": lambda x: x >> 7, "not": lambda x: ~x,
        "abs": lambda x: x[1:].abs(), "sum": lambda x: x.sum(), "max": lambda x: x.max(), "float": lambda x: x.float(),
        "bool": lambda x: x.bool(), "sign": torch.sign, "eq": lambda x: x == 7, "clamp": lambda x: x.clamp(-2, 5),
        "div": lambda x: x / 7, "where": lambda x: torch.where(x > 0, x, 0), "mixed": lambda x: x * 0.5,
        "sumbool": lambda x: (x > 0).sum(), "prod": lambda x: x[1:].prod(), "square": lambda x: x**2,
        "remainder": lambda x: x % 7, "negative": lambda x: x % -3, "fmod": lambda x: torch.fmod(x, 3), "floor": lambda x: x // 4,
        "trunc": lambda x: torch.div(x, -4, rounding_mode="trunc"), "by": lambda x: 100 // (x % 5 + 1),
    }  # fmt: skip
    got = native(lambda x: [f(x) for f in functions.values()], x)
    assert_same(got, [f(x) for f in functions.values()], names=list(functions))


def test_integers_become_floating_point_numbers_exactly_or_rounded_once():
    """Over all sizes, at the edges of halves, and where two numbers are equally near; many at once and alone."""
    edges = [b + d for e in range(63) for b in (2**e, -(2**e)) for d in (-1, 0, 1)]
    ties = [(2**53 + i) * 2**e + d for e in range(10) for i in (1, 2, 3) for d in (-1, 0, 1)]
    x = torch.tensor([*edges, *ties, *(-t for t in ties), -(2**63), 2**63 - 1])
    (found, alone) = native(lambda x: [x.double() * 1.0, x[-3].double()], x)
    assert torch.equal(found, x.double())
    assert torch.equal(alone, x[-3].double())


BINARY = {
    "add": torch.add, "sub": torch.sub, "mul": torch.mul, "div": torch.div, "maximum": torch.maximum,
    "minimum": torch.minimum, "eq": torch.eq, "ne": torch.ne, "gt": torch.gt, "lt": torch.lt, "ge": torch.ge,
    "le": torch.le, "pow": torch.pow, "atan2": torch.atan2, "alpha": lambda x, y: torch.add(x, y, alpha=0.5),
    "rsub": lambda x, y: torch.rsub(x, y, alpha=2), "and": torch.logical_and, "or": torch.logical_or,
    "xor": torch.logical_xor, "where": lambda x, y: torch.where(x > y, x, y), "lerp": lambda x, y: torch.lerp(x, y, 0.3),
    "clamp": lambda x, y: torch.clamp(x, max=y), "floor": lambda x, y: torch.div(x, y, rounding_mode="floor"),
    "trunc": lambda x, y: torch.div(x, y, rounding_mode="trunc"), "huber": lambda x, y: fn.huber_loss(x, y, reduction="none"),
    "smooth": lambda x, y: fn.smooth_l1_loss(x, y, reduction="none"), "mse": lambda x, y: fn.mse_loss(x, y),
    "bce": lambda x, y: fn.binary_cross_entropy_with_logits(x, y, reduction="none"),
    "bce_weights": lambda x, y: fn.binary_cross_entropy_with_logits(x, y, y, pos_weight=torch.tensor(3.0)), "addcmul": lambda x, y: torch.addcmul(x, x, y, value=0.5),
    "fmod": torch.fmod, "remainder": torch.remainder, "floor_divide": torch.floor_divide,
    "outer": torch.outer, "xlogy": lambda x, y: torch.xlogy(x, y.abs()), "masked": lambda x, y: x.masked_fill(y > 0, -1.0),
}  # fmt: skip


def test_operators_of_two_tensors():
    """Each operator of two tensors gives torch's values for all pairs of ordinary and extreme numbers."""
    x, y = (t.flatten() for t in torch.meshgrid(torch.tensor(HARD), torch.tensor(HARD), indexing="ij"))
    small = {n: f for n, f in BINARY.items() if n not in ("outer", "bce")}
    got = native(lambda x, y: [f(x, y) for f in small.values()], x, y)
    assert_same(got, [f(x, y) for f in small.values()], names=list(small), rtol=2e-6)
    # the difference of a number and a product of nearly its size: rounded once here, twice in torch
    assert_same(native(lambda x, y: [BINARY["bce"](x, y)], x, y), [BINARY["bce"](x, y)], rtol=2e-6, atol=90 * 2**-24)


def _truths(x, y, n):
    """Truth values of numbers of 8, 4 and 1 bytes that meet: stored, counted, converted, chosen by, folded."""
    a, b, c = x > 0, y < 0.5, n != 2
    both, some, odd = a & b, torch.logical_or(b, c), a ^ ~c
    return [
        both, some, odd, torch.where(a, b, c), a == b, torch.maximum(b, c), both.to(x.dtype), some.float(), odd.long(),
        b.to(torch.uint8), torch.where(both, x, 1.0), torch.where(some, y, -0.0), torch.where(odd, n, 7), a.sum(), b.sum(-1),
        (both * x).sum(), a.all(), odd.any(-1), torch.where(torch.isnan(x), 0.0, x).cumsum(0), (x.isnan() | y.isinf()) & c,
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(), (3,), (40,), (5, 17)])
def test_truth_values_of_numbers_of_all_widths(shape):
    """Comparisons of doubles, floats and bytes go together in one loop as in torch."""
    torch.manual_seed(1)
    x, y = torch.randn(shape, dtype=torch.float64), torch.randn(shape)
    x, y = torch.where(x > 1.5, torch.nan, x), torch.where(y > 1.5, torch.inf, y)
    n = torch.randint(0, 4, shape, dtype=torch.uint8)
    assert_same(native(_truths, x, y, n), _truths(x, y, n), rtol=1e-6, atol=1e-6)


def test_a_count_of_one_row_is_a_constant_where_it_is_raised_to_one():
    """One row's count is 0 or 1: at least 1 is 1, above 0 is the row's own truth value."""

    def counted(x):
        known = ~x.isnan()
        count = known.long()
        return [
            x / count.clamp(min=1),
            torch.where(count > 0, count, 1),
            count > 0,
            count.clamp(min=2),
            count.clamp(0, 0),
        ]

    x = torch.tensor([1.5, torch.nan, -2.0])
    assert_same(native(counted, x), counted(x))


def test_types_are_promoted_as_in_torch():
    """Mixed operands are converted as torch converts them: a number or a 0-dimensional tensor gives way to an array."""
    f, d, i, b = torch.tensor([0.1, 16777217.0, -3.0]), torch.tensor([0.1, 2.0, -3.0], dtype=torch.float64), torch.tensor([1, 16777217, -3]), torch.tensor([True, False, True])  # fmt: skip
    zero = torch.tensor(0.1, dtype=torch.float64)
    functions = [
        lambda f, d, i, b, z: f + d, lambda f, d, i, b, z: f * z, lambda f, d, i, b, z: f == z, lambda f, d, i, b, z: f < d,
        lambda f, d, i, b, z: i * f, lambda f, d, i, b, z: i == f, lambda f, d, i, b, z: b * f, lambda f, d, i, b, z: b + i,
        lambda f, d, i, b, z: torch.where(b, f, d), lambda f, d, i, b, z: b & (i > 0), lambda f, d, i, b, z: ~b,
        lambda f, d, i, b, z: i / 2, lambda f, d, i, b, z: i > 0.5, lambda f, d, i, b, z: b == 1, lambda f, d, i, b, z: b.sum(),
        lambda f, d, i, b, z: i.sum() * z, lambda f, d, i, b, z: f.sum(dtype=torch.float64), lambda f, d, i, b, z: i.clamp(max=2.5),
        lambda f, d, i, b, z: torch.where(f > 0, 1, 0), lambda f, d, i, b, z: torch.where(f > 0, f, 0.0), lambda f, d, i, b, z: -b.float(),
    ]  # fmt: skip
    got = native(lambda *a: [f(*a) for f in functions], f, d, i, b, zero)
    assert_same(got, [g(f, d, i, b, zero) for g in functions])


REDUCTIONS = {
    "all": lambda x: x.sum(), "first": lambda x: x.sum(0), "middle": lambda x: x.sum(1), "last": lambda x: x.sum(2),
    "outer two": lambda x: x.sum((0, 1)), "inner two": lambda x: x.sum((1, 2)), "outside": lambda x: x.sum((0, 2)),
    "keep": lambda x: x - x.mean(2, keepdim=True), "amax": lambda x: x.amax(1), "amin": lambda x: x.amin((0, 2)),
    "argmax": lambda x: x.argmax(1), "argmax last": lambda x: x.argmax(2), "prod": lambda x: x.prod(2),
    "any": lambda x: (x > 1).any(1), "all true": lambda x: (x > -1).all(0), "max": lambda x: x.max(1)[0],
    "max index": lambda x: x.max(2)[1], "min index": lambda x: x.min(0)[1], "var": lambda x: x.var(2),
    "logsumexp": lambda x: x.logsumexp(1), "softmax": lambda x: x.softmax(0), "log_softmax": lambda x: x.log_softmax(2),
    "transposed": lambda x: x.transpose(0, 2).sum(1), "sliced": lambda x: x[:, 1:, ::2].sum((0, 1)),
    "mixed": lambda x: (x.exp() * x[:, :1]).sum(1) + x.mean(1), "cumsum": lambda x: x.cumsum(1),
    "product": lambda x: (x[:, :, :1] * x[:, :1, :]).sum((1, 2)), "abs product": lambda x: (x[:, :, :1] * x[:1, :1, :]).abs().sum(2),
    "scaled": lambda x: (x[0, :, :1] * x[0, :1, :]).abs().sum(0), "both": lambda x: (x[0, :, :1] * x[0, :1, :]).sum(),
}  # fmt: skip


def test_reductions_over_every_dimension():
    """Sums, means, extremes and their places along any dimensions, of whole arrays and of views."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 5, 7, generator=generator, dtype=torch.float64)
    got = native(lambda x: [f(x) for f in REDUCTIONS.values()], x)
    assert_same(got, [f(x) for f in REDUCTIONS.values()], names=list(REDUCTIONS), rtol=1e-12, atol=1e-13)


PRODUCTS = {
    "mv": lambda w, x, y: w @ x, "vm": lambda w, x, y: y @ w, "outer": lambda w, x, y: torch.outer(y, x),
    "mm": lambda w, x, y: w @ w.t(), "mtm": lambda w, x, y: w.t() @ w, "linear": lambda w, x, y: fn.linear(x[None], w, y),
    "dot": lambda w, x, y: x @ x, "einsum": lambda w, x, y: torch.einsum("oi,i,o->", w, x, y),
    "bmm": lambda w, x, y: torch.bmm(w[None].expand(2, -1, -1), w.t()[None].expand(2, -1, -1)),
    "slice": lambda w, x, y: w[:, 1:] @ x[1:], "step": lambda w, x, y: w[::2] @ x, "chain": lambda w, x, y: (w @ x) @ w,
    "batch": lambda w, x, y: torch.relu(w) @ w.t()[:, :3], "transposed batch": lambda w, x, y: w.t() @ (w + 1),
    "addmm": lambda w, x, y: torch.addmm(y[:, None], w, w.t(), beta=0.5, alpha=2.0),
    "heads": lambda w, x, y: torch.einsum("hi,ki->hk", w, w).softmax(-1) @ w,
}  # fmt: skip


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (7, 9), (8, 64), (33, 17), (64, 8), (70, 130)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_of_every_shape(dtype, rows, columns):
    """Products of matrices and vectors agree with torch, whether sizes are multiples of a register or not."""
    generator = torch.Generator().manual_seed(rows)
    w = torch.randn(rows, columns, generator=generator, dtype=dtype)
    x, y = torch.randn(columns, generator=generator, dtype=dtype), torch.randn(rows, generator=generator, dtype=dtype)
    got = native(lambda *a: [f(*a) for f in PRODUCTS.values()], w, x, y)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    want = [f(w, x, y) for f in PRODUCTS.values()]
    assert_same(got, want, names=list(PRODUCTS), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products_with_a_matrix_too_large_for_the_nearest_cache(dtype):
    """A matrix that is read row by row, once, gives torch's products too, whatever is left over at its edges."""
    generator = torch.Generator().manual_seed(1)
    w, x, y = (torch.randn(*n, generator=generator, dtype=dtype) for n in ((151, 263), (263,), (151,)))
    functions = [lambda w, x, y: w @ x, lambda w, x, y: y @ w, lambda w, x, y: fn.linear(x[None], w, y)]
    got = native(lambda *a: [f(*a) for f in functions], w, x, y)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-12
    assert_same(got, [f(w, x, y) for f in functions], rtol=tolerance, atol=tolerance)


MOVES = {
    "cat": lambda x, i: torch.cat([x, x[:1] * 2, x[:, :3].new_ones(2, 6)]), "cat1": lambda x, i: torch.cat([x[:, :2], x], 1),
    "stack": lambda x, i: torch.stack([x, -x], 1), "stack last": lambda x, i: torch.stack([x[0], x[1]], -1),
    "pad": lambda x, i: fn.pad(x, (1, 2, 0, 1), value=3.0), "crop": lambda x, i: fn.pad(x, (-1, 2)),
    "pad crop": lambda x, i: fn.pad(x, (-2, -1, 1, -1)), "flip": lambda x, i: x.flip(0, 1), "roll": lambda x, i: x.roll(2, 1),
    "gather": lambda x, i: x.gather(0, i), "index": lambda x, i: x[i[0]], "index negative": lambda x, i: x[i[0] - 4],
    "index two": lambda x, i: x[i[0], i[1]], "index last": lambda x, i: x[:, i[0]], "select": lambda x, i: x.index_select(1, i[0]),
    "index apart": lambda x, i: x[:, None].expand(4, 3, 6)[i[0], :, i[1]], "take": lambda x, i: x.take_along_dim(i, 0),
    "scatter": lambda x, i: x.scatter(0, i, x * 2), "scatter value": lambda x, i: x.scatter(0, i, 9.0),
    "scatter add": lambda x, i: x.scatter_add(0, i, x), "index add": lambda x, i: x.index_add(0, i[0, :3], x[:3]),
    "index put": lambda x, i: x.index_put((i[0, :2],), x[:2]), "accumulate": lambda x, i: x.index_put((i[0],), x[0], accumulate=True),
    "index put two": lambda x, i: x.index_put((i[0, :1], i[1, :1]), x[0, :1] * 5), "embedding": lambda x, i: fn.embedding(i, x),
    "put column": lambda x, i: torch.index_put(x, (torch.tensor([0, 1]), i[0, :2]), torch.tensor(1.5)),
    "slice scatter": lambda x, i: torch.slice_scatter(x, x[:2] * 3, 0, 1, 3), "select scatter": lambda x, i: torch.select_scatter(x, x[0] * 3, 0, 2),
    "arange": lambda x, i: torch.arange(6) * x, "linspace": lambda x, i: x + torch.arange(0.5, 3.5, 0.5),
    "tril": lambda x, i: x.tril(), "triu": lambda x, i: x.triu(1), "repeat": lambda x, i: x.repeat(2, 1), "tile": lambda x, i: x[:1].expand(3, 6) + x[:3],
    "unfold": lambda x, i: x.unfold(1, 3, 2).sum(-1), "diagonal": lambda x, i: x.diagonal() * 2, "unbind": lambda x, i: x.unbind(0)[2] + x.unbind(1)[0][0],
    "view": lambda x, i: (x.t() * 2).reshape(3, 8), "chunk": lambda x, i: x.chunk(2, 1)[1] - x.chunk(2, 1)[0], "t view": lambda x, i: x.t().contiguous().view(4, 6),
    "eye": lambda x, i: torch.eye(4) @ x, "meshgrid": lambda x, i: torch.meshgrid(x[0], x[1], indexing="ij")[1],
    "constant": lambda x, i: x * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), "full": lambda x, i: torch.full_like(x, 2.0) * x,
}  # fmt: skip


@pytest.mark.parametrize("shape", [(), (5,), (3, 1)])
def test_a_factor_of_an_outer_product_is_multiplied_first(shape):
    """Wherever x is as small as a or b, x (a b) is (x a) b: then nothing of the product's size is multiplied twice."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    a, b = torch.randn(3), torch.randn(5)
    function = lambda x, a, b: [x * torch.outer(a, b), torch.outer(b, a).T * x]  # noqa: E731  # as short as it gets
    program = compile_function(function, x, a, b)
    assert_same(call(program, x, a, b), function(x, a, b))
    assert re.search(
        r"i0 < 3; i0\+\+\) {\nfor \(int64_t i1 = 0; i1 < 5; i1\+\+\) {\nfloat r0 = .*;\no\d", program.source
    )


def test_operators_that_move_elements():
    """Joining, padding, indexing, scattering and viewing put every element where torch puts it."""
    x = torch.arange(24.0).reshape(4, 6) + 0.5
    i = torch.tensor([[3, 0, 1, 1, 2, 3], [0, 1, 2, 3, 0, 0]])
    got = native(lambda x, i: [f(x, i) for f in MOVES.values()], x, i)
    assert_same(got, [f(x, i) for f in MOVES.values()], names=list(MOVES))


def test_an_index_outside_gives_nan_and_writes_nothing():
    """Where torch raises, the native code reads NaN (0 for integers) and leaves memory alone."""
    x, i = torch.arange(4.0), torch.tensor([0, 9, -7, 3])
    function = compile_function(lambda x, i: [x.gather(0, i), x.scatter(0, i, 5.0), i.gather(0, i)], x, torch.zeros(4, dtype=torch.int64))  # fmt: skip
    gathered, scattered, integers = call(function, x, i)
    np.testing.assert_array_equal(gathered, [0.0, NAN, NAN, 3.0])
    np.testing.assert_array_equal(scattered, [5.0, 1.0, 2.0, 5.0])
    np.testing.assert_array_equal(integers, [0, 0, 0, 3])


def _in_place(x):
    a = x.clone()
    a += 1
    a[0] = 5.0
    a[:, 1].mul_(2.0)
    b = a.t()
    b[2] -= a[:, 0]  # written through a view, seen through its base
    c = torch.zeros(4, 6)
    c[1:3, ::2] = x[:2, :3]
    c.view(-1)[::7] = -1.0
    d = torch.zeros(6)
    e = d
    e.add_(x[1])
    f = x.relu()
    f[f > 3] = 0.25
    g = torch.empty(3)
    g.copy_(x[0, :3])
    return [a, b, c, d, e, f, g, x]


def test_writing_in_place_is_seen_through_every_view():
    """Tensors changed in place, whole, in part or through views, hold what they hold in torch."""
    x = torch.arange(24.0).reshape(4, 6)
    assert_same(native(_in_place, x), _in_place(x.clone()))


def test_a_choice_on_a_value_is_refused_by_name():
    """Code that asks for a tensor's value while it is traced is not compiled into one of its branches."""
    with pytest.raises(UnsupportedOperatorError, match="_local_scalar_dense"):
        compile_function(lambda x: [x if x.sum() > 0 else -x], torch.ones(3))


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda x: [torch.rand(3) + x], "aten.rand"), (lambda x: [x.sort()[0]], "aten.sort"), (lambda x: [torch.linalg.inv(torch.eye(3) + x)], "linalg")],
)  # fmt: skip
def test_an_operator_without_a_lowering_is_named(function, name):
    """What cannot be lowered raises an error with the operator's name."""
    with pytest.raises(UnsupportedOperatorError, match=name):
        compile_function(function, torch.ones(3))
