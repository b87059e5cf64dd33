"""What late labels, few labels and micro-batches cost: `python -m tests.benchmarks.quality curves`.

Each condition changes one thing: labels come so many events late; a share of the events has a label at all, drawn at random, the
same for every learner; so many events are predicted before any of them is learned. Every event is scored, labelled or not.
"""

import csv
import gzip
import hashlib
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pipeline.__main__ import main
from pipeline.bench.quality.cache import Cache
from pipeline.bench.quality.learners import CLASSIFIERS, OURS
from pipeline.bench.quality.plots import save
from pipeline.bench.quality.runs import Job, Result, run_all
from pipeline.bench.quality.streams import Stream, read
from tests.benchmarks.quality import runs


@dataclass(frozen=True, slots=True)
class Condition:
    """How labels come.

    Attributes:
        delay: events that come before an event's label does.
        share: of the events that have a label, 0-1.
        batch: events that are predicted before any of them is learned.
    """

    delay: int = 0
    share: float = 1.0
    batch: int = 1


KINDS: dict[str, tuple[Condition, ...]] = {
    "delay": tuple(Condition(delay=n) for n in (0, 100, 1000)),
    "share": tuple(Condition(share=p) for p in (1.0, 0.1, 0.01)),
    "batch": tuple(Condition(batch=n) for n in (1, 8, 32, 256)),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """A learner over a stream whose labels come under a condition."""

    job: Job
    condition: Condition


def run(trial: Trial) -> Result:
    """Return the accuracy over all events."""
    return {"accuracy": _accuracy(trial.job, trial.condition)}


def key(trial: Trial) -> Result:
    """Return everything that could change the result of `run`."""
    mine = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    return {**runs.key(trial.job), "condition": asdict(trial.condition), "curves": mine}


def _accuracy(job: Job, condition: Condition) -> float:
    events = read(job.stream, job.rows, job.seed)
    labelled = np.random.default_rng(job.seed).random(len(events.y)) < condition.share
    if job.learner in OURS:
        return _ours(job, condition, labelled)
    model = CLASSIFIERS[job.learner](events.classes, job.seed)
    right, known = 0, []
    for i, (x, y) in enumerate(zip(events.x, events.y, strict=True)):
        chances = model.predict_proba_one(x)
        right += bool(chances) and max(chances, key=chances.__getitem__) == y
        known.append(i)
        if len(known) < condition.batch + condition.delay:
            continue
        for j in known[: len(known) - condition.delay]:
            if labelled[j]:
                model.learn_one(events.x[j], events.y[j])
        del known[: len(known) - condition.delay]
    return right / len(events.y)


def _ours(job: Job, condition: Condition, labelled: np.ndarray) -> float:
    """Replay a copy of the stream in which the hidden labels are empty, and score it with the true ones."""
    target = job.stream.words[job.stream.words.index("--target") + 1]
    with tempfile.TemporaryDirectory() as folder:
        copy, written = Path(folder) / "copy.csv", Path(folder) / "predictions.jsonl"
        name = job.stream.words[0]
        with gzip.open(name, "rt") if name.endswith(".gz") else Path(name).open() as file, copy.open("w") as out:
            rows = csv.DictReader(file)
            writer = csv.DictWriter(out, rows.fieldnames or ())
            writer.writeheader()
            truth = []
            for row, shown in zip(rows, labelled, strict=False):
                truth.append(row[target])
                writer.writerow(row if shown else {**row, target: ""})
        words = ["replay", str(copy), *job.stream.words[1:], "--seed", str(job.seed), "--quiet"]
        words += [word for setting in OURS[job.learner] for word in ("--set", setting)]
        words += ["--mode", f"batch:{condition.batch}"] if condition.batch > 1 else []
        words += ["--label-delay", str(condition.delay)] if condition.delay else []
        if main([*words, "--predictions", str(written)]):
            sys.exit(f"{job.stream.name} failed with {job.learner} under {condition}")
        lines = [json.loads(line) for line in written.read_text().splitlines()]
    served = {line["position"]: line["prediction"] for line in lines}
    return sum(_same(served.get(i), true) for i, true in enumerate(truth)) / len(truth)


def _same(served: Any, true: str) -> bool:
    if isinstance(served, bool):
        return str(served).lower() == true.lower() or str(int(served)) == true
    return served is not None and str(served) == true


def _tell(trial: Trial, how: str) -> None:
    line = f"{trial.job.stream.name} {trial.job.learner} seed {trial.job.seed} {trial.condition}: {how}"
    if how.startswith("FAILED"):
        sys.exit(line)
    print(line, file=sys.stderr)


def curves(
    streams: Sequence[Stream], learners: Sequence[str], rows: int, seeds: int, cache: Cache, output: Path | None
) -> None:
    """Run every learner under every condition with the seeds 0, 1, ...; print tables, and draw means where a folder is given.

    The first table holds means over seeds, a second one their standard deviations where there are several.
    """
    conditions = [*dict.fromkeys(c for kind in KINDS.values() for c in kind)]
    rows_of = [(stream, name) for stream in streams for name in learners]
    trials = [Trial(Job(name, s, rows, seed), c) for s, name in rows_of for c in conditions for seed in range(seeds)]
    results = run_all(trials, cache, processes=0, told=_tell, runs=run, keys=key)
    found: dict[tuple[Stream, str, Condition], list[float]] = {}
    for trial, result in results.items():
        found.setdefault((trial.job.stream, trial.job.learner, trial.condition), []).append(result["accuracy"])
    heads = [f"{kind} {getattr(c, kind)}" for kind, listed in KINDS.items() for c in listed[1:]]
    for title, summary in (("accuracy", statistics.mean), ("standard deviation", statistics.pstdev))[: min(seeds, 2)]:
        print(f"| {title} | learner | each at once | {' | '.join(heads)} |")
        print("|---" * (len(heads) + 3) + "|")
        for stream, learner in rows_of:
            cells = " | ".join(f"{summary(found[stream, learner, c]):.4f}" for c in conditions)
            print(f"| {stream.name} | {learner} | {cells} |")
        print()
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    for stream in streams:
        figure = Figure(figsize=(10, 3.5), layout="constrained")
        for axes, (kind, listed) in zip(figure.subplots(1, len(KINDS), sharey=True), KINDS.items(), strict=True):
            for learner in learners:
                values = [statistics.mean(found[stream, learner, c]) for c in listed]
                axes.plot([str(getattr(c, kind)) for c in listed], values, "o-", label=learner)
            axes.set_xlabel(kind)
        figure.axes[0].set_ylabel("accuracy")
        figure.axes[0].legend(fontsize=8)
        save(figure, output / f"{stream.name}_curves.png")
