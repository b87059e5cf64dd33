"""How long a weight has been averaged over: the denominators of Adam's bias correction, for weights of different age.

An exponential average of t values with decay b that started at 0 has the total weight 1 - b^t, and is divided by it.
With one t for a whole parameter, a weight that is added when t is large gets its first average divided by 1 instead of
by 1 - b: for Adam a first step 1 / sqrt(1 - b2) times too large (10 to 30 times). So there is a t for each slice along
the dimensions that can grow; and instead of t, which would ask for a power for each slice at each step (as dear as the
rest of a small network's update), the total weight itself is kept: w' = b w + (1 - b).

When does a slice's t begin? The capacity beyond the inputs and classes in use must not count, or a stream would learn
differently with other capacities; all that tells those slices apart is that their gradient is exactly 0. So:

- A slice begins with its first gradient other than 0.
- The slices that begin in the first step that gives their parameter any gradient at all count the steps before it too,
  as torch does (a hidden layer gets none as long as the output weights are 0). Those that begin later count from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from streamnn.optimizers.base import Growing, Tensors


def slices_like(params: Mapping[str, Tensor], growing: Growing, value: float = 0.0) -> Tensors:
    """Make a float64 slot with an entry for each slice along the growing dimensions."""
    slot = {}
    for name, p in params.items():
        shape = [n if d in growing.get(name, ()) else 1 for d, n in enumerate(p.shape)]
        slot[name] = torch.full(shape, value, dtype=torch.float64)
    return slot


def shared_like(params: Mapping[str, Tensor], value: float = 0.0) -> Tensors:
    """Make a float64 slot with one entry for each parameter."""
    return {name: torch.full([1] * p.dim(), value, dtype=torch.float64) for name, p in params.items()}


@dataclass(frozen=True, slots=True)
class Start:
    """Which slices of a parameter have begun.

    Attributes:
        before: [1...] bool; the parameter had a gradient before this step.
        begun: bool, per slice; including those that begin with this step.
    """

    before: Tensor
    begun: Tensor

    @classmethod
    def of(cls, weight: Tensor, grad: Tensor) -> "Start":
        """Compare the slices' weights (0 = not begun) with the gradient of this step."""
        shared = [d for d in range(grad.dim()) if weight.shape[d] != grad.shape[d]]
        size = grad.abs().sum(shared, keepdim=True) if shared else grad.abs()
        # a sum, not any(): it is vectorised
        return cls(weight.sum() > 0, (weight > 0) | (size != 0))

    def advance(
        self, value: Tensor, waiting: Tensor, move: Callable[[Tensor], Tensor], rest: float
    ) -> tuple[Tensor, Tensor]:
        """Move a quantity that changes with every step.

        Args:
            value: per slice; `rest` where it has not begun.
            waiting: [1...]; the quantity as it would be if the parameter had begun with the first step of all.
            move: from one step to the next.
            rest: before the first step.
        """
        base = torch.where(self.before, value, waiting)
        return torch.where(self.begun, move(base), rest), torch.where(self.before, waiting, move(waiting))


def weigh(start: Start, weight: Tensor, waiting: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Advance the total weight of an exponential average: `weight` per slice, and `waiting`, see `Start.advance`."""
    return start.advance(weight, waiting, lambda w: decay * w + (1 - decay), 0.0)
