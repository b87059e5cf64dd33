"""A replay test: two reports of the same stream side by side, and a condition that fails it.

In: an earlier report, the new one, conditions such as "accuracy < -0.005" (the new value minus the old). Out: readable
lines, and the conditions that hold.
"""

import difflib
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.report import ReportError
from pipeline.scores import higher_is_better

_CONDITION = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*(%?)\s*")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Condition:
    """Fails a comparison when the change of a metric satisfies it.

    Attributes:
        metric: name.
        sign: <, <=, > or >=.
        limit: what the change is compared with.
        relative: the change is in percent of the old value.
    """

    metric: str
    sign: str
    limit: float
    relative: bool

    def holds(self, change: float) -> bool:
        """Tell whether the change satisfies the condition."""
        return _COMPARE[self.sign](change, self.limit)

    def __str__(self) -> str:
        return f"{self.metric} {self.sign} {self.limit:g}{'%' if self.relative else ''}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The outcome: lines to print, and the conditions that failed it."""

    lines: list[str]
    failed: list[str]


def parse(text: str) -> Condition:
    """Read a condition.

    Raises:
        ReportError: it is not one.
    """
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise ReportError(
            f"--fail-if {text!r}: expected METRIC < NUMBER (or <=, >, >=; % for percent of the old value), such as"
            ' "accuracy < -0.005": fail if accuracy has fallen by more than .005'
        )
    metric, sign, limit, percent = match.groups()
    return Condition(metric, sign, float(limit), percent == "%")


def compare(old: Mapping[str, Any], new: Mapping[str, Any], conditions: Sequence[Condition]) -> Comparison:
    """Compare two reports metric by metric.

    Raises:
        ReportError: a condition names a metric that one of the reports lacks, or whose value is not defined.
    """
    before, after = old["metrics"], new["metrics"]
    lines = [f"{'':20s}  {'before':>10}  {'now':>10}  {'change':>10}"]
    for name in [n for n in after if n in before]:
        a, b = before[name], after[name]
        if a is None or b is None:
            continue
        change = b - a
        good = "" if change == 0 else " better" if (change > 0) == higher_is_better(name) else " worse"
        lines.append(f"{name:20s}  {a:10.5g}  {b:10.5g}  {change:+10.3g}{good}")
    notes = []
    if old.get("events") != new.get("events"):
        notes.append(f"the streams differ in length: {old.get('events'):,} events before, {new.get('events'):,} now")
    if old.get("config", {}).get("stream", {}).get("targets") != new.get("config", {}).get("stream", {}).get("targets"):
        notes.append("the reports are of different targets")
    failed = []
    for condition in conditions:
        a, b = _value(condition, before, "the earlier report"), _value(condition, after, "this run")
        if condition.relative and a == 0:
            raise ReportError(f"--fail-if {condition}: the old value is 0, so there is no percentage of it")
        change = 100 * (b - a) / abs(a) if condition.relative else b - a
        if condition.holds(change):
            unit = "%" if condition.relative else ""
            limit = f"{condition.sign} {condition.limit:g}{unit}"
            failed.append(f"{condition.metric} changed by {change:+.4g}{unit}, which is {limit}")
    return Comparison(lines + notes, failed)


def _value(condition: Condition, metrics: Mapping[str, float | None], where: str) -> float:
    value = metrics.get(condition.metric)
    if value is None:
        near = difflib.get_close_matches(condition.metric, list(metrics), n=1)
        hint = f" Did you mean {near[0]}?" if near and near[0] != condition.metric else ""
        known = ", ".join(name for name, v in metrics.items() if v is not None)
        raise ReportError(f"--fail-if {condition}: {where} has no value of {condition.metric}; it has {known}.{hint}")
    return value
