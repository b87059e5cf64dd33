"""Chunks: cutting and joining."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import Chunk, DeadLetter, Joined, Picked, Record, concatenate, missing
from tests.connectors.helpers import Outcome, collect


def make(kinds, start=0):
    """A chunk from a string: e = an event, x = a reject."""
    events = [start + i for i, kind in enumerate(kinds) if kind == "e"]
    text = np.empty(len(events), dtype=object)
    text[:] = [None if n % 3 == 0 else str(n) for n in events]
    return Chunk(
        {
            "number": np.array(events, dtype=np.float64),
            "text": text,
            "moment": np.array(events, dtype="datetime64[us]"),
        },
        np.array(events, dtype=np.int64),
        [Record(str(n).encode()) for n in events],
        tuple(DeadLetter(start + i, "decode", "bad", "", Record(b"x")) for i, kind in enumerate(kinds) if kind == "x"),
        start,
        start + len(kinds),
    )


def outcome(chunks):
    """What consecutive chunks hold."""
    found = Outcome([], [], [], [])
    for chunk in chunks:
        collect(found, chunk)
    return found


@settings(max_examples=200, deadline=None)
@given(st.text("ex", max_size=12), st.data())
def test_slices_cover_a_chunk_whatever_the_cuts(kinds, data):
    """Slices one behind the other hold what the chunk holds, each reject exactly once and in its place."""
    whole = make(kinds, 5)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=4)))
    bounds = [0, *cuts, len(whole)]
    parts = [whole.slice(a, b) for a, b in pairwise(bounds)]
    if not len(whole):
        parts = parts[:1]  # without events the first slice is everything
    found, wanted = outcome(parts), outcome([whole])
    assert (found.events, found.rejects, found.raw) == (wanted.events, wanted.rejects, wanted.raw)
    assert parts[0].start == 5
    assert parts[-1].stop == 5 + len(kinds)


def test_rejects_go_with_the_event_before_them_only_at_the_end():
    """Rejects stand before the next event, and behind the last one at the end of a chunk."""
    chunk = make("xexxex")
    first, second = chunk.slice(0, 1), chunk.slice(1, 2)
    assert [letter.offset for letter in first.rejects] == [0]
    assert (first.start, first.stop) == (0, 2)
    assert [letter.offset for letter in second.rejects] == [2, 3, 5]
    assert (second.start, second.stop) == (2, 6)


def test_empty_slice():
    """slice(0, 0) is empty where there are events, and the whole chunk where there are none."""
    assert (make("xe").slice(0, 0).start, make("xe").slice(0, 0).stop) == (0, 0)
    assert [letter.offset for letter in make("xx").slice(0, 0).rejects] == [0, 1]
    assert make("xx").slice(0, 0).stop == 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ex", max_size=4), min_size=1, max_size=4))
def test_concatenate_is_the_opposite_of_slicing(parts):
    """Consecutive chunks joined hold what they held."""
    starts = np.cumsum([0, *map(len, parts)])
    chunks = [make(kinds, int(start)) for kinds, start in zip(parts, starts, strict=False)]
    found, wanted = outcome([concatenate(chunks)]), outcome([make("".join(parts))])
    assert (found.events, found.rejects, found.raw) == (wanted.events, wanted.rejects, wanted.raw)


@pytest.mark.parametrize("kind", [np.dtype(np.float64), np.dtype(object), np.dtype("datetime64[us]")])
def test_a_field_that_one_chunk_lacks_is_missing_there(kind):
    """Joining fills what is not there with the missing value of the column's kind."""
    one, other = make("ee"), make("ee", 2)
    full = {**other.columns, "new": missing(kind, 2)}
    full["new"][0] = {"f": 1.0, "O": "a", "M": np.datetime64(1, "us")}[kind.kind]
    both = concatenate([one, Chunk(full, other.offsets, other.records, (), 2, 4)])
    assert both.columns["new"].dtype == kind
    assert [int(row[0]) for row in outcome([both]).events if "new" in row[1]] == [2]


def test_views_of_sequences():
    """Picked and Joined give single items, negative positions and slices as a list does."""
    letters = list("abcdefg")
    picked = Picked(letters, np.array([1, 3, 5]))
    assert [*picked] == ["b", "d", "f"]
    assert (picked[-1], [*picked[1:]]) == ("f", ["d", "f"])
    joined = Joined([letters[:2], [], letters[2:]])
    assert [*joined] == letters
    assert ([*joined[1:4]], joined[-7], len(joined)) == (["b", "c", "d"], "a", 7)
    with pytest.raises(IndexError):
        joined[7]
    assert len(Joined([])) == 0
