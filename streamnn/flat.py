"""The operations of a step as functions of flat lists of tensors, which is what engines that trace a step work on.

Each takes the leaves of a state in their order and the fields of an event, and returns the new leaves and what comes out.

Axes: B rows of a micro-batch, F input capacity, W head width.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from streamnn.operations import Kind
from streamnn.step import Event, State, Step

FORGET = len(Kind)  # the operation by which the optimizer forgets; it has no event

Function = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[list[Tensor], list[Tensor]]]
Field = tuple[tuple[int, ...], torch.dtype]


class FlatStep:
    """A step at one capacity.

    The fields of an event are x [B, F], y [B, W], number [B], valid [B] (where B > 1: a single event is never padding, and
    its mask is a constant that folds away), plain [F] and rate []; see `Event`.

    What comes out is, by kind: served and loss, served, loss, nothing (`FORGET`).
    """

    def __init__(self, step: Step, state: State) -> None:
        self.step = step
        self.names = {part: list(tensors) for part, tensors in state.items()}
        self._inputs = state["inputs"]["mean"].shape[0]

    @property
    def functions(self) -> tuple[Function, ...]:
        """The operations, in the order of `Kind`, and `FORGET`."""
        return self._predict_learn, self._predict_observe, self._learn, self._forget

    def rows(self, size: int) -> list[Field]:
        """Return shape and type of each field that a micro-batch of `size` rows has."""
        return [
            ((size, self._inputs), torch.float64),
            ((size, self.step.head.width), torch.float64),
            ((size,), torch.int64),
            *([((size,), torch.bool)] if size > 1 else []),
        ]

    @property
    def shared(self) -> list[Field]:
        """Shape and type of each field that holds for all micro-batches of a call."""
        return [((self._inputs,), torch.bool), ((), self.step.dtype)]

    def nested(self, leaves: Sequence[Tensor]) -> State:
        """Put leaves in their places in a state."""
        flat = iter(leaves)
        return {part: {name: next(flat) for name in listed} for part, listed in self.names.items()}

    def flattened(self, state: State) -> list[Tensor]:
        """List the leaves of a state."""
        return [state[part][name] for part, listed in self.names.items() for name in listed]

    def _predict_learn(self, leaves: Sequence[Tensor], fields: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new, served, loss = self.step.predict_learn(self.nested(leaves), _event(fields))
        return self.flattened(new), [served, loss]

    def _predict_observe(self, leaves: Sequence[Tensor], fields: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        old, now = self.nested(leaves), _event(fields)
        return self.flattened(self.step.observe(old, now)), [self.step.predict(old, now)]

    def _learn(self, leaves: Sequence[Tensor], fields: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new, loss = self.step.learn(self.nested(leaves), _event(fields))
        return self.flattened(new), [loss]

    def _forget(self, leaves: Sequence[Tensor], _fields: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        old = self.nested(leaves)
        slots = {part.partition(".")[2]: t for part, t in old.items() if part.startswith("optimizer.")}
        cleared = self.step.optimizer.clear(slots, torch.ones((), dtype=torch.bool))
        return self.flattened({**old, **{f"optimizer.{slot}": t for slot, t in cleared.items()}}), []


def _event(fields: Sequence[Tensor]) -> Event:
    x, y, number, *padding, plain, rate = fields
    valid = padding[0] if padding else torch.ones(1, dtype=torch.bool)
    no = torch.zeros((), dtype=torch.bool)
    return Event(x=x, y=y, valid=valid, number=number, plain=plain, rate=rate, clear=no)
