"""What a truth value of a step usually is, which its operators tell: a count has begun, a label is known.

Loops that choose by such values are written a second time for the usual case, where each choice is made already. What is
guessed here decides which of the two loops is short, and nothing else.
"""

import torch

from streamnn.native.nodes import Node, View

# comparisons of a count with 0
_COUNTS = {"gt": True, "ne": True, "ge": True, "eq": False, "lt": False, "le": False}


def usual(node: Node) -> bool | None:
    """Guess a truth value; None = nothing tells."""
    return _guess(node, {})


def _guess(node: Node, met: dict[Node, bool | None]) -> bool | None:
    """Guess a truth value once, however many others are computed from it."""
    if node not in met:
        met[node] = _told(node, met)
    return met[node]


def _told(node: Node, met: dict[Node, bool | None]) -> bool | None:
    if node.kind == "const":
        return bool(node.fill)
    if node.kind == "reduce":
        return _guess(node.views[0].node, met) if node.op in ("any", "all") else None
    if node.kind != "point":
        return None
    if node.op in ("isnan", "isinf"):
        return False
    if node.op in ("ne", "eq") and len(node.views) == 2 and node.views[0].key == node.views[1].key:
        return node.op == "eq"  # it is not NaN
    if node.op in _COUNTS:
        first, second = node.args
        counts = isinstance(first, View) and not first.node.dtype.is_floating_point and _is_zero(second)
        return _COUNTS[node.op] if counts else None
    known = [_guess(view.node, met) if view.node.dtype == torch.bool else None for view in node.views]
    if node.op in ("logical_not", "bitwise_not"):
        return None if known[0] is None else not known[0]
    if node.op in ("logical_and", "bitwise_and", "__and__"):
        return False if False in known else None if None in known else True
    if node.op in ("logical_or", "bitwise_or", "__or__"):
        return True if True in known else None if None in known else False
    return known[0] if node.op == "_to_copy" else None


def _is_zero(a: object) -> bool:
    if isinstance(a, View):
        return a.node.kind == "const" and a.node.fill == 0
    return a == 0
