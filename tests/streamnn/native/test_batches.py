"""Micro-batches in the native engine: equal to the eager engine's, whatever their sizes and however a chunk is cut."""

import numpy as np
import pytest
import torch

from streamnn.engine import EagerEngine
from streamnn.native import NativeEngine
from streamnn.native.outline import padded
from streamnn.operations import Kind, Operations, Rows
from tests.streamnn.native.networks import build, largest_difference
from tests.streamnn.native.test_covering import CHOICES, control

PLAIN = {
    "head": "binary", "optimizer": "adam0", "normalizer": "layer", "activation": "relu", "units": (8, 3),
    "loss": "huber", "missing": "nothing", "dropout": 0.0, "accumulate": 1, "skip": True, "horizon": 0, "inputs": 8,
}  # fmt: skip
NETWORKS = {
    "plain": PLAIN,
    "streaming": {**PLAIN, "normalizer": "streaming", "missing": "inputs", "accumulate": 3},
    "online": {**PLAIN, "normalizer": "online", "head": "classes", "optimizer": "sgd"},
    "dropout": {**PLAIN, "dropout": 0.3, "optimizer": "rmsprop", "activation": "gelu"},
    "labels": {**PLAIN, "head": "labels", "missing": "both", "optimizer": "cocob"},
    "values": {**PLAIN, "head": "mixed", "missing": "labels", "loss": "absolute", "horizon": 40},
}
SIZES = (1, 3, 8, 5, 16, 2)


def batched(events, sizes=SIZES):
    """Micro-batches of the sizes in turn, the last one partial; the kinds take turns too."""
    listed, first = [], 0
    while first < events:
        last = min(first + sizes[len(listed) % len(sizes)], events)
        listed.append((Kind.PREDICT_OBSERVE if len(listed) % 7 == 6 else Kind.PREDICT_LEARN, first, last))
        first = last
    return Operations.of(listed)


def cut(operations, first, last):
    """Operations [first, last)."""
    return Operations(operations.kind[first:last], operations.start[first:last], operations.stop[first:last])


def bits(state):
    """Every tensor's bytes."""
    return {
        (part, name): t.contiguous().numpy().tobytes() for part, named in state.items() for name, t in named.items()
    }


def test_settings_are_those_of_the_covering_set():
    """The networks here name every setting that the covering set has."""
    assert PLAIN.keys() == CHOICES[0].keys()


@pytest.mark.parametrize("name", NETWORKS)
def test_native_equals_eager(name):
    """Each step from the same state agrees to 1e-5 in float32; 500 events in float64 agree to 1e-8."""
    torch.set_num_threads(1)
    case = build(NETWORKS[name], dtype=torch.float32, events=70)
    native, eager, state, listed = NativeEngine(), EagerEngine(), case.state, batched(70)
    for i in range(len(listed)):
        now = control(case, rate=0.001, clear=i == 4)  # rmsprop makes a step of rounding in a gradient near 0
        want, expected, sound = eager._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        got, found, fine = native._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        assert sound
        assert fine
        worst, place = largest_difference(want, got)
        assert worst < 1e-5, (i, place)
        np.testing.assert_allclose(found.served, expected.served, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
        state = want
    case, listed = build(NETWORKS[name], dtype=torch.float64, events=500), batched(500)
    now = control(case, rate=1e-4)
    want, expected, _ = eager._run(case.step, case.state, case.rows, listed, now)
    got, found, _ = native._run(case.step, case.state, case.rows, listed, now)
    worst, place = largest_difference(want, got)
    assert worst < 1e-8, place
    np.testing.assert_allclose(found.served, expected.served, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-8, atol=1e-8)


def own_rows(case, listed, i):
    """The rows of an operation alone, and it over them."""
    first, last = int(listed.start[i]), int(listed.stop[i])
    rows = Rows(case.rows.x[first:last], case.rows.y[first:last], case.rows.number[first:last])
    return rows, Operations.of([(Kind(int(listed.kind[i])), 0, last - first)])


LATE = [
    (Kind.PREDICT_OBSERVE, 0, 5), (Kind.PREDICT_LEARN, 5, 11), (Kind.LEARN, 0, 5), (Kind.PREDICT_OBSERVE, 11, 19),
    (Kind.PREDICT_OBSERVE, 19, 26), (Kind.LEARN, 11, 19), (Kind.PREDICT_LEARN, 26, 32), (Kind.LEARN, 19, 26),
]  # fmt: skip


@pytest.mark.parametrize("name", ["streaming", "values"])
def test_micro_batches_whose_labels_come_late(name):
    """Steps that only learn, of padded and whole micro-batches, agree to 1e-5; one call gives the bits of many."""
    torch.set_num_threads(1)
    case, listed = build(NETWORKS[name], dtype=torch.float32, events=32), Operations.of(LATE)
    native, eager, now = NativeEngine(), EagerEngine(), control(case)
    whole, served, _ = native._run(case.step, case.state, case.rows, listed, now)
    state = alone = case.state
    for i, (kind, first, last) in enumerate(LATE):
        rows, op = own_rows(case, listed, i)
        want, expected, sound = eager._run(case.step, state, rows, op, now)
        got, found, fine = native._run(case.step, state, rows, op, now)
        assert sound
        assert fine
        worst, place = largest_difference(want, got)
        assert worst < 1e-5, (i, place)
        np.testing.assert_allclose(found.served, expected.served, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
        state, (alone, results, _) = want, native._run(case.step, alone, rows, op, now)
        wanted = np.full_like(results.served, np.nan) if kind == Kind.LEARN else served.served[first:last]
        np.testing.assert_array_equal(results.served, wanted)
    assert bits(alone) == bits(whole)
    assert native.compilations == 1


@pytest.mark.parametrize("name", ["plain", "streaming"])
def test_cuts_and_resumption_change_no_bit(name, monkeypatch):
    """One call, a call for each micro-batch, and a new engine on a copied state in between give the same bits."""
    torch.set_num_threads(1)
    monkeypatch.setattr("streamnn.native.engine.LARGEST", 16)
    sizes = (*SIZES, 17)  # the last of them goes to torch
    case, listed = build(NETWORKS[name], dtype=torch.float32, events=300), batched(300, sizes)
    now = control(case, rate=0.01)
    native = NativeEngine()
    whole, served, _ = native._run(case.step, case.state, case.rows, listed, now)
    compiled = native.compilations
    state, parts = case.state, []
    for i in range(len(listed)):
        if i in (3, 7):
            state = {part: {k: t.contiguous().clone() for k, t in named.items()} for part, named in state.items()}
        own, op = own_rows(case, listed, i)
        state, results, _ = native._run(case.step, state, own, op, now)
        parts.append(results.served)
    assert bits(state) == bits(whole)
    np.testing.assert_array_equal(np.concatenate(parts), served.served)
    known = native.compilations
    native._run(case.step, case.state, case.rows, listed, now)
    assert compiled <= known == native.compilations  # nothing is compiled in steady state


def test_sizes_are_padded_to_powers_of_two():
    """1, 2, 3, 4, 5 and 64 rows run as 1, 2, 4, 4, 8 and 64."""
    sizes = Operations.of([(Kind.LEARN, 0, n) for n in (1, 2, 3, 4, 5, 64)])
    assert padded(sizes).tolist() == [1, 2, 4, 4, 8, 64]
