"""The native engine: runs a list of operations in one C call, compiled from the step itself.

Results are those of the eager engine to float tolerance, and do not depend on how a stream is cut into calls.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from streamnn.engine import Control, Engine
from streamnn.native.program import Operation, Program
from streamnn.operations import Kind, Operations, Results, Rows
from streamnn.step import Event, State, Step

FORGET = len(Kind)  # the operation by which the optimizer forgets


class NativeEngine(Engine):
    """Compiles a step at its first use, and again when a capacity has doubled.

    It runs single events; micro-batches go to the engine that torch's own kernels serve better.
    """

    name = "native"

    def __init__(self) -> None:
        self._step: Step | None = None
        self._program: Program | None = None
        self._kinds: frozenset[int] = frozenset()
        self._latest: tuple[State, Tensor] | None = None  # what was returned last, and the block it lies in
        self.compilations = 0

    def prepare(self, step: Step, state: State, kinds: Iterable[int]) -> Program:
        """Return the compiled step, compiling if there is none for it yet, or none with all kinds of operation asked for.

        Raises:
            UnsupportedOperatorError: an operator of the step has no lowering.
            CompilerError: there is no compiler, or it failed.
        """
        wanted = frozenset(kinds) | {FORGET}
        if self._program is None or self._step is not step or not wanted <= self._kinds:
            self._kinds |= wanted
            self._program, self._step, self._latest = compile_step(step, state, self._kinds), step, None
            self.compilations += 1
        return self._program

    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        program = self.prepare(step, state, np.unique(operations.kind).tolist())
        if self._latest is not None and self._latest[0] is state:
            block = self._latest[1].clone()
        else:
            block = program.pack([t for tensors in state.values() for t in tensors.values()])
        precision = np.float32 if step.dtype == torch.float32 else np.float64
        served = np.full((len(rows), step.head.width), np.nan)
        loss = np.full(len(rows), np.nan, dtype=precision)
        kind, row = operations.kind, operations.start
        learns = kind != Kind.PREDICT_OBSERVE
        if control.clear and learns.any():
            first = int(np.argmax(learns))
            kind, row = np.insert(kind, first, FORGET), np.insert(row, first, 0)
        inputs = [
            np.ascontiguousarray(rows.x),
            np.ascontiguousarray(rows.y),
            np.ascontiguousarray(rows.number),
            np.ascontiguousarray(control.plain),
            np.array(control.rate, dtype=precision),
        ]
        finite = program.run(block, np.ascontiguousarray(kind), np.ascontiguousarray(row), inputs, [served, loss])
        leaves = iter(program.unpack(block))
        new = {part: {name: next(leaves) for name in tensors} for part, tensors in state.items()}
        finite = finite and bool(np.isfinite(loss[operations.start[learns]]).all())
        self._latest = new, block
        return new, Results(served, loss.astype(np.float64)), finite


def compile_step(step: Step, state: State, kinds: frozenset[int] = frozenset({*Kind, FORGET})) -> Program:
    """Compile operations of a step at one capacity, for one event at a time."""
    names = {part: list(tensors) for part, tensors in state.items()}

    def nested(leaves: Sequence[Tensor]) -> State:
        flat = iter(leaves)
        return {part: {name: next(flat) for name in listed} for part, listed in names.items()}

    def flattened(new: State) -> list[Tensor]:
        return [new[part][name] for part, listed in names.items() for name in listed]

    def event(inputs: Sequence[Tensor]) -> Event:
        x, y, number, plain, rate = inputs
        one, no = torch.ones(1, dtype=torch.bool), torch.zeros((), dtype=torch.bool)
        return Event(x=x, y=y, valid=one, number=number, plain=plain, rate=rate, clear=no)

    def predict_learn(leaves: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new, served, loss = step.predict_learn(nested(leaves), event(inputs))
        return flattened(new), [served, loss]

    def predict_observe(leaves: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        old, now = nested(leaves), event(inputs)
        return flattened(step.observe(old, now)), [step.predict(old, now)]

    def learn(leaves: Sequence[Tensor], inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        new, loss = step.learn(nested(leaves), event(inputs))
        return flattened(new), [loss]

    def forget(leaves: Sequence[Tensor], _inputs: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        old = nested(leaves)
        slots = {part.partition(".")[2]: t for part, t in old.items() if part.startswith("optimizer.")}
        cleared = step.optimizer.clear(slots, torch.ones((), dtype=torch.bool))
        return flattened({**old, **{f"optimizer.{slot}": t for slot, t in cleared.items()}}), []

    inputs, width = state["inputs"]["mean"].shape[0], step.head.width
    return Program(
        [t for tensors in state.values() for t in tensors.values()],
        [
            Operation(predict_learn, (0, 1)),
            Operation(predict_observe, (0,)),
            Operation(learn, (1,)),
            Operation(forget, ()),
        ],
        rows=[
            torch.zeros(1, inputs, dtype=torch.float64),
            torch.zeros(1, width, dtype=torch.float64),
            torch.zeros(1, dtype=torch.int64),
        ],
        shared=[torch.zeros(inputs, dtype=torch.bool), torch.zeros((), dtype=step.dtype)],
        wanted=kinds,
    )
