"""The log in a folder: the embedded adapter of the port, on SQLite, for several processes of one machine. No broker, no server.

For trying, for developing, for small installations: the same sagas, tools and promises as on Kafka, on one machine. Durable: what is
acknowledged was synced to the disk (WAL mode, synchronous=FULL). A process may be killed at any moment; a batch is there as a whole
or not at all.

`file_tables` keeps records, `file_threads` commits in groups, `file_bell` wakes readers in other processes, `file_reader` follows
partitions, `file_group` has the rules of ownership and `file_membership` lives by them. The folder must be on a local disk (the
locks and the shared memory of SQLite's WAL do not work over a network), and all its processes in one container or none. A process
that is stopped (SIGSTOP) in the moment of a commit keeps all others from writing until it goes on or is killed.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path

from saga.errors import Misconfigured, SagaError, Unavailable
from saga.log import file_tables as tables
from saga.log.base import Appended, Bounds, Listener, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.file_bell import Bell
from saga.log.file_membership import FileMembership
from saga.log.file_reader import FileReader
from saga.log.file_threads import FILE, Reading, Transaction, Writing

logger = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  # between looks for changes that nobody rang for: their writer died after its commit
AGE_SECONDS = 300.0  # between looks for records that are older than their topic keeps them
SWEEP_ROWS = 500  # deleted in one transaction: short enough not to hold up appends


class FileLog:
    """The port's Log in `folder`, which is made if it is not there; unless `make` is off, for those who only look.

    `timeout` is the limit in seconds for one call, `session_timeout` the time after which a group goes on without a member that is
    silent. `client_id` begins the names of its members.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        client_id: str = "saga",
        timeout: float = 10.0,
        session_timeout: float = 10.0,
        make: bool = True,
    ) -> None:
        self._folder = Path(folder)
        self._make = make
        self._client = client_id
        self._session = session_timeout
        self._bell = Bell(self._folder / "bells")
        self._reading = Reading(self._folder, f"{client_id} reads", timeout)
        self._writing = Writing(self._folder, f"{client_id} writes", timeout, self._bell.ring)
        self._readers: list[FileReader] = []
        self._memberships: list[FileMembership] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Raises Misconfigured if the folder cannot be used or has no log, Corrupt if what is in it is damaged, Unavailable."""
        if not self._make and not (self._folder / FILE).exists():
            raise Misconfigured(
                f"there is no log in {self._folder.absolute()}: `saga topics apply` makes it, if SAGA_LOG and SAGA_PREFIX are right"
            )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._bell.open()
        except OSError as error:
            raise Misconfigured(f"the file log needs a folder on a local disk that it may write to: {error}") from error
        try:
            await self._writing.start()  # the first to come makes the tables, so it goes first
            await self._reading.start()
        except BaseException:
            await self.close()
            raise
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._age())]

    async def close(self) -> None:
        """Leaves its groups and lets go of everything."""
        for membership in self._memberships:
            await membership.leave()
        for reader in self._readers:
            await reader.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._writing.stop()
        await self._reading.stop()
        self._bell.close()

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        if not records:
            raise ValueError("an append needs at least one record")
        batch = tuple(records)
        return await self._writing.do(lambda transaction: _write(transaction, to, batch, whole=True))

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """All of them in one transaction. Raises Rejected if one is too large; then none is written."""
        by_partition: dict[TopicPartition, list[Record]] = {}
        for to, record in records:
            by_partition.setdefault(to, []).append(record)

        def write(transaction: Transaction) -> None:
            for to, batch in by_partition.items():
                _write(transaction, to, batch, whole=False)

        if by_partition:
            await self._writing.do(write)

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]:
        while start < end:
            lump = await self._reading.do(lambda connection: tables.lump(connection, partition, start, end))  # noqa: B023
            yield lump
            start = lump[-1].offset + 1

    async def bounds(self, partitions: Collection[TopicPartition], *, committed: bool = False) -> dict[TopicPartition, Bounds]:
        del committed  # what a reader gets to see is what was committed
        return await self._reading.do(lambda connection: tables.bounds(connection, partitions))

    async def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        return await self._reading.do(lambda connection: tables.offset_at(connection, partition, timestamp))

    def reader(self) -> FileReader:
        reader = FileReader(self._reading, self._bell)
        self._readers = [each for each in self._readers if not each.closed] + [reader]
        return reader

    async def join(self, group: str, topic: str, listener: Listener) -> FileMembership:
        membership = FileMembership(self._reading, self._writing, self._bell, listener)
        await membership.join(group, topic, self._client, self._session)
        self._memberships.append(membership)
        return membership

    async def trim(self, partition: TopicPartition, before: int) -> None:
        """Done when the start is raised; the rows go in small transactions, and if we die meanwhile, with the next trim."""
        await self._writing.do(lambda to: tables.raise_start(to.connection, partition, before))
        while await self._writing.do(lambda to: tables.sweep(to.connection, partition, SWEEP_ROWS)):
            pass

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        found = await self._reading.do(lambda connection: tables.describe(connection, topics))
        return {spec.name: spec for spec in found}

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        await self._writing.do(lambda to: tables.create(to.connection, topics))

    async def _watch(self) -> None:
        """Wake whoever waits if the file has changed and no bell may have rung for it."""
        known = 0
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if self._bell.awaited:
                try:
                    version = await self._reading.do(lambda at: int(at.execute("PRAGMA data_version").fetchone()[0]))
                except Unavailable as error:
                    logger.warning("looking for changes: %s", error)
                    continue
                if version != known:
                    known = version
                    self._bell.wake()

    async def _age(self) -> None:
        """Delete what is older than its topic's retention.ms. All processes look; the first one deletes."""
        while True:
            try:
                for partition, before in await self._reading.do(lambda at: tables.outdated(at, _now())):
                    await self.trim(partition, before)
            except SagaError as error:
                logger.warning("old records were not deleted, trying again later: %s", error)
            await asyncio.sleep(AGE_SECONDS)


def _write(transaction: Transaction, to: TopicPartition, records: Sequence[Record], *, whole: bool) -> Appended:
    known, stands = tables.append(transaction.connection, to, records, _now(), whole=whole)
    transaction.changed.add(known)
    return stands


def _now() -> int:
    return time.time_ns() // 1_000_000
