"""What a person sees while a stream runs: a live panel on a terminal, plain lines in a pipe.

In: the loop after each block. Out: text on stderr, at most a few times a second (terminal) or every ten seconds (pipe).
"""

import math
import time
from collections.abc import Callable
from typing import TextIO

from rich.table import Table

from pipeline.prequential import Prequential
from pipeline.progress import Rate, Screen, bar, span


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
        self._metric, self._limit = metric, limit
        self._screen = Screen(stream, quiet=quiet, clock=clock)
        self._rate: Rate | None = None

    def __enter__(self) -> "Display":
        self._screen.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._screen.__exit__(*exc)

    def show(self, loop: Prequential) -> None:
        """Show the state of the loop if the last time is long enough ago."""
        if self._rate is None:
            self._rate = Rate(self._screen.shown_s, loop.counters.events)
        if self._screen.due():
            self._rate.measure(loop.counters.events, self._screen.shown_s)
            self._screen.show(lambda: self._panel(loop), lambda: self._line(loop))

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
