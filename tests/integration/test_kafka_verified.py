"""`streamnn run` killed at random times, judged by a program that learns the model anew from the topics."""

import json
import os
import random
import subprocess
import sys
import time

import pytest

from tests.integration import helpers
from tests.integration.test_kafka_run import POISON, config, produced
from tests.pipeline.helpers import ROOT, streamnn, write_csv


def values(folder, events):
    """Events as JSON, with malformed ones among them."""
    names, *lines = (line.split(",") for line in write_csv(folder / "s.csv", events))
    made = [json.dumps(dict(zip(names, [*map(float, x), int(y)], strict=True))).encode() for *x, y in lines]
    for i, bad in enumerate(POISON):
        made.insert(50 + 50 * i, bad)
    return made


def prepared(folder, bootstrap, events, delivery="transactional"):
    """A configuration and its topics."""
    source = produced(bootstrap, values(folder, events))
    out, dead = helpers.topic(bootstrap, 2), helpers.topic(bootstrap, 1)
    text = config(bootstrap, source, out, dead, delivery=delivery) + '[rate]\ncontrol = "fixed"\n'
    (folder / "run.toml").write_text(text)
    return out


def start(folder, *words):
    """Start a program in the folder."""
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def verified(folder):
    """The verifier's exit code and words."""
    said, _ = (process := start(folder, "-m", "tests.integration.verifier", "run.toml")).communicate(timeout=300)
    return process.returncode, said


def test_verifier_accepts_a_run_and_names_what_is_wrong(bootstrap, tmp_path):
    """A whole run passes; one prediction written twice is found."""
    out = prepared(tmp_path, bootstrap, 300)
    streamnn("run", "run.toml", "--quiet", cwd=tmp_path, check=0)
    assert verified(tmp_path) == (0, "every event counted once\n")
    client = helpers.library("confluent-kafka", bootstrap)
    again = helpers.everything(client, out)[0]
    writer = client.writer(transactional_id="", transaction_timeout_s=60.0)
    writer.produce(helpers.Outgoing(out, again.value, partition=0, headers=again.headers))
    writer.settle(20.0)
    writer.close()
    code, said = verified(tmp_path)
    assert code == 1
    assert "2 times a prediction" in said


@pytest.mark.heavy
def test_killed_at_random_times(bootstrap, tmp_path):
    """Kills (-9) at seeded random times, STREAMNN_KILLS of them or 20, leave every event counted once."""
    moment, kills = random.Random(5), int(os.environ.get("STREAMNN_KILLS", "20"))
    prepared(tmp_path, bootstrap, 1000 * kills)  # so many that work is left at most of the kills
    reached: list[int] = []
    for _ in range(kills):
        process = start(tmp_path, "-m", "pipeline", "run", "run.toml", "--quiet")
        time.sleep(moment.uniform(2.5, 6.5))
        process.kill()
        process.communicate()
        numbers = [int(path.stem.split("-")[1]) for path in tmp_path.glob("ck-*/checkpoint-*.safetensors")]
        reached.append(max(numbers, default=0))
    print(f"checkpoints at the kills: {reached}")
    assert len(set(reached)) > kills // 5, f"most of the kills hit nothing: {reached}"
    streamnn("run", "run.toml", "--quiet", cwd=tmp_path, check=0)
    assert verified(tmp_path) == (0, "every event counted once\n")
