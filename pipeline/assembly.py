"""From a configuration to the parts that run: everything is made here, and nothing is read but the head of the stream.

In: `Config`. Out: `Prepared`, and from it, once this process is to run the model, `Assembled`: a loop ready to be opened,
and what a report or display wants to know about it.
"""

import dataclasses
import math
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from connectors import StreamHead, StreamSpec, look
from connectors.kafka import Commits
from pipeline import faults
from pipeline.checkpoint import Checkpoint, CheckpointError, CheckpointStore
from pipeline.config import Config, FeatureSettings, NetworkSettings, OptimizerSettings
from pipeline.join import LabelJoin, label_kinds
from pipeline.labels import LabelQueue
from pipeline.model import Model
from pipeline.outside import connect, has_head, is_kafka, is_live
from pipeline.prequential import Parts, Plan, Prequential
from pipeline.scores import Scores, Target
from pipeline.settings import SettingsError, plain
from pipeline.steps import Arrivals
from pipeline.tasks import Resolved, resolve
from streamnn.device import check_device
from streamnn.drift import make_detector
from streamnn.features.standardizer import Standardizer
from streamnn.learner import Learner, LearnerSpec
from streamnn.lr_control import make_control
from streamnn.networks import MLPSpec
from streamnn.optimizers import OPTIMIZERS, Adam, Optimizer
from streamnn.pool import PoolLearner, PoolSpec

T = TypeVar("T")

# beyond, a pool for each target, or neighbours among so many inputs, costs more than most streams can wait for
MOST_POOLS, MOST_POOLED_INPUTS = 8, 1000
MOST_LABELS, MOST_LABELLED_INPUTS = 200, 2000  # of the pool that labels share; a wide one is made of smaller networks

# what shapes the model; everything else (paths, ports, limits, chunk sizes) may change between two runs of one model
SHAPING = ("seed", "model", "mode", "labels", "features", "network", "optimizer", "drift", "rate", "scores")
NOT_SHAPING = {"model": ("engine", "device"), "mode": ("chunk", "max_wait_ms")}


@dataclass(frozen=True, slots=True)
class Assembled:
    """A loop with what it was made from.

    Attributes:
        checkpoint: what it goes on from; None = from the beginning.
        stopping: to be set when the process is to stop.
    """

    config: Config
    resolved: Resolved
    loop: Prequential
    store: CheckpointStore | None
    checkpoint: Checkpoint | None
    stopping: threading.Event

    def close(self) -> None:
        """Give up everything that is held open, also where some of it fails.

        Raises:
            SinkError: what an output still had to write cannot be written.
        """
        parts = self.loop.parts
        with ExitStack() as stack:
            for part in (self.store, parts.dead_letters, parts.predictions, parts.source):
                if part is not None:
                    stack.callback(part.close)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything of a run but its checkpoint: made, and nothing opened, so that others may still run the model.

    Attributes:
        parts: without the store.
        stopping: to be set when the process is to stop.
    """

    config: Config
    resolved: Resolved
    plan: Plan
    parts: Parts
    stopping: threading.Event

    def begin(self) -> Assembled:
        """Claim the folder of checkpoints and find the one to go on from; fences whoever ran before.

        Raises:
            SettingsError: the folder does not fit what is committed.
            ConnectorError: the cluster refuses.
            CheckpointError: the checkpoint folder cannot be used.
        """
        store, checkpoint = _store(self.config, self.parts.crash_point, self.parts.commits)
        loop = Prequential(self.plan, replace(self.parts, store=store))
        return Assembled(self.config, self.resolved, loop, store, checkpoint, self.stopping)


def prepare(config: Config, waiting: Callable[[], None] = lambda: None) -> Prepared:
    """Make the parts of a run.

    Args:
        config: settings.
        waiting: called every second or so while an output that does not take what is written is waited for.

    Raises:
        SettingsError: a setting is out of range or contradicts another; the message names it.
        ConnectorError: the source or a sink cannot be opened.
    """
    if not config.stream.source:
        raise SettingsError("stream.source: what is to be read? Give a path, river:NAME or synth:NAME")
    if config.labels.delay_s and not config.stream.moment:
        raise SettingsError("labels.delay_s needs stream.moment, the field that holds the event time (--moment FIELD)")
    if config.model.device != "cpu":
        _check_device(config)
    if config.labels.topic:
        _check_join(config)
    if config.mode.max_wait_ms and config.mode.batch > 1:
        _check_wait(config)
    if is_kafka(config.stream.source) and config.kafka.delivery == "transactional":
        _check_transaction(config)
    if config.checkpoint.resume and not config.checkpoint.folder:
        raise SettingsError("checkpoint.resume needs checkpoint.folder (--checkpoint DIR)")
    if is_kafka(config.stream.source) and not config.checkpoint.folder:
        raise SettingsError("checkpoint.folder: a topic is read for long; say where checkpoints go")
    _check_outputs(config)
    spec = StreamSpec(
        source=config.stream.source,
        delimiter=config.stream.delimiter,
        follow=config.stream.follow,
        max_record_bytes=config.stream.max_record_bytes,
        seed=config.seed,
    )
    resolved = resolve(config.stream, look(spec) if has_head(spec.source) else StreamHead((), 0))
    stopping = threading.Event()

    def stops() -> bool:
        waiting()
        return stopping.is_set()

    outside = connect(config, spec, resolved.schema, stops)
    if outside.commits is not None and config.checkpoint.keep < 2:
        raise SettingsError("checkpoint.keep is 1, but a transaction needs at least 2: the newest may not be committed")
    learner = model(config, resolved)
    for target, classes in resolved.classes.items():
        learner.targets.declare(target, classes)
    parts = Parts(
        source=outside.source,
        learner=learner,
        queue=arrivals(config, resolved),
        scores=Scores(
            [Target(t.name, t.kind) for t in resolved.targets],
            window=config.scores.window,
            fading=config.scores.fading,
        ),
        detector=_checked(
            "drift.options", lambda: make_detector(config.drift.detector, config.drift.options, seed=config.seed)
        ),
        rate_control=_checked(
            "rate.options", lambda: make_control(config.rate.control, config.optimizer.rate, config.rate.options)
        ),
        crash_point=faults.from_environment(os.environ),
        predictions=outside.predictions,
        dead_letters=outside.dead_letters,
        commits=outside.commits,
        channel=outside.channel,
    )
    plan = Plan(
        targets=tuple(t.name for t in resolved.targets),
        id_field=config.stream.id,
        moment_field=config.stream.moment,
        feature_fields=resolved.feature_fields,
        batch=config.mode.batch,
        chunk=config.mode.chunk,
        control_every=config.rate.every,
        checkpoint_every=config.checkpoint.every_events,
        checkpoint_every_s=config.checkpoint.every_s,
        limit=config.stream.limit,
        patience_s=config.output.patience_s,
        fingerprint=fingerprint(config, resolved),
        wait_s=config.mode.max_wait_ms / 1000 if is_live(config.stream) else 0.0,
        transaction_timeout_s=config.kafka.transaction_timeout_s if outside.commits is not None else math.inf,
    )
    return Prepared(config, resolved, plan, parts, stopping)


def assemble(config: Config) -> Assembled:
    """Make the parts of a run that waits for nobody; see `prepare` and `Prepared.begin`."""
    return prepare(config).begin()


def _check_outputs(config: Config) -> None:
    """Check that no output takes the place of the stream, or of another one, and that those written last have a folder.

    Raises:
        SettingsError: one would; nothing has been written yet.
    """
    output = config.output
    named = {
        "stream.source": config.stream.source,
        "output.predictions": output.predictions,
        "output.dead_letters": output.dead_letters,
        "output.report": output.report,
        "output.plot": output.plot,
    }
    taken = dict[Path, str]()
    for key, text in named.items():
        if text and (first := taken.setdefault(Path(text).resolve(), key)) != key:
            raise SettingsError(f"{key} is {text}, which is {first} too and would be overwritten; choose another path")
    for key in ("output.report", "output.plot"):
        path = Path(named[key]).resolve()
        if named[key] and path.is_dir():
            raise SettingsError(f"{key} is {named[key]}, which is a folder; give a file in it")
        if named[key] and not os.access(path.parent, os.W_OK):
            raise SettingsError(
                f"{key} is {named[key]}, and the folder {path.parent} is not there, or nothing can be written in it; make it,"
                " or choose another path"
            )


def _check_device(config: Config) -> None:
    """Check that what is to run on a device can, and that the device is there.

    Raises:
        SettingsError: it cannot, or is not.
    """
    model = config.model
    device = f"model.device is {model.device}"
    if model.preset not in ("auto", "single"):
        raise SettingsError(
            f"model.preset is {model.preset}, a pool, which runs on the cpu, but {device}; set model.preset to single, or"
            " model.device to cpu"
        )
    if model.engine != "auto":
        raise SettingsError(
            f"model.engine is {model.engine}, which runs on the cpu, but {device}; set model.engine to auto, or"
            " model.device to cpu"
        )
    if config.mode.batch == 1:
        raise SettingsError(
            f"mode.batch is 1, and {device}: learned event by event, a network is far slower on a card than on the cpu; set"
            " mode.batch to some hundreds or more (--mode batch:1024), or model.device to cpu"
        )
    _checked("model.device", lambda: check_device(model.device))


def _check_join(config: Config) -> None:
    """Check what goes with a topic of labels.

    Raises:
        SettingsError: something is missing, or does not.
    """
    labels = config.labels
    if has_head(config.stream.source):
        raise SettingsError(
            f"labels.topic is {labels.topic!r}, but the source is {config.stream.source!r}, which is no topic; labels of a"
            " recorded stream are a column of it (--target, and --label-delay to let them come late)"
        )
    if config.stream.source == f"kafka:{labels.topic}":
        raise SettingsError(
            f"labels.topic is {labels.topic!r}, the topic of the events; leave it out, labels are there"
        )
    if not config.stream.id:
        raise SettingsError("labels.topic needs stream.id, the field by which events and labels are joined")
    if config.mode.batch > 1:
        raise SettingsError(
            f"mode.batch is {config.mode.batch}, but labels of a topic of their own are learned one by one; set it to 1"
        )
    if labels.delay_events or labels.delay_s:
        raise SettingsError(
            "labels.topic is set, and labels.delay_events or labels.delay_s too; labels come when their record does"
        )


def _check_wait(config: Config) -> None:
    """Check that where the clock ends micro-batches can be told, so that a recording repeats it.

    Raises:
        SettingsError: it cannot.
    """
    wait = f"mode.max_wait_ms is {config.mode.max_wait_ms:g}, and mode.batch {config.mode.batch}"
    if config.stream.follow:
        raise SettingsError(
            f"{wait}: the clock would end micro-batches of a file that is followed (stream.follow), whose replay could not"
            " repeat it; set mode.max_wait_ms to 0, or mode.batch to 1"
        )
    if is_kafka(config.stream.source) and not config.kafka.predictions_topic:
        raise SettingsError(
            f"{wait}: predictions tell where the clock ended micro-batches, and kafka.predictions_topic is not set; set it,"
            " or mode.max_wait_ms to 0"
        )


def _check_transaction(config: Config) -> None:
    """Check that a checkpoint, and what is written between two of them, fit a transaction.

    Raises:
        SettingsError: they do not.
    """
    kafka, every_s = config.kafka, config.checkpoint.every_s
    half_s = kafka.transaction_timeout_s / 2
    if every_s > half_s:
        raise SettingsError(
            f"checkpoint.every_s is {every_s:g}, expected at most {half_s:g}: a transaction is due for its commit at half of"
            f" kafka.transaction_timeout_s ({kafka.transaction_timeout_s:g}), and the other half is for writing the"
            f" checkpoint; make it smaller, or set kafka.transaction_timeout_s to {2 * every_s:g} or more"
        )
    name, block = max((("chunk", config.mode.chunk), ("batch", config.mode.batch)), key=lambda one: one[1])
    if kafka.uncommitted_records < block:
        raise SettingsError(
            f"kafka.uncommitted_records is {kafka.uncommitted_records}, expected at least mode.{name} ({block}): so many"
            f" predictions are written in one go; raise it, or make mode.{name} smaller"
        )


def arrivals(config: Config, resolved: Resolved) -> Arrivals:
    """Return what brings labels to their events."""
    labels = config.labels
    if labels.topic:
        kinds = label_kinds(resolved.schema.kinds, resolved.schema.targets)
        return LabelJoin(kinds, id_field=config.stream.id, wait_s=labels.wait_s, capacity=labels.max_pending)
    return LabelQueue(
        delay_events=labels.delay_events,
        delay_s=labels.delay_s,
        batch=config.mode.batch,
        capacity=labels.max_pending,
    )


def preset(config: Config, resolved: Resolved) -> str:
    """Return the preset in force.

    Raises:
        SettingsError: a pool is asked for, and settings that only a single network has.
    """
    single = {
        "network": config.network != NetworkSettings(),
        "optimizer.name": config.optimizer.name != OptimizerSettings().name,
        "optimizer.options": bool(config.optimizer.options),
        "model.device": config.model.device != "cpu",
        "features.clip, outlier or horizon": replace(config.features, capacity=8, max_categories=100, hash_buckets=32)
        != FeatureSettings(),
    }
    given = [name for name, changed in single.items() if changed]
    if config.model.preset == "auto":
        return "single" if given or _heavy(resolved) else "best"
    if config.model.preset != "single" and given:
        raise SettingsError(
            f"model.preset is {config.model.preset}, a pool with constants of its own, but {', '.join(given)} is set,"
            " which only a single network has; set model.preset=single, or leave it out"
        )
    return config.model.preset


def _heavy(resolved: Resolved) -> bool:
    """Tell whether a pool would cost too much by itself; several binary targets share one."""
    binaries, inputs = sum(t.kind == "binary" for t in resolved.targets), len(resolved.feature_fields)
    if 1 < binaries == len(resolved.targets):
        return binaries > MOST_LABELS or inputs > MOST_LABELLED_INPUTS
    pools = len(resolved.targets) - max(0, binaries - 1)
    return pools > MOST_POOLS or binaries > MOST_LABELS or inputs > MOST_POOLED_INPUTS


def model(config: Config, resolved: Resolved) -> Model:
    """Make what learns.

    Raises:
        SettingsError: a setting is outside its range.
    """
    chosen = preset(config, resolved)
    if chosen == "single":
        return Learner(learner_spec(config, resolved))
    f = config.features
    return PoolLearner(
        _checked(
            "configuration",
            lambda: PoolSpec(
                targets=resolved.targets,
                preset=chosen,  # type: ignore[arg-type]  # one of the names above
                feature_capacity=f.capacity,
                max_categories=f.max_categories,
                hash_buckets=f.hash_buckets,
                seed=config.seed,
                engine=config.model.engine,
            ),
        )
    )


def learner_spec(config: Config, resolved: Resolved) -> LearnerSpec:
    """Return what the learner is made from.

    Raises:
        SettingsError: a setting is outside its range.
    """
    n, f = config.network, config.features
    return _checked(
        "configuration",
        lambda: LearnerSpec(
            targets=resolved.targets,
            network=MLPSpec(
                units=n.units, activation=n.activation, normalizer=n.normalizer, dropout=n.dropout, skip=n.skip
            ),
            optimizer=optimizer(config),
            standardizer=Standardizer(clip=f.clip, outlier=f.outlier, horizon=f.horizon),
            class_prior=n.class_prior,
            regression_loss=n.regression_loss,
            feature_capacity=f.capacity,
            class_capacity=n.class_capacity,
            max_categories=f.max_categories,
            hash_buckets=f.hash_buckets,
            accumulate=n.accumulate,
            dtype=n.dtype,
            seed=config.seed,
            engine=config.model.engine,
            device=config.model.device,
            batch=config.mode.batch,
            foresee=config.mode.batch > 1 and is_live(config.stream),
        ),
    )


def optimizer(config: Config) -> Optimizer:
    """Return the optimizer that the settings name.

    Raises:
        SettingsError: it has no such option, or the option is outside its range.
    """
    name, options = config.optimizer.name, dict(config.optimizer.options)
    # without momentum, Adam follows drift much better than with the usual constants
    start = Adam(beta1=0.0, beta2=0.99) if name == "adam" else OPTIMIZERS[name]()
    known = {f.name: f for f in dataclasses.fields(start)}
    for option, value in options.items():
        if option not in known:
            raise SettingsError(
                f"optimizer.options.{option}: {name} has no such option; it has {', '.join(known) or 'none'}"
            )
        if isinstance(getattr(start, option), bool):
            options[option] = bool(value)
    return _checked("optimizer.options", lambda: dataclasses.replace(start, **options))


def fingerprint(config: Config, resolved: Resolved) -> dict[str, Any]:
    """Return the settings that shape the model: a checkpoint fits only the same ones."""
    settings = plain(config)
    shaping = {name: settings[name] for name in SHAPING}
    for section, keys in NOT_SHAPING.items():
        shaping[section] = {k: v for k, v in shaping[section].items() if k not in keys}
    schema = resolved.schema
    shaping["model"]["preset"] = preset(config, resolved)
    shaping["stream"] = {
        "task": resolved.task,
        "targets": [f"{t.kind} {t.name}" for t in resolved.targets],
        "kinds": dict(schema.kinds),
        "id": schema.id,
        "moment": schema.moment,
        "ignore": list(schema.ignore),
        "extra": schema.extra,
        "features": list(resolved.feature_fields),
    }
    return shaping


def _store(
    config: Config, crash_point: faults.CrashPoint, commits: Commits | None
) -> tuple[CheckpointStore | None, Checkpoint | None]:
    """Open the folder of checkpoints and find the one to go on from."""
    folder = config.checkpoint.folder
    if not folder:
        return None, None
    store = CheckpointStore(Path(folder), keep=config.checkpoint.keep, crash_point=crash_point)
    store.claim(shared=config.kafka.standby)
    if not config.checkpoint.resume and store.paths():
        raise SettingsError(
            f"checkpoint.folder: {folder} holds checkpoints already. Add --resume to go on from the newest, or choose"
            " another folder."
        )
    if commits is None:
        return store, store.latest() if config.checkpoint.resume else None
    store.begin_term()
    named = commits.last_checkpoint()
    store.confirm_term()
    return store, _named(store, named)


def _named(store: CheckpointStore, named: str | None) -> Checkpoint | None:
    """Return the checkpoint that the committed positions name; this process goes on from it.

    Raises:
        SettingsError: it is not there, or there are checkpoints and no positions.
        CheckpointError: it cannot be used. No other can: what was made after an earlier one is visible already.
    """
    if named is None:
        newest = store.paths()[-1:]
        if newest and store.load(newest[0]).number > 0:
            raise SettingsError(
                f"checkpoint.folder: {store.folder} holds {newest[0].name}, but no positions are committed under"
                " kafka.group. The group is mistyped, its offsets have expired, or the topic was deleted and made again:"
                " correct the group, or begin afresh with another folder."
            )
        return None
    path = store.folder / Path(named).name
    if not path.exists():
        raise SettingsError(
            f"checkpoint.folder: the committed positions belong to checkpoint {named}, but {path} is not there. Use the"
            " folder of the run that committed them, or begin afresh with another kafka.group."
        )
    try:
        checkpoint = store.load(path)
    except CheckpointError as error:
        raise CheckpointError(
            error.reason,
            f"checkpoint.folder: the committed positions belong to checkpoint {named}, which cannot be used, and no other"
            " has what was committed with it. Put back a copy of it; or begin afresh with another folder, kafka.group and"
            f" topics of predictions and dead letters. ({error})",
        ) from error
    store.go_on_from(path)
    return checkpoint


def _checked(what: str, make: Callable[[], T]) -> T:
    """Run a constructor; what it refuses becomes a message about the configuration."""
    try:
        return make()
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{what}: {error}") from error
