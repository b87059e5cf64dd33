"""Print how good the default is on recorded streams: `python -m tests.benchmarks.quality [--seeds 3] [--presets auto,fast]`.

Needs STREAMNN_DATA. Nothing is set but the target, the task where numbers could be either, and declared categories.
Every figure comes from `streamnn replay` as it is.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from pipeline.__main__ import main
from tests.recorded import data_folder

CLASSIFICATION = (
    ("elec2", ("--target", "class"), "accuracy"),
    ("phishing", ("--target", "is_phishing"), "accuracy"),
    ("bananas", ("--target", "class", "--task", "binary"), "accuracy"),
    ("image_segments", ("--target", "category"), "accuracy"),
    ("weather_noaa", ("--target", "target"), "accuracy"),
    ("keystroke", ("--target", "class", "--task", "multiclass"), "accuracy"),
    ("luxembourg", ("--target", "target", "--task", "binary"), "accuracy"),
    ("outdoor", ("--target", "class", "--task", "multiclass"), "accuracy"),
    ("rialto", ("--target", "class", "--task", "multiclass", "--limit", "30000"), "accuracy"),
    ("covtype", ("--target", "Cover_Type", "--task", "multiclass", "--limit", "100000"), "accuracy"),
    ("steel_industry", ("--target", "Load_Type", "--categorical", "WeekStatus,Day_of_week"), "accuracy"),
)
REGRESSION = (
    ("abalone", ("--target", "Class_number_of_rings", "--task", "regression", "--categorical", "Sex"), "mae"),
    ("etth1", ("--target", "OT", "--limit", "20000"), "mae"),
    ("bikes_toulouse", ("--target", "bikes", "--task", "regression", "--limit", "20000"), "mae"),
    ("trump_approval", ("--target", "five_thirty_eight"), "mae"),
    (
        "web_traffic",
        ("--target", "sessionsA,sessionsB", "--task", "multitarget", "--limit", "20000"),
        "mae",
    ),
    (
        "steel_industry",
        ("--target", "Usage_kWh", "--categorical", "WeekStatus,Day_of_week,Load_Type", "--limit", "20000"),
        "mae",
    ),
)
MULTILABEL = (
    ("ml_yeast", ("--targets-last", "14"), "f1_micro"),
    ("ml_music_emotions", ("--targets-last", "6"), "f1_micro"),
    ("ml_enron", ("--targets-last", "53"), "f1_micro"),
)


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="runs a line (default 3)")
    parser.add_argument("--presets", default="auto", help="presets, separated by commas (default auto)")
    space = parser.parse_args()
    table(space.presets.split(","), space.seeds)
