"""From a step to loops' values: torch runs an operation once on example tensors, and each elementary operator is lowered.

The operation runs for real, under a dispatch mode that sees what autograd and all composite functions come down to: a few
hundred calls of some forty kinds of operator on small static shapes. Each result's memory is remembered with the view of
a node that it holds. So a tensor that shares memory is a view without more ado, and an operator that writes in place gives
its memory a new node, which all tensors that share it then see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from streamnn.native.arrays import UnsupportedOperatorError
from streamnn.native.builder import Builder
from streamnn.native.decompositions import DECOMPOSITIONS
from streamnn.native.lower import can_lower, lower
from streamnn.native.nodes import Node, Shape, View, contiguous

RESHAPED = frozenset(("squeeze_", "unsqueeze_", "t_", "transpose_", "as_strided_", "detach_", "swapdims_", "swapaxes_"))

Flat = Callable[..., Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class Lowered:
    """Input nodes, computed nodes in order, and the views that are returned."""

    inputs: list[Node]
    order: list[Node]
    outputs: list[View]


def trace(function: Flat, inputs: Sequence[Tensor], states: int = 0) -> Lowered:
    """Trace a function of tensors that returns a list of tensors.

    Args:
        function: pure as seen from outside; static shapes, no choice made in Python on a tensor's value.
        inputs: example tensors; only shapes and types matter.
        states: the first so many inputs and outputs are the leaves of a state, old and new.

    Raises:
        UnsupportedOperatorError: an operator has no lowering, or a choice is made on a tensor's value.
    """
    examples = [t.detach().clone(memory_format=torch.contiguous_format) for t in inputs]
    recorder = _Recorder(examples)
    with recorder:
        results = function(*examples)
    outputs = [recorder.view(t) for t in results]
    for i, view in enumerate(outputs[:states]):
        # a leaf that is made of another's old memory needs a copy of it before that is overwritten
        if view.node.kind == "input" and not (view.node is recorder.inputs[i] and view.whole):
            outputs[i] = recorder.make.dense(view)
    return Lowered(recorder.inputs, recorder.make.order, outputs)


@dataclass(frozen=True, slots=True)
class _Content:
    """What a tensor's memory holds: the elements of `view`, laid out as the tensor that was written."""

    view: View
    shape: Shape
    strides: Shape
    offset: int


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook untyped
    """Lowers every operator that torch calls, and lets it run."""

    def __init__(self, inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.make = Builder()
        self.inputs: list[Node] = []
        self._contents: dict[int, _Content] = {}
        self._alive: list[Tensor] = []  # memory that has been freed could be handed out again
        for t in inputs:
            shape = tuple(t.shape)
            self.inputs.append(Node("input", tuple(n for n in shape if n != 1), t.dtype))
            self._keep(t, View.of(self.inputs[-1], shape))

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Have torch not load its compiler, which takes most of a second, to keep it out of here."""
        return False

    def view(self, t: Tensor) -> View:
        """Find what a tensor holds; one never met before is a constant."""
        content = self._contents.get(_memory(t))
        shape, strides = tuple(t.shape), tuple(t.stride())
        if content is None:
            return self.make.data(t.detach().clone())
        if (shape, strides, t.storage_offset()) == (content.shape, content.strides, content.offset):
            return content.view
        if content.view.node.kind == "const":
            return View(content.view.node, shape, (0,) * len(shape))
        if content.view.whole and _same_order(content.strides, content.shape):
            return View(content.view.node, shape, _clean(strides, shape), int(t.storage_offset()) - content.offset)
        return self._composed(content, t)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operator; write down what it computes."""
        kwargs = kwargs or {}
        if not can_lower(func):
            with self:
                if func in DECOMPOSITIONS:
                    return DECOMPOSITIONS[func](*args, **kwargs)
                done = func.decompose(*args, **kwargs)
            if done is not NotImplemented:
                return done
        name = func._schema.name.split("::")[1]
        if name == "_local_scalar_dense":
            raise UnsupportedOperatorError("choice made in Python on a tensor's value (aten._local_scalar_dense)")
        written = [
            a for a, s in zip(args, func._schema.arguments, strict=False) if s.alias_info and s.alias_info.is_write
        ]
        known = pytree.tree_map_only(Tensor, self.view, list(args))
        before = {_memory(t) for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        out = func(*args, **kwargs)
        if written and name in RESHAPED:
            return out
        if written:
            self._write(written[0], lower(func, list(args), known, kwargs, written[0], self.make))
            return out
        fresh = [t for t in pytree.tree_leaves(out) if isinstance(t, Tensor) and _memory(t) not in before]
        if not fresh:  # another look at the same memory
            return out
        found = lower(func, list(args), known, kwargs, out, self.make)
        if isinstance(out, Tensor):
            self._keep(out, found)
        else:
            for t, view in zip(out, found, strict=True):
                if isinstance(t, Tensor) and view is not None:
                    self._keep(t, view)
        return out

    def _keep(self, t: Tensor, view: View) -> None:
        assert tuple(t.shape) == view.shape, (t.shape, view.shape)
        self._contents[_memory(t)] = _Content(view, tuple(t.shape), tuple(t.stride()), int(t.storage_offset()))
        self._alive.append(t)

    def _write(self, t: Tensor, view: View) -> None:
        """Give the memory of a tensor that was written in place a new node."""
        content = self._contents.get(_memory(t))
        shape, strides, offset = tuple(t.shape), tuple(t.stride()), int(t.storage_offset())
        if content is None or (shape, strides, offset) == (content.shape, content.strides, content.offset):
            self._contents[_memory(t)] = _Content(view, shape, strides, offset)
            self._alive.append(t)
            return
        size = t.untyped_storage().nbytes() // t.element_size()
        flat = self._composed(content, t.as_strided((size,), (1,), 0))
        merged = self.make.place(flat, [(view, strides, offset)], (size,), t.dtype)
        self._contents[_memory(t)] = _Content(merged, (size,), (1,), 0)

    def _composed(self, content: _Content, t: Tensor) -> View:
        """Look through a tensor at the memory of another that holds a view."""
        held = content.view
        for source in (held, self.make.dense(held)):
            extent = sum((n - 1) * abs(s) for n, s in zip(source.shape, source.strides, strict=True)) + 1
            low = source.offset + sum((n - 1) * min(s, 0) for n, s in zip(source.shape, source.strides, strict=True))
            if any(s < 0 for s in source.strides):
                continue
            index = torch.arange(low, low + extent).as_strided(source.shape, source.strides)
            size = t.untyped_storage().nbytes() // t.element_size()
            where = torch.full((max(size, 1),), -1)
            where.as_strided(content.shape, content.strides, content.offset).copy_(index)
            found = _affine(source.node, where.as_strided(t.shape, t.stride(), t.storage_offset()))
            if found is not None:
                return found
        raise UnsupportedOperatorError("view of memory that was not written as a whole")


def _memory(t: Tensor) -> int:
    number: int = t.untyped_storage()._cdata
    return number


def _same_order(strides: Shape, shape: Shape) -> bool:
    """Tell whether a tensor is dense in row-major order."""
    return all(s == own or n == 1 for s, own, n in zip(strides, contiguous(shape), shape, strict=True))


def _clean(strides: Shape, shape: Shape) -> Shape:
    return tuple(0 if n == 1 else s for s, n in zip(strides, shape, strict=True))


def _affine(node: Node, where: Tensor) -> View | None:
    """Make a view from the place of each element, if the places lie at even steps."""
    if where.numel() == 0:
        return View(node, tuple(where.shape), (0,) * where.dim())
    first = int(where.flatten()[0])
    strides = []
    for d in range(where.dim()):
        along = where.transpose(0, d)
        strides.append(int((along[1] - along[0]).flatten()[0]) if where.shape[d] > 1 else 0)
    even = torch.zeros((), dtype=torch.int64) + first
    for d, s in enumerate(strides):
        steps = torch.arange(where.shape[d]) * s
        even = even + steps.reshape([-1 if e == d else 1 for e in range(where.dim())])
    return View(node, tuple(where.shape), tuple(strides), first) if torch.equal(even.expand(where.shape), where) and first >= 0 else None  # fmt: skip
