"""How good the default is on whole recorded streams, several seeds: a line a stream and preset, and more of label sets.

Nothing is set but the target, the task where numbers could be either, and declared categories. Every figure comes from
`streamnn replay` as it is.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.__main__ import main
from tests.benchmarks.quality.streams import CLASSIFICATION, MULTILABEL, REGRESSION
from tests.recorded import data_folder

WIDE = (("ml_20ng", ("--targets-last", "20"), "f1_micro"),)  # label sets that take minutes
LABELS = {  # as the table calls the metrics of label sets, and as reports do
    **{name: name for name in ("f1_micro", "f1_example", "F1 of means", "f1_macro")},
    "exact match": "exact_match",
    "Hamming loss": "hamming",
    "log-loss": "log_loss",
}


def replay(name: str, words: tuple[str, ...], preset: str, seed: int) -> dict:
    """Replay a stream; returns the report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        path = data_folder() / f"{name}.csv.gz"
        more = ("--set", f"model.preset={preset}", "--seed", str(seed), "--report", str(report), "--quiet")
        if main(["replay", str(path), *words, *more]):
            sys.exit(f"{name} failed")
        return json.loads(report.read_text())


def f1_of_means(metrics: Mapping[str, float]) -> float:
    """Return the harmonic mean of mean precision and mean recall of the events."""
    precision, recall = metrics["precision_example"], metrics["recall_example"]
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def labels(names: list[str], seeds: int) -> None:
    """Replay streams of label sets, all if none is named, and print a line each: every metric, its mean over seeds."""
    known = {name: words for name, words, _ in (*MULTILABEL, *WIDE)}
    if unknown := [name for name in names if name not in known]:
        sys.exit(f"--streams: {unknown} are not known for labels; use some of {[*known]}")
    print(f"| stream | {' | '.join(LABELS)} |")
    print("|---" * (len(LABELS) + 1) + "|")
    for name in names or known:
        runs = [replay(name, known[name], "auto", seed)["metrics"] for seed in range(seeds)]
        found = [run | {"F1 of means": f1_of_means(run)} for run in runs]
        means = {title: statistics.mean(run[metric] for run in found) for title, metric in LABELS.items()}
        cells = [f"{value:.{3 if title == 'log-loss' else 4}f}" for title, value in means.items()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def table(presets: list[str], seeds: int) -> None:
    """Replay every stream with every preset and print a line each."""
    print("| stream | events | preset | metric | mean | sd | log-loss | best baseline | events/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, words, metric in (*CLASSIFICATION, *REGRESSION, *MULTILABEL):
        for preset in presets:
            runs = [replay(name, words, preset, seed) for seed in range(seeds)]
            values = [run["metrics"][metric] for run in runs]
            losses = [run["metrics"].get("log_loss") for run in runs]
            simple = [b[metric] for b in runs[0]["baselines"].values() if b.get(metric) is not None]
            best = min(simple) if metric == "mae" else max(simple)
            loss = f"{statistics.mean(losses):.3f}" if None not in losses else "-"
            speed = statistics.median(run["events_per_second"] for run in runs)
            sd = statistics.pstdev(values)
            label = f"{name} ({words[1]})" if name == "steel_industry" else name
            print(
                f"| {label} | {runs[0]['events']:,} | {preset} | {metric} | {statistics.mean(values):.4f} | {sd:.4f} |"
                f" {loss} | {best:.4f} | {speed:,.0f} |",
                flush=True,
            )
