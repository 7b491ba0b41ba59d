"""Lanes: the records of one key one after the other, different keys at once, across polls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from saga.log.base import StoredRecord

# Partition and key: a key never stands in two, and records without a key keep their partition's order.
Lane = tuple[int, bytes | None]


class Lanes:
    """Records in hand. The first of each lane is in work: given to `begin`, and `finished` is called when it is done.

    `handled` is told each record that is done; `recall` gives back those of the first ones that have not really begun. `room` is set
    while fewer than `limit` are in hand.
    """

    def __init__(
        self,
        begin: Callable[[StoredRecord], None],
        recall: Callable[[], list[StoredRecord]],
        handled: Callable[[StoredRecord], None],
        limit: int,
    ) -> None:
        self._begin = begin
        self._recall = recall
        self._handled = handled
        self._limit = limit
        self._lanes: dict[Lane, deque[StoredRecord]] = {}
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
        else:
            self._lanes[lane] = deque([record])
            self._begin(record)

    def finished(self, record: StoredRecord) -> None:
        """The first of its lane is done; the next one's turn."""
        lane = (record.partition, record.key)
        queue = self._lanes[lane]
        assert queue[0] is record, f"{record.place} is done, but {queue[0].place} was in work"
        queue.popleft()
        self._handled(record)
        self._count(-1)
        if queue:
            self._begin(queue[0])
        else:
            del self._lanes[lane]

    def drop_waiting(self) -> None:
        """Forget what has not begun: somebody else will read it again, or we will."""
        for queue in self._lanes.values():
            while len(queue) > 1:
                queue.pop()
                self._count(-1)
        for record in self._recall():
            del self._lanes[(record.partition, record.key)]
            self._count(-1)

    async def quiet(self, within: float) -> bool:
        """Wait until nothing is in hand, up to `within` seconds; says whether that came."""
        try:
            async with asyncio.timeout(within):
                await self._quiet.wait()
        except TimeoutError:
            return False
        return True

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
