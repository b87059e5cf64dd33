"""Tests that start a broker of their own, where only the address of a running one is given."""

import os
import re
import subprocess
import sys

from tests.pipeline.helpers import ROOT

OF_THEIR_OWN = [  # one for each fixture and test that starts a broker
    "test_kafka_broker_faults.py::test_a_node_of_three_may_go",
    "test_kafka_faults.py::test_retention_that_is_shrunk",
    "test_kafka_faults.py::test_a_broker_that_stays_away",
    "test_kafka_recovery.py::test_broker_goes_and_comes_back",
    "test_kafka_security.py::test_a_run_that_logs_in",
]


def test_without_jars_they_are_skipped_and_say_so():
    """None of them fails for want of what cannot be there; the reason names what to set."""
    given = {name: value for name, value in os.environ.items() if name not in ("KAFKA_LIBS", "PYTEST_ADDOPTS")}
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "heavy or not heavy"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *(f"tests/integration/{one}" for one in OF_THEIR_OWN)],
        cwd=ROOT,
        env={**given, "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ skipped in", done.stdout, re.MULTILINE), done.stdout
    assert "no Kafka broker: set KAFKA_LIBS (a folder of Kafka's jars)" in done.stdout
