"""What is read, and with which settings: drawn from a seed.

In: a seed. Out: `Workload`: the records of each partition with the moments at which they arrive, and every setting that
the run depends on. Among the records are some without a label, some that do not decode, one that cannot be learned,
records of aborted transactions, and markers. Labels may come on a topic of their own: before, after or between their
events, some twice, some never. Partitions may be added while the topic is read.
"""

import random
from dataclasses import dataclass, field

import orjson

from tests.simulation.cluster import Entry
from tests.simulation.model import REFUSED, label_of

SOURCE, LABELS = "in", "labels"
NOBODY = 4_000_000  # the code of no event
GHOST = 5_000_000  # codes from here on belong to aborted transactions
BAD = (b"{", b"[1]", b'{"code": "x"}', b'{"code": Infinity}', b"\xff\xfe", None, b"x" * 6_000)
NO_LABELS = (b"{", b"\xff\xfe", None, b'{"y": 1}', b'{"id": "7"}', b'{"id": "7", "y": "x"}')


@dataclass
class Workload:
    """A stream and the settings of a run.

    Attributes:
        label_partitions: of the topic of labels; 0 = labels are fields of the events.
        label_wait_ms: how long events and labels wait for each other, of stream time; 0 = for ever.
        added: moments in s at which the topic gets one more partition each.
        wait_s: how long an event waits for its micro-batch; 0 = for ever.
        arrivals: (moment in s, topic, partition, entry), in order; entries of one partition in the order of its log.
        strict: whether the order of events is a function of the records alone.
        good: code -> partition, of every event.
        labelled: codes with a label in their own record.
        labels: how many records of the topic of labels can be used.
        bad: (topic, partition, offset) of the records that cannot be used.
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
    label_partitions: int = 0
    label_wait_ms: int = 0
    added: list = field(default_factory=list)
    wait_s: float = 0.0
    arrivals: list = field(default_factory=list)
    strict: bool = True
    good: dict = field(default_factory=dict)
    labelled: set = field(default_factory=set)
    labels: int = 0
    bad: set = field(default_factory=set)
    aborted: set = field(default_factory=set)

    @property
    def records(self):
        """How many records a reader of committed ones is handed."""
        return len(self.good) + len(self.bad) + self.labels

    @property
    def places(self):
        """The partitions that there are in the end, in the order in which they are merged where none is added."""
        events = [(SOURCE, number) for number in range(self.partitions + len(self.added))]
        return events + [(LABELS, number) for number in range(self.label_partitions)]

    def merged(self):
        """Return the records that can be used in the order that timestamps give, if everything is there from the start.

        The partition whose next record has the smallest timestamp gives it, the first one where they are equal.

        Returns:
            A list of pairs: what `usable` says of each, and its timestamp.
        """
        queues = {place: [] for place in self.places}
        for _, topic, number, entry in self.arrivals:
            if not entry.marker and entry.transaction not in self.aborted:
                queues[topic, number].append(entry)
        places, found = self.places, []
        while any(queues.values()):
            place = min((queues[p][0].timestamp_ms, n, p) for n, p in enumerate(places) if queues[p])[2]
            entry = queues[place].pop(0)
            one = usable(place[0], entry)
            if one is not None:
                found.append((one, entry.timestamp_ms))
        return found


def usable(topic, entry):
    """Return the code of an event, or code and label of a label; None if the record cannot be used."""
    return code_of(entry) if topic == SOURCE else _label_in(entry)


def code_of(entry):
    """Return the code of an event; None if the record does not decode."""
    if entry.value in BAD:
        return None
    return orjson.loads(entry.value)["code"]


def _label_in(entry):
    """Return the code and the label in a record of the topic of labels; None if it cannot be used."""
    if entry.value in NO_LABELS:
        return None
    told = orjson.loads(entry.value)
    return int(told["id"]), told["y"]


def draw(seed, *, labels=False, trickling=False, grows=False, waits=False, skips=False, stalls=False):
    """Draw a workload.

    Args:
        seed: of everything.
        labels: they come on a topic of their own.
        trickling: so do they, and the order of all records depends on when they come.
        grows: partitions are added.
        waits: the clock ends micro-batches.
        skips: the run goes on without records that were deleted.
        stalls: there are several partitions, and some record comes every second.
    """
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
    if labels:
        made.label_partitions, made.order, trickles = rng.choice([1, 2]), "timestamp", False
        made.batch, made.delay_events = 1, 0
    if trickling:
        made.label_partitions, made.label_wait_ms, trickles = rng.choice([1, 2]), rng.choice([0, 10, 40]), True
        made.delivery = rng.choice(["transactional", "at_least_once"])  # predictions in files do not tell
        made.batch, made.delay_events = 1, 0
    if grows:
        made.added, trickles = sorted(rng.choices([0.05, 0.3, 0.8, 1.5], k=rng.choice([1, 2]))), True
        made.checkpoint_every_s = 0.5  # without a checkpoint they would not be taken up
    if waits:
        made.batch, made.wait_s, trickles = rng.choice([2, 4, 4, 16]), rng.choice([0.02, 0.1, 0.5, 3.0]), True
        made.delivery = rng.choice(["transactional", "at_least_once"])  # predictions in files do not tell
    if stalls:
        made.partitions, made.buffer_records, trickles = rng.choice([2, 3]), 1000, True
    if skips:
        made.batch = 1  # how many records there will be is not known: the last micro-batch might never be whole
    made.strict = not (grows or waits or trickling) and (
        made.partitions + made.label_partitions == 1 or (made.order == "timestamp" and not trickles)
    )
    pauses = (0.2, 0.5, 1.0) if stalls else (0.0, 0.0, 0.01, 0.1, 0.4)
    _fill(made, rng, pauses=pauses if trickles else None)
    if labels or trickling:
        _fill_labels(made, rng, trickles=trickles)
    return made


def _fill(made, rng, *, pauses):
    whole = made.partitions + len(made.added)
    moment, stamps, ends = 0.0, [1_000 + rng.randrange(5) for _ in range(whole)], [0] * whole
    transactions = 1_000_000  # numbers that the cluster does not give
    events = made.batch * (rng.randrange(16, 44) // made.batch)
    weights = [rng.choice([1, 4]) for _ in range(whole)]
    silenced = bool(made.added) and rng.random() < 0.5  # the others give nothing once a partition is added

    def put(number, value, **named):
        moves = rng.choice([0, 1, 1, 5, -2])
        stamps[number] += moves
        key = rng.choice([None, b"a", b"bb"])
        made.arrivals.append((moment, SOURCE, number, Entry(value, key, (), stamps[number], **named)))
        ends[number] += 1

    count = 0
    while count < events:
        there = made.partitions + sum(appears <= moment for appears in made.added)
        first = made.partitions if silenced and there > made.partitions else 0
        number = rng.choices(range(first, there), weights[first:there])[0]
        if pauses:
            moment += rng.choice(pauses)
        kind = rng.random()
        if kind < 0.05:
            made.bad.add((SOURCE, number, ends[number]))
            put(number, rng.choice(BAD))
        elif kind < 0.08:
            transactions += 1
            made.aborted.add(transactions)
            for ghost in range(rng.randrange(1, 3)):
                put(number, _value(made, GHOST + ghost, labelled=True), transaction=transactions)
            put(number, None, transaction=transactions, marker=True)
        elif kind < 0.10:
            transactions += 1
            count += _event(made, rng, number, count, put, transaction=transactions)
            put(number, None, transaction=transactions, marker=True)
        else:
            count += _event(made, rng, number, count, put)


def _event(made, rng, number, count, put, **named):
    code = number * 10_000 + count + (REFUSED if not made.label_partitions and rng.random() < 0.02 else 0)
    labelled = not made.label_partitions and rng.random() < 0.85
    made.good[code] = number
    if labelled:
        made.labelled.add(code)
    put(number, _value(made, code, labelled=labelled), **named)
    return 1


def _value(made, code, *, labelled):
    told = {"code": code, "id": str(code)} if made.label_partitions else {"code": code}
    return orjson.dumps(told | {"y": label_of(code) if labelled else None})


def _fill_labels(made, rng, *, trickles):
    """Write labels near their events in time: nine of ten, some twice, one that is nobody's, some that are none."""
    wanted = []
    for _, _, _, entry in list(made.arrivals):
        if not entry.marker and entry.transaction not in made.aborted and entry.value not in BAD and rng.random() < 0.9:
            code = code_of(entry)
            times = rng.choice([1, 1, 1, 1, 2])
            wanted += [(entry.timestamp_ms + rng.choice([-9, -1, 0, 1, 3, 20]), code) for _ in range(times)]
    moment, ends = 0.0, [0] * made.label_partitions

    def put(stamp, value):
        number = rng.randrange(made.label_partitions)
        made.arrivals.append((moment, LABELS, number, Entry(value, None, (), stamp)))
        ends[number] += 1
        return LABELS, number, ends[number] - 1

    for stamp, code in [*sorted(wanted), (1_000, NOBODY)]:
        if trickles:
            moment += rng.choice([0.0, 0.0, 0.01, 0.1, 0.4])
        if rng.random() < 0.05:
            made.bad.add(put(stamp, rng.choice(NO_LABELS)))
        put(stamp, orjson.dumps({"id": str(code), "y": label_of(code)}))
        made.labels += 1


def offset_of(cluster):
    """Return where each event lies: code -> (partition, offset)."""
    found = {}
    for number, log in enumerate(cluster.topics[SOURCE]):
        for offset, entry in enumerate(log.entries):
            if not entry.marker and entry.transaction not in log.aborted and entry.value not in BAD:
                found[code_of(entry)] = (number, offset)
    return found


def load(world, made):
    """Make the topics, and let partitions and records arrive."""
    cluster = world.cluster
    cluster.make_topic(SOURCE, made.partitions)
    cluster.make_topic(LABELS, made.label_partitions)
    cluster.make_topic("out", 2)
    cluster.make_topic("dead", 1)
    for log in cluster.topics[SOURCE]:
        log.aborted |= made.aborted

    def grow():
        cluster.add_partition(SOURCE).aborted |= made.aborted

    def arrive(topic, number, entry):
        cluster.topics[topic][number].entries.append(entry)

    for moment in made.added:
        world.later(moment, grow)
    for moment, *one in made.arrivals:
        if moment:
            world.later(moment, lambda one=one: arrive(*one))
        else:
            arrive(*one)
