"""Start, stop or look at a Kafka broker on this machine: `python -m deploy.kafka start|stop|status`."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.kafka.broker import Broker, BrokerError
from deploy.kafka.jars import VERSION, JarError

_KEPT = "start.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status (status: 0 = answers, 1 = does not)."""
    options = _parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except (BrokerError, JarError) as error:
        print(f"deploy.kafka: {error}", file=sys.stderr)
        return 1


def _start(options: argparse.Namespace) -> int:
    broker = Broker(options.folder, port=options.port, nodes=options.nodes, memory_mb=options.memory)
    if broker.running() and _kept(options.folder) != (options.port, options.nodes):
        port, nodes = _kept(options.folder)
        raise BrokerError(
            f"a broker with port {port} and {nodes} node(s) already runs in {options.folder}; stop it first, "
            "or choose another folder"
        )
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / _KEPT).write_text(json.dumps({"port": options.port, "nodes": options.nodes}))
    broker.start(wait_s=options.wait)
    print(f"Kafka {VERSION} answers at {broker.bootstrap}; its data is in {options.folder}")
    print(f"stop it with: python -m deploy.kafka stop --folder {options.folder}")
    return 0


def _stop(options: argparse.Namespace) -> int:
    port, nodes = _kept(options.folder)
    broker = Broker(options.folder, port=port, nodes=nodes)
    if not broker.running():
        print(f"no broker runs in {options.folder}")
        return 0
    broker.stop()
    print(f"stopped; the data stays in {options.folder}")
    return 0


def _status(options: argparse.Namespace) -> int:
    port, nodes = _kept(options.folder)
    broker = Broker(options.folder, port=port, nodes=nodes)
    running = broker.running()
    if running and broker.answering():
        print(f"Kafka {VERSION} answers at {broker.bootstrap} ({len(running)} of {nodes} node(s) run)")
        return 0
    print(f"{len(running)} of {nodes} node(s) run in {options.folder}; {broker.bootstrap} does not answer")
    return 1


def _kept(folder: Path) -> tuple[int, int]:
    """Return port and number of nodes of the last start in a folder."""
    path = folder / _KEPT
    if not path.exists():
        raise BrokerError(f"no broker was started in {folder}; start one with: python -m deploy.kafka start")
    kept = json.loads(path.read_text())
    return int(kept["port"]), int(kept["nodes"])


def _parser() -> argparse.ArgumentParser:
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    parser = argparse.ArgumentParser(prog="python -m deploy.kafka", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in _COMMANDS:
        command = commands.add_parser(name)
        command.add_argument("--folder", type=Path, default=home / "streamnn" / "kafka", help="data and logs")
        if name == "start":
            command.add_argument("--port", type=int, default=9092, help="of the first node (9092)")
            command.add_argument("--nodes", type=int, default=1, choices=(1, 3), help="brokers (1)")
            command.add_argument("--memory", type=int, default=512, help="heap of each node in MB (512)")
            command.add_argument("--wait", type=float, default=120.0, help="seconds to wait until it answers")
    return parser


_COMMANDS = {"start": _start, "stop": _stop, "status": _status}

if __name__ == "__main__":
    sys.exit(main())
