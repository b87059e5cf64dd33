"""Sides that take turns: whatever else the machine does meets all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work.

    Attributes:
        run: do the next so many events.
        events: how many one call is given.
        clock: processor time so far, in seconds, of whoever does the work.
    """

    run: Callable[[int], object]
    events: int
    clock: Callable[[], float] = time.process_time


@dataclass(frozen=True, slots=True)
class Rate:
    """Events per second of processor time over several rounds."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, found: list[float]) -> "Rate":
        """Sum measurements up."""
        return cls(statistics.median(found), min(found), max(found))


def measure(sides: Mapping[str, Side], *, rounds: int, seconds: float) -> dict[str, Rate]:
    """Time every side `rounds` times, in turn, for about `seconds` of its clock (this process's processor time) each time.

    What other processes take of the processor is not counted; how they empty its caches is.
    Each is called once before, untimed: that compiles and fills caches.
    """
    for side in sides.values():
        side.run(side.events)
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            done, began = 0, side.clock()
            while not done or side.clock() - began < seconds:
                side.run(side.events)
                done += side.events
            found[name].append(done / (side.clock() - began))
    return {name: Rate.of(values) for name, values in found.items()}
