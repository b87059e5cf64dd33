"""A model on a device: what cannot be is said before anything is read, and the rest of the pipeline sees no difference."""

import json

import pytest

from pipeline.__main__ import main
from pipeline.assembly import prepare
from pipeline.config import Config
from pipeline.settings import SettingsError, read_settings
from streamnn.device import GraphEngine, check_device
from streamnn.heads import TargetSpec
from streamnn.learner import LearnerSpec
from tests.pipeline.helpers import read_jsonl, write_csv


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.preset=best"], r"model\.preset is best, a pool, .*model\.device is cuda; set model\.preset to single"),
        (["model.engine=native"], r"model\.engine is native, .*model\.device is cuda; set model\.engine to auto"),
        (["mode.batch=1"], r"mode\.batch is 1, and model\.device is cuda: .*set mode\.batch to"),
        ([], r"model\.device: device is 'cuda', but torch .*; use device cpu, or a machine with an NVIDIA card"),
    ],
)
def test_what_cannot_run_on_a_card_is_refused_before_anything_is_read(settings, message, monkeypatch):
    """The error names setting, value and remedy; the stream, which is not there, is not looked for."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    given = ["model.device=cuda", "mode.batch=64", "stream.source=nowhere.csv", *settings]
    with pytest.raises(SettingsError, match=message):
        prepare(read_settings(Config, None, environ={}, overrides=given))


def test_a_learner_refuses_too(monkeypatch):
    """The same for who makes a learner in Python."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    targets = (TargetSpec("y", "binary"),)
    with pytest.raises(ValueError, match=r"device is 'tpu'; use one of cpu, cuda"):
        LearnerSpec(targets=targets, device="tpu")
    with pytest.raises(ValueError, match="engine is 'native', which runs on the cpu, but device is 'cuda'"):
        LearnerSpec(targets=targets, device="cuda", engine="native")
    with pytest.raises(ValueError, match="device is 'cuda', but torch"):
        LearnerSpec(targets=targets, device="cuda")
    with pytest.raises(ValueError, match="batch is 0"):
        LearnerSpec(targets=targets, batch=0)
    check_device("cpu")


@pytest.mark.parametrize(("version", "fine"), [("2.12.1+cu130", False), ("2.13.0+cu130", True), ("2.13.1", True)])
def test_a_card_needs_a_torch_whose_compiler_knows_our_settings(version, fine, monkeypatch):
    """An older torch would fail at the first event; it is refused at start, with the version that is needed."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.__version__", version)
    if fine:
        check_device("cuda")
    else:
        with pytest.raises(ValueError, match=r"torch is 2\.12\.1\+cu130; use device cpu, or torch 2\.13 or newer"):
            check_device("cuda")


@pytest.fixture
def card(monkeypatch):
    """A card that is none: graphs run on the host."""
    monkeypatch.setattr("pipeline.assembly.check_device", lambda name: None)
    monkeypatch.setattr("streamnn.learner.check_device", lambda name: None)
    monkeypatch.setattr("streamnn.learner.describe_device", lambda name: f"{name} (none)")
    monkeypatch.setattr("streamnn.learner.GraphEngine", lambda name, *, least: GraphEngine("cpu", least=least))


def test_a_replay_on_a_device_can_be_stopped_and_resumed(tmp_path, card):
    """Interrupted in the middle and resumed, it writes the predictions of one that was not, the last partial batch too."""
    write_csv(tmp_path / "s.csv", 150, kind="multiclass")

    def replay(name, *more):
        words = [
            "replay", str(tmp_path / "s.csv"), "--target", "y", "--quiet", "--mode", "batch:32",
            "--set", "model.device=cuda", "--set", "network.units=[8]", "--set", "rate.every=64",
            "--predictions", str(tmp_path / f"{name}.jsonl"), "--report", str(tmp_path / f"{name}.json"), *more,
        ]  # fmt: skip
        assert main(words) == 0

    replay("whole")
    kept = ["--checkpoint", str(tmp_path / "ck"), "--resume"]
    replay("parts", *kept, "--limit", "64")
    replay("parts", *kept)
    assert len(read_jsonl(tmp_path / "whole.jsonl")) == 150
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    model = json.loads((tmp_path / "whole.json").read_text())["model"]
    assert model["preset"] == "single"
    assert model["engine"] == "graph"
    assert model["device"] == "cuda (none)"
    assert model["compilations"] >= 1


def test_the_host_is_told_too(tmp_path):
    """Without a device the report says cpu."""
    write_csv(tmp_path / "s.csv", 60)
    out = tmp_path / "r.json"
    assert main(["replay", str(tmp_path / "s.csv"), "--target", "y", "--quiet", "--report", str(out)]) == 0
    assert json.loads(out.read_text())["model"]["device"] == "cpu"
