"""What a person sees while a stream runs: a live panel on a terminal, plain lines in a pipe.

In: the loop after each block. Out: text on stderr, at most a few times a second (terminal) or every ten seconds (pipe).
"""

import math
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.prequential import Prequential

LIVE_EVERY_S = 0.25
LINE_EVERY_S = 10.0
SMOOTH_S = 5.0  # over which the speed shown is averaged


class Display:
    """Shows the loop's progress; used as a context manager.

    Args:
        metric: the one shown.
        limit: events at which the run stops; 0 = the source's own progress tells.
        stream: where to write.
        quiet: show nothing.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        metric: str,
        *,
        limit: int = 0,
        stream: TextIO,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metric, self._limit, self._quiet, self._clock = metric, limit, quiet, clock
        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None
        self._shown_s = self._began_s = self._rated_s = clock()
        self._events, self._rate, self._first = 0, math.nan, -1

    def __enter__(self) -> "Display":
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def show(self, loop: Prequential) -> None:
        """Show the state of the loop if the last time is long enough ago."""
        if self._quiet:
            return
        now = self._clock()
        if self._first < 0:
            self._first = self._events = loop.counters.events
        every = LIVE_EVERY_S if self._live is not None else LINE_EVERY_S
        if now - self._shown_s < every:
            return
        self._measure(loop.counters.events, now)
        self._shown_s = now
        if self._live is not None:
            self._live.update(self._panel(loop), refresh=True)
        else:
            self._console.print(self._line(loop), soft_wrap=True)

    def _measure(self, events: int, now: float) -> None:
        span = now - self._rated_s
        if span > 0:
            rate = (events - self._events) / span
            weight = 1.0 if math.isnan(self._rate) else 1 - math.exp(-span / SMOOTH_S)
            self._rate = rate if math.isnan(self._rate) else self._rate + weight * (rate - self._rate)
            self._events, self._rated_s = events, now

    def _values(self, loop: Prequential) -> dict[str, str]:
        window = loop.parts.scores.window().get(self._metric, math.nan)
        overall = loop.parts.scores.metrics().get(self._metric, math.nan)
        return {
            "events": f"{loop.counters.events:,}",
            "events/s": "-" if math.isnan(self._rate) else f"{self._rate:,.0f}",
            self._metric: f"{_number(overall)} (lately {_number(window)})",
            "loss": _number(loop.loss),
            "learning rate": f"{loop.control.rate:.4g}",
            "drifts": str(loop.counters.drifts),
            "dead letters": f"{sum(loop.counters.dropped.values()):,}",
        }

    def _line(self, loop: Prequential) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self._values(loop).items())
        left = self._left(loop)
        return told if left is None else f"{told}, {left[0]:.0%} done, about {_span(left[1])} left"

    def _panel(self, loop: Prequential) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in self._values(loop).items():
            table.add_row(f"[dim]{name}[/dim]", value)
        left = self._left(loop)
        if left is not None:
            done, seconds = left
            width = 30
            full = int(done * width)
            bar = f"[cyan]{'━' * full}[/cyan][dim]{'━' * (width - full)}[/dim]"
            table.add_row("[dim]done[/dim]", f"{bar} {done:.0%}, about {_span(seconds)} left")
        return table

    def _left(self, loop: Prequential) -> tuple[float, float] | None:
        """Return the share done and the seconds left, None where the end is not known."""
        events = loop.counters.events
        done = loop.parts.source.progress
        if self._limit:
            done = max(events / self._limit, 0.0 if done is None else done)
        if not done or done <= 0:
            return None
        done = min(done, 1.0)
        if math.isnan(self._rate) or self._rate <= 0:
            return None
        return done, events / done * (1 - done) / self._rate


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
