"""The mixtures of `streamnn.pool.label_mixer`, one row at a time.

Axes: K rows, M members, T labels.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, Kind, Operations
from streamnn.pool.label_mixer import CUTS
from streamnn.pool.layout import Arrays
from streamnn.pool.reference.common import PREDICT

SHARED, SURE, OF_ROW = 20.0, 0.05, 0.75  # as in label_mixer.c
THRESHOLDS = 0.05 * np.arange(1, CUTS + 1, dtype=np.float64)


def run(
    state: Arrays,
    said: FloatArray,
    y: FloatArray,
    number: npt.NDArray[np.int64],
    operations: Operations,
    served: FloatArray,
    loss: FloatArray,
    cut: FloatArray,
) -> None:
    """Run operations: fill `served` [K, T] and thresholds `cut` [K, T] of rows predicted, `loss` [K] of rows learned."""
    room = len(state["stored"])
    for kind, start, stop in zip(operations.kind, operations.start, operations.stop, strict=True):
        for r in range(start, stop) if kind != Kind.LEARN else ():
            served[r] = np.where(state["labels"] > 0, _combine(state, said[r])[0], np.nan)
            cut[r] = _sigmoid((1 - OF_ROW) * _logit(state["threshold"]) + OF_ROW * _half_f1(served[r]))
            if room and (kind == Kind.PREDICT_OBSERVE or (kind == Kind.PREDICT_LEARN and np.isnan(y[r]).any())):
                state["stored"][number[r] % room] = number[r] + 1
                state["stored_said"][number[r] % room] = said[r]
        for r in range(start, stop) if kind not in (Kind.PREDICT_OBSERVE, PREDICT) else ():
            if np.isnan(y[r]).all():
                continue
            told = said[r]
            if kind == Kind.LEARN:
                if not room or state["stored"][number[r] % room] != number[r] + 1:
                    continue
                told = state["stored_said"][number[r] % room]
            loss[r] = _learn(state, told, y[r])


def _combine(s: Arrays, said: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Mix one row [M, T]: what is served [T], the stack's [T], and the members' logits [M, T]."""
    p = np.clip(said, 1e-3, 1 - 1e-3)
    logit = _logit(p)
    score = np.clip((s["stack"] * logit).sum(axis=0), -6.9, 6.9)
    mixed = (s["hedge"] * p).sum(axis=0)
    shared = (s["common"][:, None] * p).sum(axis=0)
    mean = (score + _logit(mixed) + _logit(shared)) / 3
    return _sigmoid(mean), _sigmoid(score), logit


def _learn(s: Arrays, said: FloatArray, y: FloatArray) -> float:
    known = ~np.isnan(y)
    served, stack, logit = _combine(s, said)
    truth, p = y[known], served[known]
    on = p > THRESHOLDS[:, None]
    now = [on * truth, on * (1 - truth), ~on * truth]
    s["hits"][:, :, known] = 0.999 * s["hits"][:, :, known] + np.stack(now)
    larger = 1 + 200 / (100 + s["labels"][known])
    s["stack"][:, known] -= 0.003 * larger * (stack[known] - truth) * logit[:, known]
    q = np.clip(said[:, known], 1e-3, 1 - 1e-3)
    likely = larger * (truth * np.log(q) + (1 - truth) * np.log(1 - q))
    hedge = s["hedge"][:, known] * np.exp(0.3 * likely)
    s["hedge"][:, known] = 0.997 * hedge / hedge.sum(axis=0) + 0.003 / len(hedge)
    gain = likely.sum(axis=1)
    common = s["common"] * np.exp(0.05 * (gain - gain.max()))
    s["common"][:] = 0.997 * common / common.sum() + 0.003 / len(common)
    s["labels"][known] += 1
    gains = _gains(s["hits"])
    weights = np.exp(SURE * (gains - gains.max(axis=0)))
    s["threshold"][:] = _sigmoid(_logit(THRESHOLDS) @ weights / weights.sum(axis=0))
    return float(-(truth * np.log(p) + (1 - truth) * np.log(1 - p)).mean())


def _gains(hits: FloatArray) -> FloatArray:
    """What each threshold is worth to each label: [CUTS, T]."""
    right, wrong, missed = hits
    total = 2 * right.sum(axis=1) + wrong.sum(axis=1) + missed.sum(axis=1)
    f1 = np.max(2 * right.sum(axis=1) / np.where(total > 0, total, 1))
    gain: FloatArray = 2 * right * (1 - f1) - f1 * (wrong + missed)
    gain += SHARED * gain.mean(axis=1, keepdims=True)
    return gain


def _half_f1(p: FloatArray) -> float:
    """Half of the F1 that the best set of labels is expected to have in a row, by its probabilities [T], as a logit."""
    most = np.sort(np.nan_to_num(p))[::-1]
    f1 = 2 * np.cumsum(most) / (np.arange(1, len(p) + 1) + most.sum())
    return float(_logit(np.array(max(0.5 * f1.max(), 0.05))))


def _logit(p: FloatArray) -> FloatArray:
    logit: FloatArray = np.log(p / (1 - p))
    return logit


def _sigmoid(z: FloatArray) -> FloatArray:
    p: FloatArray = 1 / (1 + np.exp(-z))
    return p
