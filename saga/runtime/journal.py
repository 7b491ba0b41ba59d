"""The journal: one topic is the truth, and this is the only writer of it.

    claim ──▶ commit ──▶ commit ──▶ …          until a batch does not stand where it said, or nobody knows where it stands

The problem: two processes may both believe that they own a partition (one was paused, or cut off), and an append may be done although
its answer was lost, even much later. The naive ways are a lock (the paused owner still holds it) and a Kafka transaction per commit
(ten times as slow, and aiokafka's first version of that protocol can end the wrong one). The way taken needs only what every
Kafka-compatible broker promises: a batch is appended as a whole, in order, and an acknowledged one stays.

To own a partition: read it to its end, append a `claim`, and read on to it. Whatever an earlier owner still has on the way now
lands behind a record that its writer did not know of, so it does not stand where it says, and is void (see `fold`). The
answer to each append tells this owner, too, whether it still is one:

    the batch stands where it was expected        it counts; adopt it
    it stands elsewhere                           somebody else wrote: LostOwnership
    time-out, connection lost, offset unknown     nobody knows: LostOwnership

After LostOwnership everything in memory is dropped, and the partition claimed again if it is still assigned. An append is never sent
again: the claim makes it void if it has not landed, and the fold finds it if it has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saga.engine.graph import difference
from saga.errors import Corrupt, LostOwnership, Misconfigured, Rejected, Unavailable
from saga.log.base import Appended, Bounds, Log, Record, StoredRecord, TopicPartition
from saga.runtime.batch import Batch
from saga.runtime.codec import FORMAT, JOURNAL, decode, encode
from saga.runtime.fold import Committed, Fold, Position, positions_json
from saga.runtime.states import Slot

PART_BYTES = 256 * 1024  # of a snapshot in one commit: a commit stays well below the broker's default limit of 1 MB
# A commit with more than this of decisions has no room for a part of a snapshot (one state may have 1 MiB).
ROOM_BYTES = 1024 * 1024


@dataclass(frozen=True)
class JournalSettings:
    """What an owner writes into a journal and when it takes a snapshot.

    `outlines` are the registered definitions ("<saga> <version>" → {hash, outline}). A snapshot begins when the journal has grown by more
    than the last one's size, but at least `snapshot_bytes`; or after `snapshot_ms` if it has grown at all. `history_ms`: how much
    of the journal to keep before the newest snapshot; None keeps everything.
    """

    partitions: int
    owner: str
    outlines: Mapping[str, Any]
    snapshot_bytes: int = 16 * 1024 * 1024
    snapshot_ms: int = 3_600_000
    history_ms: int | None = None


class Journal:
    """One partition of the journal, in the hands of one owner. `clock` gives monotonic seconds."""

    def __init__(self, log: Log, partition: int, settings: JournalSettings, clock: Callable[[], float]) -> None:
        self.log = log
        self.partition = TopicPartition(JOURNAL, partition)
        self.settings = settings
        self.fold = Fold(self.partition)
        self._clock = clock
        self._base_ms = 0
        self._base_clock = 0.0
        self._published = 0
        self.unmarked = False  # outputs are out, and no record says so yet: the next owner would send them again
        self._restore_from = 0
        self._snapshot: _Snapshot | None = None
        self._named: list[tuple[int, int]] = []  # complete snapshots: (begin, time), for trimming
        self._goal = 0  # up to where it is being read back

    @property
    def owner(self) -> str:
        return self.settings.owner

    @property
    def remaining(self) -> int:
        """Records still to be read back, while it is."""
        return max(0, self._goal - self.fold.next)

    # --- owning -------------------------------------------------------------------------------------------------------------------

    async def read_to_end(self, kept: Fold | None = None) -> None:
        """Restore steps 2 and 3: read the last record, and fold from where it says to the end.

        `kept`: a fold of this journal made earlier, to go on from. Raises Corrupt, Unavailable, and LostOwnership if another owner
        trims the journal meanwhile.
        """
        bounds = await self._bounds()
        if bounds.start == bounds.end and bounds.start > 0:
            raise Corrupt(f"{self.partition} is empty but does not start at 0: all of the journal was deleted")
        if kept is not None and bounds.start <= kept.next <= bounds.end:
            self.fold = kept
        else:
            # The last record may be an old owner's void batch, which names a snapshot that has been trimmed away since. The log's
            # start is the begin of a later one: no owner trims to anything else.
            restore_from = await self._last_restore_from(bounds.end) if bounds.end > 0 else 0
            self.fold = Fold(self.partition, max(bounds.start, restore_from))
        await self._read(bounds.end)
        if not self.fold.complete and (await self._bounds()).end > bounds.end:
            raise LostOwnership(f"{self.partition}: another owner trimmed to {self.fold.restore_from} and writes on")
        self.fold.check_end()

    async def claim(self) -> None:
        """Restore steps 4 and 5: append the claim, and fold on to it.

        Raises Misconfigured if a definition changed without a new version (S5), or the number of partitions did; LostOwnership if the
        outcome of the append is unknown.
        """
        self._check_definitions()
        fold = self.fold
        if fold.partitions is not None and fold.partitions != self.settings.partitions:
            raise Misconfigured(f"{JOURNAL} was written for {fold.partitions} partitions; the app says {self.settings.partitions}")
        claim = {
            "kind": "claim",
            "format": FORMAT,
            "partitions": self.settings.partitions,
            "owner": self.owner,
            "published": fold.published,
            "restore_from": fold.restore_from,
            "definitions": self.settings.outlines,
        }
        appended = await self._append([Record(None, encode(claim))])
        claimed = self._clock()
        await self._read(appended.offset + 1)
        fold.check_end()
        self._base_ms, self._base_clock = max(fold.now, appended.timestamp), claimed
        self._published, self._restore_from = fold.published, fold.restore_from
        self._snapshot = None  # nobody continues another owner's

    def now(self) -> int:
        """The partition's time in ms (S27): where it stood at the claim, and the time since by a clock that cannot jump.

        It stood at the broker's append time of the claim, or at the last owner's time if that is later. So time never goes back; and
        after a broker's clock was set back by an hour it does not stand still for an hour either, with all timers waiting.
        """
        return max(self.fold.now, self._base_ms + int((self._clock() - self._base_clock) * 1000))

    # --- writing ------------------------------------------------------------------------------------------------------------------

    async def commit(
        self,
        batch: Batch,
        positions: Mapping[TopicPartition, Position],
        topics: Mapping[str, int],
    ) -> None:
        """Append one batch: parts of a snapshot, its decisions, and the commit. One append, and the fold has adopted it.

        Raises LostOwnership if it does not stand where it had to, or nobody knows where it stands.
        """
        snapshot = self._next_parts() if batch.size <= ROOM_BYTES else []
        records = [Record(_part_key(value), _part_bytes(value)) for value in snapshot] + batch.records
        expected = self.fold.next
        commit = {
            "kind": "commit",
            "offset": expected + len(records),
            "count": len(records) + 1,
            "owner": self.owner,
            "now": batch.now,
            "positions": positions_json(positions),
            "topics": dict(topics),
            "published": self._published,
            "restore_from": self._restore_from,
        }
        records.append(Record(None, encode(commit)))
        appended = await self._append(records)
        if appended.offset != expected:
            raise LostOwnership(f"{self.partition}: the batch stands at {appended.offset}, not at {expected}: another owner wrote")
        parsed = [_parsed(value) for value in snapshot]
        self.fold.adopt(Committed(expected, parsed, batch.decisions, commit, batch.size, batch.states))
        self._after_snapshot()

    def all_published(self) -> None:
        """Every output of what is committed so far was acknowledged: the next record says so."""
        self._published = self.fold.next
        self.unmarked = bool(self.fold.unpublished)
        self.fold.unpublished.clear()

    @property
    def unfinished(self) -> bool:
        """A snapshot is being written: commit on, even with nothing to decide."""
        return self._snapshot is not None and not self._snapshot.ended

    def snapshot_due(self) -> bool:
        fold, settings = self.fold, self.settings
        if self._snapshot is not None or not fold.grown:
            return False
        long_ago = self.now() - fold.snapshot_now >= settings.snapshot_ms and fold.now > fold.snapshot_now
        return fold.grown > max(settings.snapshot_bytes, fold.snapshot_size) or long_ago

    async def trim(self) -> None:
        """Delete what is older than the history asked for, up to the begin of a snapshot that an acknowledged record names."""
        if self.settings.history_ms is None:
            return
        old = [
            begin
            for begin, time in self._named
            if time <= self.now() - self.settings.history_ms and begin <= self.fold.restore_from
        ]
        if old:
            await self.log.trim(self.partition, old[-1])
            self._named = [(begin, time) for begin, time in self._named if begin > old[-1]]

    # --- its pieces -----------------------------------------------------------------------------------------------------------------

    def _next_parts(self) -> list[_Value]:
        if self._snapshot is None and self.snapshot_due():
            self._snapshot = _Snapshot(self.fold, self.settings)
        if self._snapshot is None or self._snapshot.ended:
            return []
        return self._snapshot.take()

    def _after_snapshot(self) -> None:
        """Name a complete snapshot as the place to restore from, once all outputs before its begin are out.

        Not in the batch with its end: that batch may turn out to be void, and then the name would stand for a snapshot without an end.
        """
        snapshot = self._snapshot
        if snapshot is not None and snapshot.ended and self._published >= self.fold.snapshot_begin:
            self._restore_from = self.fold.snapshot_begin
            self._named.append((self.fold.snapshot_begin, self.fold.snapshot_now))
            self._snapshot = None

    async def _append(self, records: Sequence[Record]) -> Appended:
        try:
            appended = await self.log.append(self.partition, records)
        except Unavailable as error:
            raise LostOwnership(f"{self.partition}: the outcome of an append is unknown: {error}") from error
        except Rejected as error:
            raise Corrupt(f"{self.partition}: the log refuses a batch for good: {error}") from error
        if appended.offset < 0:
            raise LostOwnership(f"{self.partition}: an append was acknowledged without an offset")
        return appended

    async def _read(self, end: int) -> None:
        self._goal = end
        if self.fold.next < end:
            async for record in self._records(self.fold.next, end):
                self.fold.feed(record)
        if self.fold.next < end:
            raise Corrupt(f"{self.partition}: the records from {self.fold.next} to {end - 1} cannot be read")

    async def _records(self, start: int, end: int) -> AsyncIterator[StoredRecord]:
        try:
            async for lump in self.log.read(self.partition, start, end):
                for record in lump:
                    yield record
                    start = record.offset + 1
        except Corrupt:  # of the log, not of the fold: it no longer holds what is asked for
            bounds = await self._bounds()
            if bounds.start > start and bounds.end > end:
                raise LostOwnership(
                    f"{self.partition}: another owner trimmed to {bounds.start}, and wrote to {bounds.end}"
                ) from None
            raise

    async def _bounds(self) -> Bounds:
        return (await self.log.bounds([self.partition]))[self.partition]

    async def _last_restore_from(self, end: int) -> int:
        async for record in self._records(end - 1, end):
            value = decode(record)
            if "restore_from" not in value:
                raise Corrupt(f"{self.partition}:{end - 1}: the journal ends with a {value['kind']}, not with a commit or a claim")
            return int(value["restore_from"])
        raise Corrupt(f"{self.partition}: the last record, at {end - 1}, cannot be read")

    def _check_definitions(self) -> None:
        for name, here in self.settings.outlines.items():
            there = self.fold.outlines.get(name)
            if there is not None and there["hash"] != here["hash"]:
                changed = difference(there["outline"], here["outline"])
                raise Misconfigured(
                    f"the structure of {name.replace(' ', ' version ')} changed, but its version did not. Give it a new version=. "
                    f"The difference:\n{changed}"
                )


_Value = tuple[dict[str, Any], bytes | None]  # a snapshot record: as JSON, or as the encoded instance that it holds


class _Snapshot:
    """A snapshot on its way: the instances there were at its begin, each as it is when its turn comes."""

    def __init__(self, fold: Fold, settings: JournalSettings) -> None:
        self.id = f"{settings.owner}@{fold.next}"
        self.ended = False
        self._fold = fold
        self._settings = settings
        self._slots: Iterator[Slot] = iter(list(fold.instances))
        self._count = 0
        self._begun = False

    def take(self) -> list[_Value]:
        """The next records of it, about PART_BYTES. An instance that was forgotten meanwhile is left out, here and by every fold."""
        values: list[_Value] = []
        if not self._begun:
            self._begun = True
            begin = {"kind": "snapshot.begin", "id": self.id, "format": FORMAT, "partitions": self._settings.partitions}
            definitions = {**self._fold.outlines, **self._settings.outlines}
            values.append(({**begin, "definitions": definitions}, None))
        size = 0
        for slot in self._slots:
            encoded = self._fold.instances.get(slot)
            if encoded is None:
                continue
            self._count += 1
            values.append(({"kind": "snapshot.part", "key": slot.key}, encoded))
            size += len(encoded)
            if size >= PART_BYTES:
                return values
        self.ended = True
        values.append(({"kind": "snapshot.end", "id": self.id, "count": self._count}, None))
        return values


def _part_key(value: _Value) -> bytes | None:
    return value[0]["key"].encode() if value[1] is not None else None


def _part_bytes(value: _Value) -> bytes:
    """The record of it; an instance's own bytes are put in as they are."""
    return encode(value[0]) if value[1] is None else b'{"instance":' + value[1] + b',"kind":"snapshot.part"}'


def _parsed(value: _Value) -> dict[str, Any]:
    return value[0] if value[1] is None else decode(StoredRecord(JOURNAL, 0, 0, 0, None, _part_bytes(value)))
