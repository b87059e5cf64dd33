"""The commands of the page about Kafka, one after the other, on a broker that the first of them starts."""

import csv
import json
import os
import shutil
import socket

import pytest

from tests.integration import helpers
from tests.test_docs import ROOT, blocks, commands, run

PAGE = ROOT / "docs" / "kafka.md"
ROWS = 60


def stream(path):
    """A recorded stream whose fields are those of the page's configuration: a row a second."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["time", "machine", "temperature", "failure"])
        for i in range(ROWS):
            writer.writerow([f"2026-11-01T12:00:{i:02d}Z", f"m{i % 3}", 20.0 + (i * 7) % 11, int((i * 7) % 11 > 6)])


@pytest.mark.heavy
def test_the_commands_of_the_page_run(tmp_path):
    """A broker is started, a stream produced, learned, recorded, replayed and produced again, and the broker stopped."""
    if not os.environ.get("KAFKA_LIBS") or not (shutil.which("java") or os.environ.get("JAVA_HOME")):
        pytest.skip("no Kafka broker: set KAFKA_LIBS (a folder of Kafka's jars), and install Java 17")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"localhost:{free.getsockname()[1]}"

    def do(line, told=""):
        line = line.replace("localhost:9092", address)
        done = run(line, tmp_path, XDG_STATE_HOME=str(tmp_path / "state"))
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert told in done.stdout + done.stderr

    start, status, stop, *lines = commands(PAGE)
    assert [line.split()[-1] for line in (start, status, stop)] == ["start", "status", "stop"]
    record, replay, *produce = lines
    stream(tmp_path / "stream.csv")
    text = blocks(PAGE, "toml")[0].replace("localhost:9092", address)
    (tmp_path / "config.toml").write_text(text)
    do(f"{start} --port {address.partition(':')[2]}", "Kafka 4.1.1 answers at")
    try:
        do(status, "1 of 1 node(s) run")
        for name in ("readings", "predictions", "dead-letters", "readings-copy"):
            helpers.topic(address, 2, name=name)
        do(produce[0], f"{ROWS} records")
        do(produce[1], f"{ROWS} records")
        do("streamnn run config.toml --set kafka.until=end --set telemetry.port=0")
        do(record)
        do(replay, f"{2 * ROWS} events in")
        assert json.loads((tmp_path / "week.json").read_text())["events"] == 2 * ROWS
        do(produce[2], f"{2 * ROWS} records")
        library = helpers.library("confluent-kafka", address)
        source, copy, predicted = (
            helpers.everything(library, name) for name in ("readings", "readings-copy", "predictions")
        )
        same = [sorted((r.key or b"", r.value) for r in some) for some in (copy, source)]
        assert same[0] == same[1]
        assert len(predicted) == 2 * ROWS
        assert helpers.everything(library, "dead-letters") == []
    finally:
        helpers.close()
        do(stop, "stopped")
