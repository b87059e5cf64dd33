"""States as blocks of memory: what somebody holds stays as it was, what nobody holds is used again."""

import numpy as np
import torch

from streamnn.engine import Control
from streamnn.native import NativeEngine
from streamnn.operations import Kind, Operations, Rows
from tests.streamnn.native.networks import build
from tests.streamnn.native.test_batches import PLAIN, bits

EACH = 10


def states(case, engine, calls):
    """Yield the state after each call of ten events."""
    state, plain = case.state, np.zeros(case.rows.x.shape[1], dtype=bool)
    for first in range(0, EACH * calls, EACH):
        now = slice(first, first + EACH)
        rows = Rows(case.rows.x[now], case.rows.y[now], case.rows.number[now])
        listed = Operations.of([(Kind.PREDICT_LEARN, i, i + 1) for i in range(EACH)])
        state, _, sound = engine._run(case.step, state, rows, listed, Control(0.01, clear=False, plain=plain))
        assert sound
        yield state


def test_a_state_that_is_held_stays_as_it_was():
    """Looked at at once, only after later calls, or as a lone tensor whose state is gone: the same bits."""
    case = build(PLAIN, dtype=torch.float32, events=100)
    wanted = [bits(state) for state in states(case, NativeEngine(), 8)]
    kept, tensor = [], None
    for i, state in enumerate(states(case, NativeEngine(), 8)):
        if i in (1, 4):
            kept.append((i, state))
        if i == 2:
            tensor = state["params"]["output.weight"]
    assert [bits(state) for _, state in kept] == [wanted[i] for i, _ in kept]
    assert tensor.contiguous().numpy().tobytes() == wanted[2]["params", "output.weight"]
    assert len({w["params", "output.weight"] for w in wanted}) == 8, "every call changes the weights"


def test_memory_of_states_that_nobody_has_is_used_again():
    """A hundred calls, of which none but the last state is kept or looked at, need two blocks."""
    case = build(PLAIN, dtype=torch.float32, events=1000)
    blocks = {state.block.data_ptr() for state in states(case, NativeEngine(), 100)}
    assert len(blocks) == 2
