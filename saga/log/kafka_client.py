"""What every part of the Kafka adapter shares: the cluster's settings, time limits, and letting go of a client.

aiokafka has no time limit on `start` and `stop`, and `stop` flushes: it would send what must not be sent any more. So nothing here
ever stops a client. It is abandoned: its tasks are cancelled and its connections cut, without waiting for anybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiokafka import TopicPartition as KafkaPartition  # type: ignore[import-untyped]
from aiokafka.errors import ConsumerStoppedError, IllegalOperation, KafkaError  # type: ignore[import-untyped]

from saga.errors import Unavailable
from saga.log.base import TopicPartition

T = TypeVar("T")
logger = logging.getLogger(__name__)

ABANDON_SECONDS = 2.0  # cancelled tasks and cut connections end within milliseconds; this is for the one that does not


@dataclass(frozen=True)
class Cluster:
    """Where the brokers are and how this process speaks to them. `timeout` is in seconds, for any one thing asked of them."""

    bootstrap: str
    client_id: str = "saga"
    prefix: str = ""
    security: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 10.0

    def settings(self, role: str) -> dict[str, Any]:
        """The arguments that all of aiokafka's clients take.

        One request gets half of the whole time, so that a request that was lost can be sent again before the caller gives up.
        """
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": f"{self.client_id}-{role}",
            "request_timeout_ms": int(self.timeout * 500),
            "metadata_max_age_ms": 60_000,  # new partitions are noticed within a minute
            **self.security,
        }

    def out(self, partition: TopicPartition) -> Any:
        """The partition as the brokers know it."""
        return KafkaPartition(self.prefix + partition.topic, partition.partition)

    def back(self, partition: Any) -> TopicPartition:
        """The partition as the rest of this package knows it."""
        return TopicPartition(partition.topic.removeprefix(self.prefix), partition.partition)


@contextmanager
def unavailable(doing: str) -> Iterator[None]:
    """Whatever aiokafka or the network raises becomes Unavailable, which says what was being done."""
    try:
        yield
    except (KafkaError, OSError, ConsumerStoppedError, IllegalOperation) as error:  # TimeoutError is an OSError
        raise Unavailable(f"{doing}: {said(error)}") from error


@contextmanager
def connecting(cluster: Cluster) -> Iterator[None]:
    """The same for a first contact: it says which setting to look at."""
    with unavailable(f"no way to Kafka at {cluster.bootstrap} (is SAGA_BOOTSTRAP right, and SAGA_SECURITY?)"):
        yield


def said(error: BaseException) -> str:
    name, text = type(error).__name__, str(error)
    if "Unable to bootstrap from" in text:
        return "no broker answers there"  # aiokafka goes on with addresses as tuples; why each failed it has logged
    return text if text.startswith(name) else f"{name} {text}".strip()


async def within(seconds: float, work: Awaitable[T]) -> T:
    """The result of `work`, or TimeoutError after `seconds`.

    Not asyncio.wait_for: that waits until the cancelled work has ended, and aiokafka's does not always end.
    """
    task = asyncio.ensure_future(work)
    forget(task)
    try:
        await asyncio.wait([task], timeout=max(seconds, 0))
    finally:
        task.cancel()  # changes nothing if it is done
    if not task.done() or task.cancelled():
        raise TimeoutError(f"no answer within {seconds:.1f} s")
    return task.result()


def forget(future: asyncio.Future[Any]) -> None:
    """Nobody will ask for this one's outcome: take its exception, or asyncio complains that it was never retrieved."""
    future.add_done_callback(lambda done: done.cancelled() or done.exception())


class Background:
    """Clean-up that nobody waits for, until `finish`."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        forget(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=2 * ABANDON_SECONDS)


async def abandon_consumer(consumer: Any) -> None:
    """Let go of an AIOKafkaConsumer. It says nothing to the group: LeaveGroup is the membership's business."""
    consumer._closed = True  # or its __del__ warns
    tasks: list[asyncio.Task[Any] | None] = []
    if (fetcher := consumer._fetcher) is not None:
        fetcher._closed = True
        tasks += [fetcher._fetch_task, *fetcher._pending_tasks]
    if (coordinator := consumer._coordinator) is not None:
        tasks += [
            getattr(coordinator, name, None)
            for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")
        ]
    await end_tasks(task for task in tasks if task is not None)
    await cut(consumer._client)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel and wait a little, whatever they raise."""
    waiting = list(tasks)
    for task in waiting:
        forget(task)
        task.cancel()
    if waiting:
        await asyncio.wait(waiting, timeout=ABANDON_SECONDS)


async def cut(client: Any) -> None:
    """Close an AIOKafkaClient's connections at once. What is still in a buffer is dropped, not flushed."""
    for connection in list(client._conns.values()):
        if connection._writer is not None:
            connection._writer.transport.abort()
    try:
        await within(ABANDON_SECONDS, client.close())
    except (KafkaError, OSError) as error:
        logger.info("a Kafka client did not close cleanly: %s", said(error))
