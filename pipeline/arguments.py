"""The command line: what can be typed, and how flags become settings.

In: words. Out: a namespace for `pipeline.commands`. Every flag that sets something is short for a key of the
configuration; `--set section.key=value` reaches the rest.
"""

import argparse
import re
import textwrap
from pathlib import Path
from typing import Any

from pipeline.settings import Given, SettingsError
from pipeline.versions import program

EXIT_CODES = """\
exit codes:
  0  done (for `run`: also after SIGTERM, when everything has been written)
  1  the stream or an output failed on the way; what was done until then is in the checkpoint
  2  a setting, argument or file is wrong; nothing was started
  3  a comparison failed (--fail-if)
  130, 143  stopped by Ctrl-C, by SIGTERM; the event in hand was finished, checkpoint and report were written
"""

DESCRIPTION = """\
Learn a neural network from a stream while serving predictions from it: each event is predicted before its label is
learned.

  streamnn replay weather.csv --target rain          learn a recorded stream, print how good the predictions were
  streamnn replay river:Phishing --plot curve.png    the same for a stream that comes with river
  streamnn run config.toml                           run for months: resume, checkpoints, /metrics
  streamnn record config.toml week.records.jsonl.gz  record the topic that a run reads, to replay it later
  streamnn produce stream.csv readings --rate 500    play a recorded stream into a topic
  streamnn inspect checkpoints/                      look into a checkpoint
  streamnn config                                    every setting with its meaning and default
  streamnn bench                                     how fast it is on this machine, beside C, PyTorch and river
  streamnn bench quality "stream.csv --target rain"  how good it is on your stream, beside river's learners
"""

REPLAY = """\
Replay a recorded stream: predict every event, score the prediction, learn the label, watch for drift. At the end the
scores are printed beside those of simple baselines, which any model should beat.

STREAM is a file (.csv, .jsonl, .parquet, .libsvm, each also .gz), river:NAME (a stream that comes with river, such as
river:Phishing) or synth:NAME (one of river's generators, such as synth:Agrawal; endless, so give --limit; one whose
concept changes is "synth:SEA->SEA?variant=2@3000", or "@3000~500" for a change that takes 500 events).

A recording of a topic (.records.jsonl, also .gz; see `streamnn record`) is replayed with the configuration of the run
that read the topic: --config CONFIG.toml. What is written then is what the command line names, and nothing else: the
topics, checkpoints and outputs in the file are the live run's own.
"""

RUN = """\
Run for a long time: read the stream that CONFIG.toml names, write predictions, take checkpoints, serve /metrics, /livez
and /readyz. After a crash or a restart it goes on from its newest checkpoint. SIGTERM finishes the event in hand,
writes everything and exits with 0.

Every key can be overridden: --set optimizer.rate=0.01, or in the environment STREAMNN_OPTIMIZER__RATE=0.01.
"""

RECORD = """\
Record the topic that CONFIG.toml reads (stream.source = "kafka:TOPIC") to its present end: every record with partition,
offset, timestamp, key, headers and bytes. FILE ends in .records.jsonl or .records.jsonl.gz, and gets its name when it is
whole. In which order they stand there, and are replayed, --order says:

  timestamp   by timestamp, as a run with kafka.order = "timestamp" handles them: but where its wait for an idle partition
              ended by the clock (kafka.idle_wait_s; the run's metric streamnn_consumer_expired_waits counts them)
  handled     as the run handled them, whatever the order, and no others: its predictions and dead letters tell (both
              topics are read)

  streamnn record config.toml week.records.jsonl.gz
  streamnn replay week.records.jsonl.gz --config config.toml --set model.preset=fast
"""

BENCH = """\
Measure on this machine, in one to two minutes:

  one step      predict and learn an event with one network, of two sizes: our native engine, a C program written by hand
                for this network alone, our eager engine, PyTorch as it is usually written, deep-river
  pool          the same with the default model, presets best and fast, and best without compiled code
  whole replay  a made-up stream from a CSV file, scored, predictions written: our presets over --rows, from the end of
                the first block on, when all is compiled; river's logistic regression (inputs scaled) and Hoeffding
                tree over 3,000 rows, its adaptive random forest over 1,000; a network of deep-river over 1,000

Sides take turns; a figure is the median of its rounds: of processor time for steps and pools, of wall time for replays.
A column "native / this" has ratios: events per second of the line "native" divided by those of this line, so 100 says
that native does a hundred times as many. What else runs on the machine meets all sides: ratios tell more than rates.

deep-river needs an older river than we do, so a folder of its own, which STREAMNN_PEERS tells. Without it its lines are
left out, and it is said how to get it.
"""

QUALITY = """\
Compare predictions: our presets beside river's learners with their defaults, each event predicted before its label is
learned. Tables of metrics, time and memory, with mean ranks, go to stdout as Markdown. STREAM is what `streamnn replay`
would be told, in quotes; all of one kind (classes, values, or label sets). Without STREAM: a stream that comes with river
and nine generated ones whose concept moves. Results are kept: stopped, it goes on where it was; asked again, it is quick.

  streamnn bench quality "stream.csv --target price"
  streamnn bench quality "synth:SEA --target target" --learners fast,arf,majority --seeds 3 --output out
"""

PRODUCE = """\
Play a recorded stream into a topic, record by record, each as a JSON object: STREAM is a file (.csv, .jsonl, .parquet,
each also .gz), river:NAME, synth:NAME, or a recording (see `streamnn record`), whose records keep bytes, keys, headers,
timestamps and partition numbers. Records without a key go to the partitions in turn. The producer is idempotent: what it
sends again counts once.

  streamnn produce stream.csv readings --bootstrap-servers localhost:9092 --rate 500 --key machine
  streamnn produce stream.csv readings --config config.toml --rate 60x --moment time
"""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="streamnn",
        description=DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"streamnn {program()}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _replay(commands)
    _run(commands)
    _record(commands)
    _produce(commands)
    _inspect(commands)
    _config(commands)
    _bench(commands)
    return top


def flags(space: argparse.Namespace) -> dict[str, Given]:
    """Return the settings that the flags of `replay` stand for.

    Raises:
        SettingsError: a flag's value cannot be understood.
    """
    found: dict[str, Given] = {}

    def put(key: str, flag: str, value: Any) -> None:
        if value is not None and value is not False:
            found[key] = Given(value, flag)

    put("stream.source", "STREAM", space.stream)
    put("stream.targets", "--target", names(space.target))
    put("stream.targets_last", "--targets-last", space.targets_last)
    put("stream.task", "--task", space.task)
    put("stream.id", "--id", space.id)
    put("stream.moment", "--moment", space.moment)
    put("stream.ignore", "--ignore", names(space.ignore))
    put("stream.limit", "--limit", space.limit)
    put("seed", "--seed", space.seed)
    put("output.predictions", "--predictions", space.predictions)
    put("output.dead_letters", "--dead-letters", space.dead_letters)
    put("output.report", "--report", space.report)
    put("output.plot", "--plot", space.plot)
    put("checkpoint.folder", "--checkpoint", space.checkpoint)
    put("checkpoint.resume", "--resume", space.resume)
    for name in names(space.categorical) or []:
        put(f"stream.kinds.{name}", "--categorical", "category")
    if space.mode is not None:
        found["mode.batch"] = Given(_batch(space.mode), "--mode")
    if space.label_delay is not None:
        found |= _delay(space.label_delay)
    return found


def _replay(commands: Any) -> None:
    p = _command(commands, "replay", "learn a recorded stream and tell how good the predictions were", REPLAY)
    p.add_argument("stream", metavar="STREAM", help="file, river:NAME or synth:NAME")
    g = p.add_argument_group("what is predicted")
    g.add_argument("--target", metavar="COL[,COL...]", help="column(s) to predict")
    g.add_argument("--targets-last", metavar="N", type=int, help="the last N columns are the targets")
    g.add_argument(
        "--task", metavar="TASK",
        help="auto, binary, multiclass, multilabel, multioutput, regression, multitarget or mixed (default auto, which"
        " asks where it would have to guess)",
    )  # fmt: skip
    g.add_argument("--categorical", metavar="COL[,COL...]", help="columns whose numbers are names, not quantities")
    g.add_argument("--ignore", metavar="COL[,COL...]", help="columns left out")
    g.add_argument("--id", metavar="COL", help="column that identifies an event; not an input")
    g.add_argument("--moment", metavar="COL", help="column that holds the event time")
    g = p.add_argument_group("how it is learned")
    g.add_argument("--config", metavar="FILE", type=Path, help="settings, TOML; flags win over it")
    _override(g, "one setting, such as network.units=[64,64]")
    g.add_argument("--mode", metavar="MODE", help="sample (default) or batch:B, micro-batches of B events")
    g.add_argument(
        "--label-delay",
        metavar="N|TIME",
        help="labels arrive N events later, or (30s, 5min, 2h, 1d) later; needs --moment",
    )
    g.add_argument("--limit", metavar="N", type=int, help="stop after N events")
    g.add_argument("--seed", metavar="N", type=int, help="start weights and everything random (default 0)")
    g = p.add_argument_group("what is written")
    g.add_argument("--report", metavar="FILE.json", help="all figures of the run")
    g.add_argument("--predictions", metavar="FILE", help="every prediction, .jsonl or .csv")
    g.add_argument("--dead-letters", metavar="FILE", help="records that could not be used, with the reason, .jsonl")
    g.add_argument("--plot", metavar="FILE.png", help="the metric over the stream, drifts, learning rate")
    g.add_argument("--checkpoint", metavar="DIR", help="take checkpoints there")
    g.add_argument("--resume", action="store_true", help="go on from the newest checkpoint")
    _quiet(g)
    g = p.add_argument_group("replay test: does a change make the model worse?")
    g.add_argument("--compare", metavar="REPORT", type=Path, help="an earlier report of the same stream")
    g.add_argument(
        "--fail-if", metavar="CONDITION", action="append", default=[],
        help='exit with 3 if the change of a metric satisfies it, such as "accuracy < -0.005" or "mae > 2%%"',
    )  # fmt: skip


def _run(commands: Any) -> None:
    p = _command(commands, "run", "run for a long time: resume, checkpoints, metrics", RUN)
    p.add_argument("config", metavar="CONFIG.toml", type=Path, help="settings; `streamnn config` lists them")
    _override(p)
    _quiet(p)


def _record(commands: Any) -> None:
    p = _command(commands, "record", "record a topic in a file that replays it", RECORD)
    p.add_argument("config", metavar="CONFIG.toml", type=Path, help="settings of the run that reads the topic")
    p.add_argument("file", metavar="FILE", type=Path, help="what is written: .records.jsonl, or .records.jsonl.gz")
    p.add_argument(
        "--order", choices=["timestamp", "handled"],
        help="of the records; by default timestamp, or handled where kafka.order is arrival; handled repeats a run however"
        " its waits for idle partitions ended",
    )  # fmt: skip
    p.add_argument(
        "--from", dest="first", metavar="PLACE",
        help="where to begin: a moment (2026-11-01T12:00:00Z), or offsets (partition:offset,...); the other partitions,"
        " and all of them by default, begin where the run does (kafka.start; of a run that began at the latest record, at"
        " the beginning of the topic)",
    )  # fmt: skip
    p.add_argument("--until", metavar="PLACE", help="where to stop, likewise; the record there is left out")
    _override(p)
    _quiet(p)


def _produce(commands: Any) -> None:
    p = _command(commands, "produce", "play a recorded stream into a topic", PRODUCE)
    p.add_argument("stream", metavar="STREAM", help="file, river:NAME, synth:NAME or a recording")
    p.add_argument("topic", metavar="TOPIC", help="where to; it has to exist")
    p.add_argument(
        "--rate", metavar="R", default="max",
        help="records a second; max (default): as fast as possible; original: at the pace of the timestamps; 60x: 60"
        " times that pace",
    )  # fmt: skip
    p.add_argument("--key", metavar="FIELD", help="the field whose text is the key; records of one key stay in order")
    p.add_argument("--moment", metavar="FIELD", help="the field that holds the event time")
    p.add_argument(
        "--timestamps", choices=["now", "original"],
        help="of the records: now, each later than the one before (default), or the event time (default for a recording)",
    )  # fmt: skip
    p.add_argument(
        "--recorded", metavar="TOPIC", help="of a recording with labels: whose records (default: those of the events)"
    )
    p.add_argument("--skip", metavar="N", type=_count, default=0, help="leave out the first N records")
    p.add_argument("--limit", metavar="N", type=_count, default=0, help="stop after N records; 0 = all")
    p.add_argument("--bootstrap-servers", metavar="HOST:PORT[,...]", help="where the cluster is")
    p.add_argument(
        "--config", metavar="FILE", type=Path, help="settings, of which [kafka] says how to reach the cluster"
    )
    _override(p, "one setting")
    _quiet(p)


def _inspect(commands: Any) -> None:
    p = commands.add_parser(
        "inspect",
        help="look into a checkpoint",
        description="Print what a checkpoint holds: versions, counters, every tensor with its range.",
    )
    p.add_argument("checkpoint", metavar="CHECKPOINT", type=Path, help="a file, or a folder (its newest one)")
    p.add_argument("--json", action="store_true", help="as JSON")


def _config(commands: Any) -> None:
    p = _command(
        commands,
        "config",
        "list every setting, or check a file",
        textwrap.fill(
            "Without FILE, print every setting with its meaning and default, as a TOML file to start from. With FILE,"
            " check it and print the settings in force.",
            width=100,
        ),
        epilog="",
    )
    p.add_argument("file", metavar="FILE", type=Path, nargs="?", help="settings, TOML")
    _override(p)


def _bench(commands: Any) -> None:
    p = _command(commands, "bench", "measure how fast it is on this machine, beside others", BENCH, epilog="")
    p.add_argument("--rounds", metavar="N", type=int, default=3, help="measurements of each side (default 3)")
    p.add_argument(
        "--seconds",
        metavar="S",
        type=float,
        default=0.5,
        help="length of one measurement of steps and pools (default 0.5)",
    )
    p.add_argument(
        "--rows", metavar="N", type=int, default=20_000, help="length of the stream replayed (default 20000)"
    )
    what = p.add_subparsers(dest="what", metavar="[quality]")
    q = _command(what, "quality", "how good predictions are, beside river's learners", QUALITY, epilog="")
    q.add_argument(
        "stream",
        metavar="STREAM",
        nargs="*",
        help='as `streamnn replay` is told of it, such as "my.csv --target price"',
    )
    q.add_argument("--learners", metavar="NAME[,NAME...]", help="those compared (default all)")
    q.add_argument("--without", metavar="NAME[,NAME...]", help="those left out")
    q.add_argument("--rows", metavar="N", type=int, default=5000, help="events of each stream at most (default 5000)")
    q.add_argument("--seeds", metavar="N", type=int, default=1, help="runs of each pair (default 1)")
    q.add_argument(
        "--jobs", metavar="N", type=int, default=1,
        help="runs at a time (default 1); 0 = in this process, where memory is no measure",
    )  # fmt: skip
    q.add_argument(
        "--cache", metavar="DIR", type=Path, default=Path(".quality"), help="where results are kept (default .quality)"
    )
    q.add_argument(
        "--windowed", action="store_true",
        help="also a table for each stream: accuracy, F1 of events or MAE in each tenth of it, a row a learner",
    )  # fmt: skip
    q.add_argument("--output", metavar="DIR", type=Path, help="write tables.md, ranks.png and a picture a stream there")


def _command(commands: Any, name: str, about: str, description: str, *, epilog: str = EXIT_CODES) -> Any:
    return commands.add_parser(
        name,
        help=about,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _override(to: Any, about: str = "override one setting") -> None:
    to.add_argument("--set", metavar="KEY=VALUE", action="append", default=[], help=about)


def _quiet(to: Any) -> None:
    to.add_argument("--quiet", action="store_true", help="print errors only")


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of records")
    return int(text)


def names(text: str | None) -> list[str] | None:
    """Return the names in a list with commas, None for none."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _batch(text: str) -> int:
    if text == "sample":
        return 1
    kind, _, size = text.partition(":")
    if kind == "batch" and size.isdecimal() and int(size) >= 1:
        return int(size)
    raise SettingsError(f"--mode is {text!r}, expected sample, or batch:B with B events, such as batch:32")


def _delay(text: str) -> dict[str, Given]:
    if text.isdecimal():
        return {"labels.delay_events": Given(int(text), "--label-delay")}
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise SettingsError(
            f"--label-delay is {text!r}, expected a number of events, or a time such as 30s, 5min, 2h or 1d"
        )
    return {"labels.delay_s": Given(float(match[1]) * _SECONDS[match[2]], "--label-delay")}
