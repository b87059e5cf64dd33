"""`streamnn run` while its broker or the network goes away and comes back, and a program that learns the model anew judges.

Each test has four runs at once: either client library with either delivery, of one partition and of four. All live
through every fault of the test; what they have written is verified in the end. `pytest -s` shows for each how long after
the return it had done two more checkpoints, which takes a second of itself: they are taken every half second.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka import Broker
from tests.integration import helpers, runs, verifier
from tests.integration.live import Feeder, Log, Worker
from tests.integration.proxy import Proxy

pytestmark = pytest.mark.heavy

AWAY_S = 3.0
RATE = 20.0  # events a second and topic
RECOVERED_S = 60.0  # nothing is asserted of the time but that there is an end to it
STARTED_S = 300.0
Kind = tuple[str, str, int]  # client, delivery, partitions
KINDS: tuple[Kind, ...] = (
    ("kafka-python", "transactional", 4),
    ("kafka-python", "at_least_once", 1),
    ("confluent-kafka", "transactional", 1),
    ("confluent-kafka", "at_least_once", 4),
)


class Crew:
    """Four runs that learn two topics, which are fed meanwhile past the proxy."""

    def __init__(self, folder: Path, broker: Broker, seen_at: str = "", kinds: Sequence[Kind] = KINDS) -> None:
        self.log, self._feeders = Log(), dict[int, Feeder]()
        self.workers = dict[Worker, str]()
        sources = {count: helpers.topic(broker.bootstrap, count) for count in (1, 4)}
        for client, delivery, count in kinds:
            where = folder / f"{client}, {delivery}, {count}".replace(", ", "-")
            worker = Worker(
                where, broker.bootstrap, sources[count], self.log, delivery=delivery, seen_at=seen_at, every_s=0.5
            )
            self.workers[worker] = client
        helpers.close()  # its connection would be lost with the broker's
        for worker, client in self.workers.items():
            worker.start(client)
        for worker in self.workers:
            helpers.until(lambda: any(worker.folder.glob("ck-*/checkpoint-*")), STARTED_S)  # noqa: B023
        for count, topic in sources.items():
            self._feeders[count] = Feeder(broker.bootstrap, topic, seed=count, rate=RATE, partitions=count)
        for worker in self.workers:
            helpers.until(lambda: runs.reached(worker.folder) > 50, STARTED_S)  # noqa: B023

    def recover(self, fault: str) -> None:
        """Wait until every run has done two more checkpoints, of which the first is committed then; say how long it took."""
        began, seen = time.monotonic(), {worker: {runs.reached(worker.folder)} for worker in self.workers}
        done = set[Worker]()
        while len(done) < len(seen):
            for worker in [one for one in seen if one not in done]:
                worker.sample()
                seen[worker].add(runs.reached(worker.folder))
                if len(seen[worker]) > 2:
                    done.add(worker)
                    self.log.say("recovered", f"from {fault} after {time.monotonic() - began:.1f} s: {worker.name}")
            missing = [worker.name for worker in seen if worker not in done]
            assert time.monotonic() - began < RECOVERED_S, f"{fault}: {missing} have not recovered"
            time.sleep(0.05)

    def verify(self) -> None:
        """Stop, read what is left, and have everything judged."""
        for feeder in self._feeders.values():
            feeder.stop()
        for worker in self.workers:
            worker.end(signal.SIGTERM)
        for worker, client in self.workers.items():
            worker.start(client, until="end")
        for worker in self.workers:
            worker.finish()
        for worker in self.workers:
            assert verifier.verify(worker.folder / "run.toml") == [], worker.name
            repeats = verifier.repeated(worker.folder / "run.toml")
            self.log.say("verified", f"{worker.name}: {runs.reached(worker.folder)} records, {repeats} repeats")

    def close(self) -> None:
        """Leave nothing behind."""
        for worker in self.workers:
            worker.close()
        for feeder in self._feeders.values():
            feeder.close()


@contextmanager
def crew(folder: Path, broker: Broker, **further: Any) -> Iterator[Crew]:
    """Have a crew at work; it is verified, and nothing is left of it."""
    broker.start()
    made = Crew(folder, broker, **further)
    try:
        yield made
        made.verify()
    finally:
        made.close()


def test_broker_goes_and_comes_back(network: tuple[Broker, Proxy], tmp_path: Path) -> None:
    """Stopped cleanly or killed (-9), and started again, in the middle of learning: the runs go on by themselves."""
    broker, _ = network
    with crew(tmp_path, broker) as runs_of:
        for how, take_away in (("stop", broker.stop), ("kill", broker.kill)):
            take_away()
            time.sleep(AWAY_S)
            broker.start()
            runs_of.recover(how)


def test_network_goes_and_comes_back(network: tuple[Broker, Proxy], tmp_path: Path) -> None:
    """Cut, silent, silent for ever on the connections there were, reset again and again: the runs go on by themselves."""
    broker, proxy = network
    with crew(tmp_path, broker, seen_at=proxy.address) as runs_of:
        for how, take_away in (
            ("cut", proxy.cut),
            ("silence", proxy.hold),
            ("silence that outlasts it", lambda: proxy.hold(forget=True)),
        ):
            take_away()
            time.sleep(AWAY_S)
            proxy.restore()
            runs_of.recover(how)
        for _ in range(10):
            proxy.reset()
            time.sleep(AWAY_S / 10)
        runs_of.recover("resets")
        broker.kill()
        time.sleep(AWAY_S)
        broker.start()
        runs_of.recover("kill behind the proxy")


FAULTS: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("produce", (6, 19, 7)),  # not the leader, not enough replicas, timed out
    ("produce", (59,)),  # unknown producer
    ("produce", (45,)),  # out of order
    ("produce", (47,)),  # invalid epoch
    ("produce", ()),
    ("txn_offset_commit", (14, 15, 16)),  # coordinator loading, not available, elsewhere
    ("txn_offset_commit", ()),
    ("end_txn", (51, 16)),  # concurrent transactions, coordinator elsewhere
    ("end_txn", (47,)),  # invalid epoch
    ("end_txn", (90,)),  # fenced, though nobody has taken over
    ("end_txn", ()),
    ("offset_commit", (14, 16, 25, 27)),  # and unknown member, rebalance in progress
    ("offset_commit", ()),
)


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_errors_of_commits_and_writes(network: tuple[Broker, Proxy], tmp_path: Path, client: str) -> None:
    """Writes and commits that are refused, or done but their answer is lost: the runs go on by themselves."""
    broker, proxy = network
    kinds = [kind for kind in KINDS if kind[0] == client]
    with crew(tmp_path, broker, seen_at=proxy.address, kinds=kinds) as runs_of:
        for kind, codes in FAULTS:
            if codes:
                proxy.refuse(kind, *codes)
            else:
                proxy.lose(kind)
            helpers.until(lambda: not proxy.left, RECOVERED_S)
            runs_of.recover(f"{kind} {'refused ' + str(codes) if codes else 'done, its answer lost'}")
