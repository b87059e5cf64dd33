"""The draws of `streamnn.pool.replay`, in whole numbers."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from streamnn.pool.reference.common import mixed
from streamnn.pool.replay import NONE


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


def _draw(seed: int, number: int, i: int) -> int:
    return mixed(mixed(seed + number * 0x632BE59BD9B4E019) + i)
