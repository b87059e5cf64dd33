"""Questions that a cluster does not answer at once: which are asked again, and for how long."""

import gc
import threading
import time
import weakref

import pytest
from confluent_kafka import KafkaError, KafkaException

from connectors.kafka import client
from connectors.kafka.client import DOUBT_S, LogError, Partition, answered
from connectors.kafka.fast_client import FastReader
from connectors.kafka.fast_faults import translated
from tests.pipeline.helpers import Clock


@pytest.fixture
def clock(monkeypatch):
    """The clock of the module that asks."""
    clock = Clock()
    monkeypatch.setattr(client, "time", clock)
    return clock


def asked(clock, fault, wait_s, *, until=float("inf")):
    """Ask what fails in one way until a moment; returns the answer, or raises."""
    began = clock.now

    def ask():
        if clock.now - began < until:
            raise LogError(fault, "not now")
        return "here"

    return answered(ask, wait_s)


@pytest.mark.parametrize("fault", ["unreachable", "failed"])
def test_what_may_pass_is_asked_again(clock, fault):
    """The answer counts when it comes, however often it did not."""
    assert asked(clock, fault, 30.0, until=8.0) == "here"


@pytest.mark.parametrize(
    ("fault", "wait_s", "seconds"),
    [
        ("unreachable", 30.0, 30.0),
        ("unreachable", 0.0, 0.0),
        ("failed", 30.0, DOUBT_S),
        ("failed", 3.0, 3.0),
        *((fault, 30.0, 0.0) for fault in ("unknown_topic", "refused", "untrusted", "configuration", "fenced")),
    ],
)
def test_what_does_not_pass_is_told(clock, fault, wait_s, seconds):
    """At once where waiting cannot help, after a while where nobody knows."""
    began = clock.now
    with pytest.raises(LogError, match="not now"):
        asked(clock, fault, wait_s)
    assert clock.now - began == pytest.approx(seconds, abs=0.25)


@pytest.mark.parametrize("code", [KafkaError._NOENT, KafkaError.LEADER_NOT_AVAILABLE, KafkaError._TRANSPORT])
def test_partitions_without_leaders_will_have_some(code):
    """A broker that has just come back knows its topics before their leaders; confluent-kafka says so in several ways."""
    assert translated(KafkaError(code), "failed").fault == "unreachable"


class Admin:
    """An admin client that remembers what it was told of leaders at the start, and answers from that alone."""

    def __init__(self, code):
        self.code = code

    def list_offsets(self, asked, *, isolation_level, request_timeout):
        return dict.fromkeys(asked, self)

    def result(self):
        if self.code is not None:
            raise KafkaException(KafkaError(self.code))
        return type("Result", (), {"offset": 7})


@pytest.mark.parametrize("code", [KafkaError.FENCED_LEADER_EPOCH, KafkaError.NOT_LEADER_FOR_PARTITION])
def test_leaders_that_have_moved_are_looked_up_anew(code):
    """A client that asks a leader of before is replaced, so that the next question is answered; told as passing."""
    clients = [Admin(code), Admin(None)]
    reader = FastReader(None, lambda: clients.pop(0), committed_only=True)
    with pytest.raises(LogError) as told:
        reader.end([Partition("t", 0)], timeout_s=1.0)
    assert told.value.fault == "unreachable"
    assert reader.end([Partition("t", 0)], timeout_s=1.0) == {Partition("t", 0): 7}


def test_a_client_that_gets_no_answer_is_kept():
    """It connects again by itself."""
    clients = [Admin(KafkaError._TIMED_OUT)]
    reader = FastReader(None, lambda: clients.pop(0), committed_only=True)
    for _ in range(2):
        with pytest.raises(LogError):
            reader.begin([Partition("t", 0)], timeout_s=1.0)


class Client:
    """What a call is made with."""


@pytest.mark.parametrize("late", [False, True])
def test_a_call_that_fails_holds_nothing(late):
    """Whether it fails in time or after it was given up: its client is free at once, without the garbage collector."""
    go, used = threading.Event(), Client()
    free = weakref.ref(used)

    def call(used=used):
        go.wait()
        raise LogError("failed", f"simulated: {used}")

    if not late:
        go.set()
    gc.disable()
    try:
        with pytest.raises(LogError) as caught:
            client.within(0.1 if late else 10.0, "a call", call)
        assert caught.value.fault == ("unreachable" if late else "failed")
        go.set()
        del call, used, caught
        deadline = time.monotonic() + 10.0
        while free() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert free() is None
    finally:
        gc.enable()


class Committing:
    """A consumer of which a commit returns only when it is let go."""

    def __init__(self):
        self.go, self.commits, self.closed = threading.Event(), [], False

    def commit(self, *, offsets, asynchronous):
        assert not asynchronous
        self.go.wait(60.0)
        self.commits.append([place.offset for place in offsets])

    def close(self):
        self.closed = True


def test_a_commit_without_an_answer_is_not_waited_for():
    """It is given up; until it has returned no other begins, which it could overtake, and nothing is closed under it."""
    consumer = Committing()
    reader = FastReader(consumer, lambda: None, committed_only=True)
    for offset in (1, 2):
        with pytest.raises(LogError) as told:
            reader.commit({Partition("t", 0): offset}, "", timeout_s=0.05)
        assert told.value.fault == "unreachable"
    consumer.go.set()
    until = time.monotonic() + 60.0
    while consumer.commits != [[1], [3]] and time.monotonic() < until:
        try:
            reader.commit({Partition("t", 0): 3}, "", timeout_s=60.0)
        except LogError:
            time.sleep(0.001)
    assert consumer.commits == [[1], [3]]
    consumer.go.clear()
    with pytest.raises(LogError):
        reader.commit({Partition("t", 0): 4}, "", timeout_s=0.05)
    reader.close()
    consumer.go.set()
    assert not consumer.closed
