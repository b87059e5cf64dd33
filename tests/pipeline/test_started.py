"""When a process began, as what it writes says: later than the one before, whatever becomes of the clock on the wall."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from connectors.kafka import Delivery, KafkaPredictions, Transaction, delivery, transaction
from connectors.kafka.client import Settled
from connectors.kafka.handled import Traces
from pipeline.checkpoint import CheckpointStore
from tests.pipeline.joined import Loop
from tests.pipeline.test_waits import config, scenario


class Wall:
    """A clock on the wall, in milliseconds; stands in for the module `time`."""

    def __init__(self, now_ms):
        self.now_ms = now_ms

    def time_ns(self):
        return self.now_ms * 1_000_000

    def monotonic(self):
        return 0.0


class Topic:
    """A library whose writers put everything into one list, at once."""

    in_flight = 0

    def __init__(self):
        self.records = []

    def writer(self, *, transactional_id, transaction_timeout_s, wait_s=None):
        return self

    def partitions(self, topic, *, timeout_s):
        return (0,)

    def produce(self, record):
        self.records.append(record)

    def settle(self, timeout_s):
        return Settled((), 0)

    def close(self):
        return ()


@pytest.mark.parametrize("made", [delivery, transaction], ids=["at least once", "transactional"])
def test_a_channel_is_later_than_the_one_before(made, monkeypatch):
    """It began when it was opened, by its clock; or just after the one before, if its clock says less."""
    monkeypatch.setattr(made, "time", Wall(5_000))
    for before_ms, began_ms in ((0, 5_000), (4_999, 5_000), (5_000, 5_001), (9_000, 9_001)):
        channel = (
            Delivery(Topic()) if made is delivery else Transaction(Topic(), source_topic="t", group="g", identity="i")
        )
        channel.open()
        channel.follow(before_ms)
        channel.open()
        assert channel.opened_ms == began_ms


def life(topic, folder, records, blocks, *, keeps=True):
    """Run a process over so many blocks, then kill it; returns how many checkpoints it has taken."""
    with CheckpointStore(folder) as store:
        loop = Loop(records, config(1, 0.0), chunk=5).loop
        channel = Delivery(topic)
        loop.plan = replace(loop.plan, checkpoint_every=10 if keeps else 10**9)
        loop.parts = replace(
            loop.parts, predictions=KafkaPredictions(channel, "out", model="m"), channel=channel, store=store
        )
        loop.open(store.latest())
        left = iter(range(blocks))

        class Killed(BaseException):
            pass

        def stop():
            if next(left, None) is None:
                raise Killed
            return False

        with suppress(Killed):
            loop.run(stop=stop, report=lambda loop: None)
        return loop.written.number


def test_killed_again_and_again_while_the_clock_is_set_back(tmp_path, monkeypatch):
    """Each life counts as later than those before, also than one that was killed before anything of it was kept.

    So the order of all records can be told from what they wrote.
    """
    records = [record for record in scenario(1, 100)[0] if record.value != b"{broken" and b'"y": 7' not in record.value]
    topic, wall = Topic(), Wall(900_000)
    monkeypatch.setattr(delivery, "time", wall)
    for blocks, keeps, later_ms in (
        (4, True, 0),
        (3, False, -400_000),
        (2, False, -1),
        (3, True, 7_000),
        (50, True, -90_000),
    ):
        wall.now_ms += later_ms
        assert life(topic, tmp_path, records, blocks, keeps=keeps) > 0
    traces = Traces()
    began = []
    for record in topic.records:
        told = dict(record.headers)
        number, offset, started = (int(told[f"streamnn-{name}"]) for name in ("record", "offset", "started"))
        traces.add(number, (0, offset), started_ms=started)
        began += [started] if started not in began else []
    assert len(began) == 5
    assert began == sorted(began)
    order = traces.order()
    assert (order.first, order.offset.tolist()) == (0, [record.origin.offset for record in records])
    assert np.unique(order.partition).tolist() == [0]
