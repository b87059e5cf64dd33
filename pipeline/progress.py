"""How far a piece of work is: a live line on a terminal, plain lines in a pipe.

In: how much is done, and which share of the whole that is, where it is known. Out: text, at most a few times a second
(terminal) or every ten seconds (pipe).
"""

import math
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live

LIVE_EVERY_S = 0.25
LINE_EVERY_S = 10.0
SMOOTH_S = 5.0  # over which the speed shown is averaged
_WIDTH = 30


class Rate:
    """How many things are done a second, averaged over the last few seconds.

    Args:
        now_s: the time now, monotonic seconds.
        done: how many are done now.
    """

    def __init__(self, now_s: float, done: int = 0) -> None:
        self._at_s, self._done = now_s, done
        self.value = math.nan

    def measure(self, done: int, now_s: float) -> None:
        """Take note of how many are done."""
        span = now_s - self._at_s
        if span > 0:
            rate = (done - self._done) / span
            weight = 1.0 if math.isnan(self.value) else 1 - math.exp(-span / SMOOTH_S)
            self.value = rate if math.isnan(self.value) else self.value + weight * (rate - self.value)
            self._done, self._at_s = done, now_s

    def left_s(self, done: int, share: float | None) -> float | None:
        """Return how many seconds are left; None where that is not known."""
        if not share or share <= 0 or math.isnan(self.value) or self.value <= 0:
            return None
        return done / share * (1 - share) / self.value


class Screen:
    """Where something is shown again and again: in place on a terminal, line by line in a pipe; a context manager.

    Args:
        stream: where to write.
        quiet: show nothing.
        clock: monotonic seconds.
    """

    def __init__(self, stream: TextIO, *, quiet: bool, clock: Callable[[], float]) -> None:
        self._quiet, self._clock = quiet, clock
        self._console = Console(file=stream, highlight=False)
        self._live: Live | None = None
        self.shown_s = clock()

    def __enter__(self) -> "Screen":
        if self._console.is_terminal and not self._quiet:
            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.__exit__(None, None, None)
            self._live = None

    def due(self) -> bool:
        """Tell whether the last time is long enough ago; then it is now."""
        now = self._clock()
        if self._quiet or now - self.shown_s < (LIVE_EVERY_S if self._live is not None else LINE_EVERY_S):
            return False
        self.shown_s = now
        return True

    def show(self, picture: Callable[[], RenderableType], line: Callable[[], str]) -> None:
        """Show the picture on a terminal, the line in a pipe."""
        if self._live is not None:
            self._live.update(picture(), refresh=True)
        else:
            self._console.print(line(), soft_wrap=True)


class Progress:
    """Shows how many records have gone through; used as a context manager.

    Args:
        what: is done with them, such as "recorded".
        stream: where to write.
        quiet: show nothing.
        clock: monotonic seconds.
    """

    def __init__(
        self, what: str, *, stream: TextIO, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._screen = what, Screen(stream, quiet=quiet, clock=clock)
        self._rate = Rate(self._screen.shown_s)

    def __enter__(self) -> "Progress":
        self._screen.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._screen.__exit__(*exc)

    def show(self, records: int, share: float | None) -> None:
        """Show how many records are done, if the last time is long enough ago.

        Args:
            records: done so far.
            share: of the whole, 0..1; None = not known.
        """
        if not self._screen.due():
            return
        self._rate.measure(records, self._screen.shown_s)
        told = f"{self._what} {records:,} records, {self._rate.value:,.0f}/s"
        left_s = self._rate.left_s(records, share)
        picture = line = told
        if share is not None and left_s is not None:
            picture, line = f"{told}  {bar(share, left_s)}", f"{told}, {share:.0%} done, about {span(left_s)} left"
        self._screen.show(lambda: picture, lambda: line)


def bar(share: float, left_s: float) -> str:
    """Return a bar with the share done and the time left, as rich's markup."""
    full = int(share * _WIDTH)
    return f"[cyan]{'━' * full}[/cyan][dim]{'━' * (_WIDTH - full)}[/dim] {share:.0%}, about {span(left_s)} left"


def span(seconds: float) -> str:
    """Return a time for people."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
