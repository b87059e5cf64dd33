"""However a list of operations is cut into native calls, every bit is the same: single events, labels at once, late and never."""

import numpy as np
import pytest
import torch

from streamnn.native import NativeEngine
from streamnn.operations import Kind, Operations, Rows
from tests.streamnn.native.networks import build
from tests.streamnn.native.test_batches import PLAIN, bits, cut
from tests.streamnn.native.test_covering import control

EVENTS, LATE = 150, 5
OTHER = {**PLAIN, "dropout": 0.3, "units": (6,)}
NETWORKS = {
    "layer, adam": {**OTHER, "head": "classes", "optimizer": "adam"},
    "layer, sgd": {**OTHER, "head": "value", "optimizer": "momentum", "missing": "inputs", "accumulate": 3},
    "streaming, sgd": {**OTHER, "normalizer": "streaming", "optimizer": "sgd", "missing": "both"},
    "online, adam": {**OTHER, "normalizer": "online", "optimizer": "adam", "horizon": 40},
}


def operations():
    """Events that are learned at once, LATE events later, and never; what comes late is learned between two others."""
    listed = []
    for n in range(EVENTS):
        late, never = n % 4 == 1, n % 7 == 5
        listed.append((Kind.PREDICT_OBSERVE if late or never else Kind.PREDICT_LEARN, n, n + 1))
        if n >= LATE and (n - LATE) % 4 == 1:
            listed.append((Kind.LEARN, n - LATE, n - LATE + 1))
    return Operations.of(listed)


def cuts(name, total):
    """Lengths of the calls."""
    if name != "random":
        return [min(name, total - at) for at in range(0, total, name)]
    lengths, rng = [], np.random.default_rng(3)
    while sum(lengths) < total:
        lengths.append(min(int(rng.integers(1, 40)), total - sum(lengths)))
    return lengths


def play(engine, case, lengths):
    """Run all operations in calls of some lengths, each with no other rows than its own; returns state, served rows, losses."""
    listed, state, first = operations(), case.state, 0
    served, loss = np.full((EVENTS, case.step.head.width), np.nan), np.full(EVENTS, np.nan)
    for length in lengths:
        part = cut(listed, first, first + length)
        rows = np.unique(part.start)
        own = Rows(case.rows.x[rows], case.rows.y[rows], case.rows.number[rows])
        place = np.searchsorted(rows, part.start)
        state, results = engine.run(case.step, state, own, Operations(part.kind, place, place + 1), control(case))
        assert not results.refused
        predicted, learned = part.kind != Kind.LEARN, part.kind != Kind.PREDICT_OBSERVE
        served[part.start[predicted]] = results.served[place[predicted]]
        loss[part.start[learned]] = results.loss[place[learned]]
        first += length
    assert first == len(listed)
    return bits(state), served, loss


def assert_same_bits(got, want):
    """Compare all that was learned and given out."""
    assert got[0] == want[0]
    for a, b in zip(got[1:], want[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NETWORKS)
def test_cuts_change_no_bit(name):
    """Calls of 1, 7, 64 and random lengths give the weights, optimizer state, statistics and served rows of one call."""
    torch.set_num_threads(1)
    case, engine, total = build(NETWORKS[name], dtype=torch.float32, events=EVENTS), NativeEngine(), len(operations())
    want = play(engine, case, [total])
    assert np.isfinite(want[1]).all(axis=1).any()
    assert engine.compilations == 1
    for length in (1, 7, 64, "random"):
        assert_same_bits(play(engine, case, cuts(length, total)), want)
    assert engine.compilations == 1


def test_what_has_been_compiled_so_far_changes_no_bit():
    """An engine that meets each kind of operation in a call of its own compiles more often, and gives the same bits."""
    torch.set_num_threads(1)
    case, total = build(NETWORKS["layer, sgd"], dtype=torch.float32, events=EVENTS), len(operations())
    one_by_one = NativeEngine()
    got = play(one_by_one, case, [1] * total)
    assert one_by_one.compilations == len(Kind)
    assert_same_bits(got, play(NativeEngine(), case, [total]))
