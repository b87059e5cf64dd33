"""One learner over one stream: predict, then learn, each event in turn; and many such runs, cached and side by side."""

import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.__main__ import main
from tests.benchmarks.quality import peers
from tests.benchmarks.quality.ablation import ABLATIONS, CONTROLS, recorded_rows, without
from tests.benchmarks.quality.cache import Cache, code_hash, versions
from tests.benchmarks.quality.environments import worker_versions
from tests.benchmarks.quality.learners import CLASSIFIERS, LABELERS, OURS, REGRESSORS
from tests.benchmarks.quality.scoring import classification, label_sets, regression
from tests.benchmarks.quality.streams import Events, Stream, read

MIB = 1024  # ru_maxrss is in KiB on Linux


@dataclass(frozen=True, slots=True)
class Job:
    """One learner over the first rows of one stream.

    Attributes:
        learner: a name of `OURS`, `CLASSIFIERS`, `LABELERS`, `REGRESSORS`, `peers.KNOWN`,
            `ABLATIONS` or `CONTROLS`.
        seed: of the learner, and of the stream where it is generated.
    """

    learner: str
    stream: Stream
    rows: int
    seed: int

    def key(self) -> dict[str, Any]:
        """Return everything that could change the result."""
        return {
            "learner": self.learner,
            "stream": self.stream.name,
            "data": self.stream.fingerprint(),
            "rows": self.rows,
            "seed": self.seed,
            "versions": worker_versions(peers.KNOWN[self.learner][0]) if self.learner in peers.KNOWN else versions(),
            "code": code_hash(ours=self.learner in {*OURS, *ABLATIONS, *CONTROLS}),
        }


def run(job: Job) -> dict[str, Any]:
    """Run a job; returns metrics, events, seconds_per_event and memory_mib (growth of the process's largest size)."""
    if job.learner in OURS:
        return _ours(job)
    if job.learner in ABLATIONS:
        with without(ABLATIONS[job.learner]):
            return _ours(replace(job, learner="best"))
    if job.learner in CONTROLS:
        with recorded_rows() as found:
            _ours(replace(job, learner="best"))
        if len({part.shape[1] for part in found}) > 1:
            raise ValueError(f"{job.stream.name}: columns move as classes appear; {job.learner} takes two classes")
        rows = np.concatenate(found)
        events = read(job.stream, job.rows, job.seed)
        if len(rows) != len(events.y):
            raise ValueError(f"{job.stream.name}: {len(rows)} rows were mapped for {len(events.y)} events")
        mapped = [dict(enumerate(row)) for row in rows.tolist()]
        return _learned(CONTROLS[job.learner](job.seed), Events(mapped, events.y, events.classes))  # type: ignore[arg-type]
    return _peer(job) if job.learner in peers.KNOWN else _other(job)


def run_all(
    jobs: Sequence[Job], cache: Cache, *, processes: int, told: Callable[[Job, bool], None]
) -> dict[Job, dict[str, Any]]:
    """Run what is not in the cache yet, each job in a process of its own; a stop loses only the jobs in hand.

    Args:
        jobs: in any order.
        cache: where results are looked up and kept.
        processes: jobs at a time; 0 = in this process, one after the other (memory is then no measure).
        told: called after each job, with whether it came from the cache.
    """
    results: dict[Job, dict[str, Any]] = {}
    waiting: list[Job] = []
    for job in jobs:
        found = cache.get(job.key())
        if found is None:
            waiting.append(job)
        else:
            results[job] = found
            told(job, True)

    def keep(job: Job, result: dict[str, Any]) -> None:
        cache.put(job.key(), result)
        results[job] = result
        told(job, False)

    if not processes:
        for job in waiting:
            keep(job, run(job))
    elif waiting:
        with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
            for job, result in pool.imap_unordered(_with_job, waiting, chunksize=1):
                keep(job, result)
    return results


def _with_job(job: Job) -> tuple[Job, dict[str, Any]]:
    return job, run(job)


def _largest_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _other(job: Job) -> dict[str, Any]:
    events = read(job.stream, job.rows, job.seed)
    known = LABELERS if events.labels else CLASSIFIERS if events.classes else REGRESSORS
    if job.learner not in known:
        raise ValueError(f"learner {job.learner!r} is not one for {job.stream.name}; use one of {[*OURS, *known]}")
    return _learned(known[job.learner](events.classes, job.seed), events)


def _learned(model: Any, events: Events) -> dict[str, Any]:
    """Predict and learn each event with a learner of river's kind."""
    before, began = _largest_kib(), time.perf_counter()
    served: list[Any] = []
    chances: list[float | None] = []
    for x, y in zip(events.x, events.y, strict=True):
        if events.labels:
            given = model.predict_one(x)
            served.append([int(bool(given.get(t, 0))) for t in range(events.labels)])
            model.learn_one(x, dict(enumerate(map(bool, y))))  # type: ignore[arg-type]
            continue
        if events.classes:
            label, chance = _served(model, x, y)
            served.append(label)
            chances.append(chance)
        else:
            served.append(model.predict_one(x))
        model.learn_one(x, y)
    seconds = time.perf_counter() - began
    if events.labels:
        scores = label_sets(events.y, served)  # type: ignore[arg-type]
    elif events.classes:
        scores = classification(events.y, served, chances)
    else:
        scores = regression(events.y, served)  # type: ignore[arg-type]
    return _result(scores, len(events.y), seconds, before)


def _served(model: Any, x: dict[str, Any], y: int) -> tuple[Any, float | None]:
    """Return the label and the probability of the true one, from one prediction where the learner has probabilities."""
    try:
        chances = model.predict_proba_one(x)
    except NotImplementedError:
        return model.predict_one(x), None
    if not chances:
        return None, None
    return max(chances, key=chances.__getitem__), chances.get(y, 0.0)


def _peer(job: Job) -> dict[str, Any]:
    """Run in the library's environment, which measures time and memory."""
    events = read(job.stream, job.rows, job.seed)
    if not events.classes or bool(events.labels) != (job.learner in peers.LABELERS):
        raise ValueError(f"learner {job.learner!r} is not one for {job.stream.name}")
    out = peers.run_peer(job.learner, events.x, np.array(events.y, dtype=np.float64), events.classes, job.seed)
    if events.labels:
        scores = label_sets(events.y, np.nan_to_num(out["served"]).astype(int).tolist())  # type: ignore[arg-type]
    else:
        served = [None if v != v else int(v) for v in out["served"].tolist()]
        chances = [None if v != v else v for v in out["chances"].tolist()]
        scores = classification(events.y, served, chances)
    seconds, memory = float(out["seconds"]), float(out["memory_mib"])
    return {**scores, "events": len(events.y), "seconds_per_event": seconds / len(events.y), "memory_mib": memory}


def _ours(job: Job) -> dict[str, Any]:
    """Replay through the command line, as a user would, and score the predictions that it wrote."""
    with tempfile.TemporaryDirectory() as folder:
        report, written = Path(folder) / "report.json", Path(folder) / "predictions.jsonl"
        flags = ["--limit", str(job.rows), "--seed", str(job.seed), "--quiet"]
        flags += [word for setting in OURS[job.learner] for word in ("--set", setting)]
        before = _largest_kib()
        if main(["replay", *job.stream.words, *flags, "--report", str(report), "--predictions", str(written)]):
            sys.exit(f"{job.stream.name} failed with {job.learner}")
        figures = json.loads(report.read_text())
        lines = [json.loads(line) for line in written.read_text().splitlines()]
    truth, served = [line["label"] for line in lines], [line["prediction"] for line in lines]
    if figures["task"] == "regression":
        scores = regression(truth, served)
    elif figures["task"] == "multilabel":
        scores = label_sets(
            [[int(v) for v in t.values()] for t in truth],
            [[int((s or {}).get(name) or 0) for name in t] for t, s in zip(truth, served, strict=True)],
        )
    else:
        chances = [
            c and c.get(str(t).lower() if t is True or t is False else str(t), 0.0)
            for c, t in ((line["probabilities"], line["label"]) for line in lines)
        ]
        scores = classification(truth, served, chances)
    return _result(scores, len(lines), figures["seconds"], before)


def _result(scores: dict[str, Any], events: int, seconds: float, before: int) -> dict[str, Any]:
    memory = (_largest_kib() - before) / MIB
    return {**scores, "events": events, "seconds_per_event": seconds / events, "memory_mib": memory}
