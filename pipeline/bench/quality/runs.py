"""One learner over one stream: predict, then learn, each event in turn; and many such runs, cached and side by side."""

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pipeline.__main__ import main
from pipeline.bench.quality.cache import Cache, code_hash, versions
from pipeline.bench.quality.learners import CLASSIFIERS, LABELERS, OURS, REGRESSORS
from pipeline.bench.quality.scoring import classification, label_sets, regression
from pipeline.bench.quality.streams import Events, Stream, read
from pipeline.settings import SettingsError

MIB = 1024  # ru_maxrss is in KiB on Linux

Result = dict[str, Any]
AnyJob = TypeVar("AnyJob", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Job:
    """One learner over the first rows of one stream.

    Attributes:
        learner: a name of `OURS`, `CLASSIFIERS`, `LABELERS` or `REGRESSORS`, or one that a longer benchmark knows.
        stream: what is read.
        rows: events at most.
        seed: of the learner, and of the stream where it is generated.
    """

    learner: str
    stream: Stream
    rows: int
    seed: int


def key(job: Job) -> Result:
    """Return everything that could change the result of `run`."""
    return {
        "learner": job.learner,
        "stream": job.stream.name,
        "data": job.stream.fingerprint(),
        "rows": job.rows,
        "seed": job.seed,
        "versions": versions(),
        "code": code_hash(ours=job.learner in OURS),
    }


def run(job: Job) -> Result:
    """Run a job; returns metrics, events, seconds_per_event and memory_mib (growth of the process's largest size).

    Of ours also drifts, the numbers of the events after which a detector reported one.

    Raises:
        SettingsError: the stream cannot be read, or the learner is of another task.
    """
    if job.learner in OURS:
        return ours(job)
    events = read(job.stream, job.rows, job.seed)
    known = LABELERS if events.labels else CLASSIFIERS if events.classes else REGRESSORS
    if job.learner not in known:
        raise SettingsError(f"learner {job.learner!r} is not one for {job.stream.name}; use one of {[*OURS, *known]}")
    return learned(known[job.learner](events.classes, job.seed), events)


def run_all(
    jobs: Sequence[AnyJob],
    cache: Cache,
    *,
    processes: int,
    told: Callable[[AnyJob, str], None],
    runs: Callable[[AnyJob], Result],
    keys: Callable[[AnyJob], Result],
) -> dict[AnyJob, Result]:
    """Run what is not in the cache yet, each job in a process of its own; a stop loses only the jobs in hand.

    A job that fails is told, has no result, and keeps no other from running.

    Args:
        jobs: in any order, each once.
        cache: where results are looked up and kept.
        processes: jobs at a time; 0 = in this process, one after the other (memory is then no measure).
        told: called after each job with "done", "from the cache" or "FAILED" and why.
        runs: does a job; a function of a module, since other processes call it.
        keys: what could change the result of `runs`.
    """
    results: dict[AnyJob, Result] = {}
    waiting: list[AnyJob] = []
    for job in jobs:
        found = cache.get(keys(job))
        if found is None:
            waiting.append(job)
        else:
            results[job] = found
            told(job, "from the cache")

    def keep(job: AnyJob, result: Result | str) -> None:
        if isinstance(result, str):
            told(job, f"FAILED: {result}")
            return
        cache.put(keys(job), result)
        results[job] = result
        told(job, "done")

    if not processes:
        for job in waiting:
            keep(*_with_job(runs, job))
    elif waiting:
        with multiprocessing.get_context("fork").Pool(processes, maxtasksperchild=1) as pool:
            for job, result in pool.imap_unordered(partial(_with_job, runs), waiting, chunksize=1):
                keep(job, result)
    return results


def _with_job(runs: Callable[[AnyJob], Result], job: AnyJob) -> tuple[AnyJob, Result | str]:
    try:
        return job, runs(job)
    except Exception as error:  # noqa: BLE001 - learners of other libraries raise what they like
        return job, f"{type(error).__name__}: {error}"


def _largest_kib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def learned(model: Any, events: Events) -> dict[str, Any]:
    """Predict and learn each event with a learner of river's kind; it learns sets of labels that are known as a whole."""
    before, began = _largest_kib(), time.perf_counter()
    served: list[Any] = []
    chances: list[float | None] = []
    for x, y in zip(events.x, events.y, strict=True):
        if events.labels:
            given = model.predict_one(x)
            served.append([int(bool(given.get(t, 0))) for t in range(events.labels)])
            if None not in y:
                model.learn_one(x, dict(enumerate(map(bool, y))))
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
        scores = label_sets(events.y, served)
    elif events.classes:
        scores = classification(events.y, served, chances)
    else:
        scores = regression(events.y, served)
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


def ours(job: Job) -> dict[str, Any]:
    """Replay through the command line, as a user would, and score the predictions of events with a label."""
    with tempfile.TemporaryDirectory() as folder:
        report, written = Path(folder) / "report.json", Path(folder) / "predictions.jsonl"
        flags = ["--limit", str(job.rows), "--seed", str(job.seed), "--quiet"]
        flags += [word for setting in OURS[job.learner] for word in ("--set", setting)]
        before = _largest_kib()
        if main(["replay", *job.stream.words, *flags, "--report", str(report), "--predictions", str(written)]):
            raise SettingsError(f"`streamnn replay` failed on {job.stream.name} with {job.learner}")
        figures = json.loads(report.read_text())
        lines = [json.loads(line) for line in written.read_text().splitlines()]
    lines = [line for line in lines if _known(line["label"])]
    truth, served = [line["label"] for line in lines], [line["prediction"] for line in lines]
    if figures["task"] == "regression":
        scores = regression(truth, served)
    elif figures["task"] == "multilabel":
        scores = label_sets(
            [list(t.values()) for t in truth],
            [[int((s or {}).get(name) or 0) for name in t] for t, s in zip(truth, served, strict=True)],
        )
    else:
        chances = [
            c and c.get(str(t).lower() if t is True or t is False else str(t), 0.0)
            for c, t in ((line["probabilities"], line["label"]) for line in lines)
        ]
        scores = classification(truth, served, chances)
    return {**_result(scores, len(lines), figures["seconds"], before), "drifts": figures["drifts"]}


def _known(label: Any) -> bool:
    """Whether an event has a label, or one of its set."""
    return any(v is not None for v in label.values()) if isinstance(label, dict) else label is not None


def _result(scores: dict[str, Any], events: int, seconds: float, before: int) -> dict[str, Any]:
    memory = (_largest_kib() - before) / MIB
    return {**scores, "events": events, "seconds_per_event": seconds / events, "memory_mib": memory}
