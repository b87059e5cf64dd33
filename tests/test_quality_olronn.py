"""The protocol of a published study: of each method's rates the best is told, beside what was published."""

import gzip
import re

import pytest

from pipeline.bench.quality.cache import Cache
from tests.benchmarks.quality import olronn
from tests.benchmarks.quality.__main__ import main


@pytest.fixture
def short(tmp_path, monkeypatch):
    """A stream of 400 events, and fewer rates and presets."""
    lines = "".join(f"{i % 7},{(i * i) % 5},{'up' if i % 7 > 3 else 'down'}\n" for i in range(400))
    (tmp_path / "one.csv.gz").write_bytes(gzip.compress(("a,b,way\n" + lines).encode()))
    monkeypatch.setattr(olronn, "STREAMS", {"one": (2, ("--target", "way"))})
    monkeypatch.setattr(olronn, "RATES", {"sgd": (0.5, 1e-7), "cocob": (1.0,)})
    monkeypatch.setattr(olronn, "PUBLISHED", {"one": {"sgd": 0.25}})
    monkeypatch.setattr(olronn, "PRESETS", ("lite",))
    return tmp_path


def test_the_best_rate_is_told(short, capsys):
    """A line a method: its best rate, mean and deviation over seeds; the second time nothing runs."""
    olronn.olronn(short, ["one"], 2, Cache(short / "cache"))
    first = capsys.readouterr()
    rows = re.findall(r"^\| one \| (\w+) \| (\S+) \| (0\.\d{4}) \| (0\.\d{4}) \| (\S+) \|$", first.out, re.MULTILINE)
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("sgd", "0.5", "0.2500"), ("cocob", "1", "-"), ("lite", "-", "-"),
    ]  # fmt: skip
    tried = dict(re.findall(r"^one sgd (\S+): (\S+)$", first.err, re.MULTILINE))
    assert float(tried["0.5"]) > float(tried["1e-07"])
    assert rows[0][2] == tried["0.5"]
    lines = (short / "cache" / "results.jsonl").read_text()
    assert lines.count("\n") == 8
    olronn.olronn(short, ["one"], 2, Cache(short / "cache"))
    assert capsys.readouterr().out == first.out
    assert (short / "cache" / "results.jsonl").read_text() == lines


def test_every_setting_of_the_protocol_reaches_the_network(short):
    """Rows are of micro-batches of four, of one hidden layer as wide as the inputs without normalisation."""
    settings = dict(olronn.variants("one")["sgd"])["0.5"]
    assert {"network.units=[2]", "network.normalizer=none", "network.skip=false", "optimizer.rate=0.5"} < set(settings)


def test_unknown_streams_are_refused():
    """The message names what is known."""
    with pytest.raises(SystemExit, match="elec2"):
        main(["olronn", "--streams", "elec3"])
