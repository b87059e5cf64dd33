"""`streamnn replay` as a user meets it: files in, report, predictions, plot and checkpoint out."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.plot import draw
from pipeline.prequential import Prequential
from tests.pipeline.helpers import ROOT, read_jsonl, streamnn, write_csv

EVENTS = 1500
REPORT_KEYS = {
    "events", "learned", "dropped", "seconds", "events_per_second", "metrics", "metrics_by_target", "baselines",
    "drifts", "learning_rate", "config", "versions",
}  # fmt: skip


def replay(*words):
    """Run `streamnn replay` in this process; returns the exit code."""
    return main(["replay", *map(str, words), "--quiet"])


@pytest.fixture
def stream(tmp_path):
    """A learnable binary stream as CSV."""
    path = tmp_path / "stream.csv"
    write_csv(path, EVENTS)
    return path


def test_report_holds_what_it_promises(stream, tmp_path):
    """Every promised key is there, and the model beats the baselines on a learnable stream."""
    out = tmp_path / "report.json"
    assert replay(stream, "--target", "y", "--report", out) == 0
    figures = json.loads(out.read_text())
    assert figures.keys() >= REPORT_KEYS
    assert figures["events"] == figures["learned"] == EVENTS
    assert figures["dropped"] == {}
    assert figures["metrics"]["accuracy"] > figures["baselines"]["majority"]["accuracy"] + 0.1
    assert figures["learning_rate"][0][0] == 0
    assert figures["config"]["stream"]["targets"] == ["y"]
    assert {"streamnn", "torch", "numpy"} <= figures["versions"].keys()


def test_predictions_file_agrees_with_the_scores(stream, tmp_path):
    """Accuracy counted from the predictions file is the accuracy in the report; positions count from 0."""
    out, report = tmp_path / "p.jsonl", tmp_path / "report.json"
    assert replay(stream, "--target", "y", "--predictions", out, "--report", report) == 0
    lines = read_jsonl(out)
    assert [line["position"] for line in lines] == list(range(EVENTS))
    right = np.mean([line["prediction"] == line["label"] for line in lines])
    assert right == pytest.approx(json.loads(report.read_text())["metrics"]["accuracy"], abs=1e-12)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_same_input_same_bytes(stream, tmp_path, suffix):
    """Two runs write the same predictions byte for byte, however the chunks fall; another seed does not."""
    paths = [tmp_path / f"{name}.{suffix}" for name in "abc"]
    assert replay(stream, "--target", "y", "--predictions", paths[0]) == 0
    assert replay(stream, "--target", "y", "--predictions", paths[1], "--set", "mode.chunk=7") == 0
    assert replay(stream, "--target", "y", "--predictions", paths[2], "--seed", 1) == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].read_bytes() != paths[2].read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--mode", "batch:8"],
        ["--label-delay", "37"],
        ["--mode", "batch:8", "--label-delay", "37"],
        ["--set", "network.normalizer=streaming", "--set", "network.dropout=0.2"],
        ["--set", "rate.control=plateau", "--set", "drift.detector=kswin", "--set", "optimizer.name=cocob"],
    ],
    ids=["sample", "batch", "delay", "batch-delay", "streaming-dropout", "others"],
)
def test_stopped_and_resumed_writes_the_file_of_the_uninterrupted_run(stream, tmp_path, words):
    """A replay that stops at any event and is resumed gives the predictions and scores of one that did not stop."""
    whole, pieces = tmp_path / "whole.jsonl", tmp_path / "pieces.jsonl"
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    base = [stream, "--target", "y", *words]
    assert replay(*base, "--predictions", whole, "--report", first) == 0
    for limit in (1, 2, 333, 801, 0):
        more = ["--limit", limit] if limit else []
        assert (
            replay(
                *base, *more, "--predictions", pieces, "--report", second, "--checkpoint", tmp_path / "ck", "--resume"
            )
            == 0
        )
    assert pieces.read_bytes() == whole.read_bytes()
    a, b = json.loads(first.read_text()), json.loads(second.read_text())
    for key in ("events", "learned", "metrics", "baselines", "drifts", "learning_rate", "curves"):
        assert a[key] == b[key], key


def test_micro_batches_and_delay_learn_everything(stream, tmp_path):
    """The last, smaller micro-batch and the labels on their way at the end are learned."""
    report = tmp_path / "report.json"
    assert replay(stream, "--target", "y", "--mode", "batch:64", "--label-delay", "100", "--report", report) == 0
    figures = json.loads(report.read_text())
    assert figures["learned"] == EVENTS
    assert figures["metrics"]["accuracy"] > 0.7


@pytest.mark.parametrize("preset", ["best", "single"])
def test_values_resume_as_if_never_stopped(tmp_path, preset):
    """A regression that is stopped and resumed gives the predictions file of the uninterrupted one."""
    path, whole, pieces = tmp_path / "s.csv", tmp_path / "whole.csv", tmp_path / "pieces.csv"
    write_csv(path, 700, kind="regression")
    base = [path, "--target", "y", "--set", f"model.preset={preset}"]
    assert replay(*base, "--predictions", whole) == 0
    for more in (["--limit", "301"], []):
        assert replay(*base, *more, "--predictions", pieces, "--checkpoint", tmp_path / "ck", "--resume") == 0
    assert pieces.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("kind", ["multiclass", "regression"])
def test_tasks_that_need_no_asking(tmp_path, kind):
    """Text labels are classes and numbers with fractions are values; both beat their baseline."""
    path, report = tmp_path / "s.csv", tmp_path / "r.json"
    write_csv(path, 1000, kind=kind)
    assert replay(path, "--target", "y", "--report", report) == 0
    figures = json.loads(report.read_text())
    assert figures["task"] == kind
    if kind == "regression":
        assert figures["metrics"]["mae"] < 0.6 * figures["baselines"]["mean"]["mae"]
    else:
        assert figures["metrics"]["accuracy"] > figures["baselines"]["majority"]["accuracy"] + 0.1


def test_whole_numbers_are_asked_about(tmp_path, capsys):
    """Integers with more than two values stop with a message that asks; naming the task goes on."""
    path = tmp_path / "s.csv"
    path.write_text("a,y\n" + "".join(f"{i}.5,{i % 4}\n" for i in range(40)))
    assert replay(path, "--target", "y") == 2
    assert "--task regression if it is a quantity, --task multiclass" in capsys.readouterr().err
    assert replay(path, "--target", "y", "--task", "multiclass") == 0
    assert replay(path, "--target", "y", "--task", "regression") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which field is to be predicted"),
        (["--target", "z"], "'z' is not a field"),
        (["--target", "y", "--targets-last", "1"], "give one of them"),
        (["--target", "y", "--mode", "batches"], "expected sample, or batch:B"),
        (["--target", "y", "--label-delay", "soon"], "expected a number of events, or a time"),
        (["--target", "y", "--label-delay", "5s"], "needs stream.moment"),
        (["--target", "y", "--set", "network.units=[0]"], "at least 1 unit"),
        (["--target", "y", "--set", "optimizer.options.beta9=1"], "adam has no such option"),
        (["--target", "y", "--set", "nothing.at.all=1"], "unknown key"),
        (["--target", "y", "--resume"], "needs checkpoint.folder"),
        (["--target", "y", "--fail-if", "accuracy < 0"], "needs --compare"),
        (["--target", "y", "--task", "guess"], "expected one of auto"),
        (["--target", "y", "--predictions", "/nowhere/p.jsonl"], "/nowhere/p.jsonl"),
    ],
)
def test_wrong_words_are_one_message_and_exit_2(stream, capsys, words, message):
    """A wrong argument stops everything at the start, says what was expected, and shows no traceback."""
    assert replay(stream, *words) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") <= 3
    assert "Traceback" not in err


@pytest.mark.parametrize("flag", ["--predictions", "--report", "--plot"])
def test_no_output_overwrites_the_stream(tmp_path, monkeypatch, capsys, flag):
    """The stream, by whatever path it is named, and another output are left as they are."""
    monkeypatch.chdir(tmp_path)
    write_csv("s.csv", 20)
    before = Path("s.csv").read_bytes()
    Path("link.csv").symlink_to("s.csv")
    for name in ("s.csv", str(tmp_path / "s.csv"), "link.csv"):
        assert replay("s.csv", "--target", "y", flag, name) == 2
        assert "is stream.source too and would be overwritten" in capsys.readouterr().err
    assert replay("s.csv", "--target", "y", flag, "x.jsonl", "--dead-letters", "./x.jsonl") == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert Path("s.csv").read_bytes() == before
    assert not Path("x.jsonl").exists()


@pytest.mark.parametrize("flag", ["--report", "--plot"])
def test_what_is_written_last_is_looked_at_first(stream, tmp_path, capsys, monkeypatch, flag):
    """A folder that is not there is told before the stream is read; one that goes away meanwhile costs no figures."""
    assert replay(stream, "--target", "y", flag, tmp_path / "nowhere" / "r.json") == 2
    assert "nowhere is not there" in capsys.readouterr().err
    assert replay(stream, "--target", "y", flag, tmp_path) == 2
    assert "which is a folder" in capsys.readouterr().err
    (folder := tmp_path / "there").mkdir()
    run = Prequential.run

    def goes_away(loop, **given):
        run(loop, **given)
        folder.rmdir()

    monkeypatch.setattr(Prequential, "run", goes_away)
    assert main(["replay", str(stream), "--target", "y", flag, str(folder / "r.json")]) == 1
    told = capsys.readouterr()
    assert "Choose another path" in told.err
    assert "accuracy" in told.out


def test_missing_stream_is_one_message(tmp_path, capsys):
    """A path that is not there is said so."""
    assert replay(tmp_path / "nowhere.csv", "--target", "y") == 2
    assert "nowhere.csv" in capsys.readouterr().err


def test_checkpoints_of_another_model_are_refused(stream, tmp_path, capsys):
    """Resuming with other settings names what differs; without --resume old checkpoints are not overwritten."""
    base = [stream, "--target", "y", "--checkpoint", tmp_path / "ck", "--limit", "100"]
    assert replay(*base) == 0
    assert replay(*base) == 2
    assert "holds checkpoints already" in capsys.readouterr().err
    assert replay(*base, "--resume", "--set", "network.units=[8]") == 2
    assert "network.units: [64] in the checkpoint, [8] now" in capsys.readouterr().err


def test_replay_test_fails_when_the_model_got_worse(stream, tmp_path, capsys):
    """--compare with --fail-if exits with 3 for a worse model and 0 for the same one."""
    report = tmp_path / "good.json"
    assert replay(stream, "--target", "y", "--report", report) == 0
    compare = ["--compare", report, "--fail-if", "accuracy < -0.005"]
    assert replay(stream, "--target", "y", *compare) == 0
    assert replay(stream, "--target", "y", *compare, "--set", "optimizer.rate=0", "--set", "model.preset=single") == 3
    assert "comparison failed: accuracy changed by -" in capsys.readouterr().err


def test_interrupt_writes_checkpoint_and_report(tmp_path):
    """Ctrl-C finishes what is in hand, writes checkpoint and report, exits with 130, and resuming loses nothing."""
    path = tmp_path / "s.csv"
    write_csv(path, 3_000)
    whole = tmp_path / "whole.jsonl"
    words = ["replay", path, "--target", "y", "--set", "model.preset=single", "--set", "model.engine=eager"]
    streamnn(*words, "--predictions", whole, cwd=tmp_path, check=0)
    out, report = tmp_path / "p.jsonl", tmp_path / "r.json"
    more = ["--predictions", out, "--report", report, "--checkpoint", tmp_path / "ck", "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *map(str, [*words, *more])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out.exists() and out.stat().st_size) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    figures = json.loads(report.read_text())
    assert figures["interrupted"]
    assert 0 < figures["events"] < 3_000
    assert len(read_jsonl(out)) == figures["events"]
    streamnn(*words, *more, cwd=tmp_path, check=0)
    assert out.read_bytes() == whole.read_bytes()


def test_plot_is_a_picture(stream, tmp_path):
    """--plot writes a PNG of some size."""
    out = tmp_path / "curve.png"
    assert replay(stream, "--target", "y", "--plot", out) == 0
    assert out.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert out.stat().st_size > 10_000


def test_plot_tells_who_carries_the_prediction(stream, tmp_path):
    """A pool has a panel whose bars add up to the whole, with the members that matter named; a network has none."""
    report = tmp_path / "report.json"
    panels = {}
    for preset in ("lite", "single"):
        assert replay(stream, "--target", "y", "--set", f"model.preset={preset}", "--report", report) == 0
        panels[preset] = draw(json.loads(report.read_text())).axes
    assert len(panels["lite"]) == len(panels["single"]) + 1
    members = panels["lite"][-1]
    assert sum(bar.get_width() for bar in members.patches) == pytest.approx(1.0)
    assert [label.get_text() for label in members.get_yticklabels()] == ["y"]
    assert members.texts
    assert re.search(r"at the end\n\w+ 0\.\d\d, \w+ 0\.\d\d", members.get_xlabel())


def test_several_labels_resume_to_the_same_predictions(tmp_path):
    """Labels that share a pool, some of them missing: a run that is stopped and resumed writes the same bytes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 2))
    flags = [["" if rng.random() < 0.1 else str(int(v > cut)) for v in x.sum(axis=1)] for cut in (-0.5, 0.0, 1.0)]
    lines = [f"{a},{b},{p},{q},{r}" for (a, b), p, q, r in zip(x, *flags, strict=True)]
    path, whole, out = tmp_path / "labels.csv", tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    path.write_text("\n".join(["a,b,p,q,r", *lines]) + "\n")
    words = (path, "--target", "p,q,r", "--task", "multilabel")
    assert replay(*words, "--predictions", whole) == 0
    kept = ("--predictions", out, "--checkpoint", tmp_path / "checkpoints")
    assert replay(*words, *kept, "--limit", "250") == 0
    assert replay(*words, *kept, "--resume") == 0
    assert out.read_bytes() == whole.read_bytes()


def test_help_and_version(tmp_path):
    """--help teaches by examples and names the exit codes; --version says the version."""
    text = streamnn("--help", cwd=tmp_path, check=0).stdout
    assert "streamnn replay" in text
    assert "exit codes" in text
    assert streamnn("--version", cwd=tmp_path, check=0).stdout.startswith("streamnn ")
    assert "batch:B" in streamnn("replay", "--help", cwd=tmp_path, check=0).stdout


def test_plain_lines_in_a_pipe(stream, tmp_path):
    """Without a terminal the output is plain text: scores beside the baselines, no control characters."""
    done = streamnn("replay", stream, "--target", "y", cwd=tmp_path, check=0)
    assert "accuracy" in done.stdout
    assert "majority" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_config_lists_and_checks(tmp_path):
    """`streamnn config` prints a file that it accepts itself, and checks one that is given."""
    text = streamnn("config", cwd=tmp_path, check=0).stdout
    (tmp_path / "c.toml").write_text(text)
    shown = streamnn("config", "c.toml", "--set", "seed=5", cwd=tmp_path, check=0).stdout
    assert "seed = 5" in shown
    (tmp_path / "c.toml").write_text("[mode]\nbatch = 0\n")
    assert "mode.batch is 0" in streamnn("config", "c.toml", cwd=tmp_path, check=2).stderr


def test_inspect_shows_a_checkpoint(stream, tmp_path):
    """`streamnn inspect` prints counters and tensors; --json is JSON."""
    single = ["--set", "model.preset=single"]
    assert replay(stream, "--target", "y", *single, "--checkpoint", tmp_path / "ck") == 0
    assert "linears.0.weight" in streamnn("inspect", tmp_path / "ck", cwd=tmp_path, check=0).stdout
    told = json.loads(streamnn("inspect", tmp_path / "ck", "--json", cwd=tmp_path, check=0).stdout)
    assert told["number"] == EVENTS
