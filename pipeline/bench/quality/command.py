"""`streamnn bench quality`: our presets beside other online learners, over any streams.

In: streams as `streamnn replay` is told of them. Out: tables in Markdown on stdout; pictures where a folder is given.
"""

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.bench.quality.cache import Cache, versions
from pipeline.bench.quality.learners import CLASSIFIERS, LABELERS, PRESETS, REGRESSORS
from pipeline.bench.quality.plots import curve_picture, rank_picture
from pipeline.bench.quality.ranks import critical_difference, mean_ranks
from pipeline.bench.quality.runs import Job, Result, key, run, run_all
from pipeline.bench.quality.streams import Stream, Task, given, synthetic, task_of
from pipeline.bench.quality.tables import HIGH_IS_GOOD, METRICS, WINDOWED, collect, table, windowed
from pipeline.settings import SettingsError

LEARNERS: dict[Task, tuple[str, ...]] = {
    "classification": (*PRESETS, *CLASSIFIERS),
    "regression": (*PRESETS, *REGRESSORS),
    "multilabel": (*PRESETS, *LABELERS),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is compared, and where results go.

    Attributes:
        streams: all of one task, each with a name of its own.
        learners: in the order of the tables' columns.
        rows: events of each stream at most.
        seeds: runs of each pair, with the seeds 0, 1, ...
        jobs: runs at a time; 0 = one after the other in this process.
        cache: folder of results.
        output: folder for tables and pictures; None = tables to stdout alone.
        windowed: whether a table for each stream tells the metric along it.
    """

    streams: Sequence[Stream]
    learners: Sequence[str]
    rows: int
    seeds: int
    jobs: int
    cache: Path
    output: Path | None
    windowed: bool


def quality(
    streams: Sequence[str],
    *,
    learners: Sequence[str],
    without: Sequence[str],
    rows: int,
    seeds: int,
    jobs: int,
    cache: Path,
    output: Path | None,
    windowed: bool,
) -> bool:
    """Compare learners over streams, and print the tables; returns whether every run succeeded.

    Args:
        streams: words of `streamnn replay` in one string each; none = a stream that comes with river, and generated
            ones whose concept moves.
        learners: names; none = all of the task.
        without: names left out.
        rows: events of each stream at most.
        seeds: runs of each pair.
        jobs: runs at a time; 0 = one after the other in this process.
        cache: folder of results.
        output: folder for tables and pictures; None = tables to stdout alone.
        windowed: whether a table for each stream tells the metric along it.

    Raises:
        SettingsError: a stream, a name or a number cannot be used.
    """
    for flag, number, least in (("--rows", rows, 2), ("--seeds", seeds, 1), ("--jobs", jobs, 0)):
        if number < least:
            raise SettingsError(f"{flag} is {number}, but must be at least {least}")
    chosen = _apart([given(text) for text in streams] or [given("river:Phishing"), *synthetic()])
    tasks = {stream.name: task_of(stream) for stream in chosen}
    if len(set(tasks.values())) > 1:
        said = ", ".join(f"{name} is {task}" for name, task in tasks.items())
        raise SettingsError(f"streams of different tasks have no table in common ({said}); compare them apart")
    known = LEARNERS[tasks[chosen[0].name]]
    unknown = [name for name in (*learners, *without) if name not in known]
    if unknown:
        raise SettingsError(f"--learners: {unknown} are not known for {tasks[chosen[0].name]}; use some of {[*known]}")
    names = [name for name in learners or known if name not in without]
    if not names:
        raise SettingsError("--without leaves no learner; leave out fewer")
    asked = Comparison(chosen, names, rows, seeds, jobs, cache, output, windowed)
    return compare(asked, tasks[chosen[0].name], versions())


def compare(
    asked: Comparison,
    task: str,
    computes: dict[str, str],
    *,
    runs: Callable[[Job], Result] = run,
    keys: Callable[[Job], Result] = key,
) -> bool:
    """Run what is not known yet, print tables, draw pictures; returns whether every run succeeded.

    Args:
        asked: what is compared.
        task: a key of `METRICS`.
        computes: libraries and their versions, which are told.
        runs: does a job.
        keys: what could change the result of `runs`.
    """
    jobs = [
        Job(learner, stream, asked.rows, seed)
        for stream in asked.streams
        for learner in asked.learners
        for seed in range(asked.seeds)
    ]
    told: list[str] = []

    def tell(job: Job, how: str) -> None:
        told.append(how)
        print(f"{len(told)}/{len(jobs)} {job.stream.name} {job.learner} seed {job.seed}: {how}", file=sys.stderr)

    results = run_all(jobs, Cache(asked.cache), processes=asked.jobs, told=tell, runs=runs, keys=keys)
    # a stream that nobody could learn has no row, and who could not learn one of the others has no column
    streams = [stream for stream in asked.streams if any(job.stream == stream for job in results)]
    failed = {job.learner for job in jobs if job not in results and job.stream in streams}
    asked = replace(asked, streams=streams, learners=[name for name in asked.learners if name not in failed])
    if not streams or not asked.learners:
        return False
    names = [stream.name for stream in streams]
    events = [next(r["events"] for job, r in results.items() if job.stream == stream) for stream in streams]
    libraries = ", ".join(f"{name} {number}" for name, number in computes.items())
    lines = [f"First {asked.rows:,} events, {asked.seeds} seed(s); {libraries}.", ""]
    for metric in METRICS[task]:
        values = collect(results, names, asked.learners, metric)
        if values:
            lines += [*table(values, names, events, metric), ""]
    if asked.windowed:
        for name, length in zip(names, events, strict=True):
            lines += [*windowed(results, name, asked.learners, WINDOWED[task], length), ""]
    if asked.output is not None:  # before a reader of stdout, such as `head`, can end this
        _written(asked.output, asked.learners, task, results, dict(zip(streams, events, strict=True)), lines)
    print("\n".join(lines))
    return len(results) == len(jobs)


def _written(
    folder: Path,
    learners: Sequence[str],
    task: str,
    results: dict[Job, Result],
    streams: dict[Stream, int],
    lines: Sequence[str],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tables.md").write_text("\n".join(lines), encoding="utf-8")
    first = METRICS[task][0]
    values = collect(results, [stream.name for stream in streams], learners, first)
    ranks = mean_ranks(values, high_is_good=HIGH_IS_GOOD.get(first, False))
    if len(ranks) > 1:
        rank_picture(ranks, critical_difference(len(ranks), len(streams)), folder / "ranks.png")
    for stream, events in streams.items():
        found = {job.learner: r for job, r in results.items() if job.stream == stream and job.seed == 0}
        shown = {name: found[name] for name in learners if name in found}
        marks = next(((name, r["drifts"]) for name, r in shown.items() if r.get("drifts")), ("", ()))
        curve_picture(
            {name: r["windows"] for name, r in shown.items()},
            WINDOWED[task],
            events,
            folder / f"{stream.name}.png",
            drifts=marks[1],
            flagged_by=marks[0],
        )


def _apart(streams: Sequence[Stream]) -> list[Stream]:
    """Leave out what is there twice, and give different streams of the same name names of their own."""
    found: list[Stream] = []
    seen: Counter[str] = Counter()
    for stream in dict.fromkeys(streams):
        seen[stream.name] += 1
        number = seen[stream.name]
        found.append(replace(stream, name=f"{stream.name}~{number}") if number > 1 else stream)
    return found
