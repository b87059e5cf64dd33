"""What stands inside a loop: the C expression of each element, its operands, and where it lies in memory."""

from collections.abc import Callable, Mapping, Sequence

import torch

from streamnn.native.masks import LOGIC, mask_type, number, widest
from streamnn.native.nodes import Node, Operand, Shape, View
from streamnn.native.operators import C_TYPES, KEEP_TYPE, POINTWISE, literal

Loops = Callable[[Shape, range, str], str]


class Frame:
    """The inside of one loop nest over a shape.

    Args:
        shape: what the loops run over.
        runs: the loops; each joins some neighbouring dimensions and has the index i{last of them}.
        group: number of the loop nest; its pointwise nodes are at hand as registers.
        known: truth values that are the same in all of the loops, as C, and what they are.

    Attributes:
        choices: the truth values that masks are made of and that are the same in all of the loops, as C, once for each mask.
    """

    def __init__(
        self, shape: Shape, runs: Sequence[Shape], group: int, known: Mapping[str, bool] | None = None
    ) -> None:
        self.shape, self.runs, self.group, self.known = shape, runs, group, known or {}
        self.choices: list[tuple[str, Node]] = []
        self.masked = bool(shape)  # truth values are masks: see `streamnn.native.masks`
        self._registers: dict[int, str] = {}
        self._masks: dict[int, str] = {}  # the type of those registers that hold masks

    def compute(self, node: Node, body: list[str]) -> str:
        """Append the computation of a pointwise node to the body; returns its register."""
        if id(node) not in self._registers:
            kind = C_TYPES[node.dtype]
            if self.masked and node.dtype == torch.bool:
                text, kind = self._truth(node, body)
                self._masks[id(node)] = kind
            else:
                text = self._expression(node, body)
            register = f"r{len(self._registers)}"
            body.append(f"{kind} {register} = {text};\n")
            self._registers[id(node)] = register
        return self._registers[id(node)]

    def operand(self, a: Operand, body: list[str]) -> str:
        """Write an operand in its own type; a truth value as 0 or 1."""
        if not isinstance(a, View):
            assert a is not None
            return literal(a, torch.float64 if isinstance(a, float) else torch.int64)
        n = a.node
        if n.kind == "const":
            return literal(n.fill, n.dtype)
        if self._at_hand(a):
            register = self.compute(n, body)
            return number(register, torch.bool) if id(n) in self._masks else register
        return at(a.expand(self.shape), self)

    def typed(self, a: Operand, dtype: torch.dtype | None, body: list[str]) -> str:
        """Write an operand converted to a type, as torch converts before it computes."""
        if not isinstance(a, View):
            assert a is not None
            return self.operand(a, body) if dtype is None else literal(a, dtype)
        if dtype is not None and a.node.kind == "const":
            return literal(a.node.fill, dtype)
        if self.masked and a.node.dtype == torch.bool and dtype not in (None, torch.bool):
            return number(self.mask(a, mask_type(dtype), body), dtype)
        text = self.operand(a, body)
        if dtype is None or a.node.dtype == dtype:
            return text
        if (a.node.dtype, dtype) == (torch.int64, torch.float64):
            return f"double_int64_t({text})"
        return f"({text} != 0)" if dtype == torch.bool else f"(({C_TYPES[dtype]})({text}))"

    def mask(self, a: Operand, kind: str, body: list[str]) -> str:
        """Write an operand as a mask of the given type."""
        if not isinstance(a, View) or a.node.kind == "const":
            return f"(({kind})-{int(bool(a.node.fill if isinstance(a, View) else a))})"
        if a.node.dtype == torch.bool and self._at_hand(a):
            register = self.compute(a.node, body)
            return register if self._masks[id(a.node)] == kind else f"(({kind}){register})"
        text = self.operand(a, body)
        if text in self.known:
            return f"(({kind})-{int(self.known[text])})"
        if a.node.dtype == torch.bool and not any(a.expand(self.shape).strides):
            self.choices.append((text, a.node))
        return f"(-({kind})({text}))" if a.node.dtype == torch.bool else f"(-({kind})({text} != 0))"

    def _at_hand(self, a: View) -> bool:
        """Tell whether a view is a register, or computed where it is read."""
        kept = a.node.kind == "point" and a.node.group == self.group and id(a.node) in self._registers
        return a.node.inline or (kept and a.expand(self.shape).whole)

    def picked(self, indexes: Sequence[View], picks: Sequence[tuple[int, int]], body: list[str]) -> tuple[str, str]:
        """Write where indexes point: the sum to add to a place, and whether all are inside. Negative ones count from the end."""
        terms, inside = [], []
        for view, (stride, size) in zip(indexes, picks, strict=True):
            name = f"k{len(body)}"
            text = self.typed(view, torch.int64, body)
            body.append(f"int64_t {name} = {text};\n{name} += {name} < 0 ? {size} : 0;\n")
            terms.append(f"{name}*{stride}")
            inside.append(f"(uint64_t){name} < {size}u")
        return "+".join(terms), " && ".join(inside)

    def _truth(self, n: Node, body: list[str]) -> tuple[str, str]:
        """Write a truth value as a mask; returns its type as well."""
        of_numbers = n.op in KEEP_TYPE and any(v.node.dtype != torch.bool for v in n.views)
        if n.op in LOGIC and not (of_numbers and not n.op.startswith("logical")):
            kind = widest([self._mask_type(v, body) for v in n.views])
            form = LOGIC[n.op]
            for i, a in enumerate(n.args):
                form = form.replace(f"{{{i}}}", self.mask(a, kind, body))
            return form, kind
        kind = mask_type(n.views[0].node.dtype) if of_numbers else "int32_t"
        return f"(-({kind})({self._bare(n, body)}))", kind

    def _mask_type(self, a: View, body: list[str]) -> str:
        """Return the type of mask that an operand is, or fits it best."""
        if a.node.dtype != torch.bool:
            return mask_type(a.node.dtype)
        if not self._at_hand(a):
            return "int32_t"
        self.compute(a.node, body)
        return self._masks[id(a.node)]

    def _expression(self, n: Node, body: list[str]) -> str:
        """Write a node in its own type."""
        return f"(({C_TYPES[n.dtype]})({self._bare(n, body)}))"

    def _bare(self, n: Node, body: list[str]) -> str:
        if n.op == "pick":
            return self._pick(n, body)
        if n.op == "iota":
            return f"i{self.runs[-1][-1]}" if n.shape else "0"
        if n.op == "where" and self.masked:
            chosen = self.mask(n.args[0], mask_type(n.dtype), body)
            return (
                f"select_{C_TYPES[n.dtype]}({', '.join([chosen, *(self.typed(a, n.dtype, body) for a in n.args[1:])])})"
            )
        if n.op == "where":
            texts = [self.typed(n.args[0], None, body), *(self.typed(a, n.dtype, body) for a in n.args[1:])]
            kind = n.dtype
        else:
            kind = n.views[0].node.dtype if n.op in KEEP_TYPE else n.dtype
            if n.op == "_to_copy":
                return self.typed(n.args[0], n.dtype, body)
            logical = n.op.startswith("logical")
            texts = [self.typed(a, None if logical else kind, body) for a in n.args if a is not None]
        suffix = "f" if kind == torch.float32 else ""
        if n.op == "pow":
            form = _power(n.args, suffix)
        elif n.op == "clamp":
            form, texts = _clamp(n.args, texts), texts[:1]
        else:
            form = POINTWISE[n.op]
        table = {
            "f": suffix,
            "abs": f"fabs{suffix}" if kind.is_floating_point else "llabs",
            "t": C_TYPES[kind],
            "m": mask_type(kind),
            "trunc": f"trunc{suffix}({{0}}/{{1}})" if kind.is_floating_point else "quotient_int64_t({0},{1})",
            "not": "!" if kind == torch.bool else "~",
        }
        for key, text in table.items():
            form = form.replace(f"{{{key}}}", text)
        for i, text in enumerate(texts):
            form = form.replace(f"{{{i}}}", text if text.isidentifier() else f"({text})")
        return form

    def _pick(self, n: Node, body: list[str]) -> str:
        source, *indexes = n.views
        where, inside = self.picked(indexes, n.picks, body)
        missing = "NAN" if n.dtype.is_floating_point else "0"
        return f"({inside}) ? {source.node.name}[{index(source, self)}+{where}] : {missing}"


def index(view: View, frame: Frame) -> str:
    """Write the place of a view's element at the loops' indexes."""
    terms = [f"i{run[-1]}*{view.strides[run[-1]]}" for run in frame.runs if view.strides[run[-1]]]
    return "+".join([*terms, *([str(view.offset)] if view.offset or not terms else [])])


def at(view: View, frame: Frame) -> str:
    """Write a view's element at the loops' indexes."""
    return f"{view.node.name}[{index(view, frame)}]"


def store(target: View, value: View, loops: Loops) -> str:
    """Write loops that store a view in a node's memory."""
    frame = Frame(value.shape, [(d,) for d in range(len(value.shape))], -2)
    body: list[str] = []
    text = frame.typed(value, target.node.dtype, body)
    return loops(value.shape, range(len(value.shape)), "".join(body) + f"{at(target, frame)} = {text};\n")


def _clamp(args: Sequence[Operand], texts: Sequence[str]) -> str:
    low, high = [*args[1:], None, None][:2]
    limits = iter(texts[1:])
    form = "{0}"
    if low is not None:
        form = f"(({{0}})<({(bound := next(limits))})?({bound}):({{0}}))"
    if high is not None:
        form = f"({form}>({(bound := next(limits))})?({bound}):{form})"
    return form


def _power(args: Sequence[Operand], suffix: str) -> str:
    known: dict[float, str] = {
        2.0: "({0}*{0})", 3.0: "({0}*{0}*{0})", 1.0: "({0})", 0.5: f"sqrt{suffix}({{0}})",
        -0.5: f"(1/sqrt{suffix}({{0}}))", -1.0: "(1/{0})",
    }  # fmt: skip
    exponent = args[1]
    if isinstance(args[0], View) and isinstance(exponent, (int, float)) and float(exponent) in known:
        return known[float(exponent)]
    return f"pow{suffix}({{0}},{{1}})"
