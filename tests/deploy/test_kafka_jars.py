"""Jars of the broker: found, checked, refused."""

import hashlib
import os
import re
import shutil
from pathlib import Path

import pytest

from deploy.kafka import Broker, BrokerError, JarError, find_jars
from deploy.kafka.__main__ import main
from deploy.kafka.jars import VARIABLE, VERSION, checked, checksums, find_java
from deploy.kafka.properties import client_ports, server_properties
from pipeline.config import KafkaSettings


def fill(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Make small files that stand for the jars, with their sums as the recorded ones."""
    folder.mkdir()
    sums = {}
    for name in ("a-1.jar", "b-2.jar"):
        (folder / name).write_bytes(name.encode())
        sums[name] = hashlib.sha256(name.encode()).hexdigest()
    monkeypatch.setattr("deploy.kafka.jars.checksums", lambda: sums)
    return sums


def test_every_recorded_sum_is_a_sha256_of_a_jar() -> None:
    """The recorded list names 46 jars of Kafka 4.1.1 with sums of 64 hexadecimal digits."""
    sums = checksums()
    assert len(sums) == 46
    assert "kafka_2.13-4.1.1.jar" in sums
    assert all(len(digest) == 64 and int(digest, 16) >= 0 for digest in sums.values())


def test_only_listed_jars_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A jar that is in the folder but not on the list is not put on the class path."""
    sums = fill(tmp_path / "libs", monkeypatch)
    (tmp_path / "libs" / "stranger.jar").write_bytes(b"x")
    assert [path.name for path in find_jars({VARIABLE: str(tmp_path / "libs")})] == sorted(sums)


def test_a_changed_jar_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte in one jar is refused, with the name of the jar."""
    fill(tmp_path / "libs", monkeypatch)
    (tmp_path / "libs" / "b-2.jar").write_bytes(b"b-2.jar!")
    with pytest.raises(JarError, match=r"b-2\.jar has the SHA-256 sum"):
        checked(tmp_path / "libs", "a test")


def test_a_missing_jar_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that lacks a jar is refused in one sentence that names the jar and the variable."""
    fill(tmp_path / "libs", monkeypatch)
    (tmp_path / "libs" / "a-1.jar").unlink()
    with pytest.raises(JarError, match=r"lacks 1 of the 2 jars .* such as a-1\.jar.*KAFKA_LIBS"):
        find_jars({VARIABLE: str(tmp_path / "libs")})


def test_the_cache_is_used_without_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without KAFKA_LIBS the jars come from the user's cache, checked as well."""
    (tmp_path / "streamnn").mkdir()
    fill(tmp_path / "streamnn" / "kafka-4.1.1", monkeypatch)
    assert len(find_jars({"XDG_CACHE_HOME": str(tmp_path)})) == 2


def test_missing_maven_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without jars and without Maven the message says both ways on."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JarError, match=r"Install Maven, or point KAFKA_LIBS"):
        find_jars({"XDG_CACHE_HOME": str(tmp_path)})


def test_maven_puts_checked_jars_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Maven copies is checked and then kept; a wrong jar leaves no cache behind."""
    fill(tmp_path / "libs", monkeypatch)
    tools = tmp_path / "bin"
    tools.mkdir()
    maven = tools / "mvn"
    maven.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do case "$word" in -DoutputDirectory=*) out="${word#*=}";; esac; done\n'
        f'/bin/mkdir -p "$out" && /bin/cp {tmp_path}/libs/* "$out"\n'
    )
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    cache = tmp_path / "cache"
    (tmp_path / "libs" / "a-1.jar").write_bytes(b"wrong")
    with pytest.raises(JarError, match="what Maven fetched"):
        find_jars({"XDG_CACHE_HOME": str(cache)})
    assert list((cache / "streamnn").iterdir()) == []
    (tmp_path / "libs" / "a-1.jar").write_bytes(b"a-1.jar")
    assert [path.parent.name for path in find_jars({"XDG_CACHE_HOME": str(cache)})] == ["kafka-4.1.1"] * 2


def test_missing_java_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Java the message says what is needed and how to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(JarError, match=r"needs Java 17 or later, and no java is on the PATH"):
        find_java()


def test_an_old_java_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Java 11 is refused with its version."""
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(JarError, match="its version is 11"):
        find_java()


def test_three_nodes_share_one_quorum(tmp_path: Path) -> None:
    """Each of three nodes lists all three controllers, listens on its own ports and keeps three copies."""
    ports = client_ports(9092, 3)
    texts = [
        server_properties(node, ports=ports, data=tmp_path, partitions=4, further={"num.io.threads": "2"})
        for node in (1, 2, 3)
    ]
    voters = "controller.quorum.voters=1@127.0.0.1:9093,2@127.0.0.1:9095,3@127.0.0.1:9097"
    for node, text in enumerate(texts, start=1):
        lines = text.splitlines()
        assert {voters, f"node.id={node}", "default.replication.factor=3", "num.io.threads=2"} <= set(lines)
        assert f"advertised.listeners=PLAINTEXT://127.0.0.1:{ports[node - 1]}" in lines


def test_two_nodes_are_refused(tmp_path: Path) -> None:
    """A number of nodes without a majority after one loss is refused."""
    with pytest.raises(BrokerError, match="nodes is 2"):
        Broker(tmp_path, nodes=2)


def test_stop_without_start_says_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stopping what was never started is an error with the command that starts it."""
    assert main(["stop", "--folder", str(tmp_path)]) == 1
    assert "start one with: python -m deploy.kafka start" in capsys.readouterr().err


@pytest.mark.skipif(not os.environ.get(VARIABLE), reason="KAFKA_LIBS does not name a folder of Kafka's jars")
@pytest.mark.skipif(shutil.which("java") is None, reason="no java on the PATH")
def test_start_status_stop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command line starts a broker that answers, says so, stops it, and says that too."""
    folder = ["--folder", str(tmp_path / "kafka")]
    port = str(Broker(tmp_path).port)
    try:
        assert main(["start", *folder, "--port", port, "--memory", "256"]) == 0
        assert f"answers at 127.0.0.1:{port}" in capsys.readouterr().out
        assert main(["status", *folder]) == 0
        assert main(["start", *folder, "--port", port, "--nodes", "3"]) == 1
        assert "already runs" in capsys.readouterr().err
        assert main(["start", "--folder", str(tmp_path / "other"), "--port", port]) == 1
        assert f"port {port} is taken" in capsys.readouterr().err
    finally:
        assert main(["stop", *folder]) == 0
    assert main(["status", *folder]) == 1
    capsys.readouterr()
    assert main(["start", *folder, "--port", port, "--nodes", "3"]) == 1
    assert "holds a cluster of 1 node(s), not 3" in capsys.readouterr().err


def test_the_broker_in_a_container_is_that_of_the_jars() -> None:
    """The same version, where a configuration looks for it by default, and with the same settings."""
    text = (Path(__file__).parents[2] / "deploy" / "kafka" / "compose.yaml").read_text()
    assert f"image: apache/kafka:{VERSION}\n" in text
    assert f'ports: ["127.0.0.1:{KafkaSettings().bootstrap_servers.rpartition(":")[2]}:9092"]' in text
    assert f"KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://{KafkaSettings().bootstrap_servers}\n" in text
    given = re.findall(r"^      KAFKA_([A-Z_]+): (.*)$", text, re.MULTILINE)
    ours = server_properties(1, ports=[9092], data=Path("/var/lib/kafka/data"), partitions=4, further={})
    lines = [line.partition("=")[::2] for line in ours.replace("127.0.0.1", "localhost").splitlines()]
    properties = {name: value for name, value in lines if name != "listeners"}
    alike = {name.lower().replace("_", "."): value.strip('"') for name, value in given}
    common = properties.keys() & alike
    assert {name: alike[name] for name in common} == {name: properties[name] for name in common}
    assert len(common) > 10
