"""Engines run a list of operations over encoded rows; the eager one does it with torch, and is the reference.

In: a step, a state, encoded rows, operations. Out: the new state and the results. The state passed in is not changed,
so the caller's reference to it is the snapshot to which a chunk that went wrong is undone.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamnn.operations import BoolArray, Kind, Operations, Results, Rows
from streamnn.step import Event, State, Step


@dataclass(frozen=True, slots=True)
class Control:
    """What holds for all operations of one call.

    Attributes:
        rate: learning rate.
        clear: the optimizer forgets its second moments before the first learning step.
        plain: [F] bool, inputs used as they are.
    """

    rate: float
    clear: bool
    plain: BoolArray


class Engine(ABC):
    """Runs operations, undoing and leaving out what makes the state infinite or NaN."""

    name: str
    compilations = 0

    def run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results]:
        """Run the operations in order.

        If a loss or the state is not finite at the end, everything is undone and run again one operation at a time,
        leaving out the events that caused it.
        """
        new, results, sound = self._run(step, state, rows, operations, control)
        if sound:
            return new, results
        return self._run_guarded(step, state, rows, operations, control)

    @abstractmethod
    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        """Run the operations in order, come what may; `state` is not changed.

        Returns the new state, the results, and whether the losses of what was learned and the new state are finite.
        """

    def _run_guarded(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results]:
        served = np.full((len(rows), step.head.width), np.nan)
        loss = np.full(len(rows), np.nan)
        refused: dict[int, str] = {}
        clear = control.clear
        for i in range(len(operations)):
            kind = Kind(int(operations.kind[i]))
            group = [r for r in range(operations.start[i], operations.stop[i]) if r not in refused]
            while group:
                part = Rows(rows.x[group], rows.y[group], rows.number[group])
                one = Operations.of([(kind, 0, len(group))])
                now = Control(control.rate, clear, control.plain)
                new, results, sound = self._run(step, state, part, one, now)
                if sound:
                    state = new
                    if kind != Kind.LEARN:
                        served[group] = results.served
                    if kind != Kind.PREDICT_OBSERVE:
                        loss[group], clear = results.loss, False
                    break
                bad = self._find_bad(step, state, part, kind, now)
                for row in bad:
                    refused[group[row]] = _why(kind)
                group = [r for i, r in enumerate(group) if i not in bad]
        for row in refused:
            loss[row] = np.nan
        return state, Results(served, loss, refused)

    def _find_bad(self, step: Step, state: State, part: Rows, kind: Kind, control: Control) -> set[int]:
        """Find the rows that go wrong on their own; all of them, if they only do together."""
        bad = set()
        for row in range(len(part)):
            alone = Rows(part.x[[row]], part.y[[row]], part.number[[row]])
            if not self._run(step, state, alone, Operations.of([(kind, 0, 1)]), control)[2]:
                bad.add(row)
        return bad or set(range(len(part)))


class EagerEngine(Engine):
    """Runs operations with torch; every step is a few milliseconds of Python and autograd."""

    name = "eager"

    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        feed = _Feed(step, rows, control)
        served = np.full((len(rows), step.head.width), np.nan)
        loss = np.full(len(rows), np.nan)
        clear, sound = control.clear, True
        starts, stops = operations.start.tolist(), operations.stop.tolist()
        for kind, start, stop in zip(operations.kind.tolist(), starts, stops, strict=True):
            event = feed.event(start, stop, clear=clear)
            if kind == Kind.PREDICT_LEARN:
                state, out, losses = step.predict_learn(state, event)
                served[start:stop], loss[start:stop], clear = out.numpy(), losses.numpy(), False
                sound = sound and bool(losses.isfinite().all())
            elif kind == Kind.PREDICT_OBSERVE:
                served[start:stop] = step.predict(state, event).numpy()
                state = step.observe(state, event)
            else:
                state, losses = step.learn(state, event)
                loss[start:stop], clear = losses.numpy(), False
                sound = sound and bool(losses.isfinite().all())
        return state, Results(served, loss), sound and _finite(state)


class _Feed:
    """Cuts events out of a chunk's tensors, which are made once."""

    def __init__(self, step: Step, rows: Rows, control: Control) -> None:
        self._x, self._y = torch.from_numpy(rows.x), torch.from_numpy(rows.y)
        self._number = torch.from_numpy(rows.number)
        self._valid = torch.ones(len(rows), dtype=torch.bool)
        self._plain = torch.from_numpy(control.plain)
        self._rate = torch.tensor(control.rate, dtype=step.dtype)
        self._clear = {flag: torch.tensor(flag) for flag in (False, True)}

    def event(self, start: int, stop: int, *, clear: bool) -> Event:
        return Event(
            x=self._x[start:stop],
            y=self._y[start:stop],
            valid=self._valid[start:stop],
            number=self._number[start:stop],
            plain=self._plain,
            rate=self._rate,
            clear=self._clear[clear],
        )


def _finite(state: Mapping[str, Mapping[str, Tensor]]) -> bool:
    return all(
        bool(torch.isfinite(t).all()) for tensors in state.values() for t in tensors.values() if t.is_floating_point()
    )


def _why(kind: Kind) -> str:
    if kind == Kind.PREDICT_OBSERVE:
        return "counting its inputs would make the model's input statistics infinite or NaN"
    return "learning from it would make the loss or the model's state infinite or NaN"
