"""How much of what one core can do a step uses: the roofline, measured on the machine at hand.

A step that does W flops and moves Q bytes cannot be faster than

    attainable flop/s = min(peak flop/s, W / Q * bytes/s)

(Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model for multicore architectures",
Communications of the ACM 52(4), section 4). The peak is that of fused products and sums in single precision, the bytes/s are
those of a block of memory as large as the step's own, and so of the cache that it lies in: for the paper's main memory the
level of the hierarchy is taken that is the limit here, in one loop that reads the block, and one that reads and writes it,
weighed as the step does either. Where a step has roots and divisions, for which the processor has a unit of its own, their
throughput is a ceiling below the roof (same paper, section 5).

Counted, for P weights in the matrices, P1 of them in the first one:

    flops    forward 2 P, backward 2 (P - P1), gradient and update 2 P by SGD (w -= (rate d) x), 14 P by Adam
             (g 1, m 3, v 4, root and correction and epsilon 3, quotient 1, w 2); P roots and divisions by Adam
    bytes    forward reads 4 P; backward and update together read and write the weights once, 4 P each, and Adam's two
             moments, 8 P each
    block    4 P bytes by SGD, 12 P by Adam

Biases, normalisation, loss, input statistics and what is read twice are left out: the step does more, and a share of the
roofline is never too high by that.
"""

import ctypes
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from pipeline.bench.steps import Case
from pipeline.bench.timing import Side
from streamnn.native.build import load

REPEATED = 4000  # times of the arithmetic loops in one call
MOVED = 4_000_000  # bytes of the loops over memory in one call, at least
SIDES = ("fma", "root", "read", "rewrite")


@dataclass(frozen=True, slots=True)
class Work:
    """What one event costs at least.

    Attributes:
        flops: sums, products, roots and divisions.
        roots: pairs of a root and a division among them.
        read: bytes that are read and not written.
        rewritten: bytes that are read and then written, counted twice.
        block: bytes of weights and moments.
    """

    flops: int
    roots: int
    read: int
    rewritten: int
    block: int

    @classmethod
    def of(cls, case: Case) -> "Work":
        """Count one case."""
        sizes = [before * after for before, after in pairwise((case.inputs, *case.units, case.classes))]
        weights, adam = sum(sizes), case.optimizer == "adam"
        flops = 2 * weights + 2 * (weights - sizes[0]) + (14 if adam else 2) * weights
        held = (3 if adam else 1) * 4 * weights
        return cls(flops, weights if adam else 0, 4 * weights, 2 * held, held)


@dataclass(frozen=True, slots=True)
class Machine:
    """What one core does in a second, as measured: flops, pairs of root and division, bytes of either kind."""

    fma: float
    root: float
    read: float
    rewrite: float

    def memory_s(self, work: Work) -> float:
        """Seconds for what an event moves."""
        return work.read / self.read + work.rewritten / self.rewrite

    def bandwidth(self, work: Work) -> float:
        """Bytes per second in the mix of an event."""
        return (work.read + work.rewritten) / self.memory_s(work)

    def roof(self, work: Work) -> float:
        """Attainable flops per second."""
        return min(self.fma, work.flops / self.memory_s(work))

    def ceiling(self, work: Work) -> float:
        """Attainable flops per second where roots and divisions have to go through their unit."""
        return min(self.roof(work), work.flops * self.root / work.roots) if work.roots else self.roof(work)


def limits(block: int) -> dict[str, Side]:
    """Make the loops that measure the machine, to be timed as sides: flops, pairs, and bytes of a block of that size."""
    library, _ = load(Path(__file__).with_name("roofline.c").read_text())
    for function in (library.multiply_add, library.root_divide):
        function.argtypes, function.restype = [ctypes.c_int64, ctypes.c_float, ctypes.c_float], ctypes.c_float
    integer, real, pointer = ctypes.c_int64, ctypes.c_float, ctypes.c_void_p
    library.reading.argtypes, library.reading.restype = [integer, integer, pointer], real
    library.rewriting.argtypes, library.rewriting.restype = [integer, integer, pointer, real, real], None
    lanes = int(library.lanes())
    floats = -(-block // (4 * lanes)) * lanes
    room = np.ones(floats + 16, dtype=np.float32)
    room = room[-room.ctypes.data % 64 // 4 :][:floats]  # from a cache line on
    times = -(-MOVED // (4 * floats))

    def read(_: int) -> None:
        library.reading(times, floats, room.ctypes.data)

    def rewrite(_: int) -> None:
        library.rewriting(times, floats, room.ctypes.data, 0.9, 0.1)

    return {
        "fma": Side(lambda _: library.multiply_add(REPEATED, 0.9, 0.1), 2 * lanes * REPEATED),
        "root": Side(lambda _: library.root_divide(REPEATED // 4, 0.9, 0.5), lanes * REPEATED // 4),
        "read": Side(read, 4 * floats * times),
        "rewrite": Side(rewrite, 8 * floats * times),
    }
