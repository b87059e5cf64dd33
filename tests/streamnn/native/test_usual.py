"""Loops that choose by truth values of the whole step: written twice, and right whichever of the two runs."""

import re

import numpy as np
import pytest
import torch

from streamnn.native.nodes import Node, View
from streamnn.native.program import Operation, Program
from streamnn.native.usual import usual

UNITS = 37


def step(count, mean, label, x):
    """Statistics that begin with the first event, and of labelled events only: state and what is served."""
    begun, known = count > 0, ~torch.isnan(label)
    moved = torch.where(begun, mean + 0.3 * (x - mean), x)
    served = torch.where(begun & known, x - moved, torch.where(known, x, -x))
    new = torch.where(known, moved, mean)
    return [count + known.to(torch.int64), new], [served, torch.where(count == 0, served, new)]


def unknown(count, mean, label, x):
    """The same choices by values of which nothing is known."""
    high, higher = label > 0.5, label > 2
    moved = torch.where(high, mean + 0.3 * (x - mean), x)
    return [count + 1, moved], [torch.where(higher, moved, x), torch.where(high & higher, x, mean)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("function", "twice"), [(step, True), (unknown, False)])
def test_every_case_is_right(function, twice, dtype):
    """Events of all cases give what torch gives: with a label and without, at the beginning and later."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, UNITS, dtype=dtype, generator=generator)
    label = torch.tensor([np.nan, 1.0, 3.0, np.nan, np.nan, 0.0, 3.0, np.nan], dtype=dtype)
    state = [torch.zeros((), dtype=torch.int64), torch.randn(UNITS, dtype=dtype, generator=generator)]
    outputs = len(function(*state, label[0], x[0])[1])
    operation = Operation(lambda state, inputs: function(*state, *inputs), tuple(range(outputs)))
    program = Program(state, [operation], rows=[label[0], x[0]], shared=[], wanted=frozenset({0}))
    assert bool(re.search(r"^if \(!?[tsx]", program.source, re.MULTILINE)) == twice
    block = program.pack(state)
    outs = [np.zeros((8, *shape), dtype=kind) for shape, kind in program.outputs]
    assert program.run(block, np.zeros(8, np.int8), np.arange(8), [label.numpy(), x.numpy()], outs)
    for i in range(8):
        state, want = function(*state, label[i], x[i])
        for out, expected in zip(outs, want, strict=True):
            np.testing.assert_allclose(out[i], expected, rtol=1e-6, atol=1e-6)
    for got, expected in zip(program.unpack(block), state, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)


def truth(op, *args):
    """A truth value computed from others."""
    return Node("point", (), torch.bool, op, [View.of(a) if isinstance(a, Node) else a for a in args])


COUNT, LABEL = Node("input", (), torch.int64), Node("input", (), torch.float32)
BEGUN, UNLABELLED, OPEN = truth("gt", COUNT, 0), truth("ne", LABEL, LABEL), truth("gt", LABEL, 0)


@pytest.mark.parametrize(
    ("node", "guess"),
    [
        (BEGUN, True),
        (truth("eq", COUNT, 0), False),
        (truth("gt", COUNT, 3), None),
        (truth("gt", 0, COUNT), None),
        (OPEN, None),
        (UNLABELLED, False),
        (truth("eq", LABEL, LABEL), True),
        (truth("ne", COUNT, LABEL), None),
        (truth("isinf", LABEL), False),
        (truth("logical_not", UNLABELLED), True),
        (truth("logical_not", OPEN), None),
        (truth("bitwise_and", BEGUN, UNLABELLED), False),
        (truth("bitwise_and", OPEN, UNLABELLED), False),
        (truth("bitwise_and", BEGUN, OPEN), None),
        (truth("logical_or", BEGUN, OPEN), True),
        (truth("logical_or", UNLABELLED, OPEN), None),
        (truth("logical_xor", BEGUN, BEGUN), None),
        (truth("_to_copy", BEGUN), True),
        (truth("where", BEGUN, BEGUN, OPEN), None),
        (Node("const", (), torch.bool, fill=True), True),
        (Node("input", (), torch.bool), None),
        (Node("reduce", (), torch.bool, "any", [View.of(UNLABELLED)]), False),
        (Node("reduce", (), torch.bool, "amax", [View.of(BEGUN)]), None),
    ],
)
def test_guesses(node, guess):
    """What the operators tell of a truth value, and nothing where they do not."""
    assert usual(node) is guess


def test_each_truth_value_is_looked_at_once():
    """A chain in which each depends twice on the one before is guessed in one pass: 2^60 looks would never end."""
    node = BEGUN
    for _ in range(60):
        node = truth("logical_and", node, node)
    assert usual(node) is True
