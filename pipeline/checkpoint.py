"""A folder of checkpoints: written so that a crash at any moment leaves one that can be loaded.

In: a state and the number of records read when it was taken. Out: the newest intact one, after a restart. One file each,
`checkpoint-000000012345.safetensors` (see `pipeline.archive`), written beside its final name, forced to
disk, renamed, and the folder forced to disk. Only then are older ones removed. Files are readable by
their owner alone: they hold what was learned from people's data.

**Terms.** A lock says that a process still exists, not that it still owns the model: one that was stopped for a while
(SIGSTOP, a frozen machine) keeps its lock, and wakes up in the middle of a write. So where something else says who owns
the model (a transaction that fences the one before) each owner writes in a term of its own:

    begin_term      takes the next number; a file, made exclusively, remembers it
    (fence whoever ran before)
    confirm_term    nobody has begun a later term meanwhile, or this process stops

Names carry the term, `checkpoint-000000012345-7.safetensors`, and the newest checkpoint is the last of the highest term.
Each owner has a higher term than all owners that were fenced before it: their terms were there before their own fences,
so `confirm_term` would have seen a higher one. What a process writes, sets aside or removes is of its own term, or of
an earlier one once `keep` (two or more) of its own are there, at least one of which the others take for the newest too.
So nothing that a fenced process still does to the folder reaches the files of its successor, or the one it began from.
"""

import errno
import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from connectors.disk import NO_SPACE, sync_folder
from pipeline.archive import Checkpoint, CheckpointError, Manifest, decode, encode
from pipeline.faults import CrashPoint, never

__all__ = ["Checkpoint", "CheckpointError", "CheckpointStore", "Manifest", "load", "read"]

_log = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d{12,})(?:-(\d+))?\.safetensors")
_UNFINISHED = re.compile(r"\.(checkpoint-\d{12,}(?:-\d+)?\.safetensors)\.unfinished")
_TERM = re.compile(r"\.term-(\d+)")
_ASIDE = ".aside"
_LOCK = ".lock"
_DAMAGED = frozenset({"damaged", "not_a_checkpoint"})


class CheckpointStore:
    """Checkpoints in one folder, which belongs to one process while it writes.

    Args:
        folder: made if it does not exist (readable by its owner alone).
        keep: newest checkpoints kept. More than one, so that a damaged file is not the end.
        crash_point: called with the name of each step, for tests; see `pipeline.faults`.
        clock: seconds since 1970, for the moment of writing.

    Attributes:
        size_bytes: of the checkpoint saved last; 0 = none yet.

    Raises:
        CheckpointError: "unwritable": the folder cannot be made or opened.
        ValueError: `keep` is below 1.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 3,
        crash_point: CrashPoint = never,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}, expected 1 or more: the newest checkpoint is always kept")
        self.folder, self.keep = Path(folder), keep
        self._crash_point, self._clock = crash_point, clock
        self._lock: int | None = None
        self._term = 0
        self.size_bytes = 0
        with _translated("unwritable", f"cannot open the checkpoint folder {self.folder}"):
            _make(self.folder)
            self._clean()

    def claim(self, *, shared: bool = False) -> None:
        """Make this process the only one that writes here, until `close` or its end. `save` does so too.

        Args:
            shared: let others claim the folder that share it too; terms then say who writes.

        Raises:
            CheckpointError: "in_use": another process has claimed the folder, and does not share it.
        """
        if self._lock is not None:
            return
        with _translated("unwritable", f"cannot lock the checkpoint folder {self.folder}"):
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if not _locked(lock, shared=shared):
                os.close(lock)
                raise CheckpointError(
                    "in_use",
                    f"the checkpoint folder {self.folder} belongs to another process that is running. "
                    "Stop that one, or choose another folder.",
                )
        self._lock, self._term = lock, self._newest_term()

    def begin_term(self) -> None:
        """Begin a term of this process, before others are fenced.

        Raises:
            CheckpointError: "unwritable" or "no_space".
        """
        with _translated("unwritable", f"cannot begin a term in the checkpoint folder {self.folder}"):
            while True:
                term = self._newest_term() + 1
                try:
                    os.close(os.open(self.folder / f".term-{term}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
                except FileExistsError:
                    continue
                break
            sync_folder(self.folder)
        self._term = term

    def confirm_term(self) -> None:
        """Check, after others were fenced, that no later term has begun; `save` does so too.

        Raises:
            CheckpointError: "taken_over": one has.
        """
        if self._newest_term() > self._term:
            raise CheckpointError(
                "taken_over",
                f"another process has taken over the checkpoint folder {self.folder}. This one stops, and saves"
                " nothing more.",
            )

    def go_on_from(self, base: Path) -> None:
        """Set aside the checkpoints of earlier terms that are newer than the one this term begins from."""
        with _translated("unwritable", f"cannot set aside checkpoints in {self.folder}"):
            for path in self.paths():
                if _key(base) < _key(path) < (self._term, 0):
                    _log.warning("checkpoint %s is ahead of %s, where this run begins; set aside", path, base.name)
                    path.replace(path.with_name(path.name + _ASIDE))

    def close(self) -> None:
        """Give the folder up to others."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> "CheckpointStore":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def path(self, number: int) -> Path:
        """Return where the checkpoint of a number is or would be, in the term of this process."""
        term = f"-{self._term}" if self._term else ""
        return self.folder / f"checkpoint-{number:012d}{term}.safetensors"

    def paths(self) -> list[Path]:
        """Return the checkpoints there are, oldest first."""
        return _paths(self.folder)

    def save(self, number: int, state: Mapping[str, Any]) -> Path:
        """Write a checkpoint durably, then remove those that are too old.

        Checkpoints of higher numbers (of a run that this one does not continue) are set aside under
        another name: none of them will be taken for the newest, and none is lost at once.

        Args:
            number: of records read before it, 0 or more. An existing checkpoint of the same number is replaced.
            state: see `pipeline.archive.encode`.

        Returns:
            The file.

        Raises:
            CheckpointError: "in_use", "taken_over", "wrong_state", "no_space" or "unwritable". What was there
                before is untouched.
        """
        if number < 0:
            raise ValueError(f"the number of a checkpoint is {number}, expected 0 or more")
        self.claim()
        data = encode(number, state, created_s=self._clock())
        self.confirm_term()
        final = self.path(number)
        unfinished = self.folder / f".{final.name}.unfinished"
        with _translated("unwritable", f"cannot write the checkpoint {final}"):
            try:
                self._write(unfinished, data)
                self._crash_point("before_rename")
                self._set_aside(number)
                unfinished.replace(final)
                self._crash_point("after_rename")
            except OSError:
                unfinished.unlink(missing_ok=True)
                self.confirm_term()  # a successor may have removed what was unfinished
                raise
            sync_folder(self.folder)
            self._prune()
        self.size_bytes = len(data)
        return final

    def latest(self) -> Checkpoint | None:
        """Return the newest intact checkpoint, None if the folder holds none. Damaged ones are passed over.

        Its name is on disk then, before anything rests on it: who wrote it may have been killed before that.

        Raises:
            CheckpointError: "damaged" if all are; "newer_format" or "unreadable" if the newest cannot be
                judged: to fall back behind those would silently undo work.
        """
        with _translated("unreadable", f"cannot force the checkpoint folder {self.folder} to disk"):
            sync_folder(self.folder)
        return _newest(self.folder)

    def load(self, path: Path) -> Checkpoint:
        """Return the checkpoint in a file; see `load`."""
        return load(path)

    def _write(self, path: Path, data: bytes) -> None:
        self._crash_point("before_write")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            self._crash_point("after_write")
            self._crash_point("before_fsync")
            os.fsync(descriptor)
            self._crash_point("after_fsync")

    def _set_aside(self, number: int) -> None:
        for path in self.paths():
            if (self._term, number) < _key(path) < (self._term + 1, 0):
                _log.warning("checkpoint %s is ahead of record %d, where this run is; set aside", path, number)
                path.replace(path.with_name(path.name + _ASIDE))

    def _prune(self) -> None:
        aside = sorted(self.folder.glob(f"checkpoint-*{_ASIDE}"))
        own = [path for path in self.paths() if _key(path)[0] == self._term]
        old = [*own[: -self.keep], *aside[: -self.keep]]
        if len(own) >= self.keep:
            files = list(self.folder.iterdir())
            halves = [(path, half[1]) for path in files if (half := _UNFINISHED.fullmatch(path.name))]
            old += [path for path in self.paths() if _key(path)[0] < self._term]
            old += [path for path, final in halves if _key(Path(final))[0] < self._term]
            old += [path for path in files if (mark := _TERM.fullmatch(path.name)) and int(mark[1]) < self._term]
        for path in old:
            path.unlink(missing_ok=True)

    def _newest_term(self) -> int:
        """Return the highest term that has begun; 0 = none."""
        with _translated("unreadable", f"cannot list the checkpoint folder {self.folder}"):
            begun = [int(mark[1]) for path in self.folder.iterdir() if (mark := _TERM.fullmatch(path.name))]
        return max([0, *begun, *(_key(path)[0] for path in self.paths())])

    def _clean(self) -> None:
        """Remove what a crash left half written, unless a running process is writing it just now."""
        unfinished = [path for path in self.folder.iterdir() if _UNFINISHED.fullmatch(path.name)]
        if not unfinished:
            return
        try:
            self.claim()
        except CheckpointError as error:
            if error.reason != "in_use":
                raise
            return
        for path in unfinished:
            path.unlink(missing_ok=True)
        self.close()


def load(path: Path) -> Checkpoint:
    """Read one file.

    Raises:
        CheckpointError: "unreadable", "not_a_checkpoint", "damaged" or "newer_format".
    """
    with _translated("unreadable", f"cannot read the checkpoint {path}"):
        data = path.read_bytes()
    return decode(data, str(path))


def read(path: Path) -> Checkpoint:
    """Read a file, or the newest intact checkpoint of a folder, which is left as it is.

    Raises:
        CheckpointError: as `load`; "unreadable" too if there is none.
    """
    if not path.is_dir():
        return load(path)
    newest = _newest(path)
    if newest is None:
        raise CheckpointError("unreadable", f"there is no checkpoint in {path}. Choose another folder or a file.")
    return newest


def _newest(folder: Path) -> Checkpoint | None:
    damaged = []
    for path in reversed(_paths(folder)):
        try:
            return load(path)
        except CheckpointError as error:
            if error.reason not in _DAMAGED:
                raise
            _log.warning("checkpoint passed over: %s", error)
            damaged.append(str(error))
    if damaged:
        raise CheckpointError(
            "damaged",
            f"no checkpoint in {folder} can be used; put back a copy of one, or begin afresh in another "
            "folder:\n  " + "\n  ".join(damaged),
        )
    return None


def _paths(folder: Path) -> list[Path]:
    with _translated("unreadable", f"cannot list the checkpoint folder {folder}"):
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(found, key=_key)


def _key(path: Path) -> tuple[int, int]:
    """Return the term and the event number of a checkpoint: their order is that of the files."""
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match[2] or 0), int(match[1])


def _locked(descriptor: int, *, shared: bool) -> bool:
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EACCES, errno.EAGAIN}:
            return False
        raise
    return True


def _make(folder: Path) -> None:
    """Make a folder whose name is on disk before anything in it matters: a power cut could take it with all it holds."""
    missing = [path for path in folder.parents if not path.exists()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # that of the folder itself also where it is there: who made it may have been killed just after
    with suppress(PermissionError):  # a parent that may not be read is not ours
        for path in [folder, *missing]:
            sync_folder(path.parent)


@contextmanager
def _translated(reason: str, doing: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in NO_SPACE:
            message = f"{doing}: {why}. Make room, or choose a folder on another disk."
            raise CheckpointError("no_space", message) from error
        raise CheckpointError(reason, f"{doing}: {why}. Check the path and its permissions.") from error
