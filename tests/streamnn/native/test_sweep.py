"""Products with a matrix that is then overwritten: both in one sweep over its rows where that is the same."""

import numpy as np
import pytest
import torch

from streamnn.native.program import Operation, Program


def step(matrix, x, y):
    """The gradient that goes back through a matrix [I, J], and the matrix moved: x [I], y [J]."""
    return [matrix - 0.1 * torch.outer(x, y)], [x @ matrix]


def turned(matrix, x, y):
    """The same, with the matrix's rows along the product."""
    return [matrix - 0.1 * torch.outer(x, y)], [matrix @ y]


def both(matrix, x, y):
    """Two products, of which one can go with the loop."""
    return [matrix * 0.5 + torch.outer(x, y)], [x @ matrix, matrix @ y]


def waiting(matrix, x, y):
    """The loop needs the whole product before it begins."""
    back = x @ matrix
    return [matrix - 0.1 * torch.outer(x, back + y)], [back]


def after(matrix, x, y):
    """The product is with the new matrix."""
    new = matrix - 0.1 * torch.outer(x, y)
    return [new], [x @ new]


def later(matrix, x, y):
    """What the loop needs is computed beside the product."""
    scale = (x * x).sum().sqrt() + 1
    return [matrix - torch.outer(x / scale, y)], [x @ matrix, scale]


def program_of(function, matrix, x, y):
    """The one operation on a state of one matrix; its columns `x` and `y` are a row's inputs."""
    operation = Operation(lambda state, inputs: function(state[0], *inputs), (0, 1)[: len(function(matrix, x, y)[1])])
    return Program([matrix], [operation], rows=[x, y], shared=[], wanted=frozenset({0}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "columns"), [(3, 40), (4, 64), (37, 19), (64, 5), (130, 33)])
@pytest.mark.parametrize(("function", "joined"), [(step, True), (turned, True), (both, True), (waiting, False), (after, False), (later, True)])  # fmt: skip
def test_products_and_updates(function, joined, rows, columns, dtype):
    """Three events in a row give what torch gives, and the loops are joined where the result allows it."""
    torch.manual_seed(0)
    matrix = torch.randn(rows, columns, dtype=dtype)
    x, y = torch.randn(3, rows, dtype=dtype), torch.randn(3, columns, dtype=dtype)
    program = program_of(function, matrix, x[0], y[0])
    block = program.pack([matrix])
    outs = [np.zeros((3, *shape), dtype=kind) for shape, kind in program.outputs]
    assert program.run(block, np.zeros(3, np.int8), np.arange(3), [x.numpy(), y.numpy()], outs)
    for i in range(3):
        (matrix,), want = function(matrix, x[i], y[i])
        for out, expected in zip(outs, want, strict=True):
            np.testing.assert_allclose(out[i], expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(program.unpack(block)[0], matrix, rtol=1e-4, atol=1e-4)
    if rows * columns >= 1000:
        assert ("int64_t r = 0" in program.source) == joined
