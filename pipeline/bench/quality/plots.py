"""Pictures of a comparison: mean ranks with the critical difference, and the metric along each stream."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.bench.quality.ranks import alike

MOST_MARKS = 200  # drift marks drawn; more would be a grey wall
COLOURS, DASHES = 10, ("-", "--", ":")  # lines beyond the colours that there are have other dashes


def rank_picture(ranks: dict[str, float], distance: float, path: Path) -> None:
    """Draw learners on an axis of mean ranks; bars join those that do not differ by `distance`."""
    ordered = sorted(ranks, key=ranks.__getitem__)
    groups = alike(ranks, distance)
    height = len(ordered) + len(groups) + 2
    figure = Figure(figsize=(8, 0.3 * height + 0.6), layout="constrained")
    axes = figure.add_subplot()
    for i, name in enumerate(ordered):
        axes.plot([ranks[name]] * 2, [0, -len(groups) - 1 - i], color="0.7", linewidth=0.8)
        axes.plot(ranks[name], 0, "o", color="black", markersize=4)
        axes.text(ranks[name], -len(groups) - 1 - i, f" {name} {ranks[name]:.2f}", va="center", fontsize=9)
    for i, group in enumerate(groups):
        axes.plot([ranks[group[0]], ranks[group[-1]]], [-0.6 - i] * 2, color="black", linewidth=3)
    axes.set_xlim(1 - 0.3, len(ordered) + 1.5)
    axes.set_ylim(-height, 1)
    axes.set_yticks([])
    axes.set_xlabel(f"mean rank (1 = best); bars join learners less than {distance:.2f} apart (Nemenyi, 5 %)")
    save(figure, path)


def curve_picture(
    curves: Mapping[str, Sequence[float]],
    metric: str,
    events: int,
    path: Path,
    *,
    drifts: Sequence[int] = (),
    flagged_by: str = "",
) -> None:
    """Draw the windowed metric of each learner along a stream.

    Args:
        curves: learner -> [W] values of consecutive windows.
        metric: its name.
        events: length of the stream.
        path: of the PNG.
        drifts: numbers of events after which a drift was flagged.
        flagged_by: the learner that flagged them.
    """
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.add_subplot()
    for i, (name, values) in enumerate(curves.items()):
        at = [events * (window + 1) / len(values) for window in range(len(values))]
        dashes = DASHES[i // COLOURS % len(DASHES)]
        axes.plot(at, values, label=name, color=f"C{i % COLOURS}", linestyle=dashes, linewidth=1.2)
    for number in drifts[:MOST_MARKS]:
        axes.axvline(number, color="0.75", linewidth=0.8, zorder=0)
    axes.set_xlabel(f"events (grey: drifts that {flagged_by} flagged)" if drifts else "events")
    axes.set_ylabel(f"{metric} of a window")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture as PNG."""
    FigureCanvasAgg(figure)
    figure.savefig(path, dpi=120)
