"""From loops to C.

The state is one struct and the scratch memory another, with an array for each leaf and each stored node. So the compiler
knows that nothing overlaps, and that everything is aligned, without a check at run time; and loops need no arguments. The
loops of an operation are cut into functions of a few each: in one long function gcc takes ten times as long.

NaN, infinities and comparisons are as in torch, and no result depends on how a list of operations is cut. The last bits are
not torch's: sums are in another order where they say so (`omp simd reduction`, and the kernels for products), a product and
the sum that it goes into may be rounded once (`build.FLAGS`), subnormal numbers count as 0 (`program.LOOP`), and `builder` has
rewritten some products before. Scratch memory comes from the caller, so that two threads never meet.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from streamnn.native import expressions
from streamnn.native.expressions import Frame, at, store
from streamnn.native.groups import Group, reads, space
from streamnn.native.nodes import Node, Shape, View, contiguous
from streamnn.native.operators import C_TYPES, HELD_TYPES, REDUCE, literal
from streamnn.native.products import Sums, matmul, rowwise
from streamnn.native.schedule import Schedule
from streamnn.native.trace import Lowered
from streamnn.native.usual import usual

PART = 12  # loop nests in one C function
ROWS = 4  # of a matrix, that a product and the loop over them take at a time
CHOICES, LONG = 3, 16  # a loop of so many elements that makes so many choices is written for the usual ones too
ALIGN = "__attribute__((aligned(64)))"  # a cache line and the widest vector

_ROWS = re.compile(r"\b[xo]\d+\b")


@dataclass(frozen=True, slots=True)
class Emitted:
    """C of one operation.

    Attributes:
        scratch: members of the scratch struct.
        constants: definitions of arrays known when tracing.
        functions: the loops.
        calls: of the functions, where s, t, x0.., o0.. are declared.
    """

    scratch: list[str]
    constants: list[str]
    functions: list[str]
    calls: list[str]


def emit(lowered: Lowered, plan: Schedule, states: int, name: str, slots: Sequence[int]) -> Emitted:
    """Write one operation.

    Args:
        lowered: its nodes.
        plan: its loops.
        states: how many leaves the state has.
        name: distinguishes its names from those of other operations.
        slots: where each of its outputs goes: o{slot}.
    """
    outputs = lowered.outputs[states:]
    _name(lowered, plan, states, name, slots)
    swept = [g.then for g in plan.groups if g.then]
    loops = [_sweep(g, g.then) if g.then else _group(g) for g in plan.groups if g not in swept]
    for slot, v in zip(slots, outputs, strict=True):
        if v.node.name != f"o{slot}":
            loops.append(_copy(f"o{slot}", v))
    loops += [_copy(f"s->s{i}", lowered.outputs[i]) for i in plan.copied]
    kinds = {f"x{i - states}": HELD_TYPES[n.dtype] for i, n in enumerate(lowered.inputs) if i >= states}
    kinds |= {f"o{slot}": C_TYPES[v.node.dtype] for slot, v in zip(slots, outputs, strict=True)}
    functions, calls = [], []
    for first in range(0, len(loops), PART):
        body = "".join(loops[first : first + PART])
        used = sorted(set(_ROWS.findall(body)) & kinds.keys())
        head = ["struct state *restrict s", "struct scratch *restrict t"]
        head += [f"{'const ' if u[0] == 'x' else ''}{kinds[u]} *restrict {u}" for u in used]
        functions.append(f"static __attribute__((noinline)) void {name}_{first}({', '.join(head)}) {{\n{body}}}\n")
        calls.append(f"{name}_{first}({', '.join(['s', 't', *used])});\n")
    memory = [n for n in plan.order if n.stored and n.name.startswith("t->")]
    scratch = [f"{HELD_TYPES[n.dtype]} {n.name[3:]}[{n.size}] {ALIGN};\n" for n in memory]
    return Emitted(scratch, [_data(n) for n in plan.order if n.kind == "data"], functions, calls)


def _name(lowered: Lowered, plan: Schedule, states: int, name: str, slots: Sequence[int]) -> None:
    for i, node in enumerate(lowered.inputs):
        node.name = f"s->s{i}" if i < states else f"x{i - states}"
    for i, node in enumerate(plan.order):
        kind = "c" if node.kind == "data" else "t->"
        node.name = f"s->s{plan.over[node]}" if node in plan.over else f"{kind}{name}n{i}"
    for slot, v in zip(slots, lowered.outputs[states:], strict=True):
        if v.whole and v.node.stored and v.node.name.startswith("t->"):
            v.node.name = f"o{slot}"


def _group(group: Group) -> str:
    if group.kind == "loop":
        return _loop(group, group.nodes[0].group)
    (node,) = group.nodes
    if group.kind == "matmul":
        return matmul(node) or _reduce(node)
    if group.kind == "reduce":
        return _argmax(node) if node.op == "argmax" else _reduce(node)
    return _place(node) if group.kind == "place" else _scatter(node)


def _sweep(product: Group, loop: Group) -> str:
    """Write a product and the loop over its matrix, some rows of both at a time."""
    (old,) = {v.node for v in product.nodes[0].views[0].node.views if v.node.shape == loop.shape}
    rows, number = rowwise(product.nodes[0], old), loop.nodes[0].group
    assert rows is not None, "checked when they were joined"
    if isinstance(rows, Sums):
        return _summed(rows, "".join(_inside(loop, number, cut=True).body))
    text = ""
    whole = f"for (int64_t r = 0; r + {rows.block} <= {rows.rows}; r += {rows.block}) {{\n"
    rest = f"if ({rows.rows} % {rows.block}) {{\nconst int64_t r = {rows.rows} - {rows.rows} % {rows.block};\n"
    for head, many in ((whole, rows.block), (rest, f"{rows.rows} % {rows.block}")):
        text += head + rows.call.format(first="r", rows=many) + _loop(loop, number, ("r", f"r + {many}")) + "}\n"
    return text


def _summed(rows: Sums, body: str) -> str:
    """Write a product to which each row of a matrix adds, and what then happens to each element of these rows.

    Args:
        rows: the product.
        body: the computation of the matrix's new element at [i0, i1].
    """
    element = rows.element.format(column="i1")
    text = f"for (int64_t i1 = 0; i1 < {rows.columns}; i1++) {element} = 0;\n"
    whole, rest = rows.rows - rows.rows % ROWS, rows.rows % ROWS
    for first, many in [(0, ROWS), (whole, rest)] if rest else [(0, ROWS)]:
        each = [f"r + {p}" for p in range(many)]
        terms = " + ".join([element, *(rows.term.format(row=row, column="i1") for row in each)])
        bodies = "".join(f"{{\nconst int64_t i0 = {row};\n{body}}}\n" for row in each)
        text += f"for (int64_t r = {first}; r + {many} <= {rows.rows}; r += {many}) {{\n"
        text += f"for (int64_t i1 = 0; i1 < {rows.columns}; i1++) {{\n{element} = {terms};\n{bodies}}}\n}}\n"
    return "{\n" + text + "}\n"


@dataclass(frozen=True, slots=True)
class _Inside:
    """What stands in a loop nest: its loops, the innermost body, what comes before and after a loop, by depth; choices as in `Frame`."""

    runs: list[Shape]
    body: list[str]
    opening: dict[int, str]
    closing: dict[int, str]
    sums: list[Node]
    choices: list[tuple[str, Node]]


def _loop(group: Group, number: int, part: tuple[str, str] | None = None) -> str:
    """Write a loop nest, or that part of it where the outermost index lies between two."""
    inside = _inside(group, number, cut=part is not None)
    text = _written(group, inside, part)
    guesses = {name: usual(node) for name, node in inside.choices}
    known = {name: guess for name, guess in guesses.items() if guess is not None}
    if sum(name in known for name, _ in inside.choices) < CHOICES or math.prod(group.shape) < LONG:
        return text
    asked = " && ".join(name if guess else f"!{name}" for name, guess in known.items())
    return f"if ({asked}) {_written(group, _inside(group, number, cut=part is not None, known=known), part)}else {text}"


def _written(group: Group, inside: _Inside, part: tuple[str, str] | None) -> str:
    pragma = _pragma(inside.sums)
    return _nest(inside.runs, group.shape, inside.opening, inside.body, inside.closing, pragma, part)


def _inside(group: Group, number: int, *, cut: bool, known: Mapping[str, bool] | None = None) -> _Inside:
    """Write what stands in a loop nest; with `cut` its outermost loop is one of its own."""
    shape = group.shape
    sums = [n for n in group.nodes if n.kind == "reduce"]
    used = [v.expand(shape) for n in group.nodes for v in reads(n)]
    used += [View.of(n) for n in group.nodes if n.kind == "point" and n.stored]
    runs = _runs(shape, used, {len(shape) - len(n.dims) for n in sums} | ({1} if cut else set()))
    frame = Frame(shape, runs, number, known)
    body: list[str] = []
    stores: list[str] = []
    opening: dict[int, str] = {}
    closing: dict[int, str] = {}
    for n in group.nodes:
        if n.kind == "point":
            frame.compute(n, body)
            if n.stored:  # at the end: until then, old state may be read where the new one goes
                stores.append(f"{at(View.of(n), frame)} = {frame.operand(View.of(n), body)};\n")
            continue
        acc, rank = f"a{sums.index(n)}", len(n.shape)
        depth = sum(run[0] < rank for run in runs)
        start, update, _ = REDUCE[n.op]
        kept = Frame(n.shape, runs[:depth], number)
        opening[depth] = opening.get(depth, "") + f"{C_TYPES[n.dtype]} {acc} = {_start(start, n)};\n"
        term = frame.typed(n.views[0], None if n.op in ("any", "all") else n.dtype, body)
        body.append(update.format(acc, term) + ";\n")
        closing[depth] = closing.get(depth, "") + f"{at(View.of(n), kept)} = {acc}{_scale(n)};\n"
    return _Inside(runs, body + stores, opening, closing, sums, frame.choices)


def _nest(
    runs: Sequence[Shape], shape: Shape, opening: dict[int, str], body: Sequence[str], closing: dict[int, str], pragma: str,
    part: tuple[str, str] | None = None,
) -> str:  # fmt: skip
    empty = 0 in shape
    lines = ["{\n", opening.get(0, "")]
    for i, run in enumerate(runs):
        if i == len(runs) - 1:
            lines.append(pragma)
        size = str(math.prod(shape[d] for d in run))
        first, last = part if part and i == 0 else ("0", size)
        lines.append(f"for (int64_t i{run[-1]} = {first}; i{run[-1]} < {last}; i{run[-1]}++) {{\n")
        lines.append(opening.get(i + 1, ""))
    lines += body
    for i in reversed(range(len(runs))):
        lines += [closing.get(i + 1, ""), "}\n"]
    lines += [closing.get(0, ""), "}\n"]
    if empty:
        return "{\n" + opening.get(0, "") + closing.get(0, "") + "}\n" if opening.get(0) else ""
    return "".join(lines)


def _pragma(sums: Sequence[Node]) -> str:
    """Allow the innermost loop's sums to be reassociated, if all of them may be."""
    names: dict[str, list[str]] = {}
    for i, n in enumerate(sums):
        names.setdefault(REDUCE[n.op][2], []).append(f"a{i}")
    if not names or "" in names:
        return ""
    clauses = " ".join(f"reduction({op}:{','.join(listed)})" for op, listed in names.items())
    return f"#pragma omp simd {clauses}\n"


def _runs(shape: Shape, views: Sequence[View], cuts: set[int]) -> list[Shape]:
    """Join dimensions that every array walks through in even steps: [(dimensions of one loop), ...]."""
    runs: list[Shape] = []
    for d in range(len(shape)):
        if runs and d not in cuts and all(v.strides[d - 1] == v.strides[d] * shape[d] for v in views):
            runs[-1] = (*runs[-1], d)
        else:
            runs.append((d,))
    return runs


def _start(start: str, n: Node) -> str:
    if n.dtype.is_floating_point:
        return start
    return start.replace("-INFINITY", "INT64_MIN").replace("INFINITY", "INT64_MAX")


def _scale(n: Node) -> str:
    return f" / {math.prod(space(n)[d] for d in n.dims)}" if n.op == "mean" else ""


def _reduce(n: Node) -> str:
    """Write a sum over other than the last dimensions: whole rows are accumulated, or each element on its own."""
    source = n.views[0]
    shape = source.shape
    kept = [d for d in range(len(shape)) if d not in n.dims]
    frame = Frame(shape, [(d,) for d in range(len(shape))], -2)
    own = contiguous(n.shape)
    target = f"{n.name}[{'+'.join([f'i{d}*{own[k]}' for k, d in enumerate(kept)] or ['0'])}]"
    start, update, openmp = REDUCE[n.op]
    body: list[str] = []
    term = frame.typed(source, None if n.op in ("any", "all") else n.dtype, body)
    if kept and kept[-1] == len(shape) - 1:
        clear = _for(shape, kept, f"{target} = {_start(start, n)};\n")
        add = _for(shape, [*kept[:-1], *n.dims, kept[-1]], "".join(body) + update.format(target, term) + ";\n")
        return clear + add + (_for(shape, kept, f"{target} = {target}{_scale(n)};\n") if _scale(n) else "")
    pragma = f"#pragma omp simd reduction({openmp}:acc)\n" if openmp else ""
    fold = _for(shape, n.dims, "".join(body) + update.format("acc", term) + ";\n", pragma)
    return _for(shape, kept, f"{C_TYPES[n.dtype]} acc = {_start(start, n)};\n{fold}{target} = acc{_scale(n)};\n")


def _argmax(n: Node) -> str:
    """Write the search for the first largest element; the first NaN counts as the largest."""
    source = n.views[0]
    shape, own = source.shape, contiguous(n.shape)
    kept = [d for d in range(len(shape)) if d not in n.dims]
    frame = Frame(shape, [(d,) for d in range(len(shape))], -2)
    body: list[str] = []
    term = frame.typed(source, None, body)
    kind = C_TYPES[source.node.dtype]
    body.append(f"{kind} v = {term};\n")
    steps = contiguous([shape[d] for d in n.dims])
    place = "+".join(f"i{d}*{s}" for d, s in zip(n.dims, steps, strict=True))
    body.append(f"if (at < 0 || ((v > best || v != v) && best == best)) {{ best = v; at = {place}; }}\n")
    target = f"{n.name}[{'+'.join([f'i{d}*{own[k]}' for k, d in enumerate(kept)] or ['0'])}]"
    inner = _for(shape, n.dims, "".join(body))
    return _for(shape, kept, f"{kind} best = 0;\nint64_t at = -1;\n{inner}{target} = at;\n")


def _place(n: Node) -> str:
    base, pieces = n.args[0], n.args[1:]
    text = ""
    if isinstance(base, View) and base.node.name != n.name:
        text = _copy(n.name, base)
    for piece, (strides, offset) in zip(pieces, n.places, strict=True):
        assert isinstance(piece, View)
        text += store(View(n, piece.shape, strides, offset), piece, _for)
    return text


def _scatter(n: Node) -> str:
    base, value, *indexes = n.views
    text = "" if base.node.name == n.name else _copy(n.name, base)
    (strides, offset) = n.places[0]
    frame = Frame(value.shape, [(d,) for d in range(len(value.shape))], -2)
    body: list[str] = []
    where, inside = frame.picked(indexes, n.picks, body)
    target = View(n, value.shape, strides, offset)
    sign = "=" if n.op == "set" else "+="
    body.append(
        f"if ({inside}) {n.name}[{expressions.index(target, frame)}+{where}] {sign} {frame.typed(value, n.dtype, body)};\n"
    )
    return text + _for(value.shape, range(len(value.shape)), "".join(body))


def _copy(name: str, v: View) -> str:
    bare = v.squeeze()
    dense = contiguous(bare.shape)
    runs = _runs(bare.shape, [bare, View(bare.node, bare.shape, dense)], set())
    frame = Frame(bare.shape, runs, -2)
    body: list[str] = []
    text = frame.typed(bare, None, body)
    target = "+".join([f"i{run[-1]}*{dense[run[-1]]}" for run in runs] or ["0"])
    return _nest(runs, bare.shape, {}, [*body, f"{name}[{target}] = {text};\n"], {}, "")


def _data(n: Node) -> str:
    numbers = ", ".join(literal(v, n.dtype) for v in n.values)
    return f"static const {C_TYPES[n.dtype]} {n.name}[{n.size}] {ALIGN} = {{{numbers}}};\n"


def _for(shape: Shape, dims: "range | Sequence[int]", body: str, pragma: str = "") -> str:
    if any(shape[d] == 0 for d in dims):
        return ""
    heads = [f"for (int64_t i{d} = 0; i{d} < {shape[d]}; i{d}++) {{\n" for d in dims]
    if pragma and heads:
        heads[-1] = pragma + heads[-1]
    return "{\n" + "".join(heads) + body + "}\n" * len(heads) + "}\n"
