"""A disk that lives in memory and keeps at a power cut only what POSIX promises.

In: the calls of `os` and `pathlib` that the product makes. Out: files. Bytes that were written are there for every
process, but survive a power cut for certain only once their file was synced; a name (made, renamed, removed) only once
its folder was. Of everything else a seeded part survives: a torn prefix of the bytes, any subset of the names.

`DiskPath` stands in for `pathlib.Path`, `Disk` itself for the module `os`, `Locks` for `fcntl`. Killing a process
loses nothing that was written: the kernel has it.
"""

import errno
import fcntl
import os
import random
import stat
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import SimpleNamespace


class File:
    """Bytes, and what of them was synced."""

    def __init__(self):
        self.data = bytearray()
        self.synced = b""
        self.locks = {}  # who has one -> whether it is shared

    @property
    def safe(self):
        """Whether a power cut changes nothing."""
        return self.data == self.synced


class Folder:
    """Names, and which of them were synced."""

    def __init__(self):
        self.names = {}
        self.synced = {}
        self.unsynced = []  # changes since, each a dict name -> entry (None = removed) that is made as a whole


@dataclass
class Handle:
    """An open file of a process."""

    entry: File | Folder
    owner: object
    at: int = 0


class Disk:
    """The module `os`, as far as the product uses it, over files in memory.

    Args:
        step: called with the name of each operation before it is done; may raise what kills the process.
        owner: returns the process that runs.
    """

    O_RDONLY, O_WRONLY, O_RDWR = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
    O_CREAT, O_EXCL, O_TRUNC, O_CLOEXEC, O_DIRECTORY = os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_CLOEXEC, os.O_DIRECTORY
    SEEK_SET = os.SEEK_SET

    def __init__(self, step, owner):
        self._step, self._owner = step, owner
        self.root = Folder()
        self.root.names["state"] = self.root.synced["state"] = Folder()
        self._handles = {}
        self._next = 100
        self.full = False
        self.gone_for = set()  # processes from which the disk was taken away

    def path(self, text):
        """Return a path on this disk."""
        return DiskPath(self, text)

    # --- what stands in for `os` ---

    def open(self, path, flags, mode=0o777):
        """Open or make a file, or open a folder."""
        self.step(f"open {path.name}")
        entry = self.find(path)
        if entry is None:
            if not flags & os.O_CREAT:
                raise _error(errno.ENOENT)
            self._need_room()
            entry = File()
            self.change(path.parent, {path.name: entry})
        elif flags & os.O_EXCL:
            raise _error(errno.EEXIST)
        if flags & os.O_TRUNC:
            entry.data.clear()
        return self._handle(entry)

    def fdopen(self, handle, mode):
        """Return a buffered writer, of which nothing is written before it is flushed."""
        return Buffered(self, handle)

    def write(self, handle, data):
        """Write, perhaps less than was asked for."""
        found = self._at(handle)
        self.step("write")
        self._need_room()
        entry = found.entry
        if found.at > len(entry.data):
            entry.data.extend(bytes(found.at - len(entry.data)))
        entry.data[found.at : found.at + len(data)] = data
        found.at += len(data)
        return len(data)

    def fsync(self, handle):
        """Make a file's bytes, or a folder's names, safe."""
        entry = self._at(handle).entry
        self.step("fsync")
        if isinstance(entry, File):
            entry.synced = bytes(entry.data)
        else:
            entry.synced, entry.unsynced = dict(entry.names), []

    def close(self, handle):
        """Close, and give up a lock."""
        found = self._at(handle)
        del self._handles[handle]
        if isinstance(found.entry, File):
            found.entry.locks.pop(found.owner, None)

    def fstat(self, handle):
        """Return kind and size."""
        entry = self._at(handle).entry
        return SimpleNamespace(st_mode=stat.S_IFREG, st_size=len(entry.data))

    def ftruncate(self, handle, length):
        """Cut a file, which is not safe before it is synced."""
        self.step("truncate")
        del self._at(handle).entry.data[length:]

    def lseek(self, handle, at, whence):
        """Go to a place."""
        assert whence == os.SEEK_SET
        self._at(handle).at = at

    # --- below the paths ---

    def step(self, what):
        """Pass the world's hook; then refuse where the disk was taken away."""
        self._step("disk " + what)
        if self._owner() in self.gone_for:
            raise _error(errno.EIO)

    def find(self, path):
        """Return the file or folder of a path, None if there is none."""
        entry = self.root
        for part in path.parts:
            if not isinstance(entry, Folder) or part not in entry.names:
                return None
            entry = entry.names[part]
        return entry

    def folder(self, path):
        """Return a folder."""
        found = self.find(path)
        if not isinstance(found, Folder):
            raise _error(errno.ENOENT)
        return found

    def change(self, path, names):
        """Change names of a folder, all of them or none."""
        folder = self.folder(path)
        folder.unsynced.append(names)
        _apply(folder.names, names)

    def lock(self, handle, owner, *, shared=False):
        """Lock a file for a process, or share the lock with others; returns whether it is its own now."""
        locks = self._at(handle).entry.locks
        if not all(shared and other_shared for other, other_shared in locks.items() if other is not owner):
            return False
        locks[owner] = shared
        return True

    # --- what the world does to it ---

    def end_of(self, owner):
        """Close everything that a process had open: it is dead."""
        self.release(owner)
        self._handles = {h: found for h, found in self._handles.items() if found.owner is not owner}

    def release(self, owner):
        """Lose the locks of a process, as a network file system does with a machine that it no longer hears."""
        for found in self._handles.values():
            if found.owner is owner and isinstance(found.entry, File):
                found.entry.locks.pop(owner, None)

    def cut_power(self, rng: random.Random):
        """Keep what is safe, and a seeded part of the rest."""
        self._handles.clear()
        _settle(self.root, rng)

    def after_a_power_cut(self, path):
        """Return what a file in a synced folder may hold if the power were cut now: bytes, None = it may be gone."""
        folder, name = self.folder(path.parent), path.name
        entries = [folder.synced.get(name), *(names[name] for names in folder.unsynced if name in names)]
        if self._may_vanish(path.parent):
            entries.append(None)
        return [bytes(entry.data) if entry is not None and entry.safe else None for entry in entries]

    def _may_vanish(self, path):
        """Tell whether the name of a folder is not safe."""
        entry = self.root
        for part in path.parts:
            if entry.synced.get(part) is not entry.names[part]:
                return True
            entry = entry.names[part]
        return False

    def _handle(self, entry):
        self._next += 1
        self._handles[self._next] = Handle(entry, self._owner())
        return self._next

    def _at(self, handle):
        if handle not in self._handles:  # the process is dead, and unwinds
            self._step("a closed file is used")
        return self._handles[handle]

    def _need_room(self):
        if self.full:
            raise _error(errno.ENOSPC)


class Buffered:
    """What `os.fdopen(handle, "wb")` returns."""

    def __init__(self, disk, handle):
        self._disk, self._fd, self._waiting = disk, handle, bytearray()

    def write(self, data):
        """Keep bytes in the process's memory."""
        self._waiting += data

    def flush(self):
        """Give them to the kernel."""
        data, self._waiting = bytes(self._waiting), bytearray()
        half = len(data) // 2
        for part in (data[:half], data[half:]):
            self._disk.write(self._fd, part)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, at):
        if kind is None:
            self.flush() if self._waiting else None
        if kind is None or issubclass(kind, Exception):  # a process that was killed closes nothing itself
            self._disk.close(self._fd)


class Locks:
    """The module `fcntl`, as far as the product uses it."""

    LOCK_EX, LOCK_SH, LOCK_NB = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB

    def __init__(self, disk, owner):
        self._disk, self._owner = disk, owner

    def lockf(self, handle, how):
        """Lock, or say that another process has it."""
        if not self._disk.lock(handle, self._owner(), shared=bool(how & self.LOCK_SH)):
            raise _error(errno.EAGAIN)


class DiskPath:
    """A path on a `Disk`: what the product uses of `pathlib.Path`."""

    def __init__(self, disk, text):
        self._disk = disk
        self.parts = tuple(part for part in str(text).split("/") if part)

    def __str__(self):
        return "/" + "/".join(self.parts)

    def __truediv__(self, name):
        return DiskPath(self._disk, f"{self}/{name}")

    @property
    def name(self):
        """The last part."""
        return self.parts[-1]

    @property
    def suffix(self):
        """From the last point of the name on."""
        return os.path.splitext(self.name)[1]  # noqa: PTH122

    @property
    def parent(self):
        """The folder it is in."""
        return DiskPath(self._disk, "/".join(self.parts[:-1]))

    @property
    def parents(self):
        """The folders it is in, the nearest first."""
        return [DiskPath(self._disk, "/".join(self.parts[:n])) for n in range(len(self.parts) - 1, -1, -1)]

    def with_name(self, name):
        """Return another path in the same folder."""
        return self.parent / name

    def exists(self):
        """Whether it is there."""
        return self._disk.find(self) is not None

    def is_dir(self):
        """Whether it is a folder."""
        return isinstance(self._disk.find(self), Folder)

    def is_char_device(self):
        """There are none."""
        return False

    def mkdir(self, mode=0o777, *, parents=False, exist_ok=False):
        """Make a folder, with those it lies in."""
        if self.is_dir():
            if not exist_ok:
                raise _error(errno.EEXIST)
            return
        if not self.parent.is_dir():
            if not parents:
                raise _error(errno.ENOENT)
            self.parent.mkdir(parents=True, exist_ok=True)
        self._disk.step(f"mkdir {self.name}")
        if self.is_dir():  # another process was faster
            if not exist_ok:
                raise _error(errno.EEXIST)
            return
        self._disk.change(self.parent, {self.name: Folder()})

    def iterdir(self):
        """Return what is in the folder."""
        return [self / name for name in sorted(self._disk.folder(self).names)]

    def glob(self, pattern):
        """Return what is in the folder and has such a name."""
        return [path for path in self.iterdir() if fnmatchcase(path.name, pattern)]

    def read_bytes(self):
        """Return what is in the file."""
        self._disk.step(f"read {self.name}")
        entry = self._disk.find(self)
        if entry is None:
            raise _error(errno.ENOENT)
        return bytes(entry.data)

    def replace(self, target):
        """Rename, within a folder."""
        self._disk.step(f"rename {self.name} {target.name}")
        assert self.parent.parts == target.parent.parts
        entry = self._disk.find(self)
        if entry is None:
            raise _error(errno.ENOENT)
        self._disk.change(self.parent, {self.name: None, target.name: entry})

    def unlink(self, *, missing_ok=False):
        """Remove."""
        self._disk.step(f"unlink {self.name}")
        if self.exists():
            self._disk.change(self.parent, {self.name: None})
        elif not missing_ok:
            raise _error(errno.ENOENT)

    def __lt__(self, other):
        return self.parts < other.parts


def _apply(names, change):
    for name, entry in change.items():
        if entry is None:
            names.pop(name, None)
        else:
            names[name] = entry


def _settle(entry, rng):
    """Lose a seeded part of what was not synced, in a folder and all below it."""
    if isinstance(entry, File):
        entry.locks.clear()
        if not entry.safe:
            whole, kept = bytes(entry.data), entry.synced
            differ = (i for i, (a, b) in enumerate(zip(whole, kept, strict=False)) if a != b)
            safe = next(differ, min(len(whole), len(kept)))
            torn = whole[: rng.randrange(safe, len(whole) + 1)]
            torn += bytes(rng.randrange(len(whole) - len(torn) + 1))  # room that was allotted and never filled
            entry.data = bytearray(rng.choice([whole, kept, torn]))
        entry.synced = bytes(entry.data)
        return
    names = dict(entry.synced)
    keep = rng.choice([0.0, 0.5, 1.0])
    for change in entry.unsynced:
        if rng.random() < keep:
            _apply(names, change)
    entry.names, entry.synced, entry.unsynced = names, dict(names), []
    for below in names.values():
        _settle(below, rng)


def _error(number):
    return OSError(number, os.strerror(number))
