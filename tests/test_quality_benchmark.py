"""The comparison of learners: cached, resumable, with ranks and tables that are right."""

import gzip
import json
import math

import numpy as np
import pytest

from pipeline.bench.quality.cache import Cache
from pipeline.bench.quality.ranks import alike, critical_difference, mean_ranks
from pipeline.bench.quality.scoring import classification, label_sets, regression
from tests.benchmarks.quality import whole
from tests.benchmarks.quality.__main__ import main
from tests.test_docs import ROOT


def stream(folder, name, rows=80):
    """Write a stream whose label follows its input; returns the words that replay it."""
    lines = "".join(f"{i % 7},{(i * i) % 5},{'up' if i % 7 > 3 else 'down'}\n" for i in range(rows))
    (folder / f"{name}.csv").write_text("a,b,way\n" + lines)
    return f"{folder / f'{name}.csv'} --target way"


def words(folder, *more):
    """Two learners over two short streams, in this process."""
    added = [word for name in ("one", "two") for word in ("--add", stream(folder, name))]
    chosen = ("--learners", "majority,logistic", "--streams", "none", "--rows", "60", "--jobs", "0")
    return ["compare", *added, *chosen, "--cache", str(folder / "cache"), *more]


def test_a_second_run_comes_from_the_cache(tmp_path, capsys):
    """Each pair runs once; asked again, all comes from the cache and the tables are the same."""
    main(words(tmp_path, "--output", str(tmp_path / "out")))
    first = capsys.readouterr()
    assert first.err.count(": done") == 4
    main(words(tmp_path))
    second = capsys.readouterr()
    assert second.err.count("from the cache") == 4
    assert second.out == first.out
    assert "| one | 60 |" in first.out
    for picture in ("ranks", "one", "two"):
        assert (tmp_path / "out" / f"{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_another_seed_or_file_is_another_run(tmp_path, capsys):
    """What could change a result is part of its key."""
    main(words(tmp_path))
    capsys.readouterr()
    main(words(tmp_path, "--seeds", "2"))
    assert capsys.readouterr().err.count(": done") == 4
    path = tmp_path / "cache" / "results.jsonl"
    key = json.loads(path.read_text().splitlines()[0])["key"]
    assert set(key) == {"learner", "stream", "data", "rows", "seed", "versions", "code"}
    path.write_text(path.read_text().replace(key["data"], "0" * 16))
    main(words(tmp_path))
    assert capsys.readouterr().err.count(": done") == 2


def test_a_result_that_was_cut_off_is_made_again(tmp_path):
    """A process killed while it writes loses that result and no other."""
    cache = Cache(tmp_path)
    cache.put({"learner": "a"}, {"accuracy": 0.5})
    cache.put({"learner": "b"}, {"accuracy": 0.6})
    path = tmp_path / "results.jsonl"
    path.write_text(path.read_text()[:-7])
    again = Cache(tmp_path)
    assert again.get({"learner": "a"}) == {"accuracy": 0.5}
    assert again.get({"learner": "b"}) is None
    again.put({"learner": "b"}, {"accuracy": 0.6})
    assert Cache(tmp_path).get({"learner": "b"}) == {"accuracy": 0.6}


def test_ours_is_scored_on_what_it_wrote(tmp_path, capsys):
    """A preset goes through the command line, and its row stands beside the others."""
    main(["compare", "--add", stream(tmp_path, "one"), *words(tmp_path)[5:], "--learners", "lite,majority"])
    assert "| accuracy | events | lite | majority |" in capsys.readouterr().out


def test_rates_are_those_of_one_network(tmp_path, capsys):
    """Each variant reaches the network: another optimizer predicts other probabilities; a name of `compare` is refused."""
    chosen = ["--learners", "adam_fixed,obgd"]
    main(["rates", "--add", stream(tmp_path, "one"), *words(tmp_path)[5:], *chosen, "--output", str(tmp_path / "out")])
    assert "| log-loss | events | adam_fixed | obgd |" in capsys.readouterr().out
    lines = (tmp_path / "cache" / "results.jsonl").read_text().splitlines()
    assert len({json.loads(line)["result"]["log_loss"] for line in lines}) == 2
    with pytest.raises(SystemExit, match="adam_drift"):
        main(["rates", *words(tmp_path)[1:]])


def test_unknown_learners_are_refused(tmp_path):
    """The message names what is known."""
    with pytest.raises(SystemExit, match="majority"):
        main(words(tmp_path, "--learners", "majorty"))


def test_mean_ranks_of_a_table_by_hand():
    """1 is best, ties share, and errors rank the other way round."""
    values = {"a": [0.9, 0.8, 0.7], "b": [0.8, 0.8, 0.9], "c": [0.1, 0.2, 0.3]}
    assert mean_ranks(values, high_is_good=True) == pytest.approx({"a": 1.5, "b": 1.5, "c": 3.0})
    assert mean_ranks(values, high_is_good=False) == pytest.approx({"a": 2.5, "b": 2.5, "c": 1.0})


def test_critical_difference_of_published_tables():
    """q.05 is 1.960 for 2 and 2.569 for 4 learners; 4 learners over 14 streams differ from 1.25 on (Demsar 2006)."""
    assert critical_difference(2, 10) == pytest.approx(1.960 * math.sqrt(6 / 60), rel=1e-3)
    assert critical_difference(4, 14) == pytest.approx(2.569 * math.sqrt(20 / 84), rel=1e-3)
    assert alike({"a": 1.0, "b": 1.5, "c": 2.2, "d": 4.0}, 1.0) == [("a", "b"), ("b", "c")]


def test_metrics_by_hand():
    """Accuracy, both kappas and log-loss of five events, the first of them not served."""
    truth, served = [0, 0, 1, 1, 0], [None, 0, 0, 1, 0]
    scores = classification(truth, served, [None, 0.9, 0.2, 0.8, 0.7])
    chance = (3 * 3 + 2 * 1) / 25
    assert scores["accuracy"] == pytest.approx(0.6)
    assert scores["kappa"] == pytest.approx((0.6 - chance) / (1 - chance))
    assert scores["kappa_temporal"] == pytest.approx((0.6 - 0.4) / (1 - 0.4))
    assert scores["log_loss"] == pytest.approx(-math.log(0.9 * 0.2 * 0.8 * 0.7) / 4)
    assert scores["windows"] == [0, 1, 0, 1, 1]


def test_metrics_of_values_by_hand():
    """The first value is scored for nobody, whatever was served for it; a later one that was not served has an error from 0."""
    for first in (None, 0.0, 100.0):
        scores = regression([50.0, 2.0, 3.0, 1.0], [first, 4.0, None, 1.0])
        assert (scores["mae"], scores["rmse"]) == pytest.approx((5 / 3, math.sqrt(13 / 3)))
        assert scores["windows"] == pytest.approx([2.0, 1.5])
    with pytest.raises(ValueError, match="1 value"):
        regression([1.0], [None])


def test_metrics_of_label_sets_by_hand():
    """F1 pooled, of events and of labels, exact match and Hamming loss of three events with three labels."""
    scores = label_sets([[1, 0, 0], [1, 1, 0], [0, 0, 0]], [[1, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert scores["f1_micro"] == pytest.approx(2 * 2 / 6)
    assert scores["f1_example"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores["f1_macro"] == pytest.approx((1 + 0) / 2)
    assert (scores["exact_match"], scores["hamming_loss"]) == pytest.approx((1 / 3, 2 / 9))


def test_labels_that_are_missing_do_not_count():
    """Scores are those of the labels that are known: what is served for others changes nothing."""
    truth = [[1, None, 0], [1, 1, 0], [None, 1, 0]]
    first, second = (label_sets(truth, [[1, way, 0], [1, 0, 0], [way, 1, 1]]) for way in (0, 1))
    assert first == second
    assert first["f1_micro"] == pytest.approx(2 * 3 / (4 + 4))
    assert first["f1_example"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert first["f1_macro"] == pytest.approx((1 + 2 / 3 + 0) / 3)
    assert (first["exact_match"], first["hamming_loss"]) == pytest.approx((1 / 3, 2 / 7))


def test_learners_of_label_sets(tmp_path, capsys):
    """Labels that are the signs of inputs are learned, by ours and by the others, each scored on the same sets."""
    draw = np.random.default_rng(3)
    x = draw.normal(size=(300, 3))
    lines = "".join(f"{a:.3f},{b:.3f},{c:.3f},{int(a > 0)},{int(b > 0)}\n" for a, b, c in x)
    (tmp_path / "sets.csv").write_text("a,b,c,p,q\n" + lines)
    chosen = ("--learners", "lite,relevance_logistic,chain_logistic,powerset_tree", "--task", "multilabel")
    added = ("--add", f"{tmp_path / 'sets.csv'} --targets-last 2", "--streams", "none", "--jobs", "0")
    main(["compare", *added, *chosen, "--cache", str(tmp_path / "cache")])
    results = [json.loads(line) for line in (tmp_path / "cache" / "results.jsonl").read_text().splitlines()]
    figures = {r["key"]["learner"]: r["result"] for r in results}
    assert {name: r["f1_micro"] > 0.75 for name, r in figures.items()} == dict.fromkeys(chosen[1].split(","), True)
    assert (
        "| f1-micro | events | lite | relevance_logistic | chain_logistic | powerset_tree |" in capsys.readouterr().out
    )


def test_table_of_label_sets(tmp_path, monkeypatch, capsys):
    """Every metric of label sets, means of seeds, under the heads of the table in docs/results.md."""
    draw = np.random.default_rng(4)
    x = draw.normal(size=(200, 3))
    lines = "".join(f"{a:.3f},{b:.3f},{c:.3f},{int(a > 0)},{int(b > c)}\n" for a, b, c in x)
    with gzip.open(tmp_path / "ml_some.csv.gz", "wt") as file:
        file.write("a,b,c,p,q\n" + lines)
    monkeypatch.setenv("STREAMNN_DATA", str(tmp_path))
    monkeypatch.setattr(whole, "MULTILABEL", (("ml_some", ("--targets-last", "2"), "f1_micro"),))
    main(["labels", "--seeds", "2", "--streams", "ml_some"])
    head, _, row = capsys.readouterr().out.splitlines()
    assert head in (ROOT / "docs" / "results.md").read_text().splitlines()
    runs = [whole.replay("ml_some", ("--targets-last", "2"), "auto", seed)["metrics"] for seed in (0, 1)]
    found = dict(zip(head.strip("| ").split(" | "), row.strip("| ").split(" | "), strict=True))
    for title, metric in {"f1_micro": "f1_micro", "Hamming loss": "hamming", "log-loss": "log_loss"}.items():
        assert float(found[title]) == pytest.approx(sum(run[metric] for run in runs) / 2, abs=6e-4)
    assert 0.5 < float(found["F1 of means"]) < 1
    with pytest.raises(SystemExit, match=r"elec2.*are not known.*ml_some"):
        main(["labels", "--streams", "elec2"])


def test_f1_of_means_by_hand():
    """The harmonic mean of the two means, and 0 where both are."""
    assert whole.f1_of_means({"precision_example": 0.5, "recall_example": 1.0}) == pytest.approx(2 / 3)
    assert whole.f1_of_means({"precision_example": 0.0, "recall_example": 0.0}) == 0
