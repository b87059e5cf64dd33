"""The world that processes of a simulation live in: one clock, one disk, one cluster, and what befalls them.

In: a plan of faults, by step. Out: the same history for the same seed. Everything that a process does outside its own
memory (a call to the cluster, an operation on the disk, a sleep, a crash point) is a step. Before it the world may kill
the process, stop it and let a successor run, cut the power, take the broker away, and so on.

Processes are threads of which one runs at a time, handed on by the world, so that nothing depends on the scheduler.
"""

import random
import threading
from contextlib import contextmanager

import connectors.append_file
import connectors.disk
import connectors.file_sinks
import connectors.kafka.client
import connectors.kafka.delivery
import connectors.kafka.lease
import connectors.kafka.source
import connectors.kafka.transaction
import pipeline.assembly
import pipeline.checkpoint
import pipeline.prequential
import pipeline.standby
from tests.simulation.cluster import Cluster
from tests.simulation.disk import Disk, Locks

STEP_S = 0.001
MOST_STEPS = 100_000  # of a schedule; they take some hundreds
SLEEPERS = (
    connectors.kafka.client, connectors.kafka.delivery, connectors.kafka.lease, connectors.kafka.source,
    connectors.kafka.transaction, pipeline.prequential,
)  # fmt: skip
WRITERS = (pipeline.checkpoint, pipeline.assembly, connectors.file_sinks)


class Killed(BaseException):
    """The process is dead. No code of the product catches it, and what it tries on its way out has no effect."""


class Clock:
    """Virtual seconds; stands in for the module `time`."""

    def __init__(self, passed, step):
        self.now, self._passed, self._step = 1_000_000.0, passed, step
        self._set = 0  # how often somebody has set the clock on the wall

    def monotonic(self):
        """Return the seconds."""
        return self.now

    time = monotonic

    def time_ns(self):
        """Return the nanoseconds since 1970, of a clock on the wall that somebody sets back, and forth again."""
        self._set += 1
        return int((self.now - 1_000 * (self._set % 5)) * 1e9)

    def sleep(self, seconds):
        """Let time pass."""
        self._step(f"sleep {seconds:g}")
        self.advance(seconds)

    def advance(self, seconds):
        """Let time pass, without a step."""
        self.now += seconds
        self._passed(self.now)


class Process:
    """A life of the program: a thread that runs only while the world lets it.

    Attributes:
        said: what the body returned.
        error: what it raised.
        stopping: it was told to stop (SIGTERM).
    """

    def __init__(self, world, name, body):
        self.world, self.name = world, name
        self.dead = self.over = self.stopped = self.stopping = False
        self.said = self.error = None
        self._go = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, args=(body,), name=name, daemon=True)
        self._thread.start()

    def run(self):
        """Let it run until it gives the floor back; called by the world."""
        self._go.release()
        self.world.floor.acquire()

    def yield_floor(self):
        """Give the floor back; called by the process."""
        self.world.floor.release()
        self._go.acquire()
        self.check()

    def check(self):
        """Raise if it is dead."""
        if self.dead:
            raise Killed

    def _work(self, body):
        self._go.acquire()
        try:
            self.check()
            self.said = body(self)
        except Killed:
            pass
        except BaseException as error:  # noqa: BLE001 - looked at by the world
            self.error = error
        self.world.disk.end_of(self)
        self.over = True
        self.world.floor.release()


class World:
    """Clock, disk, cluster and processes.

    Args:
        seed: of what is left to chance while processes run.
        faults: (step, what, detail) in the order of the steps.
    """

    def __init__(self, seed, faults):
        self.rng = random.Random(seed)
        self.faults = list(faults)
        self.lurking = []  # (what, at which step, detail): befalls the next one of that name
        self.steps = 0
        self.trace = []
        self.floor = threading.Semaphore(0)
        self.processes = []
        self.current = None
        self.timers = []  # (moment, what to do), in order
        self.clock = Clock(self._passed, self.step)
        self.disk = Disk(self.step, lambda: self.current)
        self.cluster = Cluster(self)

    def log(self, text):
        """Add a line to the trace."""
        who = self.current.name if self.current else "-"
        self.trace.append((self.steps, self.clock.now - 1_000_000.0, who, text))

    def step(self, what):
        """Pass a step of the process that runs."""
        process = self.current
        if process is None:
            return
        process.check()
        self.steps += 1
        assert self.steps < MOST_STEPS, "nothing comes to an end"
        self.log(what)
        self.clock.advance(STEP_S)
        while self.faults and self.faults[0][0] <= self.steps:
            _, kind, detail = self.faults.pop(0)
            self._befall(process, kind, detail)
        fallen = [fault for fault in self.lurking if what.startswith(fault[1])]
        self.lurking = [fault for fault in self.lurking if fault not in fallen]
        for kind, _, detail in fallen:
            self._befall(process, kind, detail)
        process.check()
        if sum(not p.over and not p.stopped for p in self.processes) > 1 and self.rng.random() < 0.2:
            process.yield_floor()

    def later(self, seconds, action):
        """Do something after a time."""
        self.timers.append((self.clock.now + seconds, action))
        self.timers.sort(key=lambda timer: timer[0])

    def start(self, name, body):
        """Start a process, which runs when the world lets it."""
        process = Process(self, name, body)
        self.processes.append(process)
        return process

    def run(self):
        """Run all processes until they are over; returns them. Those that are stopped wake up at last."""
        ran = self.processes
        while True:
            alive = [p for p in ran if not p.over]
            if not alive:
                break
            ready = [p for p in alive if not p.stopped]
            if not ready:
                alive[0].stopped = False
                continue
            self.current = self.rng.choice(ready) if len(ready) > 1 else ready[0]
            self.current.run()
        self.current, self.processes = None, []
        return ran

    def finish(self):
        """Kill whoever is still there."""
        for process in self.processes:
            self.kill(process)
        self.processes = []

    def kill(self, process):
        """Send SIGKILL: what it wrote is there, what it held is free."""
        process.dead = True
        process.stopped = False
        self.disk.end_of(process)
        while not process.over and process is not self.current:
            before, self.current = self.current, process
            process.run()
            self.current = before

    def _passed(self, now):
        while self.timers and self.timers[0][0] <= now:
            self.timers.pop(0)[1]()

    def _befall(self, process, kind, detail):
        self.log(f"*** {kind} {detail}")
        cluster = self.cluster
        if kind == "kill":
            self.kill(process)
        elif kind == "power":
            # every process of the machine dies
            for other in self.processes:
                other.dead, other.stopped = True, False
            self.disk.cut_power(random.Random(detail))
        elif kind == "sigterm":
            process.stopping = True
        elif kind == "zombie":
            self._zombie(process, *detail)
        elif kind == "broker_down":
            cluster.down_until = self.clock.now + detail
        elif kind == "broker_bounce":
            cluster.down_until = self.clock.now + detail
            cluster.forget_producers()
            cluster.come_up()
        elif kind == "disk_full":
            self.disk.full = True
            self.later(detail, self._room)
        elif kind == "retention":
            cluster.retain(*detail)
        elif kind.endswith("_at"):
            self.lurking.append((kind.removesuffix("_at"), *detail))
        else:
            cluster.expect(kind, detail)

    def _room(self):
        self.disk.full = False

    def _zombie(self, process, seconds, disk):
        """Stop a process; it is taken for dead, a successor runs, and it wakes up while that one does.

        Its disk is moved to the successor's machine, or shared by both, with a lock that got lost.
        """
        if any(p.stopped for p in self.processes):
            return
        process.stopped = True
        if disk == "moved":
            self.disk.gone_for.add(process)
        self.disk.release(process)
        self.later(seconds, lambda: setattr(process, "stopped", False))
        self.successor()
        process.yield_floor()

    def successor(self):
        """Start the successor of a stopped process; set by whoever runs the processes."""
        raise NotImplementedError

    def lease(self):
        """Make a worker's lease; set by whoever runs the processes."""
        raise NotImplementedError

    @contextmanager
    def entered(self):
        """Put clock and disk in the place of the product's."""
        locks = Locks(self.disk, lambda: self.current)
        places = [
            *((module, "time", self.clock) for module in SLEEPERS),
            *((module, "os", self.disk) for module in (pipeline.checkpoint, connectors.append_file, connectors.disk)),
            (pipeline.checkpoint, "fcntl", locks),
            (pipeline.standby, "lease", lambda config: self.lease()),
            *((module, "Path", self.disk.path) for module in WRITERS),
        ]
        before = [(module, name, getattr(module, name)) for module, name, _ in places]
        for module, name, value in places:
            setattr(module, name, value)
        try:
            yield self
        finally:
            self.finish()
            for module, name, value in before:
                setattr(module, name, value)
