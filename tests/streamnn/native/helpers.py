"""Run a plain function of tensors natively, and compare with torch."""

import numpy as np
import torch

from streamnn.native.program import Operation, Program


def compile_function(function, *examples):
    """A program with the one operation `function(*examples) -> list of tensors`, without state."""
    slots = tuple(range(len(function(*examples))))
    operation = Operation(lambda _, inputs: ([], function(*inputs)), slots)
    return Program([], [operation], rows=examples, shared=[], wanted=frozenset({0}))


def call(program, *inputs):
    """Run a program made by `compile_function` once."""
    arrays = [np.ascontiguousarray(t.detach().numpy())[None] for t in inputs]
    outs = [np.zeros((1, *shape), dtype=dtype) for shape, dtype in program.outputs]
    program.run(program.pack([]), np.zeros(1, np.int8), np.zeros(1, np.int64), arrays, outs)
    return [torch.from_numpy(o)[0] for o in outs]


def native(function, *inputs):
    """Compile and run a function once."""
    return call(compile_function(function, *inputs), *inputs)


def assert_same(got, want, *, rtol=1e-6, atol=1e-7, names=None):
    """Compare lists of tensors: types, shapes, values, NaN and infinities."""
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        name = names[i] if names else str(i)
        assert g.dtype == w.dtype, f"{name}: {g.dtype} instead of {w.dtype}"
        assert g.shape == w.shape, f"{name}: {tuple(g.shape)} instead of {tuple(w.shape)}"
        if w.dtype.is_floating_point:
            np.testing.assert_allclose(
                g.numpy(), w.detach().numpy(), rtol=rtol, atol=atol, equal_nan=True, err_msg=name
            )
        else:
            np.testing.assert_array_equal(g.numpy(), w.numpy(), err_msg=name)
