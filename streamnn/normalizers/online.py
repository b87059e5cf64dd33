"""Online normalisation (Chiley et al. 2019, arXiv 1905.05894): exponential statistics, and a controlled gradient.

Axes: B samples, H units. m = valid rows of the micro-batch.
"""

import torch
from torch import Tensor, nn

from streamnn.context import Context

EPS = 1e-5


class OnlineNorm(nn.Module):
    """y = (x - mean) / sqrt(var + eps), per unit, with statistics that do not contain x; then layer scaling.

    Samples move the statistics one by one, in their order, also within a micro-batch::

        y_t = (x_t - mean_(t-1)) / sqrt(var_(t-1) + eps)
        var_t = f var_(t-1) + f (1 - f) (x_t - mean_(t-1))^2
        mean_t = f mean_(t-1) + (1 - f) x_t

    Backward, two integrators u and v hold the gradients orthogonal to 1 and to y in the long run (b = backward decay)::

        dy~ = dy - gain v y,  v' = v + dy~ y,  gain = min(1 - b, 1 / y^2)
        dx = dy~ / sqrt(var + eps) - (1 - b) u,  u' = u + dx

    Two differences from the paper. All rows of a micro-batch are controlled with the v and u from before it, which then
    move row by row (u with the v from before); at m = 1 that is the paper's rule. And the gain 1 - b of v is at most
    1 / y^2: beyond that a single outlier would turn v over, and a row of them would blow it up.

    Layer scaling bounds what a unit with an outdated variance can do: z = y / sqrt(mean(y^2) + eps) over the units of a
    sample. There is no gain and no bias.

    Args:
        units: H.
        forward_decay: f.
        backward_decay: b.

    Raises:
        ValueError: a decay is not between 0 and 1.
    """

    def __init__(self, units: int, *, forward_decay: float = 0.999, backward_decay: float = 0.99) -> None:
        super().__init__()
        for name, decay in (("forward_decay", forward_decay), ("backward_decay", backward_decay)):
            if not 0 < decay < 1:
                raise ValueError(f"{name} is {decay}, but must be between 0 and 1")
        self.f, self.b = forward_decay, backward_decay
        self.mean: Tensor
        self.var: Tensor
        self.u: Tensor
        self.v: Tensor
        self.probe_u: Tensor
        self.probe_v: Tensor
        self.gradient_u: Tensor
        self.gradient_v: Tensor
        for name in ("mean", "u", "v", "probe_u", "probe_v", "gradient_u", "gradient_v"):
            self.register_buffer(name, torch.zeros(units, dtype=torch.float64))
        self.register_buffer("var", torch.ones(units, dtype=torch.float64))

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, H] -> [B, H]; moves the buffers in a training pass."""
        if context.training:
            y = self._learn(x, context)
        else:
            y = (x.to(torch.float64) - self.mean) * torch.rsqrt(self.var + EPS)
        return (y * torch.rsqrt((y * y).mean(-1, keepdim=True) + EPS)).to(x.dtype)

    def _learn(self, x: Tensor, context: Context) -> Tensor:
        valid = context.valid[:, None]
        wide = torch.where(valid, x.to(torch.float64), 0.0)
        with torch.no_grad():
            # what of u and v depends on the gradients of the pass before
            u, v = self.u + self.gradient_u, self.v + self.gradient_v
            mean, var = self._track(wide, valid)
            scale = torch.rsqrt(var + EPS)
            y = (wide - mean) * scale
            gain = torch.minimum(1 / (y * y).clamp(min=1e-300), torch.full_like(y, 1 - self.b))
            of_v = torch.where(valid, gain * v * y * scale, 0.0)
            keep_v = torch.where(valid, 1 - gain * y * y, 1.0)
            keep_u = torch.where(valid, self.b, torch.ones_like(keep_v))
            late_v, late_u = _product_after(keep_v), _product_after(keep_u)
            self.v.copy_(v * (keep_v[0] * late_v[0]))
            self.u.copy_(u * (keep_u[0] * late_u[0]) - (of_v * late_u).sum(0))
            control = of_v + torch.where(valid, (1 - self.b) * u, 0.0)
            probed_v, probed_u = y * late_v, scale * late_u
        context.penalties.append(-(control * (wide - wide.detach())).sum())
        return (wide - mean) * scale + self.probe_v * probed_v + self.probe_u * probed_u

    def _track(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Move mean and variance row by row; return those before each row, [B, H] each."""
        f, rows = self.f, x.shape[0]
        if rows == 1:
            before = self.mean.clone()[None], self.var.clone()[None]
            d = x - before[0]
            self.mean.copy_(torch.where(valid, before[0] + (1 - f) * d, before[0])[0])
            self.var.copy_(torch.where(valid, f * before[1] + f * (1 - f) * (d * d), before[1])[0])
            return before
        # unrolled, the recursions are sums over earlier rows, weighted by how many valid rows lie between
        count = torch.cat([torch.zeros(1, dtype=torch.int64), valid[:, 0].cumsum(0)])
        between = (count[:, None] - 1 - count[None, :-1]).to(x.dtype)
        earlier = torch.ones(rows + 1, rows, dtype=torch.bool).tril(-1) & valid[:, 0]
        weight = torch.where(earlier, f**between, 0.0)
        kept = (f ** count.to(x.dtype))[:, None]
        mean = kept * self.mean + (1 - f) * (weight @ x)
        d = x - mean[:-1]
        var = kept * self.var + f * (1 - f) * (weight @ (d * d))
        self.mean.copy_(mean[-1])
        self.var.copy_(var[-1])
        return mean[:-1], var[:-1]


def _product_after(keep: Tensor) -> Tensor:
    """Multiply, for each row, the factors of all rows after it: [B, H] -> [B, H]."""
    if keep.shape[0] == 1:
        return torch.ones_like(keep)
    after = keep.flip(0).cumprod(0).flip(0)[1:]
    return torch.cat([after, torch.ones_like(keep[:1])])
