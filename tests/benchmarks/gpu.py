"""Micro-batches of one network on a card: `python -m tests.benchmarks.gpu [--sizes 1,16,256,4096,16384] [--rounds 7]`.

Three sides predict and learn the same rows on the same card: graphs (what the product runs), the same step called operator by
operator, and PyTorch as it is usually written (`nn.Module`, `torch.optim`, a copy there and one back each micro-batch; without
our scaling of inputs). Throughput is that of a call with many micro-batches, latency that of one from its rows on the host to
its predictions there; wall time, so the machine should be otherwise idle.

Achievable is the longest of what one micro-batch cannot do without, each measured on the card first: its products at the rate
of a large float32 product, its rows over the bus at the rate of a pinned copy, and the state read and written in one launch: a
copy of a block of its size, many queued behind each other (a few MiB stay in the card's cache, there as in the step).
"""

import argparse
import datetime
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from pipeline.bench.steps import RATE, Case, data, learner, names, network
from streamnn.device import GraphEngine, check_device, describe_device
from streamnn.device.trace import trace
from streamnn.engine import Control
from streamnn.flat import FlatStep
from streamnn.operations import Kind, Operations, Rows

CASES = (
    Case(8, (64, 64), 2, "layer", "adam"),
    Case(54, (128, 128), 7, "layer", "adam"),
    Case(784, (256, 256), 10, "layer", "adam"),
)
SIZES = (1, 4, 16, 64, 256, 1024, 4096, 16384)
MOST_EVENTS, MOST_BATCHES = 1 << 16, 64

Call = Callable[[int], object]  # runs so many micro-batches, and returns when their predictions are on the host


@dataclass(frozen=True)
class Limits:
    """What a device can do: float32 operations/s, bytes/s to it."""

    flops: float
    bus: float

    def least_s(self, case: Case, size: int, copy_s: float) -> float:
        """Return the time that one micro-batch takes at least; `copy_s` is that of reading and writing the state."""
        widths = [case.inputs, *case.units, case.classes]
        weights = sum(a * b for a, b in pairwise(widths))
        rows = size * 8 * (case.inputs + case.classes)
        return max(6 * weights * size / self.flops, rows / self.bus, copy_s)


def wait(device: torch.device) -> None:
    """Wait until a device has done everything."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(work: Callable[[], object], device: torch.device, *, times: int = 20, queued: int = 1) -> float:
    """Median seconds of `work`, of which so many are queued before the host waits."""
    took = []
    for _ in range(times + 3):
        wait(device)
        began = time.perf_counter()
        for _ in range(queued):
            work()
        wait(device)
        took.append((time.perf_counter() - began) / queued)
    return statistics.median(took[3:])


def limits(device: torch.device) -> Limits:
    """Measure what a device can do."""
    n = 4096 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device)
    block = torch.zeros(1 << (28 if device.type == "cuda" else 22), dtype=torch.uint8, device=device)
    host = torch.zeros(len(block), dtype=torch.uint8, pin_memory=device.type == "cuda")
    return Limits(
        flops=2 * n**3 / timed(lambda: a @ a, device),
        bus=len(block) / timed(lambda: block.copy_(host, non_blocking=True), device),
    )


def copied_s(size: int, device: torch.device) -> float:
    """Return the seconds that a copy of so many bytes on a device takes, one of many."""
    block = torch.zeros(size, dtype=torch.uint8, device=device)
    other = torch.empty_like(block)
    return timed(lambda: other.copy_(block), device, queued=500)


def rows_of(case: Case, events: int) -> tuple[object, Rows]:
    """Make a learner that has met every class, and encoded rows."""
    x, y = data(case, events)
    made = learner(case, "eager")
    labels = np.empty(events, dtype=object)
    labels[:] = y.tolist()
    columns = {name: x[:, i].copy() for i, name in enumerate(names(case.inputs))}
    return made, made.encode(columns, {"y": labels}, np.arange(events), batch=events).rows


def graphs(case: Case, made: object, rows: Rows, size: int, device: torch.device) -> Call:
    """Return our engine on the device."""
    engine, state = GraphEngine(device.type, least=size), made.state
    control = Control(RATE, False, made.features.plain)

    def call(batches: int) -> object:
        nonlocal state
        listed = Operations.of([(Kind.PREDICT_LEARN, i * size, (i + 1) * size) for i in range(batches)])
        part = slice(batches * size)
        own = Rows(rows.x[part], rows.y[part], rows.number[part])
        state, results = engine.run(made.step, state, own, listed, control)
        return results.served

    return call


def eager(made: object, rows: Rows, size: int, device: torch.device) -> Call:
    """Return our step on the device, called operator by operator; predictions are fetched for each micro-batch.

    It is traced, so that it makes its tensors on the device without a mode of torch that every call would go through, and
    without the work of autograd.
    """
    flat = FlatStep(made.step, made.state)
    leaves = flat.flattened(made.state)
    examples = [torch.zeros(shape, dtype=dtype) for shape, dtype in [*flat.rows(size), *flat.shared]]
    function, count = flat.functions[Kind.PREDICT_LEARN], len(leaves)

    def whole(*given: torch.Tensor) -> list[torch.Tensor]:
        new, outs = function(given[:count], given[count:])
        return [*new, *outs]

    step = trace(whole, [*leaves, *examples], device)
    state = [t.to(device) for t in leaves]
    x, y, number = (torch.from_numpy(a) for a in (rows.x, rows.y, rows.number))
    plain = torch.from_numpy(made.features.plain).to(device)
    valid = [torch.ones(size, dtype=torch.bool, device=device)] if size > 1 else []
    rate = torch.tensor(RATE, dtype=made.step.dtype, device=device)

    def call(batches: int) -> object:
        nonlocal state
        with torch.no_grad():
            for i in range(0, batches * size, size):
                part = slice(i, i + size)
                fields = [*(t[part].to(device) for t in (x, y, number)), *valid, plain, rate]
                *state, served, loss = step(*state, *fields)
                served.cpu(), loss.cpu()
        return None

    return call


def usual(case: Case, size: int, events: int, device: torch.device) -> Call:
    """Return PyTorch as it is usually written."""
    x, y = data(case, events)
    torch.manual_seed(0)
    made, loss_of = network(case).to(device), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(made.parameters(), lr=RATE)
    inputs, labels = torch.from_numpy(x).float(), torch.from_numpy(y)

    def call(batches: int) -> object:
        for i in range(0, batches * size, size):
            part, target = inputs[i : i + size].to(device), labels[i : i + size].to(device)
            out = made(part)
            optimizer.zero_grad()
            loss_of(out, target).backward()
            optimizer.step()
            out.detach().softmax(1).cpu()
        return None

    return call


def measure(case: Case, size: int, device: torch.device, rounds: int, bound: Limits) -> str:
    """Return a line of the table."""
    batches = max(1, min(MOST_BATCHES, MOST_EVENTS // size))
    made, rows = rows_of(case, batches * size)
    state_bytes = sum(t.nbytes for tensors in made.state.values() for t in tensors.values())
    sides = [
        graphs(case, made, rows, size, device),
        eager(made, rows, size, device),
        usual(case, size, batches * size, device),
    ]
    for call in sides:
        call(1)
        call(batches)
    rates, latencies = [], []
    for call in sides:
        took = [_seconds(lambda call=call: call(batches)) for _ in range(rounds)]
        rates.append(batches * size / statistics.median(took))
        single = sorted(_seconds(lambda call=call: call(1)) for _ in range(10 * rounds))
        latencies.append((single[len(single) // 2], single[int(0.99 * (len(single) - 1))]))
    share = bound.least_s(case, size, copied_s(state_bytes, device)) * rates[0] / size
    sizes = "-".join(map(str, (case.inputs, *case.units, case.classes)))
    told = " | ".join(f"{rate:,.0f}" for rate in rates)
    waits = " | ".join(f"{1e3 * a:.2f} / {1e3 * b:.2f}" for a, b in latencies)
    return (
        f"| {sizes} | {size} | {told} | {rates[0] / rates[1]:.1f} | {rates[0] / rates[2]:.1f} | {waits} | {share:.0%} |"
    )


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main(words: Sequence[str] | None = None) -> None:
    """Print a line for each network and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", default="cuda", help="cuda; cpu runs the same code without a card, for a look at it"
    )
    parser.add_argument("--sizes", type=lambda text: [int(n) for n in text.split(",")], default=SIZES)
    parser.add_argument("--networks", type=int, default=len(CASES), help="the first so many")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args(words)
    check_device(given.device)
    device = torch.device(given.device)
    bound = limits(device)
    print(
        f"{describe_device(given.device)}, {datetime.datetime.now(datetime.UTC):%d %B %Y}, torch {torch.__version__}; float32"
        f" {bound.flops / 1e12:.2f} TFLOP/s, bus {bound.bus / 1e9:.1f} GB/s\n"
    )
    print(
        "| network | micro-batch | graphs, events/s | eager step | PyTorch | / eager | / PyTorch"
        " | latency of graphs, ms p50 / p99 | eager step | PyTorch | of the achievable |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case in CASES[: given.networks]:
        for size in given.sizes:
            print(measure(case, size, device, given.rounds, bound), flush=True)


if __name__ == "__main__":
    main()
