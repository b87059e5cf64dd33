"""The report of a run: figures as JSON for programs, and a few lines for people.

In: a loop that has run. Out: a plain dict (`report`), a file written whole or not at all, and readable lines.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.assembly import Assembled, preset
from pipeline.join import LabelJoin
from pipeline.model import Model
from pipeline.scores import primary
from pipeline.settings import plain
from pipeline.steps import Arrivals
from pipeline.versions import versions
from streamnn.pool import PoolLearner

MOST_DROPPED = 6  # reasons shown to people

SHOWN = (
    "accuracy", "balanced_accuracy", "kappa", "kappa_temporal", "f1_micro", "f1_macro", "f1_example", "exact_match",
    "hamming", "jaccard", "log_loss", "roc_auc", "mae", "rmse", "r2",
)  # fmt: skip


class ReportError(ValueError):
    """A report cannot be written or read."""


def report(run: Assembled) -> dict[str, Any]:
    """Return the figures of a run; a value that is not defined is None.

    Keys: `events`, `learned`, `unlabelled`, `expired` (labels given up), `labels` (where they come on a topic of their own,
    how many by what became of them, see `pipeline.join`, and how many events and labels still wait), `dropped` {reason: count}, `seconds`,
    `events_per_second`, `task`, `metrics`, `metrics_by_target`, `metrics_window`, `baselines`, `drifts` (event numbers
    at which one was flagged), `drifts_acted` (where the learning rate was decided on), `learning_rate` [[event number,
    rate]], `curves` {metric: [[event number, overall, windowed]]}, `model`, `interrupted`, `config`, `versions`.
    """
    loop = run.loop
    counters, learner, scores = loop.counters, loop.parts.learner, loop.parts.scores
    seconds = counters.seconds
    figures: dict[str, Any] = _plain(
        {
            "events": counters.events,
            "learned": counters.learned,
            "unlabelled": counters.unlabelled,
            "expired": loop.parts.queue.expired,
            "labels": labels(loop.parts.queue),
            "dropped": dropped(counters.dropped),
            "seconds": round(seconds, 3),
            "events_per_second": round(counters.events / seconds, 1) if seconds > 0 else None,
            "task": run.resolved.task,
            "metrics": scores.metrics(),
            "metrics_by_target": scores.by_target(),
            "metrics_window": scores.window(),
            "baselines": scores.baselines(),
            "drifts": loop.control.drifts,
            "drifts_acted": loop.control.acted,
            "learning_rate": loop.control.rates,
            "curves": {name: [list(p) for p in points] for name, points in scores.history().items()},
            "model": {
                "preset": preset(run.config, run.resolved),
                "engine": learner.engine,
                "device": learner.device,
                "parameters": learner.parameters,
                "features": learner.features.names if learner.features.active <= 200 else learner.features.active,
                "classes": {t.name: list(learner.targets.classes(t.name)) for t in run.resolved.targets},
                "growths": learner.growths,
                "compilations": learner.compilations,
                "members": members(learner),
            },
            "interrupted": loop.interrupted,
            "config": plain(run.config),
            "versions": versions(),
        }
    )
    return figures


def labels(queue: Arrivals) -> dict[str, int]:
    """Return what became of labels that are records of their own; {} where none are."""
    if not isinstance(queue, LabelJoin):
        return {}
    return {**queue.counts, "events_waiting": len(queue), "labels_waiting": queue.early}


def members(learner: Model) -> dict[str, dict[str, list[float]]]:
    """Return, for each target, each member's weight in the hedge and in the stack; {} for a single network."""
    if not isinstance(learner, PoolLearner):
        return {}
    return {target: {name: list(w) for name, w in weights.items()} for target, weights in learner.weights.items()}


def dropped(counts: Mapping[str, int]) -> dict[str, int]:
    """Add "stage/reason" counts up by reason."""
    found: dict[str, int] = {}
    for kind, count in counts.items():
        reason = kind.partition("/")[2]
        found[reason] = found.get(reason, 0) + count
    return found


def write(path: Path, figures: Mapping[str, Any]) -> None:
    """Write a report as JSON; a reader sees the old file or the new one, never half of one.

    Raises:
        ReportError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1, ensure_ascii=False, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise ReportError(f"{path}: cannot write the report: {error.strerror}. Choose another path.") from error


def read(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        ReportError: it cannot be read, or is not a report.
    """
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path}: cannot read the report: {error.strerror}. Check the path.") from error
    except ValueError as error:
        raise ReportError(f"{path}: is not a report: {error}. Choose a file that --report wrote.") from error
    if not isinstance(figures, dict) or not isinstance(figures.get("metrics"), dict):
        raise ReportError(f"{path}: is not a report (it has no metrics). Choose a file that --report wrote.")
    return figures


def lines(figures: Mapping[str, Any]) -> list[str]:
    """Return a report for people."""
    rate = figures["events_per_second"]
    found = [
        f"{figures['events']:,} events in {figures['seconds']:,.1f} s"
        + (f" ({rate:,.0f} a second)" if rate else "")
        + f", {figures['learned']:,} learned"
        + (f", {figures['unlabelled']:,} without a label" if figures["unlabelled"] else "")
    ]
    if figures["dropped"]:
        listed = sorted(figures["dropped"].items(), key=lambda item: -item[1])
        told = ", ".join(f"{count:,} {reason}" for reason, count in listed[:MOST_DROPPED])
        more = f" and {len(listed) - MOST_DROPPED} more reasons" if len(listed) > MOST_DROPPED else ""
        found.append(f"{sum(figures['dropped'].values()):,} records could not be used: {told}{more}")
    if figures["labels"]:
        told = ", ".join(f"{count:,} {fate.replace('_', ' ')}" for fate, count in figures["labels"].items() if count)
        found.append(f"labels and events that they belong to: {told or 'none came'}")
    model = figures["model"]
    place = "" if model["device"] == "cpu" else f" on {model['device']}"
    found.append(
        f"model: {model['preset']}, {model['parameters']:,} weights, {model['engine']} engine{place};"
        f" {len(figures['drifts'])} drifts, learning rate {figures['learning_rate'][-1][1]:.4g}"
    )
    for target, weights in model["members"].items():
        carry = sorted(((w[0], name) for name, w in weights.items()), reverse=True)[:4]
        told = ", ".join(f"{name} {w:.0%}" for w, name in carry)
        found.append(f"who carries the prediction of {target}: {told}")
    found.append("")
    found += table(figures["metrics"], figures["baselines"])
    return found


def table(metrics: Mapping[str, float | None], baselines: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Lay metrics out beside those of the baselines, a line each."""
    names = [name for name in SHOWN if metrics.get(name) is not None]
    columns = ["model", *baselines]
    width = [max(10, len(c)) for c in columns]
    head = f"{'':20s}" + "".join(f"  {c:>{w}}" for c, w in zip(columns, width, strict=True))
    found = [head]
    for name in names:
        values = [metrics.get(name), *(b.get(name) for b in baselines.values())]
        cells = "".join(f"  {_cell(v):>{w}}" for v, w in zip(values, width, strict=True))
        found.append(f"{name:20s}{cells}")
    return found


def headline(task: str) -> str:
    """Name the metric that a report's task is judged by first."""
    kinds = {"multilabel": "multilabel", "regression": "regression", "multitarget": "multitarget"}
    return primary(kinds.get(task, "classification"))  # type: ignore[arg-type]


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.5g}"


def _plain(value: Any) -> Any:
    """Make JSON of it: what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
