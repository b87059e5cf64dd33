"""Chunks of any length from a source become blocks that end where the loop wants them to.

In micro-batch mode a block holds whole micro-batches; what is left over waits here, unprocessed, and counts as not
read: after a stop it is read again. With a bound on that wait the clock ends a micro-batch early; where it did so in a
run that was recorded, the chunks say it, and no clock is asked.
"""

import math
import time
from collections import deque
from collections.abc import Callable

from connectors import Chunk, Source, concatenate


class Intake:
    """Take events from a source in blocks of a chosen size.

    Args:
        source: opened before the first `take`.
        chunk: events asked for in one poll, at most.
        wait_s: how long the first event of a micro-batch waits for the others, since it was polled; 0 = for ever.
        clock: monotonic seconds.

    Attributes:
        ended: the source has said that nothing will ever come.
        idle: at the last poll the source had nothing.
        cut: the block taken last is a micro-batch that the clock ended, now or in the run that was recorded.
    """

    def __init__(
        self, source: Source, chunk: int, *, wait_s: float = 0.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._chunk = source, chunk
        self._wait_s, self._clock = wait_s, clock
        self._held: Chunk | None = None
        self._came: deque[tuple[int, float]] = deque()  # of each poll: the record after its last, and when it was
        self.ended = False
        self.idle = False
        self.cut = False

    @property
    def holds(self) -> bool:
        """Whether events wait here for a micro-batch to be complete."""
        return self._held is not None and len(self._held) > 0

    @property
    def left_s(self) -> float:
        """How long what is held may still wait; infinite if nothing is, or if it may wait for ever."""
        if not self._wait_s or self._held is None or not len(self._held):
            return math.inf
        first = int(self._held.offsets[0])
        while self._came[0][0] <= first:
            self._came.popleft()
        return max(self._came[0][1] + self._wait_s - self._clock(), 0.0)

    def take(self, most: int, *, least: int = 1, step: int = 1) -> Chunk | None:
        """Return the next block: `least` events, or `least` and a multiple of `step` more, but not above `most`.

        It is less than `least` events where the clock has ended the micro-batch (`cut`).

        Args:
            most: events, at least 1.
            least: events up to the end of the first micro-batch.
            step: events of each further micro-batch.

        Returns:
            A block, with the rejects and labels before and among its events. It is empty (or holds rejects and labels
            alone) while the source has too little; None at the end of the stream, when less than `least` may be left,
            and where `most` is less than `least` (`rest` returns what is left).
        """
        self._fill(most, min(most, least))
        early = self._early(least)
        self.cut = 0 < early <= most
        if self.cut:
            return self._hand_out(early)
        held = self._held
        if most < least:
            return None
        if held is None or len(held) < least:
            if held is not None and not len(held) and (held.stop > held.start or not self.ended):
                self._held = None  # rejects and labels need not wait for an event
                return held
            if self.ended:
                return None
            assert held is not None  # a source that has not ended has given something, if only an empty chunk
            return held.slice(0, 0)
        ready = min(len(held), most) if step == 1 else min(len(held), most, self._recorded() or most)
        return self._hand_out(least + (ready - least) // step * step)

    def rest(self, most: int) -> Chunk | None:
        """At the end: the events (and rejects) left over, at most `most`; None if there are none."""
        self._fill(most, most)
        held, self._held = self._held, None
        return None if held is None else held.slice(0, min(most, len(held)))

    def _fill(self, most: int, enough: int) -> None:
        self.idle = False
        while not self.ended and (self._held is None or len(self._held) < enough) and not self._recorded():
            polled = self._source.poll(min(self._chunk, most))
            if polled is None:
                self.ended = True
                return
            if self._wait_s and len(polled):
                self._came.append((polled.stop, self._clock()))
            self.idle = polled.stop == polled.start
            self._held = polled if self._held is None else concatenate([self._held, polled])
            # whatever else is there has been asked for by now: a wait that is over is over
            if self.idle or not len(self._held) or not self.left_s:
                return

    def _hand_out(self, events: int) -> Chunk:
        held = self._held
        assert held is not None
        block = held.slice(0, events)
        self._held = held.rest(events) if block.stop < held.stop else None
        return block

    def _early(self, least: int) -> int:
        """Count the events up to where the clock ends a micro-batch of `least`; 0 = it does not."""
        recorded = self._recorded()
        if 0 < recorded < least:
            return recorded
        held = 0 if self._held is None else len(self._held)
        over = bool(self._wait_s) and (self.ended or not self.left_s)  # for what never comes nobody need wait
        return held if held < least and over else 0

    def _recorded(self) -> int:
        """Count the events held up to the first place at which a micro-batch ended by the clock; 0 = none is known."""
        if self._held is None or not self._held.cuts:
            return 0
        places = self._held.offsets.searchsorted(self._held.cuts, side="right")
        return int(next((place for place in places if place > 0), 0))
