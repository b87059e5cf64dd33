"""Crash points: places at which a test can kill the process for certain.

In: the environment variable STREAMNN_CRASH_AT, "name:count". Out: a function that the code calls with a
point's name each time it passes; at the count-th passing of the named point the process sends SIGKILL to
itself, as the kernel's out-of-memory killer would: nothing is flushed, closed or said.
"""

import difflib
import os
import signal
from collections.abc import Callable, Mapping

CrashPoint = Callable[[str], None]

VARIABLE = "STREAMNN_CRASH_AT"

CRASH_POINTS = (
    "before_learn",
    "after_learn",
    "before_write",
    "after_write",
    "before_fsync",
    "after_fsync",
    "before_rename",
    "after_rename",
    "before_commit",
    "after_commit",
    "before_sink_flush",
    "after_sink_flush",
)


class FaultError(ValueError):
    """STREAMNN_CRASH_AT, or a crash point in the code, cannot be understood."""


def never(name: str) -> None:
    """Pass a crash point without crashing; the usual choice."""
    _check(name)


class Crash:
    """Kill this process at the count-th passing of one point.

    Args:
        name: one of `CRASH_POINTS`.
        count: passings up to and including the last one; 1 = the first time.

    Raises:
        FaultError: the name is not a crash point, or the count is below 1.
    """

    __slots__ = ("_left", "_name")

    def __init__(self, name: str, count: int) -> None:
        _check(name)
        if count < 1:
            raise FaultError(f"{VARIABLE}: count is {count}, expected 1 or more")
        self._name, self._left = name, count

    def __call__(self, name: str) -> None:
        """Pass the point `name`."""
        _check(name)
        if name != self._name:
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def from_environment(environ: Mapping[str, str]) -> CrashPoint:
    """Return what the code is to call at its crash points.

    Args:
        environ: such as `os.environ`. Without STREAMNN_CRASH_AT nothing ever crashes.

    Raises:
        FaultError: the variable does not say "name:count" with a known name.
    """
    text = environ.get(VARIABLE, "")
    if not text:
        return never
    name, _, count = text.partition(":")
    if not (count.isascii() and count.isdigit()):
        raise FaultError(f'{VARIABLE}={text!r}: expected "name:count", such as "after_write:2"')
    return Crash(name, int(count))


def _check(name: str) -> None:
    if name in CRASH_POINTS:
        return
    near = difflib.get_close_matches(name, CRASH_POINTS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise FaultError(f"{name!r} is not a crash point.{hint} There are: {', '.join(CRASH_POINTS)}")
