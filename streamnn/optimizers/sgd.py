"""Stochastic gradient descent, with momentum, and with its steps bounded."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from streamnn.optimizers.base import (
    Growing,
    Slots,
    Tensors,
    check_fraction,
    check_not_negative,
    check_positive,
    each,
    slot_like,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SGD:
    """w' = w - rate (g + weight_decay w), or along a velocity.

    With momentum u' = momentum u + g (Polyak 1964); the step is u', or with `nesterov` g + momentum u' (Nesterov 1983,
    in the form of Sutskever et al. 2013). Equal to torch.optim.SGD.

    Attributes:
        momentum: share of the velocity kept at each step; 0 has none.
        nesterov: look ahead along the velocity.
        weight_decay: L2 penalty, added to the gradient.

    Raises:
        ValueError: a constant is outside its range.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        check_fraction("momentum", self.momentum)
        check_not_negative("weight_decay", self.weight_decay)
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the velocity: give a momentum above 0, such as 0.9")

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:  # noqa: ARG002
        """Return a velocity of 0 for each weight, or nothing without momentum."""
        return {"velocity": slot_like(params)} if self.momentum else {}

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""

        def step(name: str) -> Tensors:
            p, g = params[name], grads[name]
            if self.weight_decay:
                g = g + self.weight_decay * p
            if not self.momentum:
                return {"param": p - rate * g}
            velocity = self.momentum * slots["velocity"][name] + g
            along = g + self.momentum * velocity if self.nesterov else velocity
            return {"param": p - rate * along, "velocity": velocity}

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:  # noqa: ARG002
        """Change nothing: nothing scales the steps."""
        return slots


@dataclass(frozen=True, slots=True, kw_only=True)
class ObGD:
    """Gradient descent whose step is bounded so that it does not overshoot (Elsayed, Vasan and Mahmood 2024, ObGD).

    w' = w - min(rate, 1 / (kappa |g|_1)) g, where |g|_1 sums over all parameters: together they move by at most
    1 / kappa. This is the paper's rule (arXiv 2410.14606) without eligibility traces, for the gradient of a
    loss in place of an error times the gradient of a prediction. The rate is an upper bound of the step; the paper uses
    1. The bound presumes standardised inputs and normalised layers.

    Attributes:
        kappa: how much smaller than a step that would just reach the label; 2 is the paper's.

    Raises:
        ValueError: kappa is not positive.
    """

    kappa: float = 2.0

    def __post_init__(self) -> None:
        check_positive("kappa", self.kappa)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:  # noqa: ARG002
        """Return nothing: the method remembers nothing."""
        return {}

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""
        total = torch.stack([g.abs().sum() for g in grads.values()]).sum()
        # rate / max(rate kappa |g|, 1) is the minimum without a division by 0
        bounded = rate / (rate * self.kappa * total).clamp(min=1.0)
        return {name: p - bounded * grads[name] for name, p in params.items()}, slots

    def clear(self, slots: Slots, clear: Tensor) -> Slots:  # noqa: ARG002
        """Change nothing: there is nothing to forget."""
        return slots
