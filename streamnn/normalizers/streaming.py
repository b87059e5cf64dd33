"""Streaming normalisation (Liao, Kawaguchi and Poggio 2016, arXiv 1610.06160), right at batch size 1.

Each unit is normalised with statistics of all samples so far, and the gradient that reaches a statistic is streamed the
same way before it flows on into the present samples. Short-term buffers average what came since the last weight update
(several micro-batches, where gradients are accumulated), long-term ones decay over updates.

Axes: B samples, H units. m = valid rows of the micro-batch.
"""

import torch
from torch import Tensor, nn

from streamnn.context import Context

EPS = 1e-5
STATISTICS = ("mean", "power")


class StreamingNorm(nn.Module):
    """y = (x - mean^) / (power^ + eps)^(1/p), per unit.

    Statistics of a micro-batch: mean = sum(x) / m, and power = sum(|x - mean^|^p) / m, around the streamed mean. (The
    paper takes deviations around the micro-batch's own mean, which leaves nothing at m = 1.) With n the micro-batches
    since the last update, for each statistic s and the gradient g = dE/ds^ that reaches it::

        before the first pass after an update:  long = kappa1 long + kappa2 short (the first time: long = short); n = 0
        short = (n short + s) / (n + 1);  n = n + 1
        s^ = alpha1 long + alpha2 short + alpha3 s
        g^ = beta1 long_g + beta2 short_g + beta3 g
        dE/dx = (through y, s^ held fixed) + g^ ds/dx

    Before the first update the short-term value stands in for the long-term one. The evaluation pass mixes what is
    stored, with alpha1 and alpha2, and is the identity before the first sample. For p = 2, alpha = (0, 1, 0) and
    beta = (0, 0, 1) with one micro-batch an update, this is batch normalisation without gain and bias.

    Args:
        units: H.
        p: of the Lp deviation, at least 1; 2 is the standard deviation, 1 the cheaper mean absolute deviation.
        alpha: weights of long-term, short-term and present statistics in the forward pass; they sum to 1.
        beta: likewise for gradients in the backward pass.
        kappa: weights of the old long-term and of the short-term value in the new long-term value; they sum to 1.

    Raises:
        ValueError: a setting is outside its range.
    """

    def __init__(
        self,
        units: int,
        *,
        p: float = 2.0,
        alpha: tuple[float, float, float] = (0.7, 0.3, 0.0),
        beta: tuple[float, float, float] = (0.7, 0.0, 0.3),
        kappa: tuple[float, float] = (0.7, 0.3),
    ) -> None:
        super().__init__()
        if not p >= 1:
            raise ValueError(f"p is {p}, but must be at least 1")
        for name, weights in (("alpha", alpha), ("beta", beta), ("kappa", kappa)):
            if min(weights) < 0 or abs(sum(weights) - 1) > 1e-9:
                raise ValueError(f"{name} is {weights}, but must be weights of at least 0 that sum to 1")
        self.p, self.alpha, self.beta, self.kappa = p, alpha, beta, kappa
        self.passes: Tensor
        self.updates: Tensor
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))  # n
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        for name in STATISTICS:
            for kind in ("short", "long", "short_gradient", "long_gradient", "probe", "gradient"):
                self.register_buffer(f"{kind}_{name}", torch.zeros(units, dtype=torch.float64))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, H] -> [B, H]; moves the buffers in a training pass."""
        if not context.training:
            return self._evaluate(x)
        self._begin(context.updated)
        valid = context.valid[:, None]
        x = torch.where(valid, x, 0.0)  # NaN times a gradient of 0 is NaN
        wide = x.to(torch.float64)
        rows = valid.sum().clamp(min=1).to(torch.float64)
        mean = self._stream("mean", wide.sum(0) / rows, context)
        power = self._stream("power", torch.where(valid, self._power(wide - mean), 0.0).sum(0) / rows, context)
        with torch.no_grad():
            self.passes.add_(1)
        return self._normalize(x, mean, power)

    def _begin(self, updated: Tensor) -> None:
        """Take in the gradients of the pass before; after an update, move short-term to long-term values."""
        with torch.no_grad():
            n = self.passes
            some = n > 0
            roll = some & updated
            first, share = self.updates == 0, 1 / n.clamp(min=1).to(torch.float64)
            for name in STATISTICS:
                gradients = self._buffer("short_gradient", name)
                change = (self._buffer("gradient", name) - gradients) * share
                gradients.add_(torch.where(some, change, 0.0))
                for kind in ("", "_gradient"):
                    short, long = self._buffer(f"short{kind}", name), self._buffer(f"long{kind}", name)
                    moved = torch.where(first, short, long + self.kappa[1] * (short - long))
                    long.copy_(torch.where(roll, moved, long))
                    short.copy_(torch.where(updated, 0.0, short))  # without a pass since then it is 0 already, as n is
            self.updates.add_(roll.to(torch.int64))
            self.passes.copy_(torch.where(updated, 0, n))

    def _stream(self, name: str, s: Tensor, context: Context) -> Tensor:
        """Count a statistic of the present micro-batch, and return s^, with the streamed gradient attached."""
        n = (self.passes + 1).to(torch.float64)
        short, begun = self._buffer("short", name), (self.updates > 0).to(torch.float64)
        now = s.detach()
        with torch.no_grad():
            short.add_((now - short) / n)
        mixed = self._mix(name)
        if self.alpha[2]:
            mixed = mixed + self.alpha[2] * (now - short)
        # without long-term gradients their weight goes to the short-term ones, of which the present pass is one in n
        of_short = self.beta[1] + (1 - begun) * self.beta[0]
        past = begun * self.beta[0] * self._buffer("long_gradient", name)
        past = past + of_short * ((n - 1) / n) * self._buffer("short_gradient", name)
        # s - s.detach() is 0: it adds to gradients only
        context.penalties.append((past.detach() * (s - now)).sum())
        return mixed.detach() + self._buffer("probe", name) + (self.beta[2] + of_short / n) * (s - now)

    def _mix(self, name: str) -> Tensor:
        """Mix the stored long- and short-term values; alpha3's share is counted to the short-term one."""
        short = self._buffer("short", name)
        long = torch.where(self.updates > 0, self._buffer("long", name), short)
        # written so that equal values mix to the same value, to the last bit: at the first sample the deviation is 0
        return short + self.alpha[0] * (long - short)

    def _evaluate(self, x: Tensor) -> Tensor:
        some = self.passes + self.updates > 0
        return torch.where(some, self._normalize(x, self._mix("mean"), self._mix("power")), x)

    def _normalize(self, x: Tensor, mean: Tensor, power: Tensor) -> Tensor:
        wide = power + EPS
        scale = torch.rsqrt(wide) if self.p == 2 else wide ** (-1 / self.p)
        return (x - mean.to(x.dtype)) * scale.to(x.dtype)

    def _power(self, d: Tensor) -> Tensor:
        return d * d if self.p == 2 else d.abs() ** self.p

    def _buffer(self, kind: str, name: str) -> Tensor:
        return self.get_buffer(f"{kind}_{name}")
