"""The native engine: runs a list of operations in one C call, compiled from the step itself.

Results are those of the eager engine to float tolerance, and do not depend on how a stream is cut into calls.
"""

import numpy as np
import torch

from streamnn.engine import Control, Engine
from streamnn.native.program import Program
from streamnn.operations import Operations, Results, Rows
from streamnn.step import State, Step


class NativeEngine(Engine):
    """Compiles a step at its first use, and again when a capacity has doubled.

    It runs single events; micro-batches go to the engine that torch's own kernels serve better.
    """

    name = "native"

    def __init__(self) -> None:
        self._step: Step | None = None
        self._program: Program | None = None
        self.compilations = 0

    def prepare(self, step: Step, state: State) -> Program:
        """Return the compiled step, compiling if there is none for it yet.

        Raises:
            UnsupportedOperator: an operator of the step has no lowering.
            CompilerError: there is no compiler, or it failed.
        """
        if self._program is None or self._step is not step:
            self._program, self._step = Program(step, state), step
            self.compilations += 1
        return self._program

    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results]:
        program = self.prepare(step, state)
        new = {
            part: {name: t.clone(memory_format=torch.contiguous_format) for name, t in tensors.items()}
            for part, tensors in state.items()
        }
        precision = np.float32 if step.dtype == torch.float32 else np.float64
        served = np.full((len(rows), step.head.width), np.nan)
        loss = np.full(len(rows), np.nan, dtype=precision)
        arrays = [
            np.ascontiguousarray(rows.x),
            np.ascontiguousarray(rows.y),
            np.ascontiguousarray(rows.number),
            np.ascontiguousarray(control.plain),
            np.array(control.rate, dtype=precision),
            np.array(control.clear),
        ]
        program.run(new, operations, arrays, served, loss)
        return new, Results(served, loss.astype(np.float64))
