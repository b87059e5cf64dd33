"""The loop: poll, predict, learn, emit, score, watch for drift, set the learning rate, checkpoint.

In: a source of chunks. Out: predictions and dead letters in their sinks, scores, checkpoints. Every stage works on the
columns of a block of events; what is decided (learning rate, drift, checkpoint) is decided at fixed event numbers, so
nothing depends on how the source cuts its chunks, nor on the clock, but where a plan lets it end micro-batches: each such
end is told with the predictions.

An event number counts every record that could be decoded, from 0. A block is a run of them that ends where something is
decided.

Axes: K events of a block, W head width, T targets.
"""

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from connectors import Chunk, DeadLetter, Origin, Predictions, Record, Sink, SinkError, Source, SourceError
from connectors.kafka import Channel, Commits
from pipeline.blocks import Block, Work, select
from pipeline.checkpoint import Checkpoint, CheckpointError, CheckpointStore
from pipeline.computed import changes, computed_by
from pipeline.faults import CrashPoint
from pipeline.intake import Intake
from pipeline.label_trail import LabelTrail
from pipeline.model import Model
from pipeline.outcomes import outcome, predictions
from pipeline.pace import Pace
from pipeline.scores import Scores
from pipeline.steps import Arrivals
from streamnn.drift import DriftDetector
from streamnn.lr_control import Action, RateControl
from streamnn.operations import FloatArray, IntArray, Kind, Rows

_log = logging.getLogger(__name__)

T = TypeVar("T")

SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0  # between two tries to write
IDLE_S = 0.05  # pause when a source has nothing at the moment
HELD_S = 5.0  # how often a source is told where it stands while less than a micro-batch waits
MOST_POINTS = 2000  # of the learning-rate history; beyond, every second point is dropped
MOST_DRIFTS = 10_000  # remembered; older ones are only counted


@dataclass(slots=True)
class Counters:
    """What has been counted since the beginning of the stream (checkpoints carry it on).

    `dropped` counts records that could not be used, by "stage/reason"; `cuts` micro-batches that the clock ended; `untold`
    records of labels that no prediction will tell of, since too many came between two events.
    """

    events: int = 0
    learned: int = 0
    unlabelled: int = 0
    drifts: int = 0
    cuts: int = 0
    untold: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Written:
    """The newest checkpoint of this process: how many it has written, seconds and bytes that the newest took."""

    number: int = 0
    seconds: float = 0.0
    size_bytes: int = 0


@dataclass(slots=True)
class Control:
    """The learning rate and what leads to it.

    Attributes:
        rate: in force.
        clear: the optimizer is to forget its second moments at the next learning step.
        loss, number: losses learned since the last decision, with their event numbers.
        drifts: event numbers at which the detector flagged a drift.
        acted: event numbers at which the control acted on one.
        rates: [event number, learning rate] at every change.
    """

    rate: float
    clear: bool = False
    loss: list[float] = field(default_factory=list)
    number: list[int] = field(default_factory=list)
    drifts: list[int] = field(default_factory=list)
    acted: list[int] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Everything the loop drives. Sinks, store, commits and the channel that sinks write to may be absent.

    With `commits` what was written becomes visible with the checkpoint it belongs to; what would come after the last
    one (a last, smaller micro-batch) waits for more events. `channel` is what sinks write to that say when their process
    began; checkpoints keep that, so that each process is later than the one before.
    """

    source: Source
    learner: Model
    queue: Arrivals
    scores: Scores
    detector: DriftDetector
    rate_control: RateControl
    crash_point: CrashPoint
    predictions: Sink[Predictions] | None = None
    dead_letters: Sink[Sequence[DeadLetter]] | None = None
    store: CheckpointStore | None = None
    commits: Commits | None = None
    channel: Channel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbers and names that the loop is run with; see `pipeline.config` for their meaning.

    Attributes:
        wait_s: how long an event of a live stream may wait for its micro-batch, or in sample mode for the others of its
            block; 0 = for ever.
        transaction_timeout_s: how long a transaction may stay open; infinite where there is none.
        fingerprint: the settings that determine the model; a checkpoint fits only the same ones.
        feature_fields: numeric fields known before the first event, in order; they get their inputs at once.
    """

    targets: tuple[str, ...]
    id_field: str
    moment_field: str
    feature_fields: tuple[str, ...]
    batch: int
    chunk: int
    control_every: int
    checkpoint_every: int
    checkpoint_every_s: float
    limit: int
    patience_s: float
    fingerprint: dict[str, Any]
    wait_s: float = 0.0
    transaction_timeout_s: float = math.inf


class Prequential:
    """The loop over one stream with one learner."""

    def __init__(self, plan: Plan, parts: Parts) -> None:
        self.plan, self.parts = plan, parts
        self.counters = Counters()
        self.control = Control(parts.rate_control.rate, rates=[[0, parts.rate_control.rate]])
        self.ready = False  # whether `open` is done
        self.interrupted = False
        self.failure: Exception | None = None  # what ended the run before its time
        self.blocked = ""  # why nothing is taken in at the moment
        self.written = Written()
        self._fits = True  # whether every checkpoint has been short enough for its transaction
        self.loss = float("nan")  # mean of the last decision's interval
        self._offset = 0  # of the next record to read
        self._checkpointed: int | None = None  # event count of the newest checkpoint
        self._durable, self._durable_s = 0, time.monotonic()  # records that it covers, and when it was taken
        self._told_s = self._durable_s  # when the source was last told of it
        self.batches: dict[int, int] = {}  # micro-batches of this process by their events
        self._since = 0  # number of the event from which micro-batches are counted: where the clock last ended one
        self._untold: tuple[Origin, ...] = ()  # where it ended them, which no prediction has told of yet
        self._trail = LabelTrail()
        self._first = 0  # number of the first record that this process handles
        self._before_ms = 0  # when the process began whose checkpoint this one took up, as its records say
        self._pace = Pace(plan.wait_s)
        # the module is asked for the clock anew each time, so that a test can put another one in its place
        self._intake = Intake(
            parts.source, plan.chunk, wait_s=plan.wait_s if plan.batch > 1 else 0.0, clock=lambda: time.monotonic()
        )
        self._stop: Callable[[], bool] = lambda: False

    @property
    def offset(self) -> int:
        """How many records have been read and finished."""
        return self._offset

    def open(self, checkpoint: Checkpoint | None) -> None:
        """Take up a checkpoint, or begin afresh; open the source and bring the sinks to the matching length.

        Raises:
            ValueError: the checkpoint was written with another model configuration; the message names what differs.
        """
        p = self.parts
        lengths, reading = {"predictions": 0, "dead_letters": 0}, None
        if checkpoint is None:
            p.learner.declare(self.plan.feature_fields)
        else:
            state = checkpoint.state
            _check_same(state["config"], self.plan.fingerprint)
            _tell_changes(state.get("computed_by", {}), computed_by(p.learner.engine, p.learner.device))
            p.learner.load_state_dict(state["learner"])
            p.queue.load_state_dict(state["labels"], learner=p.learner)
            p.scores.load_state_dict(state["scores"])
            p.detector.load_state_dict(state["detector"])
            p.rate_control.load_state_dict(state["rate_control"])
            loop = state["loop"]
            self.counters, self.control = Counters(**loop["counters"]), Control(**loop["control"])
            self._offset, self._checkpointed = loop["offset"], self.counters.events
            self._since = loop.get("since", 0)
            self._untold = tuple(Origin(str(t), int(p), int(o)) for t, p, o in loop.get("untold", ()))
            self._trail.load_state_dict(loop["trail"])
            self._before_ms = loop.get("started_ms", 0)
            lengths, reading = state["sinks"], state["source"]
        self._first = self._offset
        p.source.open(self._offset, reading)
        for name, sink in self._sinks():
            sink.truncate(lengths[name])
        if p.channel is not None:
            p.channel.follow(self._before_ms)
        self.ready = True

    def run(self, *, stop: Callable[[], bool], report: Callable[["Prequential"], None]) -> None:
        """Process the stream to its end, to the limit, until `stop` says so, or until something fails (`failure`).

        The last checkpoint is taken before a last, smaller micro-batch is learned and before labels that are still on
        their way are delivered: whoever resumes from it goes on exactly as if the stream had not stopped here.

        Args:
            stop: asked between blocks; the block in hand is always finished.
            report: called after every block, for progress displays.
        """
        began = time.monotonic() - self.counters.seconds
        self._stop = stop
        try:
            if self._checkpointed is None or self._is_seen_at_once:
                self.checkpoint()
            try:
                self._loop(began, report)
            except SourceError as error:  # what came before it is whole, and is kept
                self.failure = error
            self.checkpoint()
            if not self.interrupted and self.failure is None and self.parts.commits is None:
                self._finish()
        except (SinkError, CheckpointError) as error:
            self.failure = error
        self.counters.seconds = time.monotonic() - began
        report(self)

    def _loop(self, began: float, report: Callable[["Prequential"], None]) -> None:
        plan = self.plan
        while not self._stop():
            before = self.counters.events
            if self._left() < 1:
                return
            least = self._least()
            block = self._intake.take(self._room(least), least=least, step=plan.batch)
            if block is None:
                return
            taken = time.monotonic()
            self._process(block, cut=self._intake.cut)
            done = time.monotonic()
            self._pace.took(len(block), done - taken)
            self.counters.seconds = done - began
            if _crosses(before, self.counters.events, plan.checkpoint_every) or self._due():
                self.checkpoint()
            report(self)
            if self._intake.idle:
                self._tell_again()
                time.sleep(min(IDLE_S, plan.wait_s / 4 or IDLE_S, self._intake.left_s))
        self.interrupted = True

    def checkpoint(self) -> None:
        """Make everything so far durable: first the sinks, then the state that names their lengths.

        Raises:
            SinkError, CheckpointError: it could not be, however long it was tried.
        """
        p = self.parts
        lengths = {"predictions": 0, "dead_letters": 0}
        for name, sink in self._sinks():
            p.crash_point("before_sink_flush")
            lengths[name] = self._patiently(sink.flush)
            p.crash_point("after_sink_flush")
        self._checkpointed = self.counters.events
        self._durable, self._durable_s = self._offset, time.monotonic()
        if p.store is None:
            return
        store, state, began = p.store, self._state(lengths), time.monotonic()
        # numbered by records, not events: where only rejects came since the last one it must not take that one's place,
        # which committed positions may name
        number = self._offset
        path = self._patiently(lambda: store.save(number, state))
        if p.commits is not None:
            p.crash_point("before_commit")
            p.commits.commit(path.name, state["source"])
            p.crash_point("after_commit")
        p.source.commit(self._offset)
        self.written = Written(self.written.number + 1, time.monotonic() - began, store.size_bytes)
        self._check_fit()

    def _check_fit(self) -> None:
        """Warn, once, where a checkpoint takes so long that the transactions that it ends may be aborted before."""
        limit_s, took_s = self.plan.transaction_timeout_s, self.written.seconds
        every_s = min(self.plan.checkpoint_every_s or math.inf, limit_s / 2)  # where a commit is due
        if self._fits and every_s + took_s > limit_s:
            self._fits = False
            _log.warning(
                "a checkpoint took %.1f s, which with the %g s before it is more than kafka.transaction_timeout_s (%g):"
                " the brokers may abort its transaction, and all of it is written again. Raise kafka.transaction_timeout_s,"
                " or make checkpoint.every_s smaller.",
                took_s,
                every_s,
                limit_s,
            )

    @property
    def _is_seen_at_once(self) -> bool:
        """Whether what this process writes may be read though no checkpoint of its own is there.

        A later process has to know of it, so one is taken before anything is written.
        """
        return self.parts.channel is not None and self.parts.commits is None

    def _tell_again(self) -> None:
        """Tell the source where it stands while less than a micro-batch waits and no checkpoint can come.

        What was read of that counts as not read, and the events that would complete it may lie in partitions that a source
        takes up when it is told.
        """
        waits = self._intake.holds and self.parts.store is not None and self._offset == self._durable
        if waits and time.monotonic() - max(self._told_s, self._durable_s) >= HELD_S:
            self._told_s = time.monotonic()
            self.parts.source.commit(self._offset)

    def _due(self) -> bool:
        """Tell whether the clock, or a transaction that has been open for long, asks for a checkpoint.

        When checkpoints are taken changes nothing that is learned or written.
        """
        if self.parts.commits is not None and self.parts.commits.due:
            return True
        every = self.plan.checkpoint_every_s
        return bool(every) and self._offset > self._durable and time.monotonic() - self._durable_s >= every

    def _state(self, lengths: dict[str, int]) -> dict[str, Any]:
        """Return everything that a checkpoint holds."""
        p = self.parts
        return {
            "config": self.plan.fingerprint,
            "computed_by": computed_by(p.learner.engine, p.learner.device),
            "learner": p.learner.state_dict(),
            "labels": p.queue.state_dict(),
            "scores": p.scores.state_dict(),
            "detector": p.detector.state_dict(),
            "rate_control": p.rate_control.state_dict(),
            "loop": {
                "counters": asdict(self.counters),
                "control": asdict(self.control),
                "offset": self._offset,
                "since": self._since,
                "untold": [list(place) for place in self._untold],
                "trail": self._trail.state_dict(),
                "started_ms": self._before_ms if p.channel is None else p.channel.opened_ms,
            },
            "source": p.source.state(self._offset),
            "sinks": lengths,
        }

    def _patiently(self, action: Callable[[], T]) -> T:
        """Do what may fail for want of room or of a broker; try again within the plan's patience, taking nothing in."""
        began, pause = time.monotonic(), SHORTEST_PAUSE_S
        while True:
            try:
                done = action()
            except (SinkError, CheckpointError) as error:
                if not _passing(error) or self._stop() or time.monotonic() - began >= self.plan.patience_s:
                    raise
                if not self.blocked:
                    _log.warning("intake stopped, trying again for %.0f s: %s", self.plan.patience_s, error)
                self.blocked = str(error)
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
            else:
                if self.blocked:
                    _log.warning("intake goes on after %.1f s", time.monotonic() - began)
                self.blocked = ""
                return done

    def _sinks(self) -> list[tuple[str, Sink[Any]]]:
        named = (("predictions", self.parts.predictions), ("dead_letters", self.parts.dead_letters))
        return [(name, sink) for name, sink in named if sink is not None]

    def _left(self) -> float:
        """Count the events up to the limit."""
        return self.plan.limit - self.counters.events if self.plan.limit else math.inf

    def _least(self) -> int:
        """Count the events up to the end of the micro-batch."""
        return self.plan.batch - (self.counters.events - self._since) % self.plan.batch

    def _room(self, least: int) -> int:
        """Count the events up to the next point at which something is decided: at least `least`, if the limit allows."""
        done, plan = self.counters.events, self.plan
        room = min(
            plan.chunk,
            self._pace.most,
            *(every - done % every for every in (plan.control_every, plan.checkpoint_every)),
        )
        if plan.batch > 1 and not self.parts.queue.immediate:
            # labels that come late are learned between micro-batches, so those are handled one by one
            room = least
        return int(min(max(least, room), self._left()))

    def _finish(self) -> None:
        """At the end of a finite stream: learn what is left of a micro-batch and the labels still on their way."""
        rest = self._intake.rest(int(min(self._least(), self._left())))
        if rest is not None:
            self._process(rest)
        work = self.parts.queue.drain(self.parts.learner)
        if work is not None:
            self._run(work)
        for _, sink in self._sinks():
            self._patiently(sink.flush)

    def _process(self, chunk: Chunk, *, cut: bool = False) -> None:
        """Take one block of events through the last checks, features, network, scores, drift and control.

        Args:
            chunk: the block.
            cut: it is a micro-batch that the clock ended.
        """
        plan, p = self.plan, self.parts
        began = self.counters.events
        number = began + np.arange(len(chunk))
        self._count_batches(number)
        if cut:
            self._note_cut(chunk.records[-1])
        if chunk.labels is not None and p.predictions is not None:
            self.counters.untold += self._trail.add(chunk.labels)
        features = {n: c for n, c in chunk.columns.items() if n not in plan.targets and n != plan.id_field}
        moment = {"s": _seconds(chunk.columns.get(plan.moment_field), len(number))}
        letters = list(chunk.rejects)
        for came in p.queue.steps(chunk, number, plan.targets):
            rest, unfit = came.without(p.learner.targets.misfits(came.labels, len(came)))
            self._bury([*letters, *unfit])
            letters = []
            while len(rest):
                encoded = p.learner.encode(rest.of(features), rest.labels, rest.order - self._since, batch=plan.batch)
                part, rest = rest.split(len(encoded.rows))
                served = np.full((len(part), p.learner.head.width), np.nan)
                rows = Rows(encoded.rows.x, encoded.rows.y, part.number)
                block = Block(rows, encoded.truth, served, part.offset, part.of(moment)["s"], part.records)
                self._run(p.queue.arrange(block, p.learner, self._since))
        self._bury(letters)
        self.counters.events += len(number)
        if cut:
            self._since = self.counters.events
        self._offset = chunk.stop
        if _crosses(began, self.counters.events, plan.control_every):
            self._decide()

    def _run(self, work: Work) -> None:
        """Run a block's operations; emit, score and remember what came of them."""
        p, control = self.parts, self.control
        p.crash_point("before_learn")
        results = p.learner.run(work.block.rows, work.operations, rate=control.rate, clear=control.clear)
        p.crash_point("after_learn")
        order, fresh = work.operations.rows(Kind.PREDICT_LEARN, Kind.LEARN), np.arange(len(work.block)) >= work.old
        learned = order[~np.isnan(results.loss[order])]
        if len(learned):
            control.clear = False
        refused = np.zeros(len(work.block), dtype=bool)
        refused[list(results.refused)] = True
        served = work.served(results.served)
        block = replace(work.block, served=served)
        p.queue.keep(work, served, p.learner, results.refused)
        self._bury(
            [
                DeadLetter(int(block.offset[row]), "learn", "not_finite", why, block.records[row])
                for row, why in sorted(results.refused.items())
            ]
        )
        # one that was predicted before its label proved unusable has its prediction, in the same block as in an earlier one
        shown = fresh & ~(refused & np.isnan(served).all(axis=1))
        self._emit(select(block, shown) if refused.any() or work.old else block)
        scored = learned if p.queue.immediate else order[~refused[order]]
        if len(scored):
            number = block.rows.number[scored]
            categories = p.learner.features.categories(block.rows.x[scored]) if p.scores.values else {}
            p.scores.update(outcome(number, block.served[scored], block.truth[scored], p.learner.head, categories))
        self.counters.learned += len(learned)
        unlabelled = np.isnan(block.truth).all(axis=1) & fresh & ~refused
        unlabelled[work.awaited] = False
        self.counters.unlabelled += int(unlabelled.sum())
        control.loss += results.loss[learned].tolist()
        control.number += block.rows.number[learned].tolist()

    def _emit(self, block: Block) -> None:
        if self.parts.predictions is not None and len(block):
            sink, served = self.parts.predictions, predictions(block, self.parts.learner, self._untold)
            told = self._trail.tell(block.offset)
            if told:
                served = replace(served, told=told, since=self._first)
            self._patiently(lambda: sink.write(served))
            self._untold = ()

    def _count_batches(self, number: IntArray) -> None:
        """Count micro-batches by their events."""
        if self.plan.batch > 1:
            sizes = np.unique((number - self._since) // self.plan.batch, return_counts=True)[1]
            for size in sizes.tolist():
                self.batches[size] = self.batches.get(size, 0) + 1

    def _note_cut(self, last: Record) -> None:
        """Keep where the clock has ended a micro-batch until a prediction tells it.

        The one before it matters only where it left no prediction, and more of those have nothing that could be learned
        between them.
        """
        self.counters.cuts += 1
        if last.origin is not None and self.parts.predictions is not None:
            self._untold = (*self._untold[-1:], last.origin)

    def _bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep records that could not be used, and count them by reason."""
        for letter in letters:
            kind = f"{letter.stage}/{letter.reason}"
            self.counters.dropped[kind] = self.counters.dropped.get(kind, 0) + 1
        if letters and self.parts.dead_letters is not None:
            sink, ordered = self.parts.dead_letters, sorted(letters, key=lambda letter: letter.offset)
            ordered = [replace(letter, since=self._first) for letter in ordered]
            self._patiently(lambda: sink.write(ordered))

    def _decide(self) -> None:
        """At a control boundary: ask the detector about the losses since the last one, then set the learning rate."""
        control, counters = self.control, self.counters
        loss = np.array(control.loss, dtype=np.float64)
        found = [control.number[i] for i in self.parts.detector.update(loss)]
        action: Action = self.parts.rate_control.update(loss, drifted=bool(found))
        if len(loss):
            self.loss = float(loss.mean())
        counters.drifts += len(found)
        control.drifts = [*control.drifts, *found][-MOST_DRIFTS:]
        if found:
            control.acted = [*control.acted, counters.events][-MOST_DRIFTS:]
        if action.rate != control.rate:
            control.rates.append([counters.events, action.rate])
            if len(control.rates) > MOST_POINTS:
                control.rates = control.rates[:-1:2] + control.rates[-1:]
        control.rate, control.clear = action.rate, control.clear or action.clear
        control.loss, control.number = [], []


def _passing(error: SinkError | CheckpointError) -> bool:
    """Tell whether trying again may help."""
    return error.retryable if isinstance(error, SinkError) else error.reason == "no_space"


def _crosses(before: int, after: int, every: int) -> bool:
    return before // every != after // every


def _seconds(moments: np.ndarray[Any, np.dtype[Any]] | None, events: int) -> FloatArray:
    """Turn a column of moments into seconds since 1970, [K] float64, NaN where there is none."""
    if moments is None:
        return np.full(events, np.nan)
    if moments.dtype == np.float64:
        return moments.copy()
    seconds = moments.astype("datetime64[us]").astype(np.int64) / 1e6
    return np.where(np.isnat(moments), np.nan, seconds)


def _check_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    flat_found, flat_wanted = _flat(found), _flat(wanted)
    lines = [
        f"{key}: {flat_found.get(key, 'not set')!r} in the checkpoint, {flat_wanted.get(key, 'not set')!r} now"
        for key in sorted(flat_found.keys() | flat_wanted.keys())
        if flat_found.get(key) != flat_wanted.get(key)
    ]
    if lines:
        raise ValueError(
            "the checkpoint was written with other settings:\n  "
            + "\n  ".join(lines)
            + "\nUse the same settings, or begin afresh in another folder."
        )


def _tell_changes(before: dict[str, str], now: dict[str, str]) -> None:
    """Warn of a run that goes on by other means: it is right, but not bit for bit what it would have been."""
    found = changes(before, now)
    if found:
        _log.warning(
            "from here on results may differ in the last bits from those of an uninterrupted run, because the model is"
            " computed by other means: %s",
            "; ".join(found),
        )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[prefix + key] = list(value) if isinstance(value, tuple) else value
    return flat
