"""The graph engine: runs micro-batches on a device, with the same step as every other engine.

Without a device it does the same on the host, which is how it is tested against the eager engine. Results do not depend on
how a stream is cut into calls.
"""

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from streamnn.device.lanes import CudaLanes, Lanes
from streamnn.device.program import Memory, Program, Section
from streamnn.device.records import Records
from streamnn.engine import Control, Engine
from streamnn.flat import FORGET, FlatStep
from streamnn.native.held import HeldState
from streamnn.native.outline import next_power, padded
from streamnn.operations import BoolArray, IntArray, Kind, Operations, Results, Rows
from streamnn.step import State, Step

DeviceName = Literal["cpu", "cuda"]

LEAST_TORCH = (2, 13)  # knows the settings with which graphs are compiled for a card


class GraphEngine(Engine):
    """Traces a step at its first use, once for each size of micro-batch and kind of operation, and when it has grown.

    A micro-batch is padded with rows that are not valid, to the next power of two and to `least`. The state returned lies
    on the device; `streamnn.learner` brings it to the host when somebody asks for it.

    Args:
        device: where it runs.
        least: rows to which smaller micro-batches are padded. On a device a few rows take as long as some hundreds, and
            each size has to be compiled: with the largest size there is one program for all.
        compiled: fuse operators with `torch.compile`; by default on a device, where each would be a launch.
        lanes: where work is queued; by default those of the device.
    """

    name = "graph"

    def __init__(
        self,
        device: str = "cpu",
        *,
        least: int = 1,
        compiled: bool | None = None,
        lanes: Lanes | None = None,
    ) -> None:
        self._device = torch.device(device)
        self._lanes = lanes or (CudaLanes() if self._device.type == "cuda" else Lanes())
        self._compiled = self._device.type == "cuda" if compiled is None else compiled
        self._least = next_power(least)
        self._step: Step | None = None
        self._programs: dict[int, Program] = {}
        self._latest: State | None = None  # the state whose leaves the device's memory holds
        self.compilations = 0

    def _run(
        self, step: Step, state: State, rows: Rows, operations: Operations, control: Control
    ) -> tuple[State, Results, bool]:
        sizes = np.maximum(padded(operations), self._least)
        learns = operations.kind != Kind.PREDICT_OBSERVE
        forgets = int(np.argmax(learns)) if control.clear and learns.any() else -1
        with self._lanes.computing():  # what is filled with zeros elsewhere could be used before
            self._prepare(step, state, operations, sizes, forgets)
        self._load(state, control)
        results = Results(np.full((len(rows), step.head.width), np.nan), np.full(len(rows), np.nan))
        queued: list[tuple[Program, Section]] = []
        for program, first, last in self._cut(sizes):
            section = program.begin(first, last)
            if section is None:
                self._collect(queued, results, operations)
                section = program.begin(first, last)
                assert section is not None
            _fill(program, section, rows, operations)
            kinds = operations.kind[first:last].tolist()
            if first <= forgets < last:
                kinds.insert(forgets - first, FORGET)
            program.queue(section, kinds)
            queued.append((program, section))
        with self._lanes.computing():
            self._memory.check()
            block = self._memory.copy()
        sound = self._collect(queued, results, operations)
        self._latest = new = HeldState(block, self._flat.names, self._memory.unpack, self._memory.free)
        return new, results, sound

    def _cut(self, sizes: IntArray) -> Iterator[tuple[Program, int, int]]:
        """Cut a list of operations into sections: [first, last), of one size."""
        edges = [0, *(np.flatnonzero(np.diff(sizes)) + 1).tolist(), len(sizes)] if len(sizes) else []
        for begin, end in pairwise(edges):
            program = self._programs[int(sizes[begin])]
            for first in range(begin, end, program.section):
                yield program, first, min(first + program.section, end)

    def _load(self, state: State, control: Control) -> None:
        """Bring what holds for a whole call to the device; the state too, unless it was the last to leave it."""
        memory = self._memory
        plain, rate = (t[0] for t in memory.host_shared.tensors)
        known, self._latest = self._latest is state, None
        for program in self._programs.values():
            program.free()
        if not known:  # a call that was interrupted may have left work behind
            self._lanes.fetch(memory.host_finite, memory.finite)
        plain.copy_(torch.from_numpy(control.plain))
        rate.fill_(control.rate)
        with self._lanes.computing():
            if not known:
                for leaf, t in zip(memory.leaves, self._flat.flattened(state), strict=True):
                    leaf.copy_(t)
            memory.shared.memory.copy_(memory.host_shared.memory, non_blocking=True)
            memory.finite.fill_(True)

    def _collect(self, queued: list[tuple[Program, Section]], results: Results, operations: Operations) -> bool:
        """Wait for everything queued and read its results; returns whether all losses, and a checked state, are finite."""
        self._lanes.fetch(self._memory.host_finite, self._memory.finite)
        for program, section in queued:
            _read(program, section, results, operations)
            program.free()
        queued.clear()
        return bool(self._memory.host_finite)

    def _prepare(self, step: Step, state: State, operations: Operations, sizes: IntArray, forgets: int) -> None:
        """Build what a list of operations needs and has not been built."""
        if self._step is not step:
            for program in self._programs.values():
                program.drop()
            self._step, self._programs, self._latest = None, {}, None
            self._flat = FlatStep(step, state)
            self._memory = Memory(self._flat, self._flat.flattened(state), self._device, self._lanes)
            self._step = step
        for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
            kinds = set(operations.kind[sizes == size].tolist())
            if forgets >= 0 and sizes[forgets] == size:
                kinds.add(FORGET)
            self._build(int(size), kinds)
            self._programs[int(size)].reserve(int(count))

    def _build(self, size: int, kinds: Iterable[int]) -> None:
        if size not in self._programs:
            self._programs[size] = Program(
                self._flat, self._memory, size, device=self._device, lanes=self._lanes, compiled=self._compiled
            )
        program = self._programs[size]
        missing = sorted(set(kinds) - program.kinds)
        if missing:
            # no step until all is built: after a failure the next call begins anew, with a pool that has not lost its graphs
            step, self._step, self._latest = self._step, None, None
            self.compilations += 1
            for kind in missing:
                program.build(kind)
            self._step = step


def _fill(program: Program, section: Section, rows: Rows, operations: Operations) -> None:
    """Lay the rows of a section out on the host."""
    x, y, number, *padding = _part(program.host_rows, section)
    place, valid = _places(operations, section, x.shape[1])
    index = np.where(valid, place, 0)
    x[...], y[...], number[...] = rows.x[index], rows.y[index], rows.number[index]
    if padding:
        padding[0][...] = valid
        if not valid.all():
            x[~valid], y[~valid] = np.nan, np.nan


def _read(program: Program, section: Section, results: Results, operations: Operations) -> None:
    """Take what the operations of a section returned from the host's memory."""
    served, loss = _part(program.host_results, section)
    place, valid = _places(operations, section, served.shape[1])
    kind = operations.kind[section.first : section.last]
    for out, part, does in (
        (results.served, served, kind != Kind.LEARN),
        (results.loss, loss, kind != Kind.PREDICT_OBSERVE),
    ):
        out[place[does][valid[does]]] = part[does][valid[does]]


def _part(records: Records, section: Section) -> list[npt.NDArray[np.generic]]:
    """Look at the fields of a section's micro-batches."""
    stop = section.at + section.last - section.first
    return [t[section.at : stop].numpy() for t in records.tensors]


def _places(operations: Operations, section: Section, size: int) -> tuple[IntArray, BoolArray]:
    """Tell where each row of a section's operations lies, [S, B], and whether it is one."""
    place = operations.start[section.first : section.last, None] + np.arange(size)
    return place, place < operations.stop[section.first : section.last, None]


def check_device(name: str) -> None:
    """Check that a device is there, and that this torch can build graphs for it.

    Raises:
        ValueError: it is not, or there is no such name.
    """
    if name not in get_args(DeviceName):
        raise ValueError(f"device is {name!r}; use one of {', '.join(get_args(DeviceName))}")
    if name == "cuda" and not torch.cuda.is_available():
        built = "finds no CUDA device" if torch.version.cuda else "is built without CUDA"
        raise ValueError(
            f"device is 'cuda', but torch {torch.__version__} {built}; use device cpu, or a machine with an NVIDIA card, its"
            " driver and a CUDA build of torch (nvidia-smi and python -c 'import torch; print(torch.version.cuda)' tell)"
        )
    if name == "cuda" and tuple(int(n) for n in torch.__version__.split(".")[:2]) < LEAST_TORCH:
        raise ValueError(
            f"device is 'cuda', but torch is {torch.__version__}; use device cpu, or torch {'.'.join(map(str, LEAST_TORCH))}"
            " or newer, whose compiler knows what graphs on a card need"
        )


def describe_device(name: str) -> str:
    """Name a device for people: a card by its name too."""
    return f"{name} ({torch.cuda.get_device_name()})" if name == "cuda" else name
