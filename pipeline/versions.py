"""Versions of this program and of the libraries that a model's state passes through."""

import platform
from importlib.metadata import PackageNotFoundError, version


def program() -> str:
    """Return the version of streamnn, "source" when it runs from a checkout that is not installed."""
    try:
        return version("streamnn")
    except PackageNotFoundError:
        return "source"


def versions() -> dict[str, str]:
    """Return name -> version of everything that shapes a state or its file."""
    return {
        "streamnn": program(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "numpy", "safetensors")},
    }
