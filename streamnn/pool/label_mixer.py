"""For each label a hedge and a stack over the members' probabilities p_m, a hedge for all labels, and its thresholds.

    hedge      sum_m h_m p_m; h_m times exp(-.3 s loss_m), normalised, then .997 h + .003 / M
    common     the same with weights that all labels share; h_m times exp(-.05 s loss_m) for each label of an event
    stack      sigmoid(sum_m w_m logit p_m); w = 1/M at first, then gradient steps of .003 s on its log-loss
    served     the mean of the three as logits
    threshold  the mean of the cuts .05, .10, ... .95 as logits, each with weight exp(.05 (g_t + 20 mean g)); .3 at first
    g_t        2 TP (1 - F) - F (FP + FN) of the label at that threshold, counts decayed by .999 a label; F is the best
               micro-F1 that one threshold for all labels has had
    cut        .25 threshold + .75 F / 2 as logits, F = max_k 2 (p_1 + ... + p_k) / (k + sum p), p the row's in descending
               order: where the label is on in this row

Steps are larger at the start, s = 1 + 200 / (100 + times the label was learned). Weights that labels share are learned
from T times as much, which helps rare labels. The micro-F1 of all labels together can be raised by a change of one
label's threshold just where this raises its g_t (Dinkelbach 1967); the mean over labels steadies rare ones, and that over
cuts decides nothing where gains hardly differ. The best F1 of each label alone costs micro-F1. F1 of one event is highest
with all labels above half of it on (Lipton, Elkan and Narayanaswamy 2014): F is about what its best set would have.

Probabilities count within .001 and .999. For labels that come late the members are judged by what they said when the
row was served.

Axes: K rows, M members, T labels, S pending events.
"""

import numpy as np
import numpy.typing as npt

from streamnn.operations import FloatArray, Operations
from streamnn.pool.layout import Arrays
from streamnn.pool.native import call

CUTS = 19


def init(members: int, labels: int, pending: int) -> Arrays:
    """Return the state of a mixer that has seen nothing."""
    return {
        "hedge": np.full((members, labels), 1 / members),
        "stack": np.full((members, labels), 1 / members),
        "common": np.full(members, 1 / members),
        "labels": np.zeros(labels, dtype=np.int64),
        "hits": np.zeros((3, CUTS, labels)),
        "threshold": np.full(labels, 0.3),
        "stored": np.zeros(pending, dtype=np.int64),
        "stored_said": np.zeros((pending, members, labels)),
    }


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
    """Run operations in C: fill `served` [K, T] and the thresholds `cut` [K, T] of rows predicted, `loss` [K] of others."""
    sizes = [said.shape[1], said.shape[2], len(state["stored"])]
    call("label_mixer", operations, sizes, [*state.values(), y, number, said, served, loss, cut])
