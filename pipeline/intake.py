"""Chunks of any length from a source become blocks that end where the loop wants them to.

In micro-batch mode a block holds whole micro-batches; what is left over waits here, unprocessed, and counts as not read:
after a stop it is read again.
"""

import numpy as np

from connectors import Chunk, Source, concatenate


class Intake:
    """Take events from a source in blocks of a chosen size.

    Args:
        source: opened before the first `take`.
        chunk: events asked for in one poll, at most.
    """

    def __init__(self, source: Source, chunk: int) -> None:
        self._source, self._chunk = source, chunk
        self._held: Chunk | None = None
        self.ended = False

    def take(self, events: int, *, whole: int = 1, first: int = 0) -> Chunk | None:
        """Return the next block: at most `events` events (and the rejects among them).

        Args:
            events: most events of the block.
            whole: only whole micro-batches of so many events.
            first: the number of the next event; micro-batches begin at multiples of `whole`.

        Returns:
            A block, which may hold no event if nothing is there now; None at the end of the stream, when less than a
            micro-batch may be left (`rest` returns it).
        """
        while not self.ended and (self._held is None or _events(self._held) < max(whole - first % whole, 1)):
            polled = self._source.poll(min(self._chunk, max(events, whole)))
            if polled is None:
                self.ended = True
                break
            self._held = polled if self._held is None else concatenate([self._held, polled])
            if polled.stop == polled.start or not _events(polled):
                break
        held = self._held
        if held is None:
            return None
        ready = min(_events(held), events)
        if whole > 1:
            ready = (first + ready) // whole * whole - first
        if ready <= 0:
            if self.ended:
                return None
            # nothing complete yet; rejects ahead of the first held event can go on
            return held.slice(0, 0)
        self._held = held.slice(ready, _events(held)) if ready < _events(held) else None
        return held.slice(0, ready)

    def rest(self, events: int) -> Chunk | None:
        """At the end: the events (and rejects) left over, at most `events`; None if there are none."""
        held, self._held = self._held, None
        return None if held is None else held.slice(0, min(events, _events(held)))


def _events(chunk: Chunk) -> int:
    return len(chunk.offsets)


def without(chunk: Chunk, rows: list[int]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return a mask [K] that is False at the given rows."""
    keep = np.ones(len(chunk.offsets), dtype=bool)
    keep[rows] = False
    return keep
