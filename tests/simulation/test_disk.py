"""The disk in memory keeps what POSIX promises, and loses what it does not, some time."""

import errno
import os
import random

import pytest

from pipeline.checkpoint import CheckpointStore
from tests.simulation.disk import Disk
from tests.simulation.world import World


@pytest.fixture
def disk():
    return Disk(lambda what: None, lambda: None)


def written(disk, path, data, *, synced):
    handle = disk.open(path, os.O_RDWR | os.O_CREAT)
    disk.lseek(handle, len(disk.find(path).data), os.SEEK_SET)
    disk.write(handle, data)
    if synced:
        disk.fsync(handle)
    disk.close(handle)


def sync(disk, folder):
    handle = disk.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    disk.fsync(handle)
    disk.close(handle)


def after_power_cuts(path, prepare):
    """The contents that are seen after many power cuts; None = the file is gone."""
    seen = set()
    for seed in range(200):
        disk = Disk(lambda what: None, lambda: None)
        prepare(disk)
        disk.cut_power(random.Random(seed))
        found = disk.find(disk.path(path))
        seen.add(None if found is None else bytes(found.data))
    return seen


def test_what_is_synced_stays():
    """Bytes and name, after the file and its folder were synced."""

    def prepare(disk):
        written(disk, disk.path("state/a"), b"abc", synced=True)
        sync(disk, disk.path("state"))

    assert after_power_cuts("state/a", prepare) == {b"abc"}


def test_a_name_that_is_not_synced_may_be_lost():
    """Of a new file in a folder that was not synced; its bytes are never torn."""
    assert after_power_cuts("state/a", lambda d: written(d, d.path("state/a"), b"abc", synced=True)) == {None, b"abc"}


def test_bytes_that_are_not_synced_may_be_torn():
    """What was synced before stays; behind it anything from nothing to all is there, perhaps as zeros."""

    def prepare(disk):
        written(disk, disk.path("state/a"), b"abc", synced=True)
        sync(disk, disk.path("state"))
        written(disk, disk.path("state/a"), b"de", synced=False)

    seen = after_power_cuts("state/a", prepare)
    assert {b"abc", b"abcd", b"abcde", b"abcd\0"} <= seen
    assert all(found.startswith(b"abc") for found in seen)


def test_a_rename_is_made_as_a_whole():
    """After a power cut the file has its old name or its new one."""

    def prepare(disk):
        written(disk, disk.path("state/a"), b"abc", synced=True)
        sync(disk, disk.path("state"))
        disk.path("state/a").replace(disk.path("state/b"))

    assert after_power_cuts("state/a", prepare) == {None, b"abc"}
    assert after_power_cuts("state/b", prepare) == {None, b"abc"}


def test_a_full_disk_takes_nothing(disk):
    """Neither bytes nor a new file."""
    written(disk, disk.path("state/a"), b"abc", synced=True)
    disk.full = True
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        written(disk, disk.path("state/a"), b"d", synced=False)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        written(disk, disk.path("state/b"), b"d", synced=False)


def test_the_first_checkpoint_survives_a_power_cut_with_its_folder():
    """The name of a folder that the store made is on disk before a checkpoint is."""
    for seed in range(50):
        world = World(0, [])
        with world.entered():
            folder = world.disk.path("state/deep/checkpoints")
            CheckpointStore(folder).save(1, {"n": 1})
            world.disk.cut_power(random.Random(seed))
            newest = CheckpointStore(folder).latest()
        assert newest is not None
        assert newest.state == {"n": 1}
