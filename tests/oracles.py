"""Slow and plain counterparts of what the package computes, written from the formulas and without its parts.

Axes: B samples, H units.
"""

import numpy as np
import torch
from torch import nn

EPS = 1e-5


class StreamingNormOracle:
    """Streaming normalisation with its gradient, as lists of everything since the last update."""

    def __init__(self, p, alpha, beta, kappa):
        self.p, self.alpha, self.beta, self.kappa = p, alpha, beta, kappa
        self.short = {name: [] for name in ("mean", "power", "mean gradient", "power gradient")}
        self.long = {}

    def forward(self, x, valid, updated):
        """One training pass: [B, H] -> [B, H]."""
        if updated and self.short["mean"]:
            for name, values in self.short.items():
                average = np.mean(values, axis=0)
                before = self.long.get(name)
                self.long[name] = average if before is None else self.kappa[0] * before + self.kappa[1] * average
                self.short[name] = []
        self.x, self.valid = x, valid
        self.mean = self._forward_mix("mean", x[valid].mean(axis=0))
        self.power = self._forward_mix("power", (np.abs(x[valid] - self.mean) ** self.p).mean(axis=0))
        return (x - self.mean) / (self.power + EPS) ** (1 / self.p)

    def backward(self, dy):
        """The gradient of the last pass's inputs, given that of its outputs."""
        d, m = self.x - self.mean, self.valid.sum()
        sigma = (self.power + EPS) ** (1 / self.p)
        of_power = (dy * d).sum(axis=0) * (-1 / self.p) * (self.power + EPS) ** (-1 / self.p - 1)
        streamed_power = self._backward_mix("power gradient", of_power)
        slope = np.where(self.valid[:, None], self.p * np.abs(d) ** (self.p - 1) * np.sign(d) / m, 0.0)
        of_mean = -dy.sum(axis=0) / sigma - streamed_power * slope.sum(axis=0)
        streamed_mean = self._backward_mix("mean gradient", of_mean)
        return dy / sigma + np.where(self.valid[:, None], streamed_mean / m, 0.0) + streamed_power * slope

    def _forward_mix(self, name, now):
        self.short[name].append(now)
        short = np.mean(self.short[name], axis=0)
        # alpha[1] is what is left; written so that the deviation of the very first sample is exactly 0
        return short + self.alpha[0] * (self.long.get(name, short) - short) + self.alpha[2] * (now - short)

    def _backward_mix(self, name, now):
        self.short[name].append(now)
        short = np.mean(self.short[name], axis=0)
        return self.beta[0] * self.long.get(name, short) + self.beta[1] * short + self.beta[2] * now


class OnlineNormOracle:
    """Online normalisation with its gradient, row by row."""

    def __init__(self, units, f, b):
        self.f, self.b = f, b
        self.mean, self.var = np.zeros(units), np.ones(units)
        self.u, self.v = np.zeros(units), np.zeros(units)

    def forward(self, x, valid):
        """One training pass: [B, H] -> [B, H], layer scaling included."""
        self.valid, self.y, self.sigma = valid, np.zeros_like(x), np.zeros_like(x)
        for t in range(len(x)):
            d = np.where(valid[t], x[t], 0.0) - self.mean
            self.sigma[t] = np.sqrt(self.var + EPS)
            self.y[t] = d / self.sigma[t]
            if valid[t]:
                self.var = self.f * self.var + self.f * (1 - self.f) * d**2
                self.mean = self.mean + (1 - self.f) * d
        self.scale = np.sqrt((self.y**2).mean(axis=1, keepdims=True) + EPS)
        return self.y / self.scale

    def backward(self, dz):
        """The gradient of the last pass's inputs; moves the control variables."""
        z = self.y / self.scale
        dy = (dz - z * (dz * z).mean(axis=1, keepdims=True)) / self.scale
        u, v = self.u, self.v  # all rows are controlled with those from before
        dx = np.zeros_like(dy)
        for t in np.flatnonzero(self.valid):
            gain = np.minimum(1 - self.b, 1 / self.y[t] ** 2)
            inner = (dy[t] - gain * v * self.y[t]) / self.sigma[t]
            dx[t] = inner - (1 - self.b) * u
            self.v = self.v + (dy[t] - gain * self.v * self.y[t]) * self.y[t]
            self.u = self.u + inner - (1 - self.b) * self.u
        dx[~self.valid] = (dy / self.sigma)[~self.valid]
        return dx


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
        """[1, H] -> [1, H]."""
        if training:
            return _Streamed.apply(h, self)
        if not self.short:
            return h
        mean, power = (self._mixed(name) for name in ("mean", "power"))
        return (h - mean) / torch.sqrt(power + 1e-5)

    def advance(self, x):
        """Take a sample in; return its normalised value, and what the gradient needs."""
        for name, value in self.short.items():
            self.long[name] = value if name not in self.long else self.long[name] + 0.3 * (value - self.long[name])
        self.short = {"mean": x[0]}
        mean = self._mixed("mean")
        self.short["power"] = (x[0] - mean) ** 2
        power = self._mixed("power")
        scale = torch.rsqrt(power + 1e-5)
        return (x - mean) * scale, (x[0] - mean, scale)

    def differentiate(self, dy, d, scale):
        """Return the gradient that reaches the sample, and remember what reached the statistics."""
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
