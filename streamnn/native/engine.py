"""The native engine: runs a list of operations in one C call, compiled from the step itself.

Results are those of the eager engine to float tolerance, and do not depend on how a stream is cut into calls.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamnn.engine import Control, EagerEngine, Engine
from streamnn.native.program import Operation, Program
from streamnn.operations import Kind, Operations, Results, Rows
from streamnn.step import Event, State, Step

FORGET = len(Kind)  # the operation by which the optimizer forgets
# rows of a padded micro-batch above which torch's own kernels run it: up to here they were never faster in one thread, from
# 8-64-64-2 to 784-256-256-7 (tests/benchmarks/batch.py)
LARGEST = 1024


class NativeEngine(Engine):
    """Compiles a step at its first use, once for each size of micro-batch, and again when a capacity has doubled.

    A micro-batch is padded with rows that are not valid to the next power of two. One larger than `LARGEST` goes to torch.
    """

    name = "native"

    def __init__(self) -> None:
        self._step: Step | None = None
        self._programs: dict[int, Program] = {}
        self._kinds: dict[int, frozenset[int]] = {}
        self._latest: tuple[State, Tensor, int] | None = None  # what was returned last, the block it lies in, its size
        self._large = EagerEngine()
        self.compilations = 0

    def prepare(self, step: Step, state: State, kinds: Iterable[int], size: int = 1) -> Program:
        """Return the compiled step, compiling if there is none for it yet, or none with all kinds of operation asked for.

        Raises:
            UnsupportedOperatorError: an operator of the step has no lowering.
            CompilerError: there is no compiler, or it failed.
        """
        if self._step is not step:
            self._programs, self._latest, self._step = {}, None, step
        wanted, known = frozenset(kinds) | {FORGET}, self._kinds.get(size, frozenset())
        if size not in self._programs or not wanted <= known:
            self._kinds[size] = known | wanted
            self._programs[size], self._latest = compile_step(step, state, self._kinds[size], size), None
            self.compilations += 1
        return self._programs[size]

    def prepare_all(self, step: Step, state: State, operations: Operations) -> None:
        """Compile whatever a list of operations needs; raises as `prepare` does."""
        sizes = padded(operations)
        one = len(sizes) > 0 and bool((sizes == sizes[0]).all())
        for size in [int(sizes[0])] if one else np.unique(sizes).tolist():
            if size <= LARGEST:
                self.prepare(step, state, _kinds(operations.kind[sizes == size]), size)

    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        sizes = padded(operations)
        edges = [0, *(np.flatnonzero(np.diff(np.minimum(sizes, LARGEST + 1))) + 1).tolist(), len(operations)]
        if len(edges) == 2 and len(operations) and sizes[0] <= LARGEST:
            return self._run_equal(step, state, rows, operations, control, int(sizes[0]))
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
                state, results, good = self._run_equal(step, state, rows, part, now, size)
            predicted = part.covered(len(rows), Kind.PREDICT_LEARN, Kind.PREDICT_OBSERVE)
            learned = part.covered(len(rows), Kind.PREDICT_LEARN, Kind.LEARN)
            served[predicted], loss[learned] = results.served[predicted], results.loss[learned]
            sound, clear = sound and good, clear and not learned.any()
        return state, Results(served, loss), sound

    def _run_equal(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control, size: int
    ) -> tuple[State, Results, bool]:
        """Run operations whose micro-batches have the same size once padded."""
        program = self.prepare(step, state, _kinds(operations.kind), size)
        if self._latest is not None and self._latest[0] is state and self._latest[2] == size:
            block = self._latest[1].clone()
        else:
            block = program.pack([t for tensors in state.values() for t in tensors.values()])
        precision = np.float32 if step.dtype == torch.float32 else np.float64
        kind = operations.kind
        learns = kind != Kind.PREDICT_OBSERVE
        place = operations.start[:, None] + np.arange(size)
        valid = place < operations.stop[:, None]
        if size == 1:
            row, groups = operations.start, len(rows)
            inputs: list[npt.NDArray[np.generic]] = [np.ascontiguousarray(a) for a in (rows.x, rows.y, rows.number)]
        else:
            row, groups = np.arange(len(kind)), len(kind)
            at = np.where(valid, place, 0)
            inputs = [
                np.where(valid[..., None], rows.x[at], np.nan),
                np.where(valid[..., None], rows.y[at], np.nan),
                rows.number[at],
                valid,
            ]
        served = np.full((groups, size, step.head.width), np.nan)
        loss = np.full((groups, size), np.nan, dtype=precision)
        if control.clear and learns.any():
            first = int(np.argmax(learns))
            kind, row = np.insert(kind, first, FORGET), np.insert(row, first, 0)
        inputs += [np.ascontiguousarray(control.plain), np.array(control.rate, dtype=precision)]
        finite = program.run(block, np.ascontiguousarray(kind), np.ascontiguousarray(row), inputs, [served, loss])
        leaves = iter(program.unpack(block))
        new = {part: {name: next(leaves) for name in tensors} for part, tensors in state.items()}
        self._latest = new, block, size
        if size == 1:
            finite = finite and bool(np.isfinite(loss[operations.start[learns]]).all())
            return new, Results(served[:, 0], loss[:, 0].astype(np.float64)), finite
        finite = finite and bool(np.isfinite(loss[learns][valid[learns]]).all())
        predicts = operations.kind != Kind.LEARN
        out, losses = np.full((len(rows), step.head.width), np.nan), np.full(len(rows), np.nan)
        out[place[predicts][valid[predicts]]] = served[predicts][valid[predicts]]
        losses[place[learns][valid[learns]]] = loss[learns][valid[learns]]
        return new, Results(out, losses), finite


def _kinds(kind: npt.NDArray[np.int8]) -> list[int]:
    """List the kinds of operation that occur."""
    one = len(kind) > 0 and bool((kind == kind[0]).all())
    return [int(kind[0])] if one else np.unique(kind).tolist()


def padded(operations: Operations) -> npt.NDArray[np.int64]:
    """Return the next power of two of each operation's rows, [N]."""
    rows: npt.NDArray[np.int64] = np.maximum(operations.stop - operations.start, 1)
    if (rows == 1).all():
        return rows
    sizes: npt.NDArray[np.int64] = np.left_shift(1, np.ceil(np.log2(rows)).astype(np.int64))
    return sizes


def compile_step(
    step: Step, state: State, kinds: frozenset[int] = frozenset({*Kind, FORGET}), size: int = 1
) -> Program:
    """Compile operations of a step at one capacity, for micro-batches of one size."""
    names = {part: list(tensors) for part, tensors in state.items()}

    def nested(leaves: Sequence[Tensor]) -> State:
        flat = iter(leaves)
        return {part: {name: next(flat) for name in listed} for part, listed in names.items()}

    def flattened(new: State) -> list[Tensor]:
        return [new[part][name] for part, listed in names.items() for name in listed]

    def event(inputs: Sequence[Tensor]) -> Event:
        x, y, number, *padding, plain, rate = inputs
        # a single event is never padding: its mask is a constant that folds away
        valid = padding[0] if padding else torch.ones(1, dtype=torch.bool)
        no = torch.zeros((), dtype=torch.bool)
        return Event(x=x, y=y, valid=valid, number=number, plain=plain, rate=rate, clear=no)

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
            torch.zeros(size, inputs, dtype=torch.float64),
            torch.zeros(size, width, dtype=torch.float64),
            torch.zeros(size, dtype=torch.int64),
            *([torch.ones(size, dtype=torch.bool)] if size > 1 else []),
        ],
        shared=[torch.zeros(inputs, dtype=torch.bool), torch.zeros((), dtype=step.dtype)],
        wanted=kinds,
    )
