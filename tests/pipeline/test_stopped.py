"""SIGTERM in the middle of a long native call: the block in hand is finished and kept, and going on changes no bit."""

import os
import signal
import subprocess
import sys

import pytest

from pipeline.__main__ import main
from tests.pipeline.helpers import ROOT, read_jsonl, write_csv
from tests.pipeline.test_crash import same

EVENTS, CHUNK = 25_000, 5_000
CONFIG = f"""
[stream]
source = "s.csv"
targets = ["y"]

[checkpoint]
every_events = {EVENTS}

[rate]
every = {CHUNK}

[mode]
chunk = {CHUNK}

[telemetry]
enabled = false

[model]
preset = "single"
engine = "native"

[network]
units = [256, 256]
"""
# tells when compiled code is entered and left
DRIVER = """
import sys
from pipeline.__main__ import main
from streamnn.native.program import Program

real = Program.run

def run(*given, **more):
    print("enters", flush=True)
    try:
        return real(*given, **more)
    finally:
        print("leaves", flush=True)

Program.run = run
sys.exit(main(sys.argv[1:]))
"""


def words(command, name):
    """A run over the stream, from its newest checkpoint if there is one."""
    outputs = {
        "output.predictions": f"{name}.jsonl", "output.dead_letters": f"{name}-dead.jsonl",
        "output.report": f"{name}.json", "checkpoint.folder": f"{name}-ck",
    }  # fmt: skip
    start = ["run", "c.toml"] if command == "run" else ["replay", "s.csv", "--config", "c.toml", "--resume"]
    return [*start, *(w for key, value in outputs.items() for w in ("--set", f"{key}={value}"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A stream, and a run over it that nothing stopped."""
    made = tmp_path_factory.mktemp("stopped")
    (made / "c.toml").write_text(CONFIG)
    write_csv(made / "s.csv", EVENTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        assert main(words("replay", "whole")) == 0
    assert len(read_jsonl(made / "whole.jsonl")) == EVENTS
    return made


@pytest.mark.parametrize(("command", "code"), [("replay", 128 + signal.SIGTERM), ("run", 0)])
def test_a_stop_during_a_native_call(folder, command, code, monkeypatch, capfd):
    """The call is finished, nothing more is begun, the report says how far it came; resumed it ends as one that was not stopped."""
    monkeypatch.chdir(folder)
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, *words(command, command)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    calls = 0
    for line in process.stdout:
        calls += line == "enters\n"
        if calls == 2:
            process.send_signal(signal.SIGTERM)
            break
    rest, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    assert rest.startswith("leaves\n")
    assert "enters" not in rest, "the signal came while the call was under way"
    assert f"{2 * CHUNK:,} events in" in rest
    assert len(read_jsonl(folder / f"{command}.jsonl")) == 2 * CHUNK
    assert main(words(command, command)) == 0
    assert f"going on from the checkpoint at event {2 * CHUNK:,}" in capfd.readouterr().err
    same(folder, command)
