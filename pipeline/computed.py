"""By what a model is computed: whatever the last bits of its results depend on, besides the versions of libraries.

Checkpoints say it, so that a run that goes on by other means is told.
"""

import os
import shlex
import sys
from collections.abc import Mapping
from functools import cache

from streamnn.native.build import CompilerError, find_compiler, processor

NAMED = ("model name", "CPU part")  # in what the system tells of a processor; the rest of it are flags


def computed_by(engine: str, device: str) -> dict[str, str]:
    """Return engine, device, compiler, processor and the processor's flags; empty where there is none.

    Args:
        engine: that the model would run with; native is eager in truth where there is no compiler.
        device: as the model names it.
    """
    compiler = _compiler(os.environ.get("CC")) if engine == "native" else ""
    name, flags = _processor()
    return {
        "engine": "eager" if engine == "native" and not compiler else engine,
        "device": device,
        "compiler": compiler,
        "processor": name,
        "flags": flags,
    }


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Say what differs between two answers of `computed_by`, a line each; what the first does not tell is left out."""
    lines = []
    for key, value in now.items():
        if key == "flags":  # a hundred, of which most are the same
            had, has = set(before.get(key, value).split()), set(value.split())
            if had != has:
                lines.append(f"flags: {_listed(had - has)} only in the checkpoint, {_listed(has - had)} only now")
        elif before.get(key, value) != value:
            lines.append(f"{key}: {before[key] or 'none'} in the checkpoint, {value or 'none'} now")
    return lines


def _compiler(named: str | None) -> str:
    """Name the compiler as the cache of compiled steps does: what it says of itself, and the command."""
    try:
        found = find_compiler(named)
    except CompilerError:
        return ""
    command = ["python" if word == sys.executable else word for word in found.command]
    return f"{found.version} ({shlex.join(command)})"


@cache
def _processor() -> tuple[str, str]:
    """Return machine and model, and the flags."""
    machine, *lines = processor().splitlines()
    told = [(key.strip(), value.strip()) for key, _, value in (line.partition(":") for line in lines)]
    names = [value for key, value in told if key in NAMED]
    return ", ".join([machine, *names]), " ".join(value for key, value in told if key not in NAMED)


def _listed(flags: set[str]) -> str:
    return " ".join(sorted(flags)) or "none"
