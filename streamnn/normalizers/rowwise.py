"""Normalisation of one sample over its units: layer and root-mean-square; and none.

These remember nothing, have no gain and no bias, and do not tell training from evaluation.

Axes: B samples, H units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from streamnn.context import Context

EPS = 1e-5


class NoNorm(nn.Module):
    """Hand the activations on."""

    def forward(self, x: Tensor, context: Context) -> Tensor:  # noqa: ARG002
        """[B, H] -> [B, H]."""
        return x


class LayerNorm(nn.Module):
    """y = (x - mean(x)) / sqrt(var(x) + eps) over the units of each sample.

    Ba, Kiros and Hinton 2016, arXiv 1607.06450. Without gain and bias: the next layer has weights enough, and fewer
    parameters follow drift faster.
    """

    def forward(self, x: Tensor, context: Context) -> Tensor:  # noqa: ARG002
        """[B, H] -> [B, H]."""
        return fn.layer_norm(x, x.shape[-1:], eps=EPS)


class RMSNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) over the units of each sample (Zhang and Sennrich 2019, arXiv 1910.07467)."""

    def forward(self, x: Tensor, context: Context) -> Tensor:  # noqa: ARG002
        """[B, H] -> [B, H]."""
        return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS)
