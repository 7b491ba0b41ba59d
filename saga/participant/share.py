"""A process's share of the commands: the partitions it owns for now, what it reads of them, and how far it got.

    assigned → taking over → reading ⇄ committing → revoked → …

The offset committed for a partition is that of its first record that is not done, so a crash at any moment means that some
records are read again, never that one is lost. A rebalance takes everything away first: what is in work is finished within a bound,
the rest is dropped and read again by whoever owns it next; the inbox sees to it that being read twice is harmless.
"""

from __future__ import annotations

import asyncio
import logging

from sqlalchemy.exc import SQLAlchemyError

from saga.errors import InputsLost, LostOwnership, Unavailable
from saga.log.base import Bounds, Log, Membership, Reader, StoredRecord, TopicPartition
from saga.participant.lanes import Lanes
from saga.participant.relay import Relay

FETCH = 500  # records taken at once
WAIT = 0.5  # seconds a fetch waits for the first record
REVOKED_WITHIN = 3.0  # seconds a rebalance waits for what is in work: the group goes on without members that take long
RETRY = 0.5  # seconds between tries while the log does not answer
TOLD = 20  # tries to join between two warnings

logger = logging.getLogger("saga.participant")


class Progress:
    """How far one partition is done. `read`: how far it was read, counting only records that were also begun here.

    The reader's own position will not do at any other moment than right after a fetch: it may already be past records that are on
    their way to us, and to commit it then would lose them.
    """

    def __init__(self, start: int) -> None:
        self.read = start
        self._open: dict[int, None] = {}  # offsets that are not done, in order

    def began(self, offset: int) -> None:
        self._open[offset] = None

    def done(self, offset: int) -> None:
        self._open.pop(offset, None)

    @property
    def position(self) -> int:
        """The offset to commit: of the first record not done, else how far was read."""
        return next(iter(self._open), self.read)


class Share:
    """What one member owns. Implements Listener; `read` is its task, `commit` and `leave` are for its runner."""

    def __init__(self, topic: str, log: Log, relay: Relay, lanes: Lanes) -> None:
        self._topic = topic
        self._log = log
        self._relay = relay
        self._lanes = lanes
        self._reader: Reader = log.reader()
        self._membership: Membership | None = None
        self._given: frozenset[int] = frozenset()
        self._rounds = 0  # counts what the group tells us, so that nothing is done for an ownership that is over
        self._told = asyncio.Event()
        self._progress: dict[TopicPartition, Progress] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._patience = REVOKED_WITHIN

    # Listener

    def assigned(self, partitions: frozenset[int]) -> None:
        self._given = partitions
        self._rounds += 1
        self._told.set()

    async def revoked(self, partitions: frozenset[int]) -> None:
        del partitions  # a rebalance takes everything away
        self._rounds += 1
        self._given = frozenset()
        self._lanes.drop_waiting()
        if not await self._lanes.quiet(self._patience):
            logger.warning("%s: gave up the partitions with work unfinished; its next owner runs it again", self._topic)
        await self.commit()
        owned, self._progress = self._progress, {}
        self._committed = {}
        await self._reader.unassign(list(owned))

    # The runner's

    @property
    def ready(self) -> bool:
        """In the group, and reading whatever it was given."""
        return self._membership is not None and (not self._given or bool(self._progress))

    async def join(self, group: str) -> None:
        tries = 0
        while self._membership is None:
            try:
                self._membership = await self._log.join(group, self._topic, self)
            except Unavailable as error:
                if tries % TOLD == 0:
                    logger.warning("%s: cannot join the group yet, trying on: %s", group, error)
                tries += 1
                await asyncio.sleep(RETRY)

    async def read(self) -> None:
        """Take what the group gives and read it, until cancelled."""
        round, ours = -1, False
        while True:
            try:
                if round != self._rounds:
                    round, ours = self._rounds, False
                    ours = await self._take(round)
                elif not ours:
                    await self._told.wait()
                    self._told.clear()
                else:
                    await self._lanes.room.wait()
                    await self._fetch(round)
            except InputsLost as error:
                logger.error("%s: a position is outside what the log holds: %s", self._topic, error)
                round = -1
            except (Unavailable, SQLAlchemyError) as error:
                logger.warning("%s: the log or the database does not answer, trying again: %s", self._topic, error)
                round = round if ours else -1
                await asyncio.sleep(RETRY)

    async def commit(self) -> None:
        """Commit how far each partition is done, if that has changed."""
        positions = {each: progress.position for each, progress in self._progress.items()}
        changed = {each: offset for each, offset in positions.items() if self._committed.get(each) != offset}
        if not changed or self._membership is None:
            return
        try:
            await self._membership.commit(changed)
            self._committed.update(changed)
        except (LostOwnership, Unavailable) as error:
            logger.info("%s: offsets not committed: %s", self._topic, error)

    async def leave(self, within: float) -> None:
        """Finish what is in work within a bound (seconds), commit, and leave the group."""
        self._patience = within
        if self._membership is not None:
            await self._membership.leave()
        await self._reader.close()

    def handled(self, record: StoredRecord) -> None:
        progress = self._progress.get(TopicPartition(record.topic, record.partition))
        if progress is not None:
            progress.done(record.offset)

    async def _take(self, round: int) -> bool:
        """Begin to read what was given: 1 publish what its last owner left · 2 find where to go on · 3 read; says if it did."""
        partitions = [TopicPartition(self._topic, number) for number in sorted(self._given)]
        if not partitions or self._membership is None:
            return False
        await self._relay.take_over()
        committed = await self._membership.committed(partitions)
        bounds = await self._log.bounds(partitions)
        positions = {each: _within(each, committed.get(each), bounds[each]) for each in partitions}
        if round != self._rounds:
            return False
        self._progress = {}
        await self._reader.unassign(partitions)
        await self._reader.assign(positions)
        if round != self._rounds:  # taken away again meanwhile
            await self._reader.unassign(partitions)
            return False
        self._progress = {each: Progress(start) for each, start in positions.items()}
        self._committed = {}
        return True

    async def _fetch(self, round: int) -> None:
        limit = max(1, min(FETCH, self._lanes.free))
        records = await self._reader.fetch(list(self._progress), limit=limit, timeout=WAIT)
        if round != self._rounds:
            return  # not ours any more: read again by whoever owns them now
        for record in records:
            self._progress[TopicPartition(record.topic, record.partition)].began(record.offset)
            self._lanes.add(record)
        for each, progress in self._progress.items():
            progress.read = self._reader.position(each)


def _within(partition: TopicPartition, committed: int | None, held: Bounds) -> int:
    """Where to read on. Outside what the partition holds: at its start, loudly; a command read twice does no harm."""
    if committed is None:
        return held.start
    if not held.start <= committed <= held.end:
        logger.error("%s: %d was committed, it holds %d to %d: commands may be lost", partition, committed, held.start, held.end)
        return held.start
    return committed
