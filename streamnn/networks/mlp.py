"""A multilayer perceptron from a small declarative description.

Axes: B samples, F inputs, H units, W outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from streamnn.context import Context
from streamnn.dropout import Dropout
from streamnn.normalizers import NORMALIZERS, make_normalizer

Activation = Literal["relu", "leaky_relu", "tanh", "gelu", "silu", "mish", "selu"]
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": fn.relu,
    "leaky_relu": fn.leaky_relu,
    "tanh": torch.tanh,
    "gelu": fn.gelu,
    "silu": fn.silu,
    "mish": fn.mish,
    "selu": fn.selu,
}

SKIP_SCALE = 0.3  # the linear path learns at this fraction of the rate (exactly so for Adam, whose steps have no scale)


@dataclass(frozen=True, slots=True, kw_only=True)
class MLPSpec:
    """Describe a multilayer perceptron.

    Each hidden layer is linear, then normalised, then activated, then dropped out. The output layer starts at 0, so
    that the first prediction of a network is "nothing known" instead of noise. Hidden weights start uniform in
    +-1/sqrt(fan in) (the usual scale of torch.nn.Linear), biases likewise.

    Attributes:
        units: width of each hidden layer; empty for a linear model.
        activation: relu, leaky_relu, tanh, gelu, silu, mish or selu.
        normalizer: none, layer, rms, streaming or online; see `streamnn.normalizers`.
        dropout: fraction of hidden units dropped in the training pass, 0 to below 1.
        skip: add a linear path from the inputs to the outputs.

    Raises:
        ValueError: a setting is outside its range.
    """

    units: tuple[int, ...] = (64,)
    activation: Activation = "relu"
    normalizer: str = "layer"
    dropout: float = 0.0
    skip: bool = True

    def __post_init__(self) -> None:
        if any(u < 1 for u in self.units):
            raise ValueError(f"units are {self.units}, but every hidden layer needs at least 1 unit")
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation is {self.activation!r}; use one of {', '.join(get_args(Activation))}")
        if self.normalizer not in NORMALIZERS:
            raise ValueError(f"normalizer is {self.normalizer!r}; use one of {', '.join(NORMALIZERS)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, but must be at least 0 and below 1")


class MLP(nn.Module):
    """logits = Wo h_L + bo (+ 0.3 Ws x), h_l = dropout(act(norm(W_l h_{l-1} + b_l))), h_0 = x.

    Args:
        spec: layers, see `MLPSpec`.
        inputs: F, at least 1. An input that is absent or missing is 0.
        outputs: W.
        seed: start values depend on it alone.
        dtype: float32 or float64.
    """

    def __init__(self, spec: MLPSpec, inputs: int, *, outputs: int, seed: int, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.spec, self.activation = spec, ACTIVATIONS[spec.activation]
        self.linears, self.norms, self.drops = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        width = inputs
        for i, units in enumerate(spec.units):
            self.linears.append(_linear(width, units, generator, dtype))
            self.norms.append(make_normalizer(spec.normalizer, units))
            self.drops.append(Dropout(spec.dropout, seed=seed, stream=i))
            width = units
        self.output = _linear(width, outputs, None, dtype)
        self.skip = _linear(inputs, outputs, None, dtype, bias=False) if spec.skip and spec.units else None

    @property
    def growing(self) -> dict[str, dict[int, str]]:
        """Which dimensions of which parameters grow: {parameter: {dimension: "input" or "output"}}."""
        first = "linears.0.weight" if len(self.linears) else "output.weight"
        grows: dict[str, dict[int, str]] = {"output.weight": {0: "output"}, "output.bias": {0: "output"}}
        grows[first] = {**grows.get(first, {}), 1: "input"}
        if self.skip is not None:
            grows["skip.weight"] = {0: "output", 1: "input"}
        return grows

    @property
    def training_differs(self) -> bool:
        """Whether the training pass computes other outputs than the evaluation pass (dropout, streamed statistics)."""
        return bool(self.spec.units) and (self.spec.dropout > 0 or self.spec.normalizer in ("streaming", "online"))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Compute the outputs: [B, F] -> [B, W]."""
        h = x
        for linear, norm, drop in zip(self.linears, self.norms, self.drops, strict=True):
            h = drop(self.activation(norm(linear(h), context)), context)
        out: Tensor = self.output(h)
        return out if self.skip is None else out + SKIP_SCALE * self.skip(x)


def _linear(
    inputs: int, outputs: int, generator: torch.Generator | None, dtype: torch.dtype, *, bias: bool = True
) -> nn.Linear:
    """Make a linear layer, uniform in +-1/sqrt(inputs), or all 0 without a generator."""
    # made without memory first, so that torch draws no start values of its own
    layer = nn.Linear(inputs, outputs, bias=bias, dtype=dtype, device="meta")
    bound = inputs**-0.5
    for name, shell in list(layer.named_parameters()):
        if generator is None:
            start = torch.zeros(shell.shape, dtype=dtype)
        else:
            start = (torch.rand(shell.shape, generator=generator, dtype=torch.float64) * 2 - 1) * bound
        setattr(layer, name, nn.Parameter(start.to(dtype)))
    return layer
