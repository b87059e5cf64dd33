"""A server that hangs up while a user logs in: with its refusal, or without a word."""

import contextlib
import socket
import struct
import threading

import pytest

from connectors.kafka import KafkaConnection, library
from connectors.kafka.client import LogError
from tests.integration import helpers

_VERSIONS, _HANDSHAKE, _AUTHENTICATE = 18, 17, 36
_REFUSED = 58
_UNSUPPORTED = 35
_OFFERED = ((0, 3, 9), (1, 4, 11), (2, 1, 5), (3, 0, 9), (_VERSIONS, 0, 0), (_HANDSHAKE, 0, 1), (_AUTHENTICATE, 0, 0))


class Server:
    """Speaks as much of Kafka as is needed to log in, and refuses everybody.

    Args:
        says: whether it tells why before it hangs up; the refusal and the end of the connection then arrive as one.
    """

    def __init__(self, *, says: bool) -> None:
        self._says = says
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Serve nobody any more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                one, _ = self._socket.accept()
                with one, contextlib.suppress(OSError, struct.error):  # the client has gone
                    self._answer(one)

    def _answer(self, one: socket.socket) -> None:
        one.settimeout(5.0)
        while True:
            (size,) = struct.unpack(">i", one.recv(4, socket.MSG_WAITALL))
            key, version, number = struct.unpack(">hhi", one.recv(size, socket.MSG_WAITALL)[:8])
            if key == _VERSIONS:
                offered = b"".join(struct.pack(">hhh", *each) for each in _OFFERED)
                body = struct.pack(">hi", _UNSUPPORTED if version else 0, len(_OFFERED)) + offered
            elif key == _HANDSHAKE:
                body = struct.pack(">hi", 0, 1) + _text(b"PLAIN")
            elif self._says:
                body = (
                    struct.pack(">h", _REFUSED) + _text(b"Authentication failed: no such user") + struct.pack(">i", 0)
                )
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)  # one packet holds the answer and the end
            else:
                return
            one.sendall(struct.pack(">ii", 4 + len(body), number) + body)
            if key == _AUTHENTICATE:
                return


def _text(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text


def told(client: str, monkeypatch: pytest.MonkeyPatch, *, says: bool) -> LogError:
    """What connecting to such a server ends in."""
    monkeypatch.setenv("PASSWORD", "wr0ng-secret")
    server = Server(says=says)
    try:
        connection = KafkaConnection(
            bootstrap_servers=server.address,
            client=client,
            security="sasl_plaintext",
            user="alice",
            password_env="PASSWORD",
            start_wait_s=2.0,
        )
        with pytest.raises(LogError) as caught:
            library(connection).reader(group="", committed_only=False)
        assert "wr0ng-secret" not in str(caught.value)
        return caught.value
    finally:
        server.close()


@pytest.mark.skipif(not hasattr(socket, "TCP_CORK"), reason="no TCP_CORK here to send an answer and an end as one")
@pytest.mark.parametrize("client", helpers.CLIENTS)
def test_a_refusal_that_comes_with_the_end_is_read(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong password is told for what it is, also if the broker's answer and its hanging up arrive as one."""
    error = told(client, monkeypatch, says=True)
    assert error.fault == "refused"
    assert "no such user" in str(error)


@pytest.mark.parametrize(
    ("client", "words"),
    [("kafka-python", "check security, and user and password"), ("confluent-kafka", "SASL authentication error")],
)
def test_a_broker_that_hangs_up_without_a_word(client: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a broker hangs up on a user without an answer, the message speaks of the login, not of the network alone."""
    assert words in str(told(client, monkeypatch, says=False))
