"""What is computed at all, how often, and where it is put: equal things once, dead ones never, new state over the old."""

from collections import Counter

import numpy as np
import pytest
import torch

from streamnn.flat import FlatStep
from streamnn.native.emit import emit
from streamnn.native.orient import turn, turned_leaves
from streamnn.native.program import Operation, Program
from streamnn.native.schedule import schedule
from streamnn.native.trace import trace
from streamnn.networks import MLP
from streamnn.operations import Kind
from tests.streamnn.native.networks import build
from tests.streamnn.native.test_batches import PLAIN

WIDE = {**PLAIN, "units": (40, 24)}


class Planned:
    """A function as it is scheduled; the first `states` arguments and results are old and new leaves of a state."""

    def __init__(self, function, examples, states=0, slots=(0,)):
        lowered, self.states = trace(function, examples, states), states
        self.traced = len(lowered.order)
        self.lowered = turn(lowered, turned_leaves(lowered, states))
        self.plan = schedule(self.lowered, states)
        self.scratch = emit(self.lowered, self.plan, states, "f", slots).scratch

    @property
    def changed(self):
        """The leaves that do not stay as they are."""
        pairs = zip(self.lowered.outputs, self.lowered.inputs[: self.states], strict=False)
        return [i for i, (new, old) in enumerate(pairs) if new.node is not old]

    @property
    def operators(self):
        """How often each operator is computed."""
        return Counter(n.op for n in self.plan.order if n.op)

    @property
    def products(self):
        """How many products of matrices there are."""
        return sum(g.kind == "matmul" for g in self.plan.groups)

    @property
    def held(self):
        """Sizes of the nodes that lie in scratch memory."""
        names = [line.split()[1].partition("[")[0] for line in self.scratch]
        return [n.size for n in self.plan.order if n.name.removeprefix("t->") in names]


def of_network(choice, kind=Kind.PREDICT_LEARN):
    """An operation of a network."""
    case = build(choice, dtype=torch.float32, events=1)
    flat = FlatStep(case.step, case.state)
    leaves = flat.flattened(case.state)
    fields = [torch.zeros(shape, dtype=dtype) for shape, dtype in (*flat.rows(1), *flat.shared)]
    states = len(leaves)

    def function(*tensors):
        new, outs = flat.functions[kind](tensors[:states], tensors[states:])
        return [*new, *outs]

    return Planned(function, [*leaves, *fields], states, {Kind.PREDICT_LEARN: (0, 1)}.get(kind, (0,)))


def test_a_plan_is_told_in_a_few_words():
    """Its text grows with the number of nodes, not with the ways that lead to each: here 2^60."""

    def function(x):
        for _ in range(60):
            x = torch.sin(x) * torch.cos(x)
        return [x]

    planned = Planned(function, [torch.ones(4)])
    assert repr(planned.plan.order[-1]) == "<point mul float32 [4]>"
    for told in (planned.plan, planned.lowered):
        assert "<point sin float32 [4]>" in repr(told)
        assert len(repr(told)) < 100 * len(planned.plan.order)


def test_equal_computations_are_made_once():
    """An expression that is written three times, once over a view that is the whole, is computed once."""

    def function(x):
        return [(x * 2).exp() + 1, (x[:, None] * 2).exp()[:, 0] + 1, (x * 2).exp()]

    operators = Planned(function, [torch.ones(4, 4)], slots=(0, 1, 2)).operators
    assert operators == {"mul": 1, "exp": 1, "add": 1}


def test_passes_that_agree_are_one(monkeypatch):
    """If both passes of a network are traced though they agree, not one operator more is computed than for one pass."""
    one = of_network(WIDE)
    monkeypatch.setattr(MLP, "training_differs", True)
    both = of_network(WIDE)
    wanted, found = (one.operators, one.products), (both.operators, both.products)
    assert found == wanted


def test_passes_share_what_they_have_in_common():
    """With dropout they part behind the first activation: its layer is computed once, the other two and no more twice."""
    both, one = of_network({**WIDE, "dropout": 0.3}).products, of_network(WIDE).products
    assert both == one + 2


def test_what_nothing_needs_is_not_computed():
    """Neither an unused value nor what it alone is made from, in a plain function and in a network."""
    operators = Planned(lambda x: [((x * 3).exp().sum(), x + 1)[1]], [torch.ones(5)]).operators
    assert operators == {"add": 1}
    network = of_network(WIDE)
    computed, traced = len(network.plan.order), network.traced
    assert computed < traced
    products = of_network(WIDE, Kind.PREDICT_OBSERVE).products
    assert products == 4, "forward, with the skip's"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_new_state_is_written_over_the_old(optimizer):
    """Only lone numbers are copied, and scratch memory holds vectors: neither gradients nor new weights or moments."""
    network = of_network({**WIDE, "optimizer": optimizer})
    over, copied, largest = sorted(network.plan.over.values()), network.plan.copied, max(network.held)
    sizes, changed = [n.size for n in network.lowered.inputs], network.changed
    assert sorted(over + copied) == changed
    assert {sizes[i] for i in copied} == {1}
    assert largest <= 40


SWAPS = {
    "swapped": lambda a, b, c, x: [b, a, c],
    "in a ring": lambda a, b, c, x: [b, c, a],
    "all of one": lambda a, b, c, x: [c, c, a],
    "turned": lambda a, b, c, x: [a.t(), c.t(), b],
    "moved, and made anew": lambda a, b, c, x: [b, b * 0.5 + x, a],
    "each from the other": lambda a, b, c, x: [b + x, a - x, c],
    "in parts": lambda a, b, c, x: [torch.cat([b[:1], a[1:]]), a.flip(0), b[:, :1] + a],
    "written in place": lambda a, b, c, x: [b.clone().add_(x), a.clone().mul_(b), b],
}


@pytest.mark.parametrize("name", SWAPS)
def test_leaves_that_change_places(name):
    """A new leaf may be another's old one, also where that is overwritten in the same step."""
    function = SWAPS[name]
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(3, 3, generator=generator) for _ in range(3)]
    x = torch.randn(5, 3, 3, generator=generator)
    operation = Operation(lambda state, inputs: (function(*state, *inputs), [state[0] + state[1]]), (0,))
    program = Program(leaves, [operation], rows=[x[0]], shared=[], wanted=frozenset({0}))
    block, seen = program.pack(leaves), np.zeros((5, 3, 3), np.float32)
    assert program.run(block, np.zeros(5, np.int8), np.arange(5), [x.numpy()], [seen])
    for i in range(5):
        np.testing.assert_allclose(seen[i], leaves[0] + leaves[1], rtol=1e-6, atol=1e-6)
        leaves = [t.clone() for t in function(*leaves, x[i])]
    for got, want in zip(program.unpack(block), leaves, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)
