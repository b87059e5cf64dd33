"""What kafka-python raises, as a `LogError`."""

from collections.abc import Callable
from typing import Any

from kafka import errors  # type: ignore[import-untyped]

from connectors.kafka.client import Fault, LogError

FAULTS: tuple[tuple[tuple[type[Exception], ...], Fault], ...] = (
    ((errors.UnknownTopicOrPartitionError, errors.InvalidTopicError, errors.UnknownTopicIdError), "unknown_topic"),
    ((errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError, errors.LogTruncationError), "out_of_range"),
    ((errors.AuthorizationError, errors.SaslAuthenticationFailedError), "refused"),
    (
        (
            errors.ProducerFencedError,
            errors.InvalidProducerEpochError,
            errors.OutOfOrderSequenceNumberError,
            errors.UnknownProducerIdError,
            errors.InvalidProducerIdMappingError,
            errors.InvalidTxnStateError,
            errors.TransactionAbortedError,
            errors.TransactionCoordinatorFencedError,
            errors.TransactionAbortableError,
            errors.IllegalStateError,
        ),
        "fenced",
    ),
    ((errors.MessageSizeTooLargeError, errors.RecordListTooLargeError), "too_large"),
    ((errors.KafkaConfigurationError, errors.UnsupportedVersionError, errors.UnsupportedCodecError), "configuration"),
    ((errors.RetriableError, errors.InvalidMetadataError), "unreachable"),
)

_TOO_LONG = errors.InvalidTransactionTimeoutError.__name__  # raised as what the library did not expect, with this in it
_NO_CODEC = "compression codec not found"  # in what the library says of a compression whose package is not installed


def translated(error: BaseException, otherwise: Fault) -> LogError:
    """Say what kind of fault it is; `otherwise` where it is not known."""
    fault = next((fault for kinds, fault in FAULTS if isinstance(error, kinds)), otherwise)
    if _TOO_LONG in str(error):
        fault = "too_long"
    if _NO_CODEC in str(error):
        return LogError(
            fault,
            f"{error}; install the extra `compression`, or set kafka.client to confluent-kafka, which has them all",
        )
    return LogError(fault, f"{type(error).__name__}: {error}")


def call(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call the library; what it raises becomes a LogError."""
    try:
        return function(*arguments, **named)
    except errors.KafkaError as error:
        raise translated(error, "failed") from error


def milliseconds(seconds: float) -> int:
    """Turn seconds into the library's unit."""
    return int(seconds * 1000)
