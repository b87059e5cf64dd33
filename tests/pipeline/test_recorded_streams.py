"""Recorded streams with the default configuration: each beats its baseline, and values are never worse than any."""

import json
import math
from dataclasses import replace

import pytest

from pipeline.__main__ import main
from pipeline.scores import higher_is_better
from tests.benchmarks.quality.streams import REGRESSION
from tests.recorded import STREAMS, Recorded, stream


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


@pytest.mark.heavy
@pytest.mark.parametrize("recorded", STREAMS, ids=lambda r: r.name)
def test_whole_recorded_stream(recorded, tmp_path):
    """The whole stream, or its first 100,000 events, finishes, beats the baseline, and is as good as it has been."""
    figures = replay(recorded, tmp_path, "--limit", "100000")
    assert sum(figures["dropped"].values()) == 0
    assert beats(figures, recorded), (figures["metrics"], figures["baselines"])
    sign = 1 if higher_is_better(recorded.metric) else -1
    assert math.isnan(recorded.bound) or sign * (figures["metrics"][recorded.metric] - recorded.bound) >= 0, figures[
        "metrics"
    ]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "words", "metric"), REGRESSION, ids=[f"{name}-{words[1]}" for name, words, _ in REGRESSION]
)
def test_no_baseline_is_nearer_to_values(name, words, metric, tmp_path):
    """Neither the mean nor the last value, nor the last of the same category by whichever field, is nearer than the default."""
    figures = replay(Recorded(name, words, metric, "last"), tmp_path)
    for baseline, found in figures["baselines"].items():
        assert figures["metrics"][metric] <= found[metric], baseline
    categorical = [n for n in figures["model"]["features"] if "=" in n]
    assert ("last_of_category" in figures["baselines"]) == bool(categorical)
