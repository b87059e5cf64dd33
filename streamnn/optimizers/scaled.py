"""Gradient descent scaled by past squared gradients, without bias correction: Adagrad, RMSprop, Adadelta."""

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
    refill,
    slot_like,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adagrad:
    """v' = v + g^2, w' = w - rate g / (sqrt(v') + eps) (Duchi, Hazan and Singer 2011). Equal to torch.optim.Adagrad.

    The sums are float64: they never stop growing.

    Attributes:
        initial: what v starts from.
        eps: keeps the division finite.

    Raises:
        ValueError: a constant is outside its range.
    """

    initial: float = 0.0
    eps: float = 1e-10

    def __post_init__(self) -> None:
        check_not_negative("initial", self.initial)
        check_positive("eps", self.eps)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:  # noqa: ARG002
        """Return the first sums."""
        return {"square": slot_like(params, self.initial, torch.float64)}

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""

        def step(name: str) -> Tensors:
            p, g = params[name], grads[name]
            wide = g.to(torch.float64)
            square = slots["square"][name] + wide * wide
            return {"param": p - rate * g / (torch.sqrt(square).to(p.dtype) + self.eps), "square": square}

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Start the sums again."""
        return {"square": refill(slots["square"], clear, self.initial)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RMSprop:
    """v' = decay v + (1 - decay) g^2, w' = w - rate g / (sqrt(v') + eps) (Tieleman and Hinton 2012).

    `centered` subtracts the square of the gradient's average from v' (Graves 2013); with momentum the scaled gradient
    moves a velocity. Equal to torch.optim.RMSprop; there is no bias correction, so the first step of every weight is
    1 / sqrt(1 - decay) times the rate, ten times with the usual decay.

    Attributes:
        decay: of the averages, per step.
        momentum: share of the velocity kept at each step; 0 has none.
        centered: scale by the deviation instead of the root mean square.
        eps: keeps the division finite.

    Raises:
        ValueError: a constant is outside its range.
    """

    decay: float = 0.99
    momentum: float = 0.0
    centered: bool = False
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_fraction("decay", self.decay)
        check_fraction("momentum", self.momentum)
        check_positive("eps", self.eps)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:  # noqa: ARG002
        """Return averages and velocities of 0."""
        names = ["square", *(["mean"] if self.centered else []), *(["velocity"] if self.momentum else [])]
        return {slot: slot_like(params) for slot in names}

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""

        def step(name: str) -> Tensors:
            p, g = params[name], grads[name]
            new = {"square": self.decay * slots["square"][name] + (1 - self.decay) * (g * g)}
            spread = new["square"]
            if self.centered:
                new["mean"] = self.decay * slots["mean"][name] + (1 - self.decay) * g
                # a constant gradient has no spread; rounding must not make it negative
                spread = (spread - new["mean"] * new["mean"]).clamp(min=0.0)
            along = g / (torch.sqrt(spread) + self.eps)
            if self.momentum:
                new["velocity"] = along = self.momentum * slots["velocity"][name] + along
            return {"param": p - rate * along, **new}

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Forget averages and velocities."""
        return {slot: refill(tensors, clear) for slot, tensors in slots.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Adadelta:
    """w' = w - rate d, where the step d has the unit of the weight (Zeiler 2012, arXiv 1212.5701).

    v' = decay v + (1 - decay) g^2, d = sqrt(u + eps) / sqrt(v' + eps) g, u' = decay u + (1 - decay) d^2. Equal to
    torch.optim.Adadelta. The usual rate is 1.

    Attributes:
        decay: of the averages, per step.
        eps: sets the size of the first steps.

    Raises:
        ValueError: a constant is outside its range.
    """

    decay: float = 0.9
    eps: float = 1e-6

    def __post_init__(self) -> None:
        check_fraction("decay", self.decay)
        check_positive("eps", self.eps)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:  # noqa: ARG002
        """Return averages of 0."""
        return {"square": slot_like(params), "step": slot_like(params)}

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""

        def step(name: str) -> Tensors:
            p, g, u = params[name], grads[name], slots["step"][name]
            square = self.decay * slots["square"][name] + (1 - self.decay) * (g * g)
            d = torch.sqrt(u + self.eps) / torch.sqrt(square + self.eps) * g
            return {"param": p - rate * d, "square": square, "step": self.decay * u + (1 - self.decay) * (d * d)}

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Forget the averages of gradients and of steps."""
        return {slot: refill(tensors, clear) for slot, tensors in slots.items()}
