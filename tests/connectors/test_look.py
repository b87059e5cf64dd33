"""What a look at the beginning of a stream tells, and which streams there are."""

import pytest

from connectors import MOST_VALUES, Schema, SourceError, StreamSpec, look, open_source
from tests.connectors.helpers import drain, json_bytes, save


def seen(tmp_path, name, data, records=1000):
    """Fields of a file: name -> (kind, values, missing)."""
    head = look(StreamSpec(str(save(tmp_path / name, data))), records)
    return {field.name: (field.kind, field.values, field.missing) for field in head.fields}


def column(values):
    """A CSV file of one field beside a number."""
    return b"n,x\n" + b"".join(b"1,%s\n" % value.encode() for value in values)


KINDS = [
    (["1", "2", "-3"], "integer", (1, 2, -3)),
    (["1", "2.5"], "number", (1, 2.5)),
    (["1.0", "0.0"], "number", (1, 0)),
    (["1e3", ".5"], "number", (1000.0, 0.5)),
    (["true", "False"], "boolean", (True, False)),
    (["yes", "no"], "category", ("yes", "no")),
    (["2024-01-01", "2024-01-02 10:00"], "moment", ("2024-01-01", "2024-01-02 10:00")),
    (["01/02/2018", "02/02/2018"], "day_first", ("01/02/2018", "02/02/2018")),
    (["01/02/2018", "01/03/2018"], "month_first", ("01/02/2018", "01/03/2018")),
    (["1.2.2018", "2.28.2018 1:00"], "month_first", ("1.2.2018", "2.28.2018 1:00")),
    (["01/01/2018 00:15", "01/01/2018 00:30"], "day_first", ("01/01/2018 00:15", "01/01/2018 00:30")),
    (["32/13/2018", "1/2/18"], "category", ("32/13/2018", "1/2/18")),
    (["a", "1"], "category", ("a", 1)),
    (["", "null", "NaN"], "category", ()),
]


@pytest.mark.parametrize(("values", "kind", "distinct"), KINDS)
def test_kinds_of_texts(tmp_path, values, kind, distinct):
    """A CSV field has the kind that its texts show, and its values as a column of classes would hold them."""
    found = seen(tmp_path, "s.csv", column(values))["x"]
    assert found == (kind, distinct, sum(value in ("", "null", "NaN") for value in values))
    assert [type(value) for value in found[1]] == [type(value) for value in distinct]


VALUES = [
    ([1, 2], "integer", (1, 2)),
    ([1, 2.5, None], "number", (1, 2.5)),
    ([True, False], "boolean", (True, False)),
    ([1, True], "category", (1, True)),
    (["1", "2"], "category", ("1", "2")),
    (["2024-01-01T10:00:00Z"], "moment", ("2024-01-01T10:00:00Z",)),
    ([{"a": 0.5, "b": 0.5}, "c"], "category", ("a", "b", "c")),
    ([[1, 2]], "category", ("[1, 2]",)),
]


@pytest.mark.parametrize(("values", "kind", "distinct"), VALUES)
def test_kinds_of_values(tmp_path, values, kind, distinct):
    """A JSON field has the kind that its values show."""
    found = seen(tmp_path, "s.jsonl", json_bytes([{"x": value} for value in values]))["x"]
    assert found == (kind, distinct, values.count(None))
    assert [type(value) for value in found[1]] == [type(value) for value in distinct]


def test_single_odd_ones_do_not_change_a_kind(tmp_path):
    """A few odd values, all different, leave a numeric field numeric; repeated ones make it a category."""
    numbers = [str(n) for n in range(40)]
    assert seen(tmp_path, "s.csv", column([*numbers, "oops", "inf"]))["x"][0] == "integer"
    assert seen(tmp_path, "s.csv", column([*numbers, "A", "A"]))["x"][0] == "category"
    assert seen(tmp_path, "s.csv", column([*numbers[:5], "oops"]))["x"][0] == "category"


def test_order_limits_and_absent_fields(tmp_path):
    """Fields come in the order of the stream; absent counts as missing; records and values have a limit."""
    events = [{"b": n, "a": "x"} if n % 2 else {"b": n} for n in range(200)]
    path = save(tmp_path / "s.jsonl", json_bytes(events))
    head = look(StreamSpec(str(path)), records=100)
    assert [(field.name, field.missing) for field in head.fields] == [("b", 0), ("a", 50)]
    assert head.records == 100
    assert head.fields[0].values == tuple(range(MOST_VALUES))
    assert (head.targets, head.task) == ((), "")


def test_unreadable_records_do_not_count(tmp_path):
    """A look at a stream with broken records tells what the others show."""
    path = save(tmp_path / "s.jsonl", b'{"x": 1}\nbroken\n{"x": 2}\n')
    head = look(StreamSpec(str(path)))
    assert (head.records, head.fields[0].values) == (2, (1, 2))


def test_values_are_the_labels_that_a_source_gives(tmp_path):
    """The values of a field are, as they are, the labels of its column of classes."""
    path = save(tmp_path / "s.csv", column(["1", "01", "true", "a", "2.0", "1.5"]))
    source = open_source(StreamSpec(str(path)), Schema(kinds={"x": "class"}))
    source.open(0, None)
    labels = [event["x"][1] for _, event in drain(source).events]
    source.close()
    assert [*seen(tmp_path, "s.csv", path.read_bytes())["x"][1]] == labels == [1, "01", True, "a", 2, "1.5"]


RIVER = [
    ("river:phishing", ("target",), "binary", 9),
    ("river:TRUMPAPPROVAL", ("target",), "regression", 6),
    ("river:ImageSegments", ("target",), "multiclass", 18),
    ("river:SolarFlare", ("c-class-flares", "m-class-flares", "x-class-flares"), "multitarget", 10),
    ("river:WaterFlow", ("target",), "regression", 1),
    ("synth:LED?irrelevant_features=True", ("target",), "multiclass", 24),
    ("synth:Mv", ("target",), "regression", 10),
    ("synth:logical", ("OR", "XOR", "AND"), "multilabel", 2),
]


@pytest.mark.parametrize(("source", "targets", "task", "features"), RIVER)
def test_river_names_targets_and_task(source, targets, task, features):
    """Streams of river say what is predicted and what the task is; their names count in any case."""
    head = look(StreamSpec(source), records=50)
    assert (head.targets, head.task) == (targets, task)
    assert len(head.fields) == features + len(targets)
    assert [field.name for field in head.fields][-len(targets) :] == [*targets]


def first_events(source, seed=0, events=20):
    """The first events of a stream."""
    opened = open_source(StreamSpec(source, seed=seed), Schema())
    opened.open(0, None)
    found = drain(opened, limit=events)
    opened.close()
    return found


def test_generators_are_seeded():
    """A generator gives the same stream for the same seed, another for another, and its parameters are obeyed."""
    for source in ("synth:Agrawal", "synth:RandomRBF", "synth:RandomTree", "synth:ConceptDriftStream"):
        assert first_events(source, 1) == first_events(source, 1)
        assert first_events(source, 1) != first_events(source, 2)
        assert first_events(f"{source}", 1).raw[0].startswith(b"{")
    assert first_events("synth:Agrawal?classification_function=2") != first_events("synth:Agrawal")
    assert first_events("synth:Agrawal?seed=7", 1) == first_events("synth:Agrawal", 7)
    assert len(first_events("synth:RandomRBF?n_features=3").events[0][1]) == 4


def sea_rule(events, limit):
    """Tell of which events the label is that of the rule with this limit."""
    return [event["target"] == (event["0"] + event["1"] > limit) for _, event in events]


def test_a_concept_that_changes():
    """One generator up to an event, the next from there on; gradually, both are mixed around it; other inputs, same seed."""
    found = first_events("synth:SEA -> SEA?variant=2 @ 300 -> SEA?variant=1@600", 1, events=900).events
    for first, limit in ((0, 8), (300, 7), (600, 9)):
        assert all(sea_rule(found[first : first + 300], limit))
        for other in {7, 8, 9} - {limit}:
            assert not all(sea_rule(found[first : first + 300], other))
    inputs = [event["0"] for _, event in found]
    assert len(set(inputs)) == len(inputs)  # the second concept does not begin with the inputs of the first
    mixed = first_events("synth:SEA -> SEA?variant=2 @ 450 ~ 300", 1, events=900).events
    old, new = (sea_rule(mixed, limit) for limit in (8, 7))
    assert all(old[:150])
    assert all(new[750:])
    assert not all(old[300:450])  # some of the new one before its middle
    assert not all(new[450:600])  # and some of the old one after it
    assert mixed == first_events("synth:SEA -> SEA?variant=2 @ 450 ~ 300", 1, events=900).events


def test_moments_of_river(tmp_path):
    """Moments of river's data sets are moments, in UTC."""
    assert first_events("river:WaterFlow").events[0][1]["Time"] == "2022-03-20T10:00:00.000000"


WRONG = {
    "river:Phising": "Did you mean Phishing",
    "river:xyz": "There are .*Bananas",
    "synth:Agraval": "Did you mean Agrawal",
    "synth:Agrawal?classification_funktion=2": "no parameter 'classification_funktion'.*classification_function",
    "synth:Agrawal?classification_function=77": "cannot be read",
    "synth:SEA -> SEA": r"'SEA' does not say when it begins; expected NAME @ EVENT",
    "synth:SEA -> SEA @ soon": "does not say when it begins",
    "synth:SEA -> SEA @ 20 -> SEA @ 10": "in the order in which they begin",
    "synth:SEA -> LED @ 20": "the same task and number of features",
    "synth:SEA -> SAE @ 20": "Did you mean SEA",
    "river:Higgs": "has not been downloaded.*download",
    "data.cvs": r"no stream that can be read.*Did you mean \.csv",
    "data.gz": "no stream that can be read",
    "data": "no stream that can be read",
    "kafka:topic": "no stream that can be read",
    "": "no stream that can be read",
    "missing.csv": "does not exist",
}


@pytest.mark.parametrize(("source", "message"), WRONG.items())
def test_streams_that_are_not_there(tmp_path, monkeypatch, source, message):
    """A stream that does not exist is one clear error, with the nearest name where there is one."""
    monkeypatch.setenv("RIVER_DATA", str(tmp_path))
    with pytest.raises(SourceError, match=message):
        look(StreamSpec(source))


def test_the_nearest_file_is_named(tmp_path):
    """A file that does not exist is told with the nearest name of its folder; a folder is no file."""
    save(tmp_path / "events.csv", b"x\n1\n")
    with pytest.raises(SourceError, match=r"Did you mean events\.csv"):
        look(StreamSpec(str(tmp_path / "event.csv")))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SourceError, match="cannot be opened"):
        look(StreamSpec(str(tmp_path / "folder.csv")))
    with pytest.raises(SourceError, match="max_record_bytes is 0"):
        look(StreamSpec(str(tmp_path / "events.csv"), max_record_bytes=0))
