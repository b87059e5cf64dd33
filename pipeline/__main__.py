"""The console command `streamnn`; see `streamnn --help`."""

import importlib
import logging
import sys
from collections.abc import Sequence

from pipeline.arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    space = parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(ours)
    # brings torch, which takes a second or two: help, the version and a wrong word are told before
    commands = importlib.import_module("pipeline.commands")
    try:
        code: int = commands.COMMANDS[space.command](space)
    except commands.USER_ERRORS as error:
        code = commands.complain(error, sys.stderr)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        code = 1
    return code


def ours(record: logging.LogRecord) -> bool:
    """Tell whether a line of the log is shown: kafka-python tells each of ten attempts a second, with tracebacks."""
    return record.levelno >= logging.CRITICAL or record.name.partition(".")[0] != "kafka"


if __name__ == "__main__":
    sys.exit(main())
