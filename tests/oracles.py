"""Slow and plain counterparts of what the package computes, written from the formulas and without its parts.

Axes: B samples, H units.
"""

import torch
from torch import nn


class _Streamed(torch.autograd.Function):
    """The normalised value of one sample with its hand-written gradient."""

    @staticmethod
    def forward(ctx, x, norm):
        ctx.norm = norm
        y, ctx.parts = norm.advance(x.detach())
        return y

    @staticmethod
    def backward(ctx, dy):
        return ctx.norm.differentiate(dy, *ctx.parts), None


class PlainStreamingNorm(nn.Module):
    """Streaming normalisation of single samples where every training pass is followed by an update.

    alpha = (.7, .3), beta = (.7, 0, .3), kappa = (.7, .3), p = 2, eps = 1e-5. The short-term values are those of the
    last sample alone.
    """

    def __init__(self, units):
        super().__init__()
        self.units = units
        self.short, self.long = {}, {}  # "mean", "power", and the gradients that reached them, "mean'" and "power'"

    def forward(self, h, training):
        if training:
            return _Streamed.apply(h, self)
        if not self.short:
            return h
        mean, power = (self._mixed(name) for name in ("mean", "power"))
        return (h - mean) / torch.sqrt(power + 1e-5)

    def advance(self, x):
        for name, value in self.short.items():
            self.long[name] = value if name not in self.long else self.long[name] + 0.3 * (value - self.long[name])
        self.short = {"mean": x[0]}
        mean = self._mixed("mean")
        self.short["power"] = (x[0] - mean) ** 2
        power = self._mixed("power")
        scale = torch.rsqrt(power + 1e-5)
        return (x - mean) * scale, (x[0] - mean, scale)

    def differentiate(self, dy, d, scale):
        g_power = -0.5 * (dy[0] * d) * scale**3
        streamed_power = self._streamed("power'", g_power)
        # the deviation is taken around the streamed mean, so the mean is reached through it as well
        g_mean = -(dy[0] * scale) - 2 * d * streamed_power
        streamed_mean = self._streamed("mean'", g_mean)
        self.short["mean'"], self.short["power'"] = g_mean, g_power
        return (dy[0] * scale + 2 * d * streamed_power + streamed_mean)[None]

    def _mixed(self, name):
        short = self.short[name]
        return short + 0.7 * (self.long.get(name, short) - short)

    def _streamed(self, name, g):
        return 0.7 * self.long.get(name, g) + 0.3 * g
