"""The configuration: one TOML file, every key with its meaning, range and default.

Sections become frozen dataclasses; `pipeline.settings` reads the file, the environment and `--set`, and refuses unknown
keys. Here are the keys; `pipeline.assembly` turns them into the parts that run.
"""

from dataclasses import dataclass, field
from typing import Literal

from pipeline.settings import setting

Task = Literal["auto", "binary", "multiclass", "multilabel", "multioutput", "regression", "multitarget", "mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """Where events come from and what their fields mean."""

    source: str = setting(
        "",
        "path (.csv, .jsonl, .parquet, .libsvm, .records.jsonl, each also .gz), kafka:TOPIC, river:NAME or synth:NAME",
    )
    targets: tuple[str, ...] = setting((), "names of the columns to predict")
    targets_last: int = setting(0, "instead of names: the last N columns are the targets", low=0)
    task: Task = setting("auto", "what the targets are; auto asks where it would have to guess")
    kinds: dict[str, str] = setting(
        {},
        "field name -> number, integer, boolean, category, moment, day_first or month_first (31/12/2018, 12/31/2018);"
        " other fields: as the head of the stream shows",
    )
    classes: dict[str, object] = setting(
        {},
        "target -> list of its classes in their order, where they are known; of a binary target the second is positive",
    )
    ignore: tuple[str, ...] = setting((), "fields left out")
    id: str = setting("", "field that identifies an event; not a feature")
    moment: str = setting("", "field that holds the event time")
    extra: Literal["feature", "ignore", "reject"] = setting(
        "feature", "what is done with a field that was not declared or met at the head of the stream"
    )
    delimiter: str = setting(",", "between the fields of a CSV line")
    limit: int = setting(0, "stop after so many events; 0 = all", low=0)
    follow: bool = setting(False, "wait for more at the end of a file, as tail -F does (CSV and JSONL)")
    max_record_bytes: int = setting(1 << 20, "longer records go to the dead letters", low=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeSettings:
    """How events are grouped."""

    batch: int = setting(1, "events per micro-batch; 1 = sample mode, each event learned before the next", low=1)
    chunk: int = setting(512, "events handled in one go at most; changes speed, never results", low=1)
    max_wait_ms: float = setting(
        0.0,
        "of a live stream: a micro-batch ends, smaller than batch, once its first event has waited so long (milliseconds)"
        " after it was read; in sample mode it keeps what is handled in one go short, and results are the same; 0 = never",
        low=0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSettings:
    """When labels become known."""

    delay_events: int = setting(0, "labels arrive so many events after their event; 0 = with it", low=0)
    delay_s: float = setting(0.0, "labels arrive so much event time after their event, seconds; needs moment", low=0.0)
    max_pending: int = setting(1_000_000, "most labels that wait at a time; the oldest are given up on top", low=1)
    topic: str = setting(
        "", "Kafka topic that labels come on, joined to their events by the field stream.id; empty = with their event"
    )
    wait_s: float = setting(
        86_400.0,
        "with topic: how long an event and its label wait for each other, seconds of stream time (the records'"
        " timestamps); 0 = max_pending alone bounds them",
        low=0.0,
    )
    avro_schema: str = setting("", "with topic: file with the schema that plain Avro labels were written with")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSettings:
    """How fields become inputs."""

    capacity: int = setting(8, "inputs there is room for at the start, a power of two; doubles when needed", low=1)
    max_categories: int = setting(
        100, "distinct values of a field with an input of their own; the rest is hashed", low=0
    )
    hash_buckets: int = setting(32, "inputs that hashed values of a field share", low=1)
    clip: float = setting(5.0, "standardised inputs are limited to this many deviations", low=0.1)
    outlier: float = setting(
        10.0, "values further out (deviations) are pulled in before they are counted; 0 = off", low=0.0
    )
    horizon: int = setting(0, "events after which input statistics forget; 0 = never", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings:
    """What learns."""

    preset: Literal["auto", "best", "fast", "lite", "single"] = setting(
        "auto",
        "best, fast, lite = a pool of small members, more of them predict better and take longer; single = the"
        " one network of [network] and [optimizer]; auto = single if anything there is set, or there are more than 8 targets"
        " or 1,000 inputs (200 labels or 2,000 inputs where all targets are labels, which share a pool); else best",
    )
    engine: Literal["auto", "native", "eager"] = setting(
        "auto", "native = compiled C, eager = torch or NumPy, auto = native where there is a compiler"
    )
    device: Literal["cpu", "cuda"] = setting(
        "cpu", "cuda = micro-batches (mode.batch) of one network (preset single) run on an NVIDIA card"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """The network of preset single."""

    units: tuple[int, ...] = setting((64,), "width of each hidden layer; [] = a linear model")
    activation: Literal["relu", "leaky_relu", "tanh", "gelu", "silu", "mish", "selu"] = setting(
        "relu", "after each layer"
    )
    normalizer: Literal["none", "layer", "rms", "streaming", "online"] = setting("layer", "of each hidden layer")
    dropout: float = setting(0.0, "fraction of hidden units dropped while learning", low=0.0, high=0.99)
    skip: bool = setting(True, "a linear path from inputs to outputs beside the hidden layers")
    dtype: Literal["float32", "float64"] = setting("float32", "precision")
    accumulate: int = setting(1, "micro-batches whose gradients make one update", low=1)
    class_capacity: int = setting(
        8, "classes there is room for at the start, a power of two; doubles when needed", low=2
    )
    class_prior: float = setting(0.01, "least probability at which a late class enters", low=1e-6, high=0.5)
    regression_loss: Literal["huber", "squared", "absolute"] = setting("huber", "in deviations of the target")


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerSettings:
    """How gradients become steps."""

    name: Literal["sgd", "adagrad", "rmsprop", "adadelta", "adam", "nadam", "cocob", "obgd"] = setting("adam", "method")
    rate: float = setting(0.003, "base learning rate; for cocob and obgd see their documentation", low=0.0)
    options: dict[str, float] = setting({}, "the method's own constants, such as beta1; unset ones keep their defaults")


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftSettings:
    """Which detector watches the prequential loss."""

    detector: Literal["none", "adwin", "page_hinkley", "kswin", "ddm", "eddm", "hddm_a", "hddm_w"] = setting(
        "adwin", "watches the loss of each event before it is learned; only a rise counts"
    )
    options: dict[str, float] = setting({}, "the detector's own constants, such as delta")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    """How the learning rate is controlled."""

    control: Literal["fixed", "exponential", "plateau", "drift"] = setting("drift", "see streamnn.lr_control")
    every: int = setting(512, "events between decisions; a block never reaches across one", low=1)
    options: dict[str, float] = setting({}, "the control's own constants, such as factor or patience")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreSettings:
    """Prequential scores."""

    window: int = setting(1000, "scored events in the sliding window", low=1)
    fading: float = setting(
        0.999, "factor by which a scored event counts less after each further one", low=0.0, high=1.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSettings:
    """Where results go. An empty path means: not written."""

    predictions: str = setting("", "predictions, .jsonl or .csv")
    dead_letters: str = setting("", "records that could not be used, with position and reason, .jsonl")
    report: str = setting("", "figures of the run, .json")
    plot: str = setting("", "curves of the run, .png")
    patience_s: float = setting(
        60.0, "how long a full disk or an output that is out of reach is waited for, before the run stops", low=0.0
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaSettings:
    """A Kafka cluster, what is read from it and what is written to it; see `connectors.kafka`."""

    bootstrap_servers: str = setting("localhost:9092", "host:port of some brokers, separated by commas")
    model: str = setting("streamnn", "name of this model: in headers, and where nothing else is set as group and id")
    group: str = setting("", "group under which positions are committed, one model's own; empty = model")
    delivery: Literal["at_least_once", "transactional"] = setting(
        "at_least_once",
        "transactional = predictions, dead letters and positions in one transaction with each checkpoint: exactly once"
        " for readers of committed records",
    )
    transactional_id: str = setting("", "the same for every process that may run this model; empty = streamnn-MODEL")
    transaction_timeout_s: float = setting(
        300.0,
        "how long a transaction may stay open, at most what brokers allow (transaction.max.timeout.ms, 900 s); a checkpoint"
        " is taken at half of it, so checkpoint.every_s is no more than that",
        low=20.0,
    )
    standby: bool = setting(
        False,
        "several processes may run with these settings: one works, the others stand by and take over when it ends, dies or"
        " hangs; needs transactional delivery and one checkpoint folder",
    )
    predictions_topic: str = setting("", "topic for predictions; empty = not written to Kafka")
    dead_letters_topic: str = setting("", "topic for records that could not be used")
    format: Literal["json", "avro"] = setting("json", "of the records read")
    avro_schema: str = setting("", "file with the schema that plain Avro records were written with")
    registry_url: str = setting("", "schema registry, for Avro records framed with the number of their schema")
    registry_ca_file: str = setting("", "certificates that are trusted there, PEM; empty = those of the system")
    registry_user: str = setting("", "who logs in at the registry")
    registry_password_file: str = setting("", "file that holds the password, first line")
    registry_password_env: str = setting("", "environment variable that holds the password")
    partitions: tuple[int, ...] = setting((), "those that this model owns; [] = all that there are at the first start")
    start: str = setting(
        "earliest",
        "where the very first start begins: earliest, latest, a moment in ISO 8601, or offsets of partitions such as"
        " 0:1200,1:800 (the others from their beginning)",
    )
    until: Literal["forever", "end"] = setting("forever", "end = stop at what is the end of the topic at the start")
    order: Literal["timestamp", "arrival"] = setting(
        "timestamp", "how partitions are merged: by record timestamp (the same order whenever read), or as they come"
    )
    idle_wait_s: float = setting(1.0, "how long a partition that has nothing is waited for while others have", low=0.0)
    lost: Literal["stop", "skip"] = setting("stop", "what is done if records not yet read have been deleted")
    new_partitions: Literal["refuse", "accept"] = setting("refuse", "what is done if the topic gets more partitions")
    committed_only: bool = setting(True, "leave out records of open and aborted transactions")
    buffer_records: int = setting(10_000, "read ahead at most, per partition; a full one is paused", low=1)
    buffer_mb: float = setting(32.0, "likewise, by the size of the records' values, in MiB", low=0.1)
    in_flight_records: int = setting(
        10_000, "predictions and dead letters not yet acknowledged, at most; beyond, the intake waits", low=1
    )
    uncommitted_records: int = setting(
        250_000,
        "of a transaction: predictions and dead letters kept until they are committed; with so many a checkpoint is taken",
        low=1,
    )
    stall_s: float = setting(
        30.0, "the consumer is made anew if a partition that has records gives none for so long", low=1.0
    )
    client: Literal["kafka-python", "confluent-kafka"] = setting("kafka-python", "library; the second: extra `fast`")
    security: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = setting("plaintext", "protocol")
    ca_file: str = setting("", "certificates that are trusted, PEM; empty = those of the system")
    certificate_file: str = setting("", "certificate of this client, PEM")
    key_file: str = setting("", "key of this client, PEM")
    key_password_file: str = setting("", "file that holds the password of the key, first line")
    key_password_env: str = setting("", "environment variable that holds it")
    mechanism: str = setting("PLAIN", "how the user logs in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, ...")
    user: str = setting("", "who logs in")
    password_file: str = setting("", "file that holds the password, first line")
    password_env: str = setting("", "environment variable that holds the password")
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = setting(
        "none",
        "of what is written; with kafka-python snappy, lz4 and zstd need the extra `compression`, for reading too",
    )
    start_wait_s: float = setting(30.0, "how long a cluster that cannot be reached is waited for at start", low=0.0)
    give_up_s: float = setting(0.0, "how long one that is lost later is waited for; 0 = for ever", low=0.0)
    common: dict[str, object] = setting({}, "further settings of the library, by its own names", secret=True)
    consumer: dict[str, object] = setting({}, "further settings of its consumer", secret=True)
    producer: dict[str, object] = setting({}, "further settings of its producer", secret=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSettings:
    """Surviving a stop."""

    folder: str = setting("", "where checkpoints go; empty = none are written")
    every_events: int = setting(100_000, "events between checkpoints", low=1)
    every_s: float = setting(10.0, "a checkpoint is also taken after so many seconds; 0 = never for that", low=0.0)
    keep: int = setting(3, "checkpoints kept", low=1)
    resume: bool = setting(False, "go on from the newest checkpoint in the folder")


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetrySettings:
    """Metrics and health over HTTP."""

    enabled: bool = setting(True, "serve /metrics, /livez and /readyz while `streamnn run` runs")
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(9464, "port to listen on; 0 = any free one", low=0, high=65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set."""

    seed: int = setting(0, "start weights, dropout, hashing and random detectors depend on it", low=0)
    stream: StreamSettings = field(default_factory=StreamSettings)
    mode: ModeSettings = field(default_factory=ModeSettings)
    labels: LabelSettings = field(default_factory=LabelSettings)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    drift: DriftSettings = field(default_factory=DriftSettings)
    rate: RateSettings = field(default_factory=RateSettings)
    scores: ScoreSettings = field(default_factory=ScoreSettings)
    output: OutputSettings = field(default_factory=OutputSettings)
    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
