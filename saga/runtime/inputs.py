"""Which input partitions a task reads, and from where: the journal's positions, checked against what the topics hold now.

The owner of partition number n reads, of every input topic, the partitions q with q mod P = n. So a team's own topics may have any
number of partitions, and may grow.

A position is a promise: all inputs below it were decided. Where the topic no longer fits it, nothing may be skipped without a word:

    position below the log's start                  retention ate inputs that were not yet decided
    position above the end, or another record       the topic was deleted and made anew
    where the last one stood (by its checksum)
    no such topic                                   it was deleted

Each stops this partition until an operator accepts the loss, which is then itself recorded in the journal.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from saga.engine.messages import REQUESTS
from saga.errors import InputsLost
from saga.log.base import LATEST, Bounds, Log, TopicPartition
from saga.runtime.codec import checksum
from saga.runtime.fold import Position

GONE = 0  # how many partitions a topic has that is no longer there


class Inputs:
    """The inputs of partition number `number`. `positions` and `topics` are what the next commit writes.

    `positions` may hold partitions that are not read: of a topic that no definition needs any more, but may need again.
    """

    def __init__(self, log: Log, number: int, partitions: int, begin: str | datetime) -> None:
        self._log = log
        self._number = number
        self._partitions = partitions
        self._begin = begin
        self.positions: dict[TopicPartition, Position] = {}
        self.topics: dict[str, int] = {}
        self.reading: list[TopicPartition] = []  # what `find` found

    def wanted(self, counts: Mapping[str, int]) -> list[TopicPartition]:
        """What is to be read, given how many partitions each input topic has now (GONE: it was deleted); the owner before us may have
        seen one grow that we have not seen yet. Raises InputsLost for what was read of a topic that is gone.
        """
        if gone := [tp for tp in self.positions if counts.get(tp.topic) == GONE]:
            topics, accept = sorted({tp.topic for tp in gone}), " ".join(f"--accept-loss {tp}" for tp in gone)
            raise InputsLost(
                f"topic {', '.join(topics)} was deleted, with what was not yet decided. "
                f"Make it anew with `saga topics apply`, then run with {accept}"
            )
        there = [TopicPartition(topic, q) for topic, count in counts.items() for q in range(self._number, count, self._partitions)]
        return there + [tp for tp in self.positions if tp.topic in counts and tp not in there]

    async def find(
        self, counts: Mapping[str, int], accept_loss: Collection[TopicPartition]
    ) -> tuple[dict[TopicPartition, int], list[str]]:
        """Where to begin with each partition that is not read yet; and what had to be accepted, or begun anew, in sentences.

        Raises InputsLost, saying what is missing and how to accept it.
        """
        wanted = self.wanted(counts)
        bounds = await self._log.bounds(wanted)
        notes: list[str] = []
        for topic, count in counts.items():
            if topic not in self.topics:  # also where nothing of it is ours yet: what is ours later was added later
                self.topics[topic] = count
                notes.append(f"{topic} has {count} partitions")
        for tp in wanted:
            known = self.positions.get(tp)
            if known is None:
                offset = await self._first(tp, bounds[tp])
                notes.append(f"{tp} begins at {offset}")
                self.positions[tp] = Position(offset, 0)
            elif problem := await self._problem(tp, known, bounds[tp]):
                if tp not in accept_loss:
                    raise InputsLost(f"{problem}. To go on without them, run with --accept-loss {tp}")
                notes.append(f"loss accepted: {problem}; goes on at {bounds[tp].start}")
                self.positions[tp] = Position(bounds[tp].start, 0)
        self.reading = wanted
        return {tp: self.positions[tp].offset for tp in wanted}, notes

    def reached(self, tp: TopicPartition, offset: int) -> None:
        """Everything below `offset` was read: past the last record, too, where there is nothing that anybody is given."""
        known = self.positions[tp]
        self.positions[tp] = Position(offset, known.checksum, known.gap + offset - known.offset)

    async def _first(self, tp: TopicPartition, bounds: Bounds) -> int:
        """Where a partition is first read from: as the app says; one that was added to a topic later, from its start."""
        if self._begin == "earliest" or tp.topic == REQUESTS or tp.partition >= self.topics[tp.topic]:
            return bounds.start
        if isinstance(self._begin, datetime):
            return await self._log.offset_at(tp, int(self._begin.timestamp() * 1000))
        return await self._log.offset_at(tp, LATEST)

    async def _problem(self, tp: TopicPartition, known: Position, bounds: Bounds) -> str:
        if known.offset < bounds.start:
            return f"{tp}: inputs from {known.offset} to {bounds.start - 1} were deleted before they were decided (retention)"
        if known.offset > bounds.end:
            return f"{tp} ends at {bounds.end}, before the position {known.offset}: the topic was deleted and made anew"
        last = known.offset - 1 - known.gap
        if known.checksum and last >= bounds.start:
            async for lump in self._log.read(tp, last, last + 1):
                for record in lump:
                    if checksum(record) != known.checksum:
                        return f"{tp}: another record stands at {last} than was read there: the topic was made anew"
        return ""
