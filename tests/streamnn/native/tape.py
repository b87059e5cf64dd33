"""What the eager engine has torch compute, recorded once and repeated without Python and autograd in between.

Each operation of a step runs once on the first state, and every call that reaches torch's kernels is written down. Nothing in a
step depends on a value in any other way, so these are the calls that the eager engine makes for every event, in its order. As a
graph that torch runs they take a quarter of the time.
"""

import warnings

import numpy as np
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from streamnn.flat import FlatStep
from streamnn.operations import Kind, Results

aten = torch.ops.aten
SAME = (aten.detach.default, aten.alias.default)  # what comes out is what went in
CONSTANT = (aten.scalar_tensor.default,)
UNSAID = (torch.layout, torch.memory_format)  # the usual ones; a graph cannot hold them


class Tape:
    """The operations of a step, of the kinds that will come.

    Attributes:
        flat: the step as functions of flat lists of tensors.
        leaves: its first state as such a list.
    """

    def __init__(self, step, state, kinds):
        self.flat = FlatStep(step, state)
        self.leaves = self.flat.flattened(state)
        fields = [torch.zeros(shape, dtype=dtype) for shape, dtype in (*self.flat.rows(1), *self.flat.shared)]
        self.graphs = {kind: self._record(kind, fields) for kind in np.unique(kinds).tolist()}

    def run(self, leaves, rows, kinds, control):
        """Run one operation for each row: the leaves afterwards, and results."""
        x, y, number = (torch.from_numpy(a).split(1) for a in (rows.x, rows.y, rows.number))
        shared = torch.from_numpy(control.plain), torch.tensor(control.rate, dtype=self.flat.step.dtype)
        served, loss = np.full(rows.y.shape, np.nan), np.full(len(kinds), np.nan)
        with torch.inference_mode():
            for i, kind in enumerate(kinds.tolist()):
                made = self.graphs[kind](*leaves, x[i], y[i], number[i], *shared)
                leaves, out = made[: len(leaves)], made[len(leaves) :]
                if kind != Kind.LEARN:
                    served[i] = out[0][0].numpy()
                if kind != Kind.PREDICT_OBSERVE:
                    loss[i] = out[-1].item()
        return leaves, Results(served, loss)

    def _record(self, kind, fields):
        leaves = [t.clone() for t in self.leaves]
        recorder, inputs = _Recorder(), [*leaves, *fields]
        with recorder:
            new, out = self.flat.functions[kind](leaves, fields)

        def repeat(*given):
            known = {id(t): g for t, g in zip(inputs, given, strict=True)}
            for call in recorder.calls:
                call.repeat(known)
            return tuple(known[id(t)] for t in (*new, *out))

        return _graph(repeat, inputs)


class _Call:
    """One call of an operator: function, arguments, and what came out. Tensors are known by identity."""

    def __init__(self, func, args, kwargs, out):
        self.func, self.args, self.kwargs, self.out = func, args, kwargs, out

    def repeat(self, known):
        """Make the call with other tensors, and add what comes out to those that are known."""
        if self.func in CONSTANT:
            return
        args, kwargs = pytree.tree_map(lambda a: known.get(id(a), a), (self.args, self.kwargs))
        if self.func in SAME:
            made = args[0]
        elif self.func is aten.native_layer_norm_backward.default:
            assert args[5:] == (None, None, [True, False, False])
            made = _layer_norm_backward(*args[:5]), None, None
        else:
            made = self.func(*args, **kwargs)
        for old, new in zip(pytree.tree_leaves(self.out), pytree.tree_leaves(made), strict=True):
            known[id(old)] = new


class _Recorder(TorchDispatchMode):
    """Writes every call down, and keeps all tensors, so that none gets another's identity."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = {name: a for name, a in (kwargs or {}).items() if not isinstance(a, UNSAID)}
        out = func(*args, **kwargs)
        self.calls.append(_Call(func, args, kwargs, out))
        return out


def _graph(function, inputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that torch.compile is preferred: it takes a hundred times as long
        return torch.jit.trace(function, inputs, check_trace=False)


# flags come into a graph with a function that has them, and no other way
_layer_norm_backward = torch.jit.CompilationUnit("""
def backward(gradient: Tensor, x: Tensor, shape: List[int], mean: Tensor, spread: Tensor):
    return torch.ops.aten.native_layer_norm_backward(
        gradient, x, shape, mean, spread, None, None, [True, False, False])[0]
""").backward
