"""Dead letters: what could not be read or taken, why, and publishing it again where it came from.

A dead letter has the bytes and headers of its record, where that stood (`ce_sagaorigin`), and why it is there. So when its cause is
gone, new code or a fixed sender's mistake aside, it goes to its origin's partition once more and is decided like any other record.
That is harmless for what came through already: it has its own id still, and an input is decided once. A record without `ce_id` and
`ce_source` is known by where it stands, so it counts as another; a start is then still known by its key.

Nothing marks a dead letter as redriven: its topic is a log, and forgets it after its retention.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from saga.cloudevents import iso_time, parse_json
from saga.deadletter import SAMPLE
from saga.engine.messages import DEADLETTERS
from saga.errors import Misconfigured, Rejected, Unreadable
from saga.log.base import Log, Outgoing, Record, StoredRecord, TopicPartition, TopicSpec
from saga.ops.look import Readable

logger = logging.getLogger(__name__)

_WHY = ("ce_sagareason", "ce_sagadetail")  # why it was set aside the last time; if it is again, the reason of then is added

# Reasons with which one that goes back may do harm, or cannot do good: a person looks at each.
LOOK_FIRST = {
    "unknown-saga": "if its parent has turned back since, nobody waits for it (`saga why`); with --reason unknown-saga it goes",
    "conflict": "its key was used for other data, which stands",
    "contradiction": "it contradicts what was decided",
}


class Place(NamedTuple):
    """Where a dead letter stands in its topic; written 5:78."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Wanted:
    """Which dead letters are meant; what is empty takes all. `topic`: where they came from; `older`: set aside so many ms ago."""

    places: Sequence[Place] = ()
    topic: str | None = None
    reason: str | None = None
    key: str | None = None
    older: int = 0

    def takes(self, letter: DeadLetter, now: int) -> bool:
        return (
            (not self.places or letter.place in self.places)
            and self.topic in (None, letter.origin.rpartition(":")[0].rpartition(":")[0])
            and self.reason in (None, letter.reason)
            and (self.key is None or letter.is_of(self.key))
            and now - letter.at >= self.older
        )


class DeadLetter:
    """One record of `saga.deadletter`. Its headers may be anything: that may be why it is here."""

    def __init__(self, record: StoredRecord) -> None:
        self.record = record
        self.place = Place(record.partition, record.offset)
        self.at = record.timestamp  # ms since 1970
        self.key = "" if record.key is None else record.key.decode(errors="replace")
        self.origin = self.said("sagaorigin")
        self.reason = self.said("sagareason")
        self.detail = self.said("sagadetail")
        self.type = self.said("type")

    def said(self, name: str) -> str:
        """A CloudEvents header; the last one, where it stands twice, since ours come last."""
        found = [value for header, value in self.record.headers if header == f"ce_{name}"]
        return found[-1].decode(errors="replace") if found else ""

    @property
    def why(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason

    def is_of(self, key: str) -> bool:
        return key in (self.key, self.said("subject"))

    def to_json(self) -> dict[str, Any]:
        """All of it, for programs: its value as JSON if it is JSON, else as text."""
        raw = self.record.value
        try:
            value = parse_json(raw)
        except Unreadable:
            value = None if raw is None else raw.decode(errors="replace")
        return {
            "at": str(self.place),
            "time": iso_time(self.at),
            "origin": self.origin,
            "type": self.type,
            "key": self.key,
            "reason": self.reason,
            "detail": self.detail,
            "headers": {name: (text or b"").decode(errors="replace") for name, text in self.record.headers},
            "value": value,
        }

    @property
    def way(self) -> TopicPartition | None:
        """Where it came from, if it says so."""
        place, _, offset = self.origin.rpartition(":")
        topic, _, partition = place.rpartition(":")
        return TopicPartition(topic, int(partition)) if topic and partition.isdecimal() and offset.isdecimal() else None

    def stays(self, topics: Mapping[str, TopicSpec]) -> str:
        """Why it cannot go back; "" if it can. `topics`: those that are there."""
        if self.way is None:
            return "it does not say where it came from"
        if len(self.record.value or b"") == SAMPLE:
            return f"it was too large, and only its beginning is here; {self.origin} had the whole"
        spec = topics.get(self.way.topic)
        return f"{self.way} is not there any more" if spec is None or self.way.partition >= spec.partitions else ""

    def again(self) -> Outgoing:
        """It as it came, to where it came from."""
        assert self.way is not None
        headers = tuple(header for header in self.record.headers if header[0] not in _WHY)
        return Outgoing(self.way, Record(self.record.key, self.record.value, headers))


async def dead_letters(log: Readable) -> AsyncIterator[DeadLetter]:
    """All that are kept, partition by partition. Raises Misconfigured if the topic is not there, Unavailable."""
    there = await log.describe([DEADLETTERS])
    if DEADLETTERS not in there:
        raise Misconfigured(f"there is no topic {DEADLETTERS} here: `saga topics apply` makes it")
    partitions = [TopicPartition(DEADLETTERS, number) for number in range(there[DEADLETTERS].partitions)]
    for partition, bounds in (await log.bounds(partitions)).items():
        async for lump in log.read(partition, bounds.start, bounds.end):
            for record in lump:
                yield DeadLetter(record)


async def chosen(log: Readable, wanted: Wanted, now: int) -> list[DeadLetter]:
    """Those that are meant, the oldest first.

    Dead letters are published at least once: of several that are one record, which only stood in one place, the last is given. But
    what is named is given.
    """
    found = [letter async for letter in dead_letters(log) if wanted.takes(letter, now)]
    if not wanted.places:
        found = list({(letter.origin or letter.place, letter.record.value): letter for letter in found}.values())
    return sorted(found, key=lambda letter: (letter.at, letter.place))


async def ways_back(log: Log, letters: Sequence[DeadLetter], wanted: Wanted) -> tuple[list[tuple[DeadLetter, Outgoing]], list[str]]:
    """What would be published again, and a sentence for each that stays.

    One that is named stays only if there is no way; of many, those stay too whose reason asks for a look at each, unless it is named.
    Raises Misconfigured if one that is named by its place stays.
    """
    places = [letter.way for letter in letters if letter.way is not None]
    topics = await log.describe(sorted({to.topic for to in places}))
    goes, stays = [], []
    for letter in letters:
        why_not = letter.stays(topics)
        if not why_not and not wanted.places and wanted.reason is None:
            why_not = LOOK_FIRST.get(letter.reason, "")
        if not why_not:
            goes.append((letter, letter.again()))
        elif wanted.places:
            raise Misconfigured(f"{letter.place} stays: {why_not}")
        else:
            stays.append(f"{letter.place} stays: {why_not}")
    return goes, stays


async def redrive(
    log: Log, letters: Sequence[tuple[DeadLetter, Outgoing]], rate: float
) -> AsyncIterator[tuple[DeadLetter, Outgoing]]:
    """Publish them again, at most `rate` a second; each is given out when it is acknowledged. Raises Unavailable."""
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for number, (letter, record) in enumerate(letters):
        await asyncio.sleep(max(0.0, begin + number / rate - loop.time()))
        try:
            await log.publish([record])
        except Rejected as error:
            logger.warning("%s stays: %s", letter.place, error)
            continue
        yield letter, record
