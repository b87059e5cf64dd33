"""Chunks of any length from a source become blocks that end where the loop wants them to.

In micro-batch mode a block holds whole micro-batches; what is left over waits here, unprocessed, and counts as not
read: after a stop it is read again.
"""

from connectors import Chunk, Source, concatenate


class Intake:
    """Take events from a source in blocks of a chosen size.

    Args:
        source: opened before the first `take`.
        chunk: events asked for in one poll, at most.

    Attributes:
        ended: the source has said that nothing will ever come.
        idle: at the last poll the source had nothing.
    """

    def __init__(self, source: Source, chunk: int) -> None:
        self._source, self._chunk = source, chunk
        self._held: Chunk | None = None
        self.ended = False
        self.idle = False

    def take(self, most: int, *, least: int = 1, step: int = 1) -> Chunk | None:
        """Return the next block: `least` events, or `least` and a multiple of `step` more, but not above `most`.

        Args:
            most: events, at least `least`.
            least: events up to the end of the first micro-batch.
            step: events of each further micro-batch.

        Returns:
            A block, with the rejects and labels before and among its events. It is empty (or holds rejects and labels
            alone) while the source has too little; None at the end of the stream, when less than `least` may be left
            (`rest` returns it).
        """
        self._fill(most, least)
        held = self._held
        if held is None or len(held) < least:
            if held is not None and not len(held) and (held.stop > held.start or not self.ended):
                self._held = None  # rejects and labels need not wait for an event
                return held
            if self.ended:
                return None
            assert held is not None  # a source that has not ended has given something, if only an empty chunk
            return held.slice(0, 0)
        ready = least + (min(len(held), most) - least) // step * step
        block = held.slice(0, ready)
        self._held = held.rest(ready) if block.stop < held.stop else None
        return block

    def rest(self, most: int) -> Chunk | None:
        """At the end: the events (and rejects) left over, at most `most`; None if there are none."""
        self._fill(most, most)
        held, self._held = self._held, None
        return None if held is None else held.slice(0, min(most, len(held)))

    def _fill(self, most: int, least: int) -> None:
        self.idle = False
        while not self.ended and (self._held is None or len(self._held) < least):
            polled = self._source.poll(min(self._chunk, most))
            if polled is None:
                self.ended = True
                return
            self.idle = polled.stop == polled.start
            self._held = polled if self._held is None else concatenate([self._held, polled])
            if self.idle or not len(self._held):
                return
