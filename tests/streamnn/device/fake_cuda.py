"""What stands in for `torch.cuda` where there is no card: streams that run late, in any order that their events allow.

Work that is called on a stream is queued, not run. Until it runs, what it returns is poison: NaN, or 0. A graph keeps the
operators of its capture with the memory they used, and runs them again. So an operator that is not ordered behind what it
needs, or a value that a capture has kept, shows in the results.
"""

import gc
import random
import weakref
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from streamnn.device import lanes


class FakeCuda:
    """Streams, events and graphs. `eager` is the share of queued work that runs before the host goes on."""

    def __init__(self, seed, eager=0.3):
        self.draw, self.eager = random.Random(seed), eager
        self.streams, self.current, self.syncs = [], [], 0
        self.captures, self.slow = 0, None  # one stream lags behind the others, another one after each wait of the host
        self.graphs = weakref.WeakSet()

    def Stream(self):  # noqa: N802
        """Make a stream."""
        self.streams.append(_Stream(self))
        return self.streams[-1]

    def Event(self):  # noqa: N802
        """Make an event."""
        return _Event(self)

    def CUDAGraph(self):  # noqa: N802
        """Make an empty graph."""
        graph = _Graph(self)
        self.graphs.add(graph)
        return graph

    def graph_pool_handle(self):
        """Make a pool; here it is only looked at."""
        return object()

    @contextmanager
    def stream(self, stream):
        """Queue what is called here."""
        self.current.append(stream)
        with _Queueing(stream.put):
            yield
        self.current.pop()

    @contextmanager
    def graph(self, graph, *, pool, stream, capture_error_mode):
        """Keep what is called here, under the conditions that a capture on a card has."""
        assert not gc.isenabled(), "the collector could destroy a graph, which makes the capture invalid"
        assert lanes._BUILDING.locked(), "another thread could compile meanwhile, and wait for the device"
        assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert not torch.backends.cuda.matmul.allow_tf32  # torch raises where this contradicts the line above
        assert pool is not None
        assert capture_error_mode == "thread_local"
        self.captures += 1
        self.drain()
        self.current.append(stream)
        with _Queueing(graph.work.append):
            yield
        self.current.pop()
        assert graph.work, "torch warns of a graph without work"

    def drain(self):
        """Run everything."""
        while self.run_one():
            pass

    def run_one(self):
        """Run the first of a stream that need not wait; False if there is none."""
        ready = [s for s in self.streams if s.ready]
        if ready:
            others = [s for s in ready if s is not self.slow]
            with host():
                self.draw.choice(others if others and self.draw.random() < 0.95 else ready).pop()
        return bool(ready)

    def sometimes(self):
        """The device may be fast or slow."""
        while self.draw.random() < self.eager and self.run_one():
            pass


class _Stream:
    def __init__(self, fake):
        self.fake, self.queue = fake, []

    def put(self, work, waits=lambda: True):
        self.queue.append((work, waits))
        self.fake.sometimes()

    @property
    def ready(self):
        return bool(self.queue) and self.queue[0][1]()

    def pop(self):
        self.queue.pop(0)[0]()

    def wait_event(self, event):
        wanted = event.recorded
        self.put(lambda: None, lambda: event.done >= wanted)

    def synchronize(self):
        while self.queue:
            assert self.fake.run_one(), "everything waits"


class _Event:
    def __init__(self, fake):
        self.fake, self.recorded, self.done = fake, 0, 0

    def record(self, stream):
        self.recorded += 1
        now = self.recorded
        stream.put(lambda: setattr(self, "done", max(self.done, now)))

    def synchronize(self):
        self.fake.syncs += 1
        self.fake.slow = self.fake.draw.choice(self.fake.streams)
        while self.done < self.recorded:
            assert self.fake.run_one(), "everything waits"


class _Graph:
    def __init__(self, fake):
        self.fake, self.work = fake, []

    def replay(self):
        self.fake.current[-1].put(self._run)

    def _run(self):
        for work in self.work:
            work()


class _Queueing(TorchDispatchMode):
    """Hand on what each operator does, to be done later."""

    def __init__(self, put):
        super().__init__()
        self.put = put

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert func._schema.name != "aten::_local_scalar_dense", "the host asks for a value on the device"
        if kwargs.get("pin_memory"):  # memory of the host, made at once; without a card it cannot be pinned
            return func(*args, **{**kwargs, "pin_memory": False})
        if any(a.alias_info and a.alias_info.is_write for a in func._schema.arguments):
            self.put(lambda: func(*args, **kwargs))
            return args[0] if func._schema.returns else None
        out = func(*args, **kwargs)
        given = {_memory(t) for t in _tensors((args, kwargs))}
        fresh = [i for i, t in enumerate(_tensors(out)) if _memory(t) not in given]
        if fresh:
            for i in fresh:
                t = _tensors(out)[i]
                t.fill_(float("nan") if t.is_floating_point() else 0)

            def later():
                again = _tensors(func(*args, **kwargs))
                for i in fresh:
                    _tensors(out)[i].copy_(again[i])

            self.put(later)
        return out


def _tensors(tree):
    return [t for t in pytree.tree_leaves(tree) if isinstance(t, Tensor)]


def _memory(t):
    return t.untyped_storage().data_ptr()


@contextmanager
def host():
    """Run what is called here at once, as what happens on the host is, inside of a stream too."""
    with _disable_current_modes():
        yield
