"""From loops to C. Each loop nest is a function of its own with `restrict` parameters; equal ones are shared.

One long function would take gcc ten times as long to compile and run up to three times slower, because only `restrict`
parameters let it vectorise. Floating point is strict, except for sums, which say so (`omp simd reduction`).
Scratch memory comes from the caller, so that two threads never meet.
"""

import math
import re
from dataclasses import dataclass

import torch

from streamnn.native.lower import Lowered
from streamnn.native.nodes import Node, Operand, Shape, View, contiguous
from streamnn.native.operators import C_TYPES, POINTWISE, PROMOTE, REDUCE, literal
from streamnn.native.schedule import Group, Schedule

ALIGN = 64  # bytes; a cache line and the widest vector

_NAMES = re.compile(r"\b[sxot]\d+\b")
_REGISTERS = re.compile(r"\b[st]\d+r\b")


@dataclass(frozen=True, slots=True)
class Emitted:
    """C of one operation.

    Attributes:
        functions: definitions, by body.
        body: the calls, to stand where s0.., x0.., o0.. and `scratch` are declared.
        scratch_bytes: how much scratch memory the operation needs.
    """

    functions: dict[str, str]
    body: list[str]
    scratch_bytes: int


def emit(lowered: Lowered, plan: Schedule, states: int, functions: dict[str, str]) -> Emitted:
    """Write one operation. `functions` collects definitions shared between operations: body -> name."""
    for i, node in enumerate(lowered.inputs):
        node.name = f"s{i}" if i < states else f"x{i - states}"
    for i, node in enumerate(plan.order):
        node.name = f"s{plan.over[node]}" if node in plan.over else f"t{i}"
    types = {n.name: C_TYPES[n.dtype] for n in [*lowered.inputs, *plan.order]}
    types |= {f"o{j}": C_TYPES[v.node.dtype] for j, v in enumerate(lowered.outputs[states:])}
    declared, offset = [], 0
    for node in plan.order:
        if node.stored and node not in plan.over:
            declared.append(f"{types[node.name]} *{node.name} = ({types[node.name]} *)(scratch + {offset});")
            offset += -(-node.size * node.dtype.itemsize // ALIGN) * ALIGN
    loops = [_group(i, g) for i, g in enumerate(plan.groups)]
    loops += [_store(f"o{j}", v) for j, v in enumerate(lowered.outputs[states:])]
    loops += [_store(f"s{i}", lowered.outputs[i]) for i in plan.copied]
    calls = [_call(text, types, functions) for text in loops]
    return Emitted(functions, declared + calls, offset)


def _call(text: str, types: dict[str, str], functions: dict[str, str]) -> str:
    """Make a loop nest a function, or find the equal one, and return the call."""
    names = sorted(set(_NAMES.findall(text)) & types.keys())
    parameter = {name: f"p{i}" for i, name in enumerate(names)}
    register: dict[str, str] = {}
    text = _NAMES.sub(lambda m: parameter.get(m[0], m[0]), text)
    text = _REGISTERS.sub(lambda m: register.setdefault(m[0], f"r{len(register)}"), text)
    head = ", ".join(f"{types[name]} *restrict {parameter[name]}" for name in names)
    function = functions.setdefault(f"({head}) {{\n{text}\n}}", f"f{len(functions)}")
    return f"{function}({', '.join(names)});"


def _group(number: int, group: Group) -> str:
    if group.kind == "point":
        i = _indices(group.shape)
        body = "".join(f"{C_TYPES[n.dtype]} {n.name}r = {_expression(n, i, number)};\n" for n in group.nodes)
        body += "".join(f"{_at(View.of(n), i)} = {n.name}r;\n" for n in group.nodes if n.stored)
        return _loops(group.shape, range(len(group.shape)), body)
    (node,) = group.nodes
    if group.kind == "reduce":
        return _reduce(node)
    if group.kind == "cat":
        return _cat(node)
    return _gather(node) if group.kind == "gather" else _scatter(node)


def _reduce(n: Node) -> str:
    source = n.args[0]
    assert isinstance(source, View)
    i, kept = _indices(source.shape), [d for d in range(len(source.shape)) if d not in n.dims]
    place = ["0" if d in n.dims else i[d] for d in range(len(i))] if n.keep else [i[d] for d in kept]
    target, kind = _at(View.of(n), place), C_TYPES[n.dtype]
    start, update, openmp = REDUCE[n.op]
    start = start.replace("INFINITY", "INT64_MAX") if not n.dtype.is_floating_point else start
    term = _typed(source, i, -2, None if n.op in ("any", "all") else n.dtype)
    scale = f" / {math.prod(source.shape[d] for d in n.dims)}" if n.op == "mean" else ""
    if kept and kept[-1] == len(i) - 1 and source.shape[-1] > 1 and n.dims:
        # the innermost dimension stays: whole rows are accumulated
        clear = _loops(source.shape, kept, f"{target} = {start};\n")
        add = _loops(source.shape, [*kept[:-1], *n.dims, kept[-1]], update.format(target, term) + ";\n")
        return clear + add + (_loops(source.shape, kept, f"{target} = {target}{scale};\n") if scale else "")
    fold = _loops(source.shape, n.dims, update.format("acc", term) + ";\n", openmp)
    return _loops(source.shape, kept, f"{kind} acc = {start};\n{fold}{target} = acc{scale};\n")


def _cat(n: Node) -> str:
    text, first, strides = "", 0, contiguous(n.shape)
    for v in n.args:
        assert isinstance(v, View)
        i = _indices(v.shape)
        index = "+".join([*(f"{a}*{s}" for a, s in zip(i, strides, strict=True)), str(first * strides[n.dim])])
        if math.prod(v.shape):
            text += _loops(v.shape, range(len(i)), f"{n.name}[{index}] = {_typed(v, i, -2, n.dtype)};\n")
        first += v.shape[n.dim]
    return text


def _gather(n: Node) -> str:
    source, index = n.args
    assert isinstance(source, View)
    assert isinstance(index, View)
    i = _indices(n.shape)
    picked = [f"({_at(index, i)})*{s}" if d == n.dim else f"{i[d]}*{s}" for d, s in enumerate(source.strides)]
    text = f"{_at(View.of(n), i)} = {source.node.name}[{'+'.join([str(source.offset), *picked])}];\n"
    return _loops(n.shape, range(len(i)), text)


def _scatter(n: Node) -> str:
    source, index, value = n.args
    assert isinstance(index, View)
    i = _indices(n.shape)
    text = _loops(n.shape, range(len(i)), f"{_at(View.of(n), i)} = {_typed(source, i, -2, n.dtype)};\n")
    j = _indices(index.shape)
    strides = contiguous(n.shape)
    put = "+".join(f"({_at(index, j)})*{s}" if d == n.dim else f"{j[d]}*{s}" for d, s in enumerate(strides))
    return text + _loops(index.shape, range(len(j)), f"{n.name}[{put}] = {_typed(value, j, -2, n.dtype)};\n")


def _store(name: str, v: View) -> str:
    i = _indices(v.shape)
    index = "+".join([f"{a}*{s}" for a, s in zip(i, contiguous(v.shape), strict=True)] or ["0"])
    return _loops(v.shape, range(len(i)), f"{name}[{index}] = {_operand(v, i, -2)};\n")


def _loops(shape: Shape, dims: "range | list[int] | Shape", body: str, reduction: str = "") -> str:
    many = [d for d in dims if shape[d] > 1]
    heads = [f"for (int64_t i{d} = 0; i{d} < {shape[d]}; i{d}++) {{\n" for d in many]
    if reduction and heads:
        heads[-1] = f"#pragma omp simd reduction({reduction}:acc)\n" + heads[-1]
    if any(shape[d] == 0 for d in dims):
        return ""
    return "{\n" + "".join(heads) + body + "}\n" * len(many) + "}\n"


def _indices(shape: Shape) -> list[str]:
    return [f"i{d}" if n > 1 else "0" for d, n in enumerate(shape)]


def _at(view: View, index: list[str]) -> str:
    terms = [f"{i}*{s}" for i, s, n in zip(index, view.strides, view.shape, strict=True) if s and n > 1]
    return f"{view.node.name}[{'+'.join([*terms, str(view.offset)])}]"


def _operand(a: Operand, index: list[str], group: int) -> str:
    """Write an operand in its own type."""
    if not isinstance(a, View):
        assert a is not None
        return literal(a, torch.float64 if isinstance(a, float) else torch.int64)
    n = a.node
    if n.kind == "const":
        return literal(n.fill, n.dtype)
    if n.inline:
        return _expression(n, index, group)
    if n.kind == "point" and n.group == group:
        return f"{n.name}r"
    return _at(a, index)


def _typed(a: Operand, index: list[str], group: int, dtype: torch.dtype | None) -> str:
    """Write an operand converted to a type, as torch converts before it computes."""
    if not isinstance(a, View):
        assert a is not None
        if dtype is None:
            return _operand(a, index, group)
        return literal(a, dtype)
    if dtype is not None and a.node.kind == "const":
        return literal(a.node.fill, dtype)
    text = _operand(a, index, group)
    if dtype is None or a.node.dtype == dtype:
        return text
    return f"({text} != 0)" if dtype == torch.bool else f"(({C_TYPES[dtype]})({text}))"


def _common(args: list[Operand]) -> torch.dtype:
    """Return the type in which operands are compared: torch's promotion, where plain numbers give way to tensors."""
    views = [a for a in args if isinstance(a, View)]
    dtype = views[0].node.dtype
    for v in views[1:]:
        dtype = torch.promote_types(dtype, v.node.dtype)
    if not dtype.is_floating_point and any(isinstance(a, float) for a in args):
        return torch.float32
    if dtype == torch.bool and any(isinstance(a, int) and not isinstance(a, bool) for a in args):
        return torch.int64
    return dtype


def _expression(n: Node, index: list[str], group: int) -> str:
    args: list[Operand] = [x.expand(n.shape) if isinstance(x, View) else x for x in n.args]
    if n.op == "where":
        texts = [_typed(args[0], index, group, None), *(_typed(a, index, group, n.dtype) for a in args[1:])]
        kind = n.dtype
    else:
        kind = _common(args) if n.op in PROMOTE else n.dtype
        source = None if n.op == "_to_copy" else kind
        texts = [_typed(a, index, group, source) for a in args if a is not None]
    suffix = "f" if kind == torch.float32 else ""
    if n.op == "_to_copy":
        return _typed(args[0], index, group, n.dtype)
    if n.op == "pow":
        form = _power(args[1], suffix)
    elif n.op == "clamp":
        low, high = [*args[1:], None, None][:2]
        limits = iter(texts[1:])
        form = "{0}"
        if low is not None:
            form = f"(({{0}})<({(bound := next(limits))})?({bound}):({{0}}))"
        if high is not None:
            form = f"({form}>({(bound := next(limits))})?({bound}):{form})"
        texts = texts[:1]
    else:
        form = POINTWISE[n.op]
    table = {
        "f": suffix,
        "abs": f"fabs{suffix}" if kind.is_floating_point else "llabs",
        "not": "!" if kind == torch.bool else "~",
    }
    for key, text in table.items():
        form = form.replace(f"{{{key}}}", text)
    for i, text in enumerate(texts):
        form = form.replace(f"{{{i}}}", text if text.isidentifier() else f"({text})")
    return f"(({C_TYPES[n.dtype]})({form}))"


def _power(exponent: Operand, suffix: str) -> str:
    known: dict[float, str] = {
        2.0: "({0}*{0})", 3.0: "({0}*{0}*{0})", 1.0: "({0})", 0.5: f"sqrt{suffix}({{0}})",
        -0.5: f"(1/sqrt{suffix}({{0}}))", -1.0: "(1/{0})",
    }  # fmt: skip
    if isinstance(exponent, (int, float)) and float(exponent) in known:
        return known[float(exponent)]
    return f"pow{suffix}({{0}},{{1}})"
