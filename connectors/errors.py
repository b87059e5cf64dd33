"""Everything a connector raises. Errors of the libraries beneath are translated into these at the edge.

ConnectorError
+-- SourceError      what is read cannot be read, or is not what it was
+-- SinkError        what is written cannot be written (disk full, no permission, broker gone)
+-- SchemaError      the description of the fields does not fit the stream, or itself
+-- NotYetError      what is needed to decode does not answer now; the same records can be decoded later
"""


class ConnectorError(Exception):
    """A connector cannot go on; the message gives value, expectation and remedy."""


class SourceError(ConnectorError):
    """A source cannot be opened or read."""


class SinkError(ConnectorError):
    """A sink cannot be opened or written.

    Attributes:
        retryable: nothing was lost or written twice, and trying the same call again may succeed (no space at the
            moment, a broker out of reach).
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class SchemaError(ConnectorError):
    """A schema contradicts itself or the stream."""


class NotYetError(ConnectorError):
    """What is needed to decode records does not answer; nothing has become of them, and they can be decoded later."""
