"""Micro-batches of one size on a device: rings that rows and results pass through, and a graph for each operation.

A graph is always the same work on the same memory: it reads the state, and the rows at the cursor; it writes the new state
over the old one and the results at the cursor, and moves the cursor on. So a section of micro-batches is one copy there,
a replay each, and one copy back.

Axes: S micro-batches of a section, B rows of each.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from streamnn.device.lanes import Lanes, Work
from streamnn.device.records import Records
from streamnn.device.trace import trace
from streamnn.flat import FORGET, Field, FlatStep
from streamnn.native.outline import next_power
from streamnn.operations import Kind

# a section is so long that queueing it costs little, and so short that the device need not wait for the first
SECTION_BYTES, SECTION_MOST = 1 << 20, 64
HOST_BYTES = 1 << 26  # rows of one size that are on their way at most: what is beyond waits until they are done
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {
    # timings would choose how sums are split, and so their rounding, in each process anew
    "deterministic": True,
    # dropout's counters, an index times a constant of 64 bits, would become indices of 32 bits, which Triton refuses
    "constant_and_index_propagation": False,
}

Call = Callable[..., Sequence[Tensor]]


class Memory:
    """What all sizes of one step share on the device.

    Attributes:
        state: the leaves, one record.
        shared: fields that hold for a whole call, one record; see `FlatStep.shared`.
        finite: [] bool, the losses of this call are, and at its end the state.
        host_shared, host_finite: the same on the host.
        pool: memory of the captured graphs.
        free: copies of the state that nobody needs any more.
    """

    def __init__(self, flat: FlatStep, leaves: Sequence[Tensor], device: torch.device, lanes: Lanes) -> None:
        host, pinned = torch.device("cpu"), lanes.pinned
        self.pool = lanes.pool()
        self.free: list[Tensor] = []
        self.state = Records([(tuple(t.shape), t.dtype) for t in leaves], 1, device=device)
        self.shared = Records(flat.shared, 1, device=device)
        self.host_shared = Records(flat.shared, 1, device=host, pinned=pinned)
        self.finite = torch.ones((), dtype=torch.bool, device=device)
        self.host_finite = torch.ones((), dtype=torch.bool, pin_memory=pinned)

    @property
    def leaves(self) -> list[Tensor]:
        """The state's leaves."""
        return [t[0] for t in self.state.tensors]

    @property
    def fields(self) -> list[Tensor]:
        """What holds for a whole call."""
        return [t[0] for t in self.shared.tensors]

    def copy(self) -> Tensor:
        """Copy the state in one piece, into memory for `unpack`."""
        block = self.free.pop() if self.free else torch.empty_like(self.state.memory)
        return block.copy_(self.state.memory)

    def unpack(self, block: Tensor) -> list[Tensor]:
        """Look at the leaves of a copied state."""
        return [t[0] for t in self.state.look(block)]

    def check(self) -> None:
        """Note whether the state is finite."""
        for part in self.state.floating():
            self.finite.logical_and_(part.isfinite().all())


@dataclass(frozen=True, slots=True)
class Section:
    """Micro-batches that move together.

    Attributes:
        half: of the rings.
        at: where the first lies on the host.
        first, last: operations [first, last) of a call.
    """

    half: int
    at: int
    first: int
    last: int


class Program:
    """Micro-batches of one size.

    Args:
        flat: the step.
        memory: shared with the step's other sizes.
        size: B.
        device: where it runs.
        lanes: where its work is queued.
        compiled: fuse the operators with `torch.compile`; else they are called one by one.
    """

    def __init__(
        self, flat: FlatStep, memory: Memory, size: int, *, device: torch.device, lanes: Lanes, compiled: bool
    ) -> None:
        self._flat, self._memory, self._size = flat, memory, size
        self._device, self._lanes, self._compiled = device, lanes, compiled
        fields = flat.rows(size)
        results = [((size, flat.step.head.width), torch.float64), ((size,), flat.step.dtype)]
        bytes_each = Records(fields, 1, device=torch.device("cpu")).size
        self.section = max(1, min(SECTION_MOST, SECTION_BYTES // bytes_each))
        self._rows = Records(fields, 2 * self.section, device=device)
        self._results = Records(results, 2 * self.section, device=device)
        self._cursor = torch.zeros(1, dtype=torch.int64, device=device)
        self._turns = (lanes.turn(), lanes.turn())
        self._fields, self._outs, self._half, self._used = fields, results, 0, 0
        self._most = max(2 * self.section, HOST_BYTES // bytes_each)  # at least one section behind another
        self._graphs: dict[int, Work] = {}
        self._works: list[Work] = []  # a captured graph reads constants and runs kernels that only these keep alive
        self.host_rows, self.host_results = self._on_host(fields, 1), self._on_host(results, 1)

    @property
    def kinds(self) -> frozenset[int]:
        """The operations that have been built."""
        return frozenset(self._graphs)

    def reserve(self, count: int) -> None:
        """Have room on the host for the micro-batches of one call, or for as many as may be on their way."""
        if len(self.host_rows) < min(count, self._most):
            room = min(next_power(count), self._most)
            self.host_rows, self.host_results = self._on_host(self._fields, room), self._on_host(self._outs, room)

    def build(self, kind: int) -> None:
        """Trace, compile and capture one operation. What lies in the state's memory is lost."""
        with self._lanes.building():
            self._build(kind)

    def drop(self) -> None:
        """Let graphs go, with their memory on the device."""
        self._graphs.clear()
        self._works.clear()

    def begin(self, first: int, last: int) -> Section | None:
        """Take room for operations [first, last), and the other half of the rings; None if `free` has to come before."""
        if self._used + last - first > len(self.host_rows):
            return None
        self._half, at = 1 - self._half, self._used
        self._used += last - first
        return Section(self._half, at, first, last)

    def free(self) -> None:
        """Take back all room: everything queued is done, and its results have been read."""
        self._used = 0

    def queue(self, section: Section, kinds: Sequence[int]) -> None:
        """Queue the rows on the host, one operation for each (`FORGET` may stand between), and the way of the results back."""
        turn, first, last = self._turns[section.half], section.at, section.at + section.last - section.first
        start = section.half * self.section
        stop = start + last - first
        self._lanes.upload(turn, self._rows.memory[start:stop], self.host_rows.memory[first:last])
        with self._lanes.computing(turn):
            self._cursor.fill_(start)
            for kind in kinds:
                self._graphs[kind]()
        self._lanes.download(turn, self.host_results.memory[first:last], self._results.memory[start:stop])

    def _on_host(self, fields: Sequence[Field], count: int) -> Records:
        return Records(fields, count, device=torch.device("cpu"), pinned=self._lanes.pinned)

    def _build(self, kind: int) -> None:
        leaves = self._memory.leaves
        changed: list[int] = []
        function = self._flat.functions[kind]

        def whole(*given: Tensor) -> list[Tensor]:
            old, ring = given[: len(leaves)], given[len(leaves) : len(leaves) + len(self._fields)]
            cursor, shared = given[len(leaves) + len(ring)], given[len(leaves) + len(ring) + 1 :]
            rows = [t.index_select(0, cursor)[0] for t in ring]
            new, outs = function(old, [*rows, *shared])
            changed[:] = [i for i, t in enumerate(new) if t is not old[i] and t.numel()]
            made = [_own(new[i], old) for i in changed]
            if kind in (Kind.PREDICT_LEARN, Kind.LEARN):
                fine = outs[-1].isfinite()
                outs = [*outs, (fine | ~rows[3] if self._size > 1 else fine).all()]
            return [*made, *outs]

        self._cursor.zero_()  # a full section has left it behind the rings' end
        arguments = [*leaves, *self._rows.tensors, self._cursor, *self._memory.fields]
        examples = [torch.zeros(t.shape, dtype=t.dtype) for t in arguments]
        module = trace(whole, examples, self._device)
        if kind == FORGET and not changed:  # of a capture without any work torch warns
            self._graphs[kind] = _nothing
            return
        call = self._compile(module, arguments)
        targets = [leaves[i] for i in changed]
        results, finite, cursor = self._results.tensors, self._memory.finite, self._cursor

        # neither refers to this program, so that its graphs go with it and do not wait for the collector
        def work() -> None:
            with torch.no_grad():
                values = call(*arguments)
                _move(targets, values[: len(targets)])
                _write(kind, values[len(targets) :], results, finite, cursor)

        def warm_up() -> None:
            cursor.zero_()  # each run moves it on
            work()

        graph = self._lanes.capture(work, warm_up, self._memory.pool)
        self._works.append(work)
        self._graphs[kind] = graph

    def _compile(self, module: torch.fx.GraphModule, arguments: Sequence[Tensor]) -> Call:
        if not self._compiled:
            return module
        compiled: Call = torch.compile(module, fullgraph=True, dynamic=False, options=OPTIONS)
        try:
            # what torch warns of is not for users: parts of its own, and that products could be rounded to 10 bits
            with warnings.catch_warnings(action="ignore"), torch.no_grad():
                compiled(*arguments)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:200]
            warnings.warn(
                f"the step runs on {self._device} operator by operator, several times slower, as torch.compile failed; it"
                f" needs the package triton and a C compiler ({reason})",
                RuntimeWarning,
                stacklevel=2,
            )
            return module
        return compiled


def _nothing() -> None:
    """Change nothing."""


def _write(kind: int, outs: Sequence[Tensor], results: Sequence[Tensor], finite: Tensor, cursor: Tensor) -> None:
    """Put an operation's results where the cursor is and move it on."""
    if kind == FORGET:
        return
    served, loss = results
    if kind != Kind.LEARN:
        served.index_copy_(0, cursor, outs[0][None])
    if kind != Kind.PREDICT_OBSERVE:
        loss.index_copy_(0, cursor, outs[-2][None])
        finite.logical_and_(outs[-1])
    cursor.add_(1)


def _own(t: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    """Return a tensor in row-major order that shares no memory with a leaf, which is overwritten while it is read."""
    memory = t.untyped_storage().data_ptr()
    if any(memory == leaf.untyped_storage().data_ptr() for leaf in leaves):
        return t.clone(memory_format=torch.contiguous_format)
    return t.contiguous()


def _move(targets: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy all tensors, those of one type with one launch."""
    for dtype in dict.fromkeys(t.dtype for t in targets):
        pairs = [(t, v) for t, v in zip(targets, values, strict=True) if t.dtype == dtype]
        torch._foreach_copy_([t for t, _ in pairs], [v for _, v in pairs])
