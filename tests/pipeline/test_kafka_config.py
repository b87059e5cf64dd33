"""[kafka] and what comes of it: bounds that act and are counted, a transaction that checkpoints fit, secrets that stay so."""

import ast
import json
import logging
import math
import re
import ssl
import urllib.error
import urllib.request
import warnings
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest

import connectors.kafka
from connectors import Record, Schema, StreamSpec
from connectors.errors import NotYetError, SinkError
from connectors.kafka import ChannelStatistics, KafkaSource, KafkaStatistics, fast_client
from connectors.kafka.client import LogError, Outgoing, Settled
from pipeline import outside, prequential
from pipeline.__main__ import main
from pipeline.assembly import prepare
from pipeline.config import CheckpointSettings, Config, KafkaSettings, ModelSettings, ModeSettings, StreamSettings
from pipeline.server import Health, Server
from pipeline.settings import SettingsError, describe, read_settings
from pipeline.telemetry import Telemetry
from tests.pipeline.helpers import Clock, write_csv
from tests.pipeline.joined import TWO, Loop, config, records_of, scenario

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of kafka-python on Python 3.11
    from connectors.kafka import python_client


class Cluster:
    """A cluster of one topic, and its clients: what is written is acknowledged when that is waited for."""

    def __init__(self, *, refused: LogError | None = None):
        self.in_flight, self.written, self._refused = 0, 0, refused

    def reader(self, *, group, committed_only, wait_s=None):
        return self

    def writer(self, *, transactional_id, transaction_timeout_s, wait_s=None):
        if self._refused is not None:
            raise self._refused
        return self

    def partitions(self, topic, *, timeout_s):
        return (0,)

    def committed(self, partitions, *, timeout_s):
        return {}

    def catch_up(self, partition, group, *, timeout_s):
        pass

    def produce(self, record):
        self.in_flight += 1
        self.written += 1

    def settle(self, timeout_s):
        self.in_flight = 0
        return Settled((), 0)

    def begin(self):
        pass

    def commit(self, offsets, group, note, *, timeout_s):
        pass

    def close(self):
        return ()


def settled(delivery, **kafka):
    """A configuration that writes predictions of a topic into another one."""
    return Config(
        stream=StreamSettings(source="kafka:events", targets=("y",), **TWO),
        model=ModelSettings(preset="single", engine="eager"),
        mode=ModeSettings(chunk=2),
        kafka=KafkaSettings(predictions_topic="out", delivery=delivery, **kafka),
        checkpoint=CheckpointSettings(folder="ck"),
    )


@pytest.fixture
def cluster(monkeypatch):
    """A cluster in the place of the one that a configuration names."""
    made = Cluster()
    monkeypatch.setattr(outside, "library", lambda connection: made)
    return made


@pytest.mark.parametrize("delivery", ["at_least_once", "transactional"])
def test_records_under_way_are_bounded(cluster, delivery):
    """With kafka.in_flight_records under way the next record waits, and that is counted."""
    channel = prepare(settled(delivery, in_flight_records=3)).parts.channel
    channel.open()
    for number in range(10):
        channel.write(Outgoing("out", b"%d" % number))
        assert channel.statistics.in_flight <= 3
    assert cluster.written == 10
    assert channel.statistics.waits == 3


def test_records_of_a_transaction_are_bounded(cluster):
    """At kafka.uncommitted_records a checkpoint is due, and its commit counted; where none comes, the key is named."""
    parts = prepare(settled("transactional", uncommitted_records=5)).parts
    parts.channel.open()
    for _ in range(4):
        parts.channel.write(Outgoing("out", b""))
    assert not parts.commits.due
    parts.channel.write(Outgoing("out", b""))
    assert parts.commits.due
    parts.commits.commit("5", {"topic": "events", "positions": []})
    assert not parts.commits.due
    assert parts.channel.statistics.full == 1
    for _ in range(20):
        parts.channel.write(Outgoing("out", b""))
    with pytest.raises(
        SinkError, match=r"20 records wait.*kafka\.uncommitted_records, 5\); raise that, or make mode\.chunk"
    ):
        parts.channel.write(Outgoing("out", b""))


def test_what_is_read_ahead_is_bounded_by_size():
    """kafka.buffer_mb reaches the source."""
    assert outside.reading(KafkaSettings(buffer_mb=0.5), "events").buffer_mb == 0.5
    with pytest.raises(SettingsError, match=r"kafka\.buffer_mb is '0', expected a number of at least 0\.1"):
        read_settings(Config, None, overrides=["kafka.buffer_mb=0"])


def told(tree):
    """The text of what is raised in a module, and of remedies, without lone words: kinds of faults, keys of mappings."""
    for node in ast.walk(tree):
        named = (
            isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "remedy"
        )
        if isinstance(node, ast.Raise) or named:
            inside = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
            yield from (text for text in inside if isinstance(text, str) and not text.isidentifier())


def test_messages_name_settings_that_there_are():
    """Whatever a message about Kafka names like a setting is a key of the configuration."""
    keys = {d.key for d in describe(Config)}
    known = {key.rpartition(".")[2] for key in keys}
    known |= {"max_request_size"}  # kafka-python's own
    known |= {"until_positions", "last_checkpoint"}  # of those who use the classes: no configuration leads there
    found = set()
    for path in Path(connectors.kafka.__file__).parent.glob("*.py"):
        for text in told(ast.parse(path.read_text())):
            found |= set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)) - known
            assert set(re.findall(r"\b(?:kafka|mode|checkpoint|stream|labels)\.[a-z_]+", text)) <= keys, text
    assert found == set()


def test_what_kafka_clients_count_is_served():
    """/metrics has what the source and the channel have counted, each as a counter of its own."""
    loop = Loop(records_of(scenario(1, 20)), config(wait_s=1.0)).run().loop
    source = object.__new__(KafkaSource)
    counted = KafkaStatistics(0, 0, 0, 0, 0, 0, failed_commits=11, unreachable_s=0.0)
    channel = SimpleNamespace(
        statistics=ChannelStatistics(in_flight=12, waits=13, repeats=14, recoveries=15, truncated=16, full=17)
    )
    loop.parts = replace(loop.parts, source=source, channel=channel)
    telemetry = Telemetry()
    with patch.object(KafkaSource, "statistics", counted):
        telemetry.gauges(loop)
        telemetry.gauges(loop)  # what has been told is not told again
    server = Server(telemetry.registry, Health(), host="127.0.0.1", port=0)
    try:
        with urllib.request.urlopen(f"{server.url}/metrics", timeout=60) as answer:  # noqa: S310 (ours)
            page = answer.read().decode()
    finally:
        server.close()
    for name, value in (
        ("streamnn_consumer_failed_commits_total", 11),
        ("streamnn_producer_in_flight_records", 12),
        ("streamnn_producer_waits_total", 13),
        ("streamnn_producer_repeats_total", 14),
        ("streamnn_producer_recoveries_total", 15),
        ("streamnn_dead_letters_truncated_total", 16),
        ("streamnn_transactions_full_total", 17),
    ):
        assert re.search(rf"^{name} {value}\.0$", page, re.MULTILINE), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["checkpoint.every_s=31", "kafka.transaction_timeout_s=60"],
            r"checkpoint\.every_s is 31, expected at most 30: .* set kafka\.transaction_timeout_s to 62 or more",
        ),
        (["kafka.uncommitted_records=511"], r"uncommitted_records is 511, expected at least mode\.chunk \(512\)"),
        (
            ["mode.batch=1024", "kafka.uncommitted_records=1000"],
            r"uncommitted_records is 1000, expected at least mode\.batch \(1024\)",
        ),
    ],
)
def test_a_transaction_that_checkpoints_cannot_fit_is_refused(cluster, words, message):
    """Nothing is made; with at-least-once delivery the same settings are good."""
    base = ["stream.source=kafka:events", "stream.targets=y", "stream.task=binary", "checkpoint.folder=ck"]
    base += ["model.preset=single", "model.engine=eager"]
    with pytest.raises(SettingsError, match=message):
        prepare(read_settings(Config, None, overrides=[*base, *words, "kafka.delivery=transactional"]))
    prepare(read_settings(Config, None, overrides=[*base, *words]))


def test_a_checkpoint_at_half_of_the_timeout_fits(cluster):
    """As does one that only events ask for."""
    for every_s in (30.0, 0.0):
        made = settled("transactional", transaction_timeout_s=60.0)
        made = replace(made, checkpoint=CheckpointSettings(folder="ck", every_s=every_s))
        assert prepare(made).plan.transaction_timeout_s == 60.0
    assert prepare(settled("at_least_once")).plan.transaction_timeout_s == math.inf


class Store:
    """A folder of checkpoints in which writing one takes its time."""

    size_bytes = 1

    def __init__(self, clock, took_s):
        self._clock, self._took_s = clock, iter(took_s)

    def save(self, number, state):
        self._clock.now += next(self._took_s)
        return Path(f"checkpoint-{number}")


@pytest.mark.parametrize(("every_s", "told"), [(20.0, 1), (10.0, 0), (0.0, 1)])
def test_a_checkpoint_that_takes_too_long_is_warned_of_once(caplog, every_s, told):
    """Where interval and writing are more than the time-out; without an interval a commit is due at half of it."""
    clock = Clock()
    loop = Loop(records_of(scenario(1, 20)), config(wait_s=1.0)).loop
    loop.plan = replace(loop.plan, checkpoint_every_s=every_s, transaction_timeout_s=60.0)
    loop.parts = replace(loop.parts, store=Store(clock, [1.0, 45.0, 46.0]))
    with patch.object(prequential, "time", clock), caplog.at_level(logging.WARNING):
        for _ in range(3):
            loop.checkpoint()
    lines = [r.getMessage() for r in caplog.records if "transaction_timeout_s" in r.getMessage()]
    assert len(lines) == told
    assert all(line.startswith("a checkpoint took 45.0 s, which with the ") for line in lines)


def test_a_timeout_that_brokers_do_not_allow_is_told(monkeypatch):
    """The message names the key, its value and the setting of the brokers."""
    refused = Cluster(refused=LogError("too_long", "INVALID_TRANSACTION_TIMEOUT"))
    monkeypatch.setattr(outside, "library", lambda connection: refused)
    channel = prepare(settled("transactional", transaction_timeout_s=7200.0)).parts.channel
    with pytest.raises(SinkError, match=r"kafka\.transaction_timeout_s is 7200, .*transaction\.max\.timeout\.ms"):
        channel.open()


SECRETS = ("pa55word", "k3y", "t0ken", "d0tted")


def secret_file(folder):
    """A configuration with secrets among the libraries' own settings."""
    path = folder / "secret.toml"
    path.write_text(
        '[kafka.common]\nsasl_plain_password = "pa55word"\nssl.key.password = "d0tted"\n'
        '[kafka.consumer]\nssl_password = "k3y"\n[kafka.producer]\n"sasl.oauthbearer.config" = "t0ken"\n'
        '[model]\npreset = "single"\nengine = "eager"\n'
    )
    return path


def test_secrets_are_shown_nowhere(tmp_path, monkeypatch, capsys):
    """Listings, reports and checkpoints have the names of the libraries' own settings at most, never their values."""
    path = secret_file(tmp_path)
    assert main(["config", str(path)]) == 0
    shown = capsys.readouterr().out
    assert shown.count('"hidden"') == 4
    assert "sasl_plain_password" in shown
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "s.csv", 50)
    words = ["replay", "s.csv", "--target", "y", "--config", str(path), "--report", "r.json", "--checkpoint", "ck"]
    assert main(words) == 0
    assert json.loads((tmp_path / "r.json").read_text())["config"]["kafka"]["consumer"] == {"ssl_password": "hidden"}
    (newest,) = sorted((tmp_path / "ck").glob("checkpoint-*"))[-1:]
    assert main(["inspect", str(newest), "--json"]) == 0
    written = [shown, *capsys.readouterr(), (tmp_path / "r.json").read_text()]
    written += [one.read_bytes().decode("latin-1") for one in (tmp_path / "ck").iterdir()]
    for secret in SECRETS:
        assert not any(secret in text for text in written), secret


@pytest.mark.parametrize("section", ["common", "consumer", "producer"])
def test_a_secret_in_the_wrong_place_is_not_shown(section):
    """A value where a table belongs is refused without being repeated."""
    with pytest.raises(SettingsError, match=rf"--set: kafka\.{section} is hidden, expected a table") as caught:
        read_settings(Config, None, overrides=[f"kafka.{section}=pa55word"])
    assert "pa55word" not in str(caught.value)


def test_every_key_of_the_connection_reaches_the_clients(tmp_path, monkeypatch):
    """Files, names and the passwords that files and variables hold, as either library calls them."""
    (tmp_path / "pw").write_text("pa55word\n")
    monkeypatch.setenv("THE_KEY", "k3y")
    k = KafkaSettings(
        security="sasl_ssl", user="alice", password_file=str(tmp_path / "pw"), ca_file="ca", certificate_file="mine",
        key_file="key", key_password_env="THE_KEY", mechanism="SCRAM-SHA-512",
    )  # fmt: skip
    made = outside.connection(k)
    assert {f.name for f in fields(made)} <= {f.name for f in fields(k)}
    python, fast = python_client._security(made), fast_client._security(made)
    for one, other, value in (
        ("sasl_plain_password", "sasl.password", "pa55word"),
        ("sasl_plain_username", "sasl.username", "alice"),
        ("sasl_mechanism", "sasl.mechanism", "SCRAM-SHA-512"),
        ("ssl_password", "ssl.key.password", "k3y"),
        ("ssl_cafile", "ssl.ca.location", "ca"),
        ("ssl_certfile", "ssl.certificate.location", "mine"),
        ("ssl_keyfile", "ssl.key.location", "key"),
    ):
        assert (python[one], fast[other]) == (value, value)


@pytest.mark.parametrize("where", ["file", "env"])
def test_password_and_certificates_reach_the_registry(tmp_path, monkeypatch, where):
    """What is asked of it carries the user's password, over connections that trust what kafka.registry_ca_file says."""
    (tmp_path / "pw").write_text("pa55word\n")
    monkeypatch.setenv("THE_WORD", "pa55word")
    given = (
        {"registry_password_file": str(tmp_path / "pw")} if where == "file" else {"registry_password_env": "THE_WORD"}
    )
    asked, trusted = [], []

    def refuse(request, *, timeout, context):
        asked.append(request)
        raise urllib.error.URLError("nobody there")

    monkeypatch.setattr(ssl, "create_default_context", lambda cafile: trusted.append(cafile))
    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    settings = Config(
        kafka=KafkaSettings(
            format="avro", registry_url="https://r:1", registry_user="alice", registry_ca_file="ca.pem", **given
        )
    )
    codec = outside.codec(settings, Schema(), StreamSpec("kafka:events"))
    with pytest.raises(NotYetError, match="nobody there"):
        codec.decode([Record(b"\0\0\0\0\1rest")], np.arange(1), start=0, stop=1)
    assert asked[0].get_header("Authorization") == "Basic YWxpY2U6cGE1NXdvcmQ="
    assert trusted == ["ca.pem"]
