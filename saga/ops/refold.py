"""One journal partition folded again, record by record, and held against everything else that tells the same. Pure.

What is compared, byte for byte:

    each part of a snapshot       with the state that the fold has of that instance                          (Fold does)
    each snapshot as a whole      a second fold begins with it; where the snapshot ends, both must know the same
    the end                       a second fold from where an owner would restore from must know the same    (`compare`)

The first alone does not find an instance that a snapshot leaves out, and a restore from it would lose that instance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from saga.engine.state import Instance
from saga.errors import Corrupt
from saga.log.base import StoredRecord, TopicPartition
from saga.ops.why import label
from saga.runtime.codec import decode
from saga.runtime.fold import Committed, Fold, Position

MOST_NAMED = 5  # instances that differ, named in one sentence


@dataclass(frozen=True)
class Until:
    """Where to stop: after the last batch that is not later than `time` (ms), or after the batch that holds a decision.

    The decision is named by its instance and seq, or by the offset where it stands. A batch counts as a whole or not at all.
    """

    time: int | None = None
    offset: int | None = None
    instance: str = ""
    seq: int = 0


@dataclass
class Counts:
    records: int = 0
    batches: int = 0
    void: int = 0  # batches that do not stand where their writer expected
    claims: int = 0
    snapshots: int = 0  # complete ones
    decisions: int = 0


@dataclass
class Refold:
    """The replay of one partition from `start`; `problem` says what differs, and where. After a problem nothing more is folded."""

    partition: TopicPartition
    start: int
    until: Until = field(default_factory=Until)
    counts: Counts = field(default_factory=Counts)
    began: int | None = None  # ms: the time of the first batch
    problem: str = ""
    over: bool = False  # `until` is reached
    found: bool = False  # the decision that `until` names was met

    def __post_init__(self) -> None:
        self.fold = Fold(self.partition, self.start)
        self._second: Fold | None = None  # begun with the snapshot that is being read
        self._lump: list[StoredRecord] = []  # the records since the last commit or claim: perhaps a batch

    def feed(self, record: StoredRecord) -> None:
        """Take the next record, unless it is over. The fold gets whole batches, so that it may stop between any two."""
        if self.over or self.problem:
            return
        self._lump.append(record)
        try:
            kind = _kind(record)
            if kind == "commit" and self._later(record):
                self.over, self._lump = True, []
            elif kind:
                self._take(claim=kind == "claim")
        except Corrupt as error:
            self.problem = str(error)

    def end(self) -> None:
        """All was fed: nothing may be half read. What stands behind `until` is not looked at."""
        if self.problem:
            return
        if not self.over:
            try:
                for record in self._lump:
                    self.fold.feed(record)
                self.fold.check_end()
            except Corrupt as error:
                self.problem = str(error)

    def compare(self, other: Fold, what: str) -> None:
        """Note what another fold up to the same place knows differently."""
        if other.canonical() != self.fold.canonical():
            self.problem = f"{self.partition}:{self.fold.next - 1}: {what} gives another state: {difference(self.fold, other)}"

    def phases(self) -> Counter[str]:
        """How many instances are in which state, at the end."""
        return Counter(label(state) for state in self.fold.states())

    def instance(self) -> Instance | None:
        """The instance that `until` names, as its last batch left it."""
        return next((state for state in self.fold.states() if state.id == self.until.instance), None)

    # --- its pieces -------------------------------------------------------------------------------------------------------------------

    def _later(self, commit: StoredRecord) -> bool:
        value = decode(commit)
        counts = value["offset"] == commit.offset
        return counts and self.until.time is not None and bool(value["now"] > self.until.time)

    def _take(self, *, claim: bool) -> None:
        lump, self._lump = self._lump, []
        batch = None
        for record in lump:
            batch = self.fold.feed(record)
        self.counts.records += len(lump)
        if claim:
            self.counts.claims += 1
            self._second = None  # nobody continues another owner's snapshot
        if (second := self._second) is not None:
            for record in lump:
                second.feed(record)
        if batch is not None:
            self.counts.batches += 1
            self.counts.decisions += len(batch.decisions)
            self.began = batch.commit["now"] if self.began is None else self.began
            self._snapshots(batch, lump)
            self.found = self.found or self._names(batch)
        elif not claim:
            self.counts.void += 1
        self.over = self.found or (self.until.offset is not None and self.fold.next > self.until.offset)

    def _names(self, batch: Committed) -> bool:
        wanted = (self.until.instance, self.until.seq)
        return self.until.instance != "" and any((decision.instance, decision.seq) == wanted for decision in batch.decisions)

    def _snapshots(self, batch: Committed, lump: list[StoredRecord]) -> None:
        kinds = {value["kind"] for value in batch.snapshot}
        if "snapshot.begin" in kinds:
            self._second = Fold(self.partition, batch.base)
            for record in lump:
                self._second.feed(record)
        if "snapshot.end" in kinds:
            self.counts.snapshots += 1
            if self._second is not None:
                self.compare(self._second, f"the snapshot that begins at {self._second.snapshot_begin}")
            self._second = None


def _kind(record: StoredRecord) -> str:
    """What ends a lump: "commit" or "claim"; "" for all else. Most records say by their bytes that they are neither; to decode
    each twice would double the work.
    """
    for kind in ("commit", "claim"):
        if f'"kind":"{kind}"'.encode() in (record.value or b"") and decode(record)["kind"] == kind:
            return kind
    return ""


def difference(one: Fold, other: Fold) -> str:
    """What two folds know differently, in a sentence."""
    said = []
    ours, theirs = one.instances, other.instances
    for what, slots in (
        ("missing", [slot for slot in ours if slot not in theirs]),
        ("too many", [slot for slot in theirs if slot not in ours]),
        ("different", [slot for slot in ours if slot in theirs and ours[slot] != theirs[slot]]),
    ):
        if slots:
            names = ", ".join(f"{slot.saga}:{slot.key}" for slot in sorted(slots)[:MOST_NAMED])
            said.append(f"{len(slots)} {'instance' if len(slots) == 1 else 'instances'} {what} ({names})")
    nothing = Position(-1, 0)
    for tp in sorted({*one.positions, *other.positions}):
        here, there = one.positions.get(tp, nothing), other.positions.get(tp, nothing)
        if here != there:
            said.append(f"position of {tp} {there.offset} instead of {here.offset}")
    if one.now != other.now:
        said.append(f"time {other.now} instead of {one.now}")
    if one.topics != other.topics:
        said.append(f"topics {other.topics} instead of {one.topics}")
    return "; ".join(said)
