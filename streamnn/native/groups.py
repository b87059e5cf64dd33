"""Loop nests: the nodes that one computes, and what its loops read."""

from collections.abc import Iterator
from dataclasses import dataclass

from streamnn.native.nodes import Node, Shape, View


@dataclass(slots=True)
class Group:
    """Nodes computed by one loop nest.

    Attributes:
        kind: loop (over `shape`), or the kind of the single node it computes.
        then: the loop that follows in the same sweep over the rows of a matrix, see `streamnn.native.sweep`.
    """

    kind: str
    shape: Shape
    nodes: list[Node]
    then: "Group | None" = None


def reads(node: Node) -> Iterator[View]:
    """Yield the views of stored nodes that computing a node reads, through what is inlined into it."""
    for a in node.views:
        if a.node.inline:
            yield from reads(a.node)
        else:
            yield a


def space(node: Node) -> Shape:
    """Return the shape that a node's loops run over: a sum's is that of its argument."""
    return node.views[0].shape if node.kind == "reduce" else node.shape


def is_whole(view: View, shape: Shape) -> bool:
    """Tell whether a loop over `shape` reads a node of that shape at its own index."""
    return view.node.shape == shape and view.expand(shape).whole


def is_matmul(node: Node) -> bool:
    """Tell whether a node is a sum over a product of two arrays in memory, each lacking a dimension of the other."""
    if node.kind != "reduce" or node.op != "sum" or not node.dtype.is_floating_point:
        return False
    product = node.views[0].node
    if not product.inline or product.op != "mul" or not is_whole(node.views[0], product.shape):
        return False
    views = product.views
    if len(views) != 2 or any(v.node.inline or v.node.kind == "const" or v.node.dtype != node.dtype for v in views):
        return False
    return all(a or b for a, b in zip(views[0].strides, views[1].strides, strict=True)) and all(
        views[0].strides[d] and views[1].strides[d] for d in node.dims
    )
