"""SIGINT and SIGTERM as wishes: what is in hand is finished first."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def collected(stopping: threading.Event) -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of dying; the second one of a kind kills as usual.

    Args:
        stopping: set with the first one.
    """
    got: list[int] = []
    before: dict[int, Any] = {}

    def note(number: int, _frame: FrameType | None) -> None:
        got.append(number)
        stopping.set()
        signal.signal(number, before[number])

    for number in (int(signal.SIGINT), int(signal.SIGTERM)):
        before[number] = signal.signal(number, note)
    try:
        yield got
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
