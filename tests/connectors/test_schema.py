"""The description of the fields, and whether it contradicts itself."""

import pytest

from connectors import Schema, SchemaError


def test_kinds_are_checked():
    """An unknown kind or treatment of other fields is one clear error with the nearest word."""
    with pytest.raises(SchemaError, match=r"'x' has kind 'numbr'.*Did you mean number"):
        Schema(kinds={"x": "numbr"})
    with pytest.raises(SchemaError, match="extra is 'drop'"):
        Schema(extra="drop")
    with pytest.raises(SchemaError, match=r"\['y'\] are targets and ignored"):
        Schema(targets=("y",), ignore=("y",))


def test_id_and_moment_have_kinds():
    """The field that identifies an event is text and the one with its time a moment, unless declared otherwise."""
    schema = Schema(kinds={"x": "number"}, id="key", moment="when", ignore=("z",))
    assert [schema.kind(name) for name in ("x", "key", "when", "other", "")] == [
        "number",
        "category",
        "moment",
        None,
        None,
    ]
    assert schema.declared == ("x", "key", "when")
    assert Schema(kinds={"t": "number"}, moment="t").kind("t") == "number"
