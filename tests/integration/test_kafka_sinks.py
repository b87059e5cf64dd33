"""Predictions and dead letters on a real broker: what is written, and once."""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from connectors.errors import SinkError
from connectors.kafka import Delivery, FencedError, KafkaDeadLetters, KafkaPredictions, Transaction
from connectors.kafka.client import Library, LogError, Outgoing, Partition
from connectors.records import DeadLetter, LabelRun, Origin, Predictions, Record
from tests.integration import helpers


@pytest.fixture(params=helpers.CLIENTS)
def client(request: pytest.FixtureRequest, bootstrap: str) -> Library:
    """Each of the two libraries."""
    return helpers.library(request.param, bootstrap)


@pytest.fixture
def python(bootstrap: str) -> Library:
    """The library that is always there."""
    return helpers.library("kafka-python", bootstrap)


def predictions(first: int, count: int, *, keys: bool = False) -> Predictions:
    """Make the predictions of some events."""
    numbers = np.arange(first, first + count)
    return Predictions(
        offsets=numbers + 100,
        numbers=numbers,
        targets=("move", "price"),
        decisions={"move": np.array(["UP"] * count, dtype=object), "price": np.full(count, 1.5)},
        probabilities={"move": (("DOWN", "UP"), np.tile([0.25, np.nan], (count, 1)))},
        labels={"move": np.array([None] * count, dtype=object), "price": np.full(count, np.nan)},
        records=[
            Record(b"{}", b"k%d" % n if keys else None, origin=Origin("source", int(n) % 3, 1_000 + int(n)))
            for n in numbers
        ],
    )


def events(records: list[Record]) -> list[int]:
    """Return the event numbers of predictions."""
    return sorted(int(dict(record.headers)["streamnn-event"] or b"") for record in records)


def state(offset: int) -> dict[str, object]:
    """Return the state of a source of 2 partitions."""
    return {"topic": SOURCE, "positions": [[0, offset], [1, offset + 1]]}


SOURCE = ""


@pytest.fixture(autouse=True)
def source_topic(bootstrap: str) -> str:
    """A topic that positions are committed for."""
    global SOURCE
    SOURCE = helpers.topic(bootstrap, 2)
    return SOURCE


def transaction(client: Library, identity: str, *, timeout_s: float = 60.0) -> Transaction:
    """Make a transaction for the source of this test."""
    return Transaction(
        client, source_topic=SOURCE, group=identity, identity=identity, timeout_s=timeout_s, give_up_s=30.0
    )


def write(to: Transaction, record: Outgoing) -> None:
    """Write a record and have it acknowledged."""
    to.write(record)
    to.flush()


def test_a_prediction_says_what_and_of_which_event(client: Library, bootstrap: str) -> None:
    """Value, key and headers of a prediction are as documented; without a key the source partition decides."""
    topic = helpers.topic(bootstrap, 2)
    channel = Delivery(client)
    sink = KafkaPredictions(channel, topic, model="model-1")
    sink.truncate(7)
    sink.write(predictions(0, 3))
    sink.write(predictions(3, 1, keys=True))
    assert sink.flush() == 11
    sink.close()
    sink.close()
    found = sorted(helpers.everything(client, topic), key=lambda r: dict(r.headers)["streamnn-event"] or b"")
    assert orjson.loads(found[1].value or b"") == {
        "event": 1,
        "targets": {
            "move": {"prediction": "UP", "label": None, "probabilities": {"DOWN": 0.25}},
            "price": {"prediction": 1.5, "label": None},
        },
    }
    assert dict(found[1].headers) == {
        "streamnn-topic": b"source",
        "streamnn-partition": b"1",
        "streamnn-offset": b"1001",
        "streamnn-record": b"101",
        "streamnn-event": b"1",
        "streamnn-model": b"model-1",
        "streamnn-started": b"%d" % channel.opened_ms,
    }
    assert [r.origin.partition for r in found[:3] if r.origin is not None] == [0, 1, 0]
    assert [r.key for r in found] == [None, None, None, b"k3"]


def test_a_prediction_tells_of_the_labels_before_its_event(client: Library, bootstrap: str) -> None:
    """Runs of label records stand in its headers, and where the process began; a prediction with none to tell has neither."""
    topic = helpers.topic(bootstrap)
    sink = KafkaPredictions(Delivery(client), topic, model="m")
    sink.truncate(0)
    sink.write(replace(predictions(0, 3), told={1: [LabelRun(90, 0, 7, 3), LabelRun(93, 1, 12, 1)]}, since=88))
    sink.flush()
    sink.close()
    found = [dict(record.headers) for record in helpers.everything(client, topic)]
    assert [headers.get("streamnn-labels") for headers in found] == [None, b"90:0:7:3,93:1:12:1", None]
    assert [headers.get("streamnn-since") for headers in found] == [None, b"88", None]


def test_a_dead_letter_has_everything_of_its_record(client: Library, bootstrap: str) -> None:
    """Bytes, key and headers of a dead letter are the record's, with place, stage, reason and detail after them."""
    topic = helpers.topic(bootstrap)
    channel = Delivery(client)
    sink = KafkaDeadLetters(channel, topic, model="m")
    sink.truncate(0)
    assert 0 <= time.time_ns() // 1_000_000 - channel.opened_ms < 600_000
    record = Record(b"\xff{", b"key", (("h", b"1"), ("h", None)), 5, Origin("source", 2, 77))
    sink.write([DeadLetter(4, "decode", "not_json", "no JSON äöü", record)])
    sink.write([DeadLetter(5, "decode", "tombstone", "empty", Record(None, None, origin=Origin("source", 0, 8)))])
    assert sink.flush() == 2
    sink.close()
    first, second = helpers.everything(client, topic)
    assert (first.value, first.key) == (b"\xff{", b"key")
    assert first.headers == (
        ("h", b"1"),
        ("h", b""),
        ("streamnn-topic", b"source"),
        ("streamnn-partition", b"2"),
        ("streamnn-offset", b"77"),
        ("streamnn-record", b"4"),
        ("streamnn-model", b"m"),
        ("streamnn-started", b"%d" % channel.opened_ms),
        ("streamnn-since", b"0"),
        ("streamnn-stage", b"decode"),
        ("streamnn-reason", b"not_json"),
        ("streamnn-detail", "no JSON äöü".encode()),
        ("streamnn-null-headers", b"h"),
    )
    assert second.value == b""
    assert dict(second.headers)["streamnn-tombstone"] == b"true"


@pytest.mark.parametrize("exactly_once", [False, True])
def test_a_dead_letter_that_is_too_large_is_cut(client: Library, bootstrap: str, exactly_once: bool) -> None:
    """A record that the topic does not take is kept in part, with a note; none of those around it is lost."""
    topic = helpers.topic(bootstrap, configs={"max.message.bytes": "20000"})
    channel = transaction(client, helpers.fresh("id")) if exactly_once else Delivery(client)
    if isinstance(channel, Transaction):
        assert channel.last_checkpoint() is None
    sink = KafkaDeadLetters(channel, topic, model="m")
    sink.truncate(0)
    sizes = [10, 50_000, 20, 60_000, 30]
    noise = np.random.default_rng(3)
    values = [noise.bytes(size) for size in sizes]
    sink.write(
        [
            DeadLetter(n, "decode", "not_json", "", Record(value, origin=Origin("source", 0, n)))
            for n, value in enumerate(values)
        ]
    )
    sink.flush()
    if isinstance(channel, Transaction):
        channel.commit("1", state(5))
    assert channel.statistics.truncated == 2
    assert channel.statistics.recoveries >= 1
    assert channel.statistics.repeats >= 1
    sink.close()
    found = {int(dict(r.headers)["streamnn-record"] or b""): r for r in helpers.everything(client, topic)}
    assert sorted(found) == list(range(5))
    for n, value in enumerate(values):
        kept, cut = found[n].value, dict(found[n].headers).get("streamnn-truncated")
        if sizes[n] < 20_000:
            assert (kept, cut) == (value, None)
        else:
            assert (kept, cut) == (value[:4_096], b"%d bytes, of which the first 4096 are kept" % sizes[n])


def test_a_missing_output_topic_is_an_error(client: Library) -> None:
    """A topic that does not exist is an error with its name when the sink is opened."""
    with pytest.raises(SinkError, match="topic 'mistyped' does not exist"):
        KafkaPredictions(Delivery(client), "mistyped", model="m").truncate(0)


def test_a_commit_shows_predictions_positions_and_checkpoint_at_once(client: Library, bootstrap: str) -> None:
    """Predictions are invisible until the commit, which also names the checkpoint; a restart finds that name."""
    topic, identity = helpers.topic(bootstrap), helpers.fresh("id")
    first = transaction(client, identity)
    assert first.last_checkpoint() is None
    sink = KafkaPredictions(first, topic, model="m")
    sink.truncate(0)
    first.commit("0", state(0))
    sink.write(predictions(0, 5))
    assert sink.flush() == 5
    assert helpers.everything(client, topic) == []
    first.commit("5", state(5))
    assert events(helpers.everything(client, topic)) == [0, 1, 2, 3, 4]
    sink.write(predictions(5, 5))
    sink.flush()
    # a crash here: nothing is committed, and the successor goes on from what is
    second = transaction(client, identity)
    assert second.last_checkpoint() == "5"
    reader = client.reader(group=identity, committed_only=True)
    found = reader.committed([Partition(SOURCE, 0), Partition(SOURCE, 1)], timeout_s=10.0)
    assert {p.number: c.offset for p, c in found.items()} == {0: 5, 1: 6}
    reader.close()
    again = KafkaPredictions(second, topic, model="m")
    again.truncate(5)
    again.write(predictions(5, 5))
    again.flush()
    second.commit("10", state(10))
    assert events(helpers.everything(client, topic)) == list(range(10))
    with pytest.raises(FencedError, match="another process has taken over"):
        first.commit("10", state(10))
    assert first.fenced
    with pytest.raises(FencedError):
        sink.write(predictions(10, 1))
    # the zombie did not disturb its successor
    again.write(predictions(10, 1))
    second.commit("11", state(11))
    assert second.recoveries == 0
    assert events(helpers.everything(client, topic)) == list(range(11))
    again.close()
    sink.close()


def test_a_producer_that_was_only_forgotten_goes_on(client: Library, bootstrap: str) -> None:
    """After the error of a fenced producer, with nobody else having committed, the same work is committed once."""
    topic, identity = helpers.topic(bootstrap), helpers.fresh("id")
    mine = transaction(client, identity)
    assert mine.last_checkpoint() is None
    sink = KafkaPredictions(mine, topic, model="m")
    sink.truncate(0)
    mine.commit("0", state(0))
    sink.write(predictions(0, 5))
    sink.flush()
    # what a broker does that has forgotten a producer: the id gets a new epoch, and nobody commits under it
    client.writer(transactional_id=identity, transaction_timeout_s=60.0).close()
    sink.write(predictions(5, 5))
    sink.flush()
    mine.commit("10", state(10))
    assert mine.recoveries >= 1
    assert not mine.fenced
    assert events(helpers.everything(client, topic)) == list(range(10))
    sink.close()


def test_two_workers_do_not_fence_each_other_for_ever(python: Library, bootstrap: str) -> None:
    """Of two workers that were given the same model, the one that took over last goes on, and the other stops."""
    topic, identity = helpers.topic(bootstrap), helpers.fresh("id")
    one, other = transaction(python, identity), transaction(python, identity)
    assert one.last_checkpoint() is None
    one.commit("0", state(0))
    assert other.last_checkpoint() == "0"
    one.partitions(topic)
    with pytest.raises(FencedError):
        write(one, Outgoing(topic, b"one"))
    other.write(Outgoing(topic, b"other"))
    other.commit("1", state(1))
    assert [r.value for r in helpers.everything(python, topic)] == [b"other"]
    one.close()
    other.close()


class Interposed:
    """A library that has something happen once, after the first look at committed positions."""

    def __init__(self, library, happening):
        self._library, self._happening = library, happening
        self.writer = library.writer

    def reader(self, **settings):
        reader = self._library.reader(**settings)
        close, happening = reader.close, self._happening
        self._happening = lambda: None

        def closed():
            close()
            happening()

        reader.close = closed
        return reader


def test_a_commit_in_the_middle_of_a_take_over_is_not_undone(client: Library, bootstrap: str) -> None:
    """The old owner commits between the successor's look and its own commit: the successor goes on behind that."""
    topic, identity = helpers.topic(bootstrap), helpers.fresh("id")
    old = transaction(client, identity)
    assert old.last_checkpoint() is None
    old.commit("0", state(0))
    old.write(Outgoing(topic, b"0", partition=0))

    new = transaction(Interposed(client, lambda: old.commit("1", state(1))), identity)  # type: ignore[arg-type]
    assert new.last_checkpoint() == "1"
    assert old.recoveries == 1  # it was fenced, saw that nobody had committed, and did so itself
    with pytest.raises(FencedError):
        old.commit("2", state(2))
    new.write(Outgoing(topic, b"1", partition=0))
    new.commit("2", state(2))
    assert [r.value for r in helpers.everything(client, topic)] == [b"0", b"1"]
    old.close()
    new.close()


def test_a_transaction_that_timed_out_is_made_again(python: Library, bootstrap: str) -> None:
    """What the broker aborted because it took too long is written again, and a checkpoint is due before that."""
    topic, identity = helpers.topic(bootstrap), helpers.fresh("id")
    now = [0.0]
    slow = Transaction(
        python, source_topic=SOURCE, group=identity, identity=identity, timeout_s=1.0, clock=lambda: now[0]
    )
    assert slow.last_checkpoint() is None
    slow.write(Outgoing(topic, b"0", partition=0))
    slow.flush()
    assert not slow.due
    now[0] = 0.6
    assert slow.due
    # the broker looks for late transactions every 10 s; the epoch is what it would change
    python.writer(transactional_id=identity, transaction_timeout_s=60.0).close()
    slow.write(Outgoing(topic, b"1", partition=0))
    slow.commit("2", state(2))
    assert [r.value for r in helpers.everything(python, topic)] == [b"0", b"1"]
    slow.close()


@pytest.mark.parametrize("timeout_s", [901.0, 20.0])
def test_a_time_out_that_brokers_do_not_allow_is_told(client: Library, timeout_s: float) -> None:
    """Longer than their transaction.max.timeout.ms, 15 minutes: the message names our key; the shortest one is taken."""
    made = transaction(client, helpers.fresh("id"), timeout_s=timeout_s)
    if timeout_s < 900.0:
        assert made.last_checkpoint() is None
    else:
        told = r"kafka\.transaction_timeout_s is 901, and the brokers allow less.*transaction\.max\.timeout\.ms"
        with pytest.raises(SinkError, match=told):
            made.last_checkpoint()
    made.close()


def test_positions_set_by_hand_are_refused(python: Library, bootstrap: str) -> None:
    """A group whose positions do not name one checkpoint stops the start, and says what it found."""
    identity = helpers.fresh("id")
    mine = transaction(python, identity)
    assert mine.last_checkpoint() is None
    mine.commit("3", state(3))
    mine.close()
    reader = python.reader(group=identity, committed_only=True)
    reader.assign({Partition(SOURCE, 0): 0})
    reader.commit({Partition(SOURCE, 0): 0}, "", timeout_s=10.0)
    reader.close()
    with pytest.raises(SinkError, match="does not name one checkpoint"):
        transaction(python, identity).last_checkpoint()


def test_closing_aborts_what_is_not_committed(python: Library, bootstrap: str) -> None:
    """After a close nothing is left open that would hold up readers of committed records."""
    topic, identity = helpers.topic(bootstrap), helpers.fresh("id")
    mine = transaction(python, identity)
    assert mine.last_checkpoint() is None
    mine.write(Outgoing(topic, b"lost", partition=0))
    mine.flush()
    mine.close()
    mine.close()
    writer = python.writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.fill(writer, topic, [(0, 1, b"after")])
    writer.close()
    assert [r.value for r in helpers.everything(python, topic)] == [b"after"]


def test_a_coordinator_that_moves_is_waited_for_at_the_start(client: Library, bootstrap: str) -> None:
    """What is committed cannot be read for a moment; the start goes on when it can."""
    refusals = [LogError("unreachable", "NOT_COORDINATOR")] * 2

    class Moving:
        """The real library, whose first readers find no coordinator."""

        def writer(self, **how: Any) -> Any:
            return client.writer(**how)

        def reader(self, **how: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return client.reader(**how)

        def member(self, **how: Any) -> Any:
            return client.member(**how)

    identity = helpers.fresh("id")
    mine = transaction(Moving(), identity)
    assert mine.last_checkpoint() is None
    assert refusals == []
    mine.close()
