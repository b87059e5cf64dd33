"""From a function of tensors to one graph of operators that runs on a device.

The function runs once on the host, on example tensors; the operators that torch calls meanwhile, those of its gradients
too, are written down with `make_fx`. Tensors that the function makes itself are made on the device in the graph: a number
of the host among an operator's tensors would be copied there by each run, and no capture allows that.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, fx

Flat = Callable[..., Sequence[Tensor]]


def trace(function: Flat, examples: Sequence[Tensor], device: torch.device) -> fx.GraphModule:
    """Trace a function of tensors that returns a list of tensors.

    Args:
        function: pure, or changing only what it has made itself; static shapes, no choice made in Python on a value.
        examples: on the host; only shapes and types matter.
        device: where the graph is to run.
    """
    # loaded here because it takes most of a second, which who has no device need not wait for
    from torch.fx.experimental.proxy_tensor import make_fx

    with torch.no_grad():
        module = make_fx(function)(*examples)
    return move(module, device)


def move(module: fx.GraphModule, device: torch.device) -> fx.GraphModule:
    """Have a graph make its tensors on a device; its constants go there."""
    for node in module.graph.nodes:
        if "device" in node.kwargs:
            node.update_kwarg("device", device)
        if "pin_memory" in node.kwargs:
            node.update_kwarg("pin_memory", None)
        if node.op == "get_attr":
            constant = getattr(module, node.target)
            setattr(module, node.target, constant.to(device))
    module.recompile()
    return module
