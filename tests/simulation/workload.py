"""What is read, and with which settings: drawn from a seed.

In: a seed. Out: `Workload`: the records of each partition with the moments at which they arrive, and every setting that
the run depends on. Among the records are some without a label, some that do not decode, one that cannot be learned,
records of aborted transactions, and markers.
"""

import random
from dataclasses import dataclass, field

import orjson

from tests.simulation.cluster import Entry
from tests.simulation.model import REFUSED, label_of

SOURCE = "in"
GHOST = 5_000_000  # codes from here on belong to aborted transactions
BAD = (b"{", b"[1]", b'{"code": "x"}', b'{"code": Infinity}', b"\xff\xfe", None, b"x" * 6_000)


@dataclass
class Workload:
    """A stream and the settings of a run.

    Attributes:
        arrivals: (moment in s, partition, entry), in order; entries of one partition in the order of its log.
        strict: whether the order of events is a function of the records alone.
        good: code -> partition, of every event.
        labelled: codes with a label.
        bad: (partition, offset) of the records that do not decode.
    """

    delivery: str
    order: str
    partitions: int
    batch: int
    delay_events: int
    control_every: int
    chunk: int
    checkpoint_every: int
    checkpoint_every_s: float
    keep: int
    idle_wait_s: float
    buffer_records: int
    transaction_timeout_s: float
    arrivals: list = field(default_factory=list)
    strict: bool = True
    good: dict = field(default_factory=dict)
    labelled: set = field(default_factory=set)
    bad: set = field(default_factory=set)
    aborted: set = field(default_factory=set)

    @property
    def records(self):
        """How many records a reader of committed ones is handed."""
        return len(self.good) + len(self.bad)

    def merged(self):
        """Return the codes of the events in the order that timestamps give, if everything is there from the start.

        The partition whose next record has the smallest timestamp gives it, the lower number where they are equal.
        """
        queues = [[] for _ in range(self.partitions)]
        for _, number, entry in self.arrivals:
            if not entry.marker and entry.transaction not in self.aborted:
                queues[number].append(entry)
        codes = []
        while any(queues):
            number = min((q[0].timestamp_ms, n) for n, q in enumerate(queues) if q)[1]
            entry = queues[number].pop(0)
            code = code_of(entry)
            if code is not None:
                codes.append(code)
        return codes


def code_of(entry):
    """Return the code of an event; None if the record does not decode."""
    if entry.value in BAD:
        return None
    return orjson.loads(entry.value)["code"]


def draw(seed):
    """Draw a workload."""
    rng = random.Random(seed)
    batch = rng.choice([1, 1, 1, 4])
    made = Workload(
        delivery=rng.choice(["transactional", "transactional", "at_least_once", "files"]),
        order=rng.choice(["timestamp", "timestamp", "timestamp", "arrival"]),
        partitions=rng.choice([1, 2, 3]),
        batch=batch,
        delay_events=rng.choice([0, 0, 5, 12]),
        control_every=rng.choice([7, 16, 1000]),
        chunk=rng.choice([4, 16, 512]),
        checkpoint_every=rng.choice([12, 20, 40]),
        checkpoint_every_s=rng.choice([0.0, 0.5]),
        keep=rng.choice([2, 3]),
        idle_wait_s=rng.choice([0.0, 0.3, 1.0]),
        buffer_records=rng.choice([4, 1000]),
        transaction_timeout_s=rng.choice([20.0, 60.0]),
    )
    trickles = rng.random() < 0.3
    made.strict = made.partitions == 1 or (made.order == "timestamp" and not trickles)
    _fill(made, rng, trickles=trickles)
    return made


def _fill(made, rng, *, trickles):
    moment, stamps, ends = 0.0, [1_000 + rng.randrange(5) for _ in range(made.partitions)], [0] * made.partitions
    transactions = 1_000_000  # numbers that the cluster does not give
    events = made.batch * (rng.randrange(16, 44) // made.batch)
    weights = [rng.choice([1, 4]) for _ in range(made.partitions)]

    def put(number, value, **named):
        moves = rng.choice([0, 1, 1, 5, -2])
        stamps[number] += moves
        key = rng.choice([None, b"a", b"bb"])
        made.arrivals.append((moment, number, Entry(value, key, (), stamps[number], **named)))
        ends[number] += 1

    count = 0
    while count < events:
        number = rng.choices(range(made.partitions), weights)[0]
        if trickles:
            moment += rng.choice([0.0, 0.0, 0.01, 0.1, 0.4])
        kind = rng.random()
        if kind < 0.05:
            made.bad.add((number, ends[number]))
            put(number, rng.choice(BAD))
        elif kind < 0.08:
            transactions += 1
            made.aborted.add(transactions)
            for ghost in range(rng.randrange(1, 3)):
                put(number, _value(GHOST + ghost, labelled=True), transaction=transactions)
            put(number, None, transaction=transactions, marker=True)
        elif kind < 0.10:
            transactions += 1
            count += _event(made, rng, number, count, put, transaction=transactions)
            put(number, None, transaction=transactions, marker=True)
        else:
            count += _event(made, rng, number, count, put)


def _event(made, rng, number, count, put, **named):
    code = number * 10_000 + count + (REFUSED if rng.random() < 0.02 else 0)
    labelled = rng.random() < 0.85
    made.good[code] = number
    if labelled:
        made.labelled.add(code)
    put(number, _value(code, labelled=labelled), **named)
    return 1


def _value(code, *, labelled):
    return orjson.dumps({"code": code, "y": label_of(code) if labelled else None})


def offset_of(cluster):
    """Return where each event lies: code -> (partition, offset)."""
    found = {}
    for number, log in enumerate(cluster.topics[SOURCE]):
        for offset, entry in enumerate(log.entries):
            if not entry.marker and entry.transaction not in log.aborted and entry.value not in BAD:
                found[code_of(entry)] = (number, offset)
    return found


def load(world, made):
    """Make the topics, and let the records arrive."""
    world.cluster.make_topic(SOURCE, made.partitions)
    world.cluster.make_topic("out", 2)
    world.cluster.make_topic("dead", 1)
    logs = world.cluster.topics[SOURCE]
    for log in logs:
        log.aborted |= made.aborted

    def arrive(number, entry):
        logs[number].entries.append(entry)

    for moment, number, entry in made.arrivals:
        if moment:
            world.later(moment, lambda number=number, entry=entry: arrive(number, entry))
        else:
            arrive(number, entry)
