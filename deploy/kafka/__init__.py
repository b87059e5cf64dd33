"""A Kafka broker of one's own without Docker: Apache Kafka 4.1.1 from its jars, on Java 17.

    python -m deploy.kafka start|stop|status [--folder DIR] [--port N] [--nodes 1|3]

`Broker` is the same for tests. With Docker, use `compose.yaml` beside this file.
"""

from deploy.kafka.broker import Broker, BrokerError
from deploy.kafka.jars import VERSION, JarError, find_jars

__all__ = ["VERSION", "Broker", "BrokerError", "JarError", "find_jars"]
