"""Blocks from chunks: sizes, whole micro-batches, rejects in their place, nothing twice and nothing lost."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.intake import Intake
from tests.pipeline.helpers import ScriptedSource


def drain(intake, batch, sizes):
    """Take everything, as the loop does; returns the blocks."""
    blocks, done, turn = [], 0, 0
    while True:
        least = batch - done % batch
        block = intake.take(max(least, sizes[turn % len(sizes)]), least=least, step=batch)
        turn += 1
        if block is None:
            break
        blocks.append(block)
        done += len(block)
    rest = intake.rest(batch)
    return [*blocks, *([] if rest is None else [rest])]


@settings(max_examples=150, deadline=None)
@given(
    script=st.text(alphabet="eex", max_size=60),
    cuts=st.lists(st.integers(0, 9), max_size=30),
    batch=st.integers(1, 7),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4),
)
def test_every_record_comes_once_in_order(script, cuts, batch, sizes):
    """Blocks follow one another without gap or overlap; events and rejects come once each, in order."""
    blocks = drain(Intake(ScriptedSource(script, cuts), 5), batch, sizes)
    at = 0
    for block in blocks:
        assert block.start == at
        at = block.stop
        assert all(block.start <= letter.offset < block.stop for letter in block.rejects)
    events = [int(n) for block in blocks for n in block.offsets]
    rejects = [letter.offset for block in blocks for letter in block.rejects]
    assert events == [i for i, kind in enumerate(script) if kind == "e"]
    assert rejects == [i for i, kind in enumerate(script) if kind == "x"]
    assert [int(v) for block in blocks for v in block.columns["a"]] == events
    assert [int(r.value) for block in blocks for r in block.records] == events


@settings(max_examples=100, deadline=None)
@given(
    script=st.text(alphabet="eex", max_size=60), cuts=st.lists(st.integers(0, 9), max_size=30), batch=st.integers(2, 7)
)
def test_micro_batches_stay_whole(script, cuts, batch):
    """Every block but the last ends where a micro-batch ends."""
    blocks = drain(Intake(ScriptedSource(script, cuts), 5), batch, [10])
    done = 0
    for block in blocks[:-1]:
        done += len(block)
        assert done % batch == 0 or not len(block)


def test_a_source_with_nothing_at_the_moment_is_idle():
    """An empty poll gives an empty block, says so, and loses nothing."""
    intake = Intake(ScriptedSource("eeee", [0, 2, 0, 2]), 8)
    first = intake.take(8)
    assert first is not None
    assert len(first) == 0
    assert intake.idle
    assert len(intake.take(8)) == 2
    assert not intake.idle


def test_rest_waits_for_enough_of_a_micro_batch():
    """At a limit the last, smaller micro-batch is filled from the source."""
    intake = Intake(ScriptedSource("eeeeeeeeee", [1] * 10), 8)
    rest = intake.rest(5)
    assert rest is not None
    assert len(rest) == 5


@pytest.mark.parametrize("batch", [1, 4])
def test_an_empty_source_ends(batch):
    """Nothing comes of nothing."""
    assert drain(Intake(ScriptedSource("", []), 8), batch, [8]) == []
