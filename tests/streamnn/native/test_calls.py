"""What a native call does to the process around it: other threads, the floating-point mode, and compilations."""

import ctypes
import platform
import threading
import time

import numpy as np
import pytest
import torch

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native.build import load
from streamnn.networks import MLPSpec
from streamnn.operations import Kind, Operations
from streamnn.pool import PoolLearner, PoolSpec
from streamnn.pool import native as pool_native
from tests.streamnn.helpers import drive, labels_of, numeric_stream, obj
from tests.streamnn.helpers import same_state as same_tensors
from tests.streamnn.native.helpers import native
from tests.streamnn.pool.helpers import singles
from tests.streamnn.pool.test_learner import same_bits

LEARN = Kind.PREDICT_LEARN


def network(**settings):
    """A small network for one multi-class target."""
    spec = {"network": MLPSpec(units=(8,), dropout=0.2), "engine": "native", **settings}
    return Learner(LearnerSpec(targets=(TargetSpec("t0", "multiclass"),), **spec))


def pool(**settings):
    """A pool for the same target."""
    return PoolLearner(PoolSpec(targets=(TargetSpec("t0", "multiclass"),), engine="native", preset="fast", **settings))


def play(learner, seed, events=400):
    """Learn a stream of a seed; returns what was served."""
    columns, score = numeric_stream(events, seed=seed)
    columns["f1"][::9] = np.nan
    return drive(learner, columns, {"t0": labels_of("multiclass", score)}, cuts=[50] * (events // 50))[0]


@pytest.mark.parametrize(("make", "same"), [(network, same_tensors), (pool, same_bits)], ids=["network", "pool"])
def test_learners_in_two_threads_learn_what_each_learns_alone(make, same):
    """Two learners with the same compiled code, run at once, end with the bits that each has when it runs alone."""
    alone = [make(seed=s) for s in (1, 2)]
    served = [play(learner, seed) for seed, learner in enumerate(alone)]
    together, found, begin = [make(seed=s) for s in (1, 2)], [None, None], threading.Barrier(2)

    def work(i):
        begin.wait()
        found[i] = play(together[i], i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(2):
        np.testing.assert_array_equal(found[i], served[i])
        assert same(alone[i], together[i])


class Clocked:
    """A C function that notes when it was entered and left."""

    def __init__(self, function):
        self.function, self.calls = function, []

    def __call__(self, *words):
        began = time.monotonic()
        answer = self.function(*words)
        self.calls.append((began, time.monotonic()))
        return answer


def progress(clocked, work):
    """Run `work` in a thread; returns how often this one came round in the middle of calls."""
    thread, ticks = threading.Thread(target=work), []
    thread.start()
    while thread.is_alive():
        ticks.append(time.monotonic())
        time.sleep(0.001)
    thread.join()
    middles = [((3 * began + ended) / 4, (began + 3 * ended) / 4) for began, ended in clocked.calls]
    return sum(first < t < last for t in ticks for first, last in middles)


def encoded(learner, events):
    """Rows of a stream, all at once, after the learner has seen enough to be built and compiled."""
    play(learner, 0, 50)
    columns, score = numeric_stream(events, seed=1)
    chunk = learner.encode(columns, {"t0": labels_of("multiclass", score)}, np.arange(50, 50 + events))
    assert len(chunk.rows) == events
    return chunk.rows


def test_other_threads_run_during_a_call():
    """While one thread is in a long call of a network's step, another makes progress: the lock is released."""
    learner = network()
    rows = encoded(learner, 40_000)
    listed = Operations.of([(LEARN, i, i + 1) for i in range(len(rows))])
    program = learner._native.prepare(learner.step, learner.state, [LEARN])
    clocked = program._run = Clocked(program._run)
    assert progress(clocked, lambda: learner.run(rows, listed, rate=0.001)) > 0
    assert len(clocked.calls) == 1


def test_other_threads_run_during_a_call_of_the_pool(monkeypatch):
    """Likewise while a part of the pool runs."""
    learner = pool()
    rows = encoded(learner, 10_000)
    real = pool_native.run_of
    clocked = Clocked(real("net"))
    monkeypatch.setattr(pool_native, "run_of", lambda name: clocked if name == "net" else real(name))
    assert progress(clocked, lambda: learner.run(rows, singles(len(rows)), rate=0.001)) > 0


MODE = """
#include <stdint.h>
#include <xmmintrin.h>
uint32_t get(void) { return _mm_getcsr(); }
void set(uint32_t mode) { _mm_setcsr(mode); }
"""
USUAL, FLUSHING, UPWARD, TOWARD_0 = 0x1F80, 0x9FC0, 0x5F80, 0x7F80
SEEN = 0x3F  # what has happened so far; numpy and torch raise and clear these


@pytest.mark.skipif(platform.machine() != "x86_64", reason="reads the mode of an x86 processor")
@pytest.mark.parametrize("mode", [USUAL, FLUSHING, UPWARD, TOWARD_0], ids=["usual", "flushing", "upward", "toward 0"])
def test_the_floating_point_mode_is_left_as_it_was(mode):
    """Rounding, and what happens to denormals, are after a call, and after building and loading, what they were."""
    csr, _ = load(MODE)
    learners = [network(), pool()]
    before = csr.get()
    csr.set(mode)
    try:
        for learner in learners:
            play(learner, 0, 100)
        after = csr.get()
    finally:
        csr.set(before)
    assert after & ~SEEN == mode & ~SEEN


DENORMAL = """
double of(double x, double y) {
  volatile double a = x, z;
  unsigned mode = enter();
  z = a * y;
  leave(mode);
  return z;
}
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere denormals are not flushed")
def test_denormals_are_flushed_inside_a_call_alone():
    """A subnormal number counts as 0 in a step, and what would be one is 0; numpy has them still. So with the pool's mode."""
    small = torch.tensor([1e-40, 1e-30, -1e-30, 2.0**-125], dtype=torch.float32)
    factor = torch.tensor([1e30, 1e-10, 1e-10, 1.0], dtype=torch.float32)
    least, shrunk = np.finfo(np.float64).tiny, np.array([1.0, 0.5])
    library, _ = load((pool_native.FOLDER / "common.c").read_text() + DENORMAL)
    library.of.restype, library.of.argtypes = ctypes.c_double, [ctypes.c_double] * 2
    for _ in range(2):
        (product,) = native(lambda x, y: [x * y], small, factor)
        np.testing.assert_array_equal(product, [0.0, 0.0, -0.0, 2.0**-125])
        (double,) = native(lambda x, y: [x * y], torch.full((2,), least, dtype=torch.float64), torch.from_numpy(shrunk))
        np.testing.assert_array_equal(double, [least, 0.0])
        assert library.of(least, 0.5) == 0
        assert least * shrunk[1] > 0
        assert (np.abs(small.numpy() * factor.numpy()) > 0).all()


def growing(events):
    """Columns and classes that come one after the other: the n-th at event 10 n."""
    columns = {f"f{i}": np.where(np.arange(events) >= 10 * i, 1.0 + np.arange(events) % 7, np.nan) for i in range(12)}
    labels = obj([f"c{i % (1 + min(i // 30, 5))}" for i in range(events)])
    return columns, {"t0": labels}


@pytest.mark.parametrize("batch", [1, pytest.param(4, marks=pytest.mark.heavy)])
def test_one_compilation_a_doubling(batch):
    """Room for inputs goes from 2 to 16, for classes from 2 to 8: five doublings, each compiled once, whatever the cuts."""
    columns, labels = growing(240)
    learner = network(network=MLPSpec(units=(2,), skip=False), feature_capacity=2, class_capacity=2)
    seen = []
    for first in range(0, 240, 12):
        now = slice(first, first + 12)
        part = {n: c[now] for n, c in columns.items()}, {n: c[now] for n, c in labels.items()}
        drive(learner, *part, cuts=[5, 7] if batch == 1 else [12], batch=batch, start=first)
        seen.append((learner.compilations, sum(learner.growths.values())))
    assert learner.growths == {"features": 3, "classes": 2}
    assert all(compiled == 1 + grown for compiled, grown in seen)


def test_nothing_else_compiles():
    """Rates, a frozen network (rate 0), drift actions, gaps, unlabelled events and a new flag column are all inputs."""
    columns, score = numeric_stream(400)
    labels = {"t0": labels_of("multiclass", score)}
    learner = network(feature_capacity=16, class_capacity=4)
    drive(learner, columns, labels, cuts=[100])
    drive(learner, columns, {"t0": obj([None] * 400)}, cuts=[1])  # the first event without a label: its own operation
    known = learner.compilations
    assert known == 2
    columns["f0"][::3] = np.nan
    columns["f2"][:] = np.nan
    columns["late"] = np.where(np.arange(400) > 200, 5.0, np.nan)
    columns["kind"] = obj([f"k{i % 5}" for i in range(400)])
    labels["t0"][::4] = None
    for n, rate in enumerate((0.1, 0.0, 1e-9, 0.003)):
        drive(learner, columns, labels, cuts=[1, 7, 64, 328], rate=rate, start=400 * (n + 1))
        chunk = learner.encode({"f0": np.ones(1)}, {"t0": obj(["c0"])}, np.array([400 * (n + 2) - 1]))
        learner.run(chunk.rows, Operations.of([(LEARN, 0, 1)]), rate=rate, clear=True)  # what a drift makes it do
    assert learner.growths == {"features": 0, "classes": 0}
    assert learner.compilations == known
