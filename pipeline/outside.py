"""From settings to what lies outside: source, sinks, and where Kafka is used the transaction that joins them.

In: `Config` and the schema. Out: `Outside`. A source named `kafka:TOPIC` is a topic of the cluster in [kafka];
a recording is read as that topic would be; everything else is a file, a stream of river's, or a generator.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from connectors import (
    Codec,
    DeadLetter,
    JsonCodec,
    LabelledCodec,
    Predictions,
    Schema,
    Sink,
    Source,
    StreamSpec,
    event_schema,
    label_schema,
    open_dead_letters,
    open_predictions,
    open_source,
)
from connectors.avro import AvroCodec, FileSchema, RegistrySchemas, RegistrySettings
from connectors.kafka import (
    Channel,
    Commits,
    Delivery,
    KafkaConnection,
    KafkaDeadLetters,
    KafkaPredictions,
    KafkaReading,
    KafkaSource,
    Lease,
    Transaction,
    library,
    positions,
)
from connectors.recording import RecordingSource, is_recording
from pipeline.config import Config, KafkaSettings, StreamSettings
from pipeline.settings import SettingsError

SCHEME = "kafka:"
POLLS_A_WAIT = 8  # while a micro-batch waits: the clock is looked at in between


@dataclass(frozen=True, slots=True)
class Outside:
    """What the loop is connected to.

    Attributes:
        commits: there where predictions and positions are committed together.
        channel: what the sinks write to, where they write to topics.
    """

    source: Source
    predictions: Sink[Predictions] | None
    dead_letters: Sink[Sequence[DeadLetter]] | None
    commits: Commits | None
    channel: Channel | None


def is_kafka(source: str) -> bool:
    """Tell whether a source is a topic."""
    return source.startswith(SCHEME)


def is_live(stream: StreamSettings) -> bool:
    """Tell whether events come while they are read."""
    return is_kafka(stream.source) or stream.follow


def has_head(source: str) -> bool:
    """Tell whether the beginning of a source can be looked at: not of a topic, nor of what was recorded from one."""
    return not is_kafka(source) and not is_recording(source)


def connect(config: Config, spec: StreamSpec, schema: Schema, stopping: Callable[[], bool]) -> Outside:
    """Make source and sinks; none is opened yet.

    Args:
        config: settings.
        spec: the stream, where it is no topic.
        schema: what records are decoded with.
        stopping: asked while a cluster that does not answer is waited for; True ends the wait, since the process is to
            stop.

    Raises:
        SettingsError: settings contradict one another.
        ConnectorError: something outside refuses.
    """
    k, out = config.kafka, config.output
    for name, topic, file in (
        ("predictions", k.predictions_topic, out.predictions),
        ("dead_letters", k.dead_letters_topic, out.dead_letters),
    ):
        if topic and file:
            raise SettingsError(f"output.{name} and kafka.{name}_topic are both set; give one of them")
    source: Source
    commits: Transaction | None = None
    channel: Channel | None = None
    if is_kafka(config.stream.source) or k.predictions_topic or k.dead_letters_topic:
        made = library(connection(k))
    if is_kafka(config.stream.source):
        topic = config.stream.source.removeprefix(SCHEME)
        if k.delivery == "transactional":
            commits = channel = Transaction(
                made,
                source_topic=topic,
                group=k.group or k.model,
                identity=k.transactional_id or f"streamnn-{k.model}",
                timeout_s=k.transaction_timeout_s,
                in_flight=k.in_flight_records,
                most_records=k.uncommitted_records,
                start_wait_s=k.start_wait_s,
                give_up_s=k.give_up_s,
                stopping=stopping,
            )
        source = KafkaSource(
            reading(k, topic, config.labels.topic),
            made,
            codec(config, schema, spec),
            commits=commits is None,
            start_wait_s=k.start_wait_s,
            give_up_s=k.give_up_s,
            poll_s=config.mode.max_wait_ms / 1000 / POLLS_A_WAIT if config.mode.batch > 1 else 0.0,
        )
    else:
        if k.delivery == "transactional":
            raise SettingsError(
                "kafka.delivery is transactional, which needs a topic as the source (stream.source = kafka:TOPIC):"
                " the transaction joins predictions with its positions"
            )
        source = _recorded(config, spec, schema) or open_source(spec, schema)
    if channel is None and (k.predictions_topic or k.dead_letters_topic):
        channel = Delivery(
            made,
            in_flight=k.in_flight_records,
            start_wait_s=k.start_wait_s,
            give_up_s=k.give_up_s,
            stopping=stopping,
        )
    predictions: Sink[Predictions] | None = None
    if k.predictions_topic and channel is not None:
        predictions = KafkaPredictions(channel, k.predictions_topic, model=k.model)
    elif out.predictions:
        predictions = open_predictions(Path(out.predictions))
    dead_letters: Sink[Sequence[DeadLetter]] | None = None
    if k.dead_letters_topic and channel is not None:
        dead_letters = KafkaDeadLetters(channel, k.dead_letters_topic, model=k.model)
    elif out.dead_letters:
        dead_letters = open_dead_letters(Path(out.dead_letters))
    written = channel if k.predictions_topic or k.dead_letters_topic else None
    return Outside(source, predictions, dead_letters, commits, written)


def _recorded(config: Config, spec: StreamSpec, schema: Schema) -> RecordingSource | None:
    """Return the source that reads a recording; None if the stream is none."""
    if not is_recording(spec.source):
        return None
    if spec.follow:
        raise SettingsError(
            f"stream.follow is set, but {spec.source} is a recording, which does not grow; leave it out"
        )
    return RecordingSource(Path(spec.source), codec(config, schema, spec))


def lease(config: Config) -> Lease:
    """Return a place among the workers of a model."""
    k = config.kafka
    topic = config.stream.source.removeprefix(SCHEME)
    return Lease(library(connection(k)), group=f"{k.group or k.model}-workers", topic=topic)


def connection(k: KafkaSettings) -> KafkaConnection:
    """Return how the cluster is reached."""
    return KafkaConnection(
        bootstrap_servers=k.bootstrap_servers,
        client=k.client,
        security=k.security,
        ca_file=k.ca_file,
        certificate_file=k.certificate_file,
        key_file=k.key_file,
        key_password_file=k.key_password_file,
        key_password_env=k.key_password_env,
        mechanism=k.mechanism,
        user=k.user,
        password_file=k.password_file,
        password_env=k.password_env,
        compression=k.compression,
        start_wait_s=k.start_wait_s,
        give_up_s=k.give_up_s,
        common=k.common,
        consumer=k.consumer,
        producer=k.producer,
    )


def reading(k: KafkaSettings, topic: str, label_topic: str = "") -> KafkaReading:
    """Return what is read of a topic, and of that of its labels."""
    places = positions(k.start)
    return KafkaReading(
        topic=topic,
        label_topic=label_topic,
        group=k.group or k.model,
        partitions=k.partitions,
        start="earliest" if places else k.start,
        start_positions=places,
        until=k.until,
        order=k.order,
        idle_wait_s=k.idle_wait_s,
        lost=k.lost,
        new_partitions=k.new_partitions,
        committed_only=k.committed_only,
        buffer_records=k.buffer_records,
        buffer_mb=k.buffer_mb,
        stall_s=k.stall_s,
    )


def codec(config: Config, schema: Schema, spec: StreamSpec) -> Codec:
    """Return what turns the records of the topic, and those of the topic of its labels, into events."""
    labels = config.labels
    if not labels.topic:
        return _codec(config.kafka, schema, spec, config.kafka.avro_schema)
    return LabelledCodec(
        _codec(config.kafka, event_schema(schema), spec, config.kafka.avro_schema),
        _codec(config.kafka, label_schema(schema), spec, labels.avro_schema, "labels"),
        labels.topic,
        schema.id,
        schema.targets,
    )


def _codec(k: KafkaSettings, schema: Schema, spec: StreamSpec, avro_schema: str, section: str = "kafka") -> Codec:
    if k.format == "json":
        return JsonCodec(schema, spec.max_record_bytes)
    if avro_schema and k.registry_url:
        raise SettingsError(f"{section}.avro_schema and kafka.registry_url are both set; give one of them")
    if avro_schema:
        return AvroCodec(schema, FileSchema(Path(avro_schema)), spec.max_record_bytes)
    if k.registry_url:
        settings = RegistrySettings(
            url=k.registry_url,
            ca_file=k.registry_ca_file,
            user=k.registry_user,
            password_file=k.registry_password_file,
            password_env=k.registry_password_env,
            start_wait_s=k.start_wait_s,
            # a file does not wait for ever, whatever a live stream does
            give_up_s=(k.give_up_s or math.inf) if is_kafka(spec.source) else k.start_wait_s,
        )
        return AvroCodec(schema, RegistrySchemas(settings), spec.max_record_bytes)
    raise SettingsError(f"kafka.format is avro, which needs {section}.avro_schema (a file) or kafka.registry_url")
