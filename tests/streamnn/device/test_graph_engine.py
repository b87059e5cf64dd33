"""The graph engine on the host: the eager engine's results, whatever the sizes of micro-batches and the cuts of a stream."""

import numpy as np
import pytest
import torch
from torch.fx import Interpreter

from streamnn.device import GraphEngine, program
from streamnn.device.lanes import Lanes
from streamnn.device.trace import trace
from streamnn.engine import EagerEngine
from streamnn.flat import FORGET, FlatStep
from streamnn.operations import Kind, Operations, Rows
from tests.streamnn.helpers import drive, make_learner, same_state
from tests.streamnn.native.networks import build, largest_difference
from tests.streamnn.native.test_batches import NETWORKS, batched, bits, cut
from tests.streamnn.native.test_covering import CHOICES, control
from tests.streamnn.test_learner import SMALL, growing_stream

SIZES = (1, 4, 3)


def some(*names):
    """The networks, of which the default suite runs those named: to trace one takes seconds."""
    return [pytest.param(name, marks=[] if name in names else [pytest.mark.heavy]) for name in NETWORKS]


def all_kinds(events, sizes=SIZES):
    """Micro-batches of the sizes in turn; every seventh is not learned, every fifth only learned."""
    listed = batched(events, sizes)
    listed.kind[4::5] = Kind.LEARN
    return listed


def on_graphs(learner, **settings):
    """Have a learner run graphs on the host."""
    learner._engine, learner._native = GraphEngine(**settings), None
    return learner


def equal_steps(choice, *, events=30, sizes=SIZES, least=1):
    """Compare both engines, each step from the same state."""
    torch.set_num_threads(1)
    case, listed = build(choice, dtype=torch.float32, events=events), all_kinds(events, sizes)
    graph, eager, state = GraphEngine(least=least), EagerEngine(), case.state
    for i in range(len(listed)):
        now = control(case, rate=0.001, clear=i in (2, 4))
        want, expected, sound = eager._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        before = bits(state)
        got, found, fine = graph._run(case.step, state, case.rows, cut(listed, i, i + 1), now)
        assert sound == fine
        assert bits(state) == before, "the state that was passed in has changed"
        worst, place = largest_difference(want, got)
        assert worst < 1e-5, (i, place)
        np.testing.assert_allclose(found.served, expected.served, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
        state = want
    return graph


@pytest.mark.parametrize("name", some("streaming", "dropout"))
def test_equals_eager(name):
    """Each step from the same state agrees to 1e-5 in float32; 100 events in float64 agree to 1e-8."""
    equal_steps(NETWORKS[name])
    case, listed = build(NETWORKS[name], dtype=torch.float64, events=100), all_kinds(100)
    now = control(case, rate=1e-4)
    want, expected, _ = EagerEngine()._run(case.step, case.state, case.rows, listed, now)
    got, found, _ = GraphEngine(least=4)._run(case.step, case.state, case.rows, listed, now)
    worst, place = largest_difference(want, got)
    assert worst < 1e-8, place
    np.testing.assert_allclose(found.served, expected.served, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("at", range(0, len(CHOICES), len(CHOICES) // 8))
def test_equals_eager_over_heads_normalisers_and_optimizers(at):
    """Part of the covering set, in micro-batches of four."""
    equal_steps(CHOICES[at], events=26, sizes=(4,))


def test_one_program_for_all_sizes():
    """Padded to the largest, micro-batches of all sizes run through one program, with the same results."""
    graph = equal_steps(NETWORKS["streaming"], least=4)
    assert list(graph._programs) == [4]
    assert graph._programs[4].kinds == {*Kind, FORGET}


@pytest.mark.parametrize("name", some("streaming"))
def test_cuts_and_resumption_change_no_bit(name):
    """One call, a call for each micro-batch, and a new engine on a copied state in between give the same bits."""
    torch.set_num_threads(1)
    case, listed = build(NETWORKS[name], dtype=torch.float32, events=60), all_kinds(60)
    now = control(case, rate=0.01)
    engine = GraphEngine(least=4)
    whole, served, _ = engine._run(case.step, case.state, case.rows, listed, now)
    state, parts = case.state, np.full_like(served.served, np.nan)
    for i in range(len(listed)):
        if i in (3, 11):
            engine = GraphEngine(least=4)
            state = {part: {k: t.clone() for k, t in named.items()} for part, named in state.items()}
        first, last = int(listed.start[i]), int(listed.stop[i])
        own = Rows(case.rows.x[first:last], case.rows.y[first:last], case.rows.number[first:last])
        op = Operations.of([(Kind(int(listed.kind[i])), 0, last - first)])
        state, results, _ = engine._run(case.step, state, own, op, now)
        parts[first:last] = results.served
    assert bits(state) == bits(whole)
    np.testing.assert_array_equal(parts, served.served)


def test_a_bad_event_is_found_and_left_out():
    """Rows whose learning makes the state infinite are refused, as in the eager engine, and nothing of them stays."""
    torch.set_num_threads(1)
    case, listed = build(NETWORKS["values"], dtype=torch.float32, events=40), batched(40, (8,))
    case.rows.x[13, 0] = 1e300
    case.rows.x[30, 1] = -1e300
    now = control(case)
    want, expected = EagerEngine().run(case.step, case.state, case.rows, listed, now)
    got, found = GraphEngine(least=8).run(case.step, case.state, case.rows, listed, now)
    assert sorted(expected.refused) == [13, 30]
    assert found.refused == expected.refused
    worst, place = largest_difference(want, got)
    assert worst < 1e-4, place
    np.testing.assert_allclose(found.served, expected.served, rtol=1e-4, atol=1e-5)


def test_growth_and_cuts():
    """A learner grows through both axes as with the eager engine; cuts change no bit; a checkpoint goes on, bit for bit."""
    torch.set_num_threads(1)
    columns, labels = growing_stream()
    settings = {"network": SMALL, "feature_capacity": 2, "class_capacity": 2}
    eager = make_learner("multiclass", **settings)
    want, _ = drive(eager, columns, labels, cuts=[80], batch=8)
    whole, parts = (on_graphs(make_learner("multiclass", **settings), least=8) for _ in range(2))
    served, _ = drive(whole, columns, labels, cuts=[80], batch=8)
    assert whole.growths == eager.growths
    np.testing.assert_allclose(served, want, rtol=1e-4, atol=1e-5)
    assert whole.compilations == len(whole._engine._programs[8].kinds) + sum(whole.growths.values()) >= 4
    got, _ = drive(
        parts, {n: c[:48] for n, c in columns.items()}, {n: c[:48] for n, c in labels.items()}, cuts=[16] * 3, batch=8
    )
    again = on_graphs(make_learner("multiclass", **settings), least=8)
    again.load_state_dict(parts.state_dict())
    rest, _ = drive(
        again,
        {n: c[48:] for n, c in columns.items()},
        {n: c[48:] for n, c in labels.items()},
        cuts=[8] * 4,
        batch=8,
        start=48,
    )
    np.testing.assert_array_equal(
        np.nan_to_num(got[:, : served.shape[1]], nan=0), np.nan_to_num(served[:48, : got.shape[1]], nan=0)
    )
    np.testing.assert_array_equal(rest, served[48:])
    assert same_state(again, whole)


def test_a_kind_can_be_built_after_a_full_section(monkeypatch):
    """What compiles a graph runs it once, on rows of the ring: not on those behind its end, where a full section leads."""
    torch.set_num_threads(1)
    monkeypatch.setattr(program, "SECTION_MOST", 2)
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    case = build(NETWORKS["plain"], dtype=torch.float32, events=24)
    listed = Operations.of([(Kind.PREDICT_LEARN, 0, 8), (Kind.PREDICT_LEARN, 8, 16), (Kind.PREDICT_OBSERVE, 16, 24)])
    now = control(case, rate=0.001)
    engine, want, got = GraphEngine(compiled=True), case.state, case.state
    for first, last in ((0, 2), (2, 3)):
        part = cut(listed, first, last)
        want, expected, _ = EagerEngine()._run(case.step, want, case.rows, part, now)
        got, found, _ = engine._run(case.step, got, case.rows, part, now)
        np.testing.assert_allclose(found.served, expected.served, rtol=1e-5, atol=1e-5)
    assert largest_difference(want, got)[0] < 1e-4


@pytest.mark.parametrize("at", [0, 1])
def test_after_a_failed_build_the_next_call_begins_anew(at, monkeypatch):
    """Out of memory while one of two kinds is built: the call raises, and the same call again gives the right results."""
    torch.set_num_threads(1)
    case, listed = build(NETWORKS["plain"], dtype=torch.float32, events=50), batched(50, (4,))
    now, engine = control(case, rate=0.001), GraphEngine()
    want, expected, _ = GraphEngine()._run(case.step, case.state, case.rows, listed, now)
    whole, left, pools = program.trace, [at], []

    def breaks(*given):
        pools.append(engine._memory)
        left[0] -= 1
        if left[0] == -1:
            raise torch.OutOfMemoryError
        return whole(*given)

    monkeypatch.setattr(program, "trace", breaks)
    with pytest.raises(torch.OutOfMemoryError):
        engine._run(case.step, case.state, case.rows, listed, now)
    got, found, _ = engine._run(case.step, case.state, case.rows, listed, now)
    assert bits(got) == bits(want)
    np.testing.assert_array_equal(found.served, expected.served)
    assert pools[at] is not pools[-1], "a pool whose graphs are gone must not be used again"


def test_after_a_step_without_room_the_old_one_and_the_new_one_run(monkeypatch):
    """There is no memory for another step's state: the engine runs neither step on the memory of the other."""
    torch.set_num_threads(1)
    cases = [build({**NETWORKS["plain"], "inputs": n}, dtype=torch.float32, events=20) for n in (3, 8)]
    listed, engine = batched(20, (4,)), GraphEngine()
    now = [control(case, rate=0.001) for case in cases]
    want = [bits(GraphEngine()._run(c.step, c.state, c.rows, listed, n)[0]) for c, n in zip(cases, now, strict=True)]

    def run(i):
        return bits(engine._run(cases[i].step, cases[i].state, cases[i].rows, listed, now[i])[0])

    def full(*given):
        raise torch.OutOfMemoryError

    assert run(0) == want[0]
    for other, after in ((1, 0), (1, 1), (0, 1)):
        with monkeypatch.context() as patched:
            patched.setattr("streamnn.device.engine.Memory", full)
            with pytest.raises(torch.OutOfMemoryError):
                run(other)
        assert run(after) == want[after]


def test_large_records_move_beside_computing(monkeypatch):
    """Of records larger than what may be on its way, the next section is queued before the host waits for the first."""
    torch.set_num_threads(1)
    monkeypatch.setattr(program, "SECTION_BYTES", 1)
    monkeypatch.setattr(program, "HOST_BYTES", 1)
    case, listed = build(NETWORKS["plain"], dtype=torch.float32, events=32), batched(32, (8,))
    seen = []
    queue, fetch = program.Program.queue, Lanes.fetch
    monkeypatch.setattr(program.Program, "queue", lambda *given: (seen.append("queue"), queue(*given)))
    monkeypatch.setattr(Lanes, "fetch", lambda *given: (seen.append("wait"), fetch(*given)))
    GraphEngine()._run(case.step, case.state, case.rows, listed, control(case))
    assert seen == ["wait", "queue", "queue", "wait", "queue", "queue", "wait"]


@pytest.mark.parametrize("name", NETWORKS)
def test_everything_in_a_graph_is_on_its_device(name):
    """A graph made for a device has no tensor of the host in it: a copy from there would break its capture.

    The device is torch's `meta`, which computes shapes alone.
    """
    case = build(NETWORKS[name], dtype=torch.float32, events=8)
    flat = FlatStep(case.step, case.state)
    leaves = flat.flattened(case.state)
    fields = [torch.zeros(shape, dtype=dtype) for shape, dtype in [*flat.rows(4), *flat.shared]]
    device = torch.device("meta")

    class Strict(Interpreter):
        def run_node(self, n):
            """Check where each result is."""
            out = super().run_node(n)
            for t in out if isinstance(out, (tuple, list)) else [out]:
                assert not isinstance(t, torch.Tensor) or t.device == device, n.format_node()
            return out

    for function in flat.functions:

        def whole(*given, function=function):
            new, outs = function(given[: len(leaves)], given[len(leaves) :])
            return [*new, *outs]

        module = trace(whole, [*leaves, *fields], device)
        Strict(module).run(*[t.to(device) for t in [*leaves, *fields]])


def test_the_compiler_knows_its_settings():
    """This torch has what is set for its compiler, with another value by default."""
    for name, value in program.OPTIONS.items():
        assert getattr(torch._inductor.config, name) != value
    assert set(program.OPTIONS) <= set(torch._inductor.list_options())


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["streaming", "dropout"])
def test_compiled_graphs_equal_eager(name):
    """The same through `torch.compile`, as on a card, where it compiles for the host."""
    torch.set_num_threads(1)
    case, listed = build(NETWORKS[name], dtype=torch.float32, events=40), batched(40, (8,))
    now = control(case, rate=0.001)
    want, expected, _ = EagerEngine()._run(case.step, case.state, case.rows, listed, now)
    got, found, _ = GraphEngine(compiled=True, least=8)._run(case.step, case.state, case.rows, listed, now)
    worst, place = largest_difference(want, got)
    assert worst < 1e-4, place
    np.testing.assert_allclose(found.served, expected.served, rtol=1e-4, atol=1e-5)
