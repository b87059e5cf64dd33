"""Replay tests: conditions on the change of a metric."""

import pytest

from pipeline.compare import compare, parse
from pipeline.report import ReportError

OLD = {"metrics": {"accuracy": 0.9, "log_loss": 0.3, "kappa": None, "mae": 0.0}, "events": 100}


def new(**metrics):
    """A later report."""
    return {"metrics": {**OLD["metrics"], **metrics}, "events": 100}


@pytest.mark.parametrize(
    ("condition", "accuracy", "fails"),
    [
        ("accuracy < -0.005", 0.894, True),
        ("accuracy < -0.005", 0.896, False),
        ("accuracy<=-0.1", 0.95, False),
        ("accuracy < -1%", 0.88, True),
        ("accuracy < -1%", 0.895, False),
        ("accuracy > 1e-2", 0.92, True),
        ("accuracy >= 0", 0.9, True),
    ],
)
def test_conditions(condition, accuracy, fails):
    """The change (new minus old, or in percent of the old) is compared with the limit."""
    found = compare(OLD, new(accuracy=accuracy), [parse(condition)])
    assert bool(found.failed) == fails
    assert all("accuracy changed by" in line for line in found.failed)


def test_lines_tell_better_from_worse():
    """A rise of accuracy is better, a rise of log-loss worse, and what is undefined is left out."""
    found = "\n".join(compare(OLD, new(accuracy=0.91, log_loss=0.31), []).lines)
    assert "accuracy" in found
    assert "+0.01 better" in found
    assert "worse" in found
    assert "kappa" not in found


def test_streams_of_different_length_are_noted():
    """A comparison of unequal streams says so."""
    found = compare(OLD, {**new(), "events": 90}, [])
    assert "100 events before, 90 now" in found.lines[-1]


@pytest.mark.parametrize("text", ["accuracy", "accuracy == 1", "< 3", "accuracy < x", ""])
def test_malformed_conditions_are_explained(text):
    """A condition that is none shows what one looks like."""
    with pytest.raises(ReportError, match="expected METRIC < NUMBER"):
        parse(text)


def test_unknown_or_undefined_metrics_are_refused():
    """A condition on a metric that a report lacks never passes silently."""
    with pytest.raises(ReportError, match=r"no value of acuracy; it has .*Did you mean accuracy\?"):
        compare(OLD, new(), [parse("acuracy < 0")])
    with pytest.raises(ReportError, match="the earlier report has no value of kappa"):
        compare(OLD, new(kappa=0.5), [parse("kappa < 0")])
    with pytest.raises(ReportError, match="no percentage"):
        compare(OLD, new(mae=1.0), [parse("mae > 1%")])
