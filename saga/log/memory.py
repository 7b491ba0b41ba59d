"""The log in memory: for tests, and for simulation under virtual time with seeded faults.

`MemoryBroker` is the cluster, one `MemoryLog` is one process's client of it. A client can be killed (its coroutines never go on)
and paused (they go on late), and draws its faults from a seeded source. What is on the way to the broker lands whatever becomes of
its sender, as on a network: so writes are timers of the loop, not coroutines that could be cancelled.

Deterministic: nothing here depends on wall-clock time, threads, or the order of a set of strings.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextvars import Context
from random import Random
from typing import TypeVar

from saga.errors import InputsLost, SagaError, Unavailable
from saga.log.base import Appended, Bounds, Listener, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory_broker import MemoryBroker
from saga.log.memory_faults import Faults, Outcome
from saga.log.memory_group import Group, Member

__all__ = ["Faults", "MemoryBroker", "MemoryLog"]

T = TypeVar("T")

REQUEST_SECONDS = 1.0  # how long a client waits for an answer that does not come: the cluster is down
_LUMP = 100  # records in one lump of `read`: small, so that tests cross from one to the next
_APART = 1e-6  # seconds between two writes of one client to one partition that would land at once: keeps them in order


class MemoryLog:
    """One process's client of a MemoryBroker; implements `saga.log.base.Log`.

    Raises RuntimeError if used before `open` or after `close`.
    """

    def __init__(self, broker: MemoryBroker, name: str = "", faults: Faults | None = None) -> None:
        self.broker = broker
        number = broker.keep(self)
        self.name = name or f"client-{number}"
        self.faults = faults or Faults(Random(0))
        self.killed = False
        self._running = asyncio.Event()
        self._running.set()
        self._opened = False
        self._lanes: dict[TopicPartition, float] = {}  # when the last write on the way to a partition lands
        self._readers: list[MemoryReader] = []
        self._memberships: list[MemoryMembership] = []
        self._joined = 0

    # The fate of the process

    def kill(self) -> None:
        """Crash: from now on every call awaits for ever. Groups drop its members after their session time-out."""
        self.killed = True
        self.pause()

    def pause(self) -> None:
        """Stop the process's dealings with the broker (SIGSTOP): calls wait until `resume`, groups hear nothing."""
        self._running.clear()
        for membership in self._memberships:
            membership.silent()

    def resume(self) -> None:
        """Let a paused process go on: calls that wait go through, and listeners are told what they missed."""
        if not self.killed:
            self._running.set()
            for membership in self._memberships:
                membership.heard()

    # Log

    async def open(self) -> None:
        await self.alive()
        self._opened = True

    async def close(self) -> None:
        await self.alive()
        for membership in self._memberships:
            await membership.leave()
        for reader in self._readers:
            await reader.close()
        self._opened = False

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        if not records:
            raise ValueError("an append needs at least one record")
        await self.begin()
        self.broker.check_size(to, records)
        batch = tuple(records)
        outcome = self.faults.append()
        if outcome is Outcome.LATE:
            self._land_late(lambda: self.broker.append(to, batch))
        elif outcome is not Outcome.LOST:
            answer = await self._land([to], lambda: self.broker.append(to, batch))
        await self.end()
        if outcome is not Outcome.OK:
            raise Unavailable(f"append to {to}: no answer ({outcome.value})")
        if isinstance(answer, SagaError):
            raise answer
        return answer

    async def publish(self, records: Sequence[Outgoing]) -> None:
        if not records:
            return
        await self.begin()
        for to, record in records:
            self.broker.check_size(to, [record])
        outcome = self.faults.publish()
        whole = list(records)
        cut = self.faults.cut(len(whole)) if outcome in (Outcome.LOST, Outcome.LATE) else len(whole)
        answer = None
        if cut:
            answer = await self._land([each.to for each in whole[:cut]], lambda: self._write(whole[:cut]))
        if outcome is Outcome.LATE:
            self._land_late(lambda: self._write(whole[cut:]))
        elif outcome is Outcome.TWICE:
            again = whole[self.faults.cut(len(whole)) :]
            self._land_late(lambda: self._write(again))
        await self.end()
        if outcome not in (Outcome.OK, Outcome.TWICE):
            raise Unavailable(f"publish of {len(whole)} records: no answer ({outcome.value})")
        if isinstance(answer, SagaError):
            raise answer

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]:
        while start < end:
            begin, until = start, min(start + _LUMP, end)
            yield await self.call(lambda begin=begin, until=until: self.broker.slice(partition, begin, until))  # type: ignore[misc]
            start = until

    async def bounds(self, partitions: Collection[TopicPartition], *, committed: bool = False) -> dict[TopicPartition, Bounds]:
        del committed  # nobody writes with transactions here: the last stable offset is the end
        return await self.call(lambda: {each: self.broker.bounds(each) for each in partitions})

    async def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        return await self.call(lambda: self.broker.offset_at(partition, timestamp))

    def reader(self) -> MemoryReader:
        reader = MemoryReader(self)
        self._readers.append(reader)
        return reader

    async def join(self, group: str, topic: str, listener: Listener) -> MemoryMembership:
        found = await self.call(lambda: self.broker.group(group, topic))
        self._joined += 1
        membership = MemoryMembership(self, found, Member(f"{self.name}-{self._joined}"), listener)
        self._memberships.append(membership)
        return membership

    async def trim(self, partition: TopicPartition, before: int) -> None:
        await self.call(lambda: self.broker.trim(partition, before))

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        found = await self.call(lambda: [self.broker.describe(each) for each in topics])
        return {spec.name: spec for spec in found if spec is not None}

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        await self.call(lambda: self.broker.create(topics))

    # How a call travels

    async def alive(self) -> None:
        """Go on only while the process runs: wait while it is paused, for ever once it is killed."""
        while not self._running.is_set():
            await self._running.wait()

    async def begin(self) -> None:
        """The start of every call. Raises RuntimeError if the log is not open, Unavailable if the broker cannot be reached."""
        await self.alive()
        if not self._opened:
            raise RuntimeError(f"{self.name}: the log is not open")
        await self.reach()

    async def reach(self) -> None:
        """Raises Unavailable, after the request time-out, if the broker cannot be reached."""
        if not self.broker.up:
            await asyncio.sleep(REQUEST_SECONDS)
            await self.alive()
            raise Unavailable(f"{self.name}: the broker does not answer")

    async def travel(self) -> None:
        """One way between the process and the broker."""
        await asyncio.sleep(self.faults.delay())
        await self.alive()

    end = travel

    async def call(self, effect: Callable[[], T]) -> T:
        """A call that writes no record: there, do it, and back."""
        await self.begin()
        await self.travel()
        if self.faults.read_fails():
            raise Unavailable(f"{self.name}: no answer")
        result = effect()
        await self.travel()
        return result

    async def _land(self, partitions: Iterable[TopicPartition], effect: Callable[[], T]) -> T | SagaError:
        """Have a write land after its way to the broker, behind this client's earlier writes to the same partitions."""
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[T | SagaError] = loop.create_future()
        due = max([loop.time() + self.faults.delay(), *(self._lanes.get(each, 0.0) + _APART for each in partitions)])
        for each in partitions:
            self._lanes[each] = due

        def land() -> None:
            answer = self._attempt(effect)
            if not landed.done():
                landed.set_result(answer)

        loop.call_at(due, land, context=Context())
        return await landed

    def _land_late(self, effect: Callable[[], object]) -> None:
        asyncio.get_running_loop().call_later(self.faults.lateness(), self._attempt, effect, context=Context())

    def _attempt(self, effect: Callable[[], T]) -> T | SagaError:
        if not self.broker.up:
            return Unavailable(f"{self.name}: the broker does not answer")
        try:
            return effect()
        except SagaError as error:
            return error

    def _write(self, records: Sequence[Outgoing]) -> None:
        for to, record in records:
            self.broker.append(to, [record])


class MemoryReader:
    """Reads assigned partitions straight from the broker's memory; a fetch with nothing to take waits to be woken."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._positions: dict[TopicPartition, int] = {}
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._turn = 0
        self._closed = False

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._log.begin()
        self._positions.update(positions)
        self._wake()

    async def unassign(self, partitions: Collection[TopicPartition]) -> None:
        await self._log.alive()
        for each in partitions:
            self._positions.pop(each, None)

    def position(self, partition: TopicPartition) -> int:
        return self._positions[partition]

    async def close(self) -> None:
        await self._log.alive()
        self._closed = True
        self._positions.clear()
        self._wake()

    async def fetch(self, partitions: Collection[TopicPartition], *, limit: int, timeout: float) -> list[StoredRecord]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        await self._log.begin()
        while True:
            await self._log.travel()
            if self._closed:
                raise Unavailable("the reader is closed")
            await self._log.reach()
            if self._log.faults.read_fails():
                raise Unavailable(f"{self._log.name}: no answer to a fetch")
            # From here to the return nothing is awaited: a cancelled fetch has taken nothing.
            records = self._take(partitions, limit)
            if records or loop.time() >= deadline:
                return records
            await self._sleep(partitions, deadline)

    def _take(self, partitions: Collection[TopicPartition], limit: int) -> list[StoredRecord]:
        wanted = sorted(each for each in partitions if each in self._positions)
        self._turn += 1  # another partition is first each time, so that a busy one does not starve the others
        first = self._turn % len(wanted) if wanted else 0
        ranges: dict[TopicPartition, tuple[int, int]] = {}
        for each in wanted[first:] + wanted[:first]:
            start, held = self._positions[each], self._log.broker.bounds(each)
            if not held.start <= start <= held.end:
                raise InputsLost(f"{each}: position {start} is outside what it holds, {held.start} to {held.end}")
            end = min(held.end, start + limit)
            limit -= end - start
            ranges[each] = (start, end)
        records: list[StoredRecord] = []
        for each, (start, end) in ranges.items():
            records += self._log.broker.slice(each, start, end)
            self._positions[each] = end
        return records

    async def _sleep(self, partitions: Collection[TopicPartition], deadline: float) -> None:
        """Until one of the partitions changes, more are assigned, the reader closes, or the deadline."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = asyncio.get_running_loop().call_at(deadline, _resolve, waiter)
        self._waiting[waiter] = None
        for each in partitions:
            self._log.broker.wait(each, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiting.pop(waiter, None)
            for each in partitions:
                self._log.broker.forget(each, waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            _resolve(waiter)


class MemoryMembership:
    """A place in a group: one task joins, tells the listener, waits for the next change, and joins again."""

    def __init__(self, log: MemoryLog, group: Group, member: Member, listener: Listener) -> None:
        self._log = log
        self._group = group
        self._member = member
        self._listener = listener
        self._owned: frozenset[int] = frozenset()
        self._leaving = False
        self._task = asyncio.create_task(self._run(), name=f"membership {member.id}")

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        offsets = self._group.offsets
        return await self._log.call(lambda: {each: offsets[each] for each in partitions if each in offsets})

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        await self._log.call(lambda: self._group.commit(self._member, positions))

    async def leave(self) -> None:
        await self._log.alive()
        if not self._leaving:
            self._leaving = True
            if self._member.joining is not None:
                self._group.leave(self._member)
            self._member.changed.set()
        await asyncio.shield(self._task)

    def silent(self) -> None:
        self._group.silent(self._member)

    def heard(self) -> None:
        self._group.heard(self._member)

    async def _run(self) -> None:
        while True:
            await self._log.travel()
            if self._leaving:
                break
            owned = await self._group.join(self._member)
            await self._log.travel()
            if owned is None:
                continue
            self._owned = owned
            self._tell_assigned()
            await self._member.changed.wait()
            await self._log.alive()
            await self._tell_revoked()
        self._group.leave(self._member)

    def _tell_assigned(self) -> None:
        try:
            self._listener.assigned(self._owned)
        except Exception as error:
            self._report("assigned", error)

    async def _tell_revoked(self) -> None:
        try:
            await self._listener.revoked(self._owned)
        except Exception as error:
            self._report("revoked", error)
        self._owned = frozenset()

    def _report(self, what: str, error: Exception) -> None:
        """A listener that raises does not stop the group, as in Kafka's clients; the loop's exception handler hears of it."""
        message = f"{what}() of the listener of {self._member.id} raised"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


def _resolve(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
