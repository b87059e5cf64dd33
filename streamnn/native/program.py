"""Operations on one state as one library: each traced, lowered, scheduled and written once, and a C loop that runs a list.

The leaves of the state lie one after another in one block of memory, which every operation changes in place. Rows are
taken from arrays by number; what holds for a whole call is shared.
"""

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamnn.native import build
from streamnn.native.emit import ALIGN, emit
from streamnn.native.kernels import KERNELS
from streamnn.native.masks import SELECTS
from streamnn.native.memory import address
from streamnn.native.nodes import Node
from streamnn.native.operators import C_TYPES, FUNCTIONS, HELD_TYPES
from streamnn.native.orient import turn, turned_leaves
from streamnn.native.schedule import schedule
from streamnn.native.trace import Lowered, trace

HEADER = """#include <math.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
"""

# Compilers keep to registers of 32 bytes where there are wider ones (gcc does for Intel). On a Xeon loops with SGD were up to 1.3
# times as fast in those of 64, and with Adam no faster: roots and divisions gain nothing from width, and the clock goes down.
WIDEST = """#if defined(__AVX512F__) && defined(__GNUC__) && !defined(__clang__)
#define BROAD
#pragma GCC target("prefer-vector-width=512")
#endif
"""
DIVIDING = frozenset(("div", "sqrt", "rsqrt", "reciprocal"))

# Denormal moments cost hundreds of cycles each: they are flushed to zero inside the call, and the caller's floating-point
# mode is put back after it.
LOOP = """
int64_t run(int64_t n, const int8_t *kind, const int64_t *row, const struct state *begin, struct state *s, void **x, void **o,
            struct scratch *t) {
if (begin != s) *s = *begin;
int64_t bad = 0;
#if defined(__x86_64__)
unsigned mode = _mm_getcsr();
_mm_setcsr(mode | 0x8040);
#endif
for (int64_t i = 0; i < n; i++) {
switch (kind[i]) {
%s}
}
%s
#if defined(__x86_64__)
_mm_setcsr(mode);
#endif
return bad;
}
"""

Array = npt.NDArray[np.generic]
_NUMPY = {
    dtype: np.dtype(c.removesuffix("_t").replace("float", "float32").replace("double", "float64"))
    for dtype, c in C_TYPES.items()
}
_NUMPY[torch.bool] = np.dtype(np.bool_)


@dataclass(frozen=True, slots=True)
class Operation:
    """One pure operation.

    Attributes:
        function: (state leaves, inputs) -> (new leaves, outputs).
        slots: which output array each of its outputs is written to.
        finite: those of them in which nothing may be infinite or NaN.
    """

    function: Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Sequence[Tensor], Sequence[Tensor]]]
    slots: tuple[int, ...]
    finite: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a leaf lies in the block: first byte, shape, strides in elements, type."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype


class Program:
    """The compiled operations.

    Args:
        leaves: the state, as examples of shape and type.
        operations: by the number that lists of operations use.
        rows: examples of the inputs that differ from row to row.
        shared: examples of the inputs that hold for a whole call.
        wanted: numbers of the operations to compile; how the state lies in memory, and so every result, does not depend
            on it.
        given_up: see `build.load`.

    Raises:
        UnsupportedOperatorError: an operator has no lowering.
        CompilerError: there is no compiler, or it failed, or was given up.
    """

    def __init__(
        self,
        leaves: Sequence[Tensor],
        operations: Sequence[Operation],
        rows: Sequence[Tensor],
        shared: Sequence[Tensor],
        wanted: frozenset[int],
        given_up: Callable[[], bool] = build.never,
    ) -> None:
        self.kinds = wanted
        began = time.perf_counter()
        lowered = {
            i: self._lower(o, leaves, [*rows, *shared]) for i, o in enumerate(operations) if i == 0 or i in wanted
        }
        turned = turned_leaves(lowered[0], len(leaves))
        lowered = {i: turn(low, turned) for i, low in lowered.items()}
        self.places, self.state_bytes = _lay_out(lowered[0].inputs[: len(leaves)], leaves, turned)
        self.source, self.outputs = self._write(lowered, operations, [r.numel() for r in rows], len(leaves), wanted)
        self.trace_s = time.perf_counter() - began
        began = time.perf_counter()
        library, self.built = build.load(self.source, given_up=given_up)
        self.build_s = time.perf_counter() - began
        self._run = library.run
        self._run.argtypes = [ctypes.c_int64] + [ctypes.c_void_p] * 7
        self._run.restype = ctypes.c_int64
        self._scratch = aligned(int(library.scratch_bytes()))
        self.free: list[Tensor] = []  # blocks of states that are gone
        assert int(library.state_bytes()) == self.state_bytes
        self._library = library
        self._masks = [i for i, t in enumerate([*rows, *shared]) if t.dtype == torch.bool]
        self._x = (ctypes.c_void_p * (len(rows) + len(shared)))()
        self._o = (ctypes.c_void_p * (1 + max((slot for o in operations for slot in o.slots), default=0)))()

    def take(self) -> Tensor:
        """Take a block whose content is of no use to anybody."""
        return self.free.pop() if self.free else aligned(self.state_bytes)

    def pack(self, leaves: Sequence[Tensor]) -> Tensor:
        """Copy leaves into a block."""
        block = self.take()
        for view, leaf in zip(self.unpack(block), leaves, strict=True):
            view.copy_(leaf)
        return block

    def unpack(self, block: Tensor) -> list[Tensor]:
        """Look at a block as leaves."""
        typed = {dtype: block.view(dtype) for dtype in {p.dtype for p in self.places}}
        return [typed[p.dtype].as_strided(p.shape, p.strides, p.offset // p.dtype.itemsize) for p in self.places]

    def run(
        self, block: Tensor, kind: npt.NDArray[np.int8], row: npt.NDArray[np.int64], inputs: Sequence[Array],
        outputs: Sequence[Array], *, begin: Tensor | None = None,
    ) -> bool:  # fmt: skip
        """Run operations in order. Changes the block in place and fills the outputs.

        Two threads need a program each: they would meet in its scratch memory.

        Args:
            block: the state.
            kind: [N] number of each operation.
            row: [N] the row that each reads and writes.
            inputs: rows [K, ...], then what is shared; dense, of the types of the examples.
            outputs: [K, ...] for each slot, dense.
            begin: a state to begin with, which is copied into the block; None: the one that lies there.

        Returns:
            Whether the state is finite, and all outputs that have to be.
        """
        held = [*inputs]
        for i in self._masks:
            held[i] = held[i].astype(np.int32)
        self._x[:] = [address(a) for a in held]
        for i, a in enumerate(outputs):
            self._o[i] = address(a)
        place = block.data_ptr()
        bad = self._run(
            len(kind), address(kind), address(row), place if begin is None else begin.data_ptr(), place, self._x, self._o,
            self._scratch.data_ptr(),
        )  # fmt: skip
        return not bad

    def _lower(self, operation: Operation, leaves: Sequence[Tensor], inputs: Sequence[Tensor]) -> Lowered:
        def flat(*tensors: Tensor) -> list[Tensor]:
            new, outs = operation.function(tensors[: len(leaves)], tensors[len(leaves) :])
            return [*new, *outs]

        return trace(flat, [*leaves, *inputs], len(leaves))

    def _write(
        self, lowered: Mapping[int, Lowered], operations: Sequence[Operation], sizes: Sequence[int], states: int,
        wanted: frozenset[int],
    ) -> tuple[str, list[tuple[tuple[int, ...], np.dtype[np.generic]]]]:  # fmt: skip
        scratch, functions, cases = [], [], []
        outputs: dict[int, tuple[tuple[int, ...], np.dtype[np.generic]]] = {}
        for number in sorted(wanted):
            low, operation = lowered[number], operations[number]
            emitted = emit(low, schedule(low, states), states, f"f{number}", operation.slots)
            members = "".join(emitted.scratch) or "char none;\n"
            scratch.append(f"struct {{\n{members}}};\n")
            functions += emitted.constants + emitted.functions
            lines = []
            for j, node in enumerate(low.inputs[states:]):
                step = f" + row[i] * {sizes[j]}" if j < len(sizes) else ""
                c = HELD_TYPES[node.dtype]
                lines.append(f"const {c} *x{j} = (const {c} *)x[{j}]{step};\n")
            for slot, v in zip(operation.slots, low.outputs[states:], strict=True):
                c = C_TYPES[v.node.dtype]
                size = int(np.prod(v.shape))
                lines.append(f"{c} *o{slot} = ({c} *)o[{slot}] + row[i] * {size};\n")
                outputs[slot] = (v.shape, _NUMPY[v.node.dtype])
            checks = [_all_finite(f"o{slot}", outputs[slot][0]) for slot in sorted(operation.finite)]
            cases.append(f"case {number}: {{\n{''.join([*lines, *emitted.calls, *checks])}break; }}\n")
        inputs = lowered[0].inputs[:states]
        members = "".join(f"{C_TYPES[n.dtype]} s{i}[{max(n.size, 1)}] {ALIGN};\n" for i, n in enumerate(inputs))
        structs = (
            f"struct state {{\n{members or 'char none;'}}};\nstruct scratch {{ union {{\n{''.join(scratch)}}}; }};\n"
        )
        sizes_of = "".join(
            f"int64_t {name}_bytes(void) {{ return sizeof(struct {name}); }}\n" for name in ("state", "scratch")
        )
        divided = sum(n.size for n in lowered[0].order if n.op in DIVIDING)
        text = (
            ("" if divided > sum(n.size for n in inputs) / 2 else WIDEST)
            + HEADER
            + FUNCTIONS
            + SELECTS
            + KERNELS
            + structs
            + sizes_of
            + "".join(functions)
            + LOOP % ("".join(cases), _finite(inputs))
        )
        return text, [outputs[slot] for slot in sorted(outputs)]


def aligned(size: int) -> Tensor:
    """Make a block of memory that begins at a cache line."""
    raw = torch.empty(size + 64, dtype=torch.uint8)
    first = -raw.data_ptr() % 64
    return raw[first : first + size]


def _lay_out(nodes: Sequence[Node], leaves: Sequence[Tensor], turned: frozenset[int]) -> tuple[list[Place], int]:
    """Lay the state's leaves out as the struct has them."""
    places, offset = [], 0
    for i, (node, leaf) in enumerate(zip(nodes, leaves, strict=True)):
        shape = tuple(leaf.shape)
        strides = tuple(leaf.contiguous().stride())
        if i in turned:  # the last two dimensions that are larger than 1 lie the other way round
            first, second = [d for d, n in enumerate(shape) if n > 1][-2:]
            moved = list(strides)
            moved[first], moved[second] = 1, shape[first]
            strides = tuple(moved)
        places.append(Place(offset, shape, strides, leaf.dtype))
        offset += -(-max(node.size, 1) * leaf.dtype.itemsize // 64) * 64
    return places, max(offset, 1)


def _all_finite(name: str, shape: Sequence[int]) -> str:
    return f"for (int64_t k = 0; k < {int(np.prod(shape))}; k++) bad |= {name}[k] - {name}[k] != 0;\n"


def _finite(leaves: Sequence[Node]) -> str:
    """Write the search for infinite and NaN entries: x - x is 0 for all others."""
    text = ""
    for i, n in enumerate(leaves):
        if n.dtype.is_floating_point and n.size:
            kind = C_TYPES[n.dtype]
            text += (
                f"{{ {kind} sum = 0;\n#pragma omp simd reduction(+:sum)\n"
                f"for (int64_t i = 0; i < {n.size}; i++) sum += s->s{i}[i] - s->s{i}[i];\nbad |= sum != 0; }}\n"
            )
    return text
