"""The draws of `streamnn.pool.replay`, in whole numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamnn.pool.replay import NONE

WORD = (1 << 64) - 1


def choose(
    order: npt.NDArray[np.int32],
    number: npt.NDArray[np.int64],
    learned: int,
    window: int,
    room: int,
    seeds: Sequence[int],
    where: npt.NDArray[np.int32],
    out: npt.NDArray[np.int32],
) -> None:
    """Draw events for each row that is learned; see replay.c. seeds: the member's and the sample's."""
    for i, r in enumerate(order.tolist()):
        count = learned + i
        for j in range(out.shape[1]):
            u = _draw(seeds[0], int(number[r]), j)
            if not count:
                out[r, j] = NONE
            elif window:
                at = count - 1 - u % min(count, window)
                out[r, j] = order[at - learned] if at >= learned else -1 - at % room
            else:
                slot = u % min(count, room)
                out[r, j] = where[slot] if where[slot] >= 0 else -1 - slot
        if not window:
            slot = count if count < room else _draw(seeds[1], int(number[r]), 1 << 20) % (count + 1)
            if slot < room:
                where[slot] = r


def _mix(z: int) -> int:
    z = (z + 0x9E3779B97F4A7C15) & WORD
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
    return z ^ (z >> 31)


def _draw(seed: int, number: int, i: int) -> int:
    return _mix((_mix((seed + number * 0x632BE59BD9B4E019) & WORD) + i) & WORD)
