"""Environments for libraries that cannot share ours: `python -m tests.benchmarks.quality.environments FOLDER LIBRARY`.

Makes FOLDER/LIBRARY; STREAMNN_PEERS=FOLDER tells the benchmark and its tests where it is. Needs a package index that pip
knows; scikit-multiflow needs Python 3.11 or older, a C++ compiler, and about a minute and 500 MB; CapyMOA needs Java 17.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from pipeline.bench import deep_river

WORKERS = Path(__file__).parent / "workers"
MULTIFLOW = "scikit-multiflow==0.5.3"
# the newest of each that the library runs with: NumPy 1.24 has no np.float, setuptools 60 no numpy.distutils
MULTIFLOW_NEEDS = (
    "setuptools==59.8.0",
    "wheel<0.44",
    "numpy==1.23.5",
    "scipy==1.10.1",
    "scikit-learn==1.2.2",
    "Cython==0.29.37",
    "pandas==1.5.3",
    "matplotlib==3.7.5",
    "sortedcontainers==2.4.0",
)
# torch and the rest are those of this Python, here and for deep-river: the pins of both are narrower than what they run with
CAPYMOA = (
    "capymoa==0.15.1",
    "jpype1==1.7.1",
    "deprecated==1.3.1",
    "wrapt==2.5.2",
    "seaborn==0.13.2",
    "tqdm==4.70.1",
)


def _multiflow(folder: Path) -> None:
    _run(sys.executable, "-m", "venv", str(folder))
    python = str(folder / "bin" / "python")
    pip = (python, "-m", "pip", "-q", "--disable-pip-version-check")
    _run(*pip, "install", *MULTIFLOW_NEEDS)
    with tempfile.TemporaryDirectory() as text:
        _run(*pip, "download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", MULTIFLOW, "-d", text)
        (archive,) = Path(text).glob("*.tar.gz")
        shutil.unpack_archive(archive, text)
        source = archive.with_name(archive.name.removesuffix(".tar.gz"))
        # the C that it ships was generated for an older Python
        _run(python, "-m", "cython", "-3", *map(str, source.glob("src/skmultiflow/metrics/*.pyx")))
        _run(*pip, "install", "--no-build-isolation", "--no-deps", str(source))


def _deep_river(folder: Path) -> None:
    _beside(folder, deep_river.PACKAGES)


def _capymoa(folder: Path) -> None:
    _beside(folder, CAPYMOA)


def _beside(folder: Path, packages: tuple[str, ...]) -> None:
    """Put packages in a folder that this Python looks into first."""
    _run(
        *(sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--no-deps"),
        *("--target", str(folder), *packages),
    )


MAKERS = {"multiflow": _multiflow, "deep_river": _deep_river, "capymoa": _capymoa}


def remedy(library: str) -> str:
    """Return the command that makes what `missing` found missing."""
    return (
        f"python -m tests.benchmarks.quality.environments /tmp/peers {library} && export STREAMNN_PEERS=/tmp/peers"
        "  (any folder will do)"
    )


def missing(library: str) -> str | None:
    """Return why a library's learners cannot run, with the command that helps; None where they can."""
    text = os.environ.get("STREAMNN_PEERS", "")
    if not text:
        return f"STREAMNN_PEERS is not set: it names the folder of {library}'s environment; {remedy(library)}"
    if not (Path(text) / library).is_dir():
        return f"STREAMNN_PEERS={text} has no folder {library}; {remedy(library)}"
    return None


def run_worker(library: str, *words: str) -> str:
    """Run a library's worker in its environment; returns what it printed.

    Raises:
        RuntimeError: there is no such environment, or the worker failed.
    """
    why = missing(library)
    if why:
        raise RuntimeError(why)
    folder = Path(os.environ["STREAMNN_PEERS"]) / library
    own = folder / "bin" / "python"
    python, path = (str(own), "") if own.exists() else (sys.executable, str(folder))
    environ = {**os.environ, "PYTHONPATH": path}
    command = [python, str(WORKERS / f"run_{library}.py"), *words]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{library}'s worker ended with {done.returncode} for {words}:\n{done.stderr[-2000:]}")
    return done.stdout


@cache
def worker_versions(library: str) -> dict[str, str]:
    """Return the versions of what computes there."""
    return json.loads(run_worker(library, "--versions").splitlines()[-1])


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


def main(words: list[str]) -> None:
    """Make one environment."""
    parser = argparse.ArgumentParser(prog="environments", description=__doc__)
    parser.add_argument("folder", type=Path, help="made where it is absent")
    parser.add_argument("library", choices=list(MAKERS))
    space = parser.parse_args(words)
    folder = space.folder.absolute() / space.library
    if folder.exists():
        sys.exit(f"{folder} exists; remove it first to make it anew")
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        MAKERS[space.library](folder)
    except (subprocess.CalledProcessError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(f"{space.library} could not be installed: {error}")
    print(f"export STREAMNN_PEERS={folder.parent}")


if __name__ == "__main__":
    main(sys.argv[1:])
