"""What each command does: settings in, an exit code out.

In: the parsed command line. Out: files, text on stdout, and one of the exit codes in `pipeline.arguments`.
"""

import argparse
import gc
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from connectors import ConnectorError, SinkError
from connectors.kafka import FencedError, KafkaSource
from connectors.recording import is_recording
from pipeline import compare, plot, report, standby
from pipeline.arguments import flags, names
from pipeline.assembly import Assembled, Prepared, prepare
from pipeline.checkpoint import CheckpointError, read
from pipeline.config import Config
from pipeline.display import Display
from pipeline.inspection import describe as describe_checkpoint
from pipeline.inspection import describe_json
from pipeline.prequential import Prequential
from pipeline.produce import produce
from pipeline.record import record
from pipeline.server import Health, Server, ServerError
from pipeline.settings import SettingsError, describe, plain, read_settings
from pipeline.signals import collected
from pipeline.telemetry import Telemetry

DONE, FAILED, WRONG, WORSE = 0, 1, 2, 3

USER_ERRORS = (SettingsError, ConnectorError, CheckpointError, report.ReportError, ServerError)


def replay(space: argparse.Namespace) -> int:
    """Replay a recorded stream."""
    conditions = [compare.parse(text) for text in space.fail_if]
    if conditions and space.compare is None:
        raise SettingsError("--fail-if needs --compare REPORT, the earlier report")
    old = report.read(space.compare) if space.compare is not None else None
    config = read_settings(Config, space.config, overrides=space.set, environ=os.environ, given=flags(space))
    if is_recording(config.stream.source):
        config = _apart(config, read_settings(Config, None, overrides=space.set, given=flags(space)))
    if config.kafka.standby:
        raise SettingsError("kafka.standby is for `streamnn run`: a replay has the stream to itself")
    health = Health()
    code, figures = _drive(prepare(config, health.beat), health, None, quiet=space.quiet, telemetry=None)
    if not space.quiet:
        print("\n".join(report.lines(figures)))
    if code == DONE and old is not None:
        found = compare.compare(old, figures, conditions)
        if not space.quiet:
            print(f"\ncompared with {space.compare}:", *found.lines, sep="\n")
        for line in found.failed:
            print(f"streamnn: comparison failed: {line}", file=sys.stderr)
        return WORSE if found.failed else DONE
    return code


def run(space: argparse.Namespace) -> int:
    """Run for a long time."""
    config = read_settings(Config, space.config, overrides=space.set, environ=os.environ)
    if config.checkpoint.folder:
        config = replace(config, checkpoint=replace(config.checkpoint, resume=True))
    telemetry, health, turn = Telemetry() if config.telemetry.enabled else None, Health(), None
    if config.kafka.standby:
        standby.check(config)
        turn = standby.Turn(config, health, telemetry)
    prepared = prepare(config, health.beat if turn is None else turn.beat)
    code, figures = _drive(prepared, health, turn, quiet=space.quiet, telemetry=telemetry)
    if figures and not space.quiet:
        print("\n".join(report.lines(figures)))
    return DONE if code == 128 + signal.SIGTERM else code


def _apart(config: Config, asked: Config) -> Config:
    """Return a live run's configuration for a replay: what it writes is what the command line says, and nothing else.

    Args:
        config: everything.
        asked: what the command line alone says.
    """
    kafka = {
        name: getattr(asked.kafka, name) for name in ("predictions_topic", "dead_letters_topic", "delivery", "standby")
    }
    folder, resume = asked.checkpoint.folder, asked.checkpoint.resume
    return replace(
        config,
        output=asked.output,
        kafka=replace(config.kafka, **kafka),
        checkpoint=replace(config.checkpoint, folder=folder, resume=resume),
    )


def inspect(space: argparse.Namespace) -> int:
    """Print what is in a checkpoint."""
    checkpoint = read(space.checkpoint)
    if space.json:
        print(json.dumps(describe_json(checkpoint), indent=1))
    else:
        print("\n".join(describe_checkpoint(checkpoint)))
    return DONE


def config(space: argparse.Namespace) -> int:
    """Print every setting, or those of a file."""
    if space.file is None and not space.set:
        print("\n".join(_template()))
        return DONE
    found = read_settings(Config, space.file, overrides=space.set, environ=os.environ)
    print("\n".join(_toml(plain(found))))
    return DONE


def bench(space: argparse.Namespace) -> int:
    """Measure on this machine, or compare predictions."""
    # river's learners take a second to import, which no other command needs
    if space.what == "quality":
        whole = importlib.import_module("pipeline.bench.quality").quality(
            space.stream,
            learners=names(space.learners) or (),
            without=names(space.without) or (),
            rows=space.rows,
            seeds=space.seeds,
            jobs=space.jobs,
            cache=space.cache,
            output=space.output,
            windowed=space.windowed,
        )
        return DONE if whole else FAILED
    importlib.import_module("pipeline.bench").bench(rounds=space.rounds, seconds=space.seconds, rows=space.rows)
    return DONE


COMMANDS = {
    "replay": replay,
    "run": run,
    "record": record,
    "produce": produce,
    "inspect": inspect,
    "config": config,
    "bench": bench,
}


def _drive(
    prepared: Prepared, health: Health, turn: standby.Turn | None, *, quiet: bool, telemetry: Telemetry | None
) -> tuple[int, dict[str, Any]]:
    """Run a loop to its end with everything around it.

    Args:
        prepared: what is run.
        health: what hears of it while it waits for an output.
        turn: what it waits for first, and gives up at the end, if anything.
        quiet: without progress and report.
        telemetry: what is told of it, if anything.

    Returns:
        The exit code and the report, which is empty if the process was stopped before its turn came.
    """
    config = prepared.config
    with ExitStack() as stack:
        if telemetry is not None:
            server = Server(telemetry.registry, health, host=config.telemetry.host, port=config.telemetry.port)
            stack.callback(server.close)
            _say(f"metrics at {server.url}/metrics", quiet)
        if turn is not None:
            stack.enter_context(turn)
            _say("standing by", quiet)
            with collected(prepared.stopping) as got:
                if not turn.wait(lambda: bool(got)):
                    return 128 + got[0], {}
            _say("taking over", quiet)
        run = prepared.begin()
        loop = run.loop
        stack.enter_context(_closing(run))
        try:
            loop.open(run.checkpoint)
        except ValueError as error:  # a checkpoint of another model
            raise SettingsError(f"{config.checkpoint.folder}: {error}") from error
        if run.checkpoint is not None:
            _say(f"going on from the checkpoint at event {loop.counters.events:,}", quiet)
            if telemetry is not None:
                telemetry.resumed(loop)
        health.ready = True
        health.block()
        spare_collector()
        metric = report.headline(run.resolved.task)
        with (
            collected(run.stopping) as got,
            Display(metric, limit=config.stream.limit, stream=sys.stderr, quiet=quiet) as display,
        ):

            def told(loop: Prequential) -> None:
                source = loop.parts.source
                health.block(source.unreachable_s if isinstance(source, KafkaSource) else 0.0)
                if telemetry is not None:
                    telemetry.block(loop)
                display.show(loop)

            def stop() -> bool:
                health.beat()
                health.draining = bool(got)
                if turn is not None and run.store is not None:
                    turn.check(run.store)
                return bool(got)

            loop.run(stop=stop, report=told)
        if telemetry is not None:
            telemetry.gauges(loop)
        figures = report.report(run)
        try:
            if config.output.report:
                report.write(Path(config.output.report), figures)
            if config.output.plot:
                plot.plot(Path(config.output.plot), figures)
        except report.ReportError as error:  # everything else is done, and the figures are still to be shown
            loop.failure = loop.failure or error
    if loop.failure is not None:
        print(f"streamnn: {loop.failure}", file=sys.stderr)
        return FAILED, figures
    return (128 + got[0] if got else DONE), figures


def spare_collector() -> None:
    """Have Python's garbage collector leave alone what was made at the start, and look at the rest less often.

    What was imported lives as long as the process, and records are gone long before they would be looked at: on a topic,
    searching them for cycles took a quarter of the processor time.
    """
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)


@contextmanager
def _closing(run: Assembled) -> Iterator[None]:
    """Close a run at the end; an output that cannot be finished is its failure, unless it failed before."""
    try:
        yield
    finally:
        try:
            run.close()
        except SinkError as error:
            run.loop.failure = run.loop.failure or error


def _say(text: str, quiet: bool) -> None:
    if not quiet:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _template() -> list[str]:
    """Write every setting as TOML: meaning and expectation as comments, the default as the value."""
    lines = ["# Every setting of streamnn with its default. Keep what you change, delete the rest."]
    section = ""
    for d in describe(Config):
        table, _, name = d.key.rpartition(".")
        if table != section:
            section = table
            lines += ["", f"[{table}]"]
        lines += [f"# {d.doc} ({d.expects})", f"{name} = {_value(d.default)}"]
    return lines


def _toml(settings: Mapping[str, Any]) -> list[str]:
    lines = [f"{name} = {_value(value)}" for name, value in settings.items() if not isinstance(value, dict)]
    for name, table in settings.items():
        if isinstance(table, dict):
            lines += ["", f"[{name}]", *(f"{key} = {_value(value)}" for key, value in table.items())]
    return lines


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def complain(error: Exception, stream: TextIO) -> int:
    """Tell the user what went wrong in one message.

    Returns:
        The exit code: a worker that another has taken over, while it began, may simply be started again.
    """
    print(f"streamnn: {error}", file=stream)
    taken_over = error.reason == "taken_over" if isinstance(error, CheckpointError) else isinstance(error, FencedError)
    return FAILED if taken_over else WRONG
