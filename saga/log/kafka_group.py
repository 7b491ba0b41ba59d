"""A place in a consumer group: who owns which partition numbers. The group's consumer never reads a record.

Every rebalance is eager: all is taken away, then given anew. Heartbeats stand still while aiokafka's assignment callback runs, so
that callback only pauses and tells; what it starts goes on by itself. `revoked` is waited for, but not for longer than half a
session, since the whole group waits with us.

A membership whose consumer has died of a fatal error gives up what it owned and joins again, with a growing pause in between.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer  # type: ignore[import-untyped]
from aiokafka.abc import ConsumerRebalanceListener  # type: ignore[import-untyped]
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # type: ignore[import-untyped]
from aiokafka.errors import CommitFailedError, KafkaError, NoOffsetForPartitionError  # type: ignore[import-untyped]
from aiokafka.protocol.group import LeaveGroupRequest  # type: ignore[import-untyped]
from aiokafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from saga.errors import LostOwnership, Unavailable
from saga.log.base import Listener, TopicPartition
from saga.log.kafka_client import Background, Cluster, abandon_consumer, connecting, end_tasks, said, unavailable, within

logger = logging.getLogger(__name__)

POLL_MS = 1000  # how soon an error of the group's machinery is noticed, at the latest
REJOIN_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)  # the pause before joining again, by the number of failures in a row
LEAVE_SECONDS = 2.0  # for the farewell; without it the others wait for the session to end
HEARTBEAT_SECONDS = 1.0  # at most; the answer to one also tells that partitions are given anew
FOREVER_MS = 7 * 24 * 3600 * 1000  # the limit between polls of records; there are none to poll


class _Callbacks(ConsumerRebalanceListener):  # type: ignore[misc]
    """What one consumer of the group reports; once `silenced` it reports nothing more."""

    def __init__(self, membership: KafkaMembership, consumer: Any) -> None:
        self._membership = membership
        self._consumer = consumer
        self.silenced = False

    def on_partitions_assigned(self, assigned: set[Any]) -> None:
        """Not a coroutine, so that nothing runs between the assignment and the pause."""
        for partition in assigned:
            self._consumer.pause(partition)
            self._consumer.seek(partition, 0)  # any position will do: without one the fetcher would look for one
        if not self.silenced:
            self._membership.given(frozenset(partition.partition for partition in assigned))

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:  # noqa: ARG002 - we know what we own
        if not self.silenced:
            await self._membership.take_back()


class KafkaMembership:
    """The port's Membership. `session_timeout` in seconds: after so long without a heartbeat the group goes on without us."""

    def __init__(self, cluster: Cluster, background: Background, group: str, topic: str, session_timeout: float) -> None:
        self._cluster = cluster
        self._background = background
        self._group = cluster.prefix + group
        self._topic = topic
        self._session = session_timeout
        self._listener: Listener | None = None
        self._owned: frozenset[int] = frozenset()
        self._consumer: Any = None
        self._callbacks: _Callbacks | None = None
        self._watch: asyncio.Task[None] | None = None
        self._giving_up = asyncio.Lock()
        self._leaving = False

    async def join(self, listener: Listener) -> None:
        """Raises Unavailable if the brokers cannot be reached; after that it keeps itself in the group."""
        self._listener = listener
        await self._connect()
        self._watch = asyncio.get_running_loop().create_task(self._keep())

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        coordinator = self._coordinator()
        with unavailable(f"offsets of group {self._group}"):
            asked = [self._cluster.out(partition) for partition in partitions]
            found = await within(self._cluster.timeout, coordinator.fetch_committed_offsets(asked))
        return {self._cluster.back(partition): told.offset for partition, told in found.items() if told.offset >= 0}

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Also for topics the group does not subscribe to: the broker asks only whether the member belongs to the generation."""
        coordinator = self._coordinator()
        foreign = {p.partition for p in positions if p.topic == self._topic} - self._owned
        if foreign or coordinator.generation < 0:
            raise LostOwnership(f"group {self._group}: commit for {sorted(foreign)}, owned are {sorted(self._owned)}")
        offsets = {self._cluster.out(partition): OffsetAndMetadata(offset, "") for partition, offset in positions.items()}
        with unavailable(f"commit to group {self._group}"):
            try:
                await within(self._cluster.timeout, coordinator.commit_offsets(None, offsets))
            except CommitFailedError as error:
                raise LostOwnership(f"group {self._group}: {said(error)}") from error

    async def leave(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        if self._callbacks is not None:
            self._callbacks.silenced = True
        if self._watch is not None:
            await end_tasks([self._watch])
        await self.take_back()
        await self._disconnect()

    def given(self, partitions: frozenset[int]) -> None:
        assert self._listener is not None
        self._owned = partitions
        logger.info("group %s: owned are now %s", self._group, sorted(partitions))
        try:
            self._listener.assigned(partitions)
        except Exception:
            logger.exception("group %s: the listener failed on assignment", self._group)

    async def take_back(self) -> None:
        """Tell the listener that it owns nothing any more, and wait, within limits, until it has let go."""
        async with self._giving_up:  # a rebalance and `leave` may both want it
            if not self._owned or self._listener is None:
                return
            limit = self._session / 2
            try:
                await within(limit, self._listener.revoked(self._owned))
            except TimeoutError:
                logger.warning("group %s: %s not let go within %.1f s; going on", self._group, sorted(self._owned), limit)
            except Exception:
                logger.exception("group %s: the listener failed on revocation", self._group)
            finally:
                self._owned = frozenset()  # only now: the listener may commit until it returns

    def _coordinator(self) -> Any:
        if self._consumer is None:
            if self._leaving:
                raise LostOwnership(f"group {self._group} was left")
            raise Unavailable(f"group {self._group}: not connected now")
        return self._consumer._coordinator

    async def _connect(self) -> None:
        consumer = AIOKafkaConsumer(
            **self._cluster.settings("group"),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=int(self._session * 1000),
            heartbeat_interval_ms=int(min(self._session / 3, HEARTBEAT_SECONDS) * 1000),
            max_poll_interval_ms=FOREVER_MS,
        )
        try:
            with connecting(self._cluster):
                await within(self._cluster.timeout, consumer.start())
        except BaseException:
            self._background.start(abandon_consumer(consumer))
            raise
        self._consumer, self._callbacks = consumer, _Callbacks(self, consumer)
        consumer._fetcher._fetcher_timeout = POLL_MS / 1000  # it has nothing to fetch; by itself it looks five times a second
        consumer.subscribe([self._cluster.prefix + self._topic], listener=self._callbacks)

    async def _disconnect(self) -> None:
        """Say farewell and let go. On a connection of its own: a JoinGroup under way blocks the usual one."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        coordinator = consumer._coordinator
        tasks = (coordinator._coordination_task, coordinator._heartbeat_task)
        await end_tasks(task for task in tasks if task is not None)
        if coordinator.coordinator_id is not None and coordinator.member_id:
            farewell = LeaveGroupRequest(self._group, coordinator.member_id)
            try:
                await within(LEAVE_SECONDS, consumer._client.send(coordinator.coordinator_id, farewell))
            except (KafkaError, OSError) as error:
                logger.warning("group %s: no farewell, the others wait for the session to end: %s", self._group, said(error))
        await abandon_consumer(consumer)

    async def _keep(self) -> None:
        """Let aiokafka raise what went wrong, which also lets it go on; join again when it cannot."""
        failures = 0
        while True:
            try:
                if self._consumer is None:
                    await self._connect()
                await self._consumer.getmany(timeout_ms=POLL_MS)
                failures = 0
            except NoOffsetForPartitionError:
                continue  # from the moment between an assignment and its pause; gone with the seek
            except Exception as error:
                pause = REJOIN_SECONDS[min(failures, len(REJOIN_SECONDS) - 1)]
                failures += 1
                logger.error("group %s: %s; going on in %.1f s", self._group, said(error), pause)
                if self._consumer is not None and self._consumer._coordinator._coordination_task.done():
                    assert self._callbacks is not None
                    self._callbacks.silenced = True
                    await self.take_back()
                    await self._disconnect()
                await asyncio.sleep(pause)
