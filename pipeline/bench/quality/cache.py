"""Results on disk: one JSON line a run, found again by everything that could change it."""

import hashlib
import json
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = Path(__file__).parents[3]
OURS = ("connectors", "streamnn", "pipeline")
DECODING = ("connectors", "pipeline/bench/quality")
LIBRARIES = ("river", "torch", "numpy")


@cache
def code_hash(*, ours: bool, more: Path | None = None) -> str:
    """Hash the code that a run depends on: all of our packages, or for other learners the decoding and the harness.

    Args:
        ours: whether the learner is ours.
        more: another folder of code that the run depends on.
    """
    digest = hashlib.sha256()
    folders = [PACKAGES / name for name in sorted({*DECODING, *(OURS if ours else ())})]
    for folder in [*folders, *([more] if more else [])]:
        for path in sorted([*folder.rglob("*.py"), *folder.rglob("*.c")]):
            digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}}


class Cache:
    """Results of runs in `results.jsonl` of a folder.

    Args:
        folder: made where it is absent.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "results.jsonl"
        self._known: dict[str, dict[str, Any]] = {}
        if not self._path.exists():
            return
        text = self._path.read_text()
        if text and not text.endswith("\n"):  # a run was killed while it wrote: that result is made again
            text = text[: text.rfind("\n") + 1]
            self._path.write_text(text)
        for line in text.splitlines():
            entry = json.loads(line)
            self._known[_name(entry["key"])] = entry["result"]

    def get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the result of a key, None if there is none yet."""
        return self._known.get(_name(key))

    def put(self, key: dict[str, Any], result: dict[str, Any]) -> None:
        """Keep a result."""
        with self._path.open("a") as file:
            file.write(json.dumps({"key": key, "result": result}) + "\n")
        self._known[_name(key)] = result


def _name(key: dict[str, Any]) -> str:
    return json.dumps(key, sort_keys=True)
