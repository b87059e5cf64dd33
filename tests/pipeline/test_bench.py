"""`streamnn bench`: tables of what was measured here, or a message that says why there are none."""

import re
import sys

import pytest

from pipeline.bench import command
from pipeline.bench.deep_river import AbsentError, beside
from pipeline.bench.replays import Replay
from pipeline.bench.timing import Rate, Side, measure
from tests.pipeline.helpers import streamnn

SIDES = {
    "native", "C by hand", "our eager engine", "PyTorch", "best, native", "fast, native", "best, NumPy", "streamnn, single",
    "streamnn, fast", "streamnn, best", "river, logistic regression", "river, Hoeffding tree", "river, random forest (ARF)",
    "deep-river", "deep-river, network",
}  # fmt: skip

DEEP_RIVER = """
from river import base

class Classifier(base.Classifier):
    def __init__(self, module, loss_fn, optimizer_fn, lr, is_class_incremental):
        self.module = module
    def predict_proba_one(self, x):
        return {"1": 1.0}
    def learn_one(self, x, y):
        pass
"""


@pytest.mark.heavy
def test_every_side_is_measured(tmp_path):
    """In its shortest form it prints a positive rate for each side, whole lines in a pipe, and the machine."""
    library = tmp_path / "peers" / "deep_river" / "deep_river"
    library.mkdir(parents=True)
    (library / "__init__.py").touch()
    (library / "classification.py").write_text(DEEP_RIVER)
    home = tmp_path / "home"
    home.mkdir()
    words = ("--rounds", 1, "--seconds", 0.01, "--rows", 5000)
    out = streamnn("bench", *words, cwd=home, check=0, STREAMNN_PEERS=str(tmp_path / "peers")).stdout
    assert re.match(r".+, \d+ cores .*\nPython .* torch \d", out)
    cells = [re.split(r"  +", line) for line in out.splitlines()]
    found = {
        name: [float(cell.replace(",", "")) for cell in more]
        for name, *more in cells
        if name and more and name[0] != " "
    }
    assert found.keys() == SIDES
    assert min(min(figures) for figures in found.values()) > 0
    assert found["native"][-1] == found["best, native"][-1] == found["streamnn, single"][-3] == 1
    assert all(0.5 < figures[-1] < 1 for name, figures in found.items() if name.startswith(("streamnn", "river")))
    assert not list(home.iterdir())


def test_tables_fit_a_terminal(tmp_path, monkeypatch, capsys):
    """Large rates are shown whole in 100 columns, ratios are of medians, and it is said how to get what is missing."""
    fast, slow = Rate(900_000, 888_888, 999_999), Rate(1000, 500, 2000)
    monkeypatch.setenv("STREAMNN_PEERS", str(tmp_path))
    monkeypatch.setattr(command, "step", lambda *_: {"native": fast, "PyTorch": slow})
    monkeypatch.setattr(command, "pool", lambda *_: {"best, native": slow, "best, NumPy": fast})
    sides = {"streamnn, single": fast, "streamnn, best": slow, "river, random forest (ARF)": fast}
    monkeypatch.setattr(
        command, "replays", lambda *_: {name: Replay(20_000, rate, 0.75) for name, rate in sides.items()}
    )
    command.bench(rounds=1, seconds=1, rows=5000)
    head, _, rest = capsys.readouterr().out.partition("Without deep-river: ")
    lines = [*head.splitlines()[2:], *rest.splitlines()[1:]]  # names of processors and folders may be longer
    assert "  export STREAMNN_PEERS=$PWD/peers" in lines
    assert [line for line in lines if len(line) > 100 or line != line.rstrip()] == []
    assert [line.split() for line in lines if line.startswith("PyTorch")] == 2 * [
        ["PyTorch", "1,000", "500", "2,000", "900"]
    ]
    (forest,) = (line for line in lines if "forest" in line)
    assert forest.split()[-3:] == ["1.00", "0.00", "0.750"]


def test_without_deep_river_there_is_a_reason(tmp_path, monkeypatch):
    """Where its folder is missing, or it cannot be imported, it is said why; it may be left out."""
    monkeypatch.setenv("STREAMNN_PEERS", str(tmp_path))
    with pytest.raises(AbsentError, match="no folder deep_river"), beside():
        pass
    (tmp_path / "deep_river").mkdir()
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho Traceback >&2\necho ModuleNotFoundError: river.none >&2\nexit 1\n")
    python.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(AbsentError, match=r"^ModuleNotFoundError: river\.none$"), beside():
        pass
    monkeypatch.delenv("STREAMNN_PEERS")
    with pytest.raises(AbsentError, match="not installed"), beside():
        pass


def test_without_a_compiler_there_is_nothing_to_compare(tmp_path):
    """It says so, with the remedy, instead of measuring one side."""
    done = streamnn("bench", cwd=tmp_path, check=2, CC="/no/such/compiler")
    assert "install gcc or clang" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(("flag", "value"), [("--rounds", "0"), ("--seconds", "0"), ("--rows", "10")])
def test_numbers_are_checked(flag, value, tmp_path):
    """A number out of range is named."""
    assert flag in streamnn("bench", flag, value, cwd=tmp_path, check=2).stderr


def test_sides_take_turns_and_their_median_counts():
    """Each side is called once untimed, then in every round before any is called again."""
    calls = []
    sides = {name: Side(lambda n, name=name: calls.append((name, n)), n) for name, n in (("a", 3), ("b", 5))}
    found = measure(sides, rounds=3, seconds=0)
    assert calls == [("a", 3), ("b", 5)] * 4
    assert all(0 < r.lowest <= r.median <= r.highest for r in found.values())
