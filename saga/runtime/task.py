"""The partition task: one task owns one partition number, its instances, its timers, its inputs and its part of the journal.

    ASSIGNED ──▶ CLAIMING ──▶ RESTORING ──▶ RUNNING ──▶ CLOSED
        ▲            │             │            │
        └────────────┴─────────────┴────────────┘   ownership lost, or the log did not answer: from the start again
                     └─────────────┴────────────▶ STOPPED   corrupt, or inputs lost: a person must look; others go on

Restore                                         Commit
 1 pause: nothing is read yet                    1 take what is there, inputs first, then due timers, up to a limit
 2 read the journal's last record                2 decide, on an overlay
 3 fold from where it says to the end            3 append: one batch
   code that is behind gives way (see `versions`)
 4 append the claim                              4 check where it stands
 5 fold on to the claim                          5 adopt the overlay
 6 publish again what is not marked published    6 publish, and await the answers
 7 assign the inputs at their positions          7 the next one
 8 run

A commit starts as soon as the last one is done. So an idle partition commits an input alone at once, and a busy one in groups, with
nothing to tune.

Timers: the naive way fires a time-out when the clock says so, and so kills a reply that lies in the input already, after every
pause, restart or backlog. Here the partition's time may reach t only once its own inputs are read up to an end that was asked for
after t (`_Horizon`). An input that was there in time is decided before the timer that would race it (S26), and a busy partition's
timers do not starve, since that end does not move.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from random import Random

from saga.deadletter import TOO_LARGE, publish_or_set_aside
from saga.errors import Corrupt, InputsLost, LostOwnership, Misconfigured, Unavailable
from saga.log.base import Log, Reader, StoredRecord, TopicPartition
from saga.metrics import Metrics
from saga.runtime.batch import Batch, Place
from saga.runtime.census import Census
from saga.runtime.codec import checksum, outgoing
from saga.runtime.fold import Fold, Position
from saga.runtime.inputs import Inputs
from saga.runtime.journal import Journal, JournalSettings
from saga.runtime.states import Slot
from saga.runtime.timers import Timers
from saga.runtime.timetable import schedules_to_tell
from saga.runtime.versions import GIVE_WAY_SECONDS, back, behind

logger = logging.getLogger("saga.task")

FETCH_LIMIT = 500  # records at once: as many as one batch takes
IDLE_SECONDS = 5.0  # how long an idle task waits before it looks around (new input partitions, a snapshot by time)
# Inputs that concern nobody: so many of them, or so many seconds, before their positions are worth a commit of their own. They must not
# wait for ever: once retention has deleted what lies above a position, nobody can tell that nothing of it was lost. The same for what was
# sent: told again after its receiver has forgotten it, a start would start once more.
MOVED_WITHOUT_DECISION, MOVED_SECONDS = 1000, 60.0
STEADY_SECONDS = 10.0  # owned for so long was no failure: owners in turn, each for a moment, slow each other down
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 5.0  # seconds between claims that fail, and between publishes that fail


class Phase(StrEnum):
    ASSIGNED = "assigned"
    CLAIMING = "claiming"
    RESTORING = "restoring"
    RUNNING = "running"
    STOPPED = "stopped"
    CLOSED = "closed"


SUCCESSORS = {
    Phase.ASSIGNED: (Phase.CLAIMING, Phase.CLOSED),
    Phase.CLAIMING: (Phase.RESTORING, Phase.ASSIGNED, Phase.STOPPED, Phase.CLOSED),
    Phase.RESTORING: (Phase.RUNNING, Phase.ASSIGNED, Phase.STOPPED, Phase.CLOSED),
    Phase.RUNNING: (Phase.ASSIGNED, Phase.STOPPED, Phase.CLOSED),
    Phase.STOPPED: (Phase.CLOSED,),
    Phase.CLOSED: (),
}


@dataclass(frozen=True)
class Surroundings:
    """What all tasks of a process share. `counts` is kept up to date by the worker: how many partitions each input topic has."""

    log: Log
    reader: Reader
    place: Callable[[int], Place]
    settings: JournalSettings
    begin: str | datetime
    counts: Mapping[str, int]
    metrics: Metrics
    random: Random
    accept_loss: Collection[TopicPartition] = ()
    fatal: Callable[[Exception], None] = logger.error
    runs: Callable[[], None] = lambda: None  # told whenever a task has come so far that it runs


@dataclass(frozen=True)
class _Horizon:
    """The inputs' ends, asked for at `time` (ms): once read up to there, the partition's time may reach `time`."""

    time: int
    ends: Mapping[TopicPartition, int]


class PartitionTask:
    """Owns partition `number` from `start` to `close`. `kept`: a fold of an earlier ownership by this process, to go on from."""

    def __init__(self, surroundings: Surroundings, number: int, kept: Fold | None = None) -> None:
        self.number = number
        self.phase = Phase.ASSIGNED
        self.problem = ""
        self.kept = kept
        self._here = surroundings
        self._place = surroundings.place(number)
        self._clock = asyncio.get_running_loop().time
        self._journal = self._new_journal()
        self._inputs = self._new_inputs()
        self._timers = Timers()
        self._census = Census(surroundings.metrics, self._place.book)
        self._leftover: list[StoredRecord] = []
        self._begun = 0  # how much of the first of them is decided already
        self._horizon: _Horizon | None = None
        self._moved = 0
        self._late = 0  # ms: of the latest timer since somebody asked
        self._committed = self._clock()
        self._failures = 0  # in a row; an ownership that lasts sets it back
        self._running_since = 0.0
        self._closing = False
        self._idle = False
        self._gave_way = False
        self._appending = False
        self._task: asyncio.Task[None] | None = None
        self._show()

    # --- life -------------------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"partition {self.number}")

    async def close(self, bound: float) -> None:
        """Finish the commit that is under way, publish, and stop; after `bound` seconds, abandon it (its append may still land)."""
        assert self._task is not None
        self._closing = True
        if self._idle:
            self._task.cancel()
        try:
            _, pending = await asyncio.wait([self._task], timeout=bound)
            if pending:
                self._task.cancel()
                await asyncio.wait([self._task])
        finally:  # also if nobody waits for us any more: this process may be given the number again, and a task that lived on would
            self._task.cancel()  # claim it back, and take from the shared reader what the next task reads
            await self._here.reader.unassign(self._inputs.reading)
            self._census.leave()
            self._to(Phase.CLOSED)

    async def _run(self) -> None:
        reason = "assigned"
        while not self._closing:
            try:
                await self._restore(reason)
                self._running_since = self._clock()
                await self._work()
                self.kept = self._journal.fold
            except asyncio.CancelledError:
                if not self._closing:
                    raise
                self.kept = self._journal.fold if self.phase is Phase.RUNNING and not self._appending else None
            except LostOwnership as error:
                reason = "lost"
                self._here.metrics.ownership_lost.inc()
                await self._again(error, None)
            except Unavailable as error:
                reason = "unavailable"
                await self._again(error, self._journal.fold if self.phase is Phase.RUNNING else None)
            except Misconfigured as error:
                self._stop(error)
                self._here.fatal(error)
            except Corrupt as error:
                if not isinstance(error, InputsLost):  # which is no contradiction, but a loss
                    self._here.metrics.invariant_violations.labels("journal").inc()
                self._stop(error)
            except Exception as error:  # a bug of ours: this partition must not go on with a state that nobody understands
                logger.exception("partition %d: unexpected error", self.number)
                self._here.metrics.invariant_violations.labels("unexpected").inc()
                self._stop(error)
            if self.phase is Phase.STOPPED:
                await self._here.reader.unassign(
                    self._inputs.reading
                )  # or the others' reader keeps asking for a topic that is gone
                return

    async def _again(self, error: Exception, kept: Fold | None) -> None:
        """Drop what is in memory and go back to the start, after a jittered pause: two owners must not claim in turn for ever."""
        logger.warning("partition %d: %s", self.number, error)
        self.kept = kept
        if self.phase is Phase.RUNNING and self._clock() - self._running_since > STEADY_SECONDS:
            self._failures = 0
        self._to(Phase.ASSIGNED)
        self._census.leave()
        await self._here.reader.unassign(self._inputs.reading)
        await self._pause(self._failures)
        self._failures += 1

    async def _pause(self, failures: int) -> None:
        pause = min(FIRST_PAUSE * 2.0 ** min(failures, 16), LONGEST_PAUSE)
        self._idle = True  # `close` may cut this short
        try:
            await asyncio.sleep(pause * (0.5 + self._here.random.random() / 2))
        finally:
            self._idle = False

    def _stop(self, error: Exception) -> None:
        self.problem = f"{type(error).__name__}: {error}"
        logger.error("partition %d stops: %s", self.number, self.problem)
        self.kept = None
        self._to(Phase.STOPPED)

    def _to(self, phase: Phase) -> None:
        assert phase in SUCCESSORS[self.phase] or phase is self.phase, f"partition {self.number}: {self.phase} → {phase}"
        self._here.metrics.phase.labels(str(self.number), str(self.phase)).set(0)
        self.phase = phase
        self._show()

    def _show(self) -> None:
        self._here.metrics.phase.labels(str(self.number), str(self.phase)).set(0 if self.phase is Phase.CLOSED else 1)

    def positions(self) -> Mapping[TopicPartition, Position]:
        """Up to where the journal has decided each input."""
        return self._journal.fold.positions

    def fold(self) -> Fold:
        return self._journal.fold

    def ages(self) -> Iterator[tuple[str, str, float]]:
        """See `Census.ages`."""
        return self._census.ages(self._journal.now())

    def now(self) -> int:
        """The partition's time, in ms."""
        return self._journal.now()

    @property
    def remaining(self) -> int:
        """Journal records still to be read back, while it is restored."""
        return self._journal.remaining

    def snapshot_age(self) -> float:
        """Seconds since the last snapshot began; 0 while nothing was decided that is not in it."""
        fold = self._journal.fold
        return (self._journal.now() - fold.snapshot_now) / 1000 if fold.snapshot_now and fold.grown else 0.0

    def timer_lag(self) -> float:
        """How late the latest timer was since this was last asked, or is that still waits; in seconds."""
        late, self._late = self._late, 0
        due = self._timers.next_due()
        return max(late, 0 if due is None else self._journal.now() - due, 0) / 1000

    # --- restore ----------------------------------------------------------------------------------------------------------------------

    def _new_journal(self) -> Journal:
        return Journal(self._here.log, self.number, self._here.settings, self._clock)

    def _new_inputs(self) -> Inputs:
        return Inputs(self._here.log, self.number, self._here.settings.partitions, self._here.begin)

    async def _restore(self, reason: str) -> None:
        started = self._clock()
        self._to(Phase.CLAIMING)  # 1: nothing of this partition is assigned to the reader yet
        kept, self.kept = self.kept, None
        self._journal = self._new_journal()
        await self._journal.read_to_end(kept)  # 2, 3
        await self._give_way()
        await self._journal.claim()  # 4, 5
        self._here.metrics.claims.labels(reason).inc()
        self._to(Phase.RESTORING)
        fold = self._journal.fold
        await self._index(fold)
        await self._publish()  # 6
        self._inputs = self._new_inputs()
        self._inputs.positions, self._inputs.topics = dict(fold.positions), dict(fold.topics)
        self._leftover, self._begun, self._horizon, self._moved, self._appending = [], 0, None, 0, False
        await self._read_inputs()  # 7
        if told := [*schedules_to_tell(self._place, fold), *back(self._place.book, fold)]:
            await publish_or_set_aside(self._here.log, told, self._refused)
        self._to(Phase.RUNNING)  # 8
        self._here.metrics.restore.observe(self._clock() - started)
        took = 1000 * (self._clock() - started)
        logger.debug("partition %d: running, %d instances, %.0f ms", self.number, len(fold.instances), took)
        self._here.runs()

    async def _give_way(self) -> None:
        """Code that is behind what the journal's instances run waits before it claims, once (see `versions`)."""
        needed = "" if self._gave_way else behind(self._place.book, self._journal.fold)
        if needed:
            self.problem = f"{needed}; waiting {GIVE_WAY_SECONDS:g} s for a process that has it"
            logger.warning("partition %d: %s", self.number, self.problem)
            self._idle = True  # `close` may cut this short
            try:
                await asyncio.sleep(GIVE_WAY_SECONDS)
            finally:
                self._idle, self.problem = False, ""
            await self._journal.read_to_end(self._journal.fold)
            logger.warning("partition %d: nobody came; %s. What comes for them parks them, and is kept", self.number, needed)
        self._gave_way = True

    async def _index(self, fold: Fold) -> None:
        """Timers and counts from the states; in slices, so that the process still answers its group meanwhile."""
        self._timers = Timers()
        self._census.leave()
        for number, state in enumerate(fold.states()):
            slot = Slot(state.saga, state.key)
            self._timers.set(slot, state)
            self._census.see(slot, state)
            if number % 500 == 499:
                await asyncio.sleep(0)

    async def _read_inputs(self) -> None:
        """Assign all inputs that are not read yet. Where one begins is in the journal before anything of it is decided."""
        before = set(self._inputs.reading)
        found, notes = await self._inputs.find(self._here.counts, self._here.accept_loss)
        if notes:
            batch = Batch(self._place, self._journal.fold, self._journal.now())
            for note in notes:
                batch.other("inputs", note)
            await self._commit(batch)
        await self._here.reader.assign({tp: offset for tp, offset in found.items() if tp not in before})
        self._horizon = None  # it knows nothing of what was added, where a reply may lie that was there in time

    # --- work -------------------------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        while not self._closing:
            if len(self._inputs.wanted(self._here.counts)) > len(self._inputs.reading):
                await self._read_inputs()
            records = await self._fetch()
            batch = Batch(self._place, self._journal.fold, self._journal.now())
            self._take(batch, records)  # commit 1, 2
            await self._take_timers(batch)
            if batch.decisions or self._journal.unfinished or self._journal.snapshot_due() or self._has_moved():
                await self._commit(batch)  # 3, 4, 5
                await self._publish()  # 6
                await self._journal.trim()

    async def _fetch(self) -> list[StoredRecord]:
        if self._leftover or self._closing:
            return []
        self._idle = True
        try:
            return await self._here.reader.fetch(self._inputs.reading, limit=FETCH_LIMIT, timeout=self._patience())
        finally:
            self._idle = False

    def _patience(self) -> float:
        """How long to wait for an input, in seconds: until the next timer, or not at all while a snapshot is being written."""
        if self._journal.unfinished or self._journal.snapshot_due():
            return 0.0
        due = self._timers.next_due()
        if due is None or (self._horizon is not None and not self._reached(self._horizon)):
            return IDLE_SECONDS
        return min(max(due - self._journal.now(), 0) / 1000, IDLE_SECONDS)

    def _take(self, batch: Batch, records: list[StoredRecord]) -> None:
        waiting = self._leftover or records
        last: dict[TopicPartition, StoredRecord] = {}
        taken = 0
        for record in waiting:
            if batch.full:
                break
            self._begun = batch.take(record, self._begun)
            if self._begun:
                break  # it stays the first of what is left over
            last[TopicPartition(record.topic, record.partition)] = record
            taken += 1
        self._leftover = waiting[taken:]
        self._moved += taken
        for tp, record in last.items():
            self._inputs.positions[tp] = Position(record.offset + 1, checksum(record))
        left = {TopicPartition(record.topic, record.partition) for record in self._leftover}
        for tp in self._inputs.reading:
            if tp not in left:
                self._inputs.reached(tp, self._here.reader.position(tp))
        if batch.unnamed:
            self._here.metrics.ignored.labels("unnamed").inc(batch.unnamed)

    def _has_moved(self) -> bool:
        """Is it time to write down positions and what was sent, though nothing was decided?"""
        if self._moved >= MOVED_WITHOUT_DECISION:
            return True
        idle = self._clock() - self._committed >= MOVED_SECONDS
        return idle and (self._journal.unmarked or self._inputs.positions != self._journal.fold.positions)

    async def _take_timers(self, batch: Batch) -> None:
        """Timers that are due, once every input that was there before them is decided."""
        due = self._timers.next_due()
        if due is None or due > batch.now or batch.full:
            return
        if self._horizon is None or self._horizon.time < due:
            asked = self._journal.now()
            bounds = await self._here.log.bounds(self._inputs.reading, committed=True)
            self._horizon = _Horizon(asked, {tp: bound.end for tp, bound in bounds.items()})
        if not self._reached(self._horizon):
            return
        for slot, step, timer in self._timers.due(min(self._horizon.time, batch.now), FETCH_LIMIT):
            if batch.full:
                break
            batch.timer(slot, step, timer)
            self._late = max(self._late, batch.now - timer)

    def _reached(self, horizon: _Horizon) -> bool:
        waiting = {TopicPartition(record.topic, record.partition) for record in self._leftover}
        return all(tp not in waiting and self._here.reader.position(tp) >= end for tp, end in horizon.ends.items())

    async def _commit(self, batch: Batch) -> None:
        """Append what was decided, and adopt it once it stands where it should."""
        before = self._clock()
        self._appending = True
        await self._journal.commit(batch, self._inputs.positions, self._inputs.topics)
        self._appending = False
        self._moved, self._committed = 0, self._clock()
        self._here.metrics.append.observe(self._clock() - before)
        self._here.metrics.commit_inputs.observe(batch.inputs)
        for decision in batch.decisions:
            self._census.count(decision, batch.result(decision), batch.now)
        for slot, held in batch.states.items():
            self._timers.set(slot, held.state)
            self._census.see(slot, held.state)

    async def _publish(self) -> None:
        """Send what is decided and not yet marked as sent, in order, until every record is acknowledged."""
        fold = self._journal.fold
        records = [record for sent in fold.unpublished for record in outgoing(sent.decision, self.number, sent.now)]
        failures = 0
        while records:
            try:
                await publish_or_set_aside(self._here.log, records, self._refused)
                break
            except Unavailable as error:
                logger.warning("partition %d: publishing again: %s", self.number, error)
                await self._pause(failures)
                failures += 1
        self._journal.all_published()

    def _refused(self, topic: str) -> None:
        self._here.metrics.deadletter.labels(self._here.metrics.label(topic), TOO_LARGE).inc()
