"""Engine, compiler and processor are in the checkpoint, and whoever goes on by others is told."""

import json
import os
from dataclasses import replace
from functools import cache

import pytest

from pipeline import computed
from pipeline.__main__ import main
from pipeline.computed import changes, computed_by
from streamnn.native.build import find_compiler
from tests.pipeline.helpers import write_csv

OTHER = "x86_64\nmodel name\t: A Processor\nflags\t\t: fpu avx9"


@pytest.fixture
def replay(tmp_path, caplog, monkeypatch):
    """Replay a little more of a stream from the last checkpoint; returns what was said of other means."""
    write_csv(tmp_path / "s.csv", 90)
    computed._processor.cache_clear()

    def more(limit, *settings):
        caplog.clear()
        words = ["replay", tmp_path / "s.csv", "--target", "y", "--quiet", "--resume", "--checkpoint", tmp_path / "ck"]
        words += ["--limit", limit, *(w for s in ("model.preset=lite", *settings) for w in ("--set", s))]
        assert main([str(word) for word in words]) == 0
        return [m for m in caplog.messages if "in the last bits" in m]

    yield more
    computed._processor.cache_clear()


def inspected(folder, capsys, *words):
    """What `streamnn inspect` prints."""
    capsys.readouterr()
    assert main(["inspect", str(folder), *words]) == 0
    return capsys.readouterr().out


def test_a_checkpoint_tells_by_what_it_was_computed(replay, tmp_path, capsys):
    """`streamnn inspect` shows engine, compiler (its version and command) and processor; as JSON all its flags too."""
    assert not replay(30)
    told = json.loads(inspected(tmp_path / "ck", capsys, "--json"))["state"]["computed_by"]
    assert told == computed_by("native", "cpu")
    assert told["engine"] == "native"
    assert told["compiler"].startswith(find_compiler(os.environ.get("CC")).version + " (")
    assert told["processor"]
    assert told["flags"]
    text = inspected(tmp_path / "ck", capsys)
    assert all(told[name][:50] in text for name in ("engine", "compiler", "processor")), text


def test_going_on_by_the_same_means_says_nothing_and_by_others_names_both(replay, monkeypatch, tmp_path, capsys):
    """One warning, whatever has changed, and no error; it does not come again once a checkpoint has been written since."""
    assert not replay(20)
    was = json.loads(inspected(tmp_path / "ck", capsys, "--json"))["state"]["computed_by"]
    assert not replay(30)
    (said,) = replay(40, "model.engine=eager")
    assert "engine: native in the checkpoint, eager now" in said
    assert "compiler: " + was["compiler"] + " in the checkpoint, none now" in said
    assert "processor" not in said
    assert not replay(50, "model.engine=eager")
    assert len(replay(60)) == 1
    updated = cache(lambda named: replace(find_compiler(named), version="cc 99"))
    monkeypatch.setattr(computed, "find_compiler", updated)
    monkeypatch.setattr(computed, "processor", lambda: OTHER)
    computed._processor.cache_clear()
    (said,) = replay(70)
    assert f"compiler: {was['compiler']} in the checkpoint, cc 99 (" in said
    assert f"processor: {was['processor']} in the checkpoint, x86_64, A Processor now" in said
    assert "engine" not in said
    assert said.endswith("avx9 only now")


def test_of_flags_only_those_that_differ_are_named():
    """A hundred flags that both have are not repeated."""
    before = {"processor": "p", "flags": "fpu sse avx"}
    assert changes(before, before) == []
    assert changes(before, {**before, "flags": "avx fpu sse"}) == []
    assert changes(before, {**before, "flags": "fpu sse avx2 avx512f"}) == [
        "flags: avx only in the checkpoint, avx2 avx512f only now"
    ]
    assert changes({}, before) == [], "a checkpoint may not tell"


def test_without_a_compiler_it_is_the_eager_engine(monkeypatch):
    """Engine auto would say native until it has tried."""

    def none(named):
        raise computed.CompilerError("none")

    monkeypatch.setattr(computed, "find_compiler", none)
    assert computed_by("native", "cpu") == computed_by("eager", "cpu")
    assert computed_by("eager", "cpu")["compiler"] == ""
