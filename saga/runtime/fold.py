"""The fold: what the journal says, read record by record. Everybody who reads a journal reads it through this.

A batch is the records up to and with its `commit`, which states the offset where the batch's writer believed it would stand. If that
is where it stands, the batch counts. If not, its writer did not know the true end of the journal (an old owner, a late retry, a
duplicate), and the batch is void: for every reader, for ever, from wherever it starts to read.

The naive way is an owner's number in each batch and "the highest number wins". A reader that starts in the middle then has to know
which numbers came before, and a batch that was overtaken on its way can carry a number that is still the highest. Where a batch
stands is known to everybody who can see it.

A fold may begin at offset 0, or at the first record of a batch with a `snapshot.begin`. Until that snapshot's end has been read some
instances are unknown: a decision about one that has not been seen (and is not its first) changes nothing here, since a later part of
the snapshot holds its result; but what it sends still counts.

The owner adopts its own batches through the same code (`adopt`), with states that it has already computed. So the live state is the
fold's, not merely like it.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from saga.engine.apply import apply
from saga.engine.decision import Decision
from saga.engine.state import Instance
from saga.errors import Corrupt
from saga.log.base import StoredRecord, TopicPartition
from saga.runtime.codec import FORMAT, decision_from_json, decode, decode_instance, encode
from saga.runtime.states import UNMEASURED, Held, Slot, States


class Position(NamedTuple):
    """The next offset of an input partition, and the checksum of the last record before it (0: none was read yet).

    `gap`: so many offsets lie between the two, which hold nothing for us: the markers of foreign transactions, what those aborted.
    """

    offset: int
    checksum: int
    gap: int = 0


class Sent(NamedTuple):
    """A decision whose outputs may not all be out yet: where it stands, and its commit's time."""

    offset: int
    decision: Decision
    now: int


@dataclass
class Committed:
    """One commit in decoded form. `size`: the bytes of its decisions; those of a snapshot do not call for the next snapshot.

    `states`: the results of its decisions, where the owner has them already.
    """

    base: int
    snapshot: list[dict[str, Any]]
    decisions: list[Decision]
    commit: dict[str, Any]
    size: int = 0
    states: Mapping[Slot, Held] = field(default_factory=dict)


class Fold:
    """The state of one journal partition up to `next`, the offset of the record that comes next.

    `follows`: it begins at the end of some batch, only to hear what is decided from there on; so it never knows all instances.
    """

    def __init__(self, partition: TopicPartition, start: int = 0, *, follows: bool = False) -> None:
        self.partition = partition
        self.next = start
        self.partitions: int | None = None  # P, as the journal says
        self.owner = ""
        self.now = 0
        self.published = 0
        self.restore_from = start
        self.instances = States()
        self.positions: dict[TopicPartition, Position] = {}
        self.topics: dict[str, int] = {}  # how many partitions an input topic had when it was first read
        self.outlines: dict[str, dict[str, Any]] = {}  # "<saga> <version>" → {hash, outline}, as their owners registered them
        self.unpublished: deque[Sent] = deque()
        self.complete = start == 0  # False until the snapshot that this fold began with has ended
        self.snapshot_begin = start  # of the last snapshot that began
        self.snapshot_size = 0  # bytes of the last complete snapshot
        self.snapshot_now = 0  # when the last complete snapshot began
        self.grown = 0  # bytes of decisions since then; one that an owner left unfinished saves nobody a long restore
        self._snapshot_expected = start if start > 0 and not follows else None  # where a fold that is to know all instances begins
        self._begun_now = 0
        self._grown_since_begin = 0
        self._snapshot_id = ""
        self._parts = 0
        self._part_bytes = 0
        self._pending: list[tuple[StoredRecord, dict[str, Any]]] = []
        self._forget: list[tuple[int, Slot]] = []  # a heap; what is no longer so is dropped when its time comes
        self._keep_until: dict[Slot, int] = {}

    # --- reading ------------------------------------------------------------------------------------------------------------------

    def feed(self, record: StoredRecord) -> Committed | None:
        """Take the next record; return the batch that it completed, if that batch counts.

        Raises Corrupt for a gap, or for anything that no correct writer can have written.
        """
        if record.offset != self.next:
            raise Corrupt(f"{self.partition}: offset {record.offset} follows {self.next - 1}; records are missing")
        value = decode(record)
        begins = record.offset == self._snapshot_expected
        self._require(not begins or value["kind"] == "snapshot.begin", record.offset, "no snapshot begins here, so no fold can")
        self.next += 1
        try:
            return self._take(record, value)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Corrupt(f"{self.partition}:{record.offset}: this {value['kind']} is not as it must be: {error!r}") from error

    def _take(self, record: StoredRecord, value: dict[str, Any]) -> Committed | None:
        if value["kind"] == "claim":
            self._require(not self._pending, record.offset, "a claim stands inside a batch")
            self._claim(value)
            return None
        if value["kind"] != "commit":
            self._pending.append((record, value))
            return None
        pending, self._pending = self._pending, []
        if value["offset"] != record.offset:
            return None  # void
        self._require(
            value["count"] == len(pending) + 1, record.offset, f"the batch has {len(pending) + 1} records, not {value['count']}"
        )
        self._require(self.partitions is not None or not self.complete, record.offset, "nobody has claimed this partition yet")
        decided = [inner["kind"] == "decision" for _, inner in pending]
        self._require(decided == sorted(decided), record.offset, "a part of a snapshot stands behind a decision of its batch")
        batch = Committed(
            base=record.offset - len(pending),
            snapshot=[inner for _, inner in pending if inner["kind"] != "decision"],
            decisions=[decision_from_json(inner) for _, inner in pending if inner["kind"] == "decision"],
            commit=value,
            size=sum(len(inner.value or b"") for inner, made in pending if made["kind"] == "decision"),
        )
        self.adopt(batch)
        return batch

    def adopt(self, batch: Committed) -> None:
        """Take over a batch that counts: snapshot parts, then decisions, then the commit."""
        for offset, value in enumerate(batch.snapshot, batch.base):
            self._snapshot(value, offset, batch)
        first = batch.base + len(batch.snapshot)
        for offset, decision in enumerate(batch.decisions, first):
            self._decision(decision, offset, batch)
        self._commit(batch)

    def check_end(self) -> None:
        """Nothing may be left half read at the end of the journal. Raises Corrupt."""
        self._require(not self._pending, self.next, "the journal ends inside a batch")
        self._require(self.complete, self.next, f"the snapshot that begins at {self.restore_from} has no end")

    # --- its pieces -----------------------------------------------------------------------------------------------------------------

    def _claim(self, value: dict[str, Any]) -> None:
        self._format(value)
        self.owner = value["owner"]
        self._restore_from(value["restore_from"])
        self._mark_published(value["published"])

    def _format(self, value: dict[str, Any]) -> None:
        if value["format"] > FORMAT:
            raise Corrupt(f"{self.partition}: the journal has format {value['format']}; this version reads up to {FORMAT}")
        if self.partitions is not None and self.partitions != value["partitions"]:
            raise Corrupt(
                f"{self.partition}: the journal was written for {self.partitions}, then for {value['partitions']} partitions"
            )
        self.partitions = value["partitions"]
        self.outlines.update(value["definitions"])

    def _snapshot(self, value: dict[str, Any], offset: int, batch: Committed) -> None:
        kind = value["kind"]
        if kind == "snapshot.begin":
            self._format(value)
            self._snapshot_id, self._parts, self._part_bytes = value["id"], 0, 0
            self.snapshot_begin, self._begun_now, self._grown_since_begin = offset, batch.commit["now"], 0
        elif kind == "snapshot.part":
            self._parts += 1
            self._part(value["instance"], offset)
        else:
            self._require(kind == "snapshot.end", offset, f"{kind} is no kind of record that this version knows")
            self._require(value["id"] == self._snapshot_id, offset, f"{value['id']} ends, but {self._snapshot_id} began")
            self._require(value["count"] == self._parts, offset, f"the snapshot has {self._parts} parts, not {value['count']}")
            self.complete = True
            self.snapshot_size, self.snapshot_now, self.grown = self._part_bytes, self._begun_now, self._grown_since_begin

    def _part(self, value: Any, offset: int) -> None:
        slot, encoded = Slot(value["saga"], value["key"]), encode(value)
        self._part_bytes += len(encoded)
        known = self.instances.get(slot)
        if known is None:
            self._require(not self.complete, offset, f"the snapshot has {value['id']}, which the journal does not")
            self.instances.put_bytes(slot, encoded)
            self._remember(slot, value.get("keep_until"))
        else:
            self._require(known == encoded, offset, f"the snapshot has another state of {value['id']} than the journal gives")

    def _decision(self, decision: Decision, offset: int, batch: Committed) -> None:
        if decision.outputs:
            self.unpublished.append(Sent(offset, decision, batch.commit["now"]))
        if decision.seq == 0:
            return
        slot = Slot(decision.saga, decision.key)
        after = batch.states.get(slot)
        self._keep(slot, decision)
        if after is not None:  # the owner computed it, for the last of this batch's decisions about it
            self.instances.put(slot, after)
            return
        known = self.instances.held(slot)
        if known is None and decision.seq > 1:
            self._require(not self.complete, offset, f"decision {decision.seq} of {decision.instance}, which is not there")
            return  # its result comes with the snapshot
        try:
            state = apply(None if known is None else known.state.copy(), decision)
        except AssertionError as error:
            raise Corrupt(f"{self.partition}:{offset}: {error}") from None
        self.instances.put(slot, Held(state, UNMEASURED))

    def _keep(self, slot: Slot, decision: Decision) -> None:
        """Note until when an instance is remembered; one that begins another run is remembered on."""
        if "id" in decision.patch:
            self._keep_until.pop(slot, None)
        self._remember(slot, decision.patch.get("keep_until"))

    def _remember(self, slot: Slot, keep_until: int | None) -> None:
        if keep_until is not None:
            self._keep_until[slot] = keep_until
            heapq.heappush(self._forget, (keep_until, slot))

    def _commit(self, batch: Committed) -> None:
        commit = batch.commit
        self.next = commit["offset"] + 1
        self._require(commit["now"] >= self.now, commit["offset"], f"time went back from {self.now} to {commit['now']}")
        self._require(self.owner in ("", commit["owner"]), commit["offset"], f"{commit['owner']} writes, but {self.owner} claimed")
        self.now = commit["now"]
        self.snapshot_now = self.snapshot_now or self.now
        self.positions = {_partition(name): Position(*position) for name, position in commit["positions"].items()}
        self.topics = commit["topics"]
        self.grown += batch.size
        self._grown_since_begin += batch.size
        self._restore_from(commit["restore_from"])
        self._mark_published(commit["published"])
        while self._forget and self._forget[0][0] <= self.now:
            until, slot = heapq.heappop(self._forget)
            if self._keep_until.get(slot) == until:
                del self._keep_until[slot]
                self.instances.forget(slot)

    def _restore_from(self, offset: int) -> None:
        self.restore_from = max(self.restore_from, offset)

    def _mark_published(self, offset: int) -> None:
        self.published = max(self.published, offset)
        while self.unpublished and self.unpublished[0].offset < self.published:
            self.unpublished.popleft()

    def _require(self, truth: bool, offset: int, what: str) -> None:
        if not truth:
            raise Corrupt(f"{self.partition}:{offset}: {what}")

    # --- looking ----------------------------------------------------------------------------------------------------------------------

    def get(self, slot: Slot) -> Instance | None:
        """An instance, for reading: it is not to be changed."""
        held = self.instances.held(slot)
        return None if held is None else held.state

    def states(self) -> Iterator[Instance]:
        for encoded in self.instances.values():
            yield decode_instance(encoded)

    def canonical(self) -> bytes:
        """All that a fold knows and another fold of the same journal must know too, as bytes (from wherever each began)."""
        return encode(
            {
                "now": self.now,
                "positions": positions_json(self.positions),
                "topics": self.topics,
                "instances": sorted(encoded.decode() for encoded in self.instances.values()),
            }
        )


def _partition(name: str) -> TopicPartition:
    topic, _, partition = name.rpartition(":")
    return TopicPartition(topic, int(partition))


def positions_json(positions: Mapping[TopicPartition, Position]) -> dict[str, tuple[int, ...]]:
    return {str(tp): tuple(position if position.gap else position[:2]) for tp, position in positions.items()}
