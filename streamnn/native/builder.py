"""Makes nodes: equal ones once, without dimensions of size 1, and none where the result is already there.

Every method takes and returns views with torch's shapes. What is simplified is exact: multiplying by 1, summing one
element, `and` with True, arithmetic on constants, counting of one row (which is 0 or 1, so at least 1 is 1), |a b| as |a| |b|.
Two rewrites that spare work are not exact: x (a b) of an outer product a b is computed as (x a) b, and the sum over an outer
product as the product of two sums. They agree with what is written up to rounding, and where that overflows they may be finite.
"""

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch

from streamnn.native.nodes import Node, Operand, Scalar, Shape, View, contiguous

Place = tuple[View, Shape, int]  # what is stored, strides over its shape, offset

_ANDS = frozenset(("bitwise_and", "logical_and", "__and__"))


class Builder:
    """Collects the nodes of one graph in order."""

    def __init__(self) -> None:
        self.order: list[Node] = []
        self._known: dict[Any, Node] = {}

    def full(self, fill: Scalar, shape: Sequence[int], dtype: torch.dtype) -> View:
        """Make an array with the same number everywhere."""
        node = self._add(Node("const", (), dtype, fill=_cast(fill, dtype)))
        return View(node, tuple(shape), (0,) * len(shape))

    def data(self, tensor: torch.Tensor) -> View:
        """Make an array of numbers known when tracing."""
        if tensor.numel() == 1:
            return self.full(tensor.item(), tensor.shape, tensor.dtype)
        shape = tuple(n for n in tensor.shape if n != 1)
        node = self._add(Node("data", shape, tensor.dtype, values=tuple(tensor.flatten().tolist())))
        return View.of(node, tensor.shape)

    def cast(self, view: View, dtype: torch.dtype) -> View:
        """Convert to another type."""
        if view.node.dtype == dtype:
            return view
        if view.node.kind == "const":
            return self.full(view.node.fill, view.shape, dtype)
        return self.point("_to_copy", [view], view.shape, dtype)

    def point(
        self,
        op: str,
        args: Sequence[Operand],
        shape: Sequence[int],
        dtype: torch.dtype,
        *,
        picks: tuple[tuple[int, int], ...] = (),
        fill: Scalar = 0,
    ) -> View:
        """Make an array element by element; views are broadcast to its shape."""
        wide = [a.expand(shape) if isinstance(a, View) else a for a in args]
        same = _simplified(op, wide, dtype)
        if same is not None:
            return same
        if _is_one(op, wide, dtype):
            return self.full(1, shape, dtype)
        if op == "abs" and _is_outer(wide[0]):
            # |a b| = |a| |b|, and the factors are smaller
            return self._of_factors("abs", wide[0], shape)
        if op == "mul":
            for one, other in (wide, wide[::-1]):
                moved = self._into_factor(one, other, shape, dtype)
                if moved is not None:
                    return moved
        return self._point(op, wide, shape, dtype, picks=picks, fill=fill)

    def dense(self, view: View) -> View:
        """Lay a view out in memory of its own."""
        return self._point("_to_copy", [view], view.shape, view.node.dtype)

    def reduce(self, op: str, view: View, dims: Sequence[int], shape: Sequence[int], dtype: torch.dtype) -> View:
        """Fold an array over some dimensions; `shape` is the result's, with or without them."""
        kept = [d for d, n in enumerate(view.shape) if n != 1]
        over = tuple(i for i, d in enumerate(kept) if d in dims)
        if not over:  # there is only one element to fold
            rest = view.take([d for d in kept if d not in dims])
            lone = self.full(0, (), dtype) if op == "argmax" else self.cast(rest, dtype)
            strides = iter(lone.strides)
            return View(lone.node, tuple(shape), tuple(0 if n == 1 else next(strides) for n in shape), lone.offset)
        bare = view.take(kept)
        parted = self._parted(bare, over, dtype) if op == "sum" else None
        if parted is not None:
            strides = iter(parted.strides)
            return View(parted.node, tuple(shape), tuple(0 if n == 1 else next(strides) for n in shape), parted.offset)
        left = tuple(view.shape[d] for d in kept if d not in dims)
        node = self._add(Node("reduce", left, dtype, op, [bare], dims=over))
        return View.of(node, shape)

    def _parted(self, view: View, dims: Shape, dtype: torch.dtype) -> View | None:
        """Sum a product whose factors are summed over different dimensions: sum_ij a_i b_j = (sum_i a_i) (sum_j b_j)."""
        product = view.node
        if product.op != "mul" or product.dtype != dtype or not dtype.is_floating_point or not view.whole:
            return None
        factors = product.views
        if len(factors) != 2 or len(product.args) != 2 or any(f.node.dtype != dtype for f in factors):
            return None
        own = [[d for d in dims if f.strides[d]] for f in factors]
        if (
            set(own[0]) & set(own[1])
            or set(own[0]) | set(own[1]) != set(dims)
            or not all(_is_broadcast(f) for f in factors)
        ):
            return None
        left = tuple(n for d, n in enumerate(view.shape) if d not in dims)
        sums = []
        for f, mine in zip(factors, own, strict=True):
            other = [d for d in dims if d not in mine]
            part = f.take([d for d in range(len(view.shape)) if d not in other])
            at = [d for d in range(len(view.shape)) if d not in other]
            narrow = [i for i, d in enumerate(at) if d in mine or f.strides[d]]
            slim = part.take(narrow)
            kept = [i for i in narrow if at[i] not in mine]
            over = [narrow.index(i) for i in narrow if at[i] in mine]
            total = self.reduce("sum", slim, over, [part.shape[i] for i in kept], dtype) if over else slim
            strides = dict(zip([at[i] for i in kept], total.strides, strict=True))
            sums.append(
                View(
                    total.node,
                    left,
                    tuple(strides.get(d, 0) for d in range(len(view.shape)) if d not in dims),
                    total.offset,
                )
            )
        return self.point("mul", sums, left, dtype)

    def place(self, base: View | None, pieces: Sequence[Place], shape: Sequence[int], dtype: torch.dtype) -> View:
        """Store pieces in a copy of `base` (None: they cover everything). Strides are those of a dense array of `shape`."""
        target = tuple(n for n in shape if n != 1)
        args: list[Operand] = [None if base is None else base.squeeze()]
        places = []
        for view, strides, offset in pieces:
            kept = [d for d, n in enumerate(view.shape) if n != 1]
            args.append(view.take(kept))
            places.append((tuple(strides[d] for d in kept), offset))
        return View.of(self._add(Node("place", target, dtype, "place", args, places=tuple(places))), shape)

    def scatter(
        self,
        op: str,
        base: View,
        value: Place,
        indexes: Sequence[View],
        picks: tuple[tuple[int, int], ...],
        dtype: torch.dtype,
    ) -> View:
        """Store (op "set") or add (op "add") a value in a copy of `base` where indexes say; all run over the value's shape."""
        view, strides, offset = value
        kept = [d for d, n in enumerate(view.shape) if n != 1]
        args: list[Operand] = [base.squeeze(), view.take(kept), *(i.take(kept) for i in indexes)]
        place = (tuple(strides[d] for d in kept), offset)
        shape = tuple(n for n in base.shape if n != 1)
        return View.of(self._add(Node("scatter", shape, dtype, op, args, picks=picks, places=(place,))), base.shape)

    def matmul(self, x: View, y: View, dtype: torch.dtype) -> View:
        """Multiply [..., M, K] by [..., K, N]: a sum over a pointwise product."""
        *batch, m, k = x.shape
        n = y.shape[-1]
        shape = (*batch, m, n, k)
        left = View(x.node, shape, (*x.strides[:-2], x.strides[-2], 0, x.strides[-1]), x.offset)
        right = View(y.node, shape, (*y.strides[:-2], 0, y.strides[-1], y.strides[-2]), y.offset)
        product = self.point("mul", [left, right], shape, dtype)
        return self.reduce("sum", product, [len(shape) - 1], (*batch, m, n), dtype)

    def _into_factor(self, x: Operand, product: Operand, shape: Sequence[int], dtype: torch.dtype) -> View | None:
        """Multiply one factor of an outer product, which is smaller, instead of the product: x (a b) = (x a) b."""
        if not isinstance(x, View) or x.node.kind == "const" or not _is_outer(product):
            return None
        factors = product.node.views
        if len(factors) != 2 or any(v.node.dtype != dtype for v in (x, *factors)):
            return None
        bare = product.node.shape
        kept = [d for d, n in enumerate(shape) if n != 1]
        if tuple(shape[d] for d in kept) != bare:
            return None
        x = x.take(kept)
        for f, other in (factors, factors[::-1]):
            if all(f.strides[d] for d, s in enumerate(x.strides) if s):
                return View.of(self._point("mul", [self._narrow("mul", [x, f], f), other], bare, dtype).node, shape)
        return None

    def _of_factors(self, op: str, view: View, shape: Sequence[int]) -> View:
        node = view.node
        factors: list[Operand] = []
        for f in node.args:
            if isinstance(f, View):
                factors.append(self._narrow(op, [f], f))
            else:
                assert f is not None
                factors.append(abs(f))
        product = self.point("mul", factors, node.shape, node.dtype)
        return (
            View(product.node, tuple(shape), View.of(product.node, shape).strides, product.offset)
            if product.whole
            else product
        )

    def _narrow(self, op: str, args: Sequence[View], like: View) -> View:
        """Compute element by element along those dimensions alone in which `like` varies; the result is broadcast as it is."""
        varying = [d for d, s in enumerate(like.strides) if s]
        small = self.point(op, [a.take(varying) for a in args], [like.shape[d] for d in varying], like.node.dtype)
        strides = dict(zip(varying, small.strides, strict=True))
        return View(small.node, like.shape, tuple(strides.get(d, 0) for d in range(len(like.shape))), small.offset)

    def _point(
        self,
        op: str,
        args: Sequence[Operand],
        shape: Sequence[int],
        dtype: torch.dtype,
        *,
        picks: tuple[tuple[int, int], ...] = (),
        fill: Scalar = 0,
    ) -> View:
        kept = [d for d, n in enumerate(shape) if n != 1]
        bare = [a.take(kept) if isinstance(a, View) else a for a in args]
        node = Node("point", tuple(shape[d] for d in kept), dtype, op, bare, picks=picks, fill=fill)
        return View.of(self._add(node), shape)

    def _add(self, node: Node) -> Node:
        key = (
            node.kind, node.shape, node.dtype, node.op, node.dims, node.picks, node.places, repr(node.fill), node.values,
            tuple(a.key if isinstance(a, View) else (type(a).__name__, repr(a)) for a in node.args),
        )  # fmt: skip
        if key not in self._known:
            self._known[key] = node
            self.order.append(node)
        return self._known[key]


def dense_strides(shape: Sequence[int]) -> Shape:
    """Return the strides of a node that holds an array of this shape; 0 where the size is 1."""
    own = iter(contiguous([n for n in shape if n != 1]))
    return tuple(0 if n == 1 else next(own) for n in shape)


def _simplified(op: str, args: Sequence[Operand], dtype: torch.dtype) -> View | None:
    """Find an argument that already is the result."""
    if op == "where" and isinstance(args[0], View) and args[0].node.kind == "const":
        return _as_is(args[1] if args[0].node.fill else args[2], dtype)
    if op == "mul" or op in _ANDS:
        one = 1 if op == "mul" else True
        for a, b in ((args[0], args[1]), (args[1], args[0])):
            if _number(a) == one and (op == "mul" or dtype == torch.bool):
                return _as_is(b, dtype)
    if op == "div" and _number(args[1]) == 1:
        return _as_is(args[0], dtype)
    if op == "sub" and _number(args[1]) == 0:
        return _as_is(args[0], dtype)
    if op == "_to_copy":
        return _as_is(args[0], dtype)
    counted = _counted(args[0]) if args else None
    if counted is not None and (op, _number(args[-1])) in (("gt", 0), ("ne", 0), ("ge", 1)):
        return counted
    return None


def _is_one(op: str, args: Sequence[Operand], dtype: torch.dtype) -> bool:
    """Tell whether a count of one row is raised to 1."""
    if dtype.is_floating_point:
        return False
    if op == "clamp":
        low, high = [*args[1:], None, None][:2]
        return _counted(args[0]) is not None and _number(low) == 1 and high is None
    if op != "where" or _number(args[2]) != 1:
        return False
    truth, counted = args[0], _counted(args[1])
    return isinstance(truth, View) and counted is not None and counted.key == truth.key


def _counted(a: Operand) -> View | None:
    """Find the truth value that a whole number was made from, element for element."""
    if not isinstance(a, View) or a.node.op != "_to_copy" or a.node.dtype.is_floating_point or not a.whole:
        return None
    (source,) = a.node.views
    if source.node.dtype != torch.bool or not source.whole:
        return None
    return View.of(source.node, a.shape)


def _as_is(a: Operand, dtype: torch.dtype) -> View | None:
    return a if isinstance(a, View) and a.node.dtype == dtype else None


def _number(a: Operand) -> Scalar | None:
    if isinstance(a, View):
        return a.node.fill if a.node.kind == "const" else None
    return a


def _cast(fill: Scalar, dtype: torch.dtype) -> Scalar:
    if dtype == torch.bool:
        return bool(fill)
    if dtype.is_floating_point:
        return float(fill)
    return int(fill) if math.isfinite(fill) else 0


def _is_outer(a: Operand) -> TypeGuard[View]:
    """Tell whether a view is, element for element, a product of two arrays that are both smaller."""
    return isinstance(a, View) and a.node.op == "mul" and a.whole and all(_is_broadcast(v) for v in a.node.views)


def _is_broadcast(view: View) -> bool:
    return any(s == 0 and n > 1 for n, s in zip(view.shape, view.strides, strict=True))
