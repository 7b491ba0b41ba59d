"""A place in a group of a file log: one task keeps the lease and watches the group, another tells the listener.

They are two because a listener may take seconds to give up what it has, and the lease must not end meanwhile. The lease is renewed
three times per session. A member that could not renew it for a whole session gives up what it has by itself: the others have
dropped it by then, whether it can see that or not.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from uuid import uuid4

from saga.errors import LostOwnership, SagaError
from saga.log import file_group as rules
from saga.log.base import Listener, TopicPartition
from saga.log.file_bell import Bell
from saga.log.file_group import Member, Seen, Standing
from saga.log.file_threads import Reading, Transaction, Writing

logger = logging.getLogger(__name__)

BEATS = 3  # renewals of the lease per session
NAP = 0.02  # seconds at least between looks of our own accord: when something is due for all, one does it, and rings
AGAIN_SECONDS = 0.5  # before asking again a log that did not answer


class FileMembership:
    """The port's Membership."""

    def __init__(self, reading: Reading, writing: Writing, bell: Bell, listener: Listener) -> None:
        self._reading = reading
        self._writing = writing
        self._bell = bell
        self._listener = listener
        self._member: Member | None = None
        self._seen = Seen(Standing.DROPPED, frozenset(), 0.0)
        self._news = asyncio.Event()
        self._asking = asyncio.Lock()  # so that what was seen later is also known later
        self._owned: frozenset[int] = frozenset()
        self._renewed = 0.0
        self._leaving = False
        self._giving_up: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, group: str, topic: str, client: str, session: float) -> None:
        """Raises Unavailable; after that it keeps itself in the group."""
        found = await self._writing.do(lambda to: rules.find_group(to.connection, group, topic))
        self._member = Member(found, f"{client}-{uuid4().hex}", session)
        await self._join()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep()), loop.create_task(self._follow())]

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        return await self._reading.do(lambda connection: rules.committed(connection, self._me.group, partitions))

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        if self._leaving and not self._owned:
            raise LostOwnership(f"group {self._me.group.name} was left")
        await self._writing.do(lambda to: rules.commit(to.connection, self._me, positions))

    async def leave(self) -> None:
        if self._leaving:
            return
        self._leaving = True
        keeping, following = self._tasks
        following.cancel()
        await asyncio.wait([following])
        await self._take_back()
        keeping.cancel()
        await asyncio.wait([keeping])
        try:
            await self._writing.do(self._ringing(lambda to: rules.leave(to.connection, self._me, time.monotonic())))
        except SagaError as error:
            logger.warning("group %s: no farewell, the others wait for the session to end: %s", self._me.group.name, error)

    @property
    def _me(self) -> Member:
        assert self._member is not None
        return self._member

    # --- the lease ------------------------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew the lease in time, do what is due, and look when the bell rings."""
        loop = asyncio.get_running_loop()
        beat = self._me.session / BEATS
        while True:
            with self._bell.listening([self._me.group.bell]) as news:
                await asyncio.wait([news], timeout=max(NAP, min(self._renewed + beat - loop.time(), self._seen.due)))
                rung = news.done()
            try:
                if rung and loop.time() < self._renewed + beat:
                    await self._ask(lambda: self._reading.do(lambda at: rules.look(at, self._me, time.monotonic())))
                else:
                    await self._renew()
            except SagaError as error:
                logger.warning("group %s: the lease was not renewed: %s", self._me.group.name, error)
                if loop.time() > self._renewed + self._me.session:
                    self._know(Seen(Standing.DROPPED, frozenset(), self._me.session))
                await asyncio.sleep(AGAIN_SECONDS)

    async def _renew(self) -> None:
        def renew(to: Transaction) -> Seen:
            seen, changed = rules.renew(to.connection, self._me, time.monotonic())
            if changed:
                to.changed.add(self._me.group.bell)
            return seen

        at = asyncio.get_running_loop().time()
        seen = await self._ask(lambda: self._writing.do(renew))
        if seen.standing is not Standing.DROPPED:
            self._renewed = at

    async def _join(self) -> None:
        at = asyncio.get_running_loop().time()
        await self._ask(lambda: self._writing.do(self._ringing(lambda to: rules.join(to.connection, self._me, time.monotonic()))))
        self._renewed = at

    def _ringing(self, effect: Callable[[Transaction], Seen | None]) -> Callable[[Transaction], Seen]:
        def and_ring(to: Transaction) -> Seen:
            seen = effect(to)
            to.changed.add(self._me.group.bell)
            return seen or self._seen

        return and_ring

    async def _ask(self, question: Callable[[], Awaitable[Seen]]) -> Seen:
        async with self._asking:
            seen = await question()
            self._know(seen)
            return seen

    def _know(self, seen: Seen) -> None:
        self._seen = seen
        self._news.set()

    # --- the listener ---------------------------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Joined: wait for our share, tell it, wait until it is called back, give it up, join again; for ever."""
        while True:
            await self._until(Standing.OWNER, Standing.CALLED, Standing.DROPPED)
            if self._seen.standing is Standing.OWNER:
                self._give(self._seen.owned)
                await self._until(Standing.CALLED, Standing.DROPPED)
                await self._take_back()
            await self._join_again()

    async def _join_again(self) -> None:
        while True:
            try:
                return await self._join()
            except SagaError as error:
                logger.warning("group %s: could not join again: %s", self._me.group.name, error)
                await asyncio.sleep(AGAIN_SECONDS)

    async def _until(self, *standings: Standing) -> None:
        while self._seen.standing not in standings:
            self._news.clear()
            await self._news.wait()

    def _give(self, owned: frozenset[int]) -> None:
        self._owned = owned
        logger.info("group %s: owned are now %s", self._me.group.name, sorted(owned))
        try:
            self._listener.assigned(owned)
        except Exception:
            logger.exception("group %s: the listener failed on assignment", self._me.group.name)

    async def _take_back(self) -> None:
        """Once, also if a new round and `leave` want it at the same time; and to its end, whoever gives up waiting."""
        if self._owned and (self._giving_up is None or self._giving_up.done()):
            self._giving_up = asyncio.get_running_loop().create_task(self._give_up())
        if self._giving_up is not None:
            await asyncio.shield(self._giving_up)

    async def _give_up(self) -> None:
        """Tell the listener that it owns nothing any more, and wait until it has let go, half a session at most: all others wait."""
        limit = self._me.session / 2
        try:
            async with asyncio.timeout(limit):
                await self._listener.revoked(self._owned)
        except TimeoutError:
            logger.warning("group %s: %s not let go within %.1f s; going on", self._me.group.name, sorted(self._owned), limit)
        except Exception:
            logger.exception("group %s: the listener failed on revocation", self._me.group.name)
        finally:
            self._owned = frozenset()  # only now: the listener may commit until it returns
