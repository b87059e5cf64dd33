"""Compiling ahead: sizes of micro-batches that come later are ready, and nothing but the waiting changes."""

import gc
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native import CompilerError, engine
from streamnn.native.ahead import Ahead
from streamnn.networks import MLPSpec
from streamnn.operations import Kind, Operations
from tests.streamnn.helpers import labels_of, numeric_stream, same_state

NONE = frozenset()


class Made:
    """Stands for a program."""

    def __init__(self, kinds):
        self.kinds = kinds


def learner(**settings):
    """A tiny network."""
    targets = (TargetSpec("t0", "binary"),)
    return Learner(LearnerSpec(targets=targets, network=MLPSpec(units=(3,), dropout=0.1), engine="native", **settings))


def play(made, sizes, *, after=lambda: None):
    """Learn micro-batches of these sizes; returns what was served."""
    columns, score = numeric_stream(sum(sizes), features=3)
    labels, first, served = labels_of("binary", score), 0, []
    for size in sizes:
        now = slice(first, first + size)
        number = np.arange(first, first + size)
        chunk = made.encode({n: c[now] for n, c in columns.items()}, {"t0": labels[now]}, number, batch=1000)
        done = made.run(chunk.rows, Operations.of([(Kind.PREDICT_LEARN, 0, size)]), rate=0.01)
        served.append(done.served)
        first += size
        after()
    return np.concatenate(served)


def test_other_sizes_are_compiled_in_the_background(monkeypatch):
    """After the first micro-batch of up to 8, the thread of the loop compiles no more, and no bit differs."""
    compiled, real = [], engine.compile_step

    def noted(step, state, kinds, size, **more):
        compiled.append((threading.current_thread() is threading.main_thread(), size))
        return real(step, state, kinds, size, **more)

    sizes = (3, 8, 1, 5, 2, 8)
    plain = learner()
    want = play(plain, sizes)
    monkeypatch.setattr(engine, "compile_step", noted)
    made = learner(batch=8, foresee=True)
    got = play(made, sizes, after=lambda: made._native._ahead.settle())
    assert compiled == [(True, 4), (False, 8), (False, 2), (False, 1)]
    np.testing.assert_array_equal(got, want)
    assert same_state(made, plain)
    assert made.compilations == plain.compilations == 4


def test_results_do_not_wait_for_the_background():
    """Without any time between micro-batches the results are the same."""
    sizes = (4, 2, 1, 4, 3)
    plain, made = learner(), learner(batch=4, foresee=True)
    np.testing.assert_array_equal(play(made, sizes), play(plain, sizes))
    assert same_state(made, plain)


def test_what_is_begun_is_waited_for_and_what_is_not_is_left_to_the_caller():
    """While size 8 is being compiled, size 4 is nobody's yet; whoever takes size 8 gets it when it is finished."""
    begun, finish = threading.Event(), threading.Event()

    def compile_size(size, kinds, given_up):
        begun.set()
        assert finish.wait(20)
        return Made(kinds)

    ahead = Ahead(compile_size)
    ahead.ask([8, 4], frozenset({0}))
    assert begun.wait(20)
    assert ahead.take(4, frozenset({0})) is None
    assert ahead.take(8, frozenset({0, 1})) is None  # the one that comes would not do
    threading.Timer(0.1, finish.set).start()
    assert ahead.take(8, frozenset({0})).kinds == {0}
    ahead.settle()
    assert ahead.take(4, frozenset({0})) is None  # it was taken out of the list


def test_an_error_is_left_to_the_caller():
    """A compiler that fails in the background is met again, and told, by whoever needs the program."""

    def compile_size(size, kinds, given_up):
        if size == 8:
            raise CompilerError("no room")
        return Made(kinds)

    ahead = Ahead(compile_size)
    ahead.ask([8, 4], NONE)
    ahead.settle()
    assert ahead.take(8, NONE) is None
    assert ahead.take(4, NONE) is not None


def test_nothing_is_compiled_for_a_learner_that_is_gone(monkeypatch):
    """Once nobody has the learner any more, what is left of the list is dropped."""
    seen, first, go_on = [], threading.Event(), threading.Event()
    real = engine.compile_step

    def slow(step, state, kinds, size, **more):
        if threading.current_thread() is threading.main_thread():
            return real(step, state, kinds, size, **more)
        seen.append(size)
        first.set()
        assert go_on.wait(20)
        raise CompilerError("given up")

    monkeypatch.setattr(engine, "compile_step", slow)
    made = learner(batch=16, foresee=True)
    play(made, (2,))
    ahead = made._native._ahead
    assert first.wait(20)
    del made
    gc.collect()
    go_on.set()
    ahead.settle()
    assert seen == [16]


def test_a_doubling_leaves_nothing_that_was_compiled_before():
    """Once a capacity has doubled, the program of the smaller one is gone, and what compiled ahead for it."""
    made, left = learner(foresee=True), []
    for features in (3, 9):
        chunk = made.encode(
            {f"f{i}": np.ones(1) for i in range(features)}, {"t0": np.array([True], dtype=object)}, np.zeros(1, int)
        )
        made.run(chunk.rows, Operations.of([(Kind.PREDICT_LEARN, 0, 1)]), rate=0.01)
        native = made._native
        left.append([weakref.ref(one) for one in (native._ahead, *native._programs.values())])
    gc.collect()
    assert [[one() is None for one in listed] for listed in left] == [[True, True], [False, False]]


SLOW = """#!{python}
import os, sys, time
if "--version" in sys.argv:
    print("slow compiler")
elif os.path.exists({mark!r}):
    time.sleep(600)
else:
    open({mark!r}, "w").close()
    os.execvp("cc", ["cc", *sys.argv[1:]])
"""
SHORT = """
from tests.streamnn.native.test_ahead import learner, play
made = learner(batch=64, foresee=True)
play(made, (4,))
"""


@pytest.mark.timeout(120)
def test_the_process_ends_without_waiting_for_the_compiler(tmp_path, monkeypatch):
    """At its end a compiler that still runs in the background is stopped, and nothing half written stays."""
    slow = tmp_path / "slow"
    slow.write_text(SLOW.format(python=sys.executable, mark=str(tmp_path / "mark")))
    slow.chmod(0o700)
    cache = tmp_path / "cache"
    monkeypatch.setenv("CC", str(slow))
    monkeypatch.setenv("STREAMNN_CACHE", str(cache))
    done = subprocess.run([sys.executable, "-c", SHORT], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(cache.glob("build-*"))
