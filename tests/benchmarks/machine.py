"""What a table of times says of the machine it was made on."""

import os
import platform
import subprocess
from pathlib import Path

import torch


def describe() -> str:
    """One line: processor, cores, system, versions."""
    name = "processor unknown"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    cc = subprocess.run([os.environ.get("CC", "cc"), "--version"], capture_output=True, text=True, check=False)
    compiler = (cc.stdout.splitlines() or ["no compiler"])[0]
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()},"
        f" torch {torch.__version__}, {compiler}"
    )
