"""Names to positions: append-only, the same under any cuts, growing by doubling."""

import numpy as np
import pytest

from streamnn.features import FeatureIndex


def obj(*values):
    """Make an object column."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def encode_all(index, columns, events, cuts):
    """Encode a stream in pieces, growing when asked; returns all rows widened to the last capacity."""
    rows, start = [], 0
    for cut in cuts:
        stop = min(start + cut, events)
        while start < stop:
            part = {name: column[start:stop] for name, column in columns.items()}
            encoded = index.encode(part, stop - start)
            if not len(encoded.x):
                index.grow(encoded.needed)
            rows += list(encoded.x)
            start += len(encoded.x)
    wide = np.full((events, index.capacity), np.nan)
    for i, row in enumerate(rows):
        wide[i, : len(row)] = row
    return wide


def stream(events=60, seed=0):
    """A stream with numbers that come and go, categories, and moments."""
    rng = np.random.default_rng(seed)
    late = rng.normal(size=events)
    late[: events // 2] = np.nan
    moment = np.arange("2024-01-01", "2026-01-01", dtype="datetime64[D]")[:events].astype("datetime64[us]")
    moment[:7] = np.datetime64("NaT")
    return {
        "b": rng.normal(size=events),
        "late": late,
        "colour": obj(*[None if i % 5 == 0 else f"c{rng.integers(12)}" for i in range(events)]),
        "moment": moment,
        "a": np.where(np.arange(events) < 3, np.nan, 1.0),
    }


@pytest.mark.parametrize("cuts", [[1] * 60, [7] * 9, [64], [3, 20, 1, 1, 30, 5]])
def test_positions_and_rows_do_not_depend_on_cuts(cuts):
    """Cutting the stream elsewhere changes no position and no value."""
    reference, index = FeatureIndex(capacity=4, max_categories=6), FeatureIndex(capacity=4, max_categories=6)
    want = encode_all(reference, stream(), 60, [60])
    got = encode_all(index, stream(), 60, cuts)
    assert index.state_dict() == reference.state_dict()
    known = index.plain | True
    # a category without a position yet reads as missing or as 0: both are no input
    np.testing.assert_array_equal(np.nan_to_num(got[:, known]), np.nan_to_num(want[:, known]))
    numeric = ~index.plain
    np.testing.assert_array_equal(got[:, numeric], want[:, numeric])


def test_positions_are_append_only():
    """A new field never moves an old one, even if its name sorts first."""
    index = FeatureIndex()
    index.encode({"m": np.array([1.0])}, 1)
    index.encode({"m": np.array([1.0]), "a": np.array([2.0])}, 1)
    assert index.names == ["m", "a"]


@pytest.mark.parametrize(("start", "needed", "room"), [(8, 3, 8), (2, 3, 4), (8, 9, 16), (8, 54, 56), (8, 784, 784), (1024, 784, 1024)])  # fmt: skip
def test_room_for_what_comes_first(start, needed, room):
    """What is there at the start gets little more room than it needs; later growth doubles it."""
    index = FeatureIndex(capacity=start)
    index.fit(needed)
    assert index.capacity == room
    index.grow(room + 1)
    assert index.capacity == 2 * room


def test_chunk_ends_before_the_event_that_needs_more_capacity():
    """Rows before the event are encoded, and the event's needs are told."""
    index = FeatureIndex(capacity=2)
    columns = {"a": np.ones(5), "b": np.ones(5), "c": np.array([np.nan, np.nan, np.nan, 1, 1])}
    encoded = index.encode(columns, 5)
    assert len(encoded.x) == 3
    assert encoded.needed == 3
    assert index.active == 2


def test_missing_category_is_missing_everywhere_and_known_ones_are_one_hot():
    """A known category is 1 in its position and 0 in the others of its field; a missing one is NaN in all."""
    index = FeatureIndex()
    x = index.encode({"c": obj("x", "y", None)}, 3).x
    assert x[1, :2].tolist() == [0.0, 1.0]
    assert np.isnan(x[2]).all()
    assert index.plain[:3].tolist() == [True, True, False]


def test_unbounded_categories_share_hash_buckets():
    """Beyond the limit values are hashed; the same value always meets the same bucket, which depends on the seed."""
    values = obj(*[f"user{i}" for i in range(500)])
    index = FeatureIndex(capacity=64, max_categories=10, hash_buckets=16)
    x = index.encode({"user": values}, 500).x
    assert index.active <= 10 + 16
    assert (np.nansum(x, axis=1) == 1).all()
    again = index.encode({"user": values}, 500).x
    np.testing.assert_array_equal(np.argmax(np.nan_to_num(again), 1), np.argmax(np.nan_to_num(x), 1))
    other = FeatureIndex(capacity=64, max_categories=10, hash_buckets=16, seed=1)
    assert not np.array_equal(np.nan_to_num(other.encode({"user": values}, 500).x), np.nan_to_num(x))


def test_moment_becomes_days_and_circles():
    """A moment takes five inputs: days since 1970, time of day and of the week as points on circles."""
    index = FeatureIndex()
    x = index.encode({"t": np.array(["1970-01-02T06:00"], dtype="datetime64[us]")}, 1).x
    assert x[0, [index.names.index("t.days")]].tolist() == [1.25]
    assert x[0, index.names.index("t.hour_sin")] == pytest.approx(1.0)


def test_known_only_changes_nothing():
    """Serving an event with unknown fields and categories leaves the index alone."""
    index = FeatureIndex()
    index.encode({"a": np.array([1.0]), "c": obj("x")}, 1)
    before = index.state_dict()
    columns = {"a": np.array([2.0, 1.0]), "c": obj("new", "new"), "z": np.array([np.nan, 3.0])}
    encoded = index.encode(columns, 2, known_only=True)
    assert index.state_dict() == before
    assert np.nansum(encoded.x) == 3.0
    assert encoded.needed == index.active + 2
    assert index.encode({"a": np.array([2.0])}, 1, known_only=True).needed == 0


def test_save_and_load():
    """A loaded index gives the same rows and goes on alike."""
    index = FeatureIndex(capacity=4, max_categories=6)
    encode_all(index, stream(), 60, [60])
    loaded = FeatureIndex(capacity=4, max_categories=6)
    loaded.load_state_dict(index.state_dict())
    more = stream(seed=9)
    np.testing.assert_array_equal(encode_all(index, more, 60, [60]), encode_all(loaded, more, 60, [60]))
    assert index.state_dict() == loaded.state_dict()


def test_truncate_takes_positions_back():
    """After truncating, the index is as it was."""
    index = FeatureIndex()
    index.encode({"a": np.array([1.0]), "c": obj("x")}, 1)
    before = index.state_dict()
    index.encode({"b": np.array([1.0]), "c": obj("y")}, 1)
    index.truncate(2)
    assert index.state_dict() == before


def test_wrong_column_type_is_named():
    """An integer column is refused by name."""
    with pytest.raises(TypeError, match="'n' has dtype int64"):
        FeatureIndex().encode({"n": np.array([1])}, 1)


@pytest.mark.parametrize(("setting", "value"), [("capacity", 6), ("max_categories", -1), ("hash_buckets", 0)])
def test_settings_out_of_range_are_named(setting, value):
    """The error names the setting and its value."""
    with pytest.raises(ValueError, match=f"{setting} is {value}"):
        FeatureIndex(**{setting: value})
