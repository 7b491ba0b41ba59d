"""A key that no instance has: what is on its way for it, or was set aside.

The journal only knows what was decided. "It never started" is then true and misleads whoever published it a minute ago, while no
orchestrator ran. So the inputs behind the journal's positions are looked through, and the dead letters; never more than the last
`MOST` records of each partition, since somebody waits for the answer.
"""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Collection, Iterator
from typing import NamedTuple

from saga.engine.messages import DEADLETTERS, REQUESTS
from saga.log.base import Log, StoredRecord, TopicPartition
from saga.ops.deadletters import DeadLetter, dead_letters
from saga.ops.words import ago, duration, plain
from saga.runtime.fold import Fold

MOST = 5_000
NOTHING = "it never started, or was forgotten"


class Undecided(NamedTuple):
    """A record behind the journal's position."""

    record: StoredRecord
    is_of_key: bool


async def what_is_missing(log: Log, fold: Fold, key: str, topics: Collection[str], now: int) -> str:
    """A clause on what became of a key: of its home's `fold`, and `topics` that would be read there. `now` in ms."""
    clauses = [text async for text in _set_aside(log, key, now)]
    waiting = [found async for found in _undecided(log, fold, topics, key)]
    its = [found.record for found in waiting if found.is_of_key]
    for record in its:
        said = plain(DeadLetter(record).type) or "a record"
        clauses.append(
            f"its {said} is in {record.topic}:{record.partition} and not decided yet, since {duration(now - record.timestamp)} "
            "(does an orchestrator run?)"
        )
    if not clauses and waiting:
        many = f"{len(waiting)} input{'s' if len(waiting) > 1 else ''}"
        places = ", ".join(sorted({f"{found.record.topic}:{found.record.partition}" for found in waiting}))
        which = f"{many} of {places} {'are' if len(waiting) > 1 else 'is'}"
        clauses.append(f"{NOTHING}; but {which} not decided yet (does an orchestrator run?)")
    return "; ".join(clauses) or NOTHING


async def _set_aside(log: Log, key: str, now: int) -> AsyncIterator[str]:
    if DEADLETTERS not in await log.describe([DEADLETTERS]):
        return
    letters = [letter async for letter in dead_letters(log) if letter.is_of(key)]
    for letter in letters[-1:]:
        why = plain(letter.why)
        more = f", the last of {len(letters)}" if len(letters) > 1 else ""
        said, find = plain(letter.type) or "record", f"saga deadletters --key {shlex.quote(plain(key))}"
        yield f"its {said} was set aside as a dead letter {ago(letter.at, now)}{more} ({why}); `{find}` has it"


async def _undecided(log: Log, fold: Fold, topics: Collection[str], key: str) -> AsyncIterator[Undecided]:
    positions = {}
    there = await log.describe(sorted({REQUESTS, *topics, *(partition.topic for partition in fold.positions)}))
    for topic, spec in there.items():
        for partition in _read_at(topic, spec.partitions, fold):
            read = fold.positions.get(partition)
            positions[partition] = read.offset if read is not None else 0
    bounds = await log.bounds(sorted(positions), committed=True)
    for partition, (start, end) in bounds.items():
        begin = max(start, positions[partition], end - MOST)
        if begin >= end:
            continue
        async for lump in log.read(partition, begin, end):
            for record in lump:
                yield Undecided(record, DeadLetter(record).is_of(key))


def _read_at(topic: str, partitions: int, fold: Fold) -> Iterator[TopicPartition]:
    """The partitions of an input topic that the owner of this journal partition reads."""
    count = fold.partitions or partitions
    yield from (TopicPartition(topic, n) for n in range(fold.partition.partition, partitions, count))
