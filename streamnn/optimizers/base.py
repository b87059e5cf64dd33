"""What an optimizer is: pure functions from gradients to new parameters.

Whatever an optimizer remembers lies in slots, `{slot: {parameter: tensor}}`, which it takes and returns. A slot's
tensor has as many dimensions as its parameter, each of the parameter's size, or of size 1 where it is shared along it;
so it can grow with the parameter. An entry of a parameter that no input or class uses yet has a gradient of exactly 0,
and must be left as it is: results do not depend on how much room there is.
"""

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
Slots = dict[str, Tensors]
Growing = Mapping[str, tuple[int, ...]]


class Optimizer(Protocol):
    """Turns gradients into steps. Implementations are frozen dataclasses that hold constants only."""

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:
        """Return the slots of an optimizer that has made no step.

        Args:
            params: by name.
            growing: parameter -> its dimensions along which entries can be added later.
        """
        ...

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step: return the new parameters and slots. `rate` is [], in the parameters' precision."""
        ...

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Forget what scales the steps if `clear` ([] bool) is True, as after a drift; velocities of SGD stay."""
        ...


def slot_like(params: Mapping[str, Tensor], value: float = 0.0, dtype: torch.dtype | None = None) -> Tensors:
    """Make a slot with an entry for each weight."""
    return {name: torch.full_like(p, value, dtype=dtype or p.dtype) for name, p in params.items()}


def refill(tensors: Tensors, clear: Tensor, value: float = 0.0) -> Tensors:
    """Set a slot to a value where `clear` is True."""
    return {name: torch.where(clear, value, t) for name, t in tensors.items()}


def each(names: Mapping[str, Tensor], step: Callable[[str], Tensors], slots: Slots) -> tuple[Tensors, Slots]:
    """Collect `step(parameter)`, which returns the new parameter as "param" and the new tensor of each slot."""
    params: Tensors = {}
    new: Slots = {slot: {} for slot in slots}
    for name in names:
        moved = step(name)
        params[name] = moved["param"]
        for slot, tensors in new.items():
            tensors[name] = moved[slot]
    return params, new


def check_fraction(name: str, value: float) -> None:
    """Refuse a decay that is not in [0, 1)."""
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, but must be at least 0 and below 1")


def check_positive(name: str, value: float) -> None:
    """Refuse a constant that is not positive."""
    if not value > 0:
        raise ValueError(f"{name} is {value}, but must be positive")


def check_not_negative(name: str, value: float) -> None:
    """Refuse a negative constant."""
    if not value >= 0:
        raise ValueError(f"{name} is {value}, but must be at least 0")
