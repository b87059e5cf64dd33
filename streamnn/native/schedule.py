"""Which loops there are, what they share, what stays in registers, and which new state may overwrite the old.

A loop nest runs over one shape. It computes pointwise nodes of that shape, and sums of arrays of that shape over trailing
dimensions. What only its own loop uses stays in a register. A pointwise node that only sums read, or that is larger than
all it is made from (an outer product: a weight's gradient), is not stored at all but computed where it is read. Nodes that
nothing needs are dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from streamnn.native.groups import Group, is_matmul, is_whole, reads, space
from streamnn.native.nodes import Node, View
from streamnn.native.sweep import join_sweeps
from streamnn.native.trace import Lowered

CHEAP = frozenset(("mul", "neg", "abs", "add", "sub", "_to_copy"))  # worth computing again instead of storing


@dataclass(frozen=True, slots=True)
class Schedule:
    """The loops in order.

    Attributes:
        order: live nodes in order.
        groups: loop nests in order.
        over: node -> index of the state leaf whose memory it may be written into directly.
        copied: indexes of state leaves whose new value is copied at the end of the step.
    """

    order: list[Node]
    groups: list[Group]
    over: dict[Node, int]
    copied: list[int]


def schedule(lowered: Lowered, states: int) -> Schedule:
    """Arrange the loops of a step.

    Args:
        lowered: its nodes; the first `states` inputs and outputs are the state's leaves, old and new.
        states: how many leaves the state has.
    """
    outputs = {v.node for v in lowered.outputs}
    order = _live(lowered)
    for node in order:
        for a in node.views:
            a.node.users.append(node)
    for node in order:
        node.inline = node.kind == "point" and node not in outputs and _is_inline(node)
    groups = _group(order)
    _sink(order, groups)
    groups = join_sweeps([g for g in groups if g.nodes], lowered, states)
    for i, g in enumerate(groups):
        for node in g.nodes:
            node.group = i
    for node in order:
        node.stored = _is_stored(node, outputs)
    over, copied = _overwrites(order, lowered, states)
    return Schedule(order, groups, over, copied)


def _live(lowered: Lowered) -> list[Node]:
    live: set[Node] = set()
    stack = [v.node for v in lowered.outputs]
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack += [a.node for a in node.views]
    return [n for n in lowered.order if n in live]


def _is_inline(node: Node) -> bool:
    """Tell whether a pointwise node is computed where it is read: users read it whole, and it is cheap or used once."""
    if not all(is_whole(a, space(u)) for u in node.users for a in u.views if a.node is node):
        return False
    if not all(u.kind in ("point", "reduce") for u in node.users):
        return False
    if len(node.users) == 1 and node.users[0].kind == "reduce":
        return True
    return node.op in CHEAP and node.size > 1 and all(_extent(v) < node.size for v in reads(node))


def _extent(view: View) -> int:
    size = 1
    for n, s in zip(view.shape, view.strides, strict=True):
        size *= n if s else 1
    return size


def _trails(node: Node) -> bool:
    """Tell whether a sum runs over the last dimensions of its argument, so that it can be kept in a register."""
    rank = len(space(node))
    return node.dims == tuple(range(rank - len(node.dims), rank))


def _group(order: list[Node]) -> list[Group]:
    groups: list[Group] = []
    for node in order:
        if node.kind in ("const", "data") or node.inline:
            continue
        shape = space(node)
        looped = node.kind == "point" or (
            node.kind == "reduce" and node.op != "argmax" and not is_matmul(node) and _trails(node)
        )
        first = 0
        for a in reads(node):
            if a.node.kind not in ("input", "const", "data"):
                same = looped and a.node.kind == "point" and is_whole(a, shape)
                first = max(first, a.node.group + (not same))
        node.group = len(groups)
        if looped:
            fitting = (i for i in range(first, len(groups)) if groups[i].kind == "loop" and groups[i].shape == shape)
            node.group = next(fitting, len(groups))
        if node.group == len(groups):
            groups.append(Group("loop" if looped else "matmul" if is_matmul(node) else node.kind, shape, []))
        groups[node.group].nodes.append(node)
    return groups


def _sink(order: list[Node], groups: list[Group]) -> None:
    """Move a pointwise node that only one later loop of its shape reads into that loop, where it stays in a register."""
    places = {n: i for i, n in enumerate(order)}

    def readers(node: Node) -> Iterator[tuple[Node, bool]]:
        for u in node.users:
            whole = all(is_whole(a, space(u)) for a in u.views if a.node is node)
            if u.inline:
                yield from ((reader, whole and more) for reader, more in readers(u))
            else:
                yield u, whole

    for node in reversed(order):
        if node.kind != "point" or node.inline or not node.users:
            continue
        found = list(readers(node))
        targets = {u.group for u, _ in found}
        if len(targets) != 1 or not all(whole for _, whole in found):
            continue
        (target,) = targets
        if target != node.group and groups[target].kind == "loop" and groups[target].shape == node.shape:
            groups[node.group].nodes.remove(node)
            groups[target].nodes.append(node)
            groups[target].nodes.sort(key=places.__getitem__)
            node.group = target


def _is_stored(node: Node, outputs: set[Node]) -> bool:
    if node.kind in ("const", "data") or node.inline:
        return False
    if node.kind != "point" or node in outputs:
        return True

    def inside(user: Node, via: Node) -> bool:
        """Tell whether a user reads the register, itself or through what is inlined into it."""
        if not all(is_whole(a, space(user)) for a in user.views if a.node is via):
            return False
        if user.inline:
            return all(inside(u, user) for u in user.users)
        return user.group == node.group

    return not all(inside(u, node) for u in node.users)


def _overwrites(order: list[Node], lowered: Lowered, states: int) -> tuple[dict[Node, int], list[int]]:
    """Find the new state leaves that may be written over the old ones: nothing reads the old one afterwards."""
    last: dict[Node, tuple[int, bool]] = {}  # old leaf -> last group that reads it, all those reads at its own index
    for node in order:
        if node.inline or node.kind in ("const", "data"):
            continue
        for a in reads(node):
            if a.node.kind == "input":
                own = node.kind == "point" and is_whole(a, node.shape)
                group, all_own = last.get(a.node, (-1, True))
                if node.group > group:
                    last[a.node] = (node.group, own)
                elif node.group == group:
                    last[a.node] = (group, all_own and own)
    # what is returned by copying is read at the very end
    never = len(order) + 1
    outputs = [v.node for v in lowered.outputs]
    for i, view in enumerate(lowered.outputs):
        if view.node.kind == "input" and not (i < states and view.node is lowered.inputs[i]):
            last[view.node] = (never, False)
    over: dict[Node, int] = {}
    copied: list[int] = []
    for i in range(states):
        new, old = lowered.outputs[i], lowered.inputs[i]
        if new.node is old:
            continue
        group, own = last.get(old, (-1, True))
        free = group < new.node.group or (group == new.node.group and own)
        fits = new.node.kind in ("point", "reduce", "place") and new.whole and new.node.shape == old.shape
        if fits and new.node.dtype == old.dtype and outputs.count(new.node) == 1 and free and new.node not in over:
            over[new.node] = i
        else:
            copied.append(i)
    return over, copied
