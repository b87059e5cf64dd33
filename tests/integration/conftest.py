"""A real Kafka broker for the tests of this folder.

KAFKA_BOOTSTRAP_SERVERS names one that runs; else KAFKA_LIBS names a folder with the jars and one is started
for the whole session (Java 17); else every test that asks for a broker is skipped, and says why. Tests that do to a broker
what nobody else could bear (`jars`) start one of their own, and are skipped without KAFKA_LIBS, whatever runs.
"""

import gc
import os
import shutil
import warnings
from collections.abc import Iterator

import pytest

from deploy.kafka import Broker

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of kafka-python on Python 3.11, see below
    from tests.integration import helpers
    from tests.integration.proxy import Proxy, proxied


def pytest_configure(config: pytest.Config) -> None:
    """Overlook two habits of kafka-python.

    It reads its files in a way that Python 3.11 calls deprecated, and leaves sockets that could not connect
    to the garbage collector.
    """
    config.addinivalue_line("filterwarnings", "ignore:unclosed <(socket|ssl):ResourceWarning")
    config.addinivalue_line("filterwarnings", r"ignore:(read|open)_text is deprecated:DeprecationWarning")


def _skip_without_jars(otherwise: str = "") -> None:
    if not os.environ.get("KAFKA_LIBS"):
        pytest.skip(f"no Kafka broker: set {otherwise}KAFKA_LIBS (a folder of Kafka's jars)")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("no Kafka broker: KAFKA_LIBS is set, but there is no java to run a broker with")


@pytest.fixture(scope="module", autouse=True)
def no_leftovers() -> Iterator[None]:
    """Collect what kafka-python left to the garbage collector while its warnings are overlooked."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a broker that stays up for the whole session."""
    given = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "")
    if given:
        yield given
        helpers.close()
        return
    _skip_without_jars("KAFKA_BOOTSTRAP_SERVERS (a running broker) or ")
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker.bootstrap
        helpers.close()


@pytest.fixture(scope="session")
def jars() -> None:
    """What a broker of a test's own is started from; asked for to be skipped without."""
    _skip_without_jars()


@pytest.fixture(scope="module")
def fragile_broker(tmp_path_factory: pytest.TempPathFactory, jars: None) -> Iterator[Broker]:
    """A broker that the tests of one module may stop, kill and start again."""
    with Broker(tmp_path_factory.mktemp("fragile"), memory_mb=384) as broker:
        yield broker
        helpers.close()


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, jars: None) -> Iterator[tuple[Broker, list[Proxy]]]:
    """A broker for the tests of one module, and two proxies that they may reach it through."""
    with proxied(tmp_path_factory.mktemp("network")) as made:
        yield made
        helpers.close()


@pytest.fixture
def up(fragile_broker: Broker) -> Iterator[Broker]:
    """The fragile broker, running at the beginning of the test."""
    fragile_broker.resume()
    fragile_broker.start()
    helpers.close()  # its connections are not those of this life of the broker
    yield fragile_broker
    fragile_broker.resume()
