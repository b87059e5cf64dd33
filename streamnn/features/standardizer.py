"""Streaming standardisation of inputs (and of regression targets): running mean and variance, missing values masked.

Everything is a pure function of (state, x): `transform` changes nothing, `observe` returns the new state. The
statistics are float64 whatever the network's precision: at a few million events a float32 mean stops moving.

Axes: B samples, F features. x is [B, F] float64 with NaN for a missing value.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Standardizer:
    """z = (x - mean) / deviation, per feature, over the events seen so far.

    With n values seen, weight w = 1 / (n + 1) and d = x - mean (Welford 1962 for one value, Chan, Golub and LeVeque
    1983 for several, written with the biased variance so that no step can make it negative)::

        mean' = mean + w d
        var'  = (1 - w) var + w var_b + w (1 - w) d^2

    An event is transformed with statistics that already count its own x (never its label); what is kept is kept by
    `observe`. So the first event standardises to 0, and no value exceeds sqrt(n).

    Attributes:
        clip: |z| is limited to this many deviations.
        outlier: after 30 values, a value further than this many deviations from the mean is pulled in to that distance
            before it is counted, so that one wild value cannot stretch the scale; a change of scale that lasts still
            gets through, a few percent an event. 0 switches it off.
        horizon: number of events after which the past is forgotten exponentially; 0 remembers all of it equally.

    Raises:
        ValueError: a setting is outside its range.
    """

    clip: float = 5.0
    outlier: float = 10.0
    horizon: int = 0

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise ValueError(f"clip is {self.clip}, but must be positive (deviations; 5 suits most streams)")
        if self.outlier < 0:
            raise ValueError(f"outlier is {self.outlier}, but must be 0 (off) or positive (deviations)")
        if self.horizon < 0:
            raise ValueError(f"horizon is {self.horizon}, but must be 0 (all of the past) or a number of events")

    def init(self, features: int) -> Tensors:
        """Return the statistics of `features` inputs that have seen nothing."""
        return {
            "count": torch.zeros(features, dtype=torch.int64),
            "mean": torch.zeros(features, dtype=torch.float64),
            "var": torch.zeros(features, dtype=torch.float64),
        }

    def transform(self, state: Tensors, x: Tensor, *, own: bool = True) -> Tensor:
        """Standardise each row.

        Args:
            state: what `observe` has kept.
            x: [B, F] float64, NaN = missing.
            own: count each row's own values into the statistics it is transformed with. False for an event that was
                observed before (its label came late).

        Returns:
            [B, F] float64, within +-clip; 0 for a missing value and for one without spread.
        """
        known = ~torch.isnan(x)
        value = self._limit(state, torch.where(known, x, state["mean"]))
        mean, var = state["mean"], state["var"]
        if own:
            w = self._weight(state["count"], torch.ones_like(state["count"]))
            d = value - mean
            mean, var = mean + w * d, (1 - w) * var + w * (1 - w) * (d * d)
        return self._scale(mean, var, torch.where(known, x, mean))

    def observe(self, state: Tensors, x: Tensor, valid: Tensor) -> Tensors:
        """Count the rows into the statistics.

        Args:
            state: what was kept so far.
            x: [B, F] float64, NaN = missing: that feature's statistics stay as they are.
            valid: [B] bool, False for a row that only pads the batch.
        """
        known = ~torch.isnan(x) & valid[:, None]
        count = known.sum(0)
        some = count > 0
        value = torch.where(known, self._limit(state, torch.where(known, x, state["mean"])), 0.0)
        many = torch.where(some, count, 1).to(torch.float64)
        batch_mean = value.sum(0) / many
        spread = torch.where(known, value - batch_mean, 0.0)
        batch_var = (spread * spread).sum(0) / many
        # one row is counted with the weight that `transform` has computed for it
        now = torch.ones_like(count) if len(x) == 1 else count
        w = torch.where(some, self._weight(state["count"], now), 0.0)
        d = torch.where(some, batch_mean - state["mean"], 0.0)
        return {
            "count": state["count"] + count,
            "mean": state["mean"] + w * d,
            # d is squared first: a value that cannot be squared becomes NaN here at once, even as the very first one,
            # and is refused, instead of sitting in the mean where it would make every later event infinite
            "var": (1 - w) * state["var"] + w * torch.where(some, batch_var, 0.0) + w * (1 - w) * (d * d),
        }

    def _weight(self, before: Tensor, now: Tensor) -> Tensor:
        total = (before + now).to(torch.float64)
        w = now / torch.where(total > 0, total, 1.0)
        return w if self.horizon == 0 else torch.maximum(w, (now.to(torch.float64) / self.horizon).clamp(max=1.0))

    def _limit(self, state: Tensors, x: Tensor) -> Tensor:
        if self.outlier == 0:
            return x
        reach = self.outlier * torch.sqrt(state["var"])
        trusted = (state["count"] >= 30) & (state["var"] > 0)
        pulled = torch.minimum(torch.maximum(x, state["mean"] - reach), state["mean"] + reach)
        return torch.where(trusted, pulled, x)

    def _scale(self, mean: Tensor, var: Tensor, x: Tensor) -> Tensor:
        spread = var > 0
        z = (x - mean) * torch.rsqrt(torch.where(spread, var, 1.0))
        return torch.where(spread, z, 0.0).clamp(-self.clip, self.clip)
