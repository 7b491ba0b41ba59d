"""Watching from outside, through Kafka alone: how the sagas stand, and who owns which partition of the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from saga.cloudevents import parse
from saga.log.base import Log, StoredRecord, TopicPartition
from saga.runtime.codec import EVENTS, JOURNAL, decode

FETCH = 2_000  # records at once
WAIT_SECONDS = 0.2


class Ownership(NamedTuple):
    """Who decides in a partition, since when (the broker's clock, ms), and when it first did so (0: not yet)."""

    owner: str
    claimed: int
    decided: int


@dataclass
class Watch:
    """The tally so far, by instance: what is told twice counts once."""

    started: set[str] = field(default_factory=set)
    completed: set[str] = field(default_factory=set)
    compensated: set[str] = field(default_factory=set)
    parked: dict[str, str] = field(default_factory=dict)  # instance → why
    owners: dict[int, Ownership] = field(default_factory=dict)

    @property
    def settled(self) -> int:
        return len(self.completed) + len(self.compensated)

    @property
    def running(self) -> int:
        return len(self.started - self.completed - self.compensated - self.parked.keys())

    def owned_by(self, pid: int) -> dict[int, Ownership]:
        """The partitions whose present owner is this process: an owner's name ends in its process id and a random part."""
        return {number: found for number, found in self.owners.items() if found.owner.split("-")[-2] == str(pid)}

    async def follow(self, log: Log, partitions: int) -> None:
        """Read on until cancelled."""
        reader = log.reader()
        every = [TopicPartition(topic, number) for topic in (EVENTS, JOURNAL) for number in range(partitions)]
        try:
            await reader.assign(dict.fromkeys(every, 0))
            while True:
                for record in await reader.fetch(every, limit=FETCH, timeout=WAIT_SECONDS):
                    self._see(record)
        finally:
            await reader.close()

    def _see(self, record: StoredRecord) -> None:
        if record.topic == JOURNAL:
            self._journal(record)
        else:
            self._event(record)

    def _event(self, record: StoredRecord) -> None:
        event = parse(record)
        instance = event.data["instance"]
        match event.type:
            case "saga.started.v1":
                self.started.add(instance)
            case "saga.completed.v1":
                self.completed.add(instance)
            case "saga.compensated.v1":
                self.compensated.add(instance)
            case "saga.parked.v1":
                self.parked[instance] = f"{event.data['reason']} {event.data['detail']}".strip()
            case "saga.resumed.v1":
                self.parked.pop(instance, None)

    def _journal(self, record: StoredRecord) -> None:
        value = decode(record)
        if value["kind"] == "claim":
            self.owners[record.partition] = Ownership(value["owner"], record.timestamp, 0)
        elif value["kind"] == "commit" and value["offset"] == record.offset and value["count"] > 1:
            now = self.owners[record.partition]
            self.owners[record.partition] = now._replace(decided=now.decided or record.timestamp)
