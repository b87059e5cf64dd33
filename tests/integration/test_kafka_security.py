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
from tests.integration import helpers

pytestmark = pytest.mark.heavy  # a broker of their own

_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule required"


@dataclass(frozen=True)
class Secure:
    """A broker with TLS and users."""

    plain: str
    address: str
    ca_file: Path
    other_ca_file: Path
    password_file: Path


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, bootstrap: str) -> Iterator[Secure]:
    """A broker at which alice logs in by TLS; `bootstrap` is only asked for to be skipped where there is none."""
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
    (folder / "password").write_text("open sesame\n")
    broker = Broker(folder / "kafka", memory_mb=384)
    port = broker.port
    free = Broker(folder / "unused").port
    listeners = f"PLAINTEXT://127.0.0.1:{port},SASL_SSL://127.0.0.1:{free}"
    protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL"
    properties = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{port + 1}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": protocols,
        "ssl.keystore.location": str(store),
        "ssl.keystore.password": "changeit",
        "ssl.keystore.type": "PKCS12",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{_MODULE} user_alice="open sesame";',
    }
    with Broker(folder / "kafka", port=port, memory_mb=384, properties=properties) as running:
        yield Secure(
            running.bootstrap, f"127.0.0.1:{free}", folder / "ca.pem", folder / "other.pem", folder / "password"
        )


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
    topic = helpers.topic(secure.plain)
    channel = Delivery(library(replace(connection, compression=compression)))
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


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"password_file": "", "password_env": "WRONG"}, "(?i)authentication failed.*Check user, password"),
        ({"ca_file": "other"}, "(?i)certificate verify failed.*Check security and ca_file"),
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
