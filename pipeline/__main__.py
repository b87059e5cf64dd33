"""The console command `streamnn`; see `streamnn --help`."""

import logging
import sys
from collections.abc import Sequence

from pipeline.arguments import parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; returns the exit code."""
    space = parser().parse_args(argv)
    # torch takes a second or two: help, the version and a wrong word are told before
    from pipeline.commands import COMMANDS, USER_ERRORS, complain

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return COMMANDS[space.command](space)
    except USER_ERRORS as error:
        return complain(error, sys.stderr)
    except BrokenPipeError:  # the reader of our output has gone, as `| head` does
        sys.stderr.close()
        return 1


if __name__ == "__main__":
    sys.exit(main())
