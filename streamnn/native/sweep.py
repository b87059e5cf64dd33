"""A product with a matrix, and the loop that then overwrites the matrix, in one sweep over its rows.

A layer's gradient goes back through W just before W is moved. In two passes each row comes from the outer cache twice; in
one, a few rows are multiplied and moved while they are near.
"""

import heapq
from collections.abc import Sequence

from streamnn.native.groups import Group, is_whole, reads
from streamnn.native.nodes import Node, View
from streamnn.native.products import rowwise
from streamnn.native.trace import Lowered

Edges = list[set[int]]  # for each group the groups that have to come before it


def join_sweeps(groups: Sequence[Group], lowered: Lowered, states: int) -> list[Group]:
    """Join each product with the loop that overwrites its matrix, where nothing else has to come between them.

    Args:
        groups: loop nests in an order in which they can run.
        lowered: the nodes; the first `states` inputs and outputs are the state's leaves, old and new.
        states: how many leaves the state has.

    Returns:
        The loop nests in an order in which they can run; `then` is set in those that begin a sweep.
    """
    before = _edges(groups, lowered, states)
    partner: dict[int, int] = {}  # product -> the loop that goes with it
    order = list(range(len(groups)))
    for product, loop in _pairs(groups, lowered, states):
        if product not in partner and loop not in partner.values():
            found = _ordered(before, {**partner, product: loop})
            if found is not None:
                partner[product], order = loop, found
    joined = []
    for i in order:
        if i in partner:
            groups[i].then = groups[partner[i]]
        joined.append(groups[i])
    return joined


def _pairs(groups: Sequence[Group], lowered: Lowered, states: int) -> list[tuple[int, int]]:
    """List (product with a leaf as it lies, loop that makes the leaf's new value and nothing summed)."""
    place = {n: i for i, g in enumerate(groups) for n in g.nodes}
    products: dict[Node, list[int]] = {}
    for i, g in enumerate(groups):
        if g.kind == "matmul":
            for v in g.nodes[0].views[0].node.views:
                products.setdefault(v.node, []).append(i)
    found = []
    for old, new in zip(lowered.inputs[:states], lowered.outputs[:states], strict=True):
        loop = place.get(new.node, -1)
        if loop < 0 or groups[loop].kind != "loop" or any(n.kind != "point" for n in groups[loop].nodes):
            continue
        if groups[loop].shape == old.shape and all(is_whole(v, old.shape) for v in _looks(groups[loop], old)):
            found += [(p, loop) for p in products.get(old, []) if rowwise(groups[p].nodes[0], old)]
    return found


def _looks(group: Group, node: Node) -> list[View]:
    return [v for n in group.nodes for v in reads(n) if v.node is node]


def _edges(groups: Sequence[Group], lowered: Lowered, states: int) -> Edges:
    place = {n: i for i, g in enumerate(groups) for n in g.nodes}
    before: Edges = [set() for _ in groups]
    readers: dict[Node, set[int]] = {}
    for i, g in enumerate(groups):
        for n in g.nodes:
            for v in reads(n):
                readers.setdefault(v.node, set()).add(i)
                if place.get(v.node, i) != i:
                    before[i].add(place[v.node])
    for old, new in zip(lowered.inputs[:states], lowered.outputs[:states], strict=True):
        if new.node in place:  # old state stays until it has been read
            writer = place[new.node]
            before[writer] |= {r for r in readers.get(old, ()) if r < writer}
    return before


def _ordered(before: Edges, partner: dict[int, int]) -> list[int] | None:
    """Order the groups, each partner right behind its product; None if they wait for each other."""
    head = {loop: product for product, loop in partner.items()}
    waits: Edges = [set() for _ in before]
    after: Edges = [set() for _ in before]
    for i, sources in enumerate(before):
        own = head.get(i, i)
        waits[own] |= {head.get(s, s) for s in sources} - {own}
    for i, sources in enumerate(waits):
        for s in sources:
            after[s].add(i)
    ready = [i for i, sources in enumerate(waits) if not sources and i not in head]
    order: list[int] = []
    while ready:
        i = heapq.heappop(ready)
        order += [i, partner[i]] if i in partner else [i]
        for j in after[i]:
            waits[j].discard(i)
            if not waits[j]:
                heapq.heappush(ready, j)
    return order if len(order) == len(before) else None
