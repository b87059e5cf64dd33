"""Optimizers and controls of the rate that are tried beside those of the package, in this benchmark alone.

DoG and hypergradient descent find a rate on their own, one for all weights; they take the place of "sgd" while a run lasts.
Two controls answer to a drift otherwise than the package's: they take the place of "fixed". And the default pool is run under
some of the controls, its own and these.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from pipeline import assembly
from pipeline.bench.quality.learners import OURS
from streamnn.drift.base import FloatArray
from streamnn.lr_control import Action, Exponential, Level, RateControl
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


class Restart(Exponential):
    """The exponential schedule, begun anew at each drift: what published studies call a reset of the learning rate."""

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:
        """Count the events, from the drift on."""
        self.learned = 0 if drifted else self.learned + len(loss)
        return Action(self.rate)


class Warm:
    """A warm restart sized by the drift: the rate rises by as much as the level of the loss has, and falls back in time.

    Args:
        base_rate: at the first event, and what the rate falls back to.
        most: share of the base rate that it rises to at most.
        half_life: events in which what it is above the base rate halves.
        horizons: events that the level before a drift, and the one at it, fade over.
    """

    def __init__(
        self,
        base_rate: float,
        *,
        most: float = 4.0,
        half_life: float = 1000.0,
        horizons: tuple[float, float] = (2000.0, 200.0),
    ) -> None:
        self.base_rate, self.most, self.half_life = base_rate, most, half_life
        self.before, self.now = Level(horizons[0]), Level(horizons[1])
        self.above = 0.0

    @property
    def rate(self) -> float:
        """The rate in force."""
        return self.base_rate * (1 + self.above)

    def update(self, loss: FloatArray, *, drifted: bool) -> Action:
        """Follow both levels, and rise at a drift."""
        self.above *= 0.5 ** (len(loss) / self.half_life)
        if drifted and self.before.value > 0:
            self.above = max(self.above, min(self.now.value / self.before.value, self.most) - 1)
        self.before.add(loss)
        self.now.add(loss)
        return Action(self.rate, clear=drifted)

    def state_dict(self) -> dict[str, Any]:
        """Return everything for a checkpoint; runs of the benchmark are never resumed."""
        return {"above": self.above}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.above = float(state["above"])


def _restart(base_rate: float) -> RateControl:
    return Restart(base_rate, half_life=20_000, floor=0.1)  # the constants of the package's exponential schedule


_OPTIMIZERS: dict[str, type] = {"dog": DoG, "hypergradient": Hypergradient}
_CONTROLS = {"restart": _restart, "warm": Warm}
_POOL = ("fixed", "exponential", "plateau", "drift")
TRIED = (
    *_OPTIMIZERS,
    *(f"adam_{name}" for name in _CONTROLS),
    *(f"best_{name}" for name in (*_POOL, *_CONTROLS)),
)


@contextmanager
def tried(learner: str) -> Iterator[str]:
    """Have one of `TRIED` in this process; yields the name of the learner of ours that then is it."""
    kind, _, name = learner.rpartition("_")
    if learner in _OPTIMIZERS:
        with mock.patch.dict(OPTIMIZERS, {"sgd": _OPTIMIZERS[learner]}):
            yield "sgd_fixed"
        return
    control = name if name in _POOL else "fixed"
    words = ("model.preset=best",) if kind == "best" else OURS["adam_fixed"][:1]
    with mock.patch.dict(OURS, {learner: (*words, f"rate.control={control}")}):
        if name not in _CONTROLS:
            yield learner
            return
        with mock.patch.object(assembly, "make_control", lambda _, rate, __: _CONTROLS[name](rate)):
            yield learner
