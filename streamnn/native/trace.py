"""From a step to a graph: torch runs an operation once on fake tensors and writes down every elementary operator.

The step is traced twice. The first pass goes through autograd and records what layers do in place; the second makes it
functional and breaks composite operators down. What remains are a few hundred calls of some forty kinds of operator on
small static shapes.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx
from torch._decomp import core_aten_decompositions, get_decompositions
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx

aten = torch.ops.aten

Flat = Callable[..., list[Tensor]]


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


def _log_softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    shifted = x - x.amax(dim, True)
    return shifted - shifted.exp().sum(dim, True).log()


def _softmax(x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    e = (x - x.amax(dim, True)).exp()
    return e / e.sum(dim, True)


# core_aten_decompositions() is a lazy mapping: as a dict it can be merged
DECOMPOSITIONS = (
    dict(core_aten_decompositions())
    | get_decompositions(
        [
            aten.addmm, aten.mv, aten.dot, aten.gelu, aten.gelu_backward, aten.silu, aten.silu_backward, aten.mish,
            aten.mish_backward, aten.softplus, aten.softplus_backward, aten.elu, aten.elu_backward, aten.leaky_relu,
            aten.leaky_relu_backward, aten.binary_cross_entropy_with_logits, aten.huber_loss, aten.logsumexp,
            aten.threshold_backward, aten.tanh_backward, aten.sigmoid_backward, aten._log_softmax_backward_data,
            aten._softmax_backward_data, aten.native_layer_norm_backward, aten.baddbmm, aten.clamp_min, aten.clamp_max,
        ]
    )
    | {
        aten.native_layer_norm.default: _layer_norm,
        aten._log_softmax.default: _log_softmax,
        aten._softmax.default: _softmax,
    }
)  # fmt: skip


def trace(function: Flat, inputs: Sequence[Tensor]) -> fx.Graph:
    """Trace a function of tensors that returns a list of tensors.

    Args:
        function: pure; static shapes, no choice made in Python on a tensor's value.
        inputs: example tensors; only shapes and dtypes matter.

    Returns:
        A graph of elementary operators without dead code.
    """
    outer = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs)
    outer.graph.eliminate_dead_code()
    inner = make_fx(
        functionalize(outer), decomposition_table=DECOMPOSITIONS, tracing_mode="fake", _allow_non_fake_inputs=True
    )(*inputs)
    inner.graph.eliminate_dead_code()
    graph: fx.Graph = inner.graph
    return graph
