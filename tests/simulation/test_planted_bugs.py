"""Bugs planted one at a time into the production runtime: the simulation must find each within a stated number of seeds.

A simulation that has never failed proves nothing. Each bug here is one that somebody could write in good faith; `found` says how it
must show: by the invariant's number, or by a world that does not converge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from saga.engine.decision import Forward
from saga.errors import Corrupt, LostOwnership
from saga.log.base import Appended, Record, StoredRecord
from saga.runtime.batch import Batch
from saga.runtime.codec import encode, outgoing
from saga.runtime.fold import Fold
from saga.runtime.journal import Journal, _Snapshot
from saga.runtime.task import PartitionTask, Phase
from saga.testing.clock import run
from tests.simulation.world import World

Patch = pytest.MonkeyPatch


def publish_before_append(patch: Patch) -> None:
    commit = PartitionTask._commit

    async def wrong(self: Any, batch: Batch) -> None:
        records = [record for decision in batch.decisions for record in outgoing(decision, self.number, batch.now)]
        await self._here.log.publish(records)
        await commit(self, batch)

    patch.setattr(PartitionTask, "_commit", wrong)


def skip_the_offset_check(patch: Patch) -> None:
    append = Journal._append

    async def wrong(self: Any, records: Sequence[Record]) -> Appended:
        appended = await append(self, records)
        return (
            appended
            if len(records) == 1 and b'"claim"' in (records[0].value or b"")
            else Appended(self.fold.next, appended.timestamp)
        )

    patch.setattr(Journal, "_append", wrong)


def count_a_void_batch(patch: Patch) -> None:
    take = Fold._take

    def wrong(self: Any, record: StoredRecord, value: dict[str, Any]) -> Any:
        if value["kind"] == "commit":
            value = {**value, "offset": record.offset}
        return take(self, record, value)

    patch.setattr(Fold, "_take", wrong)


def name_a_snapshot_in_the_batch_with_its_begin(patch: Patch) -> None:
    parts = Journal._next_parts

    def wrong(self: Any) -> Any:
        made = parts(self)
        if made and made[0][0]["kind"] == "snapshot.begin":
            self._restore_from = self.fold.next
        return made

    patch.setattr(Journal, "_next_parts", wrong)
    patch.setattr("saga.runtime.journal.PART_BYTES", 1000)


def trim_to_a_snapshot_that_is_not_complete(patch: Patch) -> None:
    async def wrong(self: Any) -> None:
        if self.settings.history_ms is not None:
            await self.log.trim(self.partition, self.fold.snapshot_begin)

    patch.setattr(Journal, "trim", wrong)
    patch.setattr("saga.runtime.journal.PART_BYTES", 1000)


def put_old_states_into_a_snapshot(patch: Patch) -> None:
    init = _Snapshot.__init__

    def wrong(self: Any, fold: Fold, settings: Any) -> None:
        init(self, fold, settings)
        frozen = Fold(fold.partition)
        frozen.outlines = fold.outlines
        for slot, encoded in fold.instances.items():
            frozen.instances.put_bytes(slot, encoded)
        self._fold = frozen

    patch.setattr(_Snapshot, "__init__", wrong)
    patch.setattr("saga.runtime.journal.PART_BYTES", 1000)


def republish_nothing_after_a_restore(patch: Patch) -> None:
    publish = PartitionTask._publish

    async def wrong(self: Any) -> None:
        if self.phase is Phase.RESTORING:
            self._journal.all_published()
        await publish(self)

    patch.setattr(PartitionTask, "_publish", wrong)


def mark_published_before_it_is(patch: Patch) -> None:
    commit = Journal.commit

    async def wrong(self: Any, batch: Batch, *rest: Any) -> None:
        self._published = self.fold.next + len(batch.decisions) + 1
        await commit(self, batch, *rest)

    patch.setattr(Journal, "commit", wrong)


def own_without_a_claim(patch: Patch) -> None:
    async def wrong(self: Any) -> None:
        bounds = await self._bounds()
        await self._read(bounds.end)
        fold = self.fold
        fold.partitions = self.settings.partitions
        self._base_ms, self._base_clock = max(fold.now, self.log.broker.now()), self._clock()
        self._published, self._restore_from, self._snapshot = fold.published, fold.restore_from, None

    patch.setattr(Journal, "claim", wrong)


def fire_timers_without_the_horizon(patch: Patch) -> None:
    patch.setattr(PartitionTask, "_reached", lambda _self, _horizon: True)
    patch.setattr("saga.runtime.task.FETCH_LIMIT", 1)  # a backlog


def commit_positions_before_decisions(patch: Patch) -> None:
    commit = Journal.commit

    async def wrong(self: Any, batch: Batch, positions: Any, topics: Any) -> None:
        await commit(self, Batch(batch.place, batch.fold, batch.now), positions, topics)
        await commit(self, batch, positions, topics)

    patch.setattr(Journal, "commit", wrong)


def commit_decisions_before_positions(patch: Patch) -> None:
    commit = Journal.commit

    async def wrong(self: Any, batch: Batch, positions: Any, topics: Any) -> None:
        await commit(self, batch, self.fold.positions, topics)
        await commit(self, Batch(batch.place, batch.fold, batch.now), positions, topics)

    patch.setattr(Journal, "commit", wrong)


def believe_an_append_without_an_answer(patch: Patch) -> None:
    append = Journal._append

    async def wrong(self: Any, records: Sequence[Record]) -> Appended:
        try:
            return await append(self, records)
        except LostOwnership:
            if b'"claim"' in (records[0].value or b""):
                raise
            return Appended(self.fold.next, 0)

    patch.setattr(Journal, "_append", wrong)


def append_again_at_the_new_end(patch: Patch) -> None:
    """Re-send what did not stand where it should, with the offset put right: what an ordinary retry would do."""
    append = Journal._append

    async def wrong(self: Any, records: Sequence[Record]) -> Appended:
        claim = b'"claim"' in (records[0].value or b"")
        expected = self.fold.next
        try:
            appended = await append(self, records)
            if claim or appended.offset == expected:
                return appended
        except LostOwnership:
            if claim:
                raise
        end = (await self._bounds()).end
        trailer = orjson.loads(records[-1].value or b"")
        again = [*records[:-1], Record(None, encode({**trailer, "offset": end + len(records) - 1}))]
        await append(self, again)
        return Appended(expected, 0)

    patch.setattr(Journal, "_append", wrong)


def forward_to_the_wrong_partition(patch: Patch) -> None:
    add = Batch._add

    def wrong(self: Any, decision: Any, written: Record | None = None) -> None:
        for output in decision.outputs:
            if isinstance(output, Forward):
                object.__setattr__(output, "partition", (output.partition + 1) % self.place.partitions)
        add(self, decision, written)

    patch.setattr(Batch, "_add", wrong)


def forget_too_early(patch: Patch) -> None:
    keep = Fold._remember

    def wrong(self: Any, slot: Any, keep_until: int | None) -> None:
        keep(self, slot, None if keep_until is None else self.get(slot).ended)

    patch.setattr(Fold, "_remember", wrong)


def let_time_follow_the_brokers_clock(patch: Patch) -> None:
    patch.setattr(Journal, "now", lambda self: self.log.broker.now())


@dataclass(frozen=True)
class Bug:
    plant: Callable[[Patch], None]
    within: int  # seeds
    found: str  # what the failure says


BUGS = [
    Bug(publish_before_append, 10, "I15|I7|I8|I2"),
    Bug(skip_the_offset_check, 10, "I1|no convergence|Corrupt"),
    Bug(count_a_void_batch, 10, "Corrupt|I1|no convergence"),
    Bug(name_a_snapshot_in_the_batch_with_its_begin, 20, "I18|no convergence"),
    Bug(trim_to_a_snapshot_that_is_not_complete, 20, "I18|no convergence"),
    Bug(put_old_states_into_a_snapshot, 20, "another state|I18|no convergence"),
    Bug(republish_nothing_after_a_restore, 20, "I15"),
    Bug(mark_published_before_it_is, 20, "I15|no convergence"),
    Bug(own_without_a_claim, 10, "nobody has claimed|I17|I18"),
    Bug(fire_timers_without_the_horizon, 30, "I21"),
    Bug(commit_positions_before_decisions, 10, "I14|I3|no convergence"),
    Bug(commit_decisions_before_positions, 10, "I14"),
    Bug(believe_an_append_without_an_answer, 10, "Corrupt|I1|no convergence"),
    Bug(append_again_at_the_new_end, 10, "Corrupt|I1|no convergence"),
    Bug(forward_to_the_wrong_partition, 5, "I3|no convergence"),
    Bug(forget_too_early, 5, "I16|no convergence"),
    Bug(let_time_follow_the_brokers_clock, 10, "time went back|S27"),
]


@pytest.mark.slow
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    bug.plant(monkeypatch)
    for seed in range(bug.within):
        said = _play(seed)
        if said:
            print(f"{bug.plant.__name__}: seed {seed}: {said[:200]}")
            assert re.search(bug.found, said), f"found, but as something else: {said}"
            return
    raise AssertionError(f"{bug.plant.__name__} was not found within {bug.within} seeds")


def _play(seed: int) -> str:
    """What a run came to: "" if all was well."""
    try:
        run(_scene(seed), seed=seed).check()
    except (AssertionError, Corrupt) as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def _scene(seed: int) -> World:
    world = World(seed, rounds=15)
    await world.play()
    return world
