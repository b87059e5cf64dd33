"""How often a run compiles: told in the report and to Prometheus."""

import json

import pytest

from pipeline.assembly import assemble
from pipeline.config import Config
from pipeline.report import report
from pipeline.settings import read_settings
from pipeline.telemetry import Telemetry


def write_growing(path, events):
    """A field whose values are names: twelve, that appear one after the other."""
    lines = [
        json.dumps({"a": i % 7 / 7, "kind": f"k{i % (1 + min(i // 30, 11))}", "y": f"c{i % 3}"}) for i in range(events)
    ]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("chunk", [50, 400])
def test_compilations_are_counted(chunk, tmp_path):
    """One at the start and one a doubling, in `streamnn_compilations` as in the report, however chunks are cut."""
    write_growing(tmp_path / "s.jsonl", 400)
    settings = [
        f"stream.source={tmp_path / 's.jsonl'}", 'stream.targets=["y"]', "stream.task=multiclass", "network.units=[4]",
        "model.engine=native", "features.capacity=2", f"mode.chunk={chunk}", "rate.every=100",
    ]  # fmt: skip
    run = assemble(read_settings(Config, None, overrides=settings, environ={}))
    telemetry = Telemetry()
    try:
        run.loop.open(None)
        run.loop.run(stop=lambda: False, report=telemetry.block)
        model = report(run)["model"]
    finally:
        run.close()
    assert model["growths"] == {"features": 3, "classes": 0}
    assert model["compilations"] == 1 + sum(model["growths"].values())
    assert telemetry.registry.get_sample_value("streamnn_compilations_total") == model["compilations"]


@pytest.mark.parametrize(("follow", "batch", "foreseen"), [("true", 8, True), ("true", 1, False), ("false", 8, False)])
def test_a_live_stream_foresees_smaller_micro_batches(follow, batch, foreseen, tmp_path):
    """Only where events come while they are read, and in micro-batches, is anything compiled before it is needed."""
    write_growing(tmp_path / "s.jsonl", 20)
    settings = [
        f"stream.source={tmp_path / 's.jsonl'}", 'stream.targets=["y"]', "stream.task=multiclass", "network.units=[4]",
        f"stream.follow={follow}", f"mode.batch={batch}", "model.preset=single",
    ]  # fmt: skip
    run = assemble(read_settings(Config, None, overrides=settings, environ={}))
    try:
        spec = run.loop.parts.learner.spec
        assert (spec.batch, spec.foresee) == (batch, foreseen)
    finally:
        run.close()
