"""The beginnings of recorded streams with the default configuration: each beats its baseline."""

import json
from dataclasses import replace

import pytest

from pipeline.__main__ import main
from pipeline.scores import higher_is_better
from tests.recorded import STREAMS, stream


def replay(recorded, tmp_path, *more):
    """Replay a stream; returns the report."""
    report = tmp_path / "report.json"
    words = ["replay", str(stream(recorded.name)), *recorded.words, "--report", str(report), "--quiet", *more]
    assert main(words) == 0
    return json.loads(report.read_text())


def beats(figures, recorded):
    """Tell whether the model is better than the baseline in the stream's metric."""
    got = figures["metrics"][recorded.metric]
    baseline = figures["baselines"][recorded.baseline][recorded.metric]
    return (got > baseline) == higher_is_better(recorded.metric) and got != baseline


@pytest.mark.parametrize("recorded", STREAMS, ids=lambda r: r.name)
def test_beginning_of_a_recorded_stream(recorded, tmp_path):
    """The first 5,000 events finish and beat the baseline."""
    words = [w for w in recorded.words if w not in ("--limit", "100000")]
    short = replace(recorded, words=tuple(words))
    figures = replay(short, tmp_path, "--limit", "5000")
    assert figures["events"] > 500
    assert beats(figures, short), (figures["metrics"], figures["baselines"])
