"""Optimizers that find a rate on their own and are tried beside those of the package: DoG and hypergradient descent.

They take the place of "sgd" while a run lasts. Both have one step size for all weights.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from streamnn.optimizers import OPTIMIZERS
from streamnn.optimizers.base import Growing, Slots, Tensors, slot_like


def _shared(params: Mapping[str, Tensor], value: Tensor | float) -> Tensors:
    """One number for all weights, as a slot: the same in each."""
    return {name: torch.zeros([1] * p.dim(), dtype=torch.float64) + value for name, p in params.items()}


def _of(slot: Tensors) -> Tensor:
    return next(iter(slot.values())).sum()


def _dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([(a[name].to(torch.float64) * b[name]).sum() for name in a]).sum()


@dataclass(frozen=True, slots=True, kw_only=True)
class DoG:
    """Distance over gradients (Ivgi, Hinder and Carmon 2023, arXiv 2302.12022): w' = w - r / sqrt(sum |g|^2 + eps) g.

    r is the largest distance of the weights from where they began, at least 1e-6 (1 + |w_0|). The rate is not used. The
    weights themselves are served; the paper also averages them.
    """

    eps: float = 1e-8

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:
        """Return the start weights; nothing has moved."""
        start = {name: p.to(torch.float64, copy=True) for name, p in params.items()}
        least = 1e-6 * (1 + torch.sqrt(_dot(start, start)))
        return {"start": start, "far": _shared(params, least), "square": _shared(params, 0.0)}

    def update(
        self,
        grads: Mapping[str, Tensor],
        slots: Slots,
        params: Mapping[str, Tensor],
        rate: Tensor,
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""
        moved = {name: p.to(torch.float64) - slots["start"][name] for name, p in params.items()}
        far = torch.maximum(_of(slots["far"]), torch.sqrt(_dot(moved, moved)))
        square = _of(slots["square"]) + _dot(grads, grads)
        step = far / torch.sqrt(square + self.eps)
        new = {name: (p - step * grads[name]).to(p.dtype) for name, p in params.items()}
        return new, {"start": slots["start"], "far": _shared(params, far), "square": _shared(params, square)}

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Change nothing."""
        return slots


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypergradient:
    """SGD whose rate follows its own gradient (Baydin et al. 2018, arXiv 1703.04782, SGD-HD): rate' = rate + beta g g_before.

    The rate begins at the one that is set and stays at least 0.
    """

    beta: float = 0.001

    def init(self, params: Mapping[str, Tensor], *, growing: Growing) -> Slots:
        """Return no gradient and no change of the rate."""
        return {"before": slot_like(params), "change": _shared(params, 0.0)}

    def update(
        self, grads: Mapping[str, Tensor], slots: Slots, params: Mapping[str, Tensor], rate: Tensor
    ) -> tuple[Tensors, Slots]:
        """Make one step; see `Optimizer`."""
        change = torch.maximum(_of(slots["change"]) + self.beta * _dot(grads, slots["before"]), -rate.to(torch.float64))
        new = {name: (p - (rate + change) * grads[name]).to(p.dtype) for name, p in params.items()}
        return new, {"before": dict(grads), "change": _shared(params, change)}

    def clear(self, slots: Slots, clear: Tensor) -> Slots:
        """Change nothing."""
        return slots


TRIED: dict[str, type] = {"dog": DoG, "hypergradient": Hypergradient}


@contextmanager
def tried(learner: str) -> Iterator[str]:
    """Let one of `TRIED` be "sgd" in this process; yields the name of the learner of ours that then uses it."""
    with mock.patch.dict(OPTIMIZERS, {"sgd": TRIED[learner]}):
        yield "sgd_fixed"
