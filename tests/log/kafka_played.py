"""A broker that is played: it speaks Kafka's protocol on a real socket, by aiokafka's own schemas, and fails as it is told.

A real broker never forgets a session, loses an answer or answers nonsense when a test needs it. This one does; and it keeps to the rules
of sessions (KIP-227) strictly, so whoever breaks them gets nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from io import BytesIO
from struct import pack, unpack
from types import TracebackType
from typing import Any, Self

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.protocol.admin import ApiVersionRequest_v0, ApiVersionResponse_v0  # type: ignore[import-untyped]
from aiokafka.protocol.api import RequestHeader_v1  # type: ignore[import-untyped]
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11  # type: ignore[import-untyped]
from aiokafka.protocol.metadata import MetadataRequest_v1, MetadataResponse_v1  # type: ignore[import-untyped]
from aiokafka.protocol.produce import ProduceRequest_v7, ProduceResponse_v7  # type: ignore[import-untyped]
from aiokafka.protocol.transaction import InitProducerIdRequest_v0, InitProducerIdResponse_v0  # type: ignore[import-untyped]
from aiokafka.record.default_records import DefaultRecordBatchBuilder  # type: ignore[import-untyped]

REQUESTS = {
    each.API_KEY: each
    for each in (ApiVersionRequest_v0, MetadataRequest_v1, FetchRequest_v11, ProduceRequest_v7, InitProducerIdRequest_v0)
}
NOT_LEADER, NO_SESSION, WRONG_EPOCH = 6, 70, 71


def batch(base: int, *values: bytes) -> bytes:
    """A batch of records as it stands in a log."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, timestamp=1, key=b"k", value=value, headers=[])
    return pack(">q", base) + bytes(builder.build())[8:]


class Played:
    """Brokers 1 and 2 of one cluster. `topics`: how many partitions each has; all are led by broker 1 until `lead` says otherwise.

    `fault` is asked before each answer to a fetch or a produce: what it returns instead of None is what the broker does.
    """

    def __init__(self, **topics: int) -> None:
        self.leaders = {KafkaPartition(topic, number): 1 for topic, count in topics.items() for number in range(count)}
        self.logs: dict[Any, list[tuple[int, bytes]]] = {partition: [] for partition in self.leaders}  # where each batch ends
        self.sessions: dict[int, tuple[int, dict[Any, int]]] = {}  # the next epoch, and what is asked for
        self.fetches: list[Any] = []
        self.produced: list[tuple[Any, bytes]] = []
        self.fault: Callable[[Any], bytes | None] = lambda _: None
        self.lose_answers = 0
        self.written = asyncio.Event()  # something was produced
        self._changed = asyncio.Event()
        self._servers: dict[int, asyncio.Server] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        for node in (1, 2):
            self._servers[node] = await asyncio.start_server(partial(self._serve, node), "127.0.0.1", 0)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for server in self._servers.values():
            server.close()
        for task in self._tasks:
            task.cancel()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port(1)}"

    def lead(self, partition: Any, node: int) -> None:
        self.leaders[partition] = node
        self._tell()

    def write(self, partition: Any, *values: bytes, data: bytes | None = None) -> None:
        """One batch more; `data` in place of a proper one."""
        log = self.logs[partition]
        base = log[-1][0] if log else 0
        log.append((base + len(values), data or batch(base, *values)))
        self._tell()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _port(self, node: int) -> int:
        return int(self._servers[node].sockets[0].getsockname()[1])

    async def _serve(self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                (size,) = unpack(">i", await reader.readexactly(4))
                frame = BytesIO(await reader.readexactly(size))
                key, _, correlation_id, _ = RequestHeader_v1.SCHEMA.decode(frame)
                request = REQUESTS[key].decode(frame)
                assert frame.read() == b"", "the request has bytes that nobody reads"
                answer = await self._answer(node, request)
                if answer is None:
                    return
                writer.write(pack(">ii", len(answer) + 4, correlation_id) + answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, node: int, request: Any) -> bytes | None:
        """The bytes of an answer; None cuts the connection."""
        if isinstance(request, ApiVersionRequest_v0):
            return bytes(
                ApiVersionResponse_v0(0, [(key, each.API_VERSION, each.API_VERSION) for key, each in REQUESTS.items()]).encode()
            )
        if isinstance(request, MetadataRequest_v1):
            return self._metadata()
        if isinstance(request, InitProducerIdRequest_v0):
            return bytes(InitProducerIdResponse_v0(0, 0, 7, 0).encode())
        answer = await self._fetch(node, request) if isinstance(request, FetchRequest_v11) else self._produce(node, request)
        if (instead := self.fault(request)) is not None:
            return instead
        if self.lose_answers:
            self.lose_answers -= 1
            return None
        return answer

    def _metadata(self) -> bytes:
        topics: dict[str, list[Any]] = {}
        for (topic, number), leader in self.leaders.items():
            topics.setdefault(topic, []).append((0, number, leader, [1, 2], [1, 2]))
        brokers = [(node, "127.0.0.1", self._port(node), None) for node in (1, 2)]
        return bytes(MetadataResponse_v1(brokers, 1, [(0, topic, False, parts) for topic, parts in topics.items()]).encode())

    async def _fetch(self, node: int, request: Any) -> bytes:
        self.fetches.append(request)
        asked = {KafkaPartition(topic, part[0]): part[2] for topic, parts in request.topics for part in parts}
        gone = {KafkaPartition(topic, number) for topic, numbers in request.forgotten_topics_data for number in numbers}
        session, wanted = request.session_id, asked
        if request.session_epoch == 0:
            self.sessions.pop(session, None)
            session = max(self.sessions, default=100 * node) + 1
        elif session not in self.sessions:
            return bytes(FetchResponse_v11(0, NO_SESSION, 0, []).encode())
        else:
            epoch, known = self.sessions[session]
            if epoch != request.session_epoch:
                return bytes(FetchResponse_v11(0, WRONG_EPOCH, 0, []).encode())
            wanted = {partition: offset for partition, offset in (known | asked).items() if partition not in gone}
        self.sessions[session] = request.session_epoch + 1, wanted
        found = self._found(node, wanted)
        if not found:
            try:
                await asyncio.wait_for(self._changed.wait(), request.max_wait_time / 1000)
            except TimeoutError:
                pass
            found = self._found(node, wanted)
        return bytes(FetchResponse_v11(0, 0, session, found).encode())

    def _found(self, node: int, wanted: dict[Any, int]) -> list[Any]:
        topics: dict[str, list[Any]] = {}
        for partition, offset in wanted.items():
            log = self.logs[partition]
            error = 0 if self.leaders[partition] == node else NOT_LEADER
            data = b"" if error else b"".join(data for end, data in log if end > offset)
            if error or data:
                end = log[-1][0] if log else 0
                topics.setdefault(partition.topic, []).append((partition.partition, error, end, end, 0, [], -1, data))
        return list(topics.items())

    def _produce(self, node: int, request: Any) -> bytes:
        topics = []
        for topic, parts in request.topics:
            placed = []
            for number, data in parts:
                partition = KafkaPartition(topic, number)
                error = 0 if self.leaders[partition] == node else NOT_LEADER
                if not error and (partition, data) not in self.produced:  # the same bytes again are the same batch
                    self.produced.append((partition, data))
                    self.written.set()
                offset = -1 if error else [each for at, each in self.produced if at == partition].index(data)
                placed.append((number, error, offset, 5, 0))
            topics.append((topic, placed))
        return bytes(ProduceResponse_v7(topics, 0).encode())
