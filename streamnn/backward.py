"""One training pass of a network as a pure function: parameters and buffers in, gradients and new buffers out.

Buffers are what layers remember (streamed statistics). A layer updates them in place during a training pass; it works
on copies made here, so the caller's are untouched.

Probes: a layer that has to remember a gradient registers two buffers of equal shape, `probe_NAME` (zeros, added to or
multiplied into some inner value) and `gradient_NAME`. The loss is differentiated with respect to the probe, and the
result is what `gradient_NAME` holds when the layer's next training pass begins.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from streamnn.context import Context

Tensors = dict[str, Tensor]


def is_probe(name: str) -> bool:
    """Tell whether the buffer `name` ("layer.probe_mean") is a probe."""
    return name.rpartition(".")[2].startswith("probe_")


def evaluate(
    network: nn.Module, params: Mapping[str, Tensor], buffers: Mapping[str, Tensor], x: Tensor, context: Context
) -> Tensor:
    """Run the network without learning. Layers leave their buffers alone when `context.training` is False."""
    with torch.no_grad():
        out: Tensor = functional_call(network, {**params, **buffers}, (x, context))
    return out


def differentiate(
    network: nn.Module,
    params: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    x: Tensor,
    context: Context,
    objective: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensors, Tensors]:
    """Run a training pass and differentiate `objective(output)` with respect to the parameters.

    Returns:
        output [B, O], loss [], gradients by parameter name, and the new buffers by name.
    """
    leaves = {name: p.detach().requires_grad_() for name, p in params.items()}
    fresh = {name: b.detach().clone() for name, b in buffers.items()}
    probes = {name: b.requires_grad_() for name, b in fresh.items() if is_probe(name)}
    with torch.enable_grad():
        out: Tensor = functional_call(network, {**leaves, **fresh}, (x, context))
        loss = objective(out)
        total = loss
        for penalty in context.penalties:
            total = total + penalty
        inputs = [*leaves.values(), *probes.values()]
        found = torch.autograd.grad(total, inputs, materialize_grads=True)
    grads = dict(zip(leaves, found, strict=False))
    for name, grad in zip(probes, found[len(leaves) :], strict=True):
        fresh[name] = torch.zeros_like(grad)
        fresh[name.replace("probe_", "gradient_")] = grad
    return out.detach(), loss.detach(), grads, {name: b.detach() for name, b in fresh.items()}
