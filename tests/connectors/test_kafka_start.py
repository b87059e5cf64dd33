"""A cluster that is just coming up answers some questions long before others: at the start they are asked again."""

import pytest

from connectors.errors import SinkError, SourceError
from connectors.json_records import JsonCodec
from connectors.kafka import Delivery, KafkaReading, KafkaSource
from connectors.kafka.client import LogError, Partition
from connectors.schema import Schema


class StartingUp:
    """A cluster of one topic whose answers to one question fail so often, then come; also its reader and writer."""

    def __init__(self, question, times, fault="unreachable"):
        self.question, self.left, self.fault = question, times, fault
        self.opened = self.closed = 0

    def _asked(self, question):
        if question == self.question and self.left:
            self.left -= 1
            raise LogError(self.fault, "simulated: no answer")

    def reader(self, *, group, committed_only, wait_s=None):
        self._asked("reader")
        self.opened += 1
        return self

    def writer(self, *, transactional_id, transaction_timeout_s, wait_s=None):
        self._asked("writer")
        self.opened += 1
        return self

    def partitions(self, topic, *, timeout_s):
        self._asked("partitions")
        return (0, 1)

    def topic_id(self, topic):
        return "id"

    def begin(self, partitions, *, timeout_s):
        self._asked("begin")
        return dict.fromkeys(partitions, 3)

    def end(self, partitions, *, timeout_s):
        self._asked("end")
        return dict.fromkeys(partitions, 7)

    def assign(self, positions):
        self.assigned = dict(positions)

    def position(self, partition):
        return self.assigned[partition]

    def close(self):
        self.closed += 1
        return ()


@pytest.fixture(autouse=True)
def hours(monkeypatch):
    """Pauses take no time, and the clock goes on by them."""
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    monkeypatch.setattr("connectors.kafka.client.time.sleep", sleep)
    monkeypatch.setattr("connectors.kafka.client.time.monotonic", lambda: now[0])


def source(cluster, wait_s):
    """A source of that topic."""
    reading = KafkaReading(topic="t", group="g", until="end")
    return KafkaSource(reading, cluster, JsonCodec(Schema()), start_wait_s=wait_s)


@pytest.mark.parametrize("question", ["reader", "partitions", "begin", "end"])
def test_a_source_begins_when_the_cluster_has_come_up(question):
    """It begins where it would have, and closes the clients that it had in vain."""
    cluster = StartingUp(question, 3)
    opened = source(cluster, 10.0)
    opened.open(0, None)
    assert cluster.assigned == {Partition("t", 0): 3, Partition("t", 1): 3}
    assert cluster.opened - cluster.closed == 1
    assert opened.ends == dict.fromkeys(cluster.assigned, 7)
    assert opened.statistics.lost_records == 0


@pytest.mark.parametrize("question", ["writer", "partitions"])
def test_a_channel_opens_when_the_cluster_has_come_up(question):
    """So does what is written to."""
    channel = Delivery(StartingUp(question, 3), start_wait_s=10.0)
    channel.open()
    assert channel.partitions("t") == 2


@pytest.mark.parametrize(("fault", "left"), [("unreachable", 49), ("refused", 99)])
def test_there_is_an_end_to_it(fault, left):
    """The wait is as long as was asked for, and what will not change is told at once."""
    cluster = StartingUp("begin", 100, fault)
    with pytest.raises(SourceError, match="simulated: no answer"):
        source(cluster, 10.0).open(0, None)
    assert cluster.left == pytest.approx(left, abs=1)
    assert cluster.opened == cluster.closed
    cluster = StartingUp("writer", 100, fault)
    with pytest.raises(SinkError, match="simulated: no answer"):
        Delivery(cluster, start_wait_s=10.0).open()
    assert cluster.left == pytest.approx(left, abs=1)
