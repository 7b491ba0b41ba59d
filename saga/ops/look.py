"""Looking into the journal without taking part: no group is joined, nothing is written, nothing is kept.

What an instance is now is read from where its partition's owner would restore from, so in bounded time. What became of it on the
way is read from the log's start; and where that was trimmed, the first snapshot says what the instance was by then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from saga.engine.apply import apply
from saga.engine.decision import Decision, Send
from saga.engine.state import Instance, step_and_action
from saga.errors import Corrupt, Misconfigured
from saga.log.base import Bounds, StoredRecord, TopicPartition, TopicSpec
from saga.log.partition import home
from saga.runtime.codec import JOURNAL, decode
from saga.runtime.fold import Committed, Fold

Progress = Callable[[int, int], None]  # told how many records were read, and of how many

RACES = 3  # how often an owner may trim the journal while it is being opened


class Readable(Protocol):
    """As much of a log as is needed to look at a journal."""

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]: ...

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]: ...

    def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]: ...


class Moment(NamedTuple):
    """One decision of an instance, and the instance before and after it (None where the history that would tell was trimmed)."""

    at: int  # ms: its commit's time
    offset: int
    decision: Decision
    before: Instance | None
    after: Instance | None


@dataclass
class History:
    """What the journal holds of one instance: of its latest run, and of those before that it followed at once."""

    saga: str
    key: str
    partition: TopicPartition
    moments: list[Moment] = field(default_factory=list)
    state: Instance | None = None  # as its last decision left it
    earlier: list[str] = field(default_factory=list)  # instance ids of runs before, which had been forgotten when this one began

    @property
    def trimmed(self) -> bool:
        """Its beginning is no longer in the journal."""
        return not self.moments or self.moments[0].decision.seq > 1

    def sent(self) -> dict[str, int]:
        """When the last command for each step of the latest run was sent, in ms, as far as is known."""
        found: dict[str, int] = {}
        run = self.state.id if self.state is not None else ""
        for moment in self.moments:
            if moment.decision.instance != run:
                continue
            for output in moment.decision.outputs:
                if isinstance(output, Send):
                    step, _ = step_and_action(output.command)
                    found[step] = moment.at
        return found


class Histories:
    """Collects one key's histories from the batches of its home partition; `saga` narrows it to one definition."""

    def __init__(self, partition: TopicPartition, key: str, saga: str | None = None) -> None:
        self.partition = partition
        self.key = key
        self.saga = saga
        self.found: dict[str, History] = {}

    def take(self, batch: Committed) -> None:
        for value in batch.snapshot:
            if value["kind"] == "snapshot.part" and value["instance"]["key"] == self.key:
                self._know(Instance.from_json(value["instance"]))
        for offset, decision in enumerate(batch.decisions, batch.base + len(batch.snapshot)):
            if decision.key == self.key and decision.seq and self._wanted(decision.saga):
                self._add(self._history(decision.saga), offset, decision, batch.commit["now"])

    def _wanted(self, saga: str) -> bool:
        return self.saga in (None, saga)

    def _history(self, saga: str) -> History:
        return self.found.setdefault(saga, History(saga, self.key, self.partition))

    def _know(self, state: Instance) -> None:
        if self._wanted(state.saga) and (history := self._history(state.saga)).state is None:
            history.state = state

    def _add(self, history: History, offset: int, decision: Decision, at: int) -> None:
        if decision.seq == 1:
            if history.state is not None:
                history.earlier.append(history.state.id)
            history.moments, history.state = [], None
        before = history.state
        if before is not None or decision.seq == 1:
            history.state = apply(before.copy() if before is not None else None, decision)
        history.moments.append(Moment(at, offset, decision, before, history.state))


class Journals:
    """The journal's partitions, to be read. The log must be open."""

    def __init__(self, log: Readable, progress: Progress | None = None) -> None:
        self.log = log
        self._progress = progress
        self._read = 0
        self._to_read = 0
        self._count = 0

    async def partitions(self) -> list[TopicPartition]:
        """Raises Misconfigured if there is no journal."""
        if not self._count:
            there = await self.log.describe([JOURNAL])
            if JOURNAL not in there:
                raise Misconfigured(
                    f"there is no topic {JOURNAL} here: `saga topics apply` makes it, if SAGA_BOOTSTRAP, SAGA_PREFIX and SAGA_LOG are right"
                )
            self._count = there[JOURNAL].partitions
        return [TopicPartition(JOURNAL, number) for number in range(self._count)]

    async def chosen(self, number: int | None) -> list[TopicPartition]:
        """One of them, or (None) all. Raises Misconfigured if there is none of this number."""
        there = await self.partitions()
        if number is None:
            return there
        if not 0 <= number < len(there):
            raise Misconfigured(f"the journal has the partitions 0 to {len(there) - 1}; there is no {number}")
        return [there[number]]

    async def home(self, key: str) -> TopicPartition:
        partitions = await self.partitions()
        return partitions[home(key, len(partitions))]

    async def fold(
        self, partition: TopicPartition, take: Callable[[Committed], None] | None = None, *, whole: bool = False
    ) -> Fold:
        """Read a partition up to its end; `take` is given each batch that counts. `whole`: from the log's start.

        Raises Corrupt for a journal that contradicts itself, Unavailable if the log cannot be reached.
        """
        for _ in range(RACES):
            start, end = await self._range(partition, whole)
            fold = Fold(partition, start)
            self._to_read += end - start
            try:
                async for lump in self.log.read(partition, start, end):
                    for record in lump:
                        batch = fold.feed(record)
                        if batch is not None and take is not None:
                            take(batch)
                    self._tell(len(lump))
            except Corrupt:
                if fold.next == start and (await self.log.bounds([partition]))[partition].start > start:
                    continue  # trimmed meanwhile, before anything was read
                raise
            return fold
        raise Corrupt(f"{partition}: its beginning is trimmed faster than it can be read")

    async def histories(self, key: str, saga: str | None = None, *, whole: bool = True) -> list[History]:
        """What the journal tells of a key, a history a saga. Without `whole` the states are right but the moments are the latest."""
        partition = await self.home(key)
        histories = Histories(partition, key, saga)
        await self.fold(partition, histories.take, whole=whole)
        return [history for history in histories.found.values() if history.state is not None]

    async def _range(self, partition: TopicPartition, whole: bool) -> tuple[int, int]:
        bounds = (await self.log.bounds([partition]))[partition]
        if whole or bounds.end == bounds.start:
            return bounds.start, bounds.end
        restore_from = 0
        async for lump in self.log.read(partition, bounds.end - 1, bounds.end):
            for record in lump:
                value = decode(record)
                if "restore_from" not in value:
                    raise Corrupt(f"{record.place}: the journal ends inside a batch")
                restore_from = value["restore_from"]
        return max(restore_from, bounds.start), bounds.end

    def _tell(self, records: int) -> None:
        self._read += records
        if self._progress is not None:
            self._progress(self._read, self._to_read)
