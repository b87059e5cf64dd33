"""Choose the client library that a connection names; it is imported only then."""

import importlib

from connectors.kafka.client import Library
from connectors.kafka.settings import KafkaConnection, KafkaSettingError

_MODULES = {
    "kafka-python": ("connectors.kafka.python_client", "PythonLibrary", "pip install 'kafka-python[crc32c]'"),
    "confluent-kafka": ("connectors.kafka.fast_client", "FastLibrary", "pip install confluent-kafka"),
}


def library(connection: KafkaConnection) -> Library:
    """Return what makes clients for a connection.

    Raises:
        KafkaSettingError: the library is not installed.
    """
    module, name, remedy = _MODULES[connection.client]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise KafkaSettingError(f"kafka.client is {connection.client!r}, which is not installed; {remedy}") from error
    made: Library = getattr(found, name)(connection)
    return made
