"""Measure prediction quality.

`python -m tests.benchmarks.quality [--seeds 3] [--presets auto,fast]` replays the whole recorded streams.
`python -m tests.benchmarks.quality compare [--rows 5000]` sets ours beside other online learners, cached and resumable.
`python -m tests.benchmarks.quality rates [--rows 5000]` does the same with one network of ours, under each optimizer and
learning-rate control.
`python -m tests.benchmarks.quality ablation [--rows 3000]` does it with the default without one of its parts.
`python -m tests.benchmarks.quality controls [--rows 3000]` does it with river's trees on the default's feature maps (two classes).
`python -m tests.benchmarks.quality curves [--rows 3000]` tells what late labels, few labels and micro-batches cost.

All need STREAMNN_DATA, but for those with a name where they run with --streams synthetic or --add alone.
"""

import argparse
import sys
from pathlib import Path

from tests.benchmarks.quality import peers
from tests.benchmarks.quality.ablation import ABLATIONS, CONTROLS
from tests.benchmarks.quality.cache import Cache, versions
from tests.benchmarks.quality.curves import curves
from tests.benchmarks.quality.environments import missing, worker_versions
from tests.benchmarks.quality.learners import CLASSIFIERS, LABELERS, OURS, PRESETS, RATES, REGRESSORS
from tests.benchmarks.quality.plots import curve_picture, rank_picture
from tests.benchmarks.quality.ranks import critical_difference, mean_ranks
from tests.benchmarks.quality.runs import Job, run_all
from tests.benchmarks.quality.streams import Stream, given, recorded, synthetic
from tests.benchmarks.quality.tables import HIGH_IS_GOOD, METRICS, collect, table
from tests.benchmarks.quality.whole import table as whole
from tests.recorded import data_folder


def main(words: list[str]) -> None:
    """Run the command that the words name."""
    parser = argparse.ArgumentParser(prog="quality", description=__doc__)
    if words[:1] not in (["compare"], ["rates"], ["ablation"], ["controls"], ["curves"]):
        parser.add_argument("--seeds", type=int, default=3, help="runs a line (default 3)")
        parser.add_argument("--presets", default="auto", help="presets, separated by commas (default auto)")
        space = parser.parse_args(words)
        whole(space.presets.split(","), space.seeds)
        return
    parser.add_argument("--task", choices=list(METRICS), default="classification")
    parser.add_argument("--streams", default="recorded", help="recorded, synthetic, none or names (default recorded)")
    parser.add_argument("--add", action="append", default=[], metavar="WORDS", help='such as "my.csv --target price"')
    parser.add_argument("--learners", default="", help="names, separated by commas (default all)")
    parser.add_argument("--without", default="", help="learners left out, separated by commas")
    parser.add_argument("--rows", type=int, default=5000, help="events of each stream (default 5000)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each pair (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1); 0 = in this process")
    parser.add_argument("--cache", type=Path, default=Path(".quality"), help="folder of results (default .quality)")
    parser.add_argument("--output", type=Path, help="folder for tables and pictures (default: tables to stdout alone)")
    space = parser.parse_args(words[1:])
    if words[0] == "rates":
        compare(space, [*RATES])
    elif words[0] == "ablation":
        compare(space, ["best", *ABLATIONS])
    elif words[0] == "curves":
        learners = space.learners.split(",") if space.learners else ["best", "logistic", "arf"]
        unknown = [name for name in learners if name not in {*OURS, *CLASSIFIERS}]
        if unknown:
            sys.exit(f"--learners: {unknown} are not known for curves; use some of {[*OURS, *CLASSIFIERS]}")
        streams = [*_streams(space.streams, "classification"), *(given(text) for text in space.add)]
        for seed in range(space.seeds):
            curves(streams, learners, space.rows, seed, Cache(space.cache), space.output)
    elif words[0] == "controls":
        compare(space, ["best", "arf", "hat", *CONTROLS])
    elif space.task == "classification":
        compare(space, [*PRESETS, *CLASSIFIERS, *peers.CLASSIFIERS])
    elif space.task == "multilabel":
        compare(space, [*PRESETS, *LABELERS, *peers.LABELERS])
    else:
        compare(space, [*PRESETS, *REGRESSORS])


def compare(space: argparse.Namespace, known: list[str]) -> None:
    """Run every learner of `known` that is asked for over every stream and print the tables."""
    asked = [name for name in space.learners.split(",") if name]
    learners = [name for name in asked or known if name not in space.without.split(",")]
    unknown = [name for name in learners if name not in known]
    if unknown:
        sys.exit(f"--learners: {unknown} are not known for {space.task}; use some of {known}")
    learners = _with_environments(learners, asked=bool(asked))
    streams = [*_streams(space.streams, space.task), *(given(text) for text in space.add)]
    jobs = [
        Job(learner, stream, space.rows, seed)
        for stream in streams
        for learner in learners
        for seed in range(space.seeds)
    ]
    done: list[Job] = []

    def told(job: Job, cached: bool) -> None:
        done.append(job)
        how = "from the cache" if cached else "done"
        print(f"{len(done)}/{len(jobs)} {job.stream.name} {job.learner} seed {job.seed}: {how}", file=sys.stderr)

    results = run_all(jobs, Cache(space.cache), processes=space.jobs, told=told)
    names = [stream.name for stream in streams]
    events = [next(r["events"] for job, r in results.items() if job.stream == stream) for stream in streams]
    libraries = ", ".join(f"{name} {number}" for name, number in _versions(learners).items())
    lines = [f"First {space.rows:,} events, {space.seeds} seed(s); {libraries}.", ""]
    for metric in METRICS[space.task]:
        values = collect(results, names, learners, metric)
        if values:
            lines += [*table(values, names, events, metric), ""]
    print("\n".join(lines))
    if space.output is None:
        return
    space.output.mkdir(parents=True, exist_ok=True)
    (space.output / "tables.md").write_text("\n".join(lines))
    first = METRICS[space.task][0]
    values = collect(results, names, learners, first)
    ranks = mean_ranks(values, high_is_good=HIGH_IS_GOOD.get(first, False))
    if len(ranks) > 1:
        rank_picture(ranks, critical_difference(len(ranks), len(names)), space.output / "ranks.png")
    for stream, count in zip(streams, events, strict=True):
        curves = {job.learner: r["windows"] for job, r in results.items() if job.stream == stream and job.seed == 0}
        curve_picture({name: curves[name] for name in learners}, first, count, space.output / f"{stream.name}.png")


def _with_environments(learners: list[str], *, asked: bool) -> list[str]:
    """Leave out, and say so, the learners whose library has no environment here; if they were asked for, stop."""
    libraries = dict.fromkeys(peers.KNOWN[name][0] for name in learners if name in peers.KNOWN)
    absent = {library: why for library in libraries if (why := missing(library))}
    for library, why in absent.items():
        if asked:
            sys.exit(f"--learners: {library}'s cannot run: {why}")
        print(f"LEFT OUT, all learners of {library}: {why}", file=sys.stderr)
    return [name for name in learners if name not in peers.KNOWN or peers.KNOWN[name][0] not in absent]


def _versions(learners: list[str]) -> dict[str, str]:
    """Return what computes: here, and the libraries in environments of their own."""
    found = versions()
    for library in dict.fromkeys(peers.KNOWN[name][0] for name in learners if name in peers.KNOWN):
        found |= {name: v for name, v in worker_versions(library).items() if name not in found}
    return found


def _streams(text: str, task: str) -> list[Stream]:
    if text == "none":
        return []
    if text == "synthetic":
        return synthetic()
    known = recorded(data_folder(), task)
    if text == "recorded":
        return known
    by_name = {stream.name: stream for stream in [*known, *synthetic()]}
    missing = [name for name in text.split(",") if name not in by_name]
    if missing:
        sys.exit(f"--streams: {missing} are not known for {task}; use some of {list(by_name)}, or --add")
    return [by_name[name] for name in text.split(",")]


if __name__ == "__main__":
    main(sys.argv[1:])
