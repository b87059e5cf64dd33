"""Products of matrices: which kernel computes a sum over a product, and how it is called.

The dimensions of the space are sorted by who has them: batch (both factors and the result), m (the left factor and the
result), n (the right factor and the result), k (both factors: summed over). Neighbouring ones are joined where the memory
allows it; what remains beyond one of each is looped over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from streamnn.native.nodes import Node, Shape, View, contiguous
from streamnn.native.operators import C_TYPES

LEAST = 16  # products of fewer terms are not worth a kernel


@dataclass(frozen=True, slots=True)
class _Axis:
    """One dimension: its size and the strides of left factor, right factor and result along it."""

    size: int
    left: int
    right: int
    out: int

    def turned(self) -> "_Axis":
        """The same with the factors exchanged."""
        return _Axis(self.size, self.right, self.left, self.out)


ONE = _Axis(1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Dots:
    """A product of a matrix with a vector, a few of the matrix's rows at a time, each of which makes one element.

    Attributes:
        rows: of the matrix.
        block: how many at a time, in C.
        call: the product of some rows; {first} and {rows} stand for which.
    """

    rows: int
    block: str
    call: str


@dataclass(frozen=True, slots=True)
class Sums:
    """A product of a vector with a matrix, each of whose rows adds to all elements.

    Attributes:
        rows: of the matrix.
        columns: of the matrix.
        element: of the result, {column}.
        term: what is added to it by {row}.
    """

    rows: int
    columns: int
    element: str
    term: str


def rowwise(node: Node, matrix: Node) -> Dots | Sums | None:
    """Write a product (see `groups.is_matmul`) with a whole matrix row by row, if it is one of a vector and that matrix."""
    left, right = node.views[0].node.views
    axes = _axes(left, right, node)
    if left.node is matrix:
        left, right, axes = right, left, [a.turned() for a in axes]
    if (
        right.node is not matrix
        or right.offset
        or len(left.node.shape) != 1
        or [_kind(a) for a in axes] not in (["n", "k"], ["k", "n"])
    ):
        return None
    column, over = sorted(axes, key=_kind, reverse=True)
    a, b, c = (_pointer(view, [], "") for view in (left, right, View.of(node)))
    if column.right == column.out == 1 and over.right == column.size and matrix.shape == (over.size, column.size):
        term = f"({a})[({{row}})*{over.left}]*({b})[({{row}})*{column.size}+{{column}}]"
        return Sums(over.size, column.size, f"({c})[{{column}}]", term)
    if over.left == over.right == 1 and column.right == over.size and matrix.shape == (column.size, over.size):
        k, out = over.size, column.out
        call = f"(1, {{rows}}, {k}, {a}, 0, {b}+{{first}}*{k}, {k}, {c}+{{first}}*{out}, 0, {out});\n"
        return Dots(column.size, f"(WIDE / {node.dtype.itemsize})", f"dots_{C_TYPES[node.dtype]}{call}")
    return None


def matmul(node: Node) -> str:
    """Write the call that computes a product (see `groups.is_matmul`), or nothing if no kernel fits."""
    left, right = node.views[0].node.views
    axes = _axes(left, right, node)
    batch, m, n, k = ([a for a in axes if _kind(a) == kind] for kind in "bmnk")
    if len(k) > 1 or len(batch) + len(m) + len(n) + len(k) != len(axes):
        return ""
    total = 1
    for axis in axes:
        total *= axis.size
    if total < LEAST:
        return ""
    over = k[0] if k else ONE
    for turned in (False, True):
        if turned:
            left, right, m, n, over = right, left, [x.turned() for x in n], [x.turned() for x in m], over.turned()
            batch = [x.turned() for x in batch]
        row, rows = _widest(m)
        column, columns = _column(n)
        loops = [*batch, *rows, *columns]
        kind = C_TYPES[node.dtype]
        a = _pointer(left, loops, "left")
        b = _pointer(right, loops, "right")
        c = _pointer(View.of(node), loops, "out")
        if column.right == column.out == 1 and column.size > 1:
            call = (
                f"rows_{kind}({row.size}, {column.size}, {over.size}, {a}, {row.left}, {over.left}, {b}, {over.right},"
                f" {c}, {row.out});\n"
            )
            return _looped(loops, call)
        if over.left == over.right == 1 and column.size > 1 and over.size >= 8:
            call = (
                f"dots_{kind}({row.size}, {column.size}, {over.size}, {a}, {row.left}, {b}, {column.right}, {c},"
                f" {row.out}, {column.out});\n"
            )
            return _looped(loops, call)
    return ""


def _axes(left: View, right: View, node: Node) -> list[_Axis]:
    """List the dimensions of the space, neighbouring ones of one kind joined where all three arrays allow it."""
    shape, own = left.shape, iter(contiguous(node.shape))
    out = [0 if d in node.dims else next(own) for d in range(len(shape))]
    axes: list[_Axis] = []
    for d, n in enumerate(shape):
        axis = _Axis(n, left.strides[d], right.strides[d], out[d])
        if axes and _kind(axes[-1]) == _kind(axis) and _continues(axes[-1], axis):
            axes[-1] = _Axis(axes[-1].size * n, axis.left, axis.right, axis.out)
        else:
            axes.append(axis)
    return axes


def _continues(outer: _Axis, inner: _Axis) -> bool:
    return (outer.left, outer.right, outer.out) == tuple(s * inner.size for s in (inner.left, inner.right, inner.out))


def _kind(a: _Axis) -> str:
    if not a.out:
        return "k" if a.left and a.right else ""
    return "b" if a.left and a.right else "m" if a.left else "n" if a.right else ""


def _widest(axes: Sequence[_Axis]) -> tuple[_Axis, list[_Axis]]:
    """Choose the axis that the kernel runs along; the others are looped over."""
    if not axes:
        return ONE, []
    chosen = max(axes, key=lambda a: a.size)
    return chosen, [a for a in axes if a is not chosen]


def _column(axes: Sequence[_Axis]) -> tuple[_Axis, list[_Axis]]:
    """Choose the axis of columns: a contiguous one if there is one."""
    dense = [a for a in axes if a.right == a.out == 1]
    if dense:
        return dense[0], [a for a in axes if a is not dense[0]]
    return _widest(axes)


def _pointer(view: View, loops: Sequence[_Axis], which: str) -> str:
    strides = [{"left": a.left, "right": a.right, "out": a.out}[which] for a in loops]
    terms = [f"j{i}*{s}" for i, s in enumerate(strides) if s]
    return "+".join([view.node.name, *terms, *([str(view.offset)] if view.offset else [])])


def _looped(loops: Sequence[_Axis], body: str) -> str:
    heads = "".join(f"for (int64_t j{i} = 0; j{i} < {a.size}; j{i}++) {{\n" for i, a in enumerate(loops))
    return heads + body + "}\n" * len(loops)


def work(shape: Shape) -> int:
    """Count the multiplications of a product over this space."""
    total = 1
    for n in shape:
        total *= n
    return total
