"""From torch's graph to nodes and views; an operator that has no lowering is named.

View operators are applied to an index tensor with the same strides, and the new strides read off the result. Most other
operators are pointwise or reductions; the rest stands in a table, here and in `streamnn.native.arrays`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from streamnn.native.arrays import LOWERINGS, UnsupportedOperator
from streamnn.native.builder import Builder
from streamnn.native.nodes import Node, Operand, Scalar, View
from streamnn.native.operators import COMPARISONS, POINTWISE, REDUCE

VIEWS = frozenset(
    "unsqueeze squeeze permute view _unsafe_view reshape expand slice select t transpose unbind split split_with_sizes"
    " diagonal as_strided unfold".split()
)
FILLS: dict[str, int | float] = {  # name -> position of the fill value, or the value itself as a float
    "full": 1, "full_like": 1, "scalar_tensor": 0, "zeros_like": 0.0, "ones_like": 1.0, "zeros": 0.0, "ones": 1.0,
    "empty_permuted": 0.0, "empty_like": 0.0, "empty": 0.0, "new_zeros": 0.0, "new_ones": 1.0, "new_full": 2,
}  # fmt: skip
COPIES = frozenset(("clone", "alias", "detach", "lift_fresh_copy", "contiguous"))


@dataclass(frozen=True, slots=True)
class Lowered:
    """Input nodes, computed nodes in order, and the views that are returned."""

    inputs: list[Node]
    order: list[Node]
    outputs: list[View]


def lower(graph: fx.Graph, states: int = 0) -> Lowered:
    """Lower a graph of elementary operators.

    Args:
        graph: what to lower.
        states: the first so many inputs and outputs are the leaves of a state, old and new.

    Raises:
        UnsupportedOperator: the graph holds an operator without a lowering.
    """
    make, env, inputs = Builder(), dict[fx.Node, Any](), list[Node]()

    def value(a: Any) -> Any:
        if isinstance(a, fx.Node):
            return env[a]
        return [value(x) for x in a] if isinstance(a, (list, tuple)) else a

    for f in graph.nodes:
        if f.op == "placeholder":
            shape = tuple(f.meta["val"].shape)
            inputs.append(Node("input", tuple(n for n in shape if n != 1), f.meta["val"].dtype))
            env[f] = View.of(inputs[-1], shape)
        elif f.op == "get_attr":
            env[f] = make.data(getattr(graph.owning_module, str(f.target)))
        elif f.op == "output":
            outputs = [value(a) for a in pytree.tree_leaves(f.args[0])]
            for i, view in enumerate(outputs[:states]):
                # a leaf that is made of another's old memory needs a copy of it before that is overwritten
                if view.node.kind == "input" and not (view.node is inputs[i] and view.whole):
                    outputs[i] = make.dense(view)
            return Lowered(inputs, make.order, outputs)
        elif not isinstance(f.target, torch._ops.OpOverload):  # operator.getitem
            env[f] = value(f.args[0])[f.args[1]]
        else:
            env[f] = _operator(f, f.target, [value(a) for a in f.args], make)
    raise AssertionError("a graph ends with its output")


def _operator(f: fx.Node, target: torch._ops.OpOverload, a: list[Any], make: Builder) -> Any:
    name = target._schema.name.split("::")[1]
    out = f.meta["val"]
    if name in VIEWS:
        return _view(f, target, a, make)
    if name in LOWERINGS:
        return LOWERINGS[name](make, out, a, f.kwargs)
    if not isinstance(out, torch.Tensor):
        raise UnsupportedOperator(str(target))
    shape = tuple(out.shape)
    if name in FILLS:
        at = FILLS[name]
        return make.full(at if isinstance(at, float) else a[at], shape, out.dtype)
    if name in COPIES:
        return a[0]
    if name in ("_to_copy", "convert_element_type"):
        return make.cast(a[0], out.dtype)
    if name in ("copy", "fill"):
        return make.cast(a[1].expand(shape), out.dtype) if isinstance(a[1], View) else make.full(a[1], shape, out.dtype)
    if name in POINTWISE or name in ("pow", "clamp"):
        known = _known(f, target, a)
        if known is not None:
            return make.full(known, shape, out.dtype)
        if name in COMPARISONS:
            a = _same_type(f, a, make)
        return make.point(name, _alpha(f, a, make, out.dtype), shape, out.dtype)
    if name in REDUCE:
        rank = len(a[0].shape)
        listed = a[1] if len(a) > 1 and a[1] not in (None, []) else range(rank)
        dims = [d % rank for d in ([listed] if isinstance(listed, int) else listed)] if rank else []
        return make.reduce(name, a[0], dims, shape, out.dtype)
    raise UnsupportedOperator(str(target))


def _known(f: fx.Node, target: torch._ops.OpOverload, a: list[Any]) -> Scalar | None:
    """Compute a pointwise operator now, if all its operands are constants."""
    views = [x for x in a if isinstance(x, View)]
    if any(v.node.kind != "const" for v in views):
        return None
    numbers = [torch.tensor(x.node.fill, dtype=x.node.dtype) if isinstance(x, View) else x for x in a]
    found: Scalar = target(*numbers, **f.kwargs).item()
    return found


def _same_type(f: fx.Node, a: list[Any], make: Builder) -> list[Operand]:
    """Convert the operands of a comparison to the type in which torch compares them."""
    x, y = (x.meta["val"] if isinstance(x, fx.Node) else x for x in f.args[:2])
    dtype = torch.result_type(x, y)
    return [make.cast(v, dtype) if isinstance(v, View) else torch.tensor(v, dtype=dtype).item() for v in a[:2]]


def _alpha(f: fx.Node, a: list[Any], make: Builder, dtype: torch.dtype) -> list[Operand]:
    """Write out add(x, y, alpha=k) and sub(x, y, alpha=k)."""
    alpha: Any = f.kwargs.get("alpha", 1)
    if alpha == 1:
        return a
    y = a[1]
    return [a[0], make.point("mul", [y, alpha], y.shape, dtype) if isinstance(y, View) else y * alpha]


def _view(f: fx.Node, target: torch._ops.OpOverload, a: list[Any], make: Builder) -> Any:
    name, v = target._schema.name.split("::")[1], a[0]
    if name == "as_strided" and not v.whole:
        raise UnsupportedOperator(f"{target} of a view")
    result: Any = None
    for source in (v, make.dense(v)):  # a view that cannot be looked at so is laid out first
        if any(s < 0 for s in source.strides):
            continue
        extent = source.offset + sum((n - 1) * s for n, s in zip(source.shape, source.strides, strict=True)) + 1
        index = torch.arange(max(extent, 1)).as_strided(source.shape, source.strides, source.offset)
        result = index.reshape(a[1]) if name in ("_unsafe_view", "view") else target(index, *a[1:], **f.kwargs)
        home = index.untyped_storage().data_ptr()
        if all(r.untyped_storage().data_ptr() == home for r in pytree.tree_leaves(result)):
            break
    return pytree.tree_map(lambda r: View(source.node, tuple(r.shape), tuple(r.stride()), int(r.storage_offset())), result)
