"""The native engine: runs a list of operations in one C call, compiled from the step itself.

Results are those of the eager engine to float tolerance, and do not depend on how a stream is cut into calls.
"""

import copy
import weakref
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamnn.engine import Control, EagerEngine, Engine
from streamnn.flat import FORGET, FlatStep
from streamnn.native.ahead import Ahead
from streamnn.native.build import never
from streamnn.native.held import HeldState
from streamnn.native.outline import Outline, next_power
from streamnn.native.program import Operation, Program
from streamnn.operations import Kind, Operations, Results, Rows
from streamnn.step import State, Step

SERVED, LOSS = 0, 1  # where outputs go
_PRECISION: dict[torch.dtype, type[np.floating[Any]]] = {torch.float32: np.float32, torch.float64: np.float64}
# rows of a padded micro-batch above which torch's own kernels run it: up to here they were never faster in one thread, from
# 8-64-64-2 to 784-256-256-7 (tests/benchmarks/batch.py)
LARGEST = 4096


class NativeEngine(Engine):
    """Compiles a step at its first use, once for each size of micro-batch, and again when a capacity has doubled.

    A micro-batch is padded with rows that are not valid to the next power of two. One larger than `LARGEST` goes to torch.
    """

    name = "native"

    def __init__(self) -> None:
        self._flat: FlatStep | None = None
        self._programs: dict[int, Program] = {}
        self._met = frozenset[int]()  # kinds of operation
        self._ahead: Ahead | None = None
        self._stop_ahead: Callable[[], object] | None = None  # called when this engine is gone, if not before
        self._outlined: Outline | None = None  # of the list that is prepared for
        self._foreseen = 0  # the size up to which all programs, with all kinds met, have been asked for
        self._large = EagerEngine()
        self.compilations = 0

    def prepare(self, step: Step, state: State, kinds: Iterable[int], size: int = 1) -> Program:
        """Return the compiled step, compiling if there is none for it yet, or none with all kinds of operation asked for.

        Raises:
            UnsupportedOperatorError: an operator of the step has no lowering.
            CompilerError: there is no compiler, or it failed.
        """
        if not self._knows(step):
            self._forget(step, state)
        wanted, program = frozenset(kinds) | {FORGET}, self._programs.get(size)
        if program is None or not wanted <= program.kinds:
            if program is not None:
                wanted |= program.kinds
            program = self._ahead.take(size, wanted) if self._ahead else None
            self._programs[size] = program or compile_step(step, state, wanted, size)
            self.compilations += 1
        return self._programs[size]

    def foresee(self, step: Step, state: State, most: int) -> None:
        """Have compiled, in the background, what micro-batches of any size up to `most` need for the kinds of operation met."""
        if not self._knows(step):
            self._forget(step, state)
        if self._foreseen == most or not self._met:
            return
        self._foreseen = most
        if self._ahead is None:
            self._ahead = _ahead_of(step, state)
            self._stop_ahead = weakref.finalize(self, self._ahead.stop)
        kinds = self._met | {FORGET}
        sizes = [1 << i for i in reversed(range(min(next_power(most), LARGEST).bit_length()))]
        self._ahead.ask([n for n in sizes if n not in self._programs or not kinds <= self._programs[n].kinds], kinds)

    def _forget(self, step: Step, state: State) -> None:
        """Begin anew with another step."""
        if self._stop_ahead is not None:
            self._stop_ahead()  # once called, it no longer keeps what compiles ahead, and its programs, in memory
        self._programs, self._ahead, self._stop_ahead, self._foreseen = {}, None, None, 0
        self._flat = FlatStep(step, state)

    def _knows(self, step: Step) -> bool:
        return self._flat is not None and self._flat.step is step

    def prepare_all(self, step: Step, state: State, operations: Operations) -> None:
        """Compile whatever a list of operations needs; raises as `prepare` does."""
        outline = self._outlined = Outline.of(operations)
        for size, kinds in outline.needed:
            if not kinds <= self._met:
                self._met, self._foreseen = self._met | kinds, 0
            if size <= LARGEST:
                self.prepare(step, state, kinds, size)

    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        outline, self._outlined = self._outlined, None  # the next list may lie in the same memory
        ready = outline is not None and outline.operations is operations and self._knows(step)
        if outline is None or not ready:
            outline = Outline.of(operations)
        if len(outline.needed) == 1 and outline.needed[0][0] <= LARGEST:
            size, kinds = outline.needed[0]
            program = self._programs[size] if ready else self.prepare(step, state, kinds, size)
            if size == 1:
                return self._run_single(program, step, state, rows, operations, control)
            return self._run_equal(program, step, state, rows, operations, control, size)
        sizes = outline.sizes
        edges = [0, *(np.flatnonzero(np.diff(np.minimum(sizes, LARGEST + 1))) + 1).tolist(), len(operations)]
        served = np.full((len(rows), step.head.width), np.nan)
        loss = np.full(len(rows), np.nan)
        sound, clear = True, control.clear
        for first, last in pairwise(edges):
            if first == last:
                continue
            part = Operations(operations.kind[first:last], operations.start[first:last], operations.stop[first:last])
            now = Control(control.rate, clear, control.plain)
            size = int(sizes[first])
            if size > LARGEST:
                # leaves that lie the other way round would give torch's kernels another order of sums
                state = {name: {k: t.contiguous() for k, t in leaves.items()} for name, leaves in state.items()}
                state, results, good = self._large._run(step, state, rows, part, now)
            else:
                state, results, good = self._run(step, state, rows, part, now)
            predicted = part.covered(len(rows), Kind.PREDICT_LEARN, Kind.PREDICT_OBSERVE)
            learned = part.covered(len(rows), Kind.PREDICT_LEARN, Kind.LEARN)
            served[predicted], loss[learned] = results.served[predicted], results.loss[learned]
            sound, clear = sound and good, clear and not learned.any()
        return state, Results(served, loss), sound

    def _run_single(
        self, program: Program, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        """Run operations of one row each."""
        begin, block = self._block(program, state), program.take()
        kind, row = operations.kind, operations.start
        if control.clear:
            kind, row = _forgetting(kind, row)
        precision = _PRECISION[step.dtype]
        served, loss = np.empty((len(rows), step.head.width)), np.empty(len(rows), dtype=precision)
        served.fill(np.nan)
        loss.fill(np.nan)
        inputs = [rows.x, rows.y, rows.number, control.plain, np.array(control.rate, dtype=precision)]
        finite = program.run(block, kind, row, inputs, [served, loss], begin=begin)
        return self._held(program, block), Results(served, loss.astype(np.float64)), finite

    def _run_equal(
        self,
        program: Program,
        step: Step,
        state: State,
        rows: Rows,
        operations: Operations,
        control: Control,
        size: int,
    ) -> tuple[State, Results, bool]:
        """Run operations whose micro-batches have the same size, larger than one, once padded."""
        begin, block = self._block(program, state), program.take()
        place = operations.start[:, None] + np.arange(size)
        valid = place < operations.stop[:, None]
        at = np.where(valid, place, 0)
        precision = _PRECISION[step.dtype]
        inputs = [
            np.where(valid[..., None], rows.x[at], np.nan),
            np.where(valid[..., None], rows.y[at], np.nan),
            rows.number[at],
            valid,
            control.plain,
            np.array(control.rate, dtype=precision),
        ]
        served = np.full((len(operations), size, step.head.width), np.nan)
        loss = np.full((len(operations), size), np.nan, dtype=precision)
        kind, row = operations.kind, np.arange(len(operations))
        if control.clear:
            kind, row = _forgetting(kind, row)
        finite = program.run(block, kind, row, inputs, [served, loss], begin=begin)
        learns, predicts = operations.kind != Kind.PREDICT_OBSERVE, operations.kind != Kind.LEARN
        out, losses = np.full((len(rows), step.head.width), np.nan), np.full(len(rows), np.nan)
        out[place[predicts][valid[predicts]]] = served[predicts][valid[predicts]]
        losses[place[learns][valid[learns]]] = loss[learns][valid[learns]]
        return self._held(program, block), Results(out, losses), finite

    def _block(self, program: Program, state: State) -> Tensor:
        """Return the block in which a state lies as the program has it."""
        if isinstance(state, HeldState) and state.free is program.free:
            return state.block
        assert self._flat is not None
        return program.pack(self._flat.flattened(state))

    def _held(self, program: Program, block: Tensor) -> HeldState:
        assert self._flat is not None
        return HeldState(block, self._flat.names, program.unpack, program.free)


def _forgetting(
    kind: npt.NDArray[np.int8], row: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """Have the optimizer forget before the first learning step, if there is one."""
    learns = kind != Kind.PREDICT_OBSERVE
    if not learns.any():
        return kind, row
    first = int(np.argmax(learns))
    return np.insert(kind, first, FORGET), np.insert(row, first, 0)


def _ahead_of(step: Step, state: State) -> Ahead:
    """Compile ahead for a step. While it is traced a network's weights are exchanged, so another thread needs its own."""
    own = replace(step, network=copy.deepcopy(step.network))
    examples = {part: {name: torch.zeros_like(t) for name, t in named.items()} for part, named in state.items()}
    return Ahead(lambda size, kinds, given_up: compile_step(own, examples, kinds, size, given_up=given_up))


def compile_step(
    step: Step,
    state: State,
    kinds: frozenset[int] = frozenset({*Kind, FORGET}),
    size: int = 1,
    *,
    given_up: Callable[[], bool] = never,
) -> Program:
    """Compile operations of a step at one capacity, for micro-batches of one size."""
    flat = FlatStep(step, state)
    outputs = ((SERVED, LOSS), (SERVED,), (LOSS,), ())
    return Program(
        flat.flattened(state),
        [
            Operation(function, slots, finite=frozenset({LOSS} & {*slots}))
            for function, slots in zip(flat.functions, outputs, strict=True)
        ],
        rows=[torch.zeros(shape, dtype=dtype) for shape, dtype in flat.rows(size)],
        shared=[torch.zeros(shape, dtype=dtype) for shape, dtype in flat.shared],
        wanted=kinds,
        given_up=given_up,
    )
