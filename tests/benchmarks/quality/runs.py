"""The runs of the longer benchmark: those of `streamnn bench quality`, ablations, controls, and libraries apart."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.bench.quality import runs
from pipeline.bench.quality.cache import code_hash
from pipeline.bench.quality.runs import Job, learned
from pipeline.bench.quality.scoring import classification, label_sets
from pipeline.bench.quality.streams import Events, read, task_of
from tests.benchmarks.quality import peers
from tests.benchmarks.quality.ablation import ABLATIONS, CONTROLS, Ablation, recorded_rows, without
from tests.benchmarks.quality.environments import worker_versions
from tests.benchmarks.quality.rates import TRIED, tried


def key(job: Job) -> dict[str, Any]:
    """Return everything that could change the result of `run`."""
    found = runs.key(job)
    if job.learner in peers.KNOWN:
        found["versions"] = worker_versions(peers.KNOWN[job.learner][0])
    if job.learner in {*peers.KNOWN, *CONTROLS, *TRIED} or _ablation(job):
        found["code"] = code_hash(ours=job.learner not in peers.KNOWN, more=Path(__file__).parent)
    return found


def run(job: Job) -> dict[str, Any]:
    """Run a job of a learner of `OURS`, river, `peers.KNOWN`, `ABLATIONS` or `CONTROLS`."""
    ablation = _ablation(job)
    if ablation:
        with without(ablation):
            return runs.ours(replace(job, learner="best"))
    if job.learner in TRIED:
        with tried(job.learner) as learner:
            return runs.ours(replace(job, learner=learner))
    if job.learner in CONTROLS:
        with recorded_rows() as found:
            runs.ours(replace(job, learner="best"))
        if len({part.shape[1] for part in found}) > 1:
            raise ValueError(f"{job.stream.name}: columns move as classes appear; {job.learner} takes two classes")
        rows = np.concatenate(found)
        events = read(job.stream, job.rows, job.seed)
        if len(rows) != len(events.y):
            raise ValueError(f"{job.stream.name}: {len(rows)} rows were mapped for {len(events.y)} events")
        mapped = [dict(enumerate(row)) for row in rows.tolist()]
        return learned(CONTROLS[job.learner](job.seed), Events(mapped, events.y, events.classes))
    return _peer(job) if job.learner in peers.KNOWN else runs.run(job)


def _ablation(job: Job) -> Ablation | None:
    if not any(job.learner in known for known in ABLATIONS.values()):
        return None  # what a stream is costs a look at it
    return ABLATIONS[task_of(job.stream)].get(job.learner)


def _peer(job: Job) -> dict[str, Any]:
    """Run in the library's environment, which measures time and memory."""
    events = read(job.stream, job.rows, job.seed)
    if not events.classes or bool(events.labels) != (job.learner in peers.LABELERS):
        raise ValueError(f"learner {job.learner!r} is not one for {job.stream.name}")
    out = peers.run_peer(job.learner, events.x, np.array(events.y, dtype=np.float64), events.classes, job.seed)
    if events.labels:
        scores = label_sets(events.y, np.nan_to_num(out["served"]).astype(int).tolist())
    else:
        served = [None if v != v else int(v) for v in out["served"].tolist()]
        chances = [None if v != v else v for v in out["chances"].tolist()]
        scores = classification(events.y, served, chances)
    seconds, memory = float(out["seconds"]), float(out["memory_mib"])
    return {**scores, "events": len(events.y), "seconds_per_event": seconds / len(events.y), "memory_mib": memory}
