"""Following partitions of a file log from positions that are kept here."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import NamedTuple

from saga.errors import Unavailable
from saga.log import file_tables as tables
from saga.log.base import StoredRecord, TopicPartition
from saga.log.file_bell import Bell
from saga.log.file_threads import Reading


class _Followed(NamedTuple):
    id: int
    position: int


class FileReader:
    """The port's Reader: a fetch with nothing to take sleeps until its partitions are written to, by whatever process."""

    def __init__(self, reading: Reading, bell: Bell) -> None:
        self._reading = reading
        self._bell = bell
        self._followed: dict[TopicPartition, _Followed] = {}
        self._changed = asyncio.get_running_loop().create_future()
        self._turn = 0
        self.closed = False

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        if self.closed:
            raise Unavailable("the reader is closed")
        wanted = list(positions)
        ids = await self._reading.do(lambda connection: [tables.find(connection, each) for each in wanted])
        self._followed.update({each: _Followed(known, positions[each]) for each, known in zip(wanted, ids, strict=True)})
        self._tell()

    async def unassign(self, partitions: Collection[TopicPartition]) -> None:
        for each in partitions:
            self._followed.pop(each, None)

    def position(self, partition: TopicPartition) -> int:
        return self._followed[partition].position

    async def close(self) -> None:
        self.closed = True
        self._followed.clear()
        self._tell()

    async def fetch(self, partitions: Collection[TopicPartition], *, limit: int, timeout: float) -> list[StoredRecord]:
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        while True:
            if self.closed:
                raise Unavailable("the reader is closed")
            wanted, changed = self._wanted(partitions), self._changed
            with self._bell.listening([known for _, known, _ in wanted]) as news:
                # From the answer to the return nothing is awaited: a cancelled fetch has taken nothing.
                found = await self._reading.do(lambda connection: tables.take(connection, wanted, limit)) if wanted else {}  # noqa: B023
                taken = self._advance(wanted, found)
                left = until - loop.time()
                if taken or left <= 0:
                    return taken
                await asyncio.wait([news, changed], timeout=left, return_when=asyncio.FIRST_COMPLETED)

    def _wanted(self, partitions: Collection[TopicPartition]) -> list[tuple[TopicPartition, int, int]]:
        """Another partition is first each time, so that a busy one does not starve the others."""
        wanted = [(each, *self._followed[each]) for each in sorted(partitions) if each in self._followed]
        self._turn += 1
        first = self._turn % len(wanted) if wanted else 0
        return wanted[first:] + wanted[:first]

    def _advance(
        self, wanted: list[tuple[TopicPartition, int, int]], found: Mapping[TopicPartition, list[StoredRecord]]
    ) -> list[StoredRecord]:
        """Step over what was found, except where the position was moved meanwhile."""
        taken: list[StoredRecord] = []
        for each, known, position in wanted:
            if each in found and self._followed.get(each) == (known, position):
                taken += found[each]
                self._followed[each] = _Followed(known, found[each][-1].offset + 1)
        return taken

    def _tell(self) -> None:
        self._changed.set_result(None)
        self._changed = asyncio.get_running_loop().create_future()
