"""A TCP proxy between clients and one broker, which cuts, delays, loses and refuses as a test says.

In: the port of a listener of the broker that advertises the proxy's own port (`proxied`). Out: connections that pass,
until a test has the proxy take the network away, or answer a kind of request in the broker's place. It knows where
requests and answers begin and end, so what it loses is whole. A client that is to meet a fault for certain has a proxy of
its own.
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kafka.protocol.consumer import (
    FetchRequest,
    FetchResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    OffsetCommitRequest,
    OffsetCommitResponse,
)
from kafka.protocol.producer import (
    EndTxnRequest,
    EndTxnResponse,
    ProduceRequest,
    ProduceResponse,
    TxnOffsetCommitRequest,
    TxnOffsetCommitResponse,
)

from deploy.kafka import Broker
from deploy.kafka.broker import free_port
from deploy.kafka.properties import HOST

_KINDS = {
    "produce": (ProduceRequest, ProduceResponse),
    "offset_commit": (OffsetCommitRequest, OffsetCommitResponse),
    "txn_offset_commit": (TxnOffsetCommitRequest, TxnOffsetCommitResponse),
    "end_txn": (EndTxnRequest, EndTxnResponse),
    "heartbeat": (HeartbeatRequest, HeartbeatResponse),
    "fetch": (FetchRequest, FetchResponse),
}
_KEYS = {request.API_KEY: name for name, (request, _) in _KINDS.items()}
_HEADER = struct.Struct(">hhi")  # kind of request, its version, and the number that its answer carries
_LOST = b"lost"
_BACKLOG = 64


class Proxy:
    """Passes everything on, until it is told otherwise. Its methods may be called from any thread.

    Args:
        port: that clients connect to.
        upstream: the broker's.
    """

    def __init__(self, port: int, upstream: int) -> None:
        self.address, self._port, self._upstream = f"{HOST}:{port}", port, upstream
        self._faults: dict[str, deque[int | None]] = {}  # error codes in the broker's place; None = the answer is lost
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._passing = asyncio.Event()
        self._passing.set()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._do(self._listen())

    def cut(self) -> None:
        """Reset every connection, and refuse new ones until `restore`."""
        self._do(self._cut())

    def reset(self) -> None:
        """Reset every connection; new ones are welcome."""
        self._do(self._reset())

    def hold(self, *, forget: bool = False) -> None:
        """Let nothing pass, and say nothing, until `restore`.

        What was held passes then, as TCP would send it again; with `forget` it never does, and the connections of now
        stay open and silent for ever, as behind a firewall that was started anew.
        """
        self._do(self._hold(forget))

    def restore(self) -> None:
        """Let everything pass again."""
        self._do(self._restore())

    def refuse(self, kind: str, *codes: int) -> None:
        """Answer the next requests of a kind with these errors; the broker does not get them.

        Of fetches, those whose answer has records are refused, and the broker gets them: it knows the partitions.
        """
        self._faults.setdefault(kind, deque()).extend(codes)

    def lose(self, kind: str, times: int = 1) -> None:
        """Have the broker do the next requests of a kind, and reset the connection in place of the answer."""
        self._faults.setdefault(kind, deque()).extend([None] * times)

    @property
    def left(self) -> int:
        """How many requests are still to be refused or lost."""
        return sum(map(len, self._faults.values()))

    def close(self) -> None:
        """Reset every connection, and end."""
        self.cut()
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30.0)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._welcome, HOST, self._port, backlog=_BACKLOG)

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _reset(self) -> None:
        links = list(self._links)
        for link in links:
            link.reset()
        await asyncio.gather(*(link.ended() for link in links))

    async def _end(self) -> None:
        rest = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for work in rest:
            work.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for link in list(self._links):
            link.reset()
        await asyncio.sleep(0.05)  # what is reset is closed in the loop's next turn

    async def _hold(self, forget: bool) -> None:
        self._passing.clear()
        for link in self._links:
            link.forgotten = link.forgotten or forget

    async def _restore(self) -> None:
        self._passing.set()
        await self._listen()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer, self._passing, self._faults)
        self._links.add(link)
        try:
            await link.run(self._upstream)
        finally:
            self._links.discard(link)


class _Link:
    """One connection of a client, and the one to the broker that belongs to it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        passing: asyncio.Event,
        faults: dict[str, deque[int | None]],
    ) -> None:
        self._reader, self._writer, self._passing, self._faults = reader, writer, passing, faults
        self._broker: asyncio.StreamWriter | None = None
        # answers in their order; None = the broker's, a number = likewise, of a fetch of that version
        self._awaited: deque[bytes | int | None] = deque()
        self._works: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self.forgotten = False

    async def run(self, upstream: int) -> None:
        """Pass on until either side ends."""
        try:
            await self._passes()
            answers, self._broker = await asyncio.open_connection(HOST, upstream)
            self._works = [asyncio.create_task(work) for work in (self._ask(self._broker), self._answer(answers))]
            await asyncio.wait(self._works, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            pass  # the broker is away
        finally:
            self.reset()
            await asyncio.gather(*self._works, return_exceptions=True)
            self._over.set()

    def reset(self) -> None:
        """Reset both connections."""
        for work in self._works:
            work.cancel()
        for writer in (self._writer, self._broker):
            if writer is not None and not writer.transport.is_closing():
                # with nothing to linger for the other side is sent a reset, not an orderly end
                with suppress(OSError):
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                    )
                writer.transport.abort()

    async def ended(self) -> None:
        """Wait until it has ended; one that still waits to pass does so later."""
        if self._works:
            await self._over.wait()

    async def _ask(self, broker: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                body = await _frame(self._reader)
                await self._passes()
                key, version, number = _HEADER.unpack_from(body)
                kind = _KEYS.get(key, "")
                fault = None if kind == "fetch" else self._fault(kind)
                if fault is not None and fault[0] is not None:
                    self._awaited.append(_refusal(kind, version, number, body, fault[0]))
                    self._give()
                    continue
                self._awaited.append(version if kind == "fetch" else None if fault is None else _LOST)
                broker.write(struct.pack(">i", len(body)) + body)
                await broker.drain()

    async def _answer(self, answers: asyncio.StreamReader) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                body = await _frame(answers)
                await self._passes()
                asked = self._awaited.popleft()
                if asked is _LOST:
                    return
                if isinstance(asked, int):
                    body = self._fetched(asked, body)
                self._writer.write(struct.pack(">i", len(body)) + body)
                self._give()
                await self._writer.drain()

    def _give(self) -> None:
        """Give answers of our own whose turn it is: clients expect them in the order of their requests."""
        while self._awaited and isinstance(body := self._awaited[0], bytes) and body is not _LOST:
            self._awaited.popleft()
            self._writer.write(struct.pack(">i", len(body)) + body)

    def _fault(self, kind: str) -> tuple[int | None] | None:
        """Say what is to become of a request: None = nothing; else an error code, or None for a lost answer."""
        waiting = self._faults.get(kind)
        return (waiting.popleft(),) if waiting else None

    def _fetched(self, version: int, body: bytes) -> bytes:
        """Return the answer to a fetch; an error in the place of its records if one is due."""
        if not self._faults.get("fetch"):
            return body
        answer = FetchResponse[version].decode(body, header=True)
        full = [one for topic in answer.responses for one in topic.partitions if one.records]
        fault = self._fault("fetch") if full else None
        if fault is None:
            return body
        for one in full:
            one.error_code, one.records = fault[0], b""
        answer.with_header(correlation_id=struct.unpack_from(">i", body)[0])
        return bytes(answer.encode(header=True))

    async def _passes(self) -> None:
        await self._passing.wait()
        if self.forgotten:
            await asyncio.Event().wait()


async def _frame(reader: asyncio.StreamReader) -> bytes:
    (size,) = struct.unpack(">i", await reader.readexactly(4))
    return await reader.readexactly(size)


def _refusal(kind: str, version: int, number: int, body: bytes, code: int) -> bytes:
    """Return an answer that refuses a request, as a broker would write it."""
    request, response = (one[version] for one in _KINDS[kind])
    asked = request.decode(body, header=True)
    name = _KINDS[kind][1].__name__
    if kind in ("end_txn", "heartbeat"):
        answer = response(throttle_time_ms=0, error_code=code)
    elif kind == "produce":
        topic_of, part_of = response.TopicProduceResponse, response.TopicProduceResponse.PartitionProduceResponse
        topics = [
            topic_of(
                name=topic.name,
                partition_responses=[
                    part_of(index=one.index, error_code=code, base_offset=-1) for one in topic.partition_data
                ],
            )
            for topic in asked.topic_data
        ]
        answer = response(responses=topics, throttle_time_ms=0)
    else:
        topic_of = getattr(response, f"{name}Topic")
        part_of = getattr(topic_of, f"{name}Partition")
        topics = [
            topic_of(
                name=topic.name,
                partitions=[part_of(partition_index=one.partition_index, error_code=code) for one in topic.partitions],
            )
            for topic in asked.topics
        ]
        answer = response(throttle_time_ms=0, topics=topics)
    answer.with_header(correlation_id=number)
    return bytes(answer.encode(header=True))


@contextmanager
def proxied(folder: Path, *, proxies: int = 2, memory_mb: int = 384) -> Iterator[tuple[Broker, list[Proxy]]]:
    """Run a broker with further listeners, each of which tells its clients that the broker is where a proxy is.

    Without that a client would be given the broker's own address by the first answer, and go around the proxy.
    """
    port = free_port(nodes=1 + proxies)
    ways = [(f"PROXIED{n}", port + 2 + 2 * n, port + 3 + 2 * n) for n in range(proxies)]  # name, behind, in front
    own = f"PLAINTEXT://{HOST}:{port}"
    properties = {
        "listeners": ",".join([own, f"CONTROLLER://{HOST}:{port + 1}", *(f"{w}://{HOST}:{at}" for w, at, _ in ways)]),
        "advertised.listeners": ",".join([own, *(f"{way}://{HOST}:{at}" for way, _, at in ways)]),
        "listener.security.protocol.map": ",".join(
            f"{name}:PLAINTEXT" for name in ("CONTROLLER", "PLAINTEXT", *(way for way, _, _ in ways))
        ),
    }
    made = [Proxy(front, behind) for _, behind, front in ways]
    try:
        with Broker(folder, port=port, memory_mb=memory_mb, properties=properties) as broker:
            yield broker, made
    finally:
        for proxy in made:
            proxy.close()
