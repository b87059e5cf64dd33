"""A writer of confluent-kafka: no report of a delivery, however it ends, loses a record; and no error holds a producer."""

import gc
import threading
import time
import weakref

import pytest

from connectors.kafka.client import LogError, Outgoing
from connectors.kafka.fast_client import FastWriter
from connectors.kafka.fast_faults import Errors


class Report:
    """An error whose looking at ends with another one, as calls do while a fatal error is on its way out."""

    def code(self):
        raise SystemError("returned a result with an exception set")


class Client:
    """A producer that reports deliveries when it is told to, and commits once it may."""

    def __init__(self):
        self.reports, self.may_commit = [], threading.Event()

    def commit_transaction(self, _timeout_s):
        self.may_commit.wait()

    def produce(self, _topic, _value, _key, _partition, callback, *_more):
        self.reports.append(callback)

    def poll(self, _timeout_s):
        return 0

    def flush(self, _timeout_s):
        while self.reports:
            error = Report() if len(self.reports) == 2 else None
            self.reports.pop(0)(error, None)


@pytest.mark.parametrize("records", [2, 3, 5])
def test_a_report_that_ends_with_a_fatal_error_loses_no_record(records):
    """The record of that report, and all that follow, are given back once; those reported before are delivered."""
    writer = FastWriter(Client(), {}, Errors())
    given = [Outgoing("t", b"%d" % number) for number in range(records)]
    for record in given:
        writer.produce(record)
    settled = writer.settle(1.0)
    assert [record for record, _ in settled.failed] == given[-2:]
    assert settled.waiting == 0
    assert writer.settle(1.0).failed == ()


def test_an_error_that_is_kept_holds_no_producer():
    """Of a writer that was closed, the producer is free once its commit returns, even if somebody keeps the error for ever."""
    gc.disable()
    try:
        client = Client()
        free, may_commit = weakref.ref(client), client.may_commit
        writer = FastWriter(client, {}, Errors())
        with pytest.raises(LogError, match="took longer") as kept:
            writer.commit({}, "g", "", timeout_s=0.01)
        writer.close()
        del client
        may_commit.set()
        deadline = time.monotonic() + 10.0
        while free() is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert free() is None
        assert kept.value.__traceback__ is not None
    finally:
        gc.enable()
