"""Lowerings of the operators that move elements about: joining, padding, indexing, scattering, convolution, largest index.

Each takes the builder, torch's result on fake tensors (for shape and type), the arguments as views and numbers, and the
keyword arguments.

Axes: B samples, C channels (in or out), G groups, O output positions, K kernel taps, S input positions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch

from streamnn.native.builder import Builder, dense_strides
from streamnn.native.nodes import Shape, View

Lowering = Callable[[Builder, Any, list[Any], Mapping[str, Any]], Any]


class UnsupportedOperatorError(NotImplementedError):
    """An operator that the native engine cannot lower."""

    def __init__(self, operator: str) -> None:
        super().__init__(
            f"operator {operator} has no native lowering; compute the same with other operators, or set engine to eager"
            " (model.engine in a configuration), and report it, so that it gets one"
        )
        self.operator = operator


def _cat(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    dim = (a[1] if len(a) > 1 else kwargs.get("dim", 0)) % out.dim()
    parts = [make.cast(v, out.dtype) for v in a[0] if math.prod(v.shape)]
    return _join(make, parts, dim, tuple(out.shape), out.dtype)


def _stack(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    dim = (a[1] if len(a) > 1 else kwargs.get("dim", 0)) % out.dim()
    parts = [
        View(v.node, (*v.shape[:dim], 1, *v.shape[dim:]), (*v.strides[:dim], 0, *v.strides[dim:]), v.offset)
        for v in (make.cast(v, out.dtype) for v in a[0])
    ]
    return _join(make, parts, dim, tuple(out.shape), out.dtype)


def _join(make: Builder, parts: list[View], dim: int, shape: Shape, dtype: torch.dtype) -> View:
    if len(parts) == 1:
        return parts[0]
    strides = dense_strides(shape)
    firsts = accumulate((v.shape[dim] for v in parts), initial=0)
    pieces = [(v, strides, first * strides[dim]) for v, first in zip(parts, firsts, strict=False)]
    return make.place(None, pieces, shape, dtype)


def _pad(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    view, pad = a[0], a[1]
    fill = a[2] if len(a) > 2 else kwargs.get("value", 0)
    rank = len(view.shape)
    before, after = [0] * rank, [0] * rank
    for i in range(len(pad) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pad[2 * i], pad[2 * i + 1]
    return _padded(make, view, before, after, fill)


def _padded(make: Builder, view: View, before: Sequence[int], after: Sequence[int], fill: float = 0.0) -> View:
    """Pad each dimension; a negative width cuts."""
    if not any(before) and not any(after):
        return view
    first = [max(-b, 0) for b in before]
    size = [n - f - max(-e, 0) for n, f, e in zip(view.shape, first, after, strict=True)]
    offset = view.offset + sum(f * s for f, s in zip(first, view.strides, strict=True))
    part = View(view.node, tuple(size), view.strides, offset)
    shape = tuple(n + max(b, 0) + max(e, 0) for n, b, e in zip(size, before, after, strict=True))
    if shape == part.shape:
        return part
    strides = dense_strides(shape)
    start = sum(max(b, 0) * s for b, s in zip(before, strides, strict=True))
    return make.place(make.full(fill, shape, view.node.dtype), [(part, strides, start)], shape, view.node.dtype)


def _slice_scatter(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    base, source, dim, start, stop, step = (*a, *(0, None, None, 1)[len(a) - 2 :])  # type: ignore[misc]  # what is missing at the end has torch's defaults
    size = base.shape[dim]
    first, _, stride = slice(start, stop, step).indices(size)
    strides = list(dense_strides(base.shape))
    offset = first * strides[dim]
    strides[dim] *= stride
    return make.place(base, [(source, tuple(strides), offset)], base.shape, out.dtype)


def _select_scatter(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    base, source, dim, index = a
    strides = dense_strides(base.shape)
    offset = (index % base.shape[dim]) * strides[dim]
    rest = tuple(s for d, s in enumerate(strides) if d != dim % len(base.shape))
    return make.place(base, [(source, rest, offset)], base.shape, out.dtype)


def _flip(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    view, dims = a[0], {d % out.dim() for d in a[1]}
    offset = view.offset + sum((view.shape[d] - 1) * view.strides[d] for d in dims)
    return View(view.node, view.shape, tuple(-s if d in dims else s for d, s in enumerate(view.strides)), offset)


def _repeat(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    view, times = a
    lead = len(times) - len(view.shape)
    shape, strides = (1,) * lead + view.shape, (0,) * lead + view.strides
    wide = [n for pair in zip(times, shape, strict=True) for n in pair]
    steps = [s for step in strides for s in (0, step)]
    whole = make.dense(View(view.node, tuple(wide), tuple(steps), view.offset))
    return View(whole.node, tuple(out.shape), dense_strides(out.shape), whole.offset)


def _arange(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    numbers = [x for x in a if isinstance(x, (int, float))]
    start, step = (0, 1) if len(numbers) == 1 else (numbers[0], numbers[2] if len(numbers) > 2 else 1)
    size = int(out.shape[0])
    if size <= 1:
        return make.full(start, (size,), out.dtype)
    index = make.point("iota", [], (size,), torch.int64)
    if not out.dtype.is_floating_point:
        scaled = make.point("mul", [index, int(step)], (size,), out.dtype)
        return make.point("add", [scaled, int(start)], (size,), out.dtype)
    scaled = make.point("mul", [make.cast(index, out.dtype), float(step)], (size,), out.dtype)
    return make.point("add", [scaled, float(start)], (size,), out.dtype)


def _gather(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    source, dim, index = a[:3]
    if not source.shape:
        return make.cast(source, out.dtype)
    return _picked(
        make, source, {dim % len(source.shape): index}, index.shape, list(range(len(index.shape))), out.dtype
    )


def _index_select(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    source, dim, index = a
    listed: list[Any] = [None] * len(source.shape)
    listed[dim] = index
    return _index(make, out, [source, listed], kwargs)


def _embedding(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    return _index(make, out, [a[0], [a[1]]], kwargs)


def _index(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    source = a[0]
    indexes, place = _advanced(source, a[1])
    return _picked(make, source, indexes, tuple(out.shape), place, out.dtype)


def _index_put(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    base, listed, value = a[:3]
    add = a[3] if len(a) > 3 else kwargs.get("accumulate", False)
    if len(listed) == 1 and listed[0].node.dtype == torch.bool and math.prod(value.shape) == 1 and not add:
        mask = listed[0]
        after = len(base.shape) - len(mask.shape)
        mask = View(mask.node, (*mask.shape, *[1] * after), (*mask.strides, *[0] * after), mask.offset)
        lone = View(value.node, (), (), value.offset)
        return make.point("where", [mask, make.cast(lone, out.dtype), base], base.shape, out.dtype)
    indexes, place = _advanced(base, listed)
    rank = max([p for p in place if p is not None], default=-1) + 1
    spread = list(indexes.values())
    if not spread:
        return make.place(base, [(value.expand(base.shape), dense_strides(base.shape), 0)], base.shape, out.dtype)
    block = len(spread[0].shape)
    start = _start_of_block(place, indexes)
    shape = [0] * max(rank, start + block)
    for d, p in enumerate(place):
        if p is not None:
            shape[p] = base.shape[d]
    shape[start : start + block] = spread[0].shape
    return _scattered(make, "add" if add else "set", base, value, indexes, tuple(shape), place, start, out.dtype)


def _embedding_backward(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    grad, index, rows, padding = a[:4]
    if padding >= 0:
        skipped = make.point("eq", [index, padding], index.shape, torch.bool)
        skipped = View(skipped.node, (*index.shape, 1), (*skipped.strides, 0), skipped.offset)
        grad = make.point("where", [skipped, 0.0, grad], grad.shape, out.dtype)
    base = make.full(0.0, (rows, grad.shape[-1]), out.dtype)
    block = len(index.shape)
    return _scattered(make, "add", base, grad, {0: index}, grad.shape, [None, block], 0, out.dtype)


def _scatter(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    return _scatter_along(make, "set", out, a)


def _scatter_add(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    return _scatter_along(make, "add", out, a)


def _scatter_along(make: Builder, op: str, out: Any, a: list[Any]) -> View:
    base, dim, index, value = a[:4]
    dim %= max(len(base.shape), 1)
    if isinstance(value, View):
        value = View(value.node, index.shape, value.strides, value.offset)
    else:
        value = make.full(value, index.shape, out.dtype)
    own = dense_strides(base.shape)
    strides = tuple(0 if d == dim else s for d, s in enumerate(own))
    picks = ((own[dim], base.shape[dim]),)
    return make.scatter(op, base, (make.cast(value, out.dtype), strides, 0), [index], picks, out.dtype)


def _advanced(source: View, listed: list[Any]) -> tuple[dict[int, View], list[int | None]]:
    """Read torch's list of indexes: {dimension: index, all of one shape} and the place of every other dimension.

    Where the indexed dimensions stand side by side, the indexes' shape takes their place; otherwise it comes first.
    """
    given = {d: v for d, v in enumerate(listed) if v is not None}
    if any(v.node.dtype == torch.bool for v in given.values()):
        raise UnsupportedOperatorError("aten.index by a mask")
    shape = torch.broadcast_shapes(*(v.shape for v in given.values())) if given else ()  # type: ignore[no-untyped-call]
    dims = sorted(given)
    together = dims == list(range(dims[0], dims[-1] + 1)) if dims else True
    start = dims[0] if dims and together else 0
    place: list[int | None] = []
    at = 0
    for d in range(len(source.shape)):
        if d in given:
            place.append(None)
            continue
        place.append(at + (len(shape) if at >= start else 0))
        at += 1
    return {d: v.expand(shape) for d, v in given.items()}, place


def _start_of_block(place: Sequence[int | None], indexes: Mapping[int, View]) -> int:
    dims = sorted(indexes)
    return dims[0] if dims == list(range(dims[0], dims[-1] + 1)) else 0


def _picked(
    make: Builder, source: View, indexes: Mapping[int, View], shape: Shape, place: Sequence[int | None], dtype: torch.dtype
) -> View:  # fmt: skip
    """Read `source` at indexes along some dimensions; `place` says which output dimension the others are."""
    strides = [0] * len(shape)
    for d, p in enumerate(place):
        if p is not None and d not in indexes:
            strides[p] = source.strides[d]
    block = len(next(iter(indexes.values())).shape)
    start = 0 if block == len(shape) else _start_of_block(place, indexes)
    wide = [_spread(v, shape, start) for v in indexes.values()]
    picks = tuple((source.strides[d], source.shape[d]) for d in indexes)
    look = View(source.node, shape, tuple(strides), source.offset)
    return make.point("pick", [look, *wide], shape, dtype, picks=picks)


def _scattered(
    make: Builder, op: str, base: View, value: View, indexes: Mapping[int, View], shape: Shape,
    place: Sequence[int | None], start: int, dtype: torch.dtype,
) -> View:  # fmt: skip
    own = dense_strides(base.shape)
    strides = [0] * len(shape)
    for d, p in enumerate(place):
        if p is not None:
            strides[p] = own[d]
    wide = [_spread(v, shape, start) for v in indexes.values()]
    picks = tuple((own[d], base.shape[d]) for d in indexes)
    return make.scatter(op, base, (make.cast(value.expand(shape), dtype), tuple(strides), 0), wide, picks, dtype)


def _spread(index: View, shape: Shape, start: int) -> View:
    """Broadcast an index along the dimensions around it."""
    after = len(shape) - start - len(index.shape)
    return View(index.node, shape, (0,) * start + index.strides + (0,) * after, index.offset)


def _argmax(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    view, dim = a[0], a[1] if len(a) > 1 else None
    if dim is None:
        return make.reduce("argmax", view, range(len(view.shape)), tuple(out.shape), torch.int64)
    return make.reduce("argmax", view, [dim % max(len(view.shape), 1)], tuple(out.shape), torch.int64)


def _argmin(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    # the negative of the least integer is itself, and of one without a sign it is no smaller
    op = "neg" if a[0].node.dtype.is_floating_point else "bitwise_not"
    turned = make.point(op, [a[0]], a[0].shape, a[0].node.dtype)
    return _argmax(make, out, [turned, *a[1:]], kwargs)


def _max(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View | list[View]:
    if isinstance(out, torch.Tensor):
        return make.reduce("amax", a[0], range(len(a[0].shape)), (), out.dtype)
    dim = a[1] % max(len(a[0].shape), 1)
    return [make.reduce("amax", a[0], [dim], tuple(out[0].shape), out[0].dtype), _argmax(make, out[1], a, kwargs)]


def _min(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View | list[View]:
    if isinstance(out, torch.Tensor):
        return make.reduce("amin", a[0], range(len(a[0].shape)), (), out.dtype)
    dim = a[1] % max(len(a[0].shape), 1)
    return [make.reduce("amin", a[0], [dim], tuple(out[0].shape), out[0].dtype), _argmin(make, out[1], a, kwargs)]


def _convolution(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> View:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = a
    if transposed:
        y = _spread_out(make, x, weight, stride, padding, dilation, groups, tuple(out.shape[2:]), out.dtype)
    else:
        y = _correlate(make, x, weight, stride, padding, dilation, groups, tuple(out.shape[2:]), out.dtype)
    if bias is None:
        return y
    beside = View(bias.node, (bias.shape[0], *[1] * (len(out.shape) - 2)), (bias.strides[0], *[0] * (len(out.shape) - 2)), bias.offset)  # fmt: skip
    return make.point("add", [y, beside], tuple(out.shape), out.dtype)


def _convolution_backward(make: Builder, out: Any, a: list[Any], kwargs: Mapping[str, Any]) -> list[View | None]:
    grad, x, weight, _, stride, padding, dilation, transposed, _, groups, wanted = a
    dtype = grad.node.dtype
    found: list[View | None] = [None, None, None]
    spatial = tuple(x.shape[2:])
    if wanted[0]:
        run = _correlate if transposed else _spread_out
        found[0] = run(make, grad, weight, stride, padding, dilation, groups, spatial, dtype)
    if wanted[1]:
        large, small = (grad, x) if transposed else (x, grad)
        found[1] = _kernel_gradient(make, large, small, weight.shape, stride, padding, dilation, groups, dtype)
    if wanted[2]:
        dims = [d for d in range(len(grad.shape)) if d != 1]
        found[2] = make.reduce("sum", grad, dims, (grad.shape[1],), dtype)
    return found


def _windows(
    make: Builder, x: View, kernel: Shape, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    groups: int, positions: Shape,
) -> tuple[Shape, Shape, View]:  # fmt: skip
    """Look at the padded input as [B, G, C / G, O.., K..]; returns the strides of (B, G, C), of (O.., K..) and the view."""
    pad = [0, 0, *padding]
    x = _padded(make, x, pad, pad)
    channels = x.shape[1] // groups
    steps = tuple(s * t for s, t in zip(x.strides[2:], stride, strict=True))
    taps = tuple(s * t for s, t in zip(x.strides[2:], dilation, strict=True))
    return (x.strides[0], x.strides[1] * channels, x.strides[1]), (*steps, *taps), x


def _correlate(
    make: Builder, x: View, weight: View, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    groups: int, positions: Shape, dtype: torch.dtype,
) -> View:  # fmt: skip
    """y[b, c, o] = sum over k and input channels of w[c, ., k] x[b, ., stride o + dilation k - padding]."""
    kernel, rank = weight.shape[2:], len(positions)
    (sb, sg, sc), inner, x = _windows(make, x, kernel, stride, padding, dilation, groups, positions)
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    shape = (x.shape[0], groups, outs, *positions, ins, *kernel)
    left = View(x.node, shape, (sb, sg, 0, *inner[:rank], sc, *inner[rank:]), x.offset)
    w = weight.strides
    right = View(weight.node, shape, (0, w[0] * outs, w[0], *[0] * rank, w[1], *w[2:]), weight.offset)
    return _summed(
        make, left, right, shape, range(3 + rank, len(shape)), (x.shape[0], groups * outs, *positions), dtype
    )


def _spread_out(
    make: Builder, grad: View, weight: View, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
    groups: int, spatial: Shape, dtype: torch.dtype,
) -> View:  # fmt: skip
    """Gradient of `_correlate` with respect to its input: the kernel, turned round, over the spread-out gradient."""
    kernel, rank = weight.shape[2:], len(spatial)
    reach = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if any(p > r for p, r in zip(padding, reach, strict=True)):
        raise UnsupportedOperatorError("aten.convolution_backward with more padding than the kernel reaches")
    full = (*grad.shape[:2], *(n + r for n, r in zip(spatial, reach, strict=True)))
    own = dense_strides(full)
    offset = sum((r - p) * s for r, p, s in zip(reach, padding, own[2:], strict=True))
    steps = tuple(s * t for s, t in zip(own[2:], stride, strict=True))
    wide = make.place(make.full(0.0, full, dtype), [(grad, (*own[:2], *steps), offset)], full, dtype)
    outs, ins = weight.shape[0] // groups, weight.shape[1]
    shape = (grad.shape[0], groups, ins, *spatial, outs, *kernel)
    g, taps = wide.strides, tuple(s * t for s, t in zip(wide.strides[2:], dilation, strict=True))
    left = View(wide.node, shape, (g[0], g[1] * outs, 0, *g[2:], g[1], *taps), wide.offset)
    w = weight.strides
    end = weight.offset + sum((k - 1) * s for k, s in zip(kernel, w[2:], strict=True))
    right = View(weight.node, shape, (0, w[0] * outs, w[1], *[0] * rank, w[0], *(-s for s in w[2:])), end)
    return _summed(
        make, left, right, shape, range(3 + rank, len(shape)), (grad.shape[0], groups * ins, *spatial), dtype
    )


def _kernel_gradient(
    make: Builder, x: View, grad: View, weight: Shape, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], groups: int, dtype: torch.dtype,
) -> View:  # fmt: skip
    kernel, positions = weight[2:], grad.shape[2:]
    rank = len(kernel)
    (sb, sg, sc), inner, x = _windows(make, x, kernel, stride, padding, dilation, groups, positions)
    outs, ins = weight[0] // groups, weight[1]
    shape = (groups, outs, ins, *kernel, x.shape[0], *positions)
    left = View(x.node, shape, (sg, 0, sc, *inner[rank:], sb, *inner[:rank]), x.offset)
    g = grad.strides
    right = View(grad.node, shape, (g[1] * outs, g[1], 0, *[0] * rank, g[0], *g[2:]), grad.offset)
    return _summed(make, left, right, shape, range(3 + rank, len(shape)), weight, dtype)


def _summed(make: Builder, left: View, right: View, shape: Shape, dims: range, out: Shape, dtype: torch.dtype) -> View:
    product = make.point("mul", [left, right], shape, dtype)
    total = make.reduce("sum", product, dims, shape[: dims.start], dtype)
    return View(total.node, out, dense_strides(out), total.offset) if total.whole else make.dense(total)


LOWERINGS: dict[str, Lowering] = {
    "cat": _cat, "stack": _stack, "constant_pad_nd": _pad, "slice_scatter": _slice_scatter,
    "select_scatter": _select_scatter, "flip": _flip, "repeat": _repeat, "arange": _arange, "gather": _gather, "index": _index,
    "index_select": _index_select, "embedding": _embedding, "embedding_dense_backward": _embedding_backward,
    "scatter": _scatter, "scatter_add": _scatter_add, "index_put": _index_put, "_unsafe_index": _index,
    "argmax": _argmax, "argmin": _argmin, "max": _max, "min": _min,
    "mm": lambda make, out, a, _: make.matmul(a[0], a[1], out.dtype),
    "bmm": lambda make, out, a, _: make.matmul(a[0], a[1], out.dtype),
    "convolution": _convolution, "convolution_backward": _convolution_backward,
}  # fmt: skip
