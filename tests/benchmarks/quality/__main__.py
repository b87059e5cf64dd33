"""Measure prediction quality.

`python -m tests.benchmarks.quality [--seeds 3] [--presets auto,fast]` replays the whole recorded streams.
`python -m tests.benchmarks.quality labels [--seeds 3] [--streams ml_yeast,ml_20ng]` does it with streams of label sets, and
prints all their metrics.
`python -m tests.benchmarks.quality compare [--rows 5000]` sets ours beside other online learners, cached and resumable.
`python -m tests.benchmarks.quality rates [--rows 5000]` does the same with one network of ours, under each optimizer and
learning-rate control.
`python -m tests.benchmarks.quality ablation [--rows 3000]` does it with the default without one of its parts.
`python -m tests.benchmarks.quality controls [--rows 3000]` does it with river's trees on the default's feature maps (two classes).
`python -m tests.benchmarks.quality curves [--rows 3000]` tells what late labels, few labels and micro-batches cost.
`python -m tests.benchmarks.quality olronn [--streams elec2] [--seeds 5]` sets small networks beside a published study's figures.

All need STREAMNN_DATA, but for those with a name where they run with --streams synthetic or --add alone.
"""

import argparse
import sys
from pathlib import Path

from pipeline.bench.quality import command
from pipeline.bench.quality.cache import Cache, versions
from pipeline.bench.quality.command import Comparison
from pipeline.bench.quality.learners import CLASSIFIERS, LABELERS, OURS, PRESETS, RATES, REGRESSORS
from pipeline.bench.quality.streams import Stream, given, synthetic
from pipeline.bench.quality.tables import METRICS
from tests.benchmarks.quality import peers
from tests.benchmarks.quality.ablation import ABLATIONS, CONTROLS
from tests.benchmarks.quality.curves import curves
from tests.benchmarks.quality.environments import missing, worker_versions
from tests.benchmarks.quality.olronn import STREAMS, olronn
from tests.benchmarks.quality.rates import TRIED
from tests.benchmarks.quality.runs import key, run
from tests.benchmarks.quality.streams import new, recorded
from tests.benchmarks.quality.whole import labels
from tests.benchmarks.quality.whole import table as whole
from tests.recorded import data_folder


def main(words: list[str]) -> None:
    """Run the command that the words name."""
    parser = argparse.ArgumentParser(prog="quality", description=__doc__)
    if words[:1] == ["olronn"]:
        parser.add_argument("--streams", default=",".join(STREAMS), help=f"names (default {','.join(STREAMS)})")
        parser.add_argument("--seeds", type=int, default=5, help="runs of each rate (default 5)")
        parser.add_argument("--cache", type=Path, default=Path(".quality"), help="folder of results (default .quality)")
        space = parser.parse_args(words[1:])
        names = space.streams.split(",")
        if unknown := [name for name in names if name not in STREAMS]:
            sys.exit(f"--streams: {unknown} are not known for olronn; use some of {[*STREAMS]}")
        olronn(data_folder(), names, space.seeds, Cache(space.cache))
        return
    if words[:1] == ["labels"]:
        parser.add_argument("--streams", default="", help="names, separated by commas (default all)")
        parser.add_argument("--seeds", type=int, default=3, help="runs of each stream (default 3)")
        space = parser.parse_args(words[1:])
        labels([name for name in space.streams.split(",") if name], space.seeds)
        return
    if words[:1] not in (["compare"], ["rates"], ["ablation"], ["controls"], ["curves"]):
        parser.add_argument("--seeds", type=int, default=3, help="runs a line (default 3)")
        parser.add_argument("--presets", default="auto", help="presets, separated by commas (default auto)")
        space = parser.parse_args(words)
        whole(space.presets.split(","), space.seeds)
        return
    parser.add_argument("--task", choices=list(METRICS), default="classification")
    parser.add_argument(
        "--streams", default="recorded", help="recorded, synthetic, new, none or names (default recorded)"
    )
    parser.add_argument("--add", action="append", default=[], metavar="WORDS", help='such as "my.csv --target price"')
    parser.add_argument("--learners", default="", help="names, separated by commas (default all)")
    parser.add_argument("--without", default="", help="learners left out, separated by commas")
    parser.add_argument("--rows", type=int, default=5000, help="events of each stream (default 5000)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each pair (default 1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default 1); 0 = in this process")
    parser.add_argument("--cache", type=Path, default=Path(".quality"), help="folder of results (default .quality)")
    parser.add_argument("--output", type=Path, help="folder for tables and pictures (default: tables to stdout alone)")
    parser.add_argument("--windowed", action="store_true", help="also a table a stream: the metric in each tenth of it")
    space = parser.parse_args(words[1:])
    if words[0] == "rates":
        compare(space, [*RATES, *TRIED])
    elif words[0] == "ablation":
        compare(space, ["best", *ABLATIONS[space.task]])
    elif words[0] == "curves":
        learners = space.learners.split(",") if space.learners else ["best", "logistic", "arf"]
        unknown = [name for name in learners if name not in {*OURS, *CLASSIFIERS}]
        if unknown:
            sys.exit(f"--learners: {unknown} are not known for curves; use some of {[*OURS, *CLASSIFIERS]}")
        streams = [*_streams(space.streams, "classification"), *(given(text) for text in space.add)]
        if space.windowed:
            sys.exit("--windowed: curves have conditions for columns; use it with the other commands")
        curves(streams, learners, space.rows, space.seeds, Cache(space.cache), space.output)
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
    what = Comparison(streams, learners, space.rows, space.seeds, space.jobs, space.cache, space.output, space.windowed)
    if not command.compare(what, space.task, _versions(learners), runs=run, keys=key):
        sys.exit(1)


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
    if text == "new":
        return new(data_folder(), task)
    known = recorded(data_folder(), task)
    if text == "recorded":
        return known
    by_name = {stream.name: stream for stream in [*known, *synthetic(), *new(data_folder(), task)]}
    missing = [name for name in text.split(",") if name not in by_name]
    if missing:
        sys.exit(f"--streams: {missing} are not known for {task}; use some of {list(by_name)}, or --add")
    return [by_name[name] for name in text.split(",")]


if __name__ == "__main__":
    main(sys.argv[1:])
