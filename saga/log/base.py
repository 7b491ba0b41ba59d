"""The log port: everything the rest of this package asks of Kafka, small enough to read in a minute.

Three facts are relied upon, and nothing else:
1. A batch appended to one partition stands there as a whole, in order, at consecutive offsets, and an acknowledged one stays.
2. The answer to an append tells the offset where the batch really stands.
3. A group gives each partition of a topic to one live member at a time, more or less (less: a paused member may not know yet).

Three adapters pass one contract suite (`tests/log`): `memory` (deterministic, for tests and simulation), `file` (SQLite in a folder,
for one machine without a broker) and `kafka` (production).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

Headers = tuple[tuple[str, bytes], ...]

LATEST = -1  # for `offset_at`: the end of the partition, as Kafka's ListOffsets has it


class TopicPartition(NamedTuple):
    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}"


@dataclass(frozen=True, slots=True)
class Record:
    """A record to be written; where it goes is said beside it."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as it stands in the log. `timestamp` is in milliseconds since 1970, whatever its writer put there."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()

    @property
    def place(self) -> str:
        """Where it stands, `<topic>:<partition>:<offset>`: what messages and `sagaorigin` call it by."""
        return f"{self.topic}:{self.partition}:{self.offset}"


class Outgoing(NamedTuple):
    """A record and the partition it goes to."""

    to: TopicPartition
    record: Record


class Appended(NamedTuple):
    """Where a batch stands: the offset of its first record, and the broker's append time in ms since 1970."""

    offset: int
    timestamp: int


class Bounds(NamedTuple):
    """The offsets a partition holds: from `start` up to, not including, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class TopicSpec:
    """A topic as it should be, or as it is; `config` holds only settings that matter to somebody here."""

    name: str
    partitions: int
    replication: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


class Reader(Protocol):
    """Reads partitions that its user names, from positions that its user keeps; several tasks may share one."""

    async def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Begin to read these partitions too, each at its offset. The partitions assigned earlier go on undisturbed."""

    async def unassign(self, partitions: Collection[TopicPartition]) -> None:
        """Stop reading these; what was fetched ahead of them is dropped."""

    async def fetch(self, partitions: Collection[TopicPartition], *, limit: int, timeout: float) -> list[StoredRecord]:
        """Take up to `limit` records of these partitions, in offset order within each; wait up to `timeout` seconds for the first.

        Safe to cancel: a record is either returned or still there. Raises InputsLost where a position lies outside what the
        partition holds, Unavailable if the log cannot be reached.
        """

    def position(self, partition: TopicPartition) -> int:
        """The offset up to which `fetch` has returned all there is, markers of foreign transactions included."""

    async def close(self) -> None: ...


class Listener(Protocol):
    """Told by a membership what this member owns. A rebalance takes everything away, then gives anew."""

    def assigned(self, partitions: frozenset[int]) -> None:
        """These partition numbers are ours now: the whole set. Must return at once (the group waits)."""

    async def revoked(self, partitions: frozenset[int]) -> None:
        """These are no longer ours once this returns; must return within a few seconds, else the group goes on without us."""


class Membership(Protocol):
    """A place in a consumer group."""

    async def committed(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The group's committed offsets; a partition without one is left out."""

    async def commit(self, positions: Mapping[TopicPartition, int]) -> None:
        """Commit offsets for the group. Raises LostOwnership if the group has moved on, Unavailable if it does not answer."""

    async def leave(self) -> None:
        """Leave at once, so that the others need not wait for a time-out. `revoked` is called for what is still owned."""


class Log(Protocol):
    """A client of the log; open it once for a process, close it at the end."""

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        """Append these records as one batch and say where they stand.

        Raises Unavailable if the outcome is not known or it was not done: it may still land, later. The caller must not repeat
        it blindly. Raises Rejected if the log refuses it for good (too large), ValueError if there are no records.
        """

    async def publish(self, records: Sequence[Outgoing]) -> None:
        """Write records and wait until every one is acknowledged; order is kept within each partition.

        Raises Unavailable if one is not: then any of them may have been written, and the caller publishes all of them again.
        Raises Rejected if one is refused for good (too large): any of the others may have been written.
        """

    def read(self, partition: TopicPartition, start: int, end: int) -> AsyncIterator[list[StoredRecord]]:
        """All records from `start` up to, not including, `end`, in order, in lumps; aborted foreign writes too.

        Raises Corrupt when `start` is below what the partition holds, Unavailable if the log cannot be reached.
        """

    async def bounds(self, partitions: Collection[TopicPartition], *, committed: bool = False) -> dict[TopicPartition, Bounds]:
        """What each partition holds now. `committed`: the end is the last stable offset, up to which a reader gets to see.

        Raises Unavailable if the log cannot be reached or a partition does not exist.
        """

    async def offset_at(self, partition: TopicPartition, timestamp: int) -> int:
        """The first offset whose record is not older than `timestamp` (ms since 1970, or LATEST); the end if there is none."""

    def reader(self) -> Reader: ...

    async def join(self, group: str, topic: str, listener: Listener) -> Membership:
        """Become a member of a consumer group on one topic; `listener` is told what is owned, soon and from then on."""

    async def trim(self, partition: TopicPartition, before: int) -> None:
        """Delete all records below `before`."""

    async def describe(self, topics: Collection[str]) -> dict[str, TopicSpec]:
        """The topics that exist among these, as they are, with all their settings."""

    async def create(self, topics: Sequence[TopicSpec]) -> None:
        """Create topics; one that exists already is left as it is. Raises Misconfigured if the log refuses one."""
