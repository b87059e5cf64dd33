"""How composite operators are broken down into those that have a lowering.

torch has such a table; some entries are our own: torch has none, or its own computes more than is needed, or loads
its compiler and SymPy, which takes more than a second at the start of every process; those of usual networks do not.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._decomp import core_aten_decompositions, get_decompositions

from streamnn.native.arrays import UnsupportedOperatorError

aten = torch.ops.aten


def _layer_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    dims = list(range(x.dim() - len(shape), x.dim()))
    mean = x.mean(dims, True)
    d = x - mean
    rstd = torch.rsqrt((d * d).mean(dims, True) + eps)
    y = d * rstd
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias), mean, rstd


def _layer_norm_backward(
    grad: Tensor, x: Tensor, shape: Sequence[int], mean: Tensor, rstd: Tensor,
    weight: Tensor | None, bias: Tensor | None, wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    outer, inner = list(range(x.dim() - len(shape))), list(range(x.dim() - len(shape), x.dim()))
    size = math.prod(shape)
    normal = (x - mean) * rstd
    d = grad if weight is None else grad * weight
    d_input = (rstd / size) * (d * size - d.sum(inner, True) - normal * (d * normal).sum(inner, True))
    d_weight, d_bias = (part.sum(outer) if outer else part for part in (grad * normal, grad))
    return (
        d_input if wanted[0] else None,
        d_weight if wanted[1] and weight is not None else None,
        d_bias if wanted[2] and bias is not None else None,
    )


def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    shifted = x - x.amax(dim, True)
    return shifted - shifted.exp().sum(dim, True).log()


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    e = (x - x.amax(dim, True)).exp()
    return e / e.sum(dim, True)


def _log_softmax_backward(grad: Tensor, y: Tensor, dim: int, input_dtype: torch.dtype) -> Tensor:
    return grad - y.exp() * grad.sum(dim, True)


def _binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, pos_weight: Tensor | None = None, reduction: int = 1
) -> Tensor:
    log_likelihood = torch.minimum(torch.zeros_like(x), x) - torch.log1p(torch.exp(-torch.abs(x)))
    if pos_weight is not None:
        log_likelihood = ((pos_weight - 1) * target + 1) * log_likelihood
    losses = (1 - target) * x - log_likelihood
    losses = losses if weight is None else losses * weight
    return losses if reduction == 0 else losses.mean() if reduction == 1 else losses.sum()


def _logsumexp(x: Tensor, dim: Sequence[int], keepdim: bool = False) -> Tensor:
    dims = tuple(dim)
    top = x.amax(dims, True)
    top = torch.where(top.abs() == float("inf"), 0.0, top)
    total: Tensor = (x - top).exp().sum(dims, keepdim).log()
    return total + (top if keepdim else top.squeeze(dims))


def _addmm(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    product = a.mm(b) if alpha == 1 else alpha * a.mm(b)
    if beta == 0:
        return product
    return (bias if beta == 1 else beta * bias) + product


def _masked_fill(x: Tensor, mask: Tensor, value: float) -> Tensor:
    return torch.where(mask, torch.as_tensor(value, dtype=x.dtype), x)


def _reversed_difference(x: Tensor, other: float, alpha: float = 1) -> Tensor:
    return torch.as_tensor(other, dtype=x.dtype) - (x if alpha == 1 else alpha * x)


def _threshold_backward(grad: Tensor, x: Tensor, threshold: float) -> Tensor:
    return torch.where(x <= threshold, 0.0, grad)


def _variance(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> Tensor:
    dims = list(range(x.dim())) if not dim else list(dim)
    d = x - x.mean(dims, True)
    size = 1
    for i in dims:
        size *= x.shape[i]
    return (d * d).sum(dims, keepdim) / max(size - (1 if correction is None else correction), 0)


def _variance_and_mean(
    x: Tensor, dim: Sequence[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    dims = list(range(x.dim())) if not dim else list(dim)
    return _variance(x, dim, correction=correction, keepdim=keepdim), x.mean(dims, keepdim)


def _vector_norm(
    x: Tensor, ord: float = 2, dim: Sequence[int] | None = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> Tensor:  # fmt: skip
    x = x if dtype is None else x.to(dtype)
    dims = list(range(x.dim())) if not dim else list(dim)
    if ord == 2:
        return (x * x).sum(dims, keepdim).sqrt()
    if ord == float("inf"):
        return x.abs().amax(dims, keepdim)
    if ord == float("-inf"):
        return x.abs().amin(dims, keepdim)
    if ord == 0:
        return (x != 0).to(x.dtype).sum(dims, keepdim)
    return x.abs().pow(ord).sum(dims, keepdim).pow(1 / ord) if ord != 1 else x.abs().sum(dims, keepdim)


def _cumsum(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    # torch begins at 0, so that no -0 comes out
    return _running(x if dtype is None else x.to(dtype), dim, lambda a, b: a + b) + 0


def _cumprod(x: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    return _running(x if dtype is None else x.to(dtype), dim, lambda a, b: a * b)


def _running(x: Tensor, dim: int, fold: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    if x.dim() == 0:
        return x.clone()
    x = x.to(torch.int64) if not x.is_floating_point() else x
    parts: list[Tensor] = []
    for row in x.unbind(dim):
        parts.append(fold(parts[-1], row) if parts else row)
    return torch.stack(parts, dim)


def _padded(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    size: Sequence[int], fill: float,
) -> Tensor:  # fmt: skip
    """Pad a plane on all sides so far that the last window fits."""
    pads: list[int] = []
    for d in (-1, 0):
        before = padding[d]
        reach = (size[d] - 1) * stride[d] + (kernel[d] - 1) * dilation[d] + 1
        pads += [before, max(reach - x.shape[-1 if d else -2] - before, 0)]
    return torch.constant_pad_nd(x, pads, fill)


def _taps(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], size: Sequence[int]
) -> list[Tensor]:
    """Look at a plane as one tensor of output size for each position in the window."""
    (oh, ow), (sh, sw), (dh, dw) = size, (stride[0], stride[-1]), (dilation[0], dilation[-1])
    return [
        x[..., i * dh : i * dh + (oh - 1) * sh + 1 : sh, j * dw : j * dw + (ow - 1) * sw + 1 : sw]
        for i in range(kernel[0])
        for j in range(kernel[-1])
    ]


def _max_pool(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,), ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Largest of each window and its place in the input's plane: of equal ones the first, of NaN the last."""
    step = stride or kernel
    size = _pooled(x, kernel, step, padding, dilation, ceil_mode)
    plane = torch.arange(x.shape[-2] * x.shape[-1]).reshape(x.shape[-2:])
    values, places = (
        _taps(_padded(t, kernel, step, padding, dilation, size, fill), kernel, step, dilation, size)
        for t, fill in ((x, -torch.inf), (plane, -1))
    )
    value, which = values[0].clone(), places[0].expand(values[0].shape).clone()
    for v, place in zip(values[1:], places[1:], strict=True):
        # where so far there was only padding, which is -inf as what lies inside may be too, anything is better
        better = (v > value) | torch.isnan(v) | (which < 0)
        value, which = torch.where(better, v, value), torch.where(better, place, which)
    return value, which


def _max_pool_backward(
    grad: Tensor, x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], ceil_mode: bool, index: Tensor,
) -> Tensor:  # fmt: skip
    flat = torch.zeros_like(x).flatten(-2)
    return flat.scatter_add(-1, index.flatten(-2), grad.flatten(-2)).reshape(x.shape)


def _pooled(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil: bool
) -> list[int]:  # fmt: skip
    size = []
    for d in (0, -1):
        n, k, s, p, t = x.shape[-1 if d else -2], kernel[d], stride[d], padding[d], dilation[d]
        reach = n + 2 * p - t * (k - 1) - 1
        out = -(-reach // s) + 1 if ceil else reach // s + 1
        if ceil and (out - 1) * s >= n + p:
            out -= 1
        size.append(out)
    return size


def _average_pool(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,), ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    if ceil_mode or (not count_include_pad and any(padding)):
        raise UnsupportedOperatorError("aten.avg_pool2d with ceil_mode, or without counting the padding,")
    step = stride or kernel
    size = _pooled(x, kernel, step, padding, (1,), False)
    taps = _taps(_padded(x, kernel, step, padding, (1,), size, 0.0), kernel, step, (1,), size)
    return torch.stack(taps, -1).sum(-1) / (divisor_override or len(taps))


def _average_pool_backward(
    grad: Tensor, x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    step, pad = stride or kernel, padding
    area = divisor_override or kernel[0] * kernel[-1]
    down = max((grad.shape[-2] - 1) * step[0] + kernel[0], x.shape[-2] + pad[0])
    right = max((grad.shape[-1] - 1) * step[-1] + kernel[-1], x.shape[-1] + pad[-1])
    wide = x.new_zeros([*x.shape[:-2], down, right])
    for tap in _taps(wide, kernel, step, (1,), grad.shape[-2:]):
        tap.add_(grad / area)
    return wide[..., pad[0] : pad[0] + x.shape[-2], pad[-1] : pad[-1] + x.shape[-1]]


# core_aten_decompositions() is a lazy mapping: as a dict it can be merged
DECOMPOSITIONS: dict[Any, Callable[..., Any]] = (
    dict(core_aten_decompositions())
    | get_decompositions(
        [
            aten.addmv, aten.mv, aten.dot, aten.gelu, aten.gelu_backward, aten.silu, aten.silu_backward, aten.mish,
            aten.mish_backward, aten.softplus, aten.softplus_backward, aten.elu, aten.elu_backward, aten.leaky_relu,
            aten.leaky_relu_backward, aten.hardtanh, aten.huber_loss, aten.tanh_backward, aten.sigmoid_backward,
            aten._softmax_backward_data, aten.native_group_norm, aten.baddbmm, aten.clamp_min, aten.clamp_max,
            aten.native_batch_norm, aten.celu, aten.masked_fill, aten._native_batch_norm_legit,
            aten._native_batch_norm_legit_no_training,
        ]
    )
    | {
        aten.native_layer_norm.default: _layer_norm,
        aten.native_layer_norm_backward.default: _layer_norm_backward,
        aten.sgn.default: torch.sign,
        aten._log_softmax.default: _log_softmax,
        aten._log_softmax_backward_data.default: _log_softmax_backward,
        aten.binary_cross_entropy_with_logits.default: _binary_cross_entropy,
        aten.logsumexp.default: _logsumexp,
        aten.addmm.default: _addmm,
        aten.masked_fill.Scalar: _masked_fill,
        aten.rsub.Scalar: _reversed_difference,
        aten.threshold_backward.default: _threshold_backward,
        aten._softmax.default: _softmax,
        aten.var.correction: _variance,
        aten.var_mean.correction: _variance_and_mean,
        aten.linalg_vector_norm.default: _vector_norm,
        aten.cumsum.default: _cumsum,
        aten.cumprod.default: _cumprod,
        aten.max_pool2d_with_indices.default: _max_pool,
        aten.max_pool2d_with_indices_backward.default: _max_pool_backward,
        aten.avg_pool2d.default: _average_pool,
        aten.avg_pool2d_backward.default: _average_pool_backward,
    }
)  # fmt: skip
