"""What a table of times says of the machine it was made on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

from streamnn.native.build import CompilerError, find_compiler


def describe() -> str:
    """One line: `hardware`, and `software`."""
    return f"{hardware()}, {software()}"


def hardware() -> str:
    """Processor, cores, load at the moment, system."""
    name = "processor unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), {platform.system()}"


def software() -> str:
    """Versions of what computes."""
    try:
        compiler = find_compiler(os.environ.get("CC")).version
    except CompilerError:
        compiler = "no compiler"
    return f"Python {platform.python_version()}, torch {version('torch')}, river {version('river')}, {compiler}"
