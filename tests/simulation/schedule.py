"""One schedule: a workload, faults at seeded steps, lives of the program one after the other, and the judgement.

In: a seed. Out: nothing, or `ViolationError` with what is wrong. A schedule ends when a life that nothing befell has come to
the end of the stream and stopped well, or, with retention, has refused to go on without records that were deleted
before they were read. The same seed gives the same schedule.
"""

import random
import traceback

from connectors import ConnectorError, JsonCodec, LabelledCodec, Schema, event_schema, label_schema
from connectors.file_sinks import open_dead_letters, open_predictions
from connectors.kafka import (
    Delivery,
    KafkaDeadLetters,
    KafkaPredictions,
    KafkaReading,
    KafkaSource,
    Transaction,
)
from connectors.kafka.lease import Lease
from pipeline import assembly
from pipeline.checkpoint import CheckpointError
from pipeline.config import CheckpointSettings, Config, KafkaSettings, StreamSettings
from pipeline.faults import CRASH_POINTS
from pipeline.join import LabelJoin, label_kinds
from pipeline.labels import LabelQueue
from pipeline.outside import POLLS_A_WAIT
from pipeline.prequential import Parts, Plan, Prequential
from pipeline.server import Health
from pipeline.settings import SettingsError
from pipeline.standby import Turn
from streamnn.drift import make_detector
from tests.simulation import workload
from tests.simulation.audit import Audit, ViolationError
from tests.simulation.clients import SimLibrary
from tests.simulation.model import ExactControl, ExactModel, ExactScores
from tests.simulation.world import World

GROUP = "model-1"
FOLDER = "state/checkpoints"
MOST_LIVES = 60
WORKERS = 3  # of one model, where they stand by
CALM_LIVES = 4  # lives after the last fault within which the stream has to be at its end
DELICATE = (
    "disk open checkpoints",
    "disk rename .checkpoint",
    "disk unlink",
    "end transaction",
    "point after_commit",
    "point before_commit",
    "point before_commit",
    "settle",
    "transaction ended",
)
SCHEMA = Schema(kinds={"code": "number", "y": "value"}, targets=("y",))
APART = Schema(kinds=SCHEMA.kinds, targets=SCHEMA.targets, id="id")
MOST_PENDING = 1_000  # events and labels, more than there are


class Schedule:
    """A seed's schedule.

    Args:
        seed: of everything.
        work, faults: instead of those that the seed gives.
        kind: "labels" = they come on a topic of their own; "trickle" = so do they, in an order that the clock makes, and wait
            for a while; "growth" = the topic gets more partitions; "retention" = records
            are deleted at the beginnings of logs, too; "skip" = likewise, and the run goes on without them; "waits" = the
            clock ends micro-batches; "standby" = three workers share the folder, of which one works; "stall" = one partition
            is no longer fetched while others bring records.

    Attributes:
        refused: the run was refused for good, since records that it had not read were deleted.
    """

    def __init__(self, seed, *, work=None, faults=None, kind=""):
        rng = random.Random(seed)
        self.seed, retention = seed, kind in ("retention", "skip")
        drawn = workload.draw(
            rng.random(),
            labels=kind == "labels",
            trickling=kind == "trickle",
            grows=kind == "growth",
            waits=kind == "waits",
            skips=kind == "skip",
            stalls=kind == "stall",
        )
        self.work = drawn if work is None else work
        chance = rng.random()
        if kind == "standby" and work is None:
            self.work.delivery = "transactional"
        drawn = draw_faults(rng, self.work, standby=kind == "standby") if faults is None else faults
        if retention:
            drawn = sorted(drawn + draw_deletions(rng), key=lambda fault: fault[0])
        if kind == "stall":
            drawn = sorted(drawn + draw_stalls(rng), key=lambda fault: fault[0])
        self.world = World(chance, drawn)
        self.retention, self.skips, self.refused = retention, kind == "skip", False
        self.standby = kind == "standby"
        self.world.successor = self._succeed if self.standby else self._start
        self.world.lease = self._lease
        self.audit = Audit(self.world, self.work, GROUP, self.world.disk.path(FOLDER), skips=self.skips)
        self.lives = 0

    def run(self):
        """Run it and judge.

        Raises:
            ViolationError: something did not hold.
        """
        world = self.world
        try:
            with world.entered():
                workload.load(world, self.work)
                self._live_on()
                while world.cluster.ending:  # what is decided counts, and whoever came next would wait for it
                    world.clock.advance(0.1)
                if self.refused:
                    self.audit.refused()
                    return
                if self.retention:
                    self.audit.final()  # while it can be told what was not deleted
                    self._start_without_records()
                self.audit.final()
        except ViolationError as violation:
            raise ViolationError(f"{violation}\n\n{self.story()}") from violation

    def story(self):
        """Return what happened, for a person."""
        work = [
            f"  {name} = {value}" for name, value in vars(self.work).items() if isinstance(value, str | float | int)
        ]
        lines = [f"{step:6d} {at:9.3f} {who:8s} {what}" for step, at, who, what in self.world.trace]
        return "\n".join([f"seed {self.seed}, {self.work.records} records", *work, "  step   seconds", *lines])

    def _live_on(self):
        world, calm = self.world, 0
        while True:
            if not world.faults:
                self._calm()
                calm += 1
            if self.standby:
                for _ in range(WORKERS - 1):
                    self._start()
            if calm > CALM_LIVES or self.lives > MOST_LIVES:
                raise ViolationError(
                    f"after {self.lives} lives, {calm} of them without a fault, the stream is not at its end"
                )
            process = self._start()
            alone = world.run()
            for other in alone:
                self._look_at(other)
            if len(alone) == 1 and process.said == "done":
                return
            if self.standby and calm and any(other.said == "done" for other in alone):
                return
            if process.said == "deleted" and self.skips:
                raise ViolationError("a run is refused for records that are deleted, and it was to go on without them")
            if len(alone) == 1 and process.said == "deleted" and calm:
                self.refused = True
                return
            world.clock.advance(min(0.5 * self.lives, 10.0))  # as those who restart services do

    def _start_without_records(self):
        """Start once more when retention has taken everything: it was read, and nobody misses it."""
        world = self.world
        world.faults.clear()
        self._calm()
        world.cluster.retain(workload.SOURCE, 1.0)
        lost = self.audit.lost()
        process = self._start()
        world.run()
        self._look_at(process)
        if process.said == "deleted":
            raise ViolationError("a start is refused for records that are deleted, though all of them had been read")
        if self.audit.lost() != lost:
            raise ViolationError("a start counts records as skipped, though all of them had been read")

    def _calm(self):
        """Let nothing go wrong any more."""
        self.world.cluster.calm()
        self.world.lurking.clear()
        self.world.disk.full = False

    def _start(self):
        self.lives += 1
        return self.world.start(f"life-{self.lives}", self._life)

    def _succeed(self):
        """Start the successor of a worker that is stopped, unless another one stands by."""
        if all(process.over or process.stopped for process in self.world.processes):
            self._start()

    def _lease(self):
        clock, library = self.world.clock, SimLibrary(self.world)
        return Lease(library, group="workers", topic=workload.SOURCE, clock=clock.monotonic, moment=clock.time)

    def _look_at(self, process):
        error = process.error
        if isinstance(error, ViolationError):
            raise error
        if error is not None:
            lines = "".join(traceback.format_exception(error))
            raise ViolationError(f"{process.name} ended with {type(error).__name__}: {error}\n{lines}") from error

    def _life(self, process):
        """Do what `streamnn run` does; returns how it ended."""
        try:
            if not self.standby:
                return self._run(process)
            clock = self.world.clock.monotonic
            with Turn(Config(), Health(clock), None, clock=clock) as turn:
                if not turn.wait(lambda: process.stopping):
                    return "stopped"
                self.world.log("taking over")
                return self._run(process, turn)
        except SettingsError as error:
            raise ViolationError(f"{process.name} will never start: {error}") from error
        except (ConnectorError, CheckpointError) as error:
            self.world.log(f"does not start: {error}")
            return told(error)

    def _run(self, process, turn=None):
        world, w = self.world, self.work
        clock = world.clock.monotonic

        def stopping():
            if turn is not None:
                turn.beat()
            return process.stopping

        config = Config(
            stream=StreamSettings(source="kafka:" + workload.SOURCE),
            checkpoint=CheckpointSettings(folder=FOLDER, keep=w.keep, resume=True),
            kafka=KafkaSettings(standby=self.standby),
        )
        library, opened = SimLibrary(world), []
        try:
            commits = channel = None
            if w.delivery == "transactional":
                commits = channel = Transaction(
                    library,
                    source_topic=workload.SOURCE,
                    group=GROUP,
                    identity=GROUP,
                    timeout_s=w.transaction_timeout_s,
                    in_flight=20,
                    stopping=stopping,
                    clock=clock,
                )
            source = KafkaSource(
                KafkaReading(
                    topic=workload.SOURCE,
                    label_topic=workload.LABELS if w.label_partitions else "",
                    new_partitions="accept" if w.added else "refuse",
                    group=GROUP,
                    order=w.order,
                    lost="skip" if self.skips else "stop",
                    idle_wait_s=w.idle_wait_s,
                    buffer_records=w.buffer_records,
                    stall_s=3.0,
                    look_s=1.0,
                ),
                library,
                self._codec(),
                commits=commits is None,
                poll_s=w.wait_s / POLLS_A_WAIT,
                clock=clock,
            )
            if w.delivery == "at_least_once":
                channel = Delivery(library, in_flight=20, stopping=stopping, clock=clock)
            if w.delivery == "files":
                predictions = open_predictions(world.disk.path("state/predictions.jsonl"))
                dead_letters = open_dead_letters(world.disk.path("state/dead.jsonl"))
            else:
                predictions = KafkaPredictions(channel, "out", model=GROUP)
                dead_letters = KafkaDeadLetters(channel, "dead", model=GROUP)
            opened = [source, predictions, dead_letters]
            store, checkpoint = assembly._store(config, self._crash_point, commits)
            opened.append(store)
            loop = Prequential(self._plan(), self._parts(source, predictions, dead_letters, store, commits, channel))
            loop.open(checkpoint)

            def at_end():
                if self.skips:
                    return library.at_end and self.audit.all_read({"source": source.state(loop.offset)})
                return loop.offset >= w.records and (library.at_end or not self.retention)

            def stop():
                if turn is not None:
                    turn.check(store)
                return process.stopping or at_end()

            loop.run(stop=stop, report=lambda loop: None)
            done = at_end()
            if loop.failure is not None:
                world.log(f"fails: {loop.failure}")
                return told(loop.failure)
        finally:
            for part in reversed(opened):
                part.close()
        return "done" if done else "stopped"

    def _codec(self):
        if not self.work.label_partitions:
            return JsonCodec(SCHEMA)
        events, labels = JsonCodec(event_schema(APART)), JsonCodec(label_schema(APART))
        return LabelledCodec(events, labels, workload.LABELS, APART.id, APART.targets)

    def _queue(self):
        w = self.work
        if not w.label_partitions:
            return LabelQueue(delay_events=w.delay_events, batch=w.batch)
        kinds = label_kinds(APART.kinds, APART.targets)
        return LabelJoin(kinds, id_field="id", wait_s=w.label_wait_ms / 1000, capacity=MOST_PENDING)

    def _plan(self):
        w = self.work
        return Plan(
            targets=("y",),
            id_field="id" if w.label_partitions else "",
            moment_field="",
            feature_fields=("code",),
            batch=w.batch,
            chunk=w.chunk,
            control_every=w.control_every,
            checkpoint_every=w.checkpoint_every,
            checkpoint_every_s=w.checkpoint_every_s,
            limit=0,
            wait_s=w.wait_s,
            patience_s=20.0,
            fingerprint={"delay": w.delay_events},
        )

    def _parts(self, source, predictions, dead_letters, store, commits, channel):
        return Parts(
            source=source,
            learner=ExactModel(),
            queue=self._queue(),
            scores=ExactScores(),
            detector=make_detector("none", {}, seed=0),
            rate_control=ExactControl(),
            crash_point=self._crash_point,
            predictions=predictions,
            dead_letters=dead_letters,
            store=store,
            commits=commits,
            channel=channel,
        )

    def _crash_point(self, name):
        assert name in CRASH_POINTS
        if not name.endswith(("_learn", "_fsync", "_write", "_rename")):  # the disk has steps of its own
            self.world.step(f"point {name}")


def draw_faults(rng, work, *, standby=False):
    """Draw what befalls a schedule: (step, what, detail); workers that stand by share one folder."""
    disks = ["shared"] if standby else ["moved", "shared"]
    within = rng.choice([80, 250, 600])
    kinds = {
        "kill": lambda: "",
        "power": lambda: rng.randrange(1 << 30),
        "sigterm": lambda: "",
        "zombie": lambda: (rng.choice([0.01, 0.5, 5.0, 40.0]), rng.choice(disks)),
        "broker_down": lambda: rng.choice([0.2, 3.0, 15.0, 45.0]),
        "broker_bounce": lambda: rng.choice([0.2, 3.0, 30.0]),
        "disk_full": lambda: rng.choice([0.5, 10.0, 60.0]),
        "connect": lambda: "unreachable",
        "take_over": lambda: rng.choice(["unreachable", "failed"]),
        "poll": lambda: rng.choice(["unreachable", "failed", "stall"]),
        "ends": lambda: rng.choice(["unreachable", "failed"]),
        "metadata": lambda: rng.choice(["unreachable", "empty"]),
        "committed": lambda: rng.choice(["unreachable", "failed"]),
        "commit_positions": lambda: rng.choice(["lost", "unanswered", "failed"]),
        "commit": lambda: rng.choice(["fenced", "failed", "lost", "late", "unanswered"]),
        "produce": lambda: rng.choice(["failed", "fenced", "nothing", "unanswered"]),
        "produce_full": lambda: "",
    }
    if standby:
        kinds["take_part"] = lambda: ""
    if work.delivery != "transactional":
        del kinds["zombie"]  # nothing but the lock of the folder fences there
    kinds |= {f"{kind}_at": _at(rng, kinds[kind]) for kind in ("kill", "power", "zombie") if kind in kinds}
    chosen = rng.sample(sorted(kinds), rng.randrange(1, 6))
    chosen += rng.choices(["kill", "power", "kill_at", "power_at"], k=rng.randrange(3))
    count = rng.choice([1, 2, 4, 8, 12])
    faults = [(rng.randrange(within), kind) for kind in rng.choices(chosen, k=count)]
    drawn = [(step, kind, kinds[kind]()) for step, kind in sorted(faults)]
    for step, _, detail in list(drawn):
        if detail == "stall" and rng.random() < 0.5:  # and no other consumer comes about
            drawn.append((step, "connect", "unreachable"))
    return sorted(drawn, key=lambda fault: fault[0])


def draw_deletions(rng):
    """Draw what retention deletes: what was read, and often a share of what was not."""
    within, count = rng.choice([80, 250, 600]), rng.choice([1, 2, 4])
    return [
        (rng.randrange(within), "retention", (workload.SOURCE, rng.choice([0.0, 0.0, 0.01, 0.3, 1.0])))
        for _ in range(count)
    ]


def draw_stalls(rng):
    """Draw when partitions are no longer fetched."""
    return [(rng.randrange(rng.choice([80, 250])), "poll", "stall_one") for _ in range(rng.choice([1, 2, 3]))]


def told(error):
    """Return what a life that failed says of the cause."""
    return "deleted" if "have not been read, and have been deleted" in str(error) else "failed"


def _at(rng, detail):
    """Return what draws a step of a certain kind, at which a fault waits."""
    return lambda: (rng.choice(DELICATE), detail())
