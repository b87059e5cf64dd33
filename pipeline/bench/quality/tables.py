"""From results to Markdown tables.

A metric a table, a row a stream, a column a learner, mean ranks at the end; or along one stream: a row a learner, a column a
tenth of the stream.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.bench.quality.ranks import mean_ranks
from pipeline.bench.quality.runs import Job

HIGH_IS_GOOD = dict.fromkeys(
    ("accuracy", "kappa", "kappa_temporal", "f1_micro", "f1_example", "f1_macro", "exact_match"), True
)
METRICS = {
    "classification": ("accuracy", "kappa", "kappa_temporal", "log_loss", "seconds_per_event", "memory_mib"),
    "multilabel": (
        *("f1_micro", "f1_example", "f1_macro", "exact_match", "hamming_loss"),
        *("seconds_per_event", "memory_mib"),
    ),
    "regression": ("mae", "rmse", "seconds_per_event", "memory_mib"),
}
WINDOWED = {
    "classification": "accuracy",
    "multilabel": "f1_example",
    "regression": "mae",
}  # what `windows` of a result hold
TENTHS = 10
UNITS = {"seconds_per_event": ("microseconds an event", 1e6), "memory_mib": ("memory, MiB", 1.0)}

Values = dict[str, list[float]]


def collect(
    results: Mapping[Job, dict[str, Any]], streams: Sequence[str], learners: Sequence[str], metric: str
) -> Values:
    """Return learner -> [S] means over seeds, for the learners that have the metric on every stream."""
    values: Values = {}
    for learner in learners:
        row = []
        for stream in streams:
            found = [
                result.get(metric)
                for job, result in results.items()
                if (job.learner, job.stream.name) == (learner, stream)
            ]
            known = [value for value in found if value is not None]
            if known and len(known) == len(found):
                row.append(statistics.mean(known))
        if len(row) == len(streams):
            values[learner] = row
    return values


def table(values: Values, streams: Sequence[str], events: Sequence[int], metric: str) -> list[str]:
    """Return a Markdown table; the best of each row is bold, and the last row holds the mean ranks."""
    title, scale = UNITS.get(metric, (metric.replace("_", "-"), 1.0))
    high = HIGH_IS_GOOD.get(metric, False)
    names = list(values)
    lines = [f"| {title} | events | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for i, stream in enumerate(streams):
        row = [values[name][i] * scale for name in names]
        best = max(row) if high else min(row)
        cells = [f"**{_short(v)}**" if v == best and metric not in UNITS else _short(v) for v in row]
        lines.append(f"| {stream} | {events[i]:,} | {' | '.join(cells)} |")
    ranks = mean_ranks(values, high_is_good=high)
    lines.append(f"| mean rank | | {' | '.join(f'{ranks[name]:.2f}' for name in names)} |")
    return lines


def windowed(
    results: Mapping[Job, dict[str, Any]], stream: str, learners: Sequence[str], metric: str, events: int
) -> list[str]:
    """Return a Markdown table of one stream: the metric of each tenth, means over seeds; the best of each is bold.

    A tenth is two of the 20 windows of a result, so that two may differ by two events; of a stream with fewer events than
    20 there are fewer columns.

    Args:
        results: all results.
        stream: its name.
        learners: the rows; each has a result of the stream.
        metric: a value of `WINDOWED`.
        events: length of the stream.
    """
    found = {
        name: [r["windows"] for job, r in results.items() if (job.learner, job.stream.name) == (name, stream)]
        for name in learners
    }
    windows = len(next(iter(found.values()))[0])
    sizes = np.array([len(part) for part in np.array_split(np.arange(events), windows)])
    pairs = np.array_split(np.arange(windows), min(TENTHS, windows))
    ends = np.cumsum([sizes[pair].sum() for pair in pairs])
    sizes[0] -= metric == "mae"  # the first value is scored for nobody
    values = {
        name: [float(np.average(np.mean(runs, axis=0)[pair], weights=sizes[pair])) for pair in pairs]
        for name, runs in found.items()
    }
    pick = max if HIGH_IS_GOOD.get(metric, False) else min
    best = [pick(column) for column in zip(*values.values(), strict=True)]
    heads = " | ".join(f"to {end:,}" for end in ends)
    lines = [f"| {metric.replace('_', '-')} on {stream} | {heads} |", "|---" * (len(pairs) + 1) + "|"]
    for name, row in values.items():
        cells = [f"**{_short(v)}**" if v == least else _short(v) for v, least in zip(row, best, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.4f}"
