"""The mixtures of `streamnn.pool.blend`, one row at a time.

Axes: K rows, M members.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import Kind, Operations
from streamnn.pool.blend import GRID, MIXTURES
from streamnn.pool.layout import Arrays
from streamnn.pool.reference.common import PREDICT, Vector

ETAS, SHARES, CUTS = (0.1, 0.3), (0.01, 0.003), (1.5, 2.0)
NEAR = 0.1
OFTEN = 4
FIRST = 12


def run(
    state: Arrays,
    said: Vector,
    y: Vector,
    used: Vector,
    number: npt.NDArray[np.int64],
    operations: Operations,
    served: Vector,
    loss: Vector,
    *,
    past: int,
) -> None:
    """Run operations: fill `served` [K] of rows predicted and `loss` [K] (error / S) of rows learned."""
    room = len(state["stored"])
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop) if kind != Kind.LEARN else ():
            p, _, mixed, _ = _combine(state, said[r])
            served[r] = _serve(state, p[:past], mixed)[0] if state["count"][0] else np.nan
            if room and (kind == Kind.PREDICT_OBSERVE or (kind == Kind.PREDICT_LEARN and np.isnan(y[r]))):
                state["stored"][number[r] % room] = number[r] + 1
                state["stored_said"][number[r] % room] = said[r]
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            if np.isnan(y[r]):
                continue
            told = said[r]
            if kind == Kind.LEARN:
                if not room or state["stored"][number[r] % room] != number[r] + 1:
                    loss[r] = 0.0
                    continue
                told = state["stored_said"][number[r] % room]
            loss[r] = _learn(state, told, used[r, 0], past)


def _inside(s: Arrays, p: Vector) -> Vector:
    low, high = s["range"]
    room = 0.1 * (high - low)
    return np.clip(p, low - room, high + room) if s["count"][0] else p


def _combine(s: Arrays, said: Vector) -> tuple[Vector, Vector, Vector, float]:
    """Members within the range [M], their distances from the first hedge [M], the mixtures [8], and S."""
    p, error = _inside(s, said), s["error"][0]
    mixed = np.zeros(len(MIXTURES))
    for h, cut in enumerate(CUTS):
        near = error <= cut * error.min()
        mixed[h] = s["hedge"][h, near] @ p[near] / s["hedge"][h, near].sum()
    scale = s["own"][0] / (1 - s["own"][1]) if s["own"][0] > 0 else 1.0
    d = np.clip((p - mixed[0]) / scale, -5, 5)
    weights = np.stack([*s["stack"], *s["squares"]])
    mixed[[2, 3, 4, 7]] = _inside(s, mixed[0] + scale * (weights @ d))
    power = np.where(error > 0, error.min() / np.where(error > 0, error, 1.0), 1.0) ** 20
    mixed[5] = power @ p / power.sum() if power.sum() > 0 else p[0]
    mixed[6] = p[int(np.argmin(s["error"][1]))]
    return p, d, mixed, float(scale)


def _serve(s: Arrays, past: Vector, mixed: Vector) -> tuple[float, Vector]:
    """What is served, and the five ways to serve later: mean, median, leader, and the values nearest to mean and median."""
    order = np.argsort(mixed, kind="stable")
    below = np.cumsum(s["top"][order])
    median = float(mixed[order[int(np.searchsorted(below, 0.5 * s["top"].sum()))]])
    mean = float(s["top"] @ mixed)
    ways = np.array([mean, median, mixed[6], _nearest(s, mean), _nearest(s, median)])
    if s["count"][0] <= FIRST:
        error = s["error"][1, : len(past)]
        return float(past[np.flatnonzero(error == error.min())[-1]]), ways
    return float(ways[int(np.argmin(s["finals"]))]), ways


def _nearest(s: Arrays, p: float) -> float:
    known = int(s["known"][0])
    if not 0 < known <= GRID or known * OFTEN > s["count"][0]:
        return p
    grid = s["grid"][:known]
    return float(grid[int(np.argmin(np.abs(grid - p)))])


def _remember(s: Arrays, y: float) -> None:
    known = int(s["known"][0])
    if known > GRID or y in s["grid"][:known]:
        return
    if known < GRID:
        s["grid"][: known + 1] = np.sort([*s["grid"][:known], y])
    s["known"][0] += 1


def _learn(s: Arrays, said: Vector, y: float, past: int) -> float:
    if not s["count"][0]:
        s["range"][:], s["count"][0] = y, 1
        _remember(s, y)
        return 1.0
    p, d, mixed, scale = _combine(s, said)
    served, ways = _serve(s, p[:past], mixed)
    target = np.clip((y - mixed[0]) / scale, -10, 10)
    s["top"][:] = _shared(s["top"] * np.exp(-0.3 * np.minimum(np.abs(mixed - y) / scale, 8)), 0.003)
    bad = np.minimum(np.abs(p - y) / scale, 8)
    for w, eta, share in zip(s["hedge"], ETAS, SHARES, strict=True):
        w[:] = _shared(w * np.exp(-eta * bad), share)
    errors = s["stack"] @ d - target
    s["stack"][0] -= 0.001 * np.sign(errors[0]) * d
    s["stack"][1] -= 0.03 * errors[1] / (1 + d @ d) * d
    for absolute, (w, spread) in enumerate(zip(s["squares"], s["spread"], strict=True)):
        k, miss = spread @ d, target - w @ d
        gain = k / (0.999 * (max(abs(miss), NEAR) if absolute else 1.0) + k @ d)
        w += gain * miss
        spread -= np.outer(gain, k)
        if np.trace(spread) < 1e4:
            spread /= 0.999
    count = int(s["count"][0])
    for error, least in zip(s["error"], (0.01, 0.001), strict=True):
        error += max(1 / count, least) * (np.abs(p - y) - error)
    s["finals"] += max(1 / count, 0.001) * (np.abs(ways - y) - s["finals"])
    s["own"][0] += 0.01 * (abs(served - y) - s["own"][0])
    s["own"][1] *= 0.99
    s["range"][:] = min(s["range"][0], y), max(s["range"][1], y)
    s["count"][0] += 1
    _remember(s, y)
    return float(abs(served - y) / scale)


def _shared(weights: Vector, share: float) -> Vector:
    shared: Vector = (1 - share) * weights / weights.sum() + share / len(weights)
    return shared
