"""What only a card can show: captured graphs equal the eager engine, wait for nothing, keep their bits and their memory."""

import gc

import numpy as np
import pytest
import torch

from streamnn.device import GraphEngine
from streamnn.engine import EagerEngine
from tests.streamnn.device.test_graph_engine import all_kinds
from tests.streamnn.helpers import drive, make_learner, same_state
from tests.streamnn.native.networks import build, largest_difference
from tests.streamnn.native.test_batches import NETWORKS, batched, cut
from tests.streamnn.native.test_covering import control
from tests.streamnn.test_learner import SMALL, growing_stream

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(1800),  # the first run on a machine compiles every kernel
    pytest.mark.skipif(
        not torch.cuda.is_available(), reason="needs a CUDA device: graphs on a card are NOT tested by this run"
    ),
]


def on_host(state):
    """A state's tensors as copies on the host."""
    return {part: {name: t.cpu() for name, t in tensors.items()} for part, tensors in state.items()}


def bits(state):
    """Every tensor's bytes."""
    return {(part, name): t.numpy().tobytes() for part, named in on_host(state).items() for name, t in named.items()}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_captured_graphs_equal_eager(name, compiled):
    """Each step from the same state agrees to 1e-4 in float32, operator by operator and fused."""
    case, listed = build(NETWORKS[name], dtype=torch.float32, events=60), all_kinds(60, (8, 5))
    graph, eager, state = GraphEngine("cuda", least=8, compiled=compiled), EagerEngine(), case.state
    for i in range(len(listed)):
        now = control(case, rate=0.001, clear=i in (2, 4))
        want, expected, sound = eager._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        got, found, fine = graph._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        assert sound
        assert fine
        worst, place = largest_difference(want, on_host(got))
        assert worst < 1e-4, (i, place)
        np.testing.assert_allclose(found.served, expected.served, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-4, atol=1e-4)
        state = want


@pytest.mark.parametrize("name", ["plain", "streaming", "dropout"])
def test_cuts_and_resumption_change_no_bit(name):
    """One call, a call for each micro-batch, and a new engine on a state that was on the host give the same bits."""
    case, listed = build(NETWORKS[name], dtype=torch.float32, events=400), all_kinds(400, (16, 11))
    now = control(case, rate=0.01)
    whole, served, _ = GraphEngine("cuda", least=16)._run(case.step, case.state, case.rows, listed, now)
    engine, state = GraphEngine("cuda", least=16), case.state
    parts = np.full_like(served.served, np.nan)
    for i in range(len(listed)):
        if i == 7:
            engine, state = GraphEngine("cuda", least=16), on_host(state)
        state, results, _ = engine._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        done = ~np.isnan(results.served)
        parts[done] = results.served[done]
    assert bits(state) == bits(whole)
    np.testing.assert_array_equal(parts, served.served)


def allocated():
    """Bytes in use on the card, once everything queued is done and what is dead is collected."""
    gc.collect()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated()


@pytest.mark.filterwarnings(
    "ignore:Synchronization debug mode"
)  # a prototype: it does not see all, events least of all
def test_nothing_waits_for_the_card_and_memory_is_flat():
    """With torch's errors for synchronising calls on, calls run; what they allocate is given back."""
    case, listed = build(NETWORKS["plain"], dtype=torch.float32, events=2000), batched(2000, (64,))
    engine, now = GraphEngine("cuda", least=64), control(case)
    state, _, _ = engine._run(case.step, case.state, case.rows, listed, now)
    state, _, _ = engine._run(case.step, state, case.rows, listed, now)
    before = allocated()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(30):
            state, _, sound = engine._run(case.step, state, case.rows, listed, now)
            assert sound
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert allocated() == before


def test_a_learner_on_a_card_grows_refuses_and_goes_on():
    """Growth of both axes, a bad event and a checkpoint, beside the eager engine."""
    columns, labels = growing_stream()
    settings = {"network": SMALL, "feature_capacity": 2, "class_capacity": 2, "engine": "auto"}
    want, _ = drive(make_learner("multiclass", **{**settings, "engine": "eager"}), columns, labels, cuts=[80], batch=8)
    whole, parts, again = (make_learner("multiclass", **settings, device="cuda", batch=8) for _ in range(3))
    served, _ = drive(whole, columns, labels, cuts=[80], batch=8)
    np.testing.assert_allclose(served, want, rtol=1e-3, atol=1e-4)
    first, second = ({n: c[part] for n, c in columns.items()} for part in (slice(48), slice(48, None)))
    known, rest = ({n: c[part] for n, c in labels.items()} for part in (slice(48), slice(48, None)))
    drive(parts, first, known, cuts=[16] * 3, batch=8)
    again.load_state_dict(parts.state_dict())
    drive(again, second, rest, cuts=[8] * 4, batch=8, start=48)
    assert same_state(again, whole)
    assert all(t.device.type == "cpu" for tensors in whole.state.values() for t in tensors.values())
    case, listed = build(NETWORKS["values"], dtype=torch.float32, events=40), batched(40, (8,))
    case.rows.x[13, 0] = 1e300
    _, found = GraphEngine("cuda", least=8).run(case.step, case.state, case.rows, listed, control(case))
    assert sorted(found.refused) == [13]
