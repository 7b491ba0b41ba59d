"""Requests that we write ourselves and hand to aiokafka's connection in place of its own: the two that are sent for every record.

aiokafka describes each request as a schema and goes through it field by field, which takes longer than all that the field is for. Here a
request is bytes that somebody has made with `struct`, and its answer a class that reads them in one go. Everything else about a
connection (finding brokers, versions, TLS, SASL, time limits) stays aiokafka's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from io import BytesIO
from struct import Struct
from typing import Any, ClassVar, NamedTuple, Self

from aiokafka.client import ConnectionGroup  # type: ignore[import-untyped]
from aiokafka.conn import CloseReason  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    IncompatibleBrokerVersion,
    NodeNotReadyError,
    RequestTimedOutError,
)

INT, SHORT = Struct(">i"), Struct(">h")
_HEAD = Struct(">hhih")  # api key, version, correlation id, length of the client's name


class Head(NamedTuple):
    """What stands before a request, and before its answer (there only the correlation id)."""

    key: int
    version: int
    correlation_id: int
    client: bytes = b""

    def encode(self) -> bytes:
        return _HEAD.pack(self.key, self.version, self.correlation_id, len(self.client)) + self.client


class Call:
    """A request, in the shape in which aiokafka's connection wants one: as a choice of versions, and as the one that was chosen.

    Both are the same here, since we write one version only: of those whose fields have fixed places, the last.
    """

    API_KEY: ClassVar[int]
    API_VERSION: ClassVar[int]
    SINCE: ClassVar[str]  # the first Kafka that takes this version
    RESPONSE_TYPE: ClassVar[Any]  # its `decode` takes the answer, from behind the correlation id

    def __init__(self, body: bytes) -> None:
        self._body = body

    def prepare(self, versions: Mapping[int, tuple[int, int]]) -> Self:
        """Raises IncompatibleBrokerVersion for a broker that does not take our version."""
        oldest, newest = versions.get(self.API_KEY, (-1, -1))
        if not oldest <= self.API_VERSION <= newest:
            has = f"{type(self).__name__} {oldest} to {newest}"
            raise IncompatibleBrokerVersion(f"the broker takes {has}; we send {self.API_VERSION}, of Kafka {self.SINCE}")
        return self

    def build_request_header(self, correlation_id: int, client_id: str) -> Head:
        return Head(self.API_KEY, self.API_VERSION, correlation_id, client_id.encode())

    def encode(self) -> bytes:
        return self._body

    def parse_response_header(self, frame: BytesIO) -> Head:
        return Head(self.API_KEY, self.API_VERSION, INT.unpack(frame.read(INT.size))[0])


async def ask(client: Any, node: Any, call: Call) -> Any:
    """Send a request to a broker of an AIOKafkaClient, and return what its RESPONSE_TYPE makes of the answer. Raises KafkaError.

    As `client.send` does, but the answer is there in the turn of the event loop in which it comes in from the network.
    """
    connection = client._conns.get((node, ConnectionGroup.DEFAULT))
    if connection is None or not connection.connected():
        ready = await client.ready(node)
        connection = client._conns.get((node, ConnectionGroup.DEFAULT))
        if not ready or connection is None or not connection.connected():  # it may have been made for another, and be cut again
            raise NodeNotReadyError(f"no connection to node {node}")
    _Frames.take_over(connection)
    call.prepare(connection._versions)
    number = connection._next_correlation_id()
    frame = call.build_request_header(number, connection._client_id).encode() + call.encode()
    connection._writer.write(INT.pack(len(frame)) + frame)
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    connection._requests.append((number, call, answer))
    limit = loop.call_later(connection._request_timeout, _overdue, connection, answer)
    try:
        return await answer
    finally:
        limit.cancel()


def _overdue(connection: Any, answer: asyncio.Future[Any]) -> None:
    """Answers come in turn, so nothing else will come on this connection either."""
    if not answer.done():
        answer.set_exception(RequestTimedOutError())
    connection.close(reason=CloseReason.CONNECTION_TIMEOUT)


class _Frames(asyncio.Protocol):
    """Cuts what comes in into frames and hands them to an aiokafka connection at once.

    aiokafka reads through a stream, in a task of its own: two awaits, a turn of the loop and a copy more for each answer.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._stream = connection._protocol  # does what remains: flow control, and telling who waits for the close
        self._rest = bytearray()

    @staticmethod
    def take_over(connection: Any) -> None:
        """From now on; not while an answer is on its way, part of which the stream may have."""
        if connection._requests or isinstance(connection._protocol, _Frames):
            return
        frames = _Frames(connection)
        connection._writer.transport.set_protocol(frames)
        connection._protocol = frames
        connection._read_task.cancel()

    def data_received(self, data: bytes) -> None:
        rest, connection = self._rest, self._connection
        if rest:
            rest += data
        came, at = rest or data, 0
        try:
            while len(came) - at >= INT.size and connection._reader is not None:  # None: it was closed
                (size,) = INT.unpack_from(came, at)
                if len(came) - at - INT.size < size:
                    break
                at += INT.size + size
                connection._handle_frame(bytes(came[at - size : at]))
        except Exception as error:  # an answer that cannot be read: what follows it cannot either
            self._end(error)
        if came is rest:
            del rest[:at]
        else:
            rest += data[at:]

    def eof_received(self) -> bool:
        self._end(EOFError("the broker has closed the connection"))
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error)
        self._stream.connection_lost(error)

    def pause_writing(self) -> None:
        self._stream.pause_writing()

    def resume_writing(self) -> None:
        self._stream.resume_writing()

    def _end(self, error: Exception | None) -> None:
        self._connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)


def topics(by_topic: Mapping[str, Sequence[bytes]]) -> bytes:
    """Entries of partitions, topic by topic, as all requests have them."""
    written = [INT.pack(len(by_topic))]
    for topic, entries in by_topic.items():
        name = topic.encode()
        written += [SHORT.pack(len(name)), name, INT.pack(len(entries)), *entries]
    return b"".join(written)


def topic_at(data: bytes, at: int) -> tuple[str, int, int]:
    """A topic's name, how many partitions follow, and where they begin."""
    (length,) = SHORT.unpack_from(data, at)
    name = at + SHORT.size
    (count,) = INT.unpack_from(data, name + length)
    return data[name : name + length].decode(), count, name + length + INT.size
