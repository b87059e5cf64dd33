"""Which loops there are, what they share, what stays in registers, and which new state may overwrite the old.

Pointwise nodes of one shape that can run in one loop form a group. What only its own loop uses stays in a register; a
pointwise node that only one reduction reads, whole, is computed inside that reduction. Nodes that nothing needs are
dropped.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from streamnn.native.lower import Lowered
from streamnn.native.nodes import Kind, Node, Shape, View


@dataclass(slots=True)
class Group:
    """Nodes computed by one loop nest."""

    kind: Kind
    shape: Shape
    nodes: list[Node]


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
        for a in node.args:
            if isinstance(a, View):
                a.node.users.append(node)
    for node in order:
        node.inline = (
            node.kind == "point"
            and node not in outputs
            and len(node.users) == 1
            and node.users[0].kind == "reduce"
            and isinstance(node.users[0].args[0], View)
            and node.users[0].args[0].whole
        )
    groups = _group(order)
    for node in order:
        node.stored = _is_stored(node, outputs)
    over, copied = _overwrites(order, lowered, states)
    return Schedule(order, groups, over, copied)


def reads(node: Node) -> Iterator[View]:
    """Yield the views of stored nodes that computing a node reads, through what is inlined into it."""
    for a in node.args:
        if isinstance(a, View):
            if a.node.inline:
                yield from reads(a.node)
            else:
                yield a


def _live(lowered: Lowered) -> list[Node]:
    live: set[Node] = set()
    stack = [v.node for v in lowered.outputs]
    while stack:
        node = stack.pop()
        if node not in live:
            live.add(node)
            stack += [a.node for a in node.args if isinstance(a, View)]
    return [n for n in lowered.order if n in live]


def _group(order: list[Node]) -> list[Group]:
    groups: list[Group] = []
    for node in order:
        if node.kind == "const" or node.inline:
            continue
        first = 0
        for a in reads(node):
            if a.node.kind not in ("input", "const"):
                same = node.kind == a.node.kind == "point" and a.node.shape == node.shape and a.whole
                first = max(first, a.node.group + (not same))
        node.group = len(groups)
        if node.kind == "point":
            fitting = (i for i in range(first, len(groups)) if groups[i].kind == "point" and groups[i].shape == node.shape)
            node.group = next(fitting, len(groups))
        if node.group == len(groups):
            groups.append(Group(node.kind, node.shape, []))
        groups[node.group].nodes.append(node)
    return groups


def _is_stored(node: Node, outputs: set[Node]) -> bool:
    if node.kind == "const" or node.inline:
        return False
    if node.kind != "point" or node in outputs:
        return True

    def elsewhere(user: Node) -> bool:
        if user.inline or user.group != node.group:
            return True
        views = (a for a in user.args if isinstance(a, View) and a.node is node)
        return any(not a.expand(user.shape).whole for a in views)

    return any(elsewhere(u) for u in node.users)


def _overwrites(order: list[Node], lowered: Lowered, states: int) -> tuple[dict[Node, int], list[int]]:
    """Find the new state leaves that may be written over the old ones: nothing reads the old one afterwards."""
    last: dict[Node, tuple[int, bool]] = {}  # old leaf -> last group that reads it, all those reads at its own index
    for node in order:
        if node.inline or node.kind == "const":
            continue
        for a in reads(node):
            if a.node.kind == "input":
                own = node.kind == "point" and a.whole and a.shape == node.shape
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
        if new.node is old and new.whole:
            continue
        group, own = last.get(old, (-1, True))
        free = group < new.node.group or (group == new.node.group and own)
        if new.node.kind == "point" and new.whole and outputs.count(new.node) == 1 and free and new.node not in over:
            over[new.node] = i
        else:
            copied.append(i)
    return over, copied
