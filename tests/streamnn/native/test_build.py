"""Finding a compiler, and the libraries kept on disk: what is loaded, what is built again, who may read it."""

import ctypes
import os
import shlex
import shutil
import stat
import sys
import threading
import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.native import CompilerError, build
from streamnn.networks import MLPSpec
from streamnn.pool import PoolLearner, PoolSpec
from streamnn.pool.engines import PARTS
from streamnn.pool.native import library as pool_library
from tests.streamnn.helpers import drive, labels_of, numeric_stream

SOURCE = "int f(void) { return 41; }\n"
REMEDY = r"install gcc or clang, or ziglang with pip \(the extra `compiler`\), or set CC"


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache of this test alone, and compilers looked for again."""
    monkeypatch.setenv("STREAMNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CC", raising=False)
    build.find_compiler.cache_clear()
    yield
    build.find_compiler.cache_clear()


def hide(monkeypatch, tmp_path, *, wheel=True):
    """Leave no compiler on the path, and hide the wheel's too."""
    empty = tmp_path / "empty"
    (empty / "ziglang").mkdir(parents=True)
    (empty / "ziglang" / "__init__.py").write_text("")  # a package that cannot be run
    monkeypatch.setenv("PATH", str(empty))
    if wheel:
        monkeypatch.setenv("PYTHONPATH", str(empty))


def kept(name="*.so"):
    """The one library in the cache."""
    (path,) = build.cache_folder().glob(name)
    return path


def answer(loaded):
    """What the library's function says."""
    return loaded[0].f()


def network(**settings):
    """A tiny learner."""
    targets = (TargetSpec("t0", "binary"),)
    return Learner(LearnerSpec(targets=targets, network=MLPSpec(units=(3,)), **settings))


def learn(learner, events=12, *, cuts=(4, 4, 4)):
    """Let it learn a few events in several calls."""
    columns, score = numeric_stream(events, features=3)
    served, _ = drive(learner, columns, {"t0": labels_of("binary", score)}, cuts=cuts)
    assert np.isfinite(served[1:]).all()


def test_a_library_is_built_once_and_kept_for_its_user_alone():
    """The second load takes the file of the first; folder and files are private, and the source lies beside them."""
    loaded = build.load(SOURCE)
    assert (answer(loaded), loaded[1]) == (41, True)
    again = build.load(SOURCE)
    assert (answer(again), again[1]) == (41, False)
    folder = build.cache_folder()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert sorted(p.suffix for p in folder.iterdir()) == [".c", ".sha256", ".so"], "nothing half written is left over"
    assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
    assert kept("*.c").read_text() == SOURCE


def _write(path, data):
    path.unlink()  # this process has the old file loaded, and would die at its end if that lost its bytes
    path.write_bytes(data)


def _truncate(path):
    _write(path, path.read_bytes()[:1000])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    _write(path, data)


def _unseal(path):
    path.with_suffix(".sha256").unlink()


def _open(path):
    path.chmod(0o620)


def _link(path):
    path.rename(path.with_suffix(".elsewhere"))
    path.symlink_to(path.with_suffix(".elsewhere"))


def _give(path):
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65534, -1)


@pytest.mark.parametrize("harm", [_truncate, _flip, _unseal, _open, _link, _give])
def test_a_damaged_or_foreign_library_is_built_again_and_never_loaded(harm, tmp_path, monkeypatch):
    """Another's library under the right name is never run: the function answers what the source says."""
    build.load(SOURCE)
    name = kept().name
    monkeypatch.setenv("STREAMNN_CACHE", str(tmp_path / "other"))
    build.load(SOURCE.replace("41", "666"))
    foreign = kept()
    for suffix in (".so", ".sha256"):  # sealed as ours are: only what `harm` does to it gives it away
        foreign.with_suffix(suffix).rename(foreign.with_name(name).with_suffix(suffix))
    foreign.with_suffix(".c").unlink()
    harm(foreign.with_name(name))
    loaded = build.load(SOURCE)
    assert (answer(loaded), loaded[1]) == (41, True)
    again = build.load(SOURCE)
    assert (answer(again), again[1]) == (41, False)


def test_flags_in_cc_make_another_library(monkeypatch):
    """CC may hold flags; what was built with others is not taken for it."""
    source = "int f(void) { return N; }\n"
    for number in (1, 2):
        monkeypatch.setenv("CC", f"cc -DN={number}")
        loaded = build.load(source)
        assert (answer(loaded), loaded[1]) == (number, True)


def _other_flags(monkeypatch):
    return {"flags": build.STRICT}


def _other_version(monkeypatch):
    updated = replace(build.find_compiler(None), version="the same compiler, updated")
    monkeypatch.setattr(build, "find_compiler", cache(lambda named: updated))
    return {}


def _other_processor(monkeypatch):
    monkeypatch.setattr(build, "processor", lambda: "x86_64\nmodel name\t: another\nflags\t\t: fpu avx9")
    return {}


@pytest.mark.parametrize("change", [_other_flags, _other_version, _other_processor])
def test_whatever_shapes_the_code_makes_another_library(change, monkeypatch):
    """Other flags, another version of the compiler and another processor: what was built before is not taken for it."""
    build.load(SOURCE)
    first = kept()
    given = change(monkeypatch)
    for built in (True, False):
        loaded = build.load(SOURCE, **given)
        assert (answer(loaded), loaded[1]) == (41, built)
    assert len({*build.cache_folder().glob("*.so")} - {first}) == 1


def _open_folder(folder):
    folder.chmod(0o770)


def _anybody_s_folder(folder):
    folder.chmod(0o1777)


@pytest.mark.parametrize("harm", [_open_folder, _anybody_s_folder, _give])
def test_a_folder_that_others_may_write_in_is_not_used(harm, tmp_path, monkeypatch, caplog):
    """Nothing in it is loaded or changed, its permissions neither; every process builds for itself, and is told once why."""
    build.load(SOURCE)
    folder = tmp_path / "cache"
    files = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    harm(folder)
    mode = folder.stat().st_mode
    build._tell.cache_clear()
    for _ in range(2):
        loaded = build.load(SOURCE)
        assert (answer(loaded), loaded[1]) == (41, True)
    assert folder.stat().st_mode == mode
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == files
    (said,) = caplog.messages
    assert f"other users may write in the cache folder {folder}; " in said
    assert "set STREAMNN_CACHE to another folder" in said


def test_cc_is_the_compiler_that_is_used(tmp_path, monkeypatch):
    """A script named by CC is called, and nothing else."""
    script, log = tmp_path / "my cc", tmp_path / "log"
    real = shutil.which("cc")
    script.write_text(f'#!/bin/sh\necho "$@" >> {shlex.quote(str(log))}\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", shlex.quote(str(script)))
    assert answer(build.load(SOURCE)) == 41
    asked, built = log.read_text().splitlines()
    assert asked == "--version"
    assert "-shared" in built


@pytest.mark.parametrize("named", ["/no/such/compiler", "false"])
def test_a_cc_that_does_not_answer_is_named(named, monkeypatch):
    """If CC cannot be used, nothing is used in its place, and the message says what was tried and what to do."""
    monkeypatch.setenv("CC", named)
    with pytest.raises(CompilerError, match=rf"tried {named}\); {REMEDY}"):
        build.load(SOURCE)


def test_a_compiler_that_refuses_the_source_is_quoted():
    """The message holds the compiler's words; nothing is left in the cache."""
    with pytest.raises(CompilerError, match=r"(?s)failed: .*error"):
        build.load("int f(void) { return }")
    assert not list(build.cache_folder().iterdir())


def test_without_a_place_to_keep_it_a_library_is_built_for_this_process(tmp_path, monkeypatch):
    """A cache folder that cannot be made costs a compilation every time, no more."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STREAMNN_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        loaded = build.load(SOURCE)
        assert (answer(loaded), loaded[1]) == (41, True)


def test_what_killed_builds_left_is_removed_an_hour_later():
    """A folder of a build that was killed goes with the next build; one that may still be going on stays."""
    folder = build.cache_folder()
    for name, age_s in (("build-old", build.LEFT_S + 60), ("build-new", build.LEFT_S - 60)):
        (folder / name).mkdir()
        (folder / name / "step.c").write_text(SOURCE)
        moment = time.time() - age_s
        os.utime(folder / name, (moment, moment))
    assert answer(build.load(SOURCE)) == 41
    assert [path.name for path in folder.glob("build-*")] == ["build-new"]
    assert kept().exists()


def test_threads_that_build_the_same_library_at_once_all_get_it():
    """Files appear whole under their names: eight builders at once never see half of another's."""
    said, begin = [], threading.Barrier(8)

    def work():
        begin.wait()
        said.append(answer(build.load(SOURCE)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert said == [41] * 8
    assert build.load(SOURCE)[1] is False


def test_without_a_compiler_a_network_learns_eagerly_and_says_so_once(tmp_path, monkeypatch):
    """Engine auto warns one time with compilers tried and remedy, and learns on; native is an error with the same words."""
    hide(monkeypatch, tmp_path)
    learner = network()
    with pytest.warns(RuntimeWarning, match=f"running eagerly.*tried.*{REMEDY}") as warned:
        learn(learner)
    assert len(warned) == 1
    assert learner.engine == "eager"
    with pytest.raises(CompilerError, match=REMEDY):
        learn(network(engine="native"))


def _learned_pool():
    pool = PoolLearner(PoolSpec(targets=(TargetSpec("t0", "binary"),), preset="lite"))
    learn(pool)
    return pool


def test_without_a_compiler_the_pool_learns_in_numpy_and_says_so_once(tmp_path, monkeypatch):
    """The same for the default model."""
    hide(monkeypatch, tmp_path)
    pool_library.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=f"in NumPy.*{REMEDY}") as warned:
            pool = _learned_pool()
        assert len(warned) == 1
        assert pool.engine == "eager"
    finally:
        pool_library.cache_clear()


def test_the_wheel_s_compiler_is_used_where_there_is_none_on_the_path(tmp_path, monkeypatch):
    """With nothing on the path the extra's compiler builds a network that learns as the system's compiler has it learn."""
    pytest.importorskip("ziglang", reason="the extra `compiler` is not installed")
    usual = network(engine="native", dtype="float64")
    learn(usual)
    hide(monkeypatch, tmp_path, wheel=False)
    monkeypatch.setenv("STREAMNN_CACHE", str(tmp_path / "zig"))
    build.find_compiler.cache_clear()
    assert build.find_compiler(None).command == (sys.executable, "-m", "ziglang", "cc")
    by_wheel = network(engine="native", dtype="float64")
    learn(by_wheel)
    assert by_wheel.engine == "native"
    for part, tensors in usual.state.items():
        for name, t in tensors.items():
            np.testing.assert_allclose(by_wheel.state[part][name], t, rtol=1e-9, atol=1e-12, err_msg=f"{part}.{name}")


@pytest.mark.heavy
def test_the_wheel_s_compiler_builds_the_pool(tmp_path, monkeypatch):
    """The pool's C is accepted by it too."""
    pytest.importorskip("ziglang", reason="the extra `compiler` is not installed")
    hide(monkeypatch, tmp_path, wheel=False)
    pool_library.cache_clear()
    try:
        assert all(isinstance(pool_library(name), ctypes.CDLL) for name in PARTS)
    finally:
        pool_library.cache_clear()
