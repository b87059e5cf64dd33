"""Users, passwords and certificates, on a broker that asks for them."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from connectors.errors import SinkError, SourceError
from connectors.json_records import JsonCodec
from connectors.kafka import Delivery, KafkaConnection, KafkaPredictions, KafkaReading, KafkaSource, library
from connectors.kafka.client import Outgoing
from connectors.schema import Schema
from deploy.kafka import Broker
from tests.integration import helpers, runs
from tests.integration.test_kafka_faults import stops, stops_well

pytestmark = pytest.mark.heavy  # a broker of their own

_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True)
class Secure:
    """A broker with TLS and users.

    Attributes:
        plain: address without security.
        address: where users log in.
        certified: where clients show a certificate.
    """

    plain: str
    address: str
    certified: str
    ca_file: Path
    other_ca_file: Path
    password_file: Path
    certificate_file: Path
    key_file: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, jars: None) -> Iterator[Secure]:
    """A broker at which alice logs in by TLS."""
    for tool in ("keytool", "openssl"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on the PATH to make certificates with")
    folder = tmp_path_factory.mktemp("secure")
    store = folder / "broker.p12"
    common = ["-alias", "broker", "-keystore", str(store), "-storepass", "changeit"]
    names = ["-dname", "CN=localhost", "-ext", "SAN=IP:127.0.0.1"]
    run("keytool", "-genkeypair", "-keyalg", "RSA", "-validity", "30", "-storetype", "PKCS12", *names, *common)
    run("keytool", "-exportcert", "-rfc", "-file", str(folder / "ca.pem"), *common)
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=other",
        "-keyout", str(folder / "other.key"), "-out", str(folder / "other.pem"),
    )  # fmt: skip
    run(
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:open sesame", "-days", "30", "-subj", "/CN=us",
        "-keyout", str(folder / "client.key"), "-out", str(folder / "client.pem"),
    )  # fmt: skip
    trusted = ["-keystore", str(folder / "trusted.p12"), "-storetype", "PKCS12", "-storepass", "changeit"]
    run("keytool", "-importcert", "-noprompt", "-alias", "client", "-file", str(folder / "client.pem"), *trusted)
    (folder / "password").write_text("open sesame\n")
    broker = Broker(folder / "kafka", memory_mb=384)
    port = broker.port
    free, third = (Broker(folder / f"unused-{n}").port for n in range(2))
    listeners = f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{free},SSL://127.0.0.1:{third}"
    protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL"
    properties = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{port + 1}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": protocols,
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "changeit",
        "ssl.keystore.type": "PKCS12",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": (
            f'{_MODULES}.plain.PlainLoginModule required user_alice="open sesame";'
        ),
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{_MODULES}.scram.ScramLoginModule required;",
        "listener.name.ssl.ssl.client.auth": "required",
        "listener.name.ssl.ssl.truststore.location": str(folder / "trusted.p12"),
        "listener.name.ssl.ssl.truststore.password": "changeit",
        "listener.name.ssl.ssl.truststore.type": "PKCS12",
    }
    with Broker(folder / "kafka", port=port, memory_mb=384, properties=properties) as running:
        helpers.add_user(running.bootstrap, "bob", "open sesame")
        yield Secure(
            running.bootstrap,
            f"127.0.0.1:{free}",
            f"127.0.0.1:{third}",
            folder / "ca.pem",
            folder / "other.pem",
            folder / "password",
            folder / "client.pem",
            folder / "client.key",
        )
        helpers.close()


def run(*command: str) -> None:
    """Run a tool."""
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(params=helpers.CLIENTS)
def connection(request: pytest.FixtureRequest, secure: Secure) -> KafkaConnection:
    """A connection that works, of each library."""
    return KafkaConnection(
        bootstrap_servers=secure.address,
        client=request.param,
        security="sasl_ssl",
        ca_file=str(secure.ca_file),
        user="alice",
        password_file=str(secure.password_file),
        start_wait_s=10.0,
    )


def source(connection: KafkaConnection, topic: str) -> KafkaSource:
    """Make a source."""
    reading = KafkaReading(topic=topic, group="g", until="end")
    return KafkaSource(reading, library(connection), JsonCodec(Schema()))


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_user_reads_and_writes_by_tls(connection: KafkaConnection, secure: Secure, compression: Any) -> None:
    """With the right certificate and password records are written and read, compressed or not."""
    written_and_read(replace(connection, compression=compression), secure)


def written_and_read(connection: KafkaConnection, secure: Secure) -> None:
    """Write records, and read them."""
    topic = helpers.topic(secure.plain)
    channel = Delivery(library(connection))
    channel.open()
    for n in range(100):
        channel.write(Outgoing(topic, b'{"n": %d}' % n))
    channel.flush()
    channel.close()
    opened = source(connection, topic)
    opened.open(0, None)
    found: list[float] = []
    while (chunk := opened.poll(50)) is not None:
        found += chunk.columns["n"].tolist() if len(chunk) else []
    opened.close()
    assert found == list(range(100))


def by_scram(connection: KafkaConnection, secure: Secure) -> KafkaConnection:
    """A user whose password the cluster keeps, and we in an environment variable."""
    return replace(connection, mechanism="SCRAM-SHA-512", user="bob", password_file="", password_env="OF_BOB")


def by_certificate(connection: KafkaConnection, secure: Secure) -> KafkaConnection:
    """A client that is known by its certificate, whose key needs a password."""
    return replace(
        connection,
        bootstrap_servers=secure.certified,
        security="ssl",
        user="",
        password_file="",
        certificate_file=str(secure.certificate_file),
        key_file=str(secure.key_file),
        key_password_file=str(secure.password_file),
    )


@pytest.mark.parametrize("way", [by_scram, by_certificate])
def test_other_ways_to_log_in(
    connection: KafkaConnection, secure: Secure, way: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SCRAM, and a certificate of the client, do as well; a wrong password and a missing certificate do not."""
    monkeypatch.setenv("OF_BOB", "open sesame")
    right = way(connection, secure)
    written_and_read(right, secure)
    (tmp_path / "wrong").write_text("wr0ng-secret\n")
    wrong = {"password_file": str(tmp_path / "wrong")} if right.user else {"certificate_file": "", "key_file": ""}
    with pytest.raises(SourceError) as caught:
        source(replace(right, **wrong), "t").open(0, None)
    assert "wr0ng-secret" not in str(caught.value)
    remedy = "Check kafka.user, its password" if right.user else "kafka.certificate_file, if brokers ask for one"
    assert remedy in str(caught.value)


def test_a_run_that_logs_in(connection: KafkaConnection, secure: Secure, tmp_path: Path) -> None:
    """`streamnn run` does so with transactions; refused, it ends with 2 and one message that tells the remedy."""
    events = runs.spread(runs.events(tmp_path, 60))
    out = runs.prepared(tmp_path, secure.plain, events, seen_at=secure.address)
    said = {"security": "sasl_ssl", "ca_file": secure.ca_file, "user": "alice", "password_file": secure.password_file}
    lines = "".join(f'{name} = "{value}"\n' for name, value in {**said, "client": connection.client}.items())
    text = (tmp_path / "run.toml").read_text()
    (tmp_path / "run.toml").write_text(text.replace("[kafka]\n", f"[kafka]\n{lines}", 1))
    (tmp_path / "wrong").write_text("wr0ng-secret\n")
    refused = stops(tmp_path, 2, "--set", f"kafka.password_file={tmp_path / 'wrong'}")
    assert "Check kafka.user, its password" in refused
    assert "wr0ng-secret" not in refused
    assert "Check kafka.security and kafka.ca_file" in stops(
        tmp_path, 2, "--set", f"kafka.ca_file={secure.other_ca_file}"
    )
    assert "'gone' cannot be read" in stops(tmp_path, 2, "--set", "kafka.password_file=gone")
    stops_well(tmp_path)
    assert len(helpers.everything(helpers.library("kafka-python", secure.plain), out)) == 60


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"password_file": "", "password_env": "WRONG"}, "(?i)authentication failed.*Check kafka.user, its password"),
        ({"ca_file": "other"}, "(?i)certificate verify failed.*Check kafka.security and kafka.ca_file"),
    ],
)
def test_wrong_secrets_are_told_at_once(
    connection: KafkaConnection, secure: Secure, wrong: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password and an untrusted certificate are told for what they are; no message holds a password."""
    monkeypatch.setenv("WRONG", "wr0ng-secret")
    given = {name: str(secure.other_ca_file) if value == "other" else value for name, value in wrong.items()}
    broken = replace(connection, **given)
    with pytest.raises(SourceError, match=told) as reading:
        source(broken, "t").open(0, None)
    with pytest.raises(SinkError, match=told) as writing:
        KafkaPredictions(Delivery(library(broken)), "t", model="m").truncate(0)
    for caught in (reading, writing):
        assert "wr0ng-secret" not in str(caught.value)
        assert "open sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"mechanism": "SCRAM-SHA-256"}, "Check kafka.user, its password|Correct the setting"),
        ({"mechanism": "NONSENSE"}, "Check kafka.user, its password|Correct the setting"),
        (
            {"mechanism": "OAUTHBEARER"},
            "Check kafka.user, its password|Correct the setting|Check kafka.bootstrap_servers and kafka.security",
        ),
        ({"security": "ssl"}, "Check (kafka.bootstrap_servers and )?kafka.security"),
        ({"security": "plaintext"}, "Check (kafka.bootstrap_servers and )?kafka.security"),
        ({"security": "sasl_plaintext", "bootstrap_servers": "plain"}, "Check kafka.security"),
        ({"security": "ssl", "bootstrap_servers": "plain"}, "Check (kafka.bootstrap_servers and )?kafka.security"),
    ],
)
def test_a_way_to_log_in_that_the_broker_does_not_offer(
    connection: KafkaConnection, secure: Secure, wrong: dict[str, Any], told: str
) -> None:
    """Another mechanism, encryption or port than the broker's is told as that, with the setting to look at."""
    given = {name: secure.plain if value == "plain" else value for name, value in wrong.items()}
    with pytest.raises(SourceError, match=told) as caught:
        source(replace(connection, start_wait_s=6.0, **given), "t").open(0, None)
    assert "open sesame" not in str(caught.value)
