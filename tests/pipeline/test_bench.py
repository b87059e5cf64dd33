"""`streamnn bench`: tables of what was measured here, or a message that says why there are none."""

import re

import pytest

from pipeline.bench.timing import Side, measure
from tests.pipeline.helpers import streamnn

SIDES = {
    "native", "our eager engine", "PyTorch", "best, native", "fast, native", "best, NumPy", "streamnn, single",
    "streamnn, fast", "streamnn, best", "river, logistic regression", "river, Hoeffding tree",
}  # fmt: skip


@pytest.mark.heavy
def test_every_side_is_measured(tmp_path):
    """In its shortest form it prints a positive rate for each side, whole lines in a pipe, and the machine."""
    out = streamnn("bench", "--rounds", 1, "--seconds", 0.01, "--rows", 5000, cwd=tmp_path, check=0).stdout
    assert re.match(r".+, \d+ cores .*torch \d", out)
    found = re.findall(r"^(\S.*?)  +(?:[\d,]+  +)?([\d,]+)  +[\d,]+ - [\d,]+", out, re.MULTILINE)
    assert {name for name, _ in found} == SIDES
    assert all(int(rate.replace(",", "")) > 0 for _, rate in found)
    assert all(0.5 < float(a) < 1 for a in re.findall(r"(0\.\d{4})$", out, re.MULTILINE))
    assert not list(tmp_path.iterdir())


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
