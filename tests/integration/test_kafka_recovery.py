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
# nothing is asserted of the time but that there is an end to it: on a machine with much else to do a record is given up after
# 20 s, commits are tried for 8, 16, 32 and 48 s, and a feeder that sticks is made anew after 60
LIMIT_S = 300.0
Kind = tuple[str, str, int]  # client, delivery, partitions
KINDS: tuple[Kind, ...] = (
    ("kafka-python", "transactional", 4),
    ("kafka-python", "at_least_once", 1),
    ("confluent-kafka", "transactional", 1),
    ("confluent-kafka", "at_least_once", 4),
)


class Crew:
    """Runs that learn two topics, which are fed meanwhile past the proxies: of those each run has its own, or one of few.

    With `standby` the transactional ones are members of a group of workers.
    """

    def __init__(
        self,
        folder: Path,
        broker: Broker,
        proxies: Sequence[Proxy] = (),
        kinds: Sequence[Kind] = KINDS,
        *,
        standby: bool = False,
    ) -> None:
        self.log, self._feeders = Log("recovery"), dict[int, Feeder]()
        self.workers = dict[Worker, str]()
        sources = {count: helpers.topic(broker.bootstrap, count) for count in (1, 4)}
        for number, (client, delivery, count) in enumerate(kinds):
            where = folder / f"{client}, {delivery}, {count}".replace(", ", "-")
            worker = Worker(
                where,
                broker.bootstrap,
                sources[count],
                self.log,
                delivery=delivery,
                seen_at=proxies[number % len(proxies)].address if proxies else "",
                every_s=0.5,
                standby=standby and delivery == "transactional",
            )
            self.workers[worker] = client
        helpers.close()  # its connection would be lost with the broker's
        for worker, client in self.workers.items():
            worker.start(client)
        for worker in self.workers:
            helpers.until(lambda: any(worker.folder.glob("ck-*/checkpoint-*")), LIMIT_S)  # noqa: B023
        for count, topic in sources.items():
            self._feeders[count] = Feeder(broker.bootstrap, topic, seed=count, rate=RATE, partitions=count)
        for worker in self.workers:
            helpers.until(lambda: runs.reached(worker.folder) > 50, LIMIT_S)  # noqa: B023

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
            assert time.monotonic() - began < LIMIT_S, f"{fault}: {missing} have not recovered"
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


def test_broker_goes_and_comes_back(network: tuple[Broker, list[Proxy]], tmp_path: Path) -> None:
    """Stopped cleanly or killed (-9), and started again, in the middle of learning: the runs go on by themselves."""
    broker, _ = network
    with crew(tmp_path, broker) as runs_of:
        for how, take_away in (("stop", broker.stop), ("kill", broker.kill)):
            take_away()
            time.sleep(AWAY_S)
            broker.start()
            runs_of.recover(how)


def test_network_goes_and_comes_back(network: tuple[Broker, list[Proxy]], tmp_path: Path) -> None:
    """Cut, silent, silent for ever on the connections there were, reset again and again: the runs go on by themselves."""
    broker, (proxy, _) = network
    with crew(tmp_path, broker, proxies=[proxy]) as runs_of:
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
    ("offset_commit", (14, 16, 22, 25, 27)),  # and illegal generation, unknown member, rebalance in progress
    ("offset_commit", ()),
    ("fetch", (1,)),  # out of range, though it is not
    ("fetch", (6,)),  # not the leader
    ("fetch", (74,)),  # another epoch of the leader
    ("heartbeat", (27,)),  # rebalance in progress
)
ONLY = {  # who does it: the others are not to meet it
    "txn_offset_commit": "transactional",
    "end_txn": "transactional",
    "heartbeat": "transactional",
    "offset_commit": "at_least_once",
}


@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_errors_of_commits_and_writes(network: tuple[Broker, list[Proxy]], tmp_path: Path, client: str) -> None:
    """Reads, writes, commits and heartbeats that are refused, or done but their answer is lost: the runs go on by themselves.

    Either delivery meets each of them, at a proxy of its own.
    """
    broker, proxies = network
    kinds = [kind for kind in KINDS if kind[0] == client]
    with crew(tmp_path, broker, proxies=proxies, kinds=kinds, standby=True) as runs_of:
        for what, codes in FAULTS:
            for proxy, (_, delivery, _) in zip(proxies, kinds, strict=True):
                if ONLY.get(what, delivery) != delivery:
                    continue
                if codes:
                    proxy.refuse(what, *codes)
                else:
                    proxy.lose(what)
            helpers.until(lambda: not any(proxy.left for proxy in proxies), LIMIT_S)
            runs_of.recover(f"{what} {'refused ' + str(codes) if codes else 'done, its answer lost'}")
