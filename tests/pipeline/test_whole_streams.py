"""Whole recorded streams with the default configuration: no simple baseline is better, and each is as good as it has to be.

Nothing is set but the target, the task where numbers could be either, and declared categories.
"""

import json
import statistics

import pytest

from pipeline.__main__ import main
from pipeline.scores import higher_is_better
from tests.benchmarks.quality.streams import CLASSIFICATION, MULTILABEL, REGRESSION
from tests.benchmarks.quality.whole import WIDE, f1_of_means
from tests.recorded import stream

FURTHER = (
    ("shuttle", ("--target", "anomaly", "--task", "binary"), "accuracy"),
    ("sms_spam", ("--target", "label"), "accuracy"),
    ("spam_full.libsvm.gz", ("--target", "label", "--task", "binary"), "accuracy"),
    ("mnist_test", ("--target", "label", "--task", "multiclass", "--limit", "2000"), "accuracy"),
    ("mtr_wq", ("--targets-last", "14", "--task", "multitarget"), "mae"),
    ("mtr_enb", ("--targets-last", "2", "--task", "multitarget"), "mae"),
    ("bikes_toulouse", ("--target", "bikes", "--task", "regression", "--limit", "100000"), "mae"),
)
WHOLE = {
    " ".join((name, words[1], *words[-1:] * ("--limit" in words))): (name, words, metric)
    for name, words, metric in (*CLASSIFICATION, *REGRESSION, *MULTILABEL, *WIDE, *FURTHER)
}
SEEDS = 3
# What seed 0 has to reach, or the mean of three seeds. Figures of label sets without a demand of ours are the best that is
# known of other learners on the same order of events: the best of eleven of GOOWE-ML's study (Buyukcakir, Bonab and Can 2018)
# as published, river's chains, powersets and forests, and a network of 128 units with a threshold picked by hand.
DEMANDS = {
    "elec2 class": {"accuracy": 0.970},
    "phishing is_phishing": {"accuracy": 0.914},
    "bananas class": {"accuracy": 0.892},
    "image_segments category": {"accuracy": 0.953},
    "weather_noaa target": {"accuracy": 0.818},
    "keystroke class": {"accuracy": 0.968},
    "luxembourg target": {"accuracy": 0.995},
    "outdoor class": {"accuracy": 0.935},
    "rialto class 30000": {"accuracy": 0.919},
    "covtype Cover_Type 100000": {"accuracy": 0.946},
    "steel_industry Load_Type": {"accuracy": 0.968},
    "abalone Class_number_of_rings": {"mae": 1.29},
    "etth1 OT 20000": {"mae": 0.570},
    "bikes_toulouse bikes 20000": {"mae": 0.526},
    "bikes_toulouse bikes 100000": {"mae": 0.6412},
    "trump_approval five_thirty_eight": {"mae": 0.145},
    "web_traffic sessionsA,sessionsB 20000": {"mae": 2.04e8},
    "steel_industry Usage_kWh 20000": {"mae": 1.28},
    "ml_yeast 14": {
        "f1_of_means": 0.68,
        "f1_micro": 0.665,
        "f1_example": 0.553,
        "f1_macro": 0.438,
        "exact_match": 0.184,
        "hamming": 0.224,
    },
    "ml_music_emotions 6": {
        "f1_of_means": 0.69,
        "f1_micro": 0.68,
        "f1_example": 0.600,
        "f1_macro": 0.627,
        "exact_match": 0.230,
        "hamming": 0.237,
    },
    "ml_enron 53": {"f1_of_means": 0.61, "f1_micro": 0.59},
    "ml_20ng 20": {"f1_of_means": 0.726, "f1_micro": 0.753, "f1_macro": 0.754, "exact_match": 0.635},
}


def replay(name, words, seed, folder):
    """Replay a stream; returns the report."""
    report = folder / f"report{seed}.json"
    path = str(stream(name))
    assert main(["replay", path, *words, "--seed", str(seed), "--report", str(report), "--quiet"]) == 0
    return json.loads(report.read_text())


def worse(got, asked):
    """The metrics that are worse than asked, with both figures."""
    sign = {name: 1 if higher_is_better(name) else -1 for name in asked}
    return {name: (got[name], asked[name]) for name in asked if sign[name] * (got[name] - asked[name]) < 0}


@pytest.mark.heavy
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("title", WHOLE)
def test_whole_recorded_stream(title, tmp_path):
    """Nothing is dropped, no baseline is better, and what is asked of the stream is reached, by seed 0 or by three on average."""
    name, words, metric = WHOLE[title]
    asked, runs = DEMANDS.get(title, {}), []
    for seed in range(SEEDS):
        figures = replay(name, words, seed, tmp_path)
        assert sum(figures["dropped"].values()) == 0
        for baseline, found in figures["baselines"].items():
            assert not worse(figures["metrics"], {metric: found[metric]}), baseline
        fields = [n for n in figures["model"]["features"] if "=" in n] if metric == "mae" else []
        assert ("last_of_category" in figures["baselines"]) == bool(fields)
        got = {
            **figures["metrics"],
            **({"f1_of_means": f1_of_means(figures["metrics"])} if "f1_micro" in asked else {}),
        }
        runs.append({one: got[one] for one in asked})
        simple = {baseline: found[metric] for baseline, found in figures["baselines"].items()}
        print(f"{title}, seed {seed}: {runs[-1] or {metric: got[metric]}}, baselines {simple}")
        if not worse(runs[0], asked):
            return
    assert not worse({one: statistics.mean(run[one] for run in runs) for one in asked}, asked)


def test_demands_are_made_of_streams_that_there_are():
    """A demand whose stream is misspelled would never be checked."""
    assert DEMANDS.keys() <= WHOLE.keys()
    assert len(WHOLE) == len((*CLASSIFICATION, *REGRESSION, *MULTILABEL, *WIDE, *FURTHER))
