"""Where the broker's jars come from, and whether they are what they should be.

In: the environment. Out: the paths of the jars listed in `SHA256SUMS` beside this file, each with the right
sum. They are looked for in the folder that KAFKA_LIBS names, else in the user's cache, else fetched into it
by Maven with `pom.xml`. Only jars that are listed come on the class path: what else lies in the folder is
never run.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

VERSION = "4.1.1"
VARIABLE = "KAFKA_LIBS"
_HERE = Path(__file__).parent
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_FETCH_LIMIT_S = 900
_JAVA = 17


class JarError(Exception):
    """Java, Maven or the jars are missing, or the jars are not the recorded ones."""


def checksums() -> dict[str, str]:
    """Return jar name -> recorded SHA-256 sum."""
    lines = (_HERE / "SHA256SUMS").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if line.strip())}


def find_jars(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the jars of the broker, fetched if need be, every one of them checked.

    Raises:
        JarError: a jar is missing or has the wrong sum, or they cannot be fetched.
    """
    given = environ.get(VARIABLE, "")
    if given:
        return checked(Path(given), f"the folder that {VARIABLE} names")
    cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamnn" / f"kafka-{VERSION}"
    if not cache.is_dir():
        _fetch(cache)
    return checked(cache, "the cache; delete it to fetch the jars again")


def checked(folder: Path, what: str) -> list[Path]:
    """Return the listed jars of a folder, in the order of their names.

    Raises:
        JarError: one is missing or is not the recorded one.
    """
    wanted = checksums()
    missing = sorted(name for name in wanted if not (folder / name).is_file())
    if missing:
        raise JarError(
            f"{folder} ({what}) lacks {len(missing)} of the {len(wanted)} jars of Kafka {VERSION}, "
            f"such as {missing[0]}. "
            f"Point {VARIABLE} at a folder that holds them, or unset it to have Maven fetch them."
        )
    for name, digest in wanted.items():
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest:
            raise JarError(
                f"{folder / name} has the SHA-256 sum {found}, expected {digest}: it is damaged, or another "
                f"version, and is not run. Replace the jars of {what}."
            )
    return [folder / name for name in sorted(wanted)]


def find_java() -> str:
    """Return the path of a Java that can run the broker.

    Raises:
        JarError: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME", "")
    java = shutil.which(str(Path(home) / "bin" / "java")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise JarError(
            f"Kafka {VERSION} needs Java {_JAVA} or later, and no java is on the PATH. "
            "Install one (Debian: apt-get install openjdk-17-jre-headless) or use an existing broker."
        )
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)  # noqa: S603
    found = re.search(r'version "(\d+)', said.stderr)
    if found is None or int(found[1]) < _JAVA:
        version = found[1] if found else said.stderr.strip() or "nothing"
        raise JarError(f"Kafka {VERSION} needs Java {_JAVA} or later; {java} says its version is {version}.")
    return java


def _fetch(cache: Path) -> None:
    """Have Maven copy the jars into the cache: into a folder beside it, renamed when all are right."""
    maven = shutil.which("mvn")
    if maven is None:
        raise JarError(
            f"the jars of Kafka {VERSION} are not here and Maven (mvn) is not on the PATH to fetch them. "
            f"Install Maven, or point {VARIABLE} at a folder that holds the jars."
        )
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix=".kafka-") as scratch:
        folder = Path(scratch) / "jars"
        command = [maven, "-q", "-B", "-f", str(_HERE / "pom.xml"), _COPY, f"-DoutputDirectory={folder}"]
        try:
            done = subprocess.run(  # noqa: S603
                command, capture_output=True, text=True, check=False, timeout=_FETCH_LIMIT_S, cwd=scratch
            )
        except subprocess.TimeoutExpired as error:
            raise JarError(
                f"Maven did not fetch the jars of Kafka {VERSION} in {_FETCH_LIMIT_S} s. Check the network, "
                f"or point {VARIABLE} at a folder that holds them."
            ) from error
        if done.returncode:
            said = next((line for line in done.stdout.splitlines() if "ERROR" in line), done.stderr.strip())
            raise JarError(
                f"Maven could not fetch the jars of Kafka {VERSION}: {said.strip()[:500]} "
                f"Check the network, or point {VARIABLE} at a folder that holds them."
            )
        checked(folder, "what Maven fetched")
        folder.rename(cache)
