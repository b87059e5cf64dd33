"""A broker that stops, is killed, freezes or refuses, and what becomes of what is read and written meanwhile."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SinkError, SourceError
from connectors.json_records import JsonCodec
from connectors.kafka import Delivery, KafkaReading, KafkaSource, Transaction
from connectors.kafka.client import Library, LogError, Outgoing, Partition
from connectors.records import Record
from connectors.schema import Schema
from deploy.kafka import Broker
from tests.integration import helpers


@pytest.fixture(params=helpers.CLIENTS)
def client(request: pytest.FixtureRequest, up: Broker) -> Library:
    """Each of the two libraries, on the broker that may be killed."""
    return helpers.library(request.param, up.bootstrap)


def later(wait_s: float, what: Callable[[], Any]) -> threading.Thread:
    """Do something after a while, beside the test."""

    def work() -> None:
        time.sleep(wait_s)
        what()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def take_away(broker: Broker, how: str) -> Callable[[], None]:
    """Take the broker away; what is returned brings it back."""
    if how == "pause":
        broker.pause()
        return broker.resume
    (broker.kill if how == "kill" else broker.stop)()
    return broker.start


def bounce(broker: Broker, how: str, away_s: float) -> threading.Thread:
    """Take the broker away now, and bring it back after a while."""
    return later(away_s, take_away(broker, how))


def source(library: Library, topic: str, **reading: Any) -> KafkaSource:
    """Open a source from the beginning of a topic."""
    opened = KafkaSource(
        KafkaReading(topic=topic, group=helpers.fresh("group"), **({"look_s": 0.5} | reading)),
        library,
        JsonCodec(Schema()),
    )
    opened.open(0, None)
    return opened


def numbers(records: list[Record]) -> list[int]:
    """Return the numbers that the values are."""
    return sorted(int(record.value or b"") for record in records)


def fill(library: Library, topic: str, first: int, count: int) -> None:
    """Write events with ascending numbers and timestamps."""
    writer = library.writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.fill(writer, topic, [(0, 1_000 + n, b'{"n": %d}' % n) for n in range(first, first + count)])
    writer.close()


def read(opened: KafkaSource, count: int, limit_s: float = 180.0) -> list[float]:
    """Poll until `count` events have come."""
    found: list[float] = []
    deadline = time.monotonic() + limit_s
    while len(found) < count:
        assert time.monotonic() < deadline, f"{len(found)} of {count} events within {limit_s} s"
        chunk = opened.poll(min(100, count - len(found)))
        assert chunk is not None
        if len(chunk):
            found += chunk.columns["n"].tolist()
    return found


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["stop", "kill", "pause"])
def test_reading_goes_on_where_it_was(how: str, client: Library, up: Broker) -> None:
    """While the broker is away nothing comes, and nothing is raised; when it is back every record comes once."""
    topic = helpers.topic(up.bootstrap)
    fill(client, topic, 0, 500)
    opened = source(client, topic)
    assert read(opened, 300) == list(range(300))
    bring_back = take_away(up, how)
    found: list[float] = []

    def unreachable() -> bool:
        chunk = opened.poll(10)
        assert chunk is not None
        found.extend(chunk.columns["n"].tolist() if len(chunk) else [])
        return opened.statistics.unreachable_s > 0

    try:
        helpers.until(unreachable, 120.0)
    finally:
        bring_back()
    fill(client, topic, 500, 500)
    found += read(opened, 700 - len(found))  # up to 200 had been read ahead
    assert found == list(range(300, 1_000))
    helpers.until(lambda: opened.poll(10) is not None and opened.statistics.unreachable_s == 0, 120.0)
    opened.close()


@pytest.mark.heavy
def test_a_source_gives_up_if_told_to(up: Broker) -> None:
    """With give_up_s a broker that stays away ends in an error that names the setting."""
    library = helpers.library("kafka-python", up.bootstrap)
    topic = helpers.topic(up.bootstrap)
    opened = KafkaSource(KafkaReading(topic=topic, group="g", look_s=0.5), library, JsonCodec(Schema()), give_up_s=2.0)
    opened.open(0, None)
    up.stop()
    with pytest.raises(SourceError, match="give_up_s"):
        read(opened, 1)
    opened.close()


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["stop", "kill", "pause"])
def test_delivery_loses_nothing(how: str, client: Library, up: Broker) -> None:
    """Records written before, while and after the broker is away are all there after the flush."""
    topic = helpers.topic(up.bootstrap, 2)
    channel = Delivery(client, in_flight=1_000)
    channel.open()
    for n in range(500):
        channel.write(Outgoing(topic, b"%d" % n))
    back = bounce(up, how, 6.0)
    for n in range(500, 2_500):
        channel.write(Outgoing(topic, b"%d" % n))
    channel.flush()
    back.join()
    channel.close()
    found = numbers(helpers.everything(client, topic))
    assert sorted(set(found)) == list(range(2_500))
    assert len(found) - 2_500 <= channel.repeats


@pytest.mark.heavy
@pytest.mark.parametrize("how", ["stop", "kill", "pause"])
@pytest.mark.parametrize("when", ["writing", "committing"])
def test_a_transaction_is_exactly_once(how: str, when: str, client: Library, up: Broker) -> None:
    """However the broker goes away in the middle of transactions, each record is committed once, in order."""
    topic, origin, identity = helpers.topic(up.bootstrap), helpers.topic(up.bootstrap), helpers.fresh("id")
    mine = Transaction(client, source_topic=origin, group=identity, identity=identity)
    assert mine.last_checkpoint() is None
    back: list[threading.Thread] = []
    for block in range(10):
        for n in range(50):
            if block == 5 and n == 25 and when == "writing":
                back.append(bounce(up, how, 5.0))
            mine.write(Outgoing(topic, b"%d" % (50 * block + n), partition=0))
        if block == 5 and when == "committing":
            back.append(later(0.0, lambda: back.append(bounce(up, how, 5.0))))
        mine.commit(str(50 * block + 50), {"topic": origin, "positions": [[0, 50 * block + 50]]})
    for thread in back:
        thread.join()
    mine.close()
    assert not mine.fenced
    assert [int(r.value or b"") for r in helpers.everything(client, topic)] == list(range(500))
    successor = Transaction(client, source_topic=origin, group=identity, identity=identity)
    assert successor.last_checkpoint() == "500"
    successor.close()


def test_a_killed_broker_and_a_transaction(up: Broker) -> None:
    """After a kill -9 of the broker in the middle of a transaction each record is committed once, soon after."""
    client = helpers.library("kafka-python", up.bootstrap)
    topic, origin, identity = helpers.topic(up.bootstrap), helpers.topic(up.bootstrap), helpers.fresh("id")
    mine = Transaction(client, source_topic=origin, group=identity, identity=identity)
    assert mine.last_checkpoint() is None
    for n in range(100):
        mine.write(Outgoing(topic, b"%d" % n, partition=0))
    mine.flush()
    back = bounce(up, "kill", 0.0)
    for n in range(100, 200):
        mine.write(Outgoing(topic, b"%d" % n, partition=0))
    mine.commit("200", {"topic": origin, "positions": [[0, 200]]})
    back.join()
    mine.close()
    assert [int(r.value or b"") for r in helpers.everything(client, topic)] == list(range(200))


@pytest.mark.heavy
def test_a_process_that_is_to_stop_does_not_wait_for_ever(up: Broker) -> None:
    """A flush gives up some seconds after the process was told to stop, and can be tried again later."""
    client = helpers.library("kafka-python", up.bootstrap)
    topic = helpers.topic(up.bootstrap)
    stop = threading.Event()
    channel = Delivery(client, stopping=stop.is_set)
    channel.open()
    channel.write(Outgoing(topic, b"0"))
    channel.flush()
    up.pause()
    channel.write(Outgoing(topic, b"1"))
    stop.set()
    with pytest.raises(SinkError, match="the process is to stop"):
        channel.flush()
    up.resume()
    channel.flush()
    channel.close()
    assert sorted(set(numbers(helpers.everything(client, topic)))) == [0, 1]


def test_a_commit_that_is_given_up_leaves_nothing_behind(client: Library, up: Broker) -> None:
    """A writer that is closed while its commit gets no answer is gone with its threads once another has its id."""
    topic, identity = helpers.topic(up.bootstrap), helpers.fresh("id")
    before = set(threading.enumerate())
    writer = client.writer(transactional_id=identity, transaction_timeout_s=60.0)
    writer.begin()
    writer.produce(Outgoing(topic, b"1"))
    assert writer.settle(20.0).waiting == 0
    up.kill()
    with pytest.raises(LogError):
        writer.commit({Partition(topic, 0): 1}, identity, "", timeout_s=1.0)
    writer.close()
    up.start()
    client.writer(transactional_id=identity, transaction_timeout_s=60.0).close()
    for thread in set(threading.enumerate()) - before:
        thread.join(60.0)
    assert set(threading.enumerate()) <= before
    gone = weakref.ref(writer)
    del writer
    gc.collect()
    assert gone() is None


@pytest.mark.heavy
def test_a_node_of_three_may_go(tmp_path: Path, jars: None) -> None:
    """With three nodes, the loss of one stops neither a transaction nor reading."""
    broker = Broker(tmp_path / "three", nodes=3, memory_mb=256)
    try:
        broker.start()
        client = helpers.library("kafka-python", broker.bootstrap)
        topic = helpers.topic(broker.bootstrap, copies=3)
        origin, identity = helpers.topic(broker.bootstrap, copies=3), helpers.fresh("id")
        mine = Transaction(client, source_topic=origin, group=identity, identity=identity)
        assert mine.last_checkpoint() is None
        for n in range(300):
            if n == 150:
                broker.kill(2)
            mine.write(Outgoing(topic, b"%d" % n, partition=0))
            if n % 50 == 49:
                mine.commit(str(n + 1), {"topic": origin, "positions": [[0, n + 1]]})
        mine.close()
        assert [int(r.value or b"") for r in helpers.everything(client, topic)] == list(range(300))
    finally:
        broker.stop()
