"""A cluster of brokers in memory: partitioned logs, committed positions, transactions.

In: what clients ask (`tests.simulation.clients`). Out: what Kafka would keep. A transaction occupies offsets whether it
is committed or not, ends in a marker that occupies one too, and hides what lies behind it from readers of committed
records while it is open. The id of a transactional producer has an epoch, which rises when another producer takes over
and when a transaction has been open for too long; whoever comes with an older one is fenced.
"""

import math
from collections import deque
from dataclasses import dataclass, field

from connectors.kafka.client import Committed, LogError, Partition
from tests.simulation.members import Group


@dataclass(slots=True)
class Entry:
    """One offset of a log: a record, or the marker at the end of a transaction.

    Attributes:
        transaction: number of the transaction it belongs to; 0 = none.
    """

    value: bytes | None = None
    key: bytes | None = None
    headers: tuple = ()
    timestamp_ms: int = 0
    transaction: int = 0
    marker: bool = False


class Log:
    """The log of one partition."""

    def __init__(self):
        self.start = 0
        self.entries = []
        self.first_open = {}  # transaction -> its first offset here
        self.aborted = set()  # transactions

    @property
    def end(self):
        """The offset behind the last entry."""
        return len(self.entries)

    @property
    def stable_end(self):
        """The offset before which every transaction is finished."""
        return min(self.first_open.values(), default=self.end)

    def readable(self, committed_only):
        """Return the end of what a reader may see."""
        return self.stable_end if committed_only else self.end

    def visible(self, entry, committed_only):
        """Tell whether a reader is handed an entry."""
        return not entry.marker and not (committed_only and entry.transaction in self.aborted)


@dataclass(slots=True)
class Identity:
    """What a coordinator knows of a transactional id.

    Attributes:
        transaction: the one that is open or being ended; 0 = none.
        ending: None, or whether it is being committed: decided, but not yet written to every log.
        offsets: group and partition -> position, committed with it.
    """

    epoch: int = 0
    timeout_s: float = 60.0
    transaction: int = 0
    began: float = 0.0
    ending: bool | None = None
    offsets: dict = field(default_factory=dict)


class Cluster:
    """Logs, groups and transactions; what clients are told to expect goes wrong with their next calls."""

    def __init__(self, world):
        self._world = world
        self.down_until = 0.0
        self.topics = {}
        self.groups = {}  # (group, partition) -> Committed
        self._past = deque([{}], 20)  # what stood there before, oldest first
        self._behind = {}  # what a coordinator that has just come up tells instead
        self.identities = {}
        self.workers = Group(world)
        self._transactions = 0
        self._expected = {}  # kind of call -> details of what goes wrong with the next ones
        self.bounces = 0  # producers made before the last one are forgotten
        self.on_commit = lambda group, positions, transactional: None

    @property
    def down(self):
        """Whether no broker answers."""
        return self._world.clock.now < self.down_until

    def make_topic(self, name, partitions):
        """Make a topic."""
        self.topics[name] = [Log() for _ in range(partitions)]

    def add_partition(self, name):
        """Give a topic one more partition; returns its log."""
        self._world.log(f"*** {name} has one more partition")
        self.topics[name].append(Log())
        return self.topics[name][-1]

    def log(self, partition):
        """Return the log of a partition."""
        logs = self.topics.get(partition.topic, [])
        if partition.number >= len(logs):
            raise LogError("unknown_topic", f"{partition} does not exist")
        return logs[partition.number]

    # --- faults ---

    def expect(self, kind, detail):
        """Let the next call of a kind go wrong."""
        self._expected.setdefault(kind, deque()).append(detail)

    def trouble(self, kind):
        """Return what goes wrong with this call, None if nothing does."""
        waiting = self._expected.get(kind)
        return waiting.popleft() if waiting else None

    def calm(self):
        """Let nothing go wrong any more."""
        self._expected.clear()
        self.down_until = 0.0

    def forget_producers(self):
        """Forget the sequence numbers of producers, as brokers that were killed may."""
        self.bounces += 1

    def come_up(self):
        """Have the coordinator tell older positions, of some partitions or all, until it takes something or time passes."""
        rng = self._world.rng
        older = rng.choice(self._past)
        self._behind = {key: older.get(key) for key in self.groups if rng.random() < 0.7}
        self._world.later(rng.choice([1.0, 5.0, 60.0]), self._behind.clear)

    def told(self, group, partition):
        """Return the position of a group as its coordinator tells it."""
        key = group, partition
        return self._behind[key] if key in self._behind else self.groups.get(key)

    # --- records ---

    def append(self, partition, record, *, transaction=0):
        """Append a record; returns its offset."""
        log = self.log(partition)
        if transaction:
            log.first_open.setdefault(transaction, log.end)
        stamp = record.timestamp_ms if record.timestamp_ms is not None else int(self._world.clock.now * 1000)
        log.entries.append(Entry(record.value, record.key, record.headers, stamp, transaction))
        return log.end - 1

    def delete_before(self, partition, offset):
        """Delete records, as retention does; the log keeps them for whoever judges."""
        log = self.log(partition)
        log.start = max(log.start, min(offset, log.end))

    def retain(self, topic, beyond):
        """Delete the records of a topic that are read for good, and a share of those that are not.

        Where no position is committed nothing is deleted: a first start begins with what is there.
        """
        for (_, partition), committed in sorted(self.groups.items()):
            if partition.topic == topic:
                left = self.log(partition).end - committed.offset
                self.delete_before(partition, committed.offset + math.ceil(beyond * left))

    # --- transactions ---

    def take_over(self, identity, timeout_s):
        """Finish what an earlier producer of an id left open, and fence that one; returns the new epoch."""
        found = self.identities.setdefault(identity, Identity())
        if found.transaction:
            self._complete(found, committed=bool(found.ending))
        found.epoch += 1
        found.timeout_s = timeout_s
        return found.epoch

    def transaction(self, identity, epoch):
        """Return the number of the open transaction of a producer; one begins if none is open."""
        found = self.checked(identity, epoch)
        if found.ending is not None:
            raise LogError("unreachable", "the transaction before is still being ended")
        if not found.transaction:
            self._transactions += 1
            found.transaction, found.began = self._transactions, self._world.clock.now
            number = found.transaction
            self._world.later(found.timeout_s, lambda: self._expire(found, number))
        return found.transaction

    def add_offsets(self, identity, epoch, group, positions):
        """Take positions into a transaction."""
        self.transaction(identity, epoch)
        self._behind.clear()
        found = self.identities[identity]
        found.offsets |= {(group, partition): committed for partition, committed in positions.items()}

    def end(self, identity, epoch, *, commit, after_s=0.0):
        """Decide a transaction; it is written to the logs after a time."""
        found = self.checked(identity, epoch)
        if not found.transaction:
            return
        if found.ending is not None:
            if found.ending != commit:
                raise LogError("fenced", "the transaction is being ended otherwise")
            return
        found.ending, number = commit, found.transaction
        if commit and found.offsets:
            group = next(iter(found.offsets))[0]
            self.on_commit(group, {partition: at for (_, partition), at in found.offsets.items()}, True)
        if after_s:
            self._world.later(after_s, lambda: self._complete(found, committed=commit, number=number))
        else:
            self._complete(found, committed=commit)

    @property
    def ending(self):
        """Whether a transaction is decided, and not yet written to every log."""
        return any(found.ending is not None for found in self.identities.values())

    def checked(self, identity, epoch):
        """Return what is known of an id, if a producer still has it."""
        found = self.identities[identity]
        if found.epoch != epoch:
            raise LogError("fenced", f"epoch {epoch} of {identity!r} is over, it is {found.epoch} now")
        return found

    def unstable(self, group, partition):
        """Tell whether a position is part of a transaction that is being ended or open."""
        return any(found.transaction and (group, partition) in found.offsets for found in self.identities.values())

    def commit(self, group, positions):
        """Store positions of a group."""
        self._behind.clear()
        self._store({(group, partition): committed for partition, committed in positions.items()})
        self.on_commit(group, positions, False)

    def _store(self, positions):
        self._past.append(dict(self.groups))
        self.groups |= positions

    def _expire(self, found, number):
        if found.transaction == number and found.ending is None:
            self._world.log("*** a transaction was open for too long")
            self._complete(found, committed=False)
            found.epoch += 1

    def _complete(self, found, *, committed, number=None):
        if number is not None and found.transaction != number:
            return
        for logs in self.topics.values():
            for log in logs:
                if log.first_open.pop(found.transaction, None) is not None:
                    log.entries.append(Entry(transaction=found.transaction, marker=True))
                    if not committed:
                        log.aborted.add(found.transaction)
        if committed:
            self._store(found.offsets)
        found.transaction, found.ending, found.offsets = 0, None, {}


def position(offset, note):
    """Return a committed position."""
    return Committed(offset, note)


def partitions_of(cluster, topic):
    """Return the partitions of a topic."""
    return [Partition(topic, number) for number in range(len(cluster.topics[topic]))]
