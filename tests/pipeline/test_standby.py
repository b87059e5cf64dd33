"""A worker's turn: kept while the model runs, and while it waits for an output."""

import argparse

import pytest

from connectors import SinkError
from pipeline import commands, standby
from pipeline.config import Config
from pipeline.server import Health


class Place:
    """A lease that is held or not; knows when it was asked."""

    def __init__(self, clock):
        self.clock, self.mine, self.asked = clock, True, []

    def held(self, timeout_s=0.0):
        self.asked.append(self.clock())
        if self.mine is None:
            raise SinkError("the cluster refuses")
        return self.mine


class Term:
    """A folder of checkpoints, of which is asked whether its term is over."""

    asked = 0

    def confirm_term(self):
        self.asked += 1


@pytest.fixture
def made(monkeypatch):
    """A turn, its lease, and the seconds that it goes by."""
    now = [0.0]
    place = Place(lambda: now[0])
    monkeypatch.setattr(standby, "lease", lambda config: place)
    return standby.Turn(Config(), Health(), None, clock=lambda: now[0]), place, now


def test_a_turn_is_kept_while_an_output_is_waited_for(made):
    """However long no block is finished, the group hears of this worker twice a second."""
    turn, place, now = made
    for now[0] in range(120):
        turn.beat()
    assert max(after - before for before, after in zip(place.asked, place.asked[1:], strict=False)) <= 1


def test_a_turn_that_was_lost_is_looked_into_once_the_output_takes_something(made):
    """While an output is waited for nothing is done about it; then the folder says whether another has begun."""
    turn, place, now = made
    store, place.mine, now[0] = Term(), False, 10.0
    turn.beat()
    assert store.asked == 0
    now[0] += standby.CHECK_S
    turn.check(store)
    assert store.asked == 1
    place.mine = None
    now[0] += standby.CHECK_S
    with pytest.raises(SinkError, match="refuses"):
        turn.beat()


def test_what_waits_for_an_output_keeps_the_turn(tmp_path, monkeypatch):
    """A run with standby hands its parts what keeps the lease."""
    place, waiting = Place(lambda: 0.0), []

    def prepare(config, waits):
        waiting.append(waits)
        raise SinkError("far enough")

    monkeypatch.setattr(standby, "lease", lambda config: place)
    monkeypatch.setattr(standby, "CHECK_S", 0.0)
    monkeypatch.setattr(commands, "prepare", prepare)
    (tmp_path / "run.toml").write_text(
        '[stream]\nsource = "kafka:t"\n[kafka]\ndelivery = "transactional"\nstandby = true\n'
    )
    with pytest.raises(SinkError, match="far enough"):
        commands.run(argparse.Namespace(config=tmp_path / "run.toml", set=[], quiet=True))
    waiting[0]()
    assert len(place.asked) == 1
