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
from pipeline.progress import LINE_EVERY_S, LIVE_EVERY_S, Rate, bar, span


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
        self._shown_s = clock()
        self._rate: Rate | None = None

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
        if self._rate is None:
            self._rate = Rate(self._shown_s, loop.counters.events)
        every = LIVE_EVERY_S if self._live is not None else LINE_EVERY_S
        if now - self._shown_s < every:
            return
        self._rate.measure(loop.counters.events, now)
        self._shown_s = now
        if self._live is not None:
            self._live.update(self._panel(loop), refresh=True)
        else:
            self._console.print(self._line(loop), soft_wrap=True)

    def _values(self, loop: Prequential) -> dict[str, str]:
        window = loop.parts.scores.window().get(self._metric, math.nan)
        overall = loop.parts.scores.metrics().get(self._metric, math.nan)
        return {
            "events": f"{loop.counters.events:,}",
            "events/s": "-" if self._rate is None or math.isnan(self._rate.value) else f"{self._rate.value:,.0f}",
            self._metric: f"{_number(overall)} (lately {_number(window)})",
            "loss": _number(loop.loss),
            "learning rate": f"{loop.control.rate:.4g}",
            "drifts": str(loop.counters.drifts),
            "dead letters": f"{sum(loop.counters.dropped.values()):,}",
        }

    def _line(self, loop: Prequential) -> str:
        told = ", ".join(f"{name} {value}" for name, value in self._values(loop).items())
        left = self._left(loop)
        return told if left is None else f"{told}, {left[0]:.0%} done, about {span(left[1])} left"

    def _panel(self, loop: Prequential) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, value in self._values(loop).items():
            table.add_row(f"[dim]{name}[/dim]", value)
        left = self._left(loop)
        if left is not None:
            table.add_row("[dim]done[/dim]", bar(*left))
        return table

    def _left(self, loop: Prequential) -> tuple[float, float] | None:
        """Return the share done and the seconds left, None where the end is not known."""
        events = loop.counters.events
        done = loop.parts.source.progress
        if self._limit:
            done = max(events / self._limit, 0.0 if done is None else done)
        share = None if done is None else min(done, 1.0)
        left_s = None if self._rate is None else self._rate.left_s(events, share)
        return None if share is None or left_s is None else (share, left_s)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
