"""`streamnn bench quality`: any streams, any learners; what cannot be compared is told before anything runs."""

import json
import re

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.bench.quality import learners
from pipeline.bench.quality.plots import curve_picture
from pipeline.bench.quality.streams import given, read, synthetic
from pipeline.scores import Outcome, Scores, Target


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a stream whose label follows its input into the working folder; returns a function that does."""
    monkeypatch.chdir(tmp_path)

    def write(name="one.csv", rows=90, hidden=()):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        way = ["" if i in hidden else "up" if i % 7 > 3 else "down" for i in range(rows)]
        path.write_text("a,b,way\n" + "".join(f"{i % 7},{(i * i) % 5},{w}\n" for i, w in enumerate(way)))
        return f"{name} --target way"

    return write


def quality(*words):
    """Compare in this process; returns the exit code."""
    return main(["bench", "quality", *words, "--jobs", "0"])


def results(folder):
    """Return learner and stream -> result of all that is kept."""
    lines = map(json.loads, (folder / ".quality" / "results.jsonl").read_text().splitlines())
    return {(line["key"]["learner"], line["key"]["stream"]): line["result"] for line in lines}


def test_a_stream_of_the_user(write, tmp_path, capsys):
    """Ours and river's stand side by side, pictures are written, and a second time nothing runs."""
    words = (write(), "--learners", "lite,majority,logistic", "--without", "logistic", "--output", "out")
    assert quality(*words) == 0
    first = capsys.readouterr()
    assert "| accuracy | events | lite | majority |" in first.out
    assert "| one | 90 |" in first.out
    assert (tmp_path / "out" / "tables.md").read_text() == first.out.rstrip("\n") + "\n"
    for picture in ("ranks", "one"):
        assert (tmp_path / "out" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert quality(*words) == 0
    second = capsys.readouterr()
    assert second.out == first.out
    assert second.err.count("from the cache") == 2
    assert results(tmp_path)["lite", "one"]["accuracy"] > results(tmp_path)["majority", "one"]["accuracy"]


def test_without_streams_there_are_some(write, tmp_path, capsys):
    """One that comes with river and nine generated ones, each of the length asked for."""
    assert quality("--rows", "40", "--learners", "no_change") == 0
    rows = re.findall(r"^\| (\w+) \| 40 \|", capsys.readouterr().out.split("| kappa |")[0], re.MULTILINE)
    assert len(set(rows)) == 10


@pytest.mark.parametrize("generated", synthetic(), ids=lambda stream: stream.name)
def test_generated_streams_move(generated):
    """What the first quarter teaches is true of what comes next, and less so at the end."""
    events = read(generated, 6000, 0)
    x, y = np.array([list(row.values()) for row in events.x], dtype=float), np.array(events.y)
    known = 1500
    x = (x - x[:known].mean(axis=0)) / (x[:known].std(axis=0) + 1e-9)

    def right(first, last):
        """How often most of the nearest 15 of the first quarter have the label."""
        near = ((x[first:last, None] - x[None, :known]) ** 2).sum(axis=2).argpartition(15, axis=1)[:, :15]
        votes = (y[near][:, :, None] == np.arange(events.classes)).sum(axis=1)
        return (votes.argmax(axis=1) == y[first:last]).mean()

    assert right(5600, 6000) < right(1500, 1900) - 0.02


def test_values_and_label_sets_have_their_own_learners(write, tmp_path, capsys):
    """The stream tells what is compared."""
    write()
    (tmp_path / "sets.csv").write_text("a,p,q\n" + "".join(f"{i % 5},{i % 2},{i % 3 // 2}\n" for i in range(60)))
    assert quality("one.csv --target a --task regression", "--learners", "mean,last") == 0
    assert "| mae | events | mean | last |" in capsys.readouterr().out
    assert quality("sets.csv --targets-last 2", "--learners", "powerset_tree") == 0
    assert "| f1-micro | events | powerset_tree |" in capsys.readouterr().out


def test_values_have_the_error_of_the_report(write, tmp_path):
    """What the comparison tells of ours is what `streamnn replay` reports: the first value is scored for nobody."""
    write()
    words = ["one.csv", "--target", "a", "--task", "regression"]
    assert main(["replay", *words, "--set", "model.preset=lite", "--report", "r.json", "--quiet"]) == 0
    assert quality(" ".join(words), "--learners", "lite,last") == 0
    figures, kept = json.loads((tmp_path / "r.json").read_text()), results(tmp_path)
    for metric in ("mae", "rmse"):
        assert kept["lite", "one"][metric] == pytest.approx(figures["metrics"][metric], rel=1e-9)
        assert kept["last", "one"][metric] == pytest.approx(figures["baselines"]["last"][metric], rel=1e-9)


def test_events_without_a_label_count_for_nobody(write, tmp_path):
    """They are neither scored nor learned, and the number of events is the same for ours and the others."""
    words = write(hidden=range(10, 40))
    assert quality(words, "--learners", "lite,majority") == 0
    assert {result["events"] for result in results(tmp_path).values()} == {60}
    assert len(read(given(words), 90, 0).y) == 60


def test_labels_of_a_set_may_be_missing(write, tmp_path):
    """Events with some label are scored on those they have, by ours and by others; events without any are left out."""
    sets = [f"{i % 5},{'' if i % 4 == 0 else i % 2},{'' if i % 8 < 2 else i % 3 // 2}" for i in range(80)]
    (tmp_path / "sets.csv").write_text("a,p,q\n" + "\n".join(sets) + "\n")
    learners = "lite,relevance_logistic,chain_logistic,powerset_tree"
    assert quality("sets.csv --targets-last 2", "--learners", learners) == 0
    assert {result["events"] for result in results(tmp_path).values()} == {70}
    events = read(given("sets.csv --targets-last 2"), 80, 0)
    assert events.y[:3] == [(1, None), (0, 1), (1, 0)]
    assert [x["a"] for x in events.x[:3]] == [1.0, 2.0, 3.0]


def test_files_of_the_same_name_have_rows_of_their_own(write, tmp_path, capsys):
    """The second is numbered; the same stream twice is one."""
    first, second = write("one.csv"), write("x/one.csv", rows=70)
    assert quality(first, second, first, "--learners", "majority") == 0
    assert re.findall(r"^\| (one\S*) \| (\d+)", capsys.readouterr().out, re.MULTILINE)[:2] == [
        ("one", "90"),
        ("one~2", "70"),
    ]


def test_the_metric_along_a_stream(write, tmp_path, capsys):
    """With `--windowed` each stream has a table: a row a learner, the metric of each tenth, means of seeds, the best bold."""
    words = (write(rows=101), "--learners", "majority,no_change,hat", "--seeds", "2", "--output", "out")
    assert quality(*words) == 0
    assert "on one" not in capsys.readouterr().out
    assert quality(*words, "--windowed") == 0
    out = capsys.readouterr().out
    assert out.rstrip("\n") in (tmp_path / "out" / "tables.md").read_text()
    head, _, *rows = out[out.index("| accuracy on one |") :].strip().splitlines()
    assert head.split(" | ")[1:] == [*(f"to {end}" for end in (11, 21, 31, 41, 51, 61, 71, 81, 91)), "to 101 |"]
    cells = {name: values for name, *values in (row.strip("| ").split(" | ") for row in rows)}
    events = read(given(words[0]), 101, 0).y
    right = np.array([i > 0 and events[i] == events[i - 1] for i in range(101)])
    ends = [11, 21, 31, 41, 51, 61, 71, 81, 91, 101]
    shares = [right[a:b].mean() for a, b in zip([0, *ends], ends, strict=False)]
    assert [float(cell.strip("*")) for cell in cells["no_change"]] == pytest.approx(shares, abs=1e-4)
    for column in zip(*cells.values(), strict=True):
        best = max(float(cell.strip("*")) for cell in column)
        assert all(cell.startswith("**") == (float(cell.strip("*")) == best) for cell in column)


@pytest.mark.parametrize(
    ("words", "learners", "head"),
    [
        ("one.csv --target a --task regression", "mean,last", "| mae on one | to 10 |"),
        ("sets.csv --targets-last 2", "powerset_tree", "| f1-example on sets | to 1 | to 2 | to 3 |"),
    ],
)
def test_values_and_label_sets_along_a_stream(write, tmp_path, capsys, words, learners, head):
    """Errors of values, of which the least is bold, and F1 of events; of a short stream there are fewer columns."""
    write()
    (tmp_path / "sets.csv").write_text("a,p,q\n" + "".join(f"{i % 5},{i % 2},{i % 3 // 2}\n" for i in range(3)))
    assert quality(words, "--learners", learners, "--windowed") == 0
    out = capsys.readouterr().out
    table = out[out.index(head) :].strip().splitlines()
    assert len(table) == 2 + len(learners.split(","))
    for column in list(zip(*(row.strip("| ").split(" | ") for row in table[2:]), strict=True))[1:]:
        values = [float(cell.strip("*")) for cell in column]
        best = min(values) if "mae" in head else max(values)
        assert all(cell.startswith("**") == (value == best) for cell, value in zip(column, values, strict=True))


def test_names_can_be_names_of_files():
    """Whatever a stream is called by, its picture is written into the folder."""
    words = ("x/my stream.csv.gz", "river:Phishing", "synth:Hyperplane?mag_change=0.01&seed=2", "synth:../SEA")
    names = [given(f"'{word}'").name for word in words]
    assert names == ["my_stream", "river_Phishing", "synth_Hyperplane_mag_change=0.01_seed=2", "synth_.._SEA"]


def test_a_learner_that_fails_keeps_no_other_from_running(write, tmp_path, capsys, monkeypatch):
    """It is told, has no column, is tried again next time, and the command ends with 1."""

    class Broken:
        def predict_proba_one(self, x):
            raise ZeroDivisionError("no such luck")

    words = (write(), "--learners", "majority,logistic")
    with monkeypatch.context() as patched:
        patched.setitem(learners.CLASSIFIERS, "majority", lambda *_: Broken())
        assert quality(*words) == 1
    said = capsys.readouterr()
    assert "one majority seed 0: FAILED: ZeroDivisionError: no such luck" in said.err
    assert "| accuracy | events | logistic |" in said.out
    assert quality(*words) == 0
    assert "| accuracy | events | majority | logistic |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["one.csv --target way", "one.csv --target a --task regression"],
            "one is classification, one~2 is regression",
        ),
        (["one.csv --target way", "--learners", "majorty"], "'majorty'.* are not known for classification.*majority"),
        (["one.csv --target way", "--without", "mean"], "'mean'.* are not known"),
        (["one.csv --target way", "--learners", "lite", "--without", "lite"], "leaves no learner"),
        (["one.csv --target way --label-delay 5"], "--label-delay would reach only our learners"),
        (["one.csv --target way --set rate.control=fixed"], "--set rate.control=fixed would reach only our"),
        (["one.csv --target wey"], "'wey' is not a field"),
        (["one.csv --target 'way"], "No closing quotation"),
        (["absent.csv --target way"], "absent.csv"),
        (["one.csv --target a,b --task multitarget"], "has 2 targets"),
        (["--rows", "1"], "--rows is 1"),
        (["--seeds", "0"], "--seeds is 0"),
    ],
)
def test_what_cannot_be_compared_is_refused(write, tmp_path, capsys, words, message):
    """With 2, a message, and nothing run."""
    write()
    assert quality(*words) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / ".quality").exists()


def test_drifts_are_marked(tmp_path, monkeypatch):
    """What ours flags where a concept turns round is kept with the result, and changes the picture."""
    monkeypatch.chdir(tmp_path)
    lines = "".join(f"{i % 7},{'up' if (i % 7 > 3) == (i < 600) else 'down'}\n" for i in range(1200))
    (tmp_path / "turn.csv").write_text("a,way\n" + lines)
    assert quality("turn.csv --target way", "--learners", "single", "--output", "out") == 0
    result = results(tmp_path)["single", "turn"]
    assert any(600 < number < 700 for number in result["drifts"])
    curve_picture({"single": result["windows"]}, "accuracy", 1200, tmp_path / "plain.png")
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "out" / "turn.png").read_bytes()


def test_every_learner_has_a_line_of_its_own(tmp_path, monkeypatch):
    """More learners than colours, and still no two lines look alike."""
    drawn = []
    monkeypatch.setattr("pipeline.bench.quality.plots.save", lambda figure, path: drawn.append(figure))
    curve_picture({f"learner {i}": [0.1, 0.01 * i] for i in range(17)}, "accuracy", 100, tmp_path / "many.png")
    (axes,) = drawn[0].axes
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 17


def test_the_last_value_of_a_category_is_that_of_the_report():
    """What the comparison calls so has the error that a report tells of it; the first value, which nothing precedes, counts in neither."""
    rng = np.random.default_rng(0)
    region, kind = rng.integers(0, 5, 300), rng.integers(0, 2, 300)
    y = 9.0 * region + kind + rng.normal(size=300)
    learner, served = learners.LastOfCategory(), []
    for i, value in enumerate(y.tolist()):
        x = {"kind": str(kind[i]), "a": float(i), **({} if i % 9 == 4 else {"region": str(region[i])})}
        served.append(learner.predict_one(x))
        learner.learn_one(x, value)
    scores = Scores([Target("y", "regression")])
    region[4::9] = -1
    codes = {"kind": 5 + kind, "region": region}
    scores.update(Outcome({"y": y}, {"y": np.zeros(300)}, categories=codes))
    found = scores.baselines()
    assert found["last_of_category"]["mae"] == pytest.approx(np.abs(served - y)[1:].mean(), rel=1e-12)
    assert found["last_of_category"]["mae"] < 0.5 * found["last"]["mae"]
