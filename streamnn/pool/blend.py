"""Eight mixtures of the members' values, and a hedge over these: who is right is learned as well.

Members are first clipped to the range of values seen, 10 % wider. S is the exponential (.01) absolute error of what was
served, d_m the members' distance from the first hedge in units of S.

    hedge     weights times exp(-eta min(error / S, 8)), shared a little; members much worse than the best left out
              (eta .1, share .01, cut 1.5 times the least exponential error; and eta .3, share .003, cut 2)
    stack     first hedge + S sum w_m d_m, w by the sign of the error (steps of .001) or its size (normalised, .03)
    squares   the same with w by recursive least squares, keep .999
    powers    weights error^-20
    leader    the member with the least absolute error over the last thousand
    absolute  as squares, each event weighing 1 / max(its error / S, .1): the least absolute error instead of the least squares
    top       a hedge (eta .3, share .003) over these eight
    served    the mean of the eight under its weights, their median, the leader alone, or the value nearest to mean or median
              among those that have come (at most 256, each four times on average, as counts do): whichever had the least
              absolute error over the last thousand

The first value judges nobody, since nothing was said before it: counted, an error as large as the value itself would hide
for hundreds of events who is near. Nor can those be judged soon who have to learn first: while no more than a dozen values are
known, the nearest of the target's own past values is served (its mean, its last, those of the categories at hand; of
equally good ones the last of these).

Axes: K rows, M members, S pending events.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Operations
from streamnn.pool.layout import Array, Arrays
from streamnn.pool.native import call

MIXTURES = ("hedge_slow", "hedge_fast", "stack_sign", "stack_size", "squares", "powers", "leader", "absolute")
FINALS = 5
GRID = 256  # as in blend.c
FloatArray = npt.NDArray[np.float64]


def init(members: int, pending: int) -> Arrays:
    """Return the state of a mixer that has seen nothing; its order is that of blend.c."""
    return {
        "range": np.zeros(2),
        "error": np.zeros((2, members)),
        "own": np.array([0.0, 1.0]),
        "hedge": np.full((2, members), 1 / members),
        "stack": np.zeros((2, members)),
        "squares": np.zeros((2, members)),
        "spread": np.stack([np.eye(members)] * 2),
        "top": np.full(len(MIXTURES), 1 / len(MIXTURES)),
        "finals": np.zeros(FINALS),
        "count": np.zeros(1, dtype=np.int64),
        "grid": np.zeros(GRID),
        "known": np.zeros(1, dtype=np.int64),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_said": np.zeros((pending, members)),
    }


def run(
    state: Arrays,
    said: FloatArray,
    y: FloatArray,
    used: FloatArray,
    number: npt.NDArray[np.int64],
    operations: Operations,
    served: FloatArray,
    loss: FloatArray,
    *,
    past: int,
) -> None:
    """Run operations in C: fill `served` [K] of rows predicted and `loss` [K] (error / S) of rows learned.

    The first `past` members, one at least, say what the target's own past values are.
    """
    io: list[Array] = [y, used, number, said, served, loss]
    call("blend", operations, [said.shape[1], past, len(state["stored"])], [*state.values(), *io])
