"""One small network in micro-batches of four, as in a published study of learning rates, beside the study's figures.

`python -m tests.benchmarks.quality olronn [--streams elec2] [--seeds 5]`. Source: L. Cazzonelli, C. Kulbach, S. Thoma, Optimizing
the Learning Rate for Online Training of Neural Networks, CoLLAs 2024. Its protocol: one hidden layer as wide as there are
inputs, ReLU, no normalisation, predict four events, then one step; of ten rates the one with the best mean accuracy on the
stream itself. Two things differ: the study scales inputs to 0-1 (ours are standardised, as always) and takes the mean over
classes of the logistic loss (ours is the cross-entropy).
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.__main__ import main
from pipeline.bench.quality.cache import Cache, code_hash, versions
from pipeline.bench.quality.runs import Result, run_all
from pipeline.bench.quality.streams import Stream

# inputs after one-hot coding, and what replays the stream as the study has it
STREAMS: dict[str, tuple[int, tuple[str, ...]]] = {
    "elec2": (14, ("--target", "class", "--categorical", "day")),
    "covtype": (54, ("--target", "Cover_Type", "--task", "multiclass", "--limit", "100000")),
}
RATES: dict[str, tuple[float, ...]] = {
    "sgd": tuple(2.0**-i for i in range(-1, 9)),
    "adagrad": tuple(2.0**-i for i in range(-1, 9)),
    "adam": tuple(2.0**-i for i in range(3, 13)),
    "cocob": (1.0,),
}
PUBLISHED: dict[str, dict[str, float]] = {
    "elec2": {"sgd": 0.7377, "adagrad": 0.7699, "adam": 0.6979, "cocob": 0.8448},
    "covtype": {"sgd": 0.8342, "adagrad": 0.8168, "adam": 0.7901, "cocob": 0.8227},
}
PRESETS = ("single", "fast", "best")  # as they are, in the same micro-batches


def variants(name: str) -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    """Return method -> (what is tried, settings) of a stream."""
    inputs, _ = STREAMS[name]
    network = (f"network.units=[{inputs}]", "network.normalizer=none", "network.skip=false", "rate.control=fixed")
    found = {
        method: [
            (f"{rate:g}", ("model.preset=single", *network, f"optimizer.name={method}", f"optimizer.rate={rate!r}"))
            for rate in rates
        ]
        for method, rates in RATES.items()
    }
    return {**found, **{preset: [("", (f"model.preset={preset}",))] for preset in PRESETS}}


@dataclass(frozen=True, slots=True)
class Trial:
    """What is replayed: a stream with settings and a seed."""

    stream: Stream
    settings: tuple[str, ...]
    seed: int


def run(trial: Trial) -> Result:
    """Replay in micro-batches of four; returns the accuracy."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = ["replay", *trial.stream.words, "--mode", "batch:4", "--seed", str(trial.seed), "--quiet"]
        words += [word for setting in trial.settings for word in ("--set", setting)]
        if main([*words, "--report", str(report)]):
            raise RuntimeError("`streamnn replay` failed")
        return {"accuracy": json.loads(report.read_text())["metrics"]["accuracy"]}


def key(trial: Trial) -> Result:
    """Return everything that could change the result of `run`."""
    return {
        "protocol": "olronn",
        "stream": trial.stream.name,
        "data": trial.stream.fingerprint(),
        "settings": list(trial.settings),
        "seed": trial.seed,
        "versions": versions(),
        "code": code_hash(ours=True, more=Path(__file__).parent),
    }


def olronn(folder: Path, names: Sequence[str], seeds: int, cache: Cache) -> None:
    """Run every method over every stream and print a table."""
    print("| stream | learner | rate | accuracy | sd | published |")
    print("|---" * 6 + "|")
    for name in names:
        stream = Stream(name, (str(folder / f"{name}.csv.gz"), *STREAMS[name][1]))
        for method, tried in variants(name).items():
            runs = []
            for rate, settings in tried:
                trials = [Trial(stream, settings, seed) for seed in range(seeds)]
                results = run_all(trials, cache, processes=0, told=_tell, runs=run, keys=key)
                values = [result["accuracy"] for result in results.values()]
                runs.append((statistics.mean(values), statistics.pstdev(values), rate))
                print(f"{name} {method} {rate}: {runs[-1][0]:.4f}", file=sys.stderr)
            best, sd, rate = max(runs)
            published = PUBLISHED[name].get(method)
            print(
                f"| {name} | {method} | {rate or '-'} | {best:.4f} | {sd:.4f} | {f'{published:.4f}' if published else '-'} |",
                flush=True,
            )


def _tell(trial: Trial, how: str) -> None:
    if how.startswith("FAILED"):
        sys.exit(f"{trial.stream.name} with {' '.join(trial.settings)}: {how}")
