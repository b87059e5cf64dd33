"""COCOB: no learning rate; each weight bets on the sign of its next gradient with what it has won so far."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from streamnn.optimizers.base import Growing, Slots, Tensors, check_positive, each, refill, slot_like

TINY = 1e-8  # a scale before the first gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class COCOB:
    """Continuous coin betting (Orabona and Tommasi 2017, arXiv 1705.07795, algorithm 2).

    Per weight, with c = -gradient::

        scale' = max(scale, |c|), total' = total + |c|, sum' = sum + c, reward' = max(reward + (w - start) c, 0)
        w' = start + sum' / (scale' max(total' + scale', alpha scale')) (scale' + reward')

    The learning rate is not used: how far a weight goes follows from how well it bet. Everything is float64: the sums
    never stop growing, and the weight itself is start + bet.

    Attributes:
        alpha: the first step is 1 / alpha.

    Raises:
        ValueError: alpha is not positive.
    """

    alpha: float = 100.0

    def __post_init__(self) -> None:
        check_positive("alpha", self.alpha)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:  # noqa: ARG002
        """Return the start weights and nothing won."""
        return {
            "start": {name: p.to(torch.float64, copy=True) for name, p in params.items()},
            "scale": slot_like(params, TINY, torch.float64),
            "total": slot_like(params, 0.0, torch.float64),
            "sum": slot_like(params, 0.0, torch.float64),
            "reward": slot_like(params, 0.0, torch.float64),
        }

    def update(
        self,
        grads: Mapping[str, Tensor],
        slots: Slots,
        params: Mapping[str, Tensor],
        rate: Tensor,  # noqa: ARG002
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""

        def step(name: str) -> Tensors:
            c = -grads[name].to(torch.float64)
            old = {slot: tensors[name] for slot, tensors in slots.items()}
            size = c.abs()
            new = {
                "start": old["start"],
                "scale": torch.maximum(old["scale"], size),
                "total": old["total"] + size,
                "sum": old["sum"] + c,
                "reward": (old["reward"] + self._bet(old) * c).clamp(min=0.0),
            }
            return {"param": (new["start"] + self._bet(new)).to(params[name].dtype), **new}

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Start betting again from the present weights."""
        start = {}
        for name, t in slots["start"].items():
            bet = self._bet({slot: tensors[name] for slot, tensors in slots.items()})
            start[name] = torch.where(clear, t + bet, t)
        return {
            "start": start,
            "scale": refill(slots["scale"], clear, TINY),
            **{slot: refill(slots[slot], clear) for slot in ("total", "sum", "reward")},
        }

    def _bet(self, of: Tensors) -> Tensor:
        scale = of["scale"]
        most = torch.maximum(of["total"] + scale, self.alpha * scale)
        return of["sum"] / (scale * most) * (scale + of["reward"])
