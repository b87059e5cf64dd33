"""The configuration files of one node of a small cluster on this machine.

In: which node of how many, where its data lies, its ports. Out: the text of `server.properties` and
`log4j2.properties`. Every node is broker and controller at once (KRaft); node k answers clients at
port + 2 (k - 1) and the other controllers at the port after it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

HOST = "127.0.0.1"


def client_ports(port: int, nodes: int) -> list[int]:
    """Return the client port of every node."""
    return [port + 2 * index for index in range(nodes)]


def server_properties(
    node: int, *, ports: Sequence[int], data: Path, partitions: int, further: Mapping[str, str]
) -> str:
    """Return the text of a node's server.properties.

    Args:
        node: 1 ... number of nodes.
        ports: client ports of all nodes.
        data: folder of the node's log.
        partitions: of a topic that is made without saying how many.
        further: properties that are added, or that replace ours.
    """
    nodes, port = len(ports), ports[node - 1]
    copies, in_sync = (1, 1) if nodes == 1 else (3, 2)
    properties: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": ",".join(f"{i + 1}@{HOST}:{p + 1}" for i, p in enumerate(ports)),
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{port + 1}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "log.dirs": data,
        "num.partitions": partitions,
        # a mistyped topic must be an error, not a new empty topic
        "auto.create.topics.enable": "false",
        "default.replication.factor": copies,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": copies,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": copies,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 1,
        "share.coordinator.state.topic.replication.factor": copies,
        "share.coordinator.state.topic.min.isr": in_sync,
        # waiting for more members of a new group costs 3 s a join and helps only large groups
        "group.initial.rebalance.delay.ms": 0,
        **further,
    }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


LOG4J = """\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=CONSOLE
appender.console.type=Console
appender.console.name=CONSOLE
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %p %m (%c)%n
"""
