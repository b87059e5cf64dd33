"""Where work for a device is queued: on lanes that run beside each other and wait for one another by events.

One lane computes, one brings rows to the device, one takes results back. The host queues everything and waits once, in
`fetch`. `Lanes` do it all at once instead, which is what a processor without a device does, and what tests compare with.
"""

import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Work = Callable[[], None]

WARM_UPS = 3  # runs before a capture: libraries make handles and workspaces at first use, which a capture must not meet
_BUILDING = threading.Lock()  # one capture at a time in a process, and nobody may wait for all of a device meanwhile


class Turn:
    """One half of a ring on a device: the host fills one while the device works on the other.

    Attributes:
        uploaded, computed, downloaded: when what was queued last for this half is done; None without a device.
    """

    def __init__(self, event: Callable[[], Any] = lambda: None) -> None:
        self.uploaded, self.computed, self.downloaded = event(), event(), event()


class Lanes:
    """Run everything at once, on the host."""

    pinned = False

    def turn(self) -> Turn:
        """Make a half of a ring."""
        return Turn()

    def pool(self) -> Any:
        """Make a pool of memory for captures."""
        return None

    @contextmanager
    def building(self) -> Iterator[None]:
        """Trace, compile and capture what is called here."""
        yield

    def capture(self, work: Work, warm_up: Work, pool: Any) -> Work:  # noqa: ARG002
        """Return what runs `work` again, on the same memory; `warm_up` may be run before: `work`, from a known start."""
        return work

    @contextmanager
    def computing(self, turn: Turn | None = None) -> Iterator[None]:  # noqa: ARG002
        """Queue what is called here for computing; of a turn: once its rows are there and its old results fetched."""
        yield

    def upload(self, turn: Turn, target: Tensor, source: Tensor) -> None:  # noqa: ARG002
        """Queue a copy of rows to the device, once what was computed from the old ones is done."""
        target.copy_(source)

    def download(self, turn: Turn, target: Tensor, source: Tensor) -> None:  # noqa: ARG002
        """Queue a copy of results to the host, once they are computed."""
        target.copy_(source)

    def fetch(self, target: Tensor, source: Tensor) -> None:
        """Copy to the host once everything queued is done, and wait for it."""
        target.copy_(source)


class CudaLanes(Lanes):
    """Three streams of a CUDA device.

    A capture runs on the stream that replays: what libraries keep for each stream (cuBLAS's workspace) is then there.
    Captures may share a pool of memory, as long as nothing in it outlives a replay: no two replays overlap.

    What compiles waits for the whole device (tuning, warm-ups), which CUDA forbids while a capture is under way anywhere in
    the process. So one program is built at a time; whoever else uses the device in the process must not wait for all of it
    (`torch.cuda.synchronize`) while an engine builds. Streams and events may be waited for.

    Args:
        api: `torch.cuda`, or what stands in for it in a test.
    """

    pinned = True

    def __init__(self, api: Any = torch.cuda) -> None:
        self._api = api
        self._compute, self._up, self._down = api.Stream(), api.Stream(), api.Stream()
        self._all, self._last = api.Event(), api.Event()

    def turn(self) -> Turn:
        """Make a half of a ring; an event that was never recorded is not waited for."""
        return Turn(self._api.Event)

    def pool(self) -> Any:
        """Make a pool; one whose graphs are all gone must not be used again."""
        return self._api.graph_pool_handle()

    @contextmanager
    def building(self) -> Iterator[None]:
        """Have what is called here to itself; products of float32 are compiled and captured with all their bits."""
        with _BUILDING, _full_precision():
            yield

    def capture(self, work: Work, warm_up: Work, pool: Any) -> Work:
        """Run `warm_up` a few times, then record what `work` launches without running it. Called while `building`."""
        with self._api.stream(self._compute):
            for _ in range(WARM_UPS):
                warm_up()
        self._compute.synchronize()
        graph = self._api.CUDAGraph()
        # another thread of the process may use the device meanwhile
        with (
            _uncollected(),
            self._api.graph(graph, pool=pool, stream=self._compute, capture_error_mode="thread_local"),
        ):
            work()
        replay: Work = graph.replay
        return replay

    @contextmanager
    def computing(self, turn: Turn | None = None) -> Iterator[None]:
        """Queue on the computing stream."""
        with self._api.stream(self._compute):
            if turn is not None:
                self._compute.wait_event(turn.uploaded)
                self._compute.wait_event(turn.downloaded)
            yield
            if turn is not None:
                turn.computed.record(self._compute)

    def upload(self, turn: Turn, target: Tensor, source: Tensor) -> None:
        """Queue on the stream of uploads."""
        self._up.wait_event(turn.computed)
        with self._api.stream(self._up):
            target.copy_(source, non_blocking=True)
        turn.uploaded.record(self._up)

    def download(self, turn: Turn, target: Tensor, source: Tensor) -> None:
        """Queue on the stream of downloads."""
        self._down.wait_event(turn.computed)
        with self._api.stream(self._down):
            target.copy_(source, non_blocking=True)
        turn.downloaded.record(self._down)

    def fetch(self, target: Tensor, source: Tensor) -> None:
        """Queue behind everything, and wait: the only time that the host does."""
        self._all.record(self._compute)
        self._down.wait_event(self._all)
        with self._api.stream(self._down):
            target.copy_(source, non_blocking=True)
        self._last.record(self._down)
        self._last.synchronize()


@contextmanager
def _full_precision() -> Iterator[None]:
    """Round no product of float32 to fewer bits, whatever the process has chosen.

    torch has two ways to choose, and raises where it looks at the older one and the newer contradicts it: this sets both.
    """
    matmul = torch.backends.cuda.matmul
    precision = matmul.fp32_precision
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:  # torch has no answer where the newer way was used
        older = None
    matmul.allow_tf32 = False
    try:
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        matmul.fp32_precision = precision


@contextmanager
def _uncollected() -> Iterator[None]:
    """Collect garbage, then none: a graph of a dead engine that is destroyed during a capture makes it invalid."""
    enabled = gc.isenabled()
    gc.disable()
    gc.collect()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
