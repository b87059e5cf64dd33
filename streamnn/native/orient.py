"""How the state's matrices lie in memory: as torch has them, or turned.

A layer's product with W [out, in] runs along the rows of W, which costs a sum across a register for every output. With few
inputs that is most of the work; with W turned, whole rows of outputs are accumulated instead. But then the gradient that
goes back through W runs along rows. Which is better is counted from the products of the most frequent operation.

All pointwise nodes that read or make a turned matrix element for element (its gradient, the optimizer's averages, the new
matrix) are turned with it, so that their loops still run along memory.
"""

from collections.abc import Iterator, Sequence

from streamnn.native.nodes import Node, Operand, Shape, View, contiguous
from streamnn.native.trace import Lowered

FOLD = 21  # instructions to sum eight registers across, against one for each eight products
GAIN = 0.1  # least share of the products' work that turning must save


def turned_leaves(lowered: Lowered, states: int) -> frozenset[int]:
    """Choose the leaves of the state to turn, by number, from the operation that runs most often."""
    families = _families(lowered)
    saved: dict[int, float] = {}
    every: dict[int, float] = {}
    for node in lowered.order:
        if node.kind != "reduce" or node.op != "sum" or node.views[0].node.op != "mul":
            continue
        for view in node.views[0].node.views:
            family = families.get(view.node)
            if family is None or len(node.views[0].node.views) != 2:
                continue
            work, along, across = _costs(view, node.dims)
            every[family] = every.get(family, 0.0) + work
            saved[family] = saved.get(family, 0.0) + along - across
    chosen = {f for f, s in saved.items() if s > GAIN * every[f]}
    fixed = {families[v.node] for v in _views(lowered) if v.node in families and not _turnable(v)}
    leaves = enumerate(lowered.inputs[:states])
    return frozenset(i for i, leaf in leaves if families.get(leaf) in chosen - fixed and leaf in families)


def turn(lowered: Lowered, leaves: frozenset[int]) -> Lowered:
    """Turn leaves, and what goes with them, in an operation; its outputs for them are in the order of memory."""
    families = _families(lowered)
    wanted = {families[lowered.inputs[i]] for i in leaves}
    fixed = {families[v.node] for v in _views(lowered) if v.node in families and not _turnable(v)}
    nodes = {
        n
        for n, family in families.items()
        if family in wanted
        and ((n.kind == "point" and family not in fixed) or n in [lowered.inputs[i] for i in leaves])
    }
    looks = {n: _look(n.shape) for n in nodes}

    def seen(a: Operand) -> Operand:
        if not isinstance(a, View) or a.node not in nodes:
            return a
        return _restride(a, looks[a.node])

    for node in lowered.order:
        args = [seen(a) for a in node.args]
        if node in nodes:
            swap = [*range(len(node.shape) - 2), len(node.shape) - 1, len(node.shape) - 2]
            args = [a.expand(node.shape).take(swap) if isinstance(a, View) else a for a in args]
        node.args = args
    outputs = []
    for i, v in enumerate(lowered.outputs):
        look = seen(v)
        assert isinstance(look, View)
        if i in leaves:
            bare = look.squeeze()
            look = bare.take([*range(len(bare.shape) - 2), len(bare.shape) - 1, len(bare.shape) - 2])
        outputs.append(look)
    for node in nodes:
        node.shape = (*node.shape[:-2], node.shape[-1], node.shape[-2])
    return Lowered(lowered.inputs, lowered.order, outputs)


def _families(lowered: Lowered) -> dict[Node, int]:
    """Group matrices that are read element for element to make each other: {node: number of its family}."""
    parent: dict[Node, Node] = {}
    summed = {n.views[0].node for n in lowered.order if n.kind == "reduce"}
    read = {v.node for n in lowered.order if n.kind != "reduce" for v in n.views}

    def find(n: Node) -> Node:
        while parent[n] is not n:
            n = parent[n]
        return n

    for node in [*lowered.inputs, *lowered.order]:
        if node.kind not in ("input", "point") or len(node.shape) < 2 or (node in summed and node not in read):
            continue
        parent[node] = node
        for v in node.views:
            if v.node in parent and v.node.shape == node.shape and v.whole and v.shape == node.shape:
                parent[find(v.node)] = find(node)
    numbers: dict[Node, int] = {}
    return {n: numbers.setdefault(find(n), len(numbers)) for n in parent}


def _views(lowered: Lowered) -> Iterator[View]:
    for node in lowered.order:
        yield from node.views
    yield from lowered.outputs


def _costs(view: View, dims: Shape) -> tuple[float, float, float]:
    """Return the products' work, and what is added to it with the matrix as it lies and with it turned."""
    columns, rows = view.node.shape[-1], view.node.shape[-2]
    inner = [d for d, s in enumerate(view.strides) if s == 1 and view.shape[d] > 1]
    outer = [d for d, s in enumerate(view.strides) if s == columns and view.shape[d] > 1]
    work = 1.0
    for n in view.shape:
        work *= n
    if len(inner) != 1 or len(outer) != 1:
        return work, 0.0, 0.0
    if inner[0] in dims and outer[0] not in dims:
        return work, work / columns * FOLD, _short(rows, work)
    if outer[0] in dims and inner[0] not in dims:
        return work, _short(columns, work), work / rows * FOLD
    return work, 0.0, 0.0


def _short(columns: int, work: float) -> float:
    """Rows shorter than a register leave lanes idle."""
    return work * (8 / columns - 1) if columns < 8 else 0.0


def _turnable(view: View) -> bool:
    return _coordinates(view) is not None


def _coordinates(view: View) -> tuple[list[list[int]], list[int]] | None:
    """Split a view's strides and offset by the dimensions of its node; None if it walks over the end of a row."""
    shape = view.node.shape
    own = contiguous(shape)
    offset = _digits(view.offset, own)
    reach = list(offset)
    least = list(offset)
    strides = []
    for n, s in zip(view.shape, view.strides, strict=True):
        digits = _digits(abs(s), own) if n > 1 else [0] * len(own)
        signed = [-d for d in digits] if s < 0 else digits
        strides.append(signed)
        for i, d in enumerate(signed):
            reach[i] += max(d, 0) * (n - 1)
            least[i] += min(d, 0) * (n - 1)
    inside = all(r < n for r, n in zip(reach, shape, strict=True)) and all(low >= 0 for low in least)
    return (strides, offset) if inside else None


def _digits(number: int, own: Sequence[int]) -> list[int]:
    digits = []
    for s in own:
        # an empty dimension has strides of 0 before it
        digits.append(number // s if s else 0)
        number = number % s if s else number
    return digits


def _look(shape: Shape) -> Shape:
    """Return the strides, in the order of `shape`, of an array that lies with its last two dimensions exchanged."""
    turned = contiguous((*shape[:-2], shape[-1], shape[-2]))
    return (*turned[:-2], turned[-1], turned[-2])


def _restride(view: View, look: Shape) -> View:
    found = _coordinates(view)
    assert found is not None, "checked before"
    strides, offset = found
    return View(
        view.node,
        view.shape,
        tuple(sum(d * s for d, s in zip(digits, look, strict=True)) for digits in strides),
        sum(d * s for d, s in zip(offset, look, strict=True)),
    )
