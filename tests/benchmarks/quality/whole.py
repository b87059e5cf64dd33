"""How good the default is on whole recorded streams, several seeds: a line a stream and preset.

Nothing is set but the target, the task where numbers could be either, and declared categories. Every figure comes from
`streamnn replay` as it is.
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

from pipeline.__main__ import main
from tests.benchmarks.quality.streams import CLASSIFICATION, MULTILABEL, REGRESSION
from tests.recorded import data_folder


def replay(name: str, words: tuple[str, ...], preset: str, seed: int) -> dict:
    """Replay a stream; returns the report."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        path = data_folder() / f"{name}.csv.gz"
        more = ("--set", f"model.preset={preset}", "--seed", str(seed), "--report", str(report), "--quiet")
        if main(["replay", str(path), *words, *more]):
            sys.exit(f"{name} failed")
        return json.loads(report.read_text())


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
