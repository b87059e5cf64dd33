"""How long blocks take, so that they can be kept short enough for a wish; nothing that is learned depends on it.

In: what each block took. Out: how many events take so long at most.
"""

_NEWEST = 0.5  # weight of the newest block in the mean


class Pace:
    """How many events are handled within a time.

    Args:
        within_s: that time; 0 = any.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._each_s = within_s  # an event, as far as is known: so the first block is a single one

    @property
    def most(self) -> float:
        """Events that a block may have, at least 1; infinite without a limit."""
        return max(self._within_s / self._each_s, 1.0) if self._each_s else float("inf")

    def took(self, events: int, seconds: float) -> None:
        """Take note of a block."""
        if self._within_s and events and seconds > 0:
            self._each_s += _NEWEST * (seconds / events - self._each_s)
