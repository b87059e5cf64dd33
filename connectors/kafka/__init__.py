"""Apache Kafka: records of a topic as events; predictions and dead letters into topics."""
