"""Labels that come late: the list of operations against a slow simulation, bounds, and saving."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Origin, Record
from pipeline.blocks import Block
from pipeline.labels import LabelQueue
from pipeline.packing import pack, unpack
from streamnn.heads import TargetSpec
from streamnn.learner import Learner, LearnerSpec
from streamnn.operations import Kind, Rows


@pytest.fixture(scope="module")
def learner():
    """A learner that has met its features."""
    made = Learner(LearnerSpec(targets=(TargetSpec("y", "binary"),), engine="eager"))
    made.encode({"a": np.zeros(1)}, {"y": np.zeros(1)}, np.zeros(1, dtype=np.int64))
    return made


def block(learner, first, labelled, moments=None):
    """Events first, first + 1, ...; True = has a label."""
    n = len(labelled)
    number = np.arange(first, first + n)
    y = np.where(np.array(labelled, dtype=bool), number % 2, np.nan).astype(np.float64)[:, None]
    x = np.full((n, learner.features.capacity), np.nan)
    x[:, 0] = number
    moment = np.array(moments, dtype=np.float64) if moments is not None else np.full(n, np.nan)
    served = np.full((n, 1), np.nan)
    records = [Record(str(i).encode()) for i in number]
    return Block(Rows(x, y.copy(), number), y.copy(), served, number.copy(), moment, records)


def happened(queue, learner, blocks):
    """Run blocks through a queue; returns what was done: ("predict", numbers) and ("learn", numbers)."""
    log = []
    for b in blocks:
        work = queue.arrange(b, learner)
        note(log, work)
        served = np.where((np.arange(len(work.block)) >= work.old)[:, None], 0.5, work.block.served)
        queue.keep(work, served, learner, {})
    return log


def note(log, work):
    """Write a work's operations down by event number."""
    number = work.block.rows.number
    for kind, start, stop in zip(work.operations.kind, work.operations.start, work.operations.stop, strict=True):
        what = {Kind.LEARN: "learn", Kind.PREDICT_OBSERVE: "predict", Kind.PREDICT_LEARN: "both"}[Kind(int(kind))]
        log.append((what, number[start:stop].tolist()))


def expected(labelled, delay):
    """The same for a delay in events, one at a time."""
    log = []
    for n in range(len(labelled)):
        old = n - delay
        if old >= 0 and labelled[old]:
            log.append(("learn", [old]))
        log.append(("predict", [n]))
    return log


@settings(max_examples=80, deadline=None)
@given(
    labelled=st.lists(st.booleans(), min_size=1, max_size=50),
    delay=st.integers(1, 12),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
)
def test_labels_arrive_in_merged_order_however_the_stream_is_cut(learner, labelled, delay, cuts):
    """Event n's label is learned just before event n + delay is predicted."""
    blocks, at, turn = [], 0, 0
    while at < len(labelled):
        stop = min(at + cuts[turn % len(cuts)], len(labelled))
        blocks.append(block(learner, at, labelled[at:stop]))
        at, turn = stop, turn + 1
    queue = LabelQueue(delay_events=delay)
    assert happened(queue, learner, blocks) == expected(labelled, delay)
    waiting = [n for n in range(max(0, len(labelled) - delay), len(labelled)) if labelled[n]]
    assert len(queue) == len(waiting)
    work = queue.drain(learner)
    log = []
    if work is not None:
        note(log, work)
    assert log == [("learn", [n]) for n in waiting]


def test_labels_by_stream_time(learner):
    """A label comes when the stream's clock, which never runs backwards, has gone on far enough."""
    queue = LabelQueue(delay_s=10.0)
    log = happened(queue, learner, [block(learner, 0, [1, 1, 1, 1, 1], [0, 5, 3, 16, np.nan])])
    assert log == [
        ("predict", [0]), ("predict", [1]), ("predict", [2]),
        ("learn", [0]), ("learn", [1]), ("learn", [2]), ("predict", [3]), ("predict", [4]),
    ]  # fmt: skip


def test_micro_batches_of_late_labels(learner):
    """Labels that are due are learned in micro-batches, before the micro-batch of events that follows."""
    queue = LabelQueue(delay_events=4, batch=2)
    blocks = [block(learner, at, [1, 1]) for at in range(0, 8, 2)]
    assert happened(queue, learner, blocks) == [
        ("predict", [0, 1]),
        ("predict", [2, 3]),
        ("learn", [0]),
        ("predict", [4, 5]),
        ("learn", [1, 2]),
        ("predict", [6, 7]),
    ]


def test_too_many_pending_labels_push_the_oldest_out(learner):
    """The bound acts, and what was given up is counted."""
    queue = LabelQueue(delay_events=100, capacity=5)
    happened(queue, learner, [block(learner, 0, [1] * 8)])
    assert len(queue) == 5
    assert queue.expired == 3


@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_pushed_out_does_not_depend_on_cuts(learner, batch):
    """With more labels on their way than may wait, the same ones are learned and given up for every length of block."""
    told = set()
    for length in (batch, 2 * batch, 40) if batch == 1 else (batch,):
        queue = LabelQueue(delay_events=10, batch=batch, capacity=7)
        blocks = [block(learner, at, [1] * length) for at in range(0, 40, length)]
        found = happened(queue, learner, blocks)
        learned = tuple(n for what, numbers in found if what == "learn" for n in numbers)
        told.add((learned, queue.expired, len(queue)))
    assert len(told) == 1
    (learned, expired, waiting) = told.pop()
    assert len(learned) + expired + waiting == 40
    # event n's label comes when more than 7 later ones are awaited
    assert learned == ()
    assert waiting == 7


def test_a_label_that_just_fits_is_learned(learner):
    """With room for as many labels as are on their way at a time nothing is given up, with room for one less almost all."""
    for capacity, many in ((10, 30), (9, 0)):
        queue = LabelQueue(delay_events=10, capacity=capacity)
        found = happened(queue, learner, [block(learner, 0, [1] * 17), block(learner, 17, [1] * 23)])
        assert sum(len(numbers) for what, numbers in found if what == "learn") == many
        assert queue.expired == 40 - many - len(queue)


def test_pending_labels_are_saved(learner):
    """A queue that was saved and loaded goes on as if it had not been."""
    origin = Origin("events", 2, 41)
    whole, saved = LabelQueue(delay_events=3), LabelQueue(delay_events=3)
    first = block(learner, 0, [1, 0, 1, 1])
    first.records[2] = Record(None, b"key", (("h", b"\xff"), ("n", None)), 17, origin)
    for queue in (whole, saved):
        happened(queue, learner, [first])
    other = LabelQueue(delay_events=3)
    other.load_state_dict(saved.state_dict(), learner=learner)
    more = block(learner, 4, [1, 1, 1])
    assert happened(other, learner, [more]) == happened(whole, learner, [more])
    work = other.drain(learner)
    assert work is not None
    assert [r.value for r in work.block.records] == [b"4", b"5", b"6"]


def test_records_survive_packing():
    """None, empty, keys, headers and origins come back as they were."""
    records = [
        Record(b""), Record(None), Record(b"x", b"", (("a", b"1"), ("a", None)), 5, Origin("t", 1, 2)),
        Record(b"\x00\xff", b"k", (), -1, Origin("u", 0, 9)),
    ]  # fmt: skip
    assert unpack(pack(records)) == records
    assert unpack(pack([])) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"delay_events": -1}, "cannot arrive before"),
        ({"delay_events": 1, "delay_s": 1.0}, "give one of them"),
        ({"batch": 0}, "at least 1 event"),
        ({"capacity": 0}, "must be able to wait"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    """Each contradiction has its message."""
    with pytest.raises(ValueError, match=message):
        LabelQueue(**settings)
