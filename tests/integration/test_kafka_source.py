"""The Kafka source on a real broker."""

import gc
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SourceError
from connectors.json_records import JsonCodec
from connectors.kafka.client import LogError, LogWriter, Outgoing, Partition
from connectors.kafka.python_client import PythonLibrary
from connectors.kafka.settings import KafkaConnection, KafkaReading
from connectors.kafka.source import KafkaSource
from connectors.records import Chunk, Record
from connectors.schema import Schema
from tests.integration import helpers

Place = tuple[int, int]  # partition, offset


@pytest.fixture
def writer(bootstrap: str) -> Iterator[LogWriter]:
    """A writer that fills topics."""
    made = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    yield made
    made.close()


def source(bootstrap: str, topic: str, *, client: str = "kafka-python", **reading: Any) -> KafkaSource:
    """Make a source that is not open yet."""
    settings = {"group": helpers.fresh("group"), "until": "end"} | reading
    return KafkaSource(
        KafkaReading(topic=topic, **settings), helpers.library(client, bootstrap), JsonCodec(Schema()), commits=True
    )


def event(number: int) -> bytes:
    """Make the value of an event."""
    return b'{"n": %d}' % number


def places(chunk: Chunk) -> list[Place]:
    """Return where the events of a chunk lie."""
    return [(r.origin.partition, r.origin.offset) for r in chunk.records if r.origin is not None]


def rest(opened: KafkaSource, *, cuts: random.Random | None = None, limit: int = 10**9) -> list[Place]:
    """Poll to the end, or until `limit` records have come."""
    found: list[Place] = []
    deadline = time.monotonic() + 30.0
    while len(found) < limit:
        assert time.monotonic() < deadline, f"only {len(found)} records came"
        room = limit - len(found)
        chunk = opened.poll(min(room, cuts.choice((1, 7, 64, 1_000)) if cuts else 500))
        if chunk is None:
            break
        found += places(chunk)
    return found


def shuffled(writer: LogWriter, topic: str, partitions: int, events: int, seed: int) -> list[Place]:
    """Fill a topic with records whose timestamps say how they are to be merged; return that order."""
    draw = random.Random(seed)
    stamps: dict[int, list[int]] = {p: [] for p in range(partitions)}
    rows = []
    for number in range(events):
        p = draw.randrange(partitions)
        stamps[p].append(1_000 + number // 3)  # with ties
        rows.append((p, 1_000 + number // 3, event(number)))
    helpers.fill(writer, topic, rows)
    order = [(stamp, p, offset) for p, listed in stamps.items() for offset, stamp in enumerate(listed)]
    return [(p, offset) for _, p, offset in sorted(order)]


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_four_partitions_come_in_timestamp_order_however_they_are_polled(
    client: str, bootstrap: str, writer: LogWriter
) -> None:
    """Records of 4 partitions come by timestamp, partition and offset for any cuts, and no wait expires."""
    topic = helpers.topic(bootstrap, 4)
    expected = shuffled(writer, topic, 4, 2_000, 1)
    for seed in range(3):
        opened = source(bootstrap, topic, client=client, buffer_records=100)
        opened.open(0, None)
        assert rest(opened, cuts=random.Random(seed)) == expected
        assert opened.statistics.expired_waits == 0
        assert opened.progress == 1.0
        opened.close()


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_any_record_number_since_the_last_commit_can_be_gone_on_from(
    client: str, bootstrap: str, writer: LogWriter
) -> None:
    """A source opened with the state at any record number gives the records from there, in the same order."""
    topic = helpers.topic(bootstrap, 3)
    expected = shuffled(writer, topic, 3, 300, 2)
    first = source(bootstrap, topic, client=client)
    first.open(0, None)
    assert rest(first, limit=120) == expected[:120]
    first.commit(50)
    states = {number: first.state(number) for number in (50, 51, 99, 120)}
    with pytest.raises(SourceError):
        first.state(49)
    first.close()
    for number, state in states.items():
        again = source(bootstrap, topic, client=client)
        again.open(number, state)
        chunk = again.poll(1)
        while chunk is not None and not len(chunk):
            chunk = again.poll(1)
        assert chunk is not None
        assert (chunk.start, chunk.stop) == (number, number + 1)
        assert places(chunk) + rest(again) == expected[number:]
        again.close()


def test_commits_say_where_reading_is(bootstrap: str, writer: LogWriter) -> None:
    """Committed positions, with a note, are those of the record number given, not of what was read ahead."""
    topic, group = helpers.topic(bootstrap, 2), helpers.fresh("group")
    helpers.fill(writer, topic, [(n % 2, 1_000 + n, event(n)) for n in range(20)])
    opened = source(bootstrap, topic, group=group)
    opened.open(0, None)
    rest(opened, limit=15)
    opened.note = "checkpoint 7"
    opened.commit(7)
    opened.close()
    reader = helpers.library("kafka-python", bootstrap).reader(group=group, committed_only=True)
    found = reader.committed([Partition(topic, 0), Partition(topic, 1)], timeout_s=10.0)
    assert {p.number: (c.offset, c.note) for p, c in found.items()} == {
        0: (4, "checkpoint 7"),
        1: (3, "checkpoint 7"),
    }
    reader.close()


def test_start_settings_count_only_without_a_state(bootstrap: str, writer: LogWriter) -> None:
    """Earliest, latest, a moment and positions decide the first start; with a state they do nothing."""
    topic = helpers.topic(bootstrap, 2)
    helpers.fill(writer, topic, [(n % 2, 1_000_000 + 1_000 * n, event(n)) for n in range(20)])
    began: dict[str, list[list[int]]] = {}
    for name, settings in {
        "earliest": {"start": "earliest"},
        "latest": {"start": "latest"},
        "moment": {"start": "1970-01-01T00:16:45Z"},  # 1005 s: the sixth record
        "late": {"start": "1999-01-01T00:00:00Z"},
        "positions": {"start_positions": {1: 4}},
    }.items():
        opened = source(bootstrap, topic, **settings)
        opened.open(0, None)
        began[name] = opened.state(0)["positions"]
        state = opened.state(0)
        opened.close()
        again = source(bootstrap, topic, start="latest")
        again.open(0, state)
        assert again.state(0)["positions"] == began[name]
        again.close()
    assert began == {
        "earliest": [[0, 0], [1, 0]],
        "latest": [[0, 10], [1, 10]],
        "moment": [[0, 3], [1, 2]],
        "late": [[0, 10], [1, 10]],
        "positions": [[0, 0], [1, 4]],
    }


def test_only_owned_partitions_are_read(bootstrap: str, writer: LogWriter) -> None:
    """A model that owns partitions 1 and 3 reads those alone; the checkpoint of others is refused."""
    topic = helpers.topic(bootstrap, 4)
    helpers.fill(writer, topic, [(n % 4, 1_000 + n, event(n)) for n in range(16)])
    opened = source(bootstrap, topic, partitions=(1, 3))
    opened.open(0, None)
    assert {p for p, _ in rest(opened)} == {1, 3}
    state = opened.state(8)
    opened.close()
    with pytest.raises(SourceError, match=r"owns partitions \[1, 3\]"):
        source(bootstrap, topic, partitions=(1, 2)).open(8, state)
    with pytest.raises(SourceError, match=r"and not \[7\]"):
        source(bootstrap, topic, partitions=(7,)).open(0, None)


def test_an_idle_partition_is_waited_for_within_the_bound(bootstrap: str, writer: LogWriter) -> None:
    """Records wait for an idle partition within the bound; a wait that ends so is counted, and in the state."""
    topic = helpers.topic(bootstrap, 2)
    helpers.fill(writer, topic, [(0, 1_000 + n, event(n)) for n in range(5)])
    opened = source(bootstrap, topic, until="forever", idle_wait_s=0.4)
    opened.open(0, None)
    assert rest(opened, limit=5) == [(0, n) for n in range(5)]
    assert opened.statistics.expired_waits == 1
    state = opened.state(5)
    assert (state["expired_waits"], state["expired"]) == (1, [[0, 1]])
    helpers.fill(writer, topic, [(1, 900, event(9)), (0, 2_000, event(9))])
    assert rest(opened, limit=2) == [(1, 0), (0, 5)]
    opened.close()


def test_a_wait_does_not_end_while_records_are_on_their_way(bootstrap: str, writer: LogWriter) -> None:
    """With no time to wait a backlog still comes in timestamp order: idle is only who is at the end."""
    topic = helpers.topic(bootstrap, 4)
    expected = shuffled(writer, topic, 4, 3_000, 5)
    opened = source(bootstrap, topic, until="forever", idle_wait_s=0.0, buffer_records=50)
    opened.open(0, None)
    found = rest(opened, limit=3_000, cuts=random.Random(5))
    # the last records of all but one partition are followed by waits that do expire
    shortest = min(max(n for n, (p, _) in enumerate(expected) if p == q) for q in range(4))
    assert found[: shortest + 1] == expected[: shortest + 1]
    assert sorted(found) == sorted(expected)
    opened.close()


def test_arrival_order_gives_every_record_once(bootstrap: str, writer: LogWriter) -> None:
    """In arrival order each partition keeps its order and every record comes once, also after a restart."""
    topic = helpers.topic(bootstrap, 3)
    expected = shuffled(writer, topic, 3, 500, 6)
    opened = source(bootstrap, topic, order="arrival")
    opened.open(0, None)
    found = rest(opened, limit=200, cuts=random.Random(6))
    state = opened.state(150)
    opened.close()
    again = source(bootstrap, topic, order="arrival")
    again.open(150, state)
    whole = found[:150] + rest(again)
    again.close()
    assert sorted(whole) == sorted(expected)
    for p in range(3):
        assert [n for q, n in whole if q == p] == sorted(n for q, n in expected if q == p)


def test_buffers_are_bounded(bootstrap: str, writer: LogWriter) -> None:
    """While one partition holds up the others, no more than the buffer is read ahead of them."""
    topic = helpers.topic(bootstrap, 2)
    helpers.fill(writer, topic, [(0, 1_000 + n, b'{"x": "%s"}' % (b"y" * 1_000)) for n in range(6_000)])
    opened = source(bootstrap, topic, until="forever", idle_wait_s=3_600.0, buffer_records=200)
    opened.open(0, None)
    for _ in range(20):
        assert opened.poll(100) is not None
    statistics = opened.statistics
    assert statistics.paused == 1
    assert 200 <= statistics.buffered < 5_200  # the buffer, and what one poll may bring
    opened.close()


def test_deleted_records_are_an_error_or_skipped(bootstrap: str, writer: LogWriter) -> None:
    """Records deleted by retention before they were read stop the source; with lost = skip they are counted."""
    topic = helpers.topic(bootstrap)
    helpers.fill(writer, topic, [(0, 1_000 + n, event(n)) for n in range(20)])
    opened = source(bootstrap, topic)
    opened.open(0, None)
    rest(opened, limit=5)
    state = opened.state(5)
    opened.close()
    helpers.delete_before(bootstrap, Partition(topic, 0), 12)
    with pytest.raises(SourceError, match=r"records 5 to 11 of .*/0 have not been read.*set kafka.lost to skip"):
        source(bootstrap, topic).open(5, state)
    again = source(bootstrap, topic, lost="skip")
    again.open(5, state)
    assert rest(again) == [(0, n) for n in range(12, 20)]
    assert again.statistics.lost_records == 7
    assert again.state(13)["lost_records"] == 7
    again.close()


def test_records_deleted_while_reading_are_an_error(bootstrap: str, writer: LogWriter) -> None:
    """Retention that overtakes a slow reader is found out while it reads, not passed over."""
    topic = helpers.topic(bootstrap)
    helpers.fill(writer, topic, [(0, 1_000 + n, b'{"x": "%s"}' % (b"y" * 1_000)) for n in range(20_000)])
    opened = source(bootstrap, topic, buffer_records=100)
    opened.open(0, None)
    rest(opened, limit=100)
    helpers.delete_before(bootstrap, Partition(topic, 0), 19_990)
    with pytest.raises(SourceError, match="have not been read, and have been deleted"):
        rest(opened)
    opened.close()


def test_a_shorter_topic_is_an_error(bootstrap: str, writer: LogWriter) -> None:
    """A position behind the end of its partition means that records were lost, and stops the source."""
    topic = helpers.topic(bootstrap)
    helpers.fill(writer, topic, [(0, 1_000, event(0))])
    with pytest.raises(SourceError, match="is 5, and the partition ends at 1"):
        source(bootstrap, topic, start_positions={0: 5}).open(0, None)


def test_a_topic_made_again_is_another_one(bootstrap: str, writer: LogWriter) -> None:
    """The checkpoint of a topic that was deleted and made again under its name is refused."""
    topic = helpers.topic(bootstrap)
    helpers.fill(writer, topic, [(0, 1_000, event(0))])
    opened = source(bootstrap, topic)
    opened.open(0, None)
    state = opened.state(0)
    opened.close()
    helpers.delete_topic(bootstrap, topic)
    with pytest.raises(SourceError, match="does not exist"):
        source(bootstrap, topic).open(0, state)
    helpers.topic(bootstrap, name=topic)
    with pytest.raises(SourceError, match="was deleted and made again"):
        source(bootstrap, topic).open(0, state)


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_topic_deleted_while_reading_is_an_error(client: str, bootstrap: str, writer: LogWriter) -> None:
    """A topic that goes away while it is read stops the source with its name."""
    topic = helpers.topic(bootstrap)
    helpers.fill(writer, topic, [(0, 1_000, event(0))])
    opened = source(bootstrap, topic, until="forever", client=client, look_s=0.5)
    opened.open(0, None)
    rest(opened, limit=1)
    helpers.delete_topic(bootstrap, topic)
    with pytest.raises(SourceError, match=f"{topic}.*|unknown"):
        rest(opened, limit=2)
    opened.close()


def test_a_missing_topic_is_an_error(bootstrap: str) -> None:
    """A topic that does not exist is an error that names it."""
    with pytest.raises(SourceError, match="topic 'mistyped' does not exist"):
        source(bootstrap, "mistyped").open(0, None)


def test_new_partitions_are_refused_or_accepted(bootstrap: str, writer: LogWriter) -> None:
    """New partitions stop the source, or are taken up at the next checkpoint, from their beginning."""
    topic = helpers.topic(bootstrap, 1)
    helpers.fill(writer, topic, [(0, 1_000 + n, event(n)) for n in range(5)])
    opened = source(bootstrap, topic, until="forever", new_partitions="accept")
    opened.open(0, None)
    rest(opened, limit=5)
    state = opened.state(5)
    helpers.add_partitions(bootstrap, topic, 2)
    fresh = helpers.library("kafka-python", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.until(lambda: fresh.partitions(topic, timeout_s=5.0) == (0, 1))
    helpers.fill(fresh, topic, [(1, 900 + n, event(n)) for n in range(3)])
    fresh.close()
    with pytest.raises(SourceError, match=r"has got partitions \[1\]"):
        source(bootstrap, topic).open(5, state)
    deadline = time.monotonic() + 20.0
    while len(opened.state(5)["positions"]) == 1:
        assert time.monotonic() < deadline
        opened.commit(5)
    assert rest(opened, limit=3) == [(1, n) for n in range(3)]
    assert opened.state(8)["positions"] == [[0, 5], [1, 3]]
    opened.close()
    # the checkpoint was taken before the partition was taken up; whoever goes on from it gets the same records
    again = source(bootstrap, topic, new_partitions="accept")
    again.open(5, state)
    assert rest(again) == [(1, n) for n in range(3)]
    again.close()


def test_new_partitions_are_taken_up_though_no_checkpoint_comes(bootstrap: str, writer: LogWriter) -> None:
    """Where nothing has come since the last checkpoint, and so no other one will, they need not wait for it."""
    topic = helpers.topic(bootstrap, 1)
    helpers.fill(writer, topic, [(0, 1_000 + n, event(n)) for n in range(5)])
    opened = source(bootstrap, topic, until="forever", new_partitions="accept", look_s=0.2)
    opened.open(0, None)
    rest(opened, limit=5)
    opened.commit(3)
    helpers.add_partitions(bootstrap, topic, 2)
    fresh = helpers.library("confluent-kafka", bootstrap).writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.until(lambda: fresh.partitions(topic, timeout_s=5.0) == (0, 1))
    helpers.fill(fresh, topic, [(1, 900 + n, event(n)) for n in range(3)])
    fresh.close()
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:
        assert opened.poll(10) is not None
    assert [number for number, _ in opened.state(5)["positions"]] == [0]
    opened.commit(5)
    assert rest(opened, limit=3) == [(1, n) for n in range(3)]
    assert opened.state(8)["positions"] == [[0, 5], [1, 3]]
    opened.close()


def test_records_of_open_and_aborted_transactions_are_not_read(bootstrap: str) -> None:
    """Only records of committed transactions are events, and the end is reached behind all markers."""
    topic = helpers.topic(bootstrap)
    writer = helpers.library("kafka-python", bootstrap).writer(
        transactional_id=helpers.fresh("id"), transaction_timeout_s=60.0
    )
    for number, commit in enumerate((True, False, True, False)):
        writer.begin()
        for n in range(3):
            writer.produce(Outgoing(topic, event(10 * number + n), partition=0))
        writer.settle(10.0)
        if commit:
            writer.commit({}, "g", "", timeout_s=20.0)
        else:
            writer.abort(timeout_s=20.0)
    writer.close()
    opened = source(bootstrap, topic)
    opened.open(0, None)
    assert rest(opened) == [(0, n) for n in (0, 1, 2, 8, 9, 10)]
    opened.close()


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_markers_that_retention_takes_are_not_missed(client: str, bootstrap: str) -> None:
    """Behind the last record only an aborted one and markers are deleted: a start goes on; with the record it is refused."""
    topic, ghost = helpers.topic(bootstrap), 3
    writer = helpers.library("kafka-python", bootstrap).writer(
        transactional_id=helpers.fresh("id"), transaction_timeout_s=60.0
    )

    def write(*numbers: int) -> None:
        writer.begin()
        for n in numbers:
            writer.produce(Outgoing(topic, event(n), partition=0))
        writer.settle(10.0)
        if ghost in numbers:
            writer.abort(timeout_s=20.0)
        else:
            writer.commit({}, "g", "", timeout_s=20.0)

    write(0, 1, 2)
    write(ghost)
    opened = source(bootstrap, topic, client=client, until="forever")
    opened.open(0, None)
    assert rest(opened, limit=3) == [(0, n) for n in range(3)]
    assert opened.state(2)["positions"] == [[0, 2]]
    deadline = time.monotonic() + 20.0
    while opened.state(3)["positions"] != [[0, 6]]:
        assert time.monotonic() < deadline
        assert opened.poll(10) is not None
    before, state = opened.state(2), opened.state(3)
    opened.commit(3)
    assert opened.state(3) == state
    opened.close()

    helpers.delete_before(bootstrap, Partition(topic, 0), 6)
    with pytest.raises(SourceError, match=r"records 2 to 5 of .*/0 have not been read"):
        source(bootstrap, topic, client=client).open(2, before)
    write(4, 5)
    again = source(bootstrap, topic, client=client)
    again.open(3, state)
    assert rest(again) == [(0, 6), (0, 7)]
    assert again.state(5)["lost_records"] == 0
    again.close()
    writer.close()


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_position_passes_no_record_behind_the_end(client: str, bootstrap: str, writer: LogWriter) -> None:
    """However far the client has read, whoever goes on from a run up to a place begins at that place."""
    topic = helpers.topic(bootstrap)
    helpers.fill(writer, topic, [(0, 1_000 + n, event(n)) for n in range(20)])
    opened = source(bootstrap, topic, client=client, until="end", until_positions={0: 8})
    opened.open(0, None)
    assert rest(opened) == [(0, n) for n in range(8)]
    state = opened.state(8)
    assert state["positions"] == [[0, 8]]
    opened.close()
    again = source(bootstrap, topic, client=client)
    again.open(8, state)
    assert rest(again) == [(0, n) for n in range(8, 20)]
    again.close()


def test_poison_becomes_rejects_with_its_bytes(bootstrap: str, writer: LogWriter) -> None:
    """Records that do not decode are rejects with bytes, key, headers and place; the others are events."""
    topic = helpers.topic(bootstrap)
    values: list[bytes | None] = [event(0), b"{", b"[1]", b"\xff\xfe", None, b"null", event(1), b'{"n": 1e999}']
    for number, value in enumerate(values):
        writer.produce(Outgoing(topic, value, b"key", (("h", b"v"),), 0, 1_000 + number))
    assert writer.settle(10.0).failed == ()
    opened = source(bootstrap, topic)
    opened.open(0, None)
    events, rejects = [], []
    while (chunk := opened.poll(3)) is not None:
        assert len(chunk) + len(chunk.rejects) <= 3
        events += places(chunk)
        rejects += chunk.rejects
    opened.close()
    assert events == [(0, 0), (0, 6)]
    assert [letter.offset for letter in rejects] == [1, 2, 3, 4, 5, 7]
    reasons = [letter.reason for letter in rejects]
    assert reasons[:5] == ["not_json", "not_object", "not_utf8", "tombstone", "not_object"]
    for letter in rejects:
        origin = letter.record.origin
        assert origin is not None
        assert letter.record == Record(values[origin.offset], b"key", (("h", b"v"),), 1_000 + origin.offset, origin)


def test_an_unreachable_cluster_at_the_start_is_an_error() -> None:
    """Where no broker answers at the start, the error names the address and what to check."""
    nowhere = PythonLibrary(KafkaConnection(bootstrap_servers="127.0.0.1:1", start_wait_s=1.0))
    opened = KafkaSource(KafkaReading(topic="t", group="g"), nowhere, JsonCodec(Schema()))
    with pytest.raises(SourceError, match=r"no Kafka broker answers at 127\.0\.0\.1:1.*whether the brokers run"):
        opened.open(0, None)


def test_attempts_to_connect_leave_no_socket_open() -> None:
    """While no broker answers, files stay as few as they were, though no garbage is collected."""
    nowhere = PythonLibrary(KafkaConnection(bootstrap_servers="localhost:1"))
    gc.collect()
    gc.disable()
    try:
        before = len([*Path("/proc/self/fd").iterdir()])
        with pytest.raises(LogError, match="no Kafka broker answers"):
            nowhere.reader(group="", committed_only=True, wait_s=2.0)
        assert len([*Path("/proc/self/fd").iterdir()]) == before
    finally:
        gc.enable()


@pytest.mark.parametrize("client", helpers.CLIENTS)
@pytest.mark.parametrize("stuck", [(0, 1), (1,)], ids=["of any partition", "of one partition"])
def test_a_client_that_gives_nothing_is_made_anew(
    client: str, stuck: tuple[int, ...], bootstrap: str, writer: LogWriter
) -> None:
    """Where records are there and a client brings none of them, it is made anew; every record comes once, in order."""
    topic = helpers.topic(bootstrap, 2)
    expected = shuffled(writer, topic, 2, 300, 3)
    opened = source(bootstrap, topic, client=client, stall_s=1.5, look_s=0.5)
    opened.open(0, None)
    reader = opened._opened()
    reader.pause(
        [Partition(topic, number) for number in stuck]
    )  # as if it had forgotten them: the source knows nothing of it
    assert rest(opened) == expected
    assert opened._opened() is not reader
    assert opened.statistics.stalls == 1
    opened.close()


def test_a_slow_loop_is_no_stall(bootstrap: str, writer: LogWriter) -> None:
    """However long the loop takes between two polls, a consumer that was not asked has not stalled."""
    topic, now = helpers.topic(bootstrap), 0.0
    helpers.fill(writer, topic, [(0, 0, event(n)) for n in range(12_000)])
    reading = KafkaReading(topic=topic, group=helpers.fresh("group"), until="end", buffer_records=100)
    opened = KafkaSource(reading, helpers.library("kafka-python", bootstrap), JsonCodec(Schema()), clock=lambda: now)
    opened.open(0, None)
    while opened.poll(500) is not None:
        now += 40.0
    assert opened.statistics.stalls == 0
    opened.close()
