"""Adam and NAdam, with a bias correction of its own for weights that were added later (see `debias`)."""

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
from streamnn.optimizers.debias import Start, shared_like, slices_like, weigh


@dataclass(frozen=True, slots=True, kw_only=True)
class Adam:
    """w' = w - rate m^ / (sqrt(v^) + eps) (Kingma and Ba 2015, arXiv 1412.6980, algorithm 1).

    m' = beta1 m + (1 - beta1) g, v' = beta2 v + (1 - beta2) g^2; m^ and v^ are m' and v' divided by their total
    weights. Equal to torch.optim.Adam, for weights that are there from the start. With beta1 = 0 there is no m: the
    gradient itself is scaled.

    Attributes:
        beta1: decay of the mean gradient, per step.
        beta2: decay of the mean squared gradient, per step.
        eps: keeps the division finite.

    Raises:
        ValueError: a constant is outside its range.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        check_fraction("beta1", self.beta1)
        check_fraction("beta2", self.beta2)
        check_positive("eps", self.eps)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:
        """Return averages of 0 with a total weight of 0."""
        slots: Slots = {}
        for slot in ["mean", "square"] if self.beta1 else ["square"]:
            slots[slot] = slot_like(params)
            slots[f"{slot}_weight"] = slices_like(params, growing)
            slots[f"{slot}_waiting"] = shared_like(params)
        return slots

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""

        def step(name: str) -> Tensors:
            p, g = params[name], grads[name]
            old = {slot: tensors[name] for slot, tensors in slots.items()}
            start = Start.of(old["square_weight"], g)
            weight, waiting = weigh(start, old["square_weight"], old["square_waiting"], self.beta2)
            square = self.beta2 * old["square"] + (1 - self.beta2) * (g * g)
            new = {"square": square, "square_weight": weight, "square_waiting": waiting}
            along, scale = g, rate
            if self.beta1:
                weight1, waiting1 = weigh(start, old["mean_weight"], old["mean_waiting"], self.beta1)
                along = self.beta1 * old["mean"] + (1 - self.beta1) * g
                scale = (rate / torch.where(start.begun, weight1, 1.0)).to(p.dtype)
                new.update(mean=along, mean_weight=weight1, mean_waiting=waiting1)
            root = torch.rsqrt(torch.where(start.begun, weight, 1.0)).to(p.dtype)
            return {"param": p - scale * (along / (torch.sqrt(square) * root + self.eps)), **new}

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Start again.

        The mean is forgotten with the mean square: an old mean over a new square could be a step of any size.
        """
        return {slot: refill(tensors, clear) for slot, tensors in slots.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class NAdam:
    """Adam that looks ahead along its mean gradient (Dozat 2016), as torch.optim.NAdam has it.

    mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), P_t = mu_1 ... mu_t::

        w' = w - rate ((1 - mu_t) g / (1 - P_t) + mu_(t+1) m' / (1 - P_(t+1))) / (sqrt(v^) + eps)

    Attributes:
        beta1: decay of the mean gradient, per step.
        beta2: decay of the mean squared gradient, per step.
        eps: keeps the division finite.
        momentum_decay: how fast mu rises from beta1 / 2 to beta1.

    Raises:
        ValueError: a constant is outside its range.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum_decay: float = 0.004

    def __post_init__(self) -> None:
        check_fraction("beta1", self.beta1)
        check_fraction("beta2", self.beta2)
        check_positive("eps", self.eps)
        check_not_negative("momentum_decay", self.momentum_decay)

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:
        """Return averages of 0 with a total weight of 0, and products over no step."""
        return {
            "mean": slot_like(params),
            "square": slot_like(params),
            "square_weight": slices_like(params, growing),
            "square_waiting": shared_like(params),
            "fade": slices_like(params, growing, 1.0),  # 0.96^(t momentum_decay)
            "fade_waiting": shared_like(params, 1.0),
            "product": slices_like(params, growing, 1.0),  # P_t
            "product_waiting": shared_like(params, 1.0),
        }

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""
        factor = 0.96**self.momentum_decay

        def mu(fade: Tensor) -> Tensor:
            return self.beta1 * (1 - 0.5 * fade)

        def step(name: str) -> Tensors:
            p, g = params[name], grads[name]
            old = {slot: tensors[name] for slot, tensors in slots.items()}
            start = Start.of(old["square_weight"], g)
            weight, waiting = weigh(start, old["square_weight"], old["square_waiting"], self.beta2)
            fade, fade_waiting = start.advance(old["fade"], old["fade_waiting"], lambda f: f * factor, 1.0)
            now, following = mu(fade), mu(fade * factor)
            base = torch.where(start.before, old["product"], old["product_waiting"])
            product = torch.where(start.begun, base * now, 1.0)
            product_waiting = torch.where(
                start.before, old["product_waiting"], old["product_waiting"] * mu(fade_waiting)
            )
            mean = self.beta1 * old["mean"] + (1 - self.beta1) * g
            square = self.beta2 * old["square"] + (1 - self.beta2) * (g * g)
            # a slice that has not begun has nothing to move; its products are 1
            of_g = torch.where(start.begun, (1 - now) / (1 - torch.where(start.begun, product, 0.0)), 0.0)
            of_mean = torch.where(start.begun, following / (1 - product * following), 0.0)
            root = torch.rsqrt(torch.where(start.begun, weight, 1.0)).to(p.dtype)
            along = of_g.to(p.dtype) * g + of_mean.to(p.dtype) * mean
            return {
                "param": p - rate * (along / (torch.sqrt(square) * root + self.eps)),
                "mean": mean,
                "square": square,
                "square_weight": weight,
                "square_waiting": waiting,
                "fade": fade,
                "fade_waiting": fade_waiting,
                "product": product,
                "product_waiting": product_waiting,
            }

        return each(params, step, slots)

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Start again; see `Adam.clear`."""
        ones = ("fade", "fade_waiting", "product", "product_waiting")
        return {slot: refill(tensors, clear, float(slot in ones)) for slot, tensors in slots.items()}
