"""Which checkpoint a run goes on from, where some are damaged: the one that it has to, or none."""

import logging

import pytest

from pipeline.assembly import _store
from pipeline.checkpoint import CheckpointError, CheckpointStore
from pipeline.config import CheckpointSettings, Config
from pipeline.faults import never


class Committed:
    """Positions that name a checkpoint."""

    due = False

    def __init__(self, name):
        self._name = name

    def last_checkpoint(self):
        return self._name

    def commit(self, checkpoint, source_state):
        raise AssertionError("nothing is committed at the start")


@pytest.fixture
def kept(tmp_path):
    """Three checkpoints of one run, oldest first."""
    with CheckpointStore(tmp_path / "ck") as store:
        return [store.save(number, {"n": number}) for number in (10, 20, 30)]


def begun(kept, commits):
    """The number of the checkpoint that a start goes on from."""
    config = Config(checkpoint=CheckpointSettings(folder=str(kept[0].parent), resume=True))
    store, found = _store(config, never, commits)
    store.close()
    return found.number


def harm(path, at):
    """Change a byte of a file, or cut it off there."""
    data = bytearray(path.read_bytes())
    if at is None:
        data = data[: len(data) // 2]
    else:
        data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, -1, None], ids=["its beginning", "its end", "cut off"])
@pytest.mark.parametrize("named", [1, 2])
def test_the_one_that_is_committed_or_none(kept, named, at):
    """A damaged one that committed positions name stops the start, though others are whole.

    Readers have seen what was committed with it. The message says what to do; nothing in the folder is touched, and a copy
    helps.
    """
    whole = kept[named].read_bytes()
    harm(kept[named], at)
    for _ in range(2):
        with pytest.raises(CheckpointError) as caught:
            begun(kept, Committed(kept[named].name))
        assert caught.value.reason in {"damaged", "not_a_checkpoint"}
        told = str(caught.value)
        assert f"belong to checkpoint {kept[named].name}, which cannot be used" in told
        assert "Put back a copy of it; or begin afresh with another folder" in told
    assert sorted(kept[0].parent.glob("checkpoint-*")) == kept
    kept[named].write_bytes(whole)
    assert begun(kept, Committed(kept[named].name)) == (20, 30)[named - 1]


def test_one_that_nothing_names_does_no_harm(kept):
    """What positions do not name is not read."""
    for path in (kept[0], kept[2]):
        harm(path, -1)
    assert begun(kept, Committed(kept[1].name)) == 20


def test_damaged_and_nothing_committed(kept):
    """Positions that are not there are no reason to begin afresh beside checkpoints that cannot be read."""
    harm(kept[2], -1)
    with pytest.raises(CheckpointError, match=kept[2].stem):
        begun(kept, Committed(None))


def test_without_transactions_the_newest_that_is_whole(kept, caplog):
    """Model and positions lie in one file, so an earlier one goes on from where it stands; without any there is no start."""
    harm(kept[2], -1)
    with caplog.at_level(logging.WARNING):
        assert begun(kept, None) == 20
    assert f"passed over: {kept[2]}" in caplog.text
    for path in kept[:2]:
        harm(path, 0)
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be used; put back a copy of one") as caught:
        begun(kept, None)
    assert all(path.name in str(caught.value) for path in kept)
