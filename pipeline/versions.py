"""Versions of this program and of the libraries that a model's state passes through."""

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def program() -> str:
    """Return the version of streamnn, "source" when it runs from a checkout that is not installed."""
    try:
        return version("streamnn")
    except PackageNotFoundError:
        return "source"


def versions() -> dict[str, str]:
    """Return name -> version of everything that shapes a state or its file."""
    return {"streamnn": program(), "python": platform.python_version(), **_libraries()}


@cache
def _libraries() -> dict[str, str]:
    # looked up once: it reads files for milliseconds, and every checkpoint asks
    return {name: version(name) for name in ("torch", "numpy", "safetensors")}
