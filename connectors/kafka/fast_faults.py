"""What confluent-kafka raises and reports, as a `LogError`."""

from collections.abc import Mapping

from confluent_kafka import KafkaError, KafkaException

from connectors.kafka.client import Fault, LogError

FAULTS: Mapping[int, Fault] = {
    KafkaError._TRANSPORT: "unreachable",
    KafkaError._TIMED_OUT: "unreachable",
    KafkaError._MSG_TIMED_OUT: "unreachable",
    KafkaError._ALL_BROKERS_DOWN: "unreachable",
    KafkaError._RESOLVE: "unreachable",
    KafkaError._QUEUE_FULL: "unreachable",
    KafkaError.REQUEST_TIMED_OUT: "unreachable",
    # a partition or coordinator that is moving: asking again helps
    KafkaError.NOT_LEADER_FOR_PARTITION: "unreachable",
    KafkaError.LEADER_NOT_AVAILABLE: "unreachable",
    KafkaError._NOENT: "unreachable",  # offsets were asked for while no partition has a leader, as after a restart
    KafkaError.FENCED_LEADER_EPOCH: "unreachable",
    KafkaError.UNKNOWN_LEADER_EPOCH: "unreachable",
    KafkaError.COORDINATOR_NOT_AVAILABLE: "unreachable",
    KafkaError.NOT_COORDINATOR: "unreachable",
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS: "unreachable",
    KafkaError.NETWORK_EXCEPTION: "unreachable",
    KafkaError.BROKER_NOT_AVAILABLE: "unreachable",
    KafkaError.REPLICA_NOT_AVAILABLE: "unreachable",
    KafkaError.OFFSET_NOT_AVAILABLE: "unreachable",
    KafkaError.NOT_ENOUGH_REPLICAS: "unreachable",
    KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND: "unreachable",
    KafkaError.UNSTABLE_OFFSET_COMMIT: "unreachable",
    KafkaError.KAFKA_STORAGE_ERROR: "unreachable",
    KafkaError.CONCURRENT_TRANSACTIONS: "unreachable",
    KafkaError.NOT_CONTROLLER: "unreachable",
    KafkaError._WAIT_COORD: "unreachable",
    KafkaError._RETRY: "unreachable",
    KafkaError._TIMED_OUT_QUEUE: "unreachable",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "unknown_topic",
    KafkaError._UNKNOWN_TOPIC: "unknown_topic",
    KafkaError._UNKNOWN_PARTITION: "unknown_topic",
    KafkaError.TOPIC_EXCEPTION: "unknown_topic",
    KafkaError.OFFSET_OUT_OF_RANGE: "out_of_range",
    KafkaError._AUTO_OFFSET_RESET: "out_of_range",
    KafkaError._AUTHENTICATION: "refused",
    KafkaError.SASL_AUTHENTICATION_FAILED: "refused",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "refused",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "refused",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "refused",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "refused",
    KafkaError._SSL: "untrusted",
    KafkaError._FENCED: "fenced",
    KafkaError._FATAL: "fenced",
    KafkaError._MAX_POLL_EXCEEDED: "fenced",
    KafkaError._STATE: "fenced",
    KafkaError._PURGE_QUEUE: "fenced",
    KafkaError._PURGE_INFLIGHT: "fenced",
    KafkaError.INVALID_PRODUCER_EPOCH: "fenced",
    KafkaError.INVALID_PRODUCER_ID_MAPPING: "fenced",
    KafkaError.INVALID_TXN_STATE: "fenced",
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER: "fenced",
    KafkaError.PRODUCER_FENCED: "fenced",
    KafkaError.MSG_SIZE_TOO_LARGE: "too_large",
    KafkaError.INVALID_TRANSACTION_TIMEOUT: "too_long",
    KafkaError._INVALID_ARG: "configuration",
}


class Errors:
    """Remembers what the library reports outside of calls."""

    def __init__(self) -> None:
        self.told: list[LogError] = []

    def __call__(self, error: KafkaError) -> None:
        """Remember one; the oldest are forgotten."""
        self.told = [*self.told, translated(error, "failed")][-20:]

    @property
    def last(self) -> LogError | None:
        """The last that says why, if there is one: that no broker answers says nothing."""
        silent = KafkaError(KafkaError._ALL_BROKERS_DOWN).name()
        return next((one for one in reversed(self.told) if not str(one).startswith(silent)), None)


class Translating:
    """Turns what the library raises into a LogError."""

    def __init__(self, otherwise: Fault) -> None:
        self._otherwise: Fault = otherwise

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KafkaException):
            raise translated(error.args[0], self._otherwise) from error
        if isinstance(error, (RuntimeError, TypeError, ValueError)):
            raise LogError(self._otherwise, f"{type(error).__name__}: {error}") from error


def translated(error: KafkaError, otherwise: Fault) -> LogError:
    """Say what kind of fault it is; `otherwise` where it is not known."""
    fault = FAULTS.get(error.code(), "fenced" if error.fatal() or error.txn_requires_abort() else otherwise)
    if fault == "failed" and error.retriable():
        fault = "unreachable"
    text = error.str()
    if ("alert" in text and "certificate" in text) or "in current SASL state" in text:  # nobody is to log in there
        fault = "untrusted"
    return LogError(fault, f"{error.name()}: {error.str()}")
