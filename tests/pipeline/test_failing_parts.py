"""A disk that is full for a while or for good, and a stream that breaks off: nothing that was taken in is lost."""

import gzip
import io
import json
import os
import subprocess
import sys
import time

import pytest

from connectors import SinkError
from connectors.kafka import FencedError
from pipeline.checkpoint import CheckpointError
from pipeline.commands import complain
from tests.pipeline.helpers import ROOT, read_jsonl, small_file_system, streamnn, write_csv

WORDS = ["replay", "s.csv", "--target", "y", "--set", "model.preset=single", "--set", "model.engine=eager"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    with small_file_system(tmp_path / "small", "256k") as at:
        yield at


@pytest.fixture
def stream(tmp_path):
    """A stream whose predictions need some 150 KiB."""
    write_csv(tmp_path / "s.csv", 2000)
    return tmp_path


def test_full_disk_is_waited_for(stream, small_disk):
    """Intake stops while there is no room and goes on afterwards: the file is that of an undisturbed run."""
    streamnn(*WORDS, "--predictions", "whole.jsonl", cwd=stream, check=0)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(200 * 1024))
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *WORDS, "--predictions", "small/p.jsonl"],
        cwd=stream,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        line = ""
        while "intake stopped" not in line:
            line = process.stderr.readline()
            assert line, "it ended without saying that it waits"
        assert "small/p.jsonl" in line
        time.sleep(0.5)
        assert process.poll() is None
        filler.unlink()
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert (small_disk / "p.jsonl").read_bytes() == (stream / "whole.jsonl").read_bytes()


def test_disk_that_stays_full_ends_the_run_with_a_report(stream, small_disk):
    """After the patience asked for the run stops with one message; the next one goes on from the checkpoint."""
    streamnn(*WORDS, "--predictions", "whole.jsonl", cwd=stream, check=0)
    (small_disk / "filler").write_bytes(bytes(200 * 1024))
    more = ["--predictions", "small/p.jsonl", "--checkpoint", "ck", "--resume", "--report", "r.json"]
    more += ["--set", "output.patience_s=0.5", "--set", "checkpoint.every_events=100"]
    done = streamnn(*WORDS, *more, cwd=stream, check=1)
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert 0 < json.loads((stream / "r.json").read_text())["events"] < 2000
    (small_disk / "filler").unlink()
    streamnn(*WORDS, *more, cwd=stream, check=0)
    assert (small_disk / "p.jsonl").read_bytes() == (stream / "whole.jsonl").read_bytes()


def test_stream_that_breaks_off_keeps_what_came_before(stream):
    """A truncated gzip file: exit 1, one message; report, predictions and checkpoint hold all that could be read."""
    packed = gzip.compress((stream / "s.csv").read_bytes())
    (stream / "s.csv.gz").write_bytes(packed[: len(packed) * 3 // 4])
    more = ["--predictions", "p.jsonl", "--checkpoint", "ck", "--report", "r.json"]
    done = streamnn("replay", "s.csv.gz", *WORDS[2:], *more, cwd=stream, check=1)
    assert "s.csv.gz" in done.stderr
    assert "Traceback" not in done.stderr
    events = json.loads((stream / "r.json").read_text())["events"]
    assert 0 < events < 2000
    assert len(read_jsonl(stream / "p.jsonl")) == events
    shown = streamnn("inspect", "ck", cwd=stream, check=0)
    assert str(events) in shown.stdout.replace(",", "")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FencedError("another process has taken over 't'"), 1),
        (CheckpointError("taken_over", "a later worker has begun"), 1),
        (CheckpointError("damaged", "checkpoint-7 is damaged"), 2),
        (SinkError("no Kafka broker answers"), 2),
    ],
)
def test_only_who_is_taken_over_while_it_begins_is_to_be_started_again(error, code):
    """A worker that another one overtakes at its start ends as one that it overtakes later; what is wrong stays wrong."""
    told = io.StringIO()
    assert complain(error, told) == code
    assert told.getvalue() == f"streamnn: {error}\n"
