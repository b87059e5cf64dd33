"""`/metrics`, `/livez` and `/readyz` over HTTP, from a thread of its own.

In: the registry, and what the loop says of its state. Out: pages for Prometheus and for whoever restarts what is dead.
Binds 127.0.0.1 unless told otherwise: metrics tell about a business.
"""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

STALE_S = 60.0  # a loop that has given no sign for so long is not alive
UNREACHABLE_S = (
    10.0  # a source that has had no answer for so long takes nothing in; brokers that start anew are back sooner
)


class ServerError(OSError):
    """The address cannot be listened on."""


class Health:
    """What the pages say: fed by the loop's thread, read by the server's.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._beat_s = self._block_s = clock()
        self._unreachable_s = 0.0
        self.ready = False
        self.draining = False
        self.standing_by = False

    def beat(self) -> None:
        """Say that the loop is alive; it may be waiting for an output."""
        self._beat_s = self._clock()

    def block(self, unreachable_s: float = 0.0) -> None:
        """Say that the loop has finished a block, be it an empty one.

        Args:
            unreachable_s: for how long its source has had no answer; 0 = it has.
        """
        self._beat_s = self._block_s = self._clock()
        self._unreachable_s = unreachable_s

    def alive(self) -> tuple[bool, dict[str, Any]]:
        """Tell whether the loop has given a sign lately, and how long it has finished no block."""
        sign, block = self._clock() - self._beat_s, self._clock() - self._block_s
        told = {"seconds_since_last_sign": round(sign, 3), "seconds_since_last_block": round(block, 3)}
        return sign < STALE_S, {**told, "limit_seconds": STALE_S}

    def serving(self) -> tuple[bool, dict[str, Any]]:
        """Tell whether events are taken in, and if not, why."""
        _, told = self.alive()
        reason = self._reason()
        told |= {"opened": self.ready, "draining": self.draining, "standing_by": self.standing_by}
        return not reason, told | {"unreachable_seconds": round(self._unreachable_s, 3), "reason": reason}

    def _reason(self) -> str:
        """Return why nothing is taken in; "" if it is."""
        block_s = self._clock() - self._block_s
        if self.standing_by:
            return "another worker runs the model, and this one stands by"
        if not self.ready:
            return "the run has not begun yet"
        if self.draining:
            return "the run is to stop"
        if block_s >= STALE_S:
            return (
                f"no block of events has been finished for {block_s:.0f} s: an output takes nothing, or the loop hangs"
            )
        if self._unreachable_s >= UNREACHABLE_S:
            return (
                f"the source has had no answer for {self._unreachable_s:.0f} s, from the cluster or a schema registry"
            )
        return ""


class Server:
    """Serves the pages until it is closed.

    Args:
        registry: what `/metrics` shows.
        health: what `/livez` and `/readyz` ask.
        host: address to listen on.
        port: 0 = any free one; `port` tells which.

    Raises:
        ServerError: the address is in use or not ours.
    """

    def __init__(self, registry: CollectorRegistry, health: Health, *, host: str, port: int) -> None:
        handler = type("Handler", (_Handler,), {"registry": registry, "health": health})
        try:
            self._http = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise ServerError(
                f"telemetry.host {host}, telemetry.port {port}: cannot listen there: {error.strerror or error}. Choose"
                " another port (0 = any free one) or set telemetry.enabled = false."
            ) from error
        self._http.daemon_threads = True
        self.host, self.port = host, int(self._http.server_address[1])
        self._thread = threading.Thread(target=self._http.serve_forever, name="telemetry", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where the pages are."""
        return f"http://{self.host}:{self.port}"

    def close(self) -> None:
        """Stop serving."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    registry: CollectorRegistry
    health: Health
    timeout = 10  # a client that hangs gives its thread up

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, kind, encode(self.registry))
        elif path in ("/livez", "/readyz"):
            good, told = self.health.alive() if path == "/livez" else self.health.serving()
            body = json.dumps({"status": "ok" if good else "unavailable", **told}).encode()
            self._answer(200 if good else 503, "application/json", body)
        else:
            pages = b"streamnn: /metrics /livez /readyz\n"
            self._answer(200 if path == "/" else 404, "text/plain; charset=utf-8", pages)

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the name it has in the base class)
        """Keep quiet: a page asked for every few seconds is not news."""
