"""What is queued on a device's streams is ordered by its events: whenever it runs, results are those of the host, bit for bit."""

import gc
import weakref

import numpy as np
import pytest
import torch

from streamnn.device import GraphEngine, program
from streamnn.device.lanes import CudaLanes
from streamnn.flat import FORGET
from streamnn.operations import Kind, Operations
from tests.streamnn.device.fake_cuda import FakeCuda, host
from tests.streamnn.native.networks import build
from tests.streamnn.native.test_batches import PLAIN, batched, bits, cut
from tests.streamnn.native.test_covering import control

EVENTS = 70
SMALL = {
    "plain": {**PLAIN, "units": (3,), "optimizer": "momentum", "normalizer": "none", "skip": False},
    "streaming": {**PLAIN, "units": (3,), "optimizer": "rmsprop", "normalizer": "streaming", "accumulate": 3},
}


class Dead:
    """An event that nobody waits for."""

    recorded, done = 0, 0

    def record(self, stream):
        """Do nothing."""


class Careless(CudaLanes):
    """Lanes that forget one of their events."""

    def __init__(self, fake, forgotten):
        super().__init__(fake)
        self.forgotten = forgotten

    def turn(self):
        turn = super().turn()
        setattr(turn, self.forgotten, Dead())
        return turn


@pytest.fixture
def short_sections(monkeypatch):
    """Sections of two micro-batches, so that the halves of a ring are used again and again; tracing happens on the host."""
    monkeypatch.setattr(program, "SECTION_MOST", 2)
    monkeypatch.setattr("streamnn.device.lanes.WARM_UPS", 1)
    trace = program.trace

    def on_host(*given):
        with host():
            return trace(*given)

    monkeypatch.setattr(program, "trace", on_host)


def operations():
    """Micro-batches of two sizes, of every kind."""
    listed = batched(EVENTS, (8, 8, 5, 3, 8, 6))
    listed.kind[4::7] = Kind.LEARN
    return listed


class Played:
    """An engine on lanes that plays the events again and again, in three calls."""

    def __init__(self, lanes, name="plain"):
        torch.set_num_threads(1)
        self.case, self.listed = build(SMALL[name], dtype=torch.float32, events=EVENTS), operations()
        self.engine = GraphEngine(lanes=lanes, compiled=False)

    def run(self, state, first, last):
        """Run operations [first, last) from a state."""
        now = control(self.case, rate=0.01 / last, clear=first > 0)
        return self.engine._run(self.case.step, state, self.case.rows, cut(self.listed, first, last), now)

    def again(self):
        """Run everything; returns all bits of the states, served rows and losses."""
        state, seen = self.case.state, []
        for first, last in ((0, 5), (5, 6), (6, len(self.listed))):
            state, results, sound = self.run(state, first, last)
            seen += [sound, results.served.tobytes(), results.loss.tobytes(), bits(state)]
        return seen


@pytest.mark.parametrize("name", ["plain", pytest.param("streaming", marks=pytest.mark.heavy)])
def test_any_order_of_streams_gives_the_same_bits(name, short_sections):
    """Slow and fast devices, and every interleaving of the three streams that was drawn."""
    want, fake = Played(None, name).again(), FakeCuda(0)
    played = Played(CudaLanes(fake), name)
    for fake.eager in (0.5, 0.0, 0.2, 0.8, 0.95):
        assert played.again() == want, fake.eager


@pytest.mark.parametrize("forgotten", ["uploaded", "computed", "downloaded"])
def test_every_event_is_needed(forgotten, short_sections):
    """Without one of the events some order of the streams gives other results: the test above can fail."""
    want, played = Played(None).again(), Played(Careless(FakeCuda(0, 0.5), forgotten))
    assert any(played.again() != want for _ in range(20))


def test_the_host_waits_once_a_call(short_sections):
    """Rows and results of a whole call go by without the host waiting, and nothing is captured in steady state."""
    fake = FakeCuda(3, 0.2)
    played = Played(CudaLanes(fake))
    played.again()
    captures, compilations = fake.captures, played.engine.compilations
    state, _, _ = played.run(played.case.state, 0, len(played.listed))
    syncs = fake.syncs
    for _ in range(2):
        state, _, _ = played.run(state, 0, len(played.listed))
    assert fake.syncs == syncs + 2
    assert fake.captures == captures
    assert played.engine.compilations == compilations


def test_a_call_that_was_cut_off_leaves_nothing_behind(short_sections, monkeypatch):
    """After an exception in the middle of a call the state from before it is run again, with the same results."""
    played = Played(CudaLanes(FakeCuda(1, 0.5)))
    last = len(played.listed)
    state, _, _ = played.run(played.case.state, 0, 4)
    want, expected, _ = played.run(state, 4, last)
    state, _, _ = played.run(played.case.state, 0, 4)
    queue, left = program.Program.queue, [3]

    def breaks(self, *given):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        queue(self, *given)

    with monkeypatch.context() as patched:
        patched.setattr(program.Program, "queue", breaks)
        with pytest.raises(KeyboardInterrupt):
            played.run(state, 4, last)
    got, found, _ = played.run(state, 4, last)
    assert bits(got) == bits(want)
    np.testing.assert_array_equal(found.served, expected.served)


def test_rows_beyond_the_hosts_room_wait(short_sections, monkeypatch):
    """A call with more rows than may be on their way at a time gives the same results; the host waits more often."""
    want = Played(None).again()
    monkeypatch.setattr(program, "HOST_BYTES", 1)
    monkeypatch.setattr(program, "SECTION_MOST", 1)
    fake = FakeCuda(2, 0.3)
    assert Played(CudaLanes(fake)).again() == want
    assert fake.syncs > 6


def test_no_operations():
    """A call without operations changes nothing."""
    played = Played(None)
    played.listed = Operations.of([])
    state, results, sound = played.run(played.case.state, 0, 1)
    assert sound
    assert bits(state) == bits(played.case.state)
    assert np.isnan(results.served).all()


def test_graphs_go_with_their_engine(short_sections):
    """An engine that nobody needs gives its graphs back at once, not when the collector happens to run."""
    fake = FakeCuda(4)
    played = Played(CudaLanes(fake))
    played.again()
    fake.drain()
    assert len(fake.graphs) == fake.captures > 0
    engine = weakref.ref(played.engine)
    gc.disable()
    try:
        del played
        assert engine() is None
        assert not fake.graphs
    finally:
        gc.enable()


def test_what_is_dead_is_collected_before_a_capture(short_sections):
    """Graphs in a cycle of references are destroyed before a capture, not during it; the collector is left as it was."""
    fake, dead = FakeCuda(5), []

    class Cycle:
        """Refers to itself."""

    cycle = Cycle()
    cycle.itself = cycle
    weakref.finalize(cycle, lambda: dead.append(fake.captures))
    gc.disable()
    try:
        del cycle
        Played(CudaLanes(fake)).again()
        assert dead == [0]
        assert not gc.isenabled()
    finally:
        gc.enable()
    Played(CudaLanes(fake)).again()
    assert gc.isenabled()


def precision():
    """What a process has chosen for products of float32: in the newer way, and in the older one where torch tells."""
    try:
        return torch.backends.cuda.matmul.fp32_precision, torch.get_float32_matmul_precision()
    except RuntimeError:
        return torch.backends.cuda.matmul.fp32_precision, None


def test_products_are_captured_in_full_precision(short_sections):
    """What a process has chosen for products does not hold for graphs, and holds again afterwards; torch has two ways."""
    matmul = torch.backends.cuda.matmul
    before = precision()
    try:
        for older, newer in (("highest", "none"), ("high", "tf32"), ("highest", "tf32")):
            torch.set_float32_matmul_precision(older)
            matmul.fp32_precision = newer
            chosen, fake = precision(), FakeCuda(6)
            played = Played(CudaLanes(fake))
            played.run(played.case.state, 0, 1)  # the simulated capture looks at it
            assert fake.captures
            assert precision() == chosen
    finally:
        torch.set_float32_matmul_precision(before[1])
        matmul.fp32_precision = before[0]


def test_an_optimizer_with_nothing_to_forget_has_no_graph(short_sections):
    """SGD with momentum keeps its velocity after a drift: no graph is captured for that, and nothing changes."""
    fake = FakeCuda(7)
    played = Played(CudaLanes(fake))
    played.again()
    built = [program.kinds for program in played.engine._programs.values()]
    assert sum(FORGET in kinds for kinds in built) > 0
    assert fake.captures == sum(len(kinds - {FORGET}) for kinds in built)
