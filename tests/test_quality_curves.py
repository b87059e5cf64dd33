"""Conditions under which labels come: none of them changes what is scored, each changes what is learned."""

import json
import statistics

import pytest

from pipeline.bench.quality.runs import Job
from pipeline.bench.quality.streams import given
from tests.benchmarks.quality import curves
from tests.benchmarks.quality.__main__ import main
from tests.benchmarks.quality.curves import Condition, Trial, key, run
from tests.benchmarks.quality.runs import run as run_job

CONDITIONS = (Condition(), Condition(delay=60), Condition(share=0.1), Condition(batch=64), Condition(delay=120))


@pytest.fixture
def stream(tmp_path):
    """Write 120 events whose label follows an input; returns the words that replay them."""
    lines = "".join(f"{i % 7},{(i * i) % 5},{'up' if i % 7 > 3 else 'down'}\n" for i in range(120))
    (tmp_path / "one.csv").write_text("a,b,way\n" + lines)
    return f"{tmp_path / 'one.csv'} --target way"


@pytest.mark.parametrize("learner", ["lite", "logistic"])
def test_conditions(stream, learner):
    """Labels that come at once give what `compare` gives; late, few or none are learned late, little or not at all."""
    job = Job(learner, given(stream), 120, 0)
    accuracy = {c: run(Trial(job, c))["accuracy"] for c in CONDITIONS}
    at_once, late, few, batched, never = accuracy.values()
    assert at_once == run_job(job)["accuracy"]
    assert late < at_once - 0.1
    assert few < at_once
    assert batched < at_once - 0.1
    assert never == (0.0 if learner == "lite" else pytest.approx(68 / 120, abs=0.2))


def test_table_and_picture(stream, tmp_path, capsys):
    """A row a learner, a column a condition, and a picture; the second time all of it comes from the cache."""
    words = ["curves", "--add", stream, "--streams", "none", "--rows", "120", "--learners", "majority"]
    main([*words, "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "out")])
    first = capsys.readouterr().out
    assert first.splitlines()[2].startswith("| one | majority | ")
    assert first.splitlines()[2].count("|") == 11
    assert (tmp_path / "out" / "one_curves.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "cache" / "results.jsonl").read_text()
    main([*words, "--cache", str(tmp_path / "cache")])
    assert capsys.readouterr().out == first
    assert (tmp_path / "cache" / "results.jsonl").read_text() == before


def test_several_seeds_are_one_table(stream, tmp_path, capsys):
    """Cells are means of seeds, and of the seeds' standard deviations there is a table of its own; seed 0 is run once."""
    words = ["curves", "--add", stream, "--streams", "none", "--rows", "120", "--learners", "logistic"]
    main([*words, "--cache", str(tmp_path / "cache")])
    capsys.readouterr()
    main([*words, "--cache", str(tmp_path / "cache"), "--seeds", "2"])
    told = capsys.readouterr()
    assert told.err.count("seed 0 ") == told.err.count("seed 1 ") == told.err.count("from the cache") == 8
    tables = [table.splitlines() for table in told.out.strip().split("\n\n")]
    assert [table[0].split(" | ")[0] for table in tables] == ["| accuracy", "| standard deviation"]
    lines = map(json.loads, (tmp_path / "cache" / "results.jsonl").read_text().splitlines())
    few = [line["result"]["accuracy"] for line in lines if line["key"]["condition"]["share"] == 0.1]
    assert len(set(few)) == 2
    at = tables[0][0].split(" | ").index("share 0.1")
    assert float(tables[0][2].split(" | ")[at]) == pytest.approx(statistics.mean(few), abs=1e-4)
    assert float(tables[1][2].split(" | ")[at]) == pytest.approx(statistics.pstdev(few), abs=1e-4)


def test_the_code_of_conditions_is_part_of_the_key(stream, tmp_path, monkeypatch):
    """A result of other conditions' code is not taken for one of this code."""
    trial = Trial(Job("logistic", given(stream), 120, 0), Condition(delay=60))
    before = key(trial)
    copy = tmp_path / "curves.py"
    copy.write_text("# other code")
    monkeypatch.setattr(curves, "__file__", str(copy))
    assert key(trial) != before
