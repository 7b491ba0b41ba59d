"""A journal in a file: exported where the log is, read where the log is not, as in CI.

One line of JSON for each record, with its place; its value stands in it as JSON, so a person can read and `jq` can choose.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import TextIO

import orjson

from saga.errors import Corrupt, Misconfigured
from saga.log.base import Bounds, StoredRecord, TopicPartition, TopicSpec
from saga.ops.look import Readable
from saga.runtime.codec import JOURNAL, decode, encode

LUMP = 500  # records that are read at once


async def export(log: Readable, file: TextIO, partitions: Sequence[TopicPartition]) -> int:
    """Write all that the journal holds, whose `partitions` these are; gives the number of records.

    Raises Unavailable, and Corrupt for what this package did not write, or if it is trimmed meanwhile.
    """
    written = 0
    for partition, bounds in (await log.bounds(partitions)).items():
        async for lump in log.read(partition, bounds.start, bounds.end):
            for record in lump:
                place = {"partition": partition.partition, "of": len(partitions), "offset": record.offset, "time": record.timestamp}
                file.write(orjson.dumps({**place, "value": decode(record)}).decode() + "\n")
                written += 1
    return written


class Recorded:
    """A journal that was exported, to be looked at like a log."""

    def __init__(self, path: Path) -> None:
        """Raises Misconfigured if the file cannot be read or is none."""
        self._records: dict[TopicPartition, list[StoredRecord]] = {}
        self._partitions = 0
        try:
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    self._add(json.loads(line), f"{path}:{number}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Misconfigured(f"{path} is no journal that `saga journal export` wrote: {error!r}") from None
        if not self._partitions:
            raise Misconfigured(f"{path} is empty")

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        return {JOURNAL: TopicSpec(JOURNAL, self._partitions)} if JOURNAL in topics else {}

    async def bounds(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        return {partition: self._bounds(self._records.get(partition, [])) for partition in partitions}

    async def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]:
        held = self._records.get(partition, [])
        if start < (first := self._bounds(held).start):
            raise Corrupt(f"{partition} begins at {first}; {start} is not there")
        for at in range(start - first, end - first, LUMP):
            yield held[at : min(at + LUMP, end - first)]

    def _add(self, line: dict[str, object], where: str) -> None:
        partition, of, offset, time = (int(str(line[name])) for name in ("partition", "of", "offset", "time"))
        self._partitions = self._partitions or of
        held = self._records.setdefault(TopicPartition(JOURNAL, partition), [])
        if of != self._partitions or not 0 <= partition < of or (held and offset != held[-1].offset + 1):
            raise ValueError(f"{where}: partition {partition} of {of}, offset {offset}, does not follow what stands before it")
        held.append(StoredRecord(JOURNAL, partition, offset, time, None, encode(line["value"])))

    def _bounds(self, held: list[StoredRecord]) -> Bounds:
        return Bounds(held[0].offset, held[-1].offset + 1) if held else Bounds(0, 0)
