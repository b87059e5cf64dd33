"""Labels to positions and served rows to decisions."""

import numpy as np
import pytest

from streamnn.heads import Head, TargetSpec
from streamnn.targets import TargetIndex, decide

NAN = np.nan


def obj(*values):
    """Make an object column."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def head_of(index):
    """A head at the index's capacity."""
    return Head(index.targets, index.capacities)


def test_classes_are_numbered_by_first_appearance_and_unknown_is_nan():
    """The first label named is class 0; a missing label is an unknown row."""
    index = TargetIndex([TargetSpec("t", "multiclass")], capacity=4)
    got = index.encode({"t": obj("z", None, "a", "z")}, 4, head=head_of(index))
    assert index.classes("t") == ("z", "a")
    np.testing.assert_array_equal(got.truth[:, 0], [0, NAN, 1, 0])
    np.testing.assert_array_equal(got.y[0], [1, 0, 0, 0])
    assert np.isnan(got.y[1]).all()


def test_soft_labels_fill_the_block():
    """A dict of class probabilities becomes a distribution, and counts as its likeliest class."""
    index = TargetIndex([TargetSpec("t", "multiclass")], capacity=4)
    got = index.encode({"t": obj("a", {"b": 0.7, "a": 0.3}, None)}, 3, head=head_of(index))
    np.testing.assert_allclose(got.y[1], [0.3, 0.7, 0, 0])
    np.testing.assert_array_equal(got.truth[:, 0], [0, 1, NAN])


@pytest.mark.parametrize("soft", [False, True])
def test_rows_end_before_the_label_that_needs_more_capacity(soft):
    """A third class with room for two ends the rows and names what is needed."""
    index = TargetIndex([TargetSpec("t", "multiclass")], capacity=2)
    labels = obj("a", "b", "a", {"c": 1.0} if soft else "c", "d")
    got = index.encode({"t": labels}, 5, head=head_of(index))
    assert len(got.y) == 3
    assert got.needed == {"t": 3}
    assert index.classes("t") == ("a", "b")
    assert index.grow(got.needed)
    assert index.capacities == {"t": 4}


def test_third_class_of_a_binary_target_is_a_misfit():
    """The first two classes are the target's; each event with another is named with both."""
    index = TargetIndex([TargetSpec("t", "binary")])
    found = index.misfits({"t": obj("no", "yes", "maybe", "no", "maybe")}, 5)
    assert list(found) == [2, 4]
    assert "third class beside 'no' and 'yes'" in found[2]


def test_soft_label_of_a_binary_target_is_a_misfit():
    """Probabilities, which JSON may hold, are refused with what takes them; the labels around them are not."""
    index = TargetIndex([TargetSpec("t", "binary")])
    found = index.misfits({"t": obj(0, {"0": 0.5, "1": 0.5}, None, 1, 2)}, 5)
    assert list(found) == [1, 4]
    assert "a soft label" in found[1]
    assert "third class beside 0 and 1" in found[4]


def test_label_outside_its_range_is_a_misfit():
    """A 0..1 label of 2 is refused, a missing one is not."""
    index = TargetIndex([TargetSpec("t", "binary")])
    assert list(index.misfits({"t": np.array([0.0, 1.0, 2.0, NAN, -0.1])}, 5)) == [2, 4]


def test_binary_and_values_are_taken_as_they_are():
    """0..1 labels and regression values go to their outputs; absent columns are unknown."""
    index = TargetIndex([TargetSpec("v", "regression"), TargetSpec("b", "binary"), TargetSpec("u", "binary")])
    got = index.encode({"v": np.array([5.0, NAN]), "b": np.array([0.25, 1.0])}, 2, head=head_of(index))
    np.testing.assert_array_equal(got.y, [[0.25, NAN, 5.0], [1.0, NAN, NAN]])
    np.testing.assert_array_equal(got.truth, [[5.0, 0.25, NAN], [NAN, 1.0, NAN]])


def test_decisions():
    """The likeliest class, a label above one half, the value; NaN where nothing was served."""
    index = TargetIndex(
        [TargetSpec("t", "multiclass"), TargetSpec("v", "regression"), TargetSpec("b", "binary")], capacity=2
    )
    served = np.array([[0.6, 3.0, 0.2, 0.8], [0.5, NAN, NAN, NAN], [NAN, 1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(decide(served, head_of(index)), [[1, 3.0, 1], [NAN, NAN, 0], [0, 1.0, NAN]])


def test_save_load_and_truncate():
    """A loaded index numbers alike; truncating takes classes back; types of labels are kept."""
    index = TargetIndex([TargetSpec("t", "multiclass")], capacity=4)
    index.encode({"t": obj(3, 1)}, 2, head=head_of(index))
    counts = index.counts
    index.encode({"t": obj(7)}, 1, head=head_of(index))
    index.truncate(counts)
    loaded = TargetIndex([TargetSpec("t", "multiclass")], capacity=2)
    loaded.load_state_dict(index.state_dict())
    assert loaded.classes("t") == (3, 1)
    assert loaded.capacities == {"t": 4}


def test_declared_classes_come_first():
    """Classes named beforehand keep the order given."""
    index = TargetIndex([TargetSpec("t", "multiclass")], capacity=2)
    index.declare("t", ["lo", "mid", "hi"])
    assert index.classes("t") == ("lo", "mid", "hi")
    assert index.capacities == {"t": 4}
