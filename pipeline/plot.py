"""The curves of a run as a picture: the metric over the stream, drift marks, and the learning rate.

In: a report. Out: a PNG file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.report import ReportError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MARKS = 200  # drift marks drawn; more would be a grey wall
OVERALL, LATELY, MARK = "#1f4e79", "#e07b00", "#b0b0b0"
SHADES = ("#9dc3e6", "#d6e4f0")
MOST_TARGETS, LISTED = 8, 5  # bars drawn, and members listed below the bar of a single target
LETTER = 0.0065  # what a letter of a member's name takes of a bar
STYLES = ("--", ":", "-.")


def plot(path: Path, figures: Mapping[str, Any]) -> None:
    """Draw a report.

    Raises:
        ReportError: the file cannot be written.
    """
    figure = draw(figures)
    try:
        figure.savefig(path, dpi=120, format="png")
    except OSError as error:
        raise ReportError(f"{path}: cannot write the plot: {error.strerror}. Choose another path.") from error


def draw(figures: Mapping[str, Any]) -> "Figure":
    """Return the figure: a panel for each sampled metric, one for the learning rate, one for the members of a pool."""
    # every command would wait a third of a second for it
    from matplotlib.figure import Figure

    curves, members = figures["curves"], dict(list(figures["model"]["members"].items())[:MOST_TARGETS])
    ratios = [3.0] * len(curves) + [1.4] + ([0.8 + 0.4 * len(members)] if members else [])
    figure = Figure(figsize=(10, 0.9 * sum(ratios) + 1.2), layout="constrained")
    axes = list(figure.subplots(len(ratios), 1, squeeze=False, height_ratios=ratios)[:, 0])
    if members:
        _members(axes.pop(), members)
    for ax in axes[:-1]:
        ax.sharex(axes[-1])
        ax.tick_params(labelbottom=False)
    window = figures["config"]["scores"]["window"]
    for ax, (metric, points) in zip(axes, curves.items(), strict=False):
        number = [p[0] for p in points]
        ax.plot(number, [p[2] for p in points], color=LATELY, linewidth=1, label=f"last {window:,} events")
        ax.plot(number, [p[1] for p in points], color=OVERALL, linewidth=2, label="whole stream")
        for style, (name, metrics) in zip(STYLES, figures["baselines"].items(), strict=False):
            if metrics.get(metric) is not None:
                ax.axhline(
                    metrics[metric], color="black", linewidth=0.8, linestyle=style, label=f"{name} (whole stream)"
                )
        _mark(ax, figures["drifts_acted"])
        ax.set_ylabel(metric)
        ax.margins(x=0)
        ax.legend(loc="best", fontsize=8, framealpha=0.9)
        ax.grid(alpha=0.25)
    last = axes[-1]
    steps = [*figures["learning_rate"], [max(figures["events"], 1), figures["learning_rate"][-1][1]]]
    last.step([s[0] for s in steps], [s[1] for s in steps], where="post", color=OVERALL)
    _mark(last, figures["drifts_acted"])
    last.set_ylabel("learning rate")
    last.set_xlabel("event number" + (" (grey: drift)" if figures["drifts_acted"] else ""))
    last.margins(x=0)
    last.set_ylim(bottom=0)
    last.grid(alpha=0.25)
    source = figures["config"]["stream"]["source"].rpartition("/")[2]
    figure.suptitle(f"{source}: {figures['task']}, {figures['events']:,} events", fontsize=11)
    return figure


def _members(ax: Any, members: Mapping[str, Mapping[str, list[float]]]) -> None:
    """Draw a bar for each target, divided by the members' weights in the hedge; those are named whose names have room."""
    for place, weights in enumerate(members.values()):
        left = 0.0
        for i, (name, (share, _)) in enumerate(sorted(weights.items(), key=lambda item: -item[1][0])):
            ax.barh(place, share, left=left, color=SHADES[i % 2], edgecolor="white", linewidth=0.5)
            if share >= LETTER * (len(name) + 1):
                ax.text(left + share / 2, place, name, ha="center", va="center", fontsize=7)
            left += share
    ax.set_yticks(range(len(members)), list(members))
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    listed = ""
    if len(members) == 1:
        shares = sorted(((share, name) for name, (share, _) in next(iter(members.values())).items()), reverse=True)
        listed = "\n" + ", ".join(f"{name} {share:.2f}" for share, name in shares[:LISTED])
    ax.set_xlabel(f"weight of the pool's members at the end{listed}", fontsize=9)


def _mark(ax: Any, drifts: list[int]) -> None:
    for number in drifts[:MOST_MARKS]:
        ax.axvline(number, color=MARK, linewidth=0.7, zorder=0)
