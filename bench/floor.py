"""The floor: what the broker and the client library alone cost. `python -m bench.floor PREFIX`

It moves the records that the orchestrator moves, as many and as large, through the same log port, in the same loop for each partition
number: take what is there, append one batch to the journal, publish, again. But it decides nothing: no instance is found, no saga's code
runs, nothing is encoded. What it writes was written before, by a real orchestrator in the topics with that prefix; only the keys are new.
So no coordinator of this design in this language can be faster, and the ratio of the two is the engine's doing.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, replace

from bench.program import LOOK_SECONDS, follow, run
from bench.shop import SERVICES, STARTS, app
from saga.config import Config
from saga.connect import opened
from saga.engine.messages import REQUESTS, events_topic
from saga.log.base import Log, Outgoing, Reader, Record, TopicPartition
from saga.runtime.codec import JOURNAL, decision_from_json, decode, outgoing
from saga.runtime.task import FETCH_LIMIT

INPUTS = (STARTS, *(events_topic(name) for name in SERVICES))


@dataclass(frozen=True)
class Shape:
    """What one saga's inputs make: by the input's topic the journal's record and the records that leave; and a commit."""

    journal: dict[str, bytes]
    leaving: dict[str, list[Outgoing]]
    commit: bytes


async def shape(log: Log) -> Shape:
    """Of a saga that a real orchestrator ran to its end. Raises ValueError if there is none in the journal's first partition."""
    partition = TopicPartition(JOURNAL, 0)
    end = (await log.bounds([partition]))[partition].end
    sagas: dict[str, Shape] = {}
    async for lump in log.read(partition, 0, end):
        for record in lump:
            value = decode(record)
            if value["kind"] == "decision" and value["key"]:
                decision = decision_from_json(value)
                assert decision.input.at, f"{record.place} was decided by no record"
                found = sagas.setdefault(decision.key, Shape({}, {}, b""))
                found.journal[decision.input.at[0]] = record.value or b""
                found.leaving[decision.input.at[0]] = outgoing(decision, 0, record.timestamp)
            elif value["kind"] == "commit":
                complete = [found for found in sagas.values() if set(found.journal) == set(INPUTS)]
                if complete:
                    return replace(complete[0], commit=record.value or b"")
    raise ValueError(f"no saga with an input of each of {', '.join(INPUTS)} is in the journal")


async def move(log: Log, stop: asyncio.Event) -> None:
    """Do all partition numbers at once, each on its own, as the orchestrator's tasks do."""
    async with opened(replace(Config.read(), prefix=sys.argv[1]), "shape") as other:
        found = await shape(other)
    inputs = [[TopicPartition(topic, number) for topic in (REQUESTS, *INPUTS)] for number in range(app.partitions)]
    reader = await follow(log, [tp for each in inputs for tp in each])
    async with asyncio.TaskGroup() as group:
        for number, partitions in enumerate(inputs):
            group.create_task(_partition(log, reader, number, partitions, found, stop))
    await reader.close()


async def _partition(
    log: Log, reader: Reader, number: int, partitions: list[TopicPartition], shape: Shape, stop: asyncio.Event
) -> None:
    while not stop.is_set():
        records = await reader.fetch(partitions, limit=FETCH_LIMIT, timeout=LOOK_SECONDS)
        if records:
            journal = [Record(record.key, shape.journal[record.topic]) for record in records]
            await log.append(TopicPartition(JOURNAL, number), [*journal, Record(None, shape.commit)])
            await log.publish(
                [
                    Outgoing(TopicPartition(to.topic, number), Record(record.key, like.value, like.headers))
                    for record in records
                    for to, like in shape.leaving[record.topic]
                ]
            )


if __name__ == "__main__":
    run("floor", move)
