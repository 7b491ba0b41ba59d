"""The relay: publishes what this process has to say, in order, and what others left in the outbox.

    a transaction commits → wake → read our rows of the outbox, if it put any there → publish → acknowledged → delete them (later)
                                 → then the replies of its commands, which are at hand and stand in no outbox

Deleting is put off to the next transaction that is written anyway, so that an event costs one commit to the disk, not two. A crash
before it means that those rows are published again: duplicates, under the same ids.

What is guaranteed: every row is published at least once. First copies of the rows of one process keep the order of their ids in
each partition; of one key over several processes too, as long as the key's commands come from the group (`take_over` runs before a
new owner handles anything). A command's events are acknowledged before its reply is published. A row that lay too long may be
published by several processes, once by each; not for ever, since whoever has it acknowledged deletes it.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from saga.deadletter import TOO_LARGE, publish_or_set_aside
from saga.errors import Misconfigured, SagaError, Unavailable
from saga.log.base import Log, Outgoing, Record, TopicPartition
from saga.log.partition import home_of_bytes
from saga.participant import outbox
from saga.participant.outbox import Departure
from saga.participant.settings import Meter, Settings
from saga.participant.store import Store

LIMIT = 500  # rows published at once: well under a second of work for a broker
ABANDONED = 5_000  # ms after which another's row counts as left lying: long for a relay that lives, short for a saga that waits
RETRY = (0.05, 2.0)  # seconds: the first pause after a publish that was not acknowledged, and the longest

logger = logging.getLogger("saga.participant")


class Relay:
    """One process's relay. `run` is its task; the rest may be called while it runs. Raises Misconfigured if its store has one already."""

    def __init__(self, service: str, store: Store, log: Log, settings: Settings, meter: Meter) -> None:
        if store.relay is not None:
            raise Misconfigured(
                "this Store has a runner already; give each participant a Store of its own, on the same database or not"
            )
        self.id = uuid.uuid4().hex
        self._service = service
        self._store = store
        self._log = log
        self._settings = settings
        self._meter = meter
        self._partitions: dict[str, int] = {}
        self._acknowledged: set[int] = set()  # rows that are published and still to be deleted
        self._deleting: set[int] = set()  # rows of those that a transaction under way deletes
        self._asked: list[asyncio.Future[None]] = []
        self._replies: list[tuple[Departure, Callable[[], None]]] = []  # with whom to tell when they are acknowledged
        self._unread = False  # there may be rows of ours that were not read yet
        self._woken = asyncio.Event()

    async def run(self) -> None:
        """Publish what comes, until cancelled."""
        loop = asyncio.get_running_loop()
        end = self._store.on_commit(lambda put: _call(loop, self._look) if put else None)
        self._store.relay = self.id
        try:
            while True:
                await self._round()
        finally:
            self._store.relay = None
            end()

    def reply(self, departure: Departure, out: Callable[[], None]) -> None:
        """Publish a reply whose transaction is committed, after its events; call `out` once it is acknowledged."""
        self._replies.append((departure, out))
        self._woken.set()

    async def replied(self, departure: Departure) -> None:
        """The same for a coroutine: returns once it is acknowledged."""
        acknowledged = asyncio.Event()
        self.reply(departure, acknowledged.set)
        await acknowledged.wait()

    async def drained(self) -> None:
        """Return once all that was committed before this call is published, or is another relay's by now."""
        asked = asyncio.get_running_loop().create_future()
        self._asked.append(asked)
        self._look()
        await asked

    def _look(self) -> None:
        self._unread = True
        self._woken.set()

    async def take_over(self) -> None:
        """Publish what others left, however fresh; return once it is out.

        When partitions come to us their old owner may be gone, or cut off from the log and still writing to the database.
        """
        await self._publish_left(before=self._store.now() + ABANDONED)
        await self.drained()

    async def publish(self, departures: Sequence[Departure]) -> None:
        """Publish records and wait for the acknowledgement, again and again until it comes.

        A record that the log refuses for good is set aside, and does not hold up the others.
        """
        pause, longest = RETRY
        began = self._store.now()
        while departures:
            try:
                await publish_or_set_aside(self._log, await self._outgoing(departures), self._refused)
                if pause > RETRY[0]:  # it was told that something waits
                    self._meter.on_outbox_age(self._service, 0.0)
                return
            except Unavailable as error:
                logger.warning("%s: could not publish, trying again in %.2f s: %s", self._service, pause, error)
                self._meter.on_outbox_age(self._service, max(self._store.now() - began, 1) / 1000)
                await asyncio.sleep(pause)
                pause = min(pause * 2, longest)

    def _refused(self, _topic: str) -> None:
        self._meter.on_dead_letter(self._service, TOO_LARGE)

    @asynccontextmanager
    async def forgetting(self) -> AsyncIterator[frozenset[int]]:
        """The rows that were acknowledged, to be deleted inside; if that fails they are kept for the next time.

        No two transactions get the same row: on PostgreSQL they would wait for each other.
        """
        ids, self._acknowledged = self._acknowledged, set()
        self._deleting |= ids
        try:
            yield frozenset(ids)
        except BaseException:
            self._acknowledged |= ids
            raise
        finally:
            self._deleting -= ids

    async def flush(self) -> None:
        """Delete acknowledged rows now."""
        if self._acknowledged:
            async with self.forgetting() as ids:
                await self._store.run(lambda connection: outbox.remove(connection, ids))

    async def _round(self) -> None:
        """Wait until there may be something, then publish it; whoever asked before learns that it is out."""
        idle = False
        try:
            async with asyncio.timeout(self._settings.poll.total_seconds()):
                await self._woken.wait()
        except TimeoutError:
            idle = True
        self._woken.clear()
        asked, self._asked = self._asked, []
        replies, self._replies = self._replies, []
        try:
            if idle:
                await self.flush()
                await self._publish_left(before=self._store.now() - ABANDONED)
            if idle or self._unread:
                self._unread = False
                await self._drain()
        except (SQLAlchemyError, SagaError) as error:
            logger.warning("%s: the outbox could not be read, trying again: %s", self._service, error)
            self._asked = asked + self._asked
            self._replies = replies + self._replies
            await asyncio.sleep(RETRY[0])
            self._look()
            return
        await self.publish([departure for departure, _ in replies])
        for _, out in replies:
            out()
        for future in asked:
            if not future.done():
                future.set_result(None)

    async def _drain(self) -> None:
        while True:
            known = self._acknowledged | self._deleting  # before the look: a row deleted during it may still be seen by it
            rows = await self._store.look(partial(outbox.waiting, owner=self.id, limit=LIMIT + len(known)))
            fresh = [row for row in rows if row.id not in known][:LIMIT]
            age = max(self._store.now() - fresh[0].created, 1) / 1000 if fresh else 0.0  # 0 says that there is none
            self._meter.on_outbox_age(self._service, age)
            if not fresh:
                return
            await self.publish([row.departure for row in fresh])
            self._acknowledged.update(row.id for row in fresh)
            if len(self._acknowledged) >= LIMIT:
                await self.flush()

    async def _publish_left(self, before: int) -> None:
        """Make nobody's rows ours; publish and delete others' rows that were written before `before` (ms since 1970)."""
        if await self._store.look(outbox.nobodys):
            await self._store.run(partial(outbox.claim, owner=self.id))
            self._look()
        while rows := await self._store.look(partial(outbox.others, owner=self.id, before=before, limit=LIMIT)):
            logger.info("%s: publishes %d records that other processes left in the outbox", self._service, len(rows))
            await self.publish([row.departure for row in rows])
            await self._store.run(partial(outbox.remove, ids=[row.id for row in rows]))

    async def _outgoing(self, departures: Sequence[Departure]) -> list[Outgoing]:
        new = {departure.topic for departure in departures} - self._partitions.keys()
        if new:
            found = await self._log.describe(new)
            if missing := new - found.keys():
                raise Unavailable(f"there is no topic {', '.join(sorted(missing))}")
            self._partitions.update({topic: spec.partitions for topic, spec in found.items()})
        return [Outgoing(self._to(*departure), departure.record) for departure in departures]

    def _to(self, topic: str, wanted: int | None, record: Record) -> TopicPartition:
        count = self._partitions[topic]
        if wanted is None or wanted >= count:
            wanted = home_of_bytes(record.key or b"", count)
        return TopicPartition(topic, wanted)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call on the loop, from whatever thread; a loop that is closed by now needs nothing any more."""
    try:
        running = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        function()
    else:
        try:
            loop.call_soon_threadsafe(function)
        except RuntimeError:
            pass
