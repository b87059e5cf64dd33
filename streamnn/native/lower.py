"""From one of torch's operators to nodes; an operator that has no lowering is named.

Most operators are pointwise or reductions; the rest stands in a table, here and in `streamnn.native.arrays`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from streamnn.native.arrays import LOWERINGS, UnsupportedOperatorError
from streamnn.native.builder import Builder
from streamnn.native.nodes import Operand, Scalar, Shape, View
from streamnn.native.operators import COMPARISONS, POINTWISE, REDUCE

FILLS: dict[str, int | float] = {  # name -> position of the fill value, or the value itself as a float
    "full": 1, "full_like": 1, "scalar_tensor": 0, "zeros_like": 0.0, "ones_like": 1.0, "zeros": 0.0, "ones": 1.0,
    "empty_permuted": 0.0, "empty_like": 0.0, "empty": 0.0, "empty_strided": 0.0, "new_empty": 0.0, "new_zeros": 0.0,
    "new_ones": 1.0, "new_full": 2, "zero": 0.0, "new_empty_strided": 0.0,
}  # fmt: skip
COPIES = frozenset(("clone", "alias", "detach", "lift_fresh_copy", "contiguous", "_to_copy", "convert_element_type"))


def can_lower(target: Any) -> bool:
    """Tell whether an operator is lowered as it is; otherwise it has to be broken down first."""
    name = _plain(target)
    if name in ("max", "min"):
        return str(target._overloadname) in ("default", "dim")
    return name in LOWERINGS or name in FILLS or name in COPIES or name in POINTWISE or name in REDUCE or name in ("pow", "clamp", "copy", "fill")  # fmt: skip


def lower(target: Any, raw: list[Any], a: list[Any], kwargs: Mapping[str, Any], out: Any, make: Builder) -> Any:
    """Lower one call.

    Args:
        target: the operator.
        raw: its arguments as torch has them.
        a: the same with views in place of tensors.
        kwargs: its other arguments.
        out: its result, for shapes and types.
        make: makes the nodes.

    Raises:
        UnsupportedOperatorError: the operator has no lowering.
    """
    name = _plain(target)
    if name in LOWERINGS:
        return LOWERINGS[name](make, out, a, kwargs)
    if not isinstance(out, Tensor):
        raise UnsupportedOperatorError(str(target))
    shape = tuple(out.shape)
    if name in FILLS:
        at = FILLS[name]
        return make.full(at if isinstance(at, float) else a[at], shape, out.dtype)
    if name in COPIES:
        return make.cast(a[0], out.dtype)
    if name in ("copy", "fill"):
        return make.cast(a[1].expand(shape), out.dtype) if isinstance(a[1], View) else make.full(a[1], shape, out.dtype)
    if name in POINTWISE or name in ("pow", "clamp"):
        known = _known(target, a, kwargs)
        if known is not None:
            return make.full(known, shape, out.dtype)
        if name == "clamp" and any(isinstance(x, View) for x in a[1:]):
            return _clamp(make.cast(a[0], out.dtype), [*a[1:], kwargs.get("min"), kwargs.get("max")][:2], shape, make)
        if name in COMPARISONS:
            a = _same_type(raw, a, make)
        if name == "div" and kwargs.get("rounding_mode"):
            return make.point(f"div_{kwargs['rounding_mode']}", a, shape, out.dtype)
        return make.point(name, _alpha(a, kwargs, make, out.dtype), shape, out.dtype)
    if name in REDUCE:
        rank = len(a[0].shape)
        listed = a[1] if len(a) > 1 and a[1] not in (None, []) else range(rank)
        dims = [d % rank for d in ([listed] if isinstance(listed, int) else listed)] if rank else []
        return make.reduce(name, make.cast(a[0], out.dtype) if name == "mean" else a[0], dims, shape, out.dtype)
    raise UnsupportedOperatorError(str(target))


def _plain(target: Any) -> str:
    """Name an operator without its library, and without the mark of one that writes in place."""
    name = str(target._schema.name.split("::")[1])
    return name[:-1] if name.endswith("_") and not name.startswith("__") else name


def _known(target: Any, a: list[Any], kwargs: Mapping[str, Any]) -> Scalar | None:
    """Compute a pointwise operator now, if all its operands are constants."""
    views = [x for x in a if isinstance(x, View)]
    if any(v.node.kind != "const" for v in views):
        return None
    numbers = [torch.tensor(x.node.fill, dtype=x.node.dtype) if isinstance(x, View) else x for x in a]
    found: Scalar = target(*numbers, **kwargs).item()
    return found


def _same_type(raw: list[Any], a: list[Any], make: Builder) -> list[Operand]:
    """Convert the operands of a comparison to the type in which torch compares them."""
    dtype = torch.result_type(raw[0], raw[1])
    return [make.cast(v, dtype) if isinstance(v, View) else torch.tensor(v, dtype=dtype).item() for v in a[:2]]


def _clamp(x: View, limits: list[Any], shape: Shape, make: Builder) -> View:
    """Write out limits that are arrays: NaN in one of them is passed on."""
    for name, limit in zip(("maximum", "minimum"), limits, strict=True):
        if limit is not None:
            x = make.point(name, [x, limit], shape, x.node.dtype)
    return x


def _alpha(a: list[Any], kwargs: Mapping[str, Any], make: Builder, dtype: torch.dtype) -> list[Operand]:
    """Write out add(x, y, alpha=k) and sub(x, y, alpha=k)."""
    alpha: Any = kwargs.get("alpha", 1)
    if alpha == 1:
        return a
    y = a[1]
    return [a[0], make.point("mul", [y, alpha], y.shape, dtype) if isinstance(y, View) else y * alpha]
