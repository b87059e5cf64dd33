"""`streamnn bench`: one step, the pool and whole replays on this machine, ours beside others, in one to two minutes.

In: how long to measure. Out: tables on stdout. Sides take turns; a figure is the median of its rounds.
"""

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from pipeline.bench import deep_river
from pipeline.bench.by_hand import by_hand
from pipeline.bench.deep_river import DeepRiver
from pipeline.bench.machine import hardware, software
from pipeline.bench.replays import CLASSES, FEATURES, Replay, replays, stream
from pipeline.bench.steps import Case, data, ours, plain
from pipeline.bench.timing import Rate, Side, measure
from pipeline.settings import SettingsError
from streamnn.heads import TargetSpec
from streamnn.native.build import CompilerError, find_compiler
from streamnn.operations import FloatArray, Kind, Operations, Rows
from streamnn.pool import PoolLearner, PoolSpec
from streamnn.pool.engines import EngineName
from streamnn.pool.presets import Preset

CASES = (Case(8, (64, 64), 2, "layer", "adam"), Case(54, (128, 128), 7, "layer", "adam"))
HEADING = """\
Sides take turns in one thread; a figure is the median of its rounds ({rounds}).
native / this: events/s of the line "native" divided by this line's; 100 = a hundred times as many."""


def bench(*, rounds: int, seconds: float, rows: int) -> None:
    """Measure and print a table for each benchmark.

    Args:
        rounds: measurements of each side; at least 1.
        seconds: how long one measurement of a step or a pool lasts, about.
        rows: length of the stream that is replayed.

    Raises:
        SettingsError: a number is out of range, or there is no C compiler, so that there is nothing to compare.
    """
    for name, value, least in (("rounds", rounds, 1), ("rows", rows, 5000)):
        if value < least:
            raise SettingsError(f"--{name} is {value}, but must be at least {least}")
    if seconds <= 0:
        raise SettingsError(f"--seconds is {seconds}, but must be more than 0")
    try:
        find_compiler(os.environ.get("CC"))
    except CompilerError as error:
        raise SettingsError(f"bench compares the native engine with others, but {error}") from error
    # lines are as long as they are, in a pipe too; what is drawn meanwhile takes time of the process that is measured
    out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    told = partial(Console(file=sys.stderr, highlight=False).status, refresh_per_second=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        stack.callback(torch.set_num_threads, threads)
        out.print(f"{hardware()}\n{software()}\n\n{HEADING.format(rounds=rounds)}")
        river = None
        try:
            with told("deep-river"):
                river = stack.enter_context(deep_river.beside())
        except deep_river.AbsentError as error:
            out.print(f"\nWithout deep-river: {error}\nTo have it beside the others:\n{deep_river.INSTALL}")
        for case in CASES:
            with told(f"one step of {case}"):
                steps = step(case, rounds, seconds, river)
            _print(out, f"One step: predict and learn an event, network {case}", *_rates(steps, "native"))
        with told("the pool"):
            pools = pool(rounds, seconds)
        _print(
            out,
            f"Pool of the default model, by preset: predict and learn an event of {FEATURES} features, {CLASSES} classes",
            *_rates(pools, "best, native"),
        )
        with told("whole replays"), tempfile.TemporaryDirectory() as folder:
            whole = replays(Path(folder), rounds, rows, river)
        _print(
            out,
            "Whole replay: CSV in, predictions and scores out; accuracy is over the rows of its line",
            *_replays(whole),
        )


def step(case: Case, rounds: int, seconds: float, river: DeepRiver | None) -> dict[str, Rate]:
    """Predict and learn one event after the other with one network."""
    x, y = data(case, 4000)
    begun, native = ours(case, "native", x, y)
    sides = {
        "native": Side(native, 1000),
        "C by hand": Side(by_hand(case, begun, x, y), 1000),
        "our eager engine": Side(ours(case, "eager", x, y)[1], 20),
        "PyTorch": Side(plain(case, x, y), 20),
    }
    if river is not None:
        sides["deep-river"] = river.side(case)
    return measure(sides, rounds=rounds, seconds=seconds)


def pool(rounds: int, seconds: float) -> dict[str, Rate]:
    """Predict and learn one event after the other with whole pools."""
    sides = {
        "best, native": _pool("best", "native", 500),
        "fast, native": _pool("fast", "native", 500),
        "best, NumPy": _pool("best", "eager", 5),
    }
    return measure(sides, rounds=rounds, seconds=seconds)


def _pool(preset: Preset, engine: EngineName, events: int) -> Side:
    made = PoolLearner(PoolSpec(targets=(TargetSpec("y", "multiclass"),), preset=preset, engine=engine))
    x, y = stream(4 * events)
    labels = np.empty(len(y), dtype=object)
    labels[:] = y.tolist()
    rows = made.encode({f"f{i}": x[:, i].copy() for i in range(FEATURES)}, {"y": labels}, np.arange(len(y))).rows
    done = 0

    def run(events: int) -> FloatArray:
        nonlocal done
        at = done % (len(rows) - events + 1)
        part = Rows(rows.x[at : at + events], rows.y[at : at + events], np.arange(done, done + events))
        done += events
        return made.run(part, Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(events)]), rate=0.003).served

    return Side(run, events)


def _rates(found: Mapping[str, Rate], mine: str) -> tuple[list[str], list[list[str]]]:
    """Lay out head and lines; one of the sides is compared with all."""
    lines = [[name, *_rate(rate), _ratio(found[mine], rate)] for name, rate in found.items()]
    return ["", "events/s", "lowest", "highest", f"{mine} / this"], lines


def _replays(found: Mapping[str, Replay]) -> tuple[list[str], list[list[str]]]:
    single, best = (found[f"streamnn, {preset}"].rate for preset in ("single", "best"))
    lines = [
        [
            name,
            f"{one.rows:,}",
            *_rate(one.rate),
            _ratio(single, one.rate),
            _ratio(best, one.rate),
            f"{one.accuracy:.3f}",
        ]
        for name, one in found.items()
    ]
    return ["", "rows", "events/s", "lowest", "highest", "single / this", "best / this", "accuracy"], lines


def _rate(rate: Rate) -> tuple[str, str, str]:
    return f"{rate.median:,.0f}", f"{rate.lowest:,.0f}", f"{rate.highest:,.0f}"


def _ratio(mine: Rate, other: Rate) -> str:
    ratio = mine.median / other.median
    return f"{ratio:,.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _print(out: Console, title: str, head: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """Print a title and columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
    out.print(f"\n{title}", style="bold")
    for first, *others in (head, *lines):
        cells = [first.ljust(widths[0]), *(cell.rjust(n) for cell, n in zip(others, widths[1:], strict=True))]
        out.print("  ".join(cells))
