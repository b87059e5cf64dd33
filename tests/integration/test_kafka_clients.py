"""One battery for both client libraries, on a real broker."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from connectors.kafka import fast_member, python_member
from connectors.kafka.client import (
    SESSION_S,
    Library,
    LogError,
    LogMember,
    LogReader,
    LogWriter,
    Outgoing,
    Partition,
)
from connectors.kafka.fast_client import FastLibrary
from connectors.kafka.python_client import PythonLibrary
from connectors.kafka.settings import KafkaConnection
from tests.integration import helpers


@pytest.fixture(params=helpers.CLIENTS)
def client(request: pytest.FixtureRequest, bootstrap: str) -> Library:
    """Each of the two libraries."""
    return helpers.library(request.param, bootstrap)


@pytest.fixture
def reader(client: Library) -> Iterator[LogReader]:
    """A reader with a group of its own."""
    made = client.reader(group=helpers.fresh("group"), committed_only=True)
    yield made
    made.close()


@pytest.fixture
def writer(client: Library) -> Iterator[LogWriter]:
    """A writer without transactions."""
    made = client.writer(transactional_id="", transaction_timeout_s=60.0)
    yield made
    made.close()


def test_a_record_comes_back_as_it_was(bootstrap: str, reader: LogReader, writer: LogWriter) -> None:
    """Value, key, headers, timestamp and position of a record survive; a tombstone stays one."""
    name = helpers.topic(bootstrap, 2)
    sent = [
        Outgoing(name, b"\x00one", b"key", (("a", b"1"), ("a", b"")), 1, 1_700_000_000_123),
        Outgoing(name, None, b"key", (), 1, 1_700_000_000_000),
        Outgoing(name, b"", None, (), 1, 5),
    ]
    for record in sent:
        writer.produce(record)
    assert writer.settle(10.0) == type(writer.settle(0.0))((), 0)
    reader.assign({Partition(name, 0): 0, Partition(name, 1): 0})
    found = helpers.read(reader, 3)
    assert set(found) == {Partition(name, 1)}
    for offset, (record, expected) in enumerate(zip(found[Partition(name, 1)], sent, strict=True)):
        assert (record.value, record.key, record.headers) == (expected.value, expected.key, expected.headers)
        assert record.timestamp_ms == expected.timestamp_ms
        assert record.origin is not None
        assert (record.origin.topic, record.origin.partition, record.origin.offset) == (name, 1, offset)
    assert reader.position(Partition(name, 1)) == 3


def test_both_libraries_put_a_key_into_the_same_partition(bootstrap: str) -> None:
    """A key goes to the partition that Java's client would choose, whichever library writes it."""
    name = helpers.topic(bootstrap, 7)
    where: list[dict[bytes | None, int]] = []
    for which in helpers.CLIENTS:
        client = helpers.library(which, bootstrap)
        writer = client.writer(transactional_id="", transaction_timeout_s=60.0)
        for number in range(50):
            writer.produce(Outgoing(name, which.encode(), f"key-{number}".encode()))
        assert writer.settle(10.0).waiting == 0
        writer.close()
        records = [r for r in helpers.everything(client, name) if r.value == which.encode()]
        where.append({r.key: r.origin.partition for r in records if r.origin is not None})
    assert len(where[0]) == 50
    assert where[0] == where[1]


def test_offsets_by_end_and_time(bootstrap: str, reader: LogReader, writer: LogWriter) -> None:
    """Begin, end and the offset at a moment are the log's; a partition without later records has none."""
    name = helpers.topic(bootstrap, 2)
    one, other = Partition(name, 0), Partition(name, 1)
    helpers.fill(writer, name, [(0, 1_000 * n, b"x") for n in range(1, 11)])
    assert reader.partitions(name, timeout_s=10.0) == (0, 1)
    assert reader.begin([one, other], timeout_s=10.0) == {one: 0, other: 0}
    assert reader.end([one, other], timeout_s=10.0) == {one: 10, other: 0}
    assert reader.at_time({one: 3_500, other: 1}, timeout_s=10.0) == {one: 3, other: None}
    assert reader.at_time({one: 4_000}, timeout_s=10.0) == {one: 3}
    helpers.delete_before(bootstrap, one, 4)
    assert reader.begin([one], timeout_s=10.0) == {one: 4}


def test_a_missing_topic_has_no_partitions(reader: LogReader, writer: LogWriter) -> None:
    """Looking up a topic that does not exist says so, and does not make it."""
    name = helpers.fresh("missing")
    for _ in range(2):
        assert reader.partitions(name, timeout_s=5.0) == ()
        assert writer.partitions(name, timeout_s=5.0) == ()


def test_a_topic_made_again_has_another_id(client: Library, bootstrap: str) -> None:
    """A topic's id, which a later topic of the same name does not have, is the same for both libraries."""
    name = helpers.topic(bootstrap)
    ids = []
    for which in helpers.CLIENTS:
        reader = helpers.library(which, bootstrap).reader(group="", committed_only=True)
        reader.partitions(name, timeout_s=5.0)
        ids.append(reader.topic_id(name))
        reader.close()
    assert ids[0] == ids[1] != ""


def test_a_paused_partition_gives_nothing(bootstrap: str, reader: LogReader, writer: LogWriter) -> None:
    """While a partition is paused only the others give records; resumed, it goes on where it was."""
    name = helpers.topic(bootstrap, 2)
    one, other = Partition(name, 0), Partition(name, 1)
    reader.assign({one: 0, other: 0})
    reader.pause([one])
    helpers.fill(writer, name, [(n % 2, 0, b"%d" % n) for n in range(20)])
    assert set(helpers.read(reader, 10)) == {other}
    assert reader.poll(0.5, 100) == {}
    reader.resume([one])
    assert [r.value for r in helpers.read(reader, 10)[one]] == [b"%d" % n for n in range(0, 20, 2)]


def test_a_partition_paused_within_a_fetch_goes_on(bootstrap: str, reader: LogReader, writer: LogWriter) -> None:
    """Partitions that are paused while part of what was fetched is not handed out give all of it when resumed."""
    name = helpers.topic(bootstrap, 3)
    partitions = [Partition(name, number) for number in range(3)]
    helpers.fill(writer, name, [(n % 3, 0, b"%d" % n) for n in range(300)])
    reader.assign(dict.fromkeys(partitions, 0))
    found: dict[Partition, list[bytes | None]] = {partition: [] for partition in partitions}

    def whole() -> bool:
        for partition, records in reader.poll(0.1, 10).items():
            found[partition] += [record.value for record in records]
            if len(found[partition]) == 10:
                reader.pause([partition])
        if all(len(values) >= 10 for values in found.values()):
            reader.resume(partitions)
        return sum(map(len, found.values())) == 300

    helpers.until(whole)
    assert [found[p] for p in partitions] == [[b"%d" % n for n in range(p, 300, 3)] for p in range(3)]


def test_a_poll_gives_at_most_what_was_asked_for(bootstrap: str, reader: LogReader, writer: LogWriter) -> None:
    """A poll for 3 records never gives more, and no record is lost or repeated by that."""
    name = helpers.topic(bootstrap)
    helpers.fill(writer, name, [(0, 0, b"%d" % n) for n in range(20)])
    reader.assign({Partition(name, 0): 5})
    values: list[bytes | None] = []
    while len(values) < 15:
        found = [r.value for r in reader.poll(1.0, 3).get(Partition(name, 0), [])]
        assert len(found) <= 3
        values += found
    assert values == [b"%d" % n for n in range(5, 20)]


@pytest.mark.parametrize("position", [2, 100])
def test_a_lost_position_is_an_error(position: int, bootstrap: str, reader: LogReader, writer: LogWriter) -> None:
    """Reading from before the first record or behind the last is an error, not a jump."""
    name = helpers.topic(bootstrap)
    helpers.fill(writer, name, [(0, 0, b"x")] * 10)
    helpers.delete_before(bootstrap, Partition(name, 0), 5)
    reader.assign({Partition(name, 0): position})
    with pytest.raises(LogError) as caught:
        helpers.read(reader, 1)
    assert caught.value.fault == "out_of_range"
    reader.assign({Partition(name, 0): 5})
    assert len(helpers.read(reader, 5)[Partition(name, 0)]) == 5


def test_commits_keep_a_note(bootstrap: str, client: Library) -> None:
    """A committed position comes back with its note, for another reader of the group and no other group."""
    name, group = helpers.topic(bootstrap, 2), helpers.fresh("group")
    one, other = Partition(name, 0), Partition(name, 1)
    reader = client.reader(group=group, committed_only=True)
    assert reader.committed([one, other], timeout_s=10.0) == {}
    reader.assign({one: 0, other: 0})
    reader.commit({one: 17}, "checkpoint 3", timeout_s=10.0)
    reader.close()
    later = client.reader(group=group, committed_only=True)
    found = later.committed([one, other], timeout_s=10.0)
    assert {p: (c.offset, c.note) for p, c in found.items()} == {one: (17, "checkpoint 3")}
    later.close()
    stranger = client.reader(group=helpers.fresh("group"), committed_only=True)
    assert stranger.committed([one], timeout_s=10.0) == {}
    stranger.close()


@pytest.mark.parametrize("which", helpers.CLIENTS)
def test_notes_of_one_library_are_read_by_the_other(which: str, bootstrap: str, client: Library) -> None:
    """A model may go on with the other library: the note beside positions is the same text."""
    other, group = helpers.library(which, bootstrap), helpers.fresh("group")
    alone, joined = Partition(helpers.topic(bootstrap), 0), Partition(helpers.topic(bootstrap), 0)
    writer = client.writer(transactional_id=helpers.fresh("id"), transaction_timeout_s=60.0)
    writer.begin()
    writer.commit({joined: 42}, group, "joined", timeout_s=20.0)
    writer.close()
    reader = client.reader(group=group, committed_only=True)
    reader.assign({alone: 0})
    reader.commit({alone: 17}, "alone", timeout_s=10.0)
    reader.close()
    later = other.reader(group=group, committed_only=True)
    found = later.committed([alone, joined], timeout_s=10.0)
    later.close()
    assert {p: (c.offset, c.note) for p, c in found.items()} == {alone: (17, "alone"), joined: (42, "joined")}


def test_a_transaction_is_seen_whole_or_not_at_all(bootstrap: str, client: Library) -> None:
    """Records of an open or aborted transaction stay invisible; a commit shows them, with its offsets."""
    name, group = helpers.topic(bootstrap), helpers.fresh("group")
    one, source = Partition(name, 0), Partition(helpers.topic(bootstrap), 0)
    reader = client.reader(group=group, committed_only=True)
    writer = client.writer(transactional_id=helpers.fresh("id"), transaction_timeout_s=60.0)
    reader.assign({one: 0})
    for round_, ending in enumerate(("abort", "commit")):
        writer.begin()
        for n in range(5):
            writer.produce(Outgoing(name, b"%d%d" % (round_, n), partition=0))
        assert writer.settle(10.0).waiting == 0
        assert reader.poll(0.3, 100) == {}
        if ending == "abort":
            writer.abort(timeout_s=20.0)
            assert reader.poll(0.3, 100) == {}
            assert reader.committed([source], timeout_s=10.0) == {}
        else:
            writer.commit({source: 42}, group, "note", timeout_s=20.0)
    assert [r.value for r in helpers.read(reader, 5)[one]] == [b"1%d" % n for n in range(5)]
    found = reader.committed([source], timeout_s=10.0)[source]
    assert (found.offset, found.note) == (42, "note")
    # 5 aborted, a marker, 5 committed, a marker: the position is behind them all, so nothing seems to be left
    helpers.until(lambda: bool(reader.poll(0.1, 10)) or reader.position(one) == 12)
    assert reader.end([one], timeout_s=10.0) == {one: 12}
    reader.close()
    writer.close()


def test_a_coordinator_that_catches_up_keeps_its_positions(bootstrap: str, client: Library) -> None:
    """What it is given to catch up with changes nothing, committed or not, and the writer goes on."""
    group, source = helpers.fresh("group"), Partition(helpers.topic(bootstrap), 0)
    reader = client.reader(group=group, committed_only=True)
    writer = client.writer(transactional_id=helpers.fresh("id"), transaction_timeout_s=60.0)
    writer.catch_up(source, group, timeout_s=20.0)
    assert reader.committed([source], timeout_s=10.0) == {}
    for offset in (7, 9):
        writer.begin()
        writer.commit({source: offset}, group, "note", timeout_s=20.0)
        writer.catch_up(source, group, timeout_s=20.0)
        found = reader.committed([source], timeout_s=10.0)[source]
        assert (found.offset, found.note) == (offset, "note")
    reader.close()
    writer.close()


def test_the_end_is_before_an_open_transaction(bootstrap: str, client: Library) -> None:
    """To a reader of committed records the log ends before the first open transaction."""
    name = helpers.topic(bootstrap)
    one = Partition(name, 0)
    writer = client.writer(transactional_id=helpers.fresh("id"), transaction_timeout_s=60.0)
    writer.begin()
    writer.produce(Outgoing(name, b"x", partition=0))
    assert writer.settle(10.0).waiting == 0
    ends = []
    for committed_only in (True, False):
        reader = client.reader(group="", committed_only=committed_only)
        ends.append(reader.end([one], timeout_s=10.0)[one])
        reader.close()
    assert ends == [0, 1]
    writer.abort(timeout_s=20.0)
    writer.close()


def test_a_successor_fences_the_old_writer(bootstrap: str, client: Library) -> None:
    """A second writer with the same id aborts what the first left open, and the first can commit no more."""
    name, identity, group = helpers.topic(bootstrap), helpers.fresh("id"), helpers.fresh("group")
    old = client.writer(transactional_id=identity, transaction_timeout_s=60.0)
    old.begin()
    old.produce(Outgoing(name, b"old", partition=0))
    assert old.settle(10.0).waiting == 0
    new = client.writer(transactional_id=identity, transaction_timeout_s=60.0)
    with pytest.raises(LogError) as caught:
        old.commit({Partition(name, 0): 1}, group, "old", timeout_s=20.0)
    assert caught.value.fault == "fenced"
    new.begin()
    new.produce(Outgoing(name, b"new", partition=0))
    assert new.settle(10.0).waiting == 0
    new.commit({}, group, "", timeout_s=20.0)
    assert [r.value for r in helpers.everything(client, name)] == [b"new"]
    old.close()
    new.close()


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_what_is_compressed_is_read_by_both_libraries(compression: Any, client: Library, bootstrap: str) -> None:
    """Records come back as they were, whichever library compressed them, also from a large batch."""
    name = helpers.topic(bootstrap)
    kind = type(client)
    assert isinstance(client, PythonLibrary | FastLibrary)
    writer = kind(KafkaConnection(bootstrap_servers=bootstrap, compression=compression)).writer(
        transactional_id="", transaction_timeout_s=60.0
    )
    values = [b"%d " % n * 1_000 for n in range(800)]
    helpers.fill(writer, name, [(0, n, value) for n, value in enumerate(values)])
    writer.close()
    for which in helpers.CLIENTS:
        found = helpers.everything(helpers.library(which, bootstrap), name)
        assert [record.value for record in found] == values, which


def test_a_compression_that_is_not_installed_is_told(bootstrap: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python without the package of a compression: the message says what to install, for writing and for reading."""
    name, connection = helpers.topic(bootstrap), KafkaConnection(bootstrap_servers=bootstrap, compression="zstd")
    writer = FastLibrary(connection).writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.fill(writer, name, [(0, n, b"text " * 100) for n in range(10)])
    writer.close()
    monkeypatch.setattr("kafka.codec.zstd", None)
    with pytest.raises(LogError, match=r"zstd .*install the extra `compression`") as caught:
        PythonLibrary(connection).writer(transactional_id="", transaction_timeout_s=60.0)
    assert caught.value.fault == "configuration"
    reader = PythonLibrary(connection).reader(group="", committed_only=True)
    reader.assign({Partition(name, 0): 0})
    with pytest.raises(LogError, match=r"zstd .*install the extra `compression`") as caught:
        helpers.read(reader, 1)
    assert caught.value.fault == "configuration"
    reader.close()


def test_a_record_that_is_too_large_is_told(bootstrap: str, client: Library, writer: LogWriter) -> None:
    """A record larger than the topic takes fails as such, and a new writer delivers the next one."""
    name = helpers.topic(bootstrap, configs={"max.message.bytes": "10000"})
    large = Outgoing(name, bytes(50_000), partition=0)
    writer.produce(large)
    settled = writer.settle(20.0)
    assert [(record, error.fault) for record, error in settled.failed] == [(large, "too_large")]
    fresh = client.writer(transactional_id="", transaction_timeout_s=60.0)
    helpers.fill(fresh, name, [(0, 0, b"small")])
    fresh.close()
    assert [r.value for r in helpers.everything(client, name)] == [b"small"]


class Members:
    """Members of one group, which take part one after the other."""

    def __init__(self, client: Library, bootstrap: str) -> None:
        self._client, self._topic, self._group = client, helpers.topic(bootstrap, 3), helpers.fresh("group")
        self.all: dict[str, LogMember] = {}

    def join(self, name: str) -> None:
        """Add a member."""
        self.all[name] = self._client.member(group=self._group, topic=self._topic, name=name)

    def shares(self) -> dict[str, list[int] | None]:
        """Let every member take part for a moment; say who has what."""
        found = {name: member.poll(0.05) for name, member in self.all.items()}
        return {name: None if share is None else sorted(share) for name, share in found.items()}

    def leave(self, name: str) -> None:
        """Have a member leave while the others take part: a group may be agreeing on something just then."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self.all.pop(name).close)
            helpers.until(lambda: (self.shares(), done.done())[1])
            done.result()

    def close(self) -> None:
        """Have all leave."""
        for name in list(self.all):
            self.leave(name)


@pytest.fixture
def members(client: Library, bootstrap: str) -> Iterator[Members]:
    """A group without members."""
    made = Members(client, bootstrap)
    yield made
    made.close()


def test_the_first_partition_is_that_of_the_first_name(members: Members) -> None:
    """Later names leave partition 0 where it is; whoever leaves gives it up at once."""
    members.join("b")
    helpers.until(lambda: members.shares() == {"b": [0, 1, 2]})
    members.join("c")
    helpers.until(lambda: members.shares() == {"b": [0, 1], "c": [2]})
    members.join("a")
    helpers.until(lambda: members.shares() == {"a": [0], "b": [1], "c": [2]})
    members.leave("a")
    helpers.until(lambda: members.shares() == {"b": [0, 1], "c": [2]}, SESSION_S)
    members.leave("b")
    helpers.until(lambda: members.shares() == {"c": [0, 1, 2]}, SESSION_S)


@pytest.mark.parametrize(("kind", "setting"), [(PythonLibrary, "client_id"), (FastLibrary, "client.id")])
def test_a_member_keeps_its_name(kind: type[PythonLibrary] | type[FastLibrary], setting: str, bootstrap: str) -> None:
    """Whose turn it is does not depend on a client's name in the user's own settings."""
    members = Members(kind(KafkaConnection(bootstrap_servers=bootstrap, common={setting: "mine"})), bootstrap)
    for name in "dcba":
        members.join(name)
    helpers.until(lambda: members.shares() == {"a": [0], "b": [1], "c": [2], "d": []}, 60.0)
    members.close()


@pytest.mark.heavy
def test_a_member_that_was_stopped_has_lost_its_place(client: Library, bootstrap: str) -> None:
    """A process that is frozen for longer than a session loses its partitions to the next, and is told so."""
    topic, group = helpers.topic(bootstrap, 3), helpers.fresh("group")
    script = "import sys; from tests.integration import helpers\n"
    script += (
        "member = helpers.library(sys.argv[1], sys.argv[2]).member(group=sys.argv[3], topic=sys.argv[4], name='a')\n"
    )
    script += "while True: print(member.poll(0.1), flush=True)"
    words = [sys.executable, "-c", script, helpers.name_of(client), bootstrap, group, topic]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as frozen:
        assert frozen.stdout is not None
        assert "0, 1, 2" in next(line for line in frozen.stdout if "0" in line)
        member = client.member(group=group, topic=topic, name="b")
        helpers.until(lambda: member.poll(0.1) == {2})
        frozen.send_signal(signal.SIGSTOP)
        helpers.until(lambda: member.poll(0.1) == {0, 1, 2}, 30.0)
        frozen.send_signal(signal.SIGCONT)
        _, said = frozen.communicate(timeout=60)
    assert "has lost its place in the group" in said
    member.close()


@pytest.mark.heavy
def test_a_member_that_nobody_asks_has_lost_its_place(members: Members, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lives, and whose loop hangs, loses its partitions to the next, and is told so."""
    for module in (python_member, fast_member):
        monkeypatch.setattr(module, "SILENT_S", SESSION_S + 1.0)
    members.join("a")
    helpers.until(lambda: members.shares() == {"a": [0, 1, 2]})
    members.join("b")
    helpers.until(lambda: members.shares() == {"a": [0, 1], "b": [2]})
    hung = members.all.pop("a")
    helpers.until(lambda: members.shares() == {"b": [0, 1, 2]}, 60.0)
    with pytest.raises(LogError) as caught:
        helpers.until(lambda: hung.poll(0.1) is None)
    assert caught.value.fault == "fenced"
    hung.close()


@pytest.mark.parametrize("kind", [PythonLibrary, FastLibrary])
def test_an_unreachable_cluster_is_told_in_time(kind: type[PythonLibrary] | type[FastLibrary]) -> None:
    """Where nothing listens, connecting fails after the time allowed, and names the address."""
    nowhere = kind(KafkaConnection(bootstrap_servers="127.0.0.1:1", start_wait_s=1.0))
    began = time.monotonic()
    with pytest.raises(LogError, match=r"no Kafka broker answers at 127\.0\.0\.1:1 .* within 1 s") as caught:
        nowhere.reader(group="g", committed_only=True)
    assert caught.value.fault == "unreachable"
    assert time.monotonic() - began < 15.0


@pytest.mark.parametrize("kind", [PythonLibrary, FastLibrary])
def test_attempts_in_vain_leave_no_threads(kind: type[PythonLibrary] | type[FastLibrary]) -> None:
    """However often a cluster that does not answer is tried, no thread with its sockets is left of it."""
    nowhere = kind(KafkaConnection(bootstrap_servers="127.0.0.1:1", start_wait_s=1.0))
    before = threading.active_count()
    with pytest.raises(LogError):
        nowhere.reader(group="g", committed_only=True, wait_s=4.0)  # two attempts
    assert threading.active_count() <= before


@pytest.mark.parametrize("kind", [PythonLibrary, FastLibrary])
def test_an_unknown_setting_is_refused(kind: type[PythonLibrary] | type[FastLibrary], bootstrap: str) -> None:
    """A further setting that the library does not know is a configuration error that names it."""
    library = kind(KafkaConnection(bootstrap_servers=bootstrap, consumer={"no_such_setting": 1}))
    with pytest.raises(LogError, match="no_such_setting") as caught:
        library.reader(group="g", committed_only=True)
    assert caught.value.fault == "configuration"
