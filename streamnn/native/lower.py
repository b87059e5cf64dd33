"""From torch's graph to nodes and views. Equal nodes are made once; an operator that has no lowering is named.

A matrix product is a sum over a pointwise product, looped in the order in which the larger operand lies in memory.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from streamnn.native.nodes import Node, Operand, Scalar, Shape, View, contiguous
from streamnn.native.operators import POINTWISE

VIEWS = frozenset(
    "unsqueeze squeeze permute view _unsafe_view reshape expand slice select t transpose unbind split split_with_sizes"
    " diagonal as_strided".split()
)
FILLS: dict[str, int | float] = {  # name -> position of the fill value, or the value itself as a float
    "full": 1, "full_like": 1, "scalar_tensor": 0, "zeros_like": 0.0, "ones_like": 1.0, "zeros": 0.0, "ones": 1.0,
    "empty_permuted": 0.0, "empty_like": 0.0, "empty": 0.0, "new_zeros": 0.0, "new_ones": 1.0, "new_full": 2,
}  # fmt: skip
COPIES = frozenset(("clone", "alias", "detach", "lift_fresh_copy", "contiguous"))
REDUCTIONS = frozenset(("sum", "mean", "amax", "amin", "any", "all", "prod"))


class UnsupportedOperator(NotImplementedError):
    """An operator that the native engine cannot lower."""

    def __init__(self, operator: str) -> None:
        super().__init__(f"operator {operator} has no native lowering")
        self.operator = operator


@dataclass(frozen=True, slots=True)
class Lowered:
    """Input nodes, computed nodes in order, and the views that are returned."""

    inputs: list[Node]
    order: list[Node]
    outputs: list[View]


class _Maker:
    """Makes nodes, each distinct one once."""

    def __init__(self) -> None:
        self.order: list[Node] = []
        self._known: dict[Any, Node] = {}

    def __call__(self, node: Node) -> View:
        key = (
            node.kind, node.shape, node.dtype, node.op, node.dims, node.keep, node.dim, repr(node.fill),
            tuple(a.key if isinstance(a, View) else (type(a).__name__, repr(a)) for a in node.args),
        )  # fmt: skip
        if key not in self._known:
            self._known[key] = node
            self.order.append(node)
        return View.of(self._known[key])


def lower(graph: fx.Graph) -> Lowered:
    """Lower a graph of elementary operators.

    Raises:
        UnsupportedOperator: the graph holds an operator without a lowering.
    """
    make, env, inputs = _Maker(), dict[fx.Node, Any](), list[Node]()

    def value(a: Any) -> Any:
        if isinstance(a, fx.Node):
            return env[a]
        return [value(x) for x in a] if isinstance(a, (list, tuple)) else a

    for f in graph.nodes:
        if f.op == "placeholder":
            inputs.append(Node("input", tuple(f.meta["val"].shape), f.meta["val"].dtype))
            env[f] = View.of(inputs[-1])
        elif f.op == "get_attr":
            env[f] = _constant(getattr(graph.owning_module, str(f.target)), make)
        elif f.op == "output":
            return Lowered(inputs, make.order, [value(a) for a in pytree.tree_leaves(f.args[0])])
        elif not hasattr(f.target, "_schema"):  # operator.getitem
            env[f] = value(f.args[0])[f.args[1]]
        else:
            env[f] = _operator(f, [value(a) for a in f.args], make)
    raise AssertionError("a graph ends with its output")


def _operator(f: fx.Node, a: list[Any], make: _Maker) -> Any:
    name: str = f.target._schema.name.split("::")[1]  # type: ignore[union-attr]
    out = f.meta["val"]
    shape: Shape = () if isinstance(out, (list, tuple)) else tuple(out.shape)
    if name in VIEWS:
        return _view(f, a)
    if name in FILLS:
        at = FILLS[name]
        fill = at if isinstance(at, float) else a[at]
        return _full(fill, shape, out.dtype, make)
    if name in COPIES or (name == "_to_copy" and a[0].node.dtype == out.dtype):
        return a[0]
    if name in ("copy", "fill"):
        source = a[1]
        if not isinstance(source, View):
            return _full(source, shape, out.dtype, make)
        return make(Node("point", shape, out.dtype, "_to_copy", [source.expand(shape)]))
    if name in POINTWISE or name in ("pow", "clamp"):
        scaled = _alpha(f, a, make, out.dtype)
        return make(Node("point", shape, out.dtype, name, [_broadcast(x, shape) for x in scaled]))
    if name in REDUCTIONS:
        rank = len(a[0].shape)
        listed = a[1] if len(a) > 1 and a[1] not in (None, []) else range(rank)
        dims = tuple(d % rank for d in ([listed] if isinstance(listed, int) else listed)) if rank else ()
        return make(Node("reduce", shape, out.dtype, name, [a[0]], dims=dims, keep=bool(rank) and len(shape) == rank))
    if name in ("mm", "bmm"):
        return _matmul(a[0], a[1], out.dtype, make)
    if name == "cat":
        return make(Node("cat", shape, out.dtype, args=list(a[0]), dim=(a[1] if len(a) > 1 else 0) % len(shape)))
    if name == "stack":
        dim = (a[1] if len(a) > 1 else 0) % len(shape)
        parts = [View(v.node, v.shape[:dim] + (1,) + v.shape[dim:], v.strides[:dim] + (0,) + v.strides[dim:], v.offset) for v in a[0]]  # fmt: skip
        return make(Node("cat", shape, out.dtype, args=list(parts), dim=dim))
    if name == "gather":
        return make(Node("gather", shape, out.dtype, args=[a[0], a[2]], dim=a[1] % max(len(shape), 1)))
    if name == "scatter":
        return make(Node("scatter", shape, out.dtype, args=[a[0], a[2], a[3]], dim=a[1] % max(len(shape), 1)))
    if name == "arange":
        return _constant(torch.arange(*[x for x in a if isinstance(x, (int, float))], dtype=out.dtype), make)
    raise UnsupportedOperator(str(f.target))


def _alpha(f: fx.Node, a: list[Any], make: _Maker, dtype: torch.dtype) -> list[Any]:
    """Write out add(x, y, alpha=k) and sub(x, y, alpha=k)."""
    alpha = f.kwargs.get("alpha", 1)
    if alpha == 1:
        return a
    y = a[1]
    if isinstance(y, View):
        y = make(Node("point", y.shape, dtype, "mul", [y, _scalar(alpha)]))
    else:
        y = y * _scalar(alpha)
    return [a[0], y]


def _scalar(x: object) -> Scalar:
    assert isinstance(x, (int, float, bool))
    return x


def _broadcast(x: Any, shape: Shape) -> Operand:
    return x.expand(shape) if isinstance(x, View) else x


def _full(fill: Scalar, shape: Shape, dtype: torch.dtype, make: _Maker) -> View:
    node = make(Node("const", (), dtype, fill=fill)).node
    return View(node, shape, (0,) * len(shape))


def _constant(tensor: torch.Tensor, make: _Maker) -> View:
    """Lower a tensor known when tracing: a scalar, or a concatenation of scalars."""
    if tensor.dim() == 0:
        return _full(tensor.item(), (), tensor.dtype, make)
    flat = [_full(v, (1,), tensor.dtype, make) for v in tensor.flatten().tolist()]
    whole = make(Node("cat", (tensor.numel(),), tensor.dtype, args=list(flat)))
    return View(whole.node, tuple(tensor.shape), contiguous(tensor.shape))


def _view(f: fx.Node, a: list[Any]) -> Any:
    """Apply a view operator to an index tensor with the same strides, and read the new strides off the result."""
    v: View = a[0]
    extent = v.offset + sum((n - 1) * s for n, s in zip(v.shape, v.strides, strict=True)) + 1
    index = torch.arange(max(extent, 1)).as_strided(v.shape, v.strides, v.offset)
    if str(f.target).startswith("aten._unsafe_view"):
        result: Any = index.reshape(a[1])
    else:
        result = f.target(index, *a[1:], **f.kwargs)  # type: ignore[operator]

    def look(r: torch.Tensor) -> View:
        if r.untyped_storage().data_ptr() != index.untyped_storage().data_ptr():
            raise UnsupportedOperator(f"{f.target} of a view that has to be copied")
        return View(v.node, tuple(r.shape), tuple(r.stride()), int(r.storage_offset()))

    return pytree.tree_map(look, result)


def _matmul(x: View, y: View, dtype: torch.dtype, make: _Maker) -> View:
    *batch, m, k = x.shape
    n, bx, by = y.shape[-1], x.strides[:-2], y.strides[:-2]
    if k == 1:  # an outer product has nothing to sum
        shape = (*batch, m, n)
        return make(Node("point", shape, dtype, "mul", [x.expand(shape), y.expand(shape)]))
    # the sum runs innermost if that walks the larger operand in steps of one, else rows are accumulated
    dot = y.strides[-2] == 1 != y.strides[-1] if m <= n else x.strides[-1] == 1 == y.strides[-2]
    if dot:
        shape, dim = (*batch, m, n, k), len(batch) + 2
        xs: Sequence[int] = (*bx, x.strides[-2], 0, x.strides[-1])
        ys: Sequence[int] = (*by, 0, y.strides[-1], y.strides[-2])
    else:
        shape, dim = (*batch, m, k, n), len(batch) + 1
        xs = (*bx, x.strides[-2], x.strides[-1], 0)
        ys = (*by, 0, y.strides[-2], y.strides[-1])
    product = make(
        Node("point", shape, dtype, "mul", [View(x.node, shape, tuple(xs), x.offset), View(y.node, shape, tuple(ys), y.offset)])
    )  # fmt: skip
    return make(Node("reduce", (*batch, m, n), dtype, "sum", [product], dims=(dim,)))
