"""A proxy between a Kafka client and one broker on loopback, which can cut a connection or hold a frame back, by API key.

Frames in Kafka's protocol begin with their length; a request goes on with API key, API version and correlation id, a response with
the correlation id. The proxy puts its own port where Metadata responses name the broker's, so that clients keep coming to it.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

PRODUCE, FETCH, METADATA = 0, 1, 3

Rule = Callable[[int], Awaitable[bool]]  # given the API key: may wait; False cuts the connection instead of passing the frame on


async def passing(api_key: int) -> bool:  # noqa: ARG001 - a Rule
    return True


class Proxy:
    """`async with Proxy(port) as proxy:` then connect to `proxy.bootstrap`. Set `requests` and `responses` to a Rule."""

    def __init__(self, port: int) -> None:
        self._broker_port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: Rule = passing
        self.responses: Rule = passing

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self._port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        to_broker: asyncio.StreamWriter | None = None
        try:
            broker, to_broker = await asyncio.open_connection("127.0.0.1", self._broker_port)
            asked: dict[int, int] = {}  # correlation id → API key
            async with asyncio.TaskGroup() as both:
                both.create_task(self._requests(client, to_broker, asked))
                both.create_task(self._responses(broker, to_client, asked))
        except (OSError, asyncio.CancelledError, ExceptionGroup):
            pass  # one side closed, or a rule cut: then the other side is closed too
        finally:
            self._tasks.discard(task)
            for writer in (to_client, to_broker):
                if writer is not None:
                    writer.transport.abort()

    async def _requests(self, client: asyncio.StreamReader, broker: asyncio.StreamWriter, asked: dict[int, int]) -> None:
        while True:
            frame = await _frame(client)
            api_key, _, correlation = struct.unpack_from(">hhi", frame)
            asked[correlation] = api_key
            if not await self.requests(api_key):
                raise ConnectionAbortedError
            await _send(broker, frame)

    async def _responses(self, broker: asyncio.StreamReader, client: asyncio.StreamWriter, asked: dict[int, int]) -> None:
        while True:
            frame = await _frame(broker)
            api_key = asked.pop(struct.unpack_from(">i", frame)[0])
            if not await self.responses(api_key):
                raise ConnectionAbortedError
            if api_key == METADATA:
                host = struct.pack(">h", 9) + b"127.0.0.1"
                frame = frame.replace(host + struct.pack(">i", self._broker_port), host + struct.pack(">i", self._port))
            await _send(client, frame)


async def _frame(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readexactly(struct.unpack(">i", await reader.readexactly(4))[0])
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError from error


async def _send(writer: asyncio.StreamWriter, frame: bytes) -> None:
    writer.write(struct.pack(">i", len(frame)) + frame)
    await writer.drain()
