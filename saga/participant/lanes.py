"""Lanes: the records of one key one after the other, different keys at once, across polls."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable

from saga.log.base import StoredRecord

AGAIN = 1.0  # seconds until a record is handled again that the kit itself failed on

logger = logging.getLogger("saga.participant")

# Partition and key: a key never stands in two, and records without a key keep their partition's order.
Lane = tuple[int, bytes | None]


class Lanes:
    """Work in progress. `handled` is called for each record that is done; `room` is set while fewer than `limit` are in hand."""

    def __init__(
        self,
        handle: Callable[[StoredRecord], Awaitable[None]],
        handled: Callable[[StoredRecord], None],
        *,
        concurrency: int,
        limit: int,
    ) -> None:
        self._handle = handle
        self._handled = handled
        self._limit = limit
        self._turn = asyncio.Semaphore(concurrency)
        self._lanes: dict[Lane, deque[StoredRecord]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._working: set[Lane] = set()
        self._in_hand = 0
        self.room = asyncio.Event()
        self.room.set()
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def free(self) -> int:
        """How many more records may be added."""
        return self._limit - self._in_hand

    def add(self, record: StoredRecord) -> None:
        self._count(1)
        lane = (record.partition, record.key)
        if lane in self._lanes:
            self._lanes[lane].append(record)
            return
        self._lanes[lane] = deque([record])
        task = asyncio.get_running_loop().create_task(self._run(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def drop_waiting(self) -> None:
        """Forget what has not begun: somebody else will read it again, or we will."""
        for lane, queue in self._lanes.items():
            while len(queue) > (lane in self._working):  # where one is in work it is the first
                queue.pop()
                self._count(-1)

    async def quiet(self, within: float) -> bool:
        """Wait until nothing is in hand, up to `within` seconds; says whether that came."""
        try:
            async with asyncio.timeout(within):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

    def cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def _run(self, lane: Lane) -> None:
        queue = self._lanes[lane]
        try:
            while queue:
                async with self._turn:
                    if not queue:  # dropped while it waited for its turn
                        break
                    self._working.add(lane)
                    await self._one(queue[0])
                    self._working.discard(lane)
                self._handled(queue.popleft())
                self._count(-1)
        finally:
            self._count(-len(queue))
            self._working.discard(lane)
            del self._lanes[lane]

    async def _one(self, record: StoredRecord) -> None:
        """Handle a record until it is handled: to skip it would lose it, to stop would block its partition's other keys."""
        while True:
            try:
                await self._handle(record)
                return
            except Exception:
                logger.exception("%s is handled again in %g s", record.place, AGAIN)
                await asyncio.sleep(AGAIN)

    def _count(self, change: int) -> None:
        self._in_hand += change
        if self._in_hand:
            self._quiet.clear()
        else:
            self._quiet.set()
        if self._in_hand < self._limit:
            self.room.set()
        else:
            self.room.clear()
