"""The intermediate form: values computed by loops, and strided views of them.

A node is one array computed by one kind of loop. A view is how torch's tensors see memory: shape, strides, offset. View
operators (transpose, slice, expand, ...) make new views and no nodes. Nodes have no dimension of size 1: a [1, H] row and
an [H] vector are the same array, so their loops can be shared.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Union

import torch

Shape = tuple[int, ...]
Kind = Literal["input", "const", "data", "point", "reduce", "place", "scatter"]
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


@dataclass(eq=False, slots=True, repr=False)
class Node:
    """One array.

    Attributes:
        kind: input; const (`fill` everywhere); data (`values`); point (elementwise); reduce (over `dims` of its only
            argument); place (its first argument, if any, then the others stored at `places`); scatter (its first argument,
            then the second stored or added where the others, which are indexes, say).
        op: the operator's name, for point, reduce and scatter nodes.
        args: what it reads.
        dims: the dimensions of the argument that a reduction sums over.
        picks: for the point operator "pick" (args: source, indexes) and for scatter: (stride, size) of the dimension that
            each index runs along.
        places: (strides, offset) in this node at which each argument after the first is stored; for scatter the one of
            its value.
        fill: the value of a const, or (start, step) of the point operator "iota".
        values: the numbers of a data node.
    """

    kind: Kind
    shape: Shape
    dtype: torch.dtype
    op: str = ""
    args: list[Operand] = field(default_factory=list)
    dims: Shape = ()
    picks: tuple[tuple[int, int], ...] = ()
    places: tuple[tuple[Shape, int], ...] = ()
    fill: Scalar = 0
    values: tuple[Scalar, ...] = ()
    # set by the schedule
    users: list["Node"] = field(default_factory=list)
    group: int = -1
    inline: bool = False
    stored: bool = True
    name: str = ""

    def __repr__(self) -> str:
        """Say what it is, not what it reads: all that leads to a node would be told once for every way there."""
        what = " ".join(word for word in (self.kind, self.op, str(self.dtype).removeprefix("torch.")) if word)
        return f"<{what} {list(self.shape)}>"

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def views(self) -> list["View"]:
        """The arguments that are views."""
        return [a for a in self.args if isinstance(a, View)]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A strided look at a node's memory."""

    node: Node
    shape: Shape
    strides: Shape
    offset: int = 0

    @classmethod
    def of(cls, node: Node, shape: Sequence[int] | None = None) -> "View":
        """See the whole node as it lies; `shape` may have dimensions of size 1 besides."""
        shape = node.shape if shape is None else tuple(shape)
        own = iter(contiguous(node.shape))
        return cls(node, shape, tuple(0 if n == 1 else next(own) for n in shape))

    @property
    def whole(self) -> bool:
        """Whether this is the node itself, element for element."""
        bare = self.squeeze()
        return not bare.offset and bare.shape == bare.node.shape and bare.strides == contiguous(bare.node.shape)

    @property
    def key(self) -> tuple[int, Shape, Shape, int]:
        """What makes two views equal."""
        return id(self.node), self.shape, self.strides, self.offset

    def expand(self, shape: Sequence[int]) -> "View":
        """Broadcast to a larger shape."""
        lead = len(shape) - len(self.shape)
        strides = tuple(0 if n == 1 != m else s for n, m, s in zip(self.shape, shape[lead:], self.strides, strict=True))
        return View(self.node, tuple(shape), (0,) * lead + strides, self.offset)

    def squeeze(self) -> "View":
        """Leave out the dimensions of size 1."""
        kept = [d for d, n in enumerate(self.shape) if n != 1]
        return self.take(kept) if len(kept) < len(self.shape) else self

    def take(self, dims: Sequence[int]) -> "View":
        """Keep these dimensions, in this order; the others have index 0."""
        return View(self.node, tuple(self.shape[d] for d in dims), tuple(self.strides[d] for d in dims), self.offset)
