"""A step as one library: each operation traced, lowered, scheduled and written once, and one C loop that runs a list.

The state's leaves, in a fixed order, are shared by all operations and changed in place.
"""

import ctypes
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from streamnn.native import build
from streamnn.native.emit import emit
from streamnn.native.lower import lower
from streamnn.native.operators import C_TYPES
from streamnn.native.schedule import schedule
from streamnn.native.trace import trace
from streamnn.operations import Kind, Operations
from streamnn.step import Event, State, Step

HEADER = """#include <math.h>
#include <stdint.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
"""

# Denormal moments cost hundreds of cycles each: they are flushed to zero inside the call, and the caller's floating-point
# mode is put back after it.
LOOP = """
void run(int64_t n, const int8_t *kind, const int64_t *row, void **s, void **x, void **o, char *scratch) {
#if defined(__x86_64__)
unsigned mode = _mm_getcsr();
_mm_setcsr(mode | 0x8040);
#endif
for (int64_t i = 0; i < n; i++) {
switch (kind[i]) {
%s}
}
#if defined(__x86_64__)
_mm_setcsr(mode);
#endif
}
"""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One tensor of the state."""

    part: str
    name: str


class Program:
    """The compiled operations of a step at one capacity, for one event at a time.

    Args:
        step: what to compile.
        state: a state of the right shapes.

    Raises:
        UnsupportedOperator: an operator of the step has no lowering.
        CompilerError: there is no compiler, or it failed.
    """

    def __init__(self, step: Step, state: State) -> None:
        began = time.perf_counter()
        self.leaves = [Leaf(part, name) for part, tensors in state.items() for name in tensors]
        self._parts = list(state)
        inputs = state["inputs"]["mean"].shape[0]
        flat = [state[leaf.part][leaf.name] for leaf in self.leaves]
        example = [
            torch.zeros(1, inputs, dtype=torch.float64),
            torch.zeros(1, step.head.width, dtype=torch.float64),
            torch.zeros(1, dtype=torch.int64),
            torch.zeros(inputs, dtype=torch.bool),
            torch.zeros((), dtype=step.dtype),
            torch.zeros((), dtype=torch.bool),
        ]
        functions: dict[str, str] = {}
        cases, self._scratch_bytes = [], 0
        for kind in Kind:
            graph = trace(lambda *a, kind=kind: self._operation(step, kind, list(a)), [*flat, *example])
            lowered = lower(graph)
            emitted = emit(lowered, schedule(lowered, len(flat)), len(flat), functions)
            self._scratch_bytes = max(self._scratch_bytes, emitted.scratch_bytes)
            types = [C_TYPES[n.dtype] for n in lowered.inputs]
            outs = [C_TYPES[v.node.dtype] for v in lowered.outputs[len(flat) :]]
            cases.append(_case(kind, types, outs, len(flat), [e.numel() for e in example[:3]], step.head.width, emitted.body))
        defined = [f"static __attribute__((noinline)) void {name}{body}\n" for body, name in functions.items()]
        self.source = HEADER + "".join(defined) + LOOP % "".join(cases)
        self.trace_s = time.perf_counter() - began
        began = time.perf_counter()
        library, self.built = build.load(self.source)
        self.build_s = time.perf_counter() - began
        self._run = library.run
        self._run.argtypes = [ctypes.c_int64] + [ctypes.c_void_p] * 6
        self._run.restype = None
        self._library = library

    def run(
        self, state: State, operations: Operations, arrays: list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]],
        served: np.ndarray[tuple[int, ...], np.dtype[np.float64]], loss: np.ndarray[tuple[int, ...], np.dtype[np.generic]],
    ) -> None:  # fmt: skip
        """Run operations over rows. Changes `state` in place and fills `served` [K, W] and `loss` [K].

        Args:
            state: contiguous tensors in the order of `leaves`.
            operations: each over a single row.
            arrays: x [K, F], y [K, W], number [K], plain [F], rate [], clear [] (cleared after the first learning step).
            served: float64, written for the rows that are predicted.
            loss: in the network's precision, written for the rows that are learned.
        """
        pointers = [state[leaf.part][leaf.name].data_ptr() for leaf in self.leaves]
        scratch = np.empty(self._scratch_bytes + 128, dtype=np.uint8)
        base = scratch.ctypes.data
        self._run(
            len(operations),
            operations.kind.ctypes.data,
            operations.start.ctypes.data,
            ctypes.byref((ctypes.c_void_p * len(pointers))(*pointers)),
            ctypes.byref((ctypes.c_void_p * len(arrays))(*[a.ctypes.data for a in arrays])),
            ctypes.byref((ctypes.c_void_p * 2)(served.ctypes.data, loss.ctypes.data)),
            base + -base % 64,
        )

    def _operation(self, step: Step, kind: Kind, flat: list[Tensor]) -> list[Tensor]:
        """One operation as a function of flat tensors: state leaves and inputs in, new leaves and outputs out."""
        count = len(self.leaves)
        state: State = {part: {} for part in self._parts}
        for leaf, tensor in zip(self.leaves, flat[:count], strict=True):
            state[leaf.part][leaf.name] = tensor
        x, y, number, plain, rate, clear = flat[count:]
        valid = torch.ones(1, dtype=torch.bool)
        event = Event(x=x, y=y, valid=valid, number=number, plain=plain, rate=rate, clear=clear)
        if kind == Kind.PREDICT_LEARN:
            new, served, loss = step.predict_learn(state, event)
            outs = [served, loss]
        elif kind == Kind.PREDICT_OBSERVE:
            outs = [step.predict(state, event)]
            new = step.observe(state, event)
        else:
            new, loss = step.learn(state, event)
            outs = [loss]
        return [new[leaf.part][leaf.name] for leaf in self.leaves] + outs


def _case(
    kind: Kind, inputs: list[str], outputs: list[str], states: int, sizes: list[int], width: int, body: list[str]
) -> str:
    """Write one case of the loop's switch: name the pointers of this row, then call the loop nests."""
    lines = [f"{t} *s{i} = ({t} *)s[{i}];" for i, t in enumerate(inputs[:states])]
    for j, t in enumerate(inputs[states:]):
        step = f" + row[i] * {sizes[j]}" if j < len(sizes) else ""
        lines.append(f"{t} *x{j} = ({t} *)x[{j}]{step};")
    loss = len(outputs) - 1 if kind != Kind.PREDICT_OBSERVE else -1
    for j, t in enumerate(outputs):
        place = "o[1]) + row[i]" if j == loss else f"o[0]) + row[i] * {width}"
        lines.append(f"{t} *o{j} = (({t} *){place};")
    done = "*(uint8_t *)x[5] = 0;\n" if kind != Kind.PREDICT_OBSERVE else ""
    text = "\n".join([*lines, *body])
    return f"case {int(kind)}: {{\n{text}\n{done}break; }}\n"
