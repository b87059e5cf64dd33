"""Timestamps for records that have none: those of the present, each later than the one before.

In: the time now. Out: milliseconds since 1970, rising, so that readers who merge partitions by timestamp find the order
in which the records were written.
"""

MOST_AHEAD_MS = 30 * 60 * 1000  # brokers refuse records from more than an hour in the future (by default)


class RisingStamps:
    """Makes timestamps: as many a second as are asked for, so they may run ahead of the clock, within a bound."""

    def __init__(self) -> None:
        self._last = -1

    def next(self, now_ms: int) -> int:
        """Return the next timestamp: one later than the last, or now; beyond the bound, some are equal."""
        self._last = max(now_ms, min(self._last + 1, now_ms + MOST_AHEAD_MS), self._last)
        return self._last
