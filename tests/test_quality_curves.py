"""Conditions under which labels come: none of them changes what is scored, each changes what is learned."""

import pytest

from pipeline.bench.quality.runs import Job
from pipeline.bench.quality.streams import given
from tests.benchmarks.quality.__main__ import main
from tests.benchmarks.quality.curves import Condition, Trial, run
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
