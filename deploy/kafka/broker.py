"""One Kafka cluster of one or three nodes on this machine: format, start, wait until it answers, stop, kill.

In: a folder for data, logs and process ids; a port. Out: `bootstrap`, the address for clients. The folder
outlives the processes: starting again on it goes on with the same data, also after a kill.
"""

import base64
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from deploy.kafka.answer import brokers
from deploy.kafka.jars import VERSION, find_jars, find_java
from deploy.kafka.properties import HOST, LOG4J, client_ports, server_properties

_POLL_S = 0.1
_PORTS_S = 10.0
_CLUSTER = "cluster.json"
_FIRST_PORT, _LAST_PORT = 20_000, 32_000


class BrokerError(Exception):
    """The broker cannot be started or stopped."""


class Broker:
    """A cluster of one or three nodes, each node one Java process.

    Args:
        folder: made if it does not exist. The data of a cluster belongs to its number of nodes.
        port: of the first node's clients (see `deploy.kafka.properties`); 0 = a free one.
        nodes: 1, or 3 to try what happens when a node is lost.
        memory_mb: heap of each node.
        partitions: of a topic that is made without saying how many.
        properties: broker properties that are added, or that replace ours.
        environ: where KAFKA_LIBS is looked up.

    Raises:
        BrokerError: `nodes` is neither 1 nor 3, or the folder holds a cluster with another number of nodes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int = 0,
        nodes: int = 1,
        memory_mb: int = 512,
        partitions: int = 4,
        properties: Mapping[str, str] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        if nodes not in {1, 3}:
            raise BrokerError(f"nodes is {nodes}; use 1, or 3 for a cluster that survives the loss of one")
        self.folder, self.nodes, self.memory_mb = Path(folder).absolute(), nodes, memory_mb
        self.port = port or free_port(nodes)
        self._partitions, self._properties, self._environ = partitions, dict(properties or {}), environ

    @property
    def ports(self) -> list[int]:
        """Client port of every node."""
        return client_ports(self.port, self.nodes)

    @property
    def bootstrap(self) -> str:
        """What clients take as bootstrap servers."""
        return ",".join(f"{HOST}:{port}" for port in self.ports)

    def start(self, *, wait_s: float = 120.0) -> None:
        """Start the nodes that do not run, and wait until the whole cluster answers.

        Raises:
            JarError: Java or the jars are missing.
            BrokerError: a port is taken, a node ended, or the cluster did not answer in time.
        """
        missing = [node for node in range(1, self.nodes + 1) if self._pid(node) is None]
        for port in (p for node in missing for p in (self.ports[node - 1], self.ports[node - 1] + 1)):
            if _taken(port):
                raise BrokerError(f"port {port} is taken by another process; choose another with --port")
        if missing:
            java = [find_java(), "-cp", os.pathsep.join(map(str, find_jars(self._environ)))]
            cluster = self._cluster()
            for node in missing:
                self._configure(node)
                self._format(node, java, cluster)
                self._launch(node, java)
        self._wait(wait_s)

    def stop(self, *, timeout_s: float = 60.0) -> None:
        """Ask every node to stop (SIGTERM) and wait for it; kill those that do not in time."""
        for node in self.running():
            self._signal(node, signal.SIGTERM)
        deadline = time.monotonic() + timeout_s
        while self.running() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self.kill()

    def kill(self, node: int | None = None) -> None:
        """Kill one node, or all of them, as a power cut would (SIGKILL)."""
        for each in [node] if node is not None else self.running():
            self._signal(each, signal.SIGKILL)
            while self._pid(each) is not None:
                time.sleep(_POLL_S / 10)
            # a process that is killed loses its arguments, by which it is known, a moment before its ports
            deadline = time.monotonic() + _PORTS_S
            while any(map(_taken, (self.ports[each - 1], self.ports[each - 1] + 1))) and time.monotonic() < deadline:
                time.sleep(_POLL_S / 10)

    def pause(self) -> None:
        """Freeze every node (SIGSTOP): connections stay open and nothing answers."""
        for node in self.running():
            self._signal(node, signal.SIGSTOP)

    def resume(self) -> None:
        """Let frozen nodes go on (SIGCONT)."""
        for node in self.running():
            self._signal(node, signal.SIGCONT)

    def running(self) -> list[int]:
        """Return the nodes that have a process."""
        return [node for node in range(1, self.nodes + 1) if self._pid(node) is not None]

    def answering(self) -> bool:
        """Say whether every node is known to the node that is asked."""
        return any(len(brokers(HOST, port)) == self.nodes for port in self.ports)

    def log(self, node: int = 1) -> str:
        """Return what a node wrote to its log."""
        path = self._home(node) / "kafka.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> "Broker":
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _home(self, node: int) -> Path:
        return self.folder / f"node-{node}"

    def _cluster(self) -> str:
        """Return the cluster's id, drawn at the first start."""
        path = self.folder / _CLUSTER
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["nodes"] != self.nodes:
                raise BrokerError(
                    f"{self.folder} holds a cluster of {kept['nodes']} node(s), not {self.nodes}; "
                    "use another folder, or delete this one with all its data"
                )
            return str(kept["id"])
        self.folder.mkdir(parents=True, exist_ok=True)
        drawn = base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")
        # a leading dash would be read as an option
        identity = "k" + drawn[1:] if drawn.startswith("-") else drawn
        path.write_text(json.dumps({"id": identity, "nodes": self.nodes, "version": VERSION}))
        return identity

    def _configure(self, node: int) -> None:
        home = self._home(node)
        home.mkdir(exist_ok=True)
        text = server_properties(
            node, ports=self.ports, data=home / "data", partitions=self._partitions, further=self._properties
        )
        (home / "server.properties").write_text(text)
        (home / "log4j2.properties").write_text(LOG4J)

    def _format(self, node: int, java: list[str], cluster: str) -> None:
        home = self._home(node)
        if (home / "data" / "meta.properties").exists():
            return
        tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(home / "server.properties")]
        done = subprocess.run(  # noqa: S603
            [java[0], "-XX:TieredStopAtLevel=1", self._logging(node), *java[1:], *tool],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise BrokerError(f"Kafka could not format {home / 'data'}: {said[-1000:]}")

    def _launch(self, node: int, java: list[str]) -> None:
        home = self._home(node)
        command = [
            java[0], f"-Xmx{self.memory_mb}m", self._logging(node), *java[1:],
            "kafka.Kafka", str(home / "server.properties"),
        ]  # fmt: skip
        log = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(home / "kafka.log"), log, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        # a session of its own: Ctrl-C in the terminal that started it is not for the broker
        pid = os.posix_spawn(java[0], command, os.environ, file_actions=actions, setsid=True)
        (home / "pid").write_text(str(pid))

    def _logging(self, node: int) -> str:
        return f"-Dlog4j2.configurationFile={self._home(node) / 'log4j2.properties'}"

    def _wait(self, wait_s: float) -> None:
        deadline = time.monotonic() + wait_s
        while not self.answering():
            for node in range(1, self.nodes + 1):
                if self._pid(node) is None:
                    raise BrokerError(
                        f"node {node} of Kafka ended while starting; see {self._home(node) / 'kafka.log'}:\n"
                        f"{self.log(node)[-1500:]}"
                    )
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Kafka did not answer at {self.bootstrap} within {wait_s:.0f} s; it still runs. "
                    f"See {self._home(1) / 'kafka.log'}"
                )
            time.sleep(_POLL_S)

    def _signal(self, node: int, number: signal.Signals) -> None:
        pid = self._pid(node)
        if pid is not None:
            os.kill(pid, number)

    def _pid(self, node: int) -> int | None:
        """Return the process id of a node that runs, or None."""
        path = self._home(node) / "pid"
        if not path.exists():
            return None
        pid = int(path.read_text())
        with contextlib.suppress(ChildProcessError):  # not started by this process: nothing to reap
            os.waitpid(pid, os.WNOHANG)
        if _is_ours(pid, str(self._home(node) / "server.properties")):
            return pid
        path.unlink(missing_ok=True)
        return None


def free_port(nodes: int = 1) -> int:
    """Return a port such that it and those behind it that `nodes` nodes need are free now.

    It lies below those that the system gives to outgoing connections: a client that tries to reach a broker that is
    down may be given the very port it asks for, is then connected to itself, and the broker cannot come back.
    """
    for _ in range(100):
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        if not any(_taken(p) for p in range(port, port + 2 * nodes)):
            return port
    raise BrokerError("found no free port; close some connections and try again")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return True
    return False


def _is_ours(pid: int, mark: str) -> bool:
    """Say whether a process runs and has `mark` among its arguments: process ids are used again."""
    arguments = Path(f"/proc/{pid}/cmdline")
    if not Path("/proc/self/cmdline").exists():
        # no /proc (macOS): ask ps
        ask = ["ps", "-o", "args=", "-p", str(pid)]
        said = subprocess.run(ask, capture_output=True, text=True, check=False)  # noqa: S603
        return mark in said.stdout
    for _ in range(10):
        try:
            given = arguments.read_bytes()
        except OSError:
            return False
        if given:
            return mark.encode() in given.split(b"\0")
        time.sleep(_POLL_S / 10)  # empty for a moment while the program is being loaded, and for a zombie
    return False
