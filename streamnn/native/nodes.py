"""The intermediate form: values computed by loops, and strided views of them.

A node is one array computed by one kind of loop. A view is how torch's tensors see memory: shape, strides, offset. View
operators (transpose, slice, expand, ...) make new views and no nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Union

import torch

Shape = tuple[int, ...]
Kind = Literal["input", "const", "point", "reduce", "cat", "gather", "scatter"]
Scalar = float | int | bool
Operand = Union["View", Scalar, None]


def contiguous(shape: Sequence[int]) -> Shape:
    """Return the strides of a dense row-major array."""
    strides: list[int] = []
    step = 1
    for n in reversed(shape):
        strides.insert(0, step)
        step *= n
    return tuple(strides)


@dataclass(eq=False, slots=True)
class Node:
    """One array.

    Attributes:
        kind: input; const (`fill` everywhere); point (elementwise); reduce (over `dims` of its argument); cat (along
            `dim`); gather and scatter (along `dim`, by an index).
        op: the operator's name, for point and reduce nodes.
        args: what it reads.
        keep: whether a reduction keeps its dimensions with size 1.
    """

    kind: Kind
    shape: Shape
    dtype: torch.dtype
    op: str = ""
    args: list[Operand] = field(default_factory=list)
    dims: Shape = ()
    keep: bool = False
    dim: int = 0
    fill: Scalar = 0
    # set by the schedule
    users: list["Node"] = field(default_factory=list)
    group: int = -1
    inline: bool = False
    stored: bool = True
    name: str = ""

    @property
    def size(self) -> int:
        """Number of elements."""
        n = 1
        for s in self.shape:
            n *= s
        return n


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A strided look at a node's memory."""

    node: Node
    shape: Shape
    strides: Shape
    offset: int = 0

    @classmethod
    def of(cls, node: Node) -> "View":
        """See the whole node as it lies."""
        return cls(node, node.shape, contiguous(node.shape))

    @property
    def whole(self) -> bool:
        """Whether this is the node itself, element for element."""
        if self.offset or self.shape != self.node.shape:
            return False
        own = contiguous(self.node.shape)
        return all(a == b or n == 1 for a, b, n in zip(self.strides, own, self.shape, strict=True))

    @property
    def key(self) -> tuple[int, Shape, Shape, int]:
        """What makes two views equal."""
        return id(self.node), self.shape, self.strides, self.offset

    def expand(self, shape: Sequence[int]) -> "View":
        """Broadcast to a larger shape."""
        lead = len(shape) - len(self.shape)
        strides = tuple(
            0 if n == 1 != m else s for n, m, s in zip(self.shape, shape[lead:], self.strides, strict=True)
        )
        return View(self.node, tuple(shape), (0,) * lead + strides, self.offset)
