"""Settings for Kafka: checked, and without secrets."""

from pathlib import Path

import pytest

from connectors.kafka.settings import KafkaConnection, KafkaReading, KafkaSettingError, positions


def test_a_password_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    """The password is the first line of a file, or a variable; settings and their text never hold it."""
    (tmp_path / "password").write_text("s3cret\nrest\n")
    common = {"bootstrap_servers": "b:1", "security": "sasl_ssl", "user": "alice"}
    from_file = KafkaConnection(**common, password_file=str(tmp_path / "password"))
    assert from_file.password({}) == "s3cret"
    from_environment = KafkaConnection(**common, password_env="THE_PASSWORD")
    assert from_environment.password({"THE_PASSWORD": "0ther"}) == "0ther"
    further = KafkaConnection(bootstrap_servers="b:1", common={"sasl_plain_password": "s3cret"})
    for connection in (from_file, from_environment, further):
        assert "s3cret" not in repr(connection)


def test_a_missing_password_is_told(tmp_path: Path) -> None:
    """A file that is not there, an empty one and a variable that is not set are named."""
    (tmp_path / "empty").write_text("")
    common = {"bootstrap_servers": "b:1", "security": "sasl_ssl", "user": "alice"}
    for path in (tmp_path / "nowhere", tmp_path / "empty"):
        with pytest.raises(KafkaSettingError, match=path.name):
            KafkaConnection(**common, password_file=str(path)).password({})
    with pytest.raises(KafkaSettingError, match=r"kafka.password_env names .*NOT_SET"):
        KafkaConnection(**common, password_env="NOT_SET").password({})


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"bootstrap_servers": ""}, "kafka.bootstrap_servers is empty"),
        ({"client": "librdkafka"}, "kafka.client is 'librdkafka'"),
        ({"security": "tls"}, "kafka.security is 'tls'"),
        ({"security": "sasl_ssl"}, "needs kafka.user"),
        ({"security": "sasl_ssl", "user": "alice"}, "kafka.password_file"),
        ({"give_up_s": -1.0}, "kafka.give_up_s is -1"),
        ({"consumer": {"group_id": "g"}}, "kafka.consumer sets 'group_id', .*use kafka.group instead"),
        (
            {"common": {"isolation.level": "read_uncommitted"}},
            "kafka.common sets 'isolation.level', .*use kafka.committed_only",
        ),
        ({"producer": {"acks": 1}}, "kafka.producer sets 'acks', .*leave it out"),
        (
            {"producer": {"transaction_timeout_ms": 9}},
            "sets 'transaction_timeout_ms', .*use kafka.transaction_timeout_s instead",
        ),
        (
            {"producer": {"transaction.timeout.ms": 9}},
            "sets 'transaction.timeout.ms', .*use kafka.transaction_timeout_s instead",
        ),
    ],
)
def test_wrong_connections_are_refused(wrong: dict[str, object], told: str) -> None:
    """Each wrong setting is named, with what is expected."""
    with pytest.raises(KafkaSettingError, match=told):
        KafkaConnection(**({"bootstrap_servers": "b:1"} | wrong))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"topic": ""}, "topic is empty"),
        ({"group": ""}, "kafka.group is empty"),
        ({"order": "key"}, "kafka.order is 'key'"),
        ({"start": "yesterday"}, "kafka.start is 'yesterday'.*or offsets of partitions such as"),
        ({"partitions": (1, 1)}, "kafka.partitions is"),
        ({"buffer_records": 0}, "kafka.buffer_records is 0"),
    ],
)
def test_wrong_readings_are_refused(wrong: dict[str, object], told: str) -> None:
    """Each wrong setting is named, with what is expected."""
    with pytest.raises(KafkaSettingError, match=told):
        KafkaReading(**({"topic": "t", "group": "g"} | wrong))


def test_offsets_of_partitions_are_read() -> None:
    """Pairs of partition and offset; anything else is none."""
    assert positions("0:1200,11:0") == {0: 1200, 11: 0}
    for other in ("latest", "2026-11-01T12:00:00Z", "0:", "0:1,", "0:-1", ""):
        assert positions(other) == {}


def test_a_moment_to_start_at_is_utc_unless_it_says_otherwise() -> None:
    """A moment without a zone is UTC; one with a zone is that moment."""
    assert KafkaReading(topic="t", group="g", start="1970-01-01T00:00:02").start_ms() == 2_000
    assert KafkaReading(topic="t", group="g", start="1970-01-01T01:00:02+01:00").start_ms() == 2_000
    assert KafkaReading(topic="t", group="g", start="latest").start_ms() is None
