"""A loop over records of an event topic and a label topic, in memory, and the join one record at a time."""

import json
import random

from connectors import Cut, MemorySink, MemorySource, Origin, Record, StreamHead, StreamSpec
from pipeline.assembly import arrivals, fingerprint, model
from pipeline.config import Config, KafkaSettings, LabelSettings, ModelSettings, ModeSettings, StreamSettings
from pipeline.faults import never
from pipeline.outside import codec
from pipeline.prequential import Parts, Plan, Prequential
from pipeline.scores import Scores, Target
from pipeline.tasks import resolve
from streamnn.drift import make_detector
from streamnn.lr_control import make_control

EVERY = 16  # events between decisions on the learning rate: often, so that a label on the wrong side of one shows


def record(topic, offset, at_ms, value):
    """One record of a topic of one partition."""
    return Record(json.dumps(value).encode(), timestamp_ms=at_ms, origin=Origin(topic, 0, offset))


def scenario(seed, events, *, delay_ms=2_000, lost=0.1, twice=0.1, early=0.1, odd=0.1):
    """Events 10 ms apart and their labels, merged by time: late by all lengths, lost, doubled, early, and odd ones.

    Returns [(topic, at_ms, value)] in their order.
    """
    draw, came = random.Random(seed), []
    for n in range(events):
        at = 1_000_000 + 10 * n
        name = f"e{n}" if draw.random() > odd / 4 else draw.choice([None, f"e{draw.randrange(n + 1)}"])
        a, b = round(draw.gauss(0, 1), 3), round(draw.gauss(0, 1), 3)
        came.append((at, 0, n, "events", {"id": name, "a": a, "b": b} if draw.random() > 0.1 else {"id": name, "b": b}))
        if draw.random() < lost:
            continue
        delay = -draw.randrange(delay_ms) if draw.random() < early else draw.randrange(delay_ms)
        y = int(a + b > 0)
        came.append((at + delay, 1, n, "labels", {"id": f"e{n}", "y": y}))
        if draw.random() < twice:
            came.append((at + delay + draw.randrange(3 * delay_ms), 1, n, "labels", {"id": f"e{n}", "y": 1 - y}))
        if draw.random() < odd:
            unfit = [
                {"y": y},
                {"id": f"e{n}"},
                {"id": f"e{n}", "y": None},
                {"id": f"e{n}", "y": 7},
                [1],
                {"id": "x", "y": 1},
            ]
            came.append((at + draw.randrange(delay_ms), 1, n, "labels", draw.choice(unfit)))
    came.sort(key=lambda one: one[:3])
    return [(topic, at, value) for at, _, _, topic, value in came]


def records_of(came):
    """The same as records of two topics."""
    offset = {"events": 0, "labels": 0}
    found = []
    for topic, at, value in came:
        found.append(record(topic, offset[topic], at, value))
        offset[topic] += 1
    return found


TWO = {"task": "binary", "classes": {"y": [0, 1]}, "kinds": {"a": "number", "b": "number"}}


def config(*, stream=TWO, preset="single", **labels):
    """A configuration of a single small network, or a pool, whose labels come on a topic of their own."""
    return Config(
        stream=StreamSettings(source="kafka:events", targets=("y",), id="id", **stream),
        model=ModelSettings(preset=preset, engine="eager"),
        mode=ModeSettings(batch=1),
        labels=LabelSettings(topic="labels", **labels),
        kafka=KafkaSettings(),
    )


class Loop:
    """A loop over records; what it wrote, and what it has come to."""

    def __init__(self, records, settings, *, cuts=None, limit=0, chunk=64, checkpoint=None, source=None):
        resolved = resolve(settings.stream, StreamHead((), 0))
        learner = model(settings, resolved)
        for target, classes in resolved.classes.items():
            learner.targets.declare(target, classes)
        script = () if cuts is None else self._cuts(cuts, len(records))
        decoder = codec(settings, resolved.schema, StreamSpec("kafka:events"))
        self.source = MemorySource(records, decoder, script=script) if source is None else source(decoder)
        self.predictions, self.dead_letters = MemorySink(), MemorySink()
        parts = Parts(
            source=self.source,
            learner=learner,
            queue=arrivals(settings, resolved),
            scores=Scores([Target(t.name, t.kind) for t in resolved.targets], window=50, fading=0.99),
            detector=make_detector("adwin", {}, seed=0),
            rate_control=make_control("drift", 0.01, {}),
            crash_point=never,
            predictions=self.predictions,
            dead_letters=self.dead_letters,
        )
        plan = Plan(
            targets=("y",), id_field=settings.stream.id, moment_field="", feature_fields=resolved.feature_fields,
            batch=settings.mode.batch, chunk=chunk, wait_s=settings.mode.max_wait_ms / 1000,
            control_every=EVERY, checkpoint_every=10**9, checkpoint_every_s=0.0, limit=limit, patience_s=0.0,
            fingerprint=fingerprint(settings, resolved),
        )  # fmt: skip
        self.loop = Prequential(plan, parts)
        self.loop.open(checkpoint)

    def _cuts(self, draw, records):
        """Polls of a few records each, as long as there are some."""
        while self.source._next < records:
            yield Cut(draw.choice((1, 1, 2, 7, 40)))

    def run(self, blocks=10**9):
        """Process everything, or so many blocks; returns itself."""
        left = [blocks]

        def stop():
            left[0] -= 1
            return left[0] < 0

        self.loop.run(stop=stop, report=lambda _: None)
        assert self.loop.failure is None
        return self

    @property
    def served(self):
        """Event number and probabilities by class of everything served, in order, without classes that are not served."""
        found = []
        for item in self.predictions.items:
            classes, p = item.probabilities["y"]
            for n, row in zip(item.numbers.tolist(), p.tolist(), strict=True):
                found.append((n, {name: q for name, q in zip(classes, row, strict=True) if q == q}))
        return found

    @property
    def buried(self):
        """Stage, reason, topic and offset of every dead letter, sorted."""
        letters = [letter for item in self.dead_letters.items for letter in item]
        return sorted((x.stage, x.reason, x.record.origin.topic, x.record.origin.offset) for x in letters)

    @property
    def state(self):
        """What a checkpoint would hold, with the clock at 0."""
        state = self.loop._state({"predictions": 0, "dead_letters": 0})
        state["loop"]["counters"]["seconds"] = 0.0
        return state


def oracle(came, wait_ms, most):
    """Join one record after the other, looking through lists: what is done, and how many of each kind."""
    log, counts = [], dict.fromkeys(("joined", "early", "duplicate", "late", "unmatched", "expired", "repeated"), 0)
    counts |= {"pushed_out": 0, "without_id": 0, "bad": 0}
    waiting, early, done, now, number = [], [], [], 0, 0  # [name, since, ...]

    def give_up():
        one = waiting.pop(0)
        counts["expired"] += 1
        done.append((one[0], now, True))

    def find(entries, name):
        return next((one for one in entries if one[0] == name), None)

    for topic, at, value in came:
        usable = isinstance(value, dict) and (topic == "events" or (value.get("id") and value.get("y") is not None))
        if not usable:
            counts["bad"] += 1
            continue
        now = max(now, at)
        while wait_ms and waiting and waiting[0][1] + wait_ms < now:
            give_up()
        while wait_ms and early and early[0][1] + wait_ms < now:
            early.pop(0)
            counts["unmatched"] += 1
        done = [one for one in done if not wait_ms or one[1] + wait_ms >= now]
        name = value["id"]
        if topic == "events":
            label = find(early, name)
            if name is None:
                counts["without_id"] += 1
                log.append(("predict", number))
            elif find(waiting, name) or find(done, name):
                counts["repeated"] += 1
                log.append(("predict", number))
            elif label:
                early.remove(label)
                counts["joined"] += 1
                counts["early"] += 1
                done.append((name, now, False))
                log.append(("both", number, label[2]) if label[2] in (0, 1) else ("predict", number))
            else:
                waiting.append((name, now, number))
                log.append(("predict", number))
                if len(waiting) > most:
                    counts["pushed_out"] += 1
                    give_up()
            number += 1
        else:
            event, old = find(waiting, name), find(done, name)
            if event:
                waiting.remove(event)
                counts["joined"] += 1
                done.append((name, now, False))
                if value["y"] in (0, 1):
                    log.append(("learn", event[2], value["y"]))
            elif old:
                counts["late" if old[2] else "duplicate"] += 1
            elif find(early, name):
                counts["duplicate"] += 1
            else:
                early.append((name, now, value["y"]))
                if len(early) > most:
                    counts["pushed_out"] += 1
                    counts["unmatched"] += 1
                    early.pop(0)
        del done[: max(0, len(done) - most)]
    return log, counts, len(waiting), len(early)
