"""What the step benchmark counts, and which limit makes a roofline."""

import numpy as np
import pytest

from pipeline.bench.steps import Case
from tests.benchmarks.roofline import SIDES, Machine, Work, limits

SGD, ADAM = Case(3, (5, 4), 2, "layer", "sgd"), Case(3, (5, 4), 2, "layer", "adam")


def test_work_is_counted():
    """15 + 20 + 8 weights: forward, backward without the first matrix, and an update of each."""
    assert Work.of(SGD) == Work(flops=86 + 56 + 86, roots=0, read=172, rewritten=344, block=172)
    assert Work.of(ADAM) == Work(flops=86 + 56 + 602, roots=43, read=172, rewritten=3 * 344, block=516)


def test_the_lowest_limit_is_the_roof():
    """Memory limits where few flops come to a byte, the peak elsewhere; roots are a ceiling below either."""
    sgd, adam = Work.of(SGD), Work.of(ADAM)
    slow = Machine(fma=1e12, root=1e12, read=1e9, rewrite=2e9)
    assert slow.memory_s(sgd) == pytest.approx(172e-9 + 172e-9)
    assert slow.roof(sgd) == pytest.approx(228 / 344e-9)
    assert slow.bandwidth(sgd) == pytest.approx(516 / 344e-9)
    quick = Machine(fma=1e9, root=1e6, read=1e15, rewrite=1e15)
    assert quick.roof(sgd) == quick.ceiling(sgd) == quick.roof(adam) == 1e9
    assert quick.ceiling(adam) == pytest.approx(744e6 / 43)


@pytest.mark.parametrize("block", [100, 20_000])
def test_machine_is_measured(block):
    """The loops for the limits run on blocks of any size, and each says how much it does."""
    sides = limits(block)
    assert tuple(sides) == SIDES
    for side in sides.values():
        side.run(side.events)
    assert all(side.events > 10_000 for side in sides.values())
    assert sides["rewrite"].events == 2 * sides["read"].events
    assert np.ceil(4_000_000 / block) * block <= sides["read"].events + block * 100
