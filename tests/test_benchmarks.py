"""The benchmarks of the docs run, short: each prints its table, with a figure in every place. What they say is not judged."""

import os
import re
import subprocess
import sys

import pytest
import torch

from streamnn.native import engine as native
from tests import recorded
from tests.benchmarks import batch, cost, members, replay, results, speed, start, step
from tests.test_docs import ROOT

pytestmark = pytest.mark.heavy


@pytest.fixture(autouse=True)
def one_thread():
    """Benchmarks of one thread leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rows(text):
    """The cells of each line of all tables, heads left out."""
    lines = re.findall(r"^\|.*\|$", text, re.MULTILINE)
    rules = [i for i, line in enumerate(lines) if set(line) <= set("|-")]
    heads = {i - 1 for i in rules} | {*rules}
    return [[cell.strip() for cell in line.strip("|").split("|")] for i, line in enumerate(lines) if i not in heads]


def figures(cells):
    """Each cell as a number."""
    return [float(cell.replace(",", "").rstrip("%")) for cell in cells]


def test_step(monkeypatch, capsys):
    """Native engine and C by hand serve what the eager engine serves, and each is timed."""
    monkeypatch.setattr(step, "CASES", step.CASES[:2])
    monkeypatch.setattr(step, "SECONDS", 0.01)
    step.table(1)
    out = capsys.readouterr().out
    found = rows(out)
    assert [cells[0] for cells in found] == 2 * [str(case) for case in step.CASES]  # times, and shares of the roofline
    assert all(min(figures(cell for cell in cells[1:] if cell != "-")) >= 0 for cells in found)
    assert all(min(figures(cells[1:4])) > 0 for cells in found)
    assert all((cells[5] == "-") == ("deep-river is left out" in out) for cells in found[: len(step.CASES)])


def test_batch(monkeypatch, capsys):
    """Micro-batches of two sizes."""
    monkeypatch.setattr(batch, "SHAPES", batch.SHAPES[:1])
    monkeypatch.setattr(batch, "SIZES", (1, 4))
    monkeypatch.setattr(batch, "SECONDS", 0.01)
    monkeypatch.setattr(native, "LARGEST", native.LARGEST)  # the benchmark moves it
    batch.table()
    found = rows(capsys.readouterr().out)
    assert [cells[1] for cells in found] == ["1", "4"]
    assert all(min(figures(cells[2:])) > 0 for cells in found)


def test_members(monkeypatch, capsys):
    """The networks of a pool, and as many loops."""
    monkeypatch.setattr(members, "INPUTS", (8,))
    monkeypatch.setattr(members, "MEMBERS", (2,))
    members.table(1)
    (cells,) = rows(capsys.readouterr().out)
    assert min(figures(cells)) > 0


@pytest.mark.parametrize("section", cost.SECTIONS)
def test_cost(monkeypatch, capsys, section):
    """Each size that a cost is measured against has a line."""
    torch.set_num_threads(1)
    monkeypatch.setattr(cost, "TRIES", 1)
    cost.SECTIONS[section](10_000)
    found = rows(capsys.readouterr().out)
    assert len(found) >= (1 if section == "events" else 4)
    assert all(min(figures(cell for cell in cells if cell != "-" and "x" not in cell)) > 0 for cells in found)


def test_start(monkeypatch, capsys):
    """A start that predicts, cold and warm."""
    monkeypatch.setattr(start, "WHAT", dict(list(start.WHAT.items())[:2]))
    start.table(1)
    found = rows(capsys.readouterr().out)
    assert [cells[0] for cells in found] == [*start.WHAT]
    assert all(min(figures(cells[1:])) > 0 for cells in found)


def test_replay(monkeypatch, capsys):
    """Every side replays a little of elec2: ours and river's, and what other libraries are at hand."""
    recorded.data_folder()
    monkeypatch.setattr(replay, "STREAMS", {"elec2": "class"})
    replay.table(3000, 100)
    told = capsys.readouterr()
    found = {cells[1]: cells for cells in rows(told.out)}
    assert {"streamnn, single", "streamnn, best", "river, logistic regression"} <= found.keys()
    assert len(found) + told.err.count("without ") == 3 + len(replay.PEERS) + len(replay.ELSEWHERE)
    assert all(min(figures(cells[2:6])) > 0 for cells in found.values())


def test_results(monkeypatch, capsys):
    """A recorded stream, as the command line replays it."""
    recorded.data_folder()
    chosen = [one for one in recorded.STREAMS if one.name == "phishing"]
    monkeypatch.setattr(results, "STREAMS", chosen)
    results.results([])
    (cells,) = rows(capsys.readouterr().out)
    assert cells[0] == "phishing"
    model, baseline = figures(cells[3:5])
    assert model > baseline


def test_kafka():
    """From topic to topic with either client, a tenth of the records, once: source and sink, loop, network."""
    if not os.environ.get("KAFKA_LIBS"):
        pytest.skip("no Kafka broker: set KAFKA_LIBS (a folder of Kafka's jars)")
    recorded.data_folder()
    sides = [f"{side} at_least_once" for side in ("in and out", "no model", "single")]
    words = [sys.executable, "-m", "tests.benchmarks.kafka", "--quick", "--sides", ",".join(sides)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    found = rows(done.stdout)
    assert [cells[:2] for cells in found] == [[c, side] for c in ("kafka-python", "confluent-kafka") for side in sides]
    assert all(min(figures([cells[2], *cells[6].split(",")])) > 0 for cells in found)
    assert all(min(figures(cells[3:5])) > 0 for cells in found if cells[1] == sides[-1])


def test_speed(capsys):
    """Both presets on one core, over the shortest of the streams."""
    recorded.data_folder()
    speed.table(1, ["ml_music_emotions"])
    ((name, *cells),) = rows(capsys.readouterr().out)
    assert name == "ml_music_emotions"
    assert figures(cells)[0] == 593
    assert min(figures(cells)) > 0
