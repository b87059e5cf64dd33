"""`streamnn run`: a long-running process with metrics, health pages, graceful stop and resumption."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from tests.pipeline.helpers import ROOT, read_jsonl, streamnn, write_csv

CONFIG = """
[stream]
source = "s.csv"
targets = ["y"]
follow = true

[output]
predictions = "p.jsonl"
dead_letters = "dead.jsonl"

[checkpoint]
folder = "ck"
every_events = 200

[telemetry]
port = 0

[model]
preset = "single"
engine = "eager"
"""


class Running:
    """A `streamnn run` in a process of its own."""

    def __init__(self, folder, *words):
        self.folder = folder
        with (folder / "err.txt").open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "run", "c.toml", *words],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stderr=err,
                stdout=subprocess.DEVNULL,
            )
        self.url = self.wait(lambda: re.search(r"metrics at (http://\S+)/metrics", self.err()))[1]

    def err(self):
        """What was written to stderr so far."""
        return (self.folder / "err.txt").read_text()

    def wait(self, condition, seconds=60):
        """Wait until a condition is true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = condition()
            if found:
                return found
            assert self.process.poll() is None, self.err()
            time.sleep(0.05)
        raise AssertionError(f"waited {seconds} s in vain; stderr:\n{self.err()}")

    def page(self, name):
        """Status and text of a page."""
        try:
            with urllib.request.urlopen(f"{self.url}/{name}", timeout=10) as answer:  # noqa: S310 (our own server)
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self, number=signal.SIGTERM):
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=60)


@pytest.fixture
def folder(tmp_path):
    """A folder with a configuration and a stream of 500 events."""
    (tmp_path / "c.toml").write_text(CONFIG)
    write_csv(tmp_path / "s.csv", 500, extra=[(7, "broken")])
    return tmp_path


def value(text, name):
    """A metric's value from a page."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found, f"{name} is not among the metrics"
    return float(found[1])


def test_runs_serves_metrics_stops_and_resumes(folder):
    """Metrics agree with what happened; SIGTERM exits with 0; the next start goes on where this one stopped."""
    run = Running(folder)
    run.wait(lambda: value(run.page("metrics")[1], "streamnn_events_total") == 500)
    page = run.page("metrics")[1]
    assert value(page, "streamnn_events_learned_total") == 500
    assert value(page, 'streamnn_dead_letters_total{reason="wrong_field_count",stage="decode"}') == 1
    status, told = run.page("livez")
    assert status == 200
    assert json.loads(told)["status"] == "ok"
    assert run.page("readyz")[0] == 200
    assert run.page("nowhere")[0] == 404
    assert run.stop() == 0
    assert len(read_jsonl(folder / "p.jsonl")) == 500
    more = write_csv(folder / "more.csv", 100, seed=9)[1:]
    with (folder / "s.csv").open("a") as file:
        file.write("\n".join(more) + "\n")
    run = Running(folder)
    run.wait(lambda: value(run.page("metrics")[1], "streamnn_events_total") == 100)
    assert run.stop() == 0
    assert "going on from the checkpoint at event 500" in run.err()
    positions = [line["position"] for line in read_jsonl(folder / "p.jsonl")]
    assert positions == [n for n in range(601) if n != 6]
    assert [line["position"] for line in read_jsonl(folder / "dead.jsonl")] == [6]


def test_metrics_pass_the_linter(folder):
    """Promtool finds nothing to complain about."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: it comes with Prometheus")
    run = Running(folder)
    run.wait(lambda: value(run.page("metrics")[1], "streamnn_events_total") == 500)
    page = run.page("metrics")[1]
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, check=False)
    run.stop()
    assert done.returncode == 0, done.stdout + done.stderr


def test_metrics_tell_who_carries_the_prediction(folder):
    """The shares of the pool's members are there, for each target, and sum to 1."""
    (folder / "c.toml").write_text(CONFIG.replace('"single"', '"lite"').replace('"eager"', '"auto"'))
    run = Running(folder)
    run.wait(lambda: value(run.page("metrics")[1], "streamnn_events_total") == 500)
    shares = re.findall(r'streamnn_member_weight\{member="(\w+)",target="y"\} (\S+)', run.page("metrics")[1])
    assert run.stop() == 0
    assert {"net", "naive_bayes"} <= {member for member, _ in shares}, shares
    assert sum(float(share) for _, share in shares) == pytest.approx(1.0)


def test_second_process_on_one_checkpoint_folder_is_refused(folder):
    """Two processes cannot write one folder of checkpoints."""
    run = Running(folder)
    run.wait(lambda: run.page("readyz")[0] == 200)
    other = streamnn("run", "c.toml", cwd=folder, check=2)
    assert "belongs to another process" in other.stderr
    assert run.stop() == 0


def test_busy_port_is_one_message(folder):
    """A port in use stops the start with a message that names the setting."""
    run = Running(folder)
    port = run.url.rpartition(":")[2]
    more = ["--set", f"telemetry.port={port}", "--set", "checkpoint.folder=ck2"]
    other = streamnn("run", "c.toml", *more, cwd=folder, check=2)
    assert f"telemetry.port {port}: cannot listen there" in other.stderr
    run.stop()
