"""Every command and example in the README and in docs runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from pipeline.arguments import parser
from pipeline.config import Config
from pipeline.settings import read_settings
from pipeline.telemetry import Telemetry

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page):
    """The command lines of a page, continued lines joined."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line.partition("  #")[0].strip() for line in lines if line.strip() and not line.startswith("#")]


ALL = [(page.name, line) for page in PAGES for line in commands(page)]
WORDS = {"streamnn", "python", "python3", "docker", "pip"}


def run(line, folder, **variables):
    """Run a command line as a shell would, with `streamnn` and `python` being ours."""
    bin_folder = folder / "bin"
    bin_folder.mkdir(exist_ok=True)
    (bin_folder / "streamnn").write_text(f'#!/bin/sh\nexec {sys.executable} -m pipeline "$@"\n')
    (bin_folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for name in ("streamnn", "python"):
        (bin_folder / name).chmod(0o755)
    env = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), **variables}
    words = ["/bin/sh", "-c", line]
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=500, check=False)


@pytest.mark.parametrize(("page", "line"), ALL)
def test_every_command_is_understood(page, line):
    """Each command is one of ours (or sets ours up), and its words parse."""
    for part in line.split(" && "):
        words = part.split()
        name = Path(words[0]).name
        assert name in WORDS, part
        if name == "streamnn":
            parser().parse_args(re.findall(r'"[^"]*"|\S+', part)[1:])


def test_replay_commands_of_the_readme_run(tmp_path):
    """The README's replay commands run one after the other in a folder of their own."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    rows = "".join(f"{i % 7}.5,{(i * i) % 11}.25,{20 + 3 * (i % 7)}.5\n" for i in range(600))
    (tmp_path / "stream.csv").write_text("a,b,price\n" + rows)
    lines = [line for line in commands(ROOT / "README.md") if "streamnn replay" in line]
    assert len(lines) >= 4
    for line in lines:
        command = line.split(" && ")[-1].replace(".venv/bin/", "")
        done = run(command, tmp_path)
        assert done.returncode in (0, 3), done.stderr
        assert "events in" in done.stdout
    assert (tmp_path / "weather.png").stat().st_size > 10_000


def test_comparisons_of_the_docs_run(tmp_path):
    """The commands that compare learners on a user's stream run, short and with two learners, and print a table."""
    rows = "".join(f"{i % 7}.5,{(i * i) % 11}.25,{20 + 3 * (i % 7)}.5\n" for i in range(60))
    (tmp_path / "stream.csv").write_text("a,b,price\n" + rows)
    lines = [line for line in commands(ROOT / "docs" / "quality.md") if line.startswith("streamnn bench quality")]
    assert len(lines) == 2
    for line, other, metric in zip(lines, ("mean", "majority"), ("mae", "accuracy"), strict=True):
        done = run(f"{line} --rows 60 --seeds 1 --jobs 1 --learners lite,{other}", tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"| {metric} | events | lite | {other} |" in done.stdout
    assert (tmp_path / "out" / "stream.png").stat().st_size > 10_000


def test_run_command_of_the_readme(tmp_path):
    """The long-running example reads its stream to the end and leaves a report, predictions and checkpoints."""
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    (line,) = [line for line in commands(ROOT / "README.md") if line.startswith("streamnn run")]
    done = run(line + " --set telemetry.port=0 --set stream.limit=3000", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "weather-predictions.jsonl").read_text().count("\n") == 3000


def test_python_example_of_the_readme():
    """The README's Python example runs and prints an accuracy above four fifths."""
    (code,) = blocks(ROOT / "README.md", "python")
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(re.search(r"Accuracy: (\S+)%", done.stdout)[1]) > 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_configurations_in_the_docs_are_valid(page, tmp_path):
    """Every TOML block is a configuration that is accepted."""
    for block in blocks(page, "toml"):
        tomllib.loads(block)
        path = tmp_path / "c.toml"
        path.write_text(block)
        read_settings(Config, path)


def test_links_lead_somewhere():
    """Every relative link points at a file."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


FAULTS = {
    "broker out of reach at the start": "test_kafka_faults::test_what_is_missing_at_the_start",
    "broker out of reach later": "test_kafka_recovery::test_broker_goes_and_comes_back",
    "broker away longer than `kafka.give_up_s`": "test_kafka_faults::test_a_broker_that_stays_away",
    "predictions or dead letters acknowledged slowly": "test_kafka_faults::test_a_sink_that_is_slow",
    "events faster than they are learned": "test_kafka_faults::test_a_learner_that_is_slow",
    "topic missing (source, predictions or dead letters)": "test_kafka_faults::test_what_is_missing_at_the_start",
    "source deleted while it is read": "test_kafka_faults::test_a_source_that_is_deleted",
    "predictions or dead letters deleted while they are written": "test_kafka_faults::test_an_output_that_is_deleted",
    "records not yet read were deleted": "test_kafka_faults::test_retention_that_is_shrunk",
    "markers of transactions, and records of aborted ones, were deleted": (
        "test_kafka_source::test_markers_that_retention_takes_are_not_missed"
    ),
    "the client no longer fetches from a partition": "test_kafka_source::test_a_client_that_gives_nothing_is_made_anew",
    "topic gets more partitions": "test_kafka_faults::test_partitions_that_are_added",
    "wrong password, untrusted certificate, certificate of the client refused": (
        "test_kafka_security::test_a_run_that_logs_in"
    ),
    "compression whose package is not installed (kafka-python)": (
        "test_kafka_clients::test_a_compression_that_is_not_installed_is_told"
    ),
    "schema registry does not answer": "test_kafka_avro::test_a_registry_that_is_away_is_waited_for",
    "schema registry refuses": "test_kafka_avro::test_a_registry_that_refuses_ends_the_run",
    "records that do not decode, or cannot be learned": "test_kafka_poison::test_every_malformed_record_is_a_dead_letter_once",
    "dead letter too large for its topic": "test_kafka_sinks::test_a_dead_letter_that_is_too_large_is_cut",
    "`kafka.transaction_timeout_s` longer than brokers allow": (
        "test_kafka_sinks::test_a_time_out_that_brokers_do_not_allow_is_told"
    ),
    "another process took the model over": "test_kafka_standby::test_a_zombie_stops_and_counts_for_nothing",
    "checkpoints, but no committed offsets (transactional)": "test_kafka_faults::test_positions_that_are_not_committed",
    "checkpoint damaged (transactional: the one that the committed offsets name)": (
        "test_kafka_faults::test_a_checkpoint_that_is_damaged"
    ),
    "checkpoint damaged (at least once)": "test_kafka_faults::test_checkpoints_that_are_damaged",
    "checkpoint folder used by another process": "test_kafka_faults::test_a_folder_that_is_in_use",
    "disk full": "test_kafka_faults::test_a_disk_that_is_full",
}


def tables_of_what_goes_wrong():
    """The first cells of the tables of what goes wrong with Kafka, and of the metrics that tell of it."""
    text = (ROOT / "docs" / "kafka.md").read_text().partition("## When something goes wrong")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE)
    metrics = cells.index("metric")
    return cells[:metrics], cells[metrics:]


def test_metrics_of_kafka_in_the_docs_are_those_that_there_are():
    """The table has each metric of the clients, and no other."""
    served = {sample.name for family in Telemetry().registry.collect() for sample in family.samples}
    words = ("streamnn_consumer_", "streamnn_producer_", "streamnn_transactions_", "streamnn_dead_letters_truncated_")
    clients = {name for name in served if name.startswith(words) and not name.endswith("_created")}
    assert {cell.strip("`") for cell in tables_of_what_goes_wrong()[1][1:]} == clients


def test_every_fault_in_the_docs_has_its_test():
    """Each row of the table of what goes wrong with Kafka names a test that is there."""
    assert tables_of_what_goes_wrong()[0] == ["what", *FAULTS]
    for module, name in (where.split("::") for where in FAULTS.values()):
        assert f"def {name}(" in (ROOT / "tests" / "integration" / f"{module}.py").read_text(), name
