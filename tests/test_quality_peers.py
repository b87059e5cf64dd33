"""Learners of other libraries, each in an environment of its own, beside ours."""

import json
import math

import numpy as np
import pytest

from tests.benchmarks.quality.__main__ import main
from tests.benchmarks.quality.environments import missing
from tests.benchmarks.quality.peers import LABELERS, LEARNERS, matrix


def needs(library):
    """Skip, with the command that helps, where a library has no environment."""
    why = missing(library)
    if why:
        pytest.skip(why)


def stream(folder, rows=600):
    """Write a stream whose class follows its inputs, one of them a name; returns the words that replay it."""
    draw = np.random.default_rng(5)
    a, b = draw.normal(size=rows), draw.normal(size=rows)
    kind = draw.choice(["red", "blue"], size=rows)
    way = np.where((a > 0) ^ ((kind == "red") & (b > 1)), "up", "down")
    lines = "".join(f"{a[i]:.4f},{b[i]:.4f},{kind[i]},{way[i]}\n" for i in range(rows))
    (folder / "one.csv").write_text("a,b,kind,way\n" + lines)
    return f"{folder / 'one.csv'} --target way"


def words(folder, *more):
    """The comparison of one short stream, in this process."""
    added = ("--add", stream(folder), "--streams", "none", "--rows", "600", "--jobs", "0")
    return ["compare", *added, "--cache", str(folder / "cache"), *more]


@pytest.mark.heavy
@pytest.mark.parametrize("library", LEARNERS)
def test_learners_learn(tmp_path, capsys, library):
    """Each learner of a library is served and scored, once, and the best is better than naming the more frequent class."""
    needs(library)
    names = [f"{library}_{name}" for name in LEARNERS[library]]
    asked = words(tmp_path, "--learners", ",".join(["majority", *names]))
    main(asked)
    first = capsys.readouterr()
    header, _, row = first.out.splitlines()[2:5]
    figures = dict(zip(header.split(" | ")[2:], row.split(" | ")[2:], strict=True))
    values = {name.strip(" |"): float(value.strip(" |*")) for name, value in figures.items()}
    assert set(values) == {"majority", *names}
    assert max(values[name] for name in names) > values["majority"] + 0.1, values
    assert min(values[name] for name in names) > 0.4, values
    main(asked)
    assert capsys.readouterr().err.count("from the cache") == len(names) + 1


@pytest.mark.heavy
def test_learners_of_label_sets(tmp_path, capsys):
    """scikit-multiflow's learners of label sets learn labels that are the signs of inputs."""
    needs("multiflow")
    x = np.random.default_rng(3).normal(size=(300, 3))
    lines = "".join(f"{a:.3f},{b:.3f},{c:.3f},{int(a > 0)},{int(b > 0)}\n" for a, b, c in x)
    (tmp_path / "sets.csv").write_text("a,b,c,p,q\n" + lines)
    added = ("--add", f"{tmp_path / 'sets.csv'} --targets-last 2", "--streams", "none", "--jobs", "0")
    chosen = ("--learners", ",".join(LABELERS), "--task", "multilabel", "--cache", str(tmp_path / "cache"))
    main(["compare", *added, *chosen])
    results = [json.loads(line) for line in (tmp_path / "cache" / "results.jsonl").read_text().splitlines()]
    figures = {r["key"]["learner"]: r["result"]["f1_micro"] for r in results}
    assert set(figures) == set(LABELERS)
    assert min(figures.values()) > 0.6, figures


@pytest.mark.parametrize("library", LEARNERS)
def test_without_an_environment_learners_are_left_out_loudly(tmp_path, capsys, monkeypatch, library):
    """The message names the command that helps; a learner that was asked for by name is an error."""
    monkeypatch.delenv("STREAMNN_PEERS", raising=False)
    rest = "best,fast,lite,single,alma,knn,hoeffding_tree,hat,arf,amf,srp,leveraging_bagging"
    main(words(tmp_path, "--without", rest))
    told = capsys.readouterr()
    assert "| accuracy | events | no_change | majority | logistic |" in told.out
    assert f"LEFT OUT, all learners of {library}: STREAMNN_PEERS is not set" in told.err
    assert f"python -m tests.benchmarks.quality.environments /tmp/peers {library}" in told.err
    with pytest.raises(SystemExit, match=f"environments /tmp/peers {library}"):
        main(words(tmp_path, "--learners", f"{library}_{LEARNERS[library][0]}"))
    monkeypatch.setenv("STREAMNN_PEERS", str(tmp_path))
    with pytest.raises(SystemExit, match=f"has no folder {library}"):
        main(words(tmp_path, "--learners", f"{library}_{LEARNERS[library][0]}"))


def test_inputs_of_other_libraries_by_hand():
    """Names become columns of 0 and 1, missing numbers 0; the scaling knows nothing of later events."""
    raw, scaled = matrix([{"a": 1.0, "k": "red"}, {"a": 3.0, "k": "blue"}, {"k": "red"}, {"a": 5.0, "k": "red"}])
    assert raw.tolist() == [[1, 1, 0], [3, 0, 1], [0, 1, 0], [5, 1, 0]]
    assert scaled[:, 1:].tolist() == raw[:, 1:].tolist()
    assert scaled[:, 0] == pytest.approx([0, 1, 0, 2 / math.sqrt(8 / 3)])
    assert matrix([{"a": 7.5}, {"a": 7.5}])[1].tolist() == [[0], [0]]
    assert matrix([{"b": 1.0}, {"a": 4.0}, {"a": 6.0}])[1][:, 1] == pytest.approx([0, 0, 1])
