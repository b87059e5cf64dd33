"""What is predicted: nothing is guessed where the head of a stream allows two readings."""

import pytest

from connectors import FieldHead, SchemaError, StreamHead
from pipeline.config import StreamSettings
from pipeline.settings import SettingsError
from pipeline.tasks import resolve


def field(name, kind, *values, missing=0):
    """The head of a field."""
    return FieldHead(name, kind, values, missing)


HEAD = StreamHead(
    (
        field("a", "number", 0.5, 1.5),
        field("n", "integer", 1, 2, 3),
        field("color", "category", "red", "blue", "green"),
        field("empty", "category", missing=100),
        field("flag", "boolean", "true", "false"),
        field("zero_one", "integer", 1, 0),
        field("one_two", "integer", 2, 1),
        field("price", "number", 1.25, 2.5, 3.5),
        field("when", "moment", "2020-01-01"),
        field("two_words", "category", "yes", "no"),
    ),
    100,
)


def targets(*names, task="auto", **settings):
    """Resolve against HEAD."""
    return resolve(StreamSettings(source="s.csv", targets=names, task=task, **settings), HEAD)


@pytest.mark.parametrize(
    ("name", "task", "kind"),
    [
        ("flag", "binary", "binary"),
        ("zero_one", "binary", "binary"),
        ("one_two", "binary", "binary"),
        ("color", "multiclass", "multiclass"),
        ("two_words", "multiclass", "multiclass"),
        ("price", "regression", "regression"),
    ],
)
def test_one_target_without_doubt(name, task, kind):
    """Two values are binary, text is classes (more may come later), numbers with fractions are values."""
    found = targets(name)
    assert found.task == task
    assert [t.kind for t in found.targets] == [kind]


def test_positive_class_comes_second():
    """The two classes of a binary target are known beforehand, in ascending order, whichever comes first."""
    assert targets("zero_one").classes == {"zero_one": (0, 1)}
    assert targets("one_two").classes == {"one_two": (1, 2)}
    assert targets("flag").classes == {"flag": (False, True)}
    assert targets("two_words", task="binary").classes == {"two_words": ("no", "yes")}


def test_doubt_is_asked_about():
    """Whole numbers, an empty column and moments stop with a message that says what to set."""
    with pytest.raises(SettingsError, match=r"holds whole numbers \(1, 2, 3\).*--task regression if it is a quantity"):
        targets("n")
    with pytest.raises(SettingsError, match="no value at the head"):
        targets("empty")
    with pytest.raises(SettingsError, match="moments, which cannot be predicted"):
        targets("when")
    with pytest.raises(SettingsError, match="holds whole numbers"):
        targets("n", "price")


def test_several_targets():
    """All flags are a label set, all values multi-target, all classes multi-output, a mixture is mixed."""
    assert targets("flag", "zero_one").task == "multilabel"
    assert targets("price", "a").task == "multitarget"
    assert targets("color", "two_words").task == "multioutput"
    assert targets("color", "price").task == "mixed"
    assert [t.kind for t in targets("n", "price", task="multitarget").targets] == ["regression"] * 2
    assert [t.kind for t in targets("n", "price", kinds={"n": "class"}).targets] == ["multiclass", "regression"]


def test_contradictions_are_refused():
    """A task for one target with several, unknown fields, and doubles are errors with a remedy."""
    with pytest.raises(SettingsError, match="2 are named; use multioutput"):
        targets("color", "two_words", task="multiclass")
    with pytest.raises(SettingsError, match=r"'colour' is not a field of s\.csv; it has a, n, color"):
        targets("colour")
    with pytest.raises(SettingsError, match="names a field twice"):
        targets("a", "a")
    with pytest.raises(SettingsError, match="which field is to be predicted"):
        targets()
    with pytest.raises(SettingsError, match="at least one"):
        resolve(StreamSettings(source="s.csv", targets_last=10), HEAD)
    with pytest.raises(SchemaError, match=r"kind 'numbr'.*Did you mean number\?"):
        targets("price", kinds={"a": "numbr"})


def test_fields_are_read_as_the_head_shows():
    """Whole numbers are read as numbers, an empty field is left open, targets and ids are no inputs."""
    found = targets("zero_one", id="color", ignore=("a",), moment="when")
    kinds = found.schema.kinds
    assert kinds["n"] == "number"
    assert kinds["zero_one"] == "class"
    assert kinds["when"] == "moment"
    assert "empty" not in kinds
    assert "a" not in kinds
    assert found.feature_fields == ("n", "flag", "one_two", "price")
    assert targets("price", kinds={"n": "category"}).feature_fields == ("a", "flag", "zero_one", "one_two")


def test_streams_that_name_their_targets():
    """River's datasets say what is predicted; the user may say otherwise."""
    head = StreamHead(HEAD.fields, 100, targets=("n",), task="multiclass")
    assert resolve(StreamSettings(source="river:X"), head).task == "multiclass"
    assert resolve(StreamSettings(source="river:X", task="regression"), head).task == "regression"
    assert resolve(StreamSettings(source="river:X", targets=("price",), task="regression"), head).task == "regression"


def test_last_columns_are_targets():
    """The last N fields are the targets."""
    last = resolve(StreamSettings(source="s.csv", targets_last=1), HEAD)
    assert [t.name for t in last.targets] == ["two_words"]
