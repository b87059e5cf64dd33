"""Apache Kafka: records of a topic as events; predictions and dead letters into topics.

Example:
    connection = KafkaConnection(bootstrap_servers="localhost:9092")
    source = KafkaSource(KafkaReading(topic="readings", group="model-1"), library(connection), codec)
    channel = Delivery(library(connection))                    # at least once, or Transaction(...): exactly once
    sink = KafkaPredictions(channel, "predictions", model="model-1")
"""

from connectors.kafka.client import Library, LogError
from connectors.kafka.delivery import Channel, ChannelStatistics, Delivery
from connectors.kafka.handled import HandledOrder, handled_cuts, handled_order
from connectors.kafka.lease import Lease
from connectors.kafka.libraries import library
from connectors.kafka.settings import KafkaConnection, KafkaReading, KafkaSettingError, positions
from connectors.kafka.sinks import KafkaDeadLetters, KafkaPredictions
from connectors.kafka.source import KafkaSource, KafkaStatistics
from connectors.kafka.transaction import Commits, FencedError, Transaction

__all__ = [
    "Channel",
    "ChannelStatistics",
    "Commits",
    "Delivery",
    "FencedError",
    "HandledOrder",
    "KafkaConnection",
    "KafkaDeadLetters",
    "KafkaPredictions",
    "KafkaReading",
    "KafkaSettingError",
    "KafkaSource",
    "KafkaStatistics",
    "Lease",
    "Library",
    "LogError",
    "Transaction",
    "handled_cuts",
    "handled_order",
    "library",
    "positions",
]
