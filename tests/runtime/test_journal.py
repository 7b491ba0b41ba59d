"""The journal in its owner's hands: one append per commit, the offset check, claims, snapshots that are named in time, trimming."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from saga.errors import Corrupt, LostOwnership, Misconfigured, Unavailable
from saga.log.base import Appended, Record, TopicPartition
from saga.log.memory import MemoryLog
from saga.runtime.codec import decode
from saga.runtime.fold import Fold
from saga.runtime.journal import Journal, JournalSettings
from saga.testing.clock import run
from tests.runtime.kit import HERE, Counting, Pen, fold, open_log, placed, records, reply


async def counted() -> tuple[Counting, MemoryLog]:
    log = await open_log()
    return Counting(log), log


def test_a_commit_is_one_append_with_or_without_a_snapshot() -> None:
    async def play() -> None:
        log, _ = await counted()
        pen = await Pen(log).open()
        assert len(log.appends) == 1, "a claim is one append"
        await pen.start("a", "b", "c")
        assert len(log.appends) == 2, "three decisions are one append"
        pen.journal.settings = Pen(log, snapshot_bytes=1).settings
        await pen.commit(reply(pen.id("a"), "pay"))
        assert len(log.appends) == 3, "a snapshot and a decision are one append"
        assert "snapshot.end" in [decode_value(record)["kind"] for record in log.appends[-1]]

    run(play())


def decode_value(record: Record) -> dict[str, Any]:
    value: dict[str, Any] = orjson.loads(record.value or b"")
    return value


def test_a_claim_copies_what_is_published_and_where_to_restore_from() -> None:
    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        await ann.snapshot()
        await ann.commit(reply(ann.id("a"), "pay"))
        last = decode((await records(log))[-1])
        await Pen(log, "bob").open()
        claim = decode((await records(log))[-1])
        assert claim["owner"] == "bob"
        assert last["restore_from"] > 0
        assert (claim["published"], claim["restore_from"]) == (last["published"], last["restore_from"])

    run(play())


def test_an_owner_learns_from_the_offset_that_it_lost_and_its_state_is_as_before() -> None:
    async def play() -> None:
        log = await open_log()
        ann, bob = await Pen(log, "ann").open(), Pen(log, "bob")
        await ann.start("a")
        await bob.open()
        before = ann.fold.canonical()
        with pytest.raises(LostOwnership, match="stands at 4, not at 3"):
            await ann.start("b")
        assert ann.fold.canonical() == before, "a batch that does not count was adopted"

    run(play())


async def _landed(to: TopicPartition, batch: Sequence[Record], log: Any) -> Appended:
    await log.append(to, batch)
    raise Unavailable("the answer was lost")


async def _nowhere(_to: TopicPartition, _batch: Sequence[Record]) -> Appended:
    raise Unavailable("nobody answered")


@pytest.mark.parametrize("landed", [True, False])
def test_an_append_with_an_unknown_outcome_is_lost_ownership_and_is_never_sent_again(landed: bool) -> None:
    async def play() -> None:
        log, inner = await counted()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        log.spoil = (lambda to, batch: _landed(to, batch, inner)) if landed else _nowhere
        with pytest.raises(LostOwnership, match="outcome of an append is unknown"):
            await ann.start("b")
        again = await Pen(log, "ann").open()
        await again.start("c")
        decided = [tuple(batch) for batch in log.appends if len(batch) > 1]
        assert len(set(decided)) == len(decided) == 3, "a batch was sent twice"
        there = sorted(slot.key for slot in again.fold.instances)
        assert there == (["a", "b", "c"] if landed else ["a", "c"]), "a restore finds exactly what had landed"

    run(play())


def test_a_late_append_lands_void_behind_the_next_claim() -> None:
    async def play() -> None:
        log, inner = await counted()
        ann = await Pen(log, "ann").open()
        log.spoil = _nowhere
        with pytest.raises(LostOwnership):
            await ann.start("b")
        again = await Pen(log, "ann").open()
        inner.broker.append(HERE, log.appends[1])
        with pytest.raises(LostOwnership):
            await again.start("c")
        third = await Pen(log, "ann").open()
        assert not third.fold.instances, "a late append counted"

    run(play())


def test_an_acknowledgement_without_an_offset_is_lost_ownership() -> None:
    async def unknown(_to: TopicPartition, _batch: Sequence[Record]) -> Appended:
        return Appended(-1, 0)

    async def play() -> None:
        log, _ = await counted()
        ann = await Pen(log).open()
        log.spoil = unknown
        with pytest.raises(LostOwnership, match="without an offset"):
            await ann.start("a")

    run(play())


def test_a_snapshot_is_named_only_by_the_record_after_its_end() -> None:
    async def play() -> None:
        log = await open_log()
        pen = await Pen(log).open()
        await pen.start("a")
        await pen.snapshot()
        values = [decode(record) for record in await records(log)]
        end = next(n for n, value in enumerate(values) if value["kind"] == "snapshot.end")
        commits = [value for value in values[end:] if value["kind"] == "commit"]
        begin = next(n for n, value in enumerate(values) if value["kind"] == "snapshot.begin")
        assert [commit["restore_from"] for commit in commits] == [0, begin], "named in the batch with its end, or not at all"

    run(play())


def test_a_snapshot_is_named_only_when_all_before_its_begin_is_published() -> None:
    async def play() -> None:
        log = await open_log()
        pen = await Pen(log).open()
        await pen.start("a", published=False)
        pen.journal.settings = Pen(log, snapshot_bytes=1).settings
        await pen.commit(published=False)
        assert [decode(r)["kind"] for r in await records(log)][-2:] == ["snapshot.end", "commit"]
        for _ in range(3):
            await pen.commit(published=False)
            assert decode((await records(log))[-1])["restore_from"] == 0, "named while outputs before it are not out"
        pen.journal.all_published()
        await pen.commit()
        await pen.commit()
        assert decode((await records(log))[-1])["restore_from"] > 0

    run(play())


def test_the_watermark_never_covers_what_is_not_published() -> None:
    async def play() -> None:
        log = await open_log()
        pen = await Pen(log).open()
        await pen.start("a", published=False)
        await pen.commit(published=False)
        assert decode((await records(log))[-1])["published"] == 0
        pen.journal.all_published()
        await pen.commit()
        assert decode((await records(log))[-1])["published"] == 4

    run(play())


def test_the_journal_is_trimmed_only_to_a_snapshot_that_an_acknowledged_record_names() -> None:
    async def play() -> None:
        log = await open_log()
        pen = await Pen(log, history_ms=1).open()
        await pen.start("a")
        pen.journal.settings = Pen(log, history_ms=1, snapshot_bytes=1).settings
        await pen.commit()
        await pen.journal.trim()
        assert (await log.bounds([HERE]))[HERE].start == 0, "trimmed to a snapshot that no record names yet"
        pen.journal.settings = pen.settings
        await pen.commit()
        await pen.journal.trim()
        assert (await log.bounds([HERE]))[HERE].start == pen.fold.restore_from > 0
        live = pen.fold.canonical()
        assert (await Pen(log, "bob").open()).fold.canonical() == live, "a trimmed journal folds to another state"

    run(play())


def test_history_is_kept_as_long_as_asked_for() -> None:
    async def play() -> None:
        log = await open_log()
        for history in (None, 3_600_000):
            pen = await Pen(log, history_ms=history).open()
            await pen.start(f"a{history}")
            await pen.snapshot()
            await pen.journal.trim()
            assert (await log.bounds([HERE]))[HERE].start == 0

    run(play())


def test_a_journal_trimmed_by_another_owner_while_it_is_read_is_read_again() -> None:
    """A paused owner wakes up, names its snapshot and trims, between our look at the journal's bounds and our reading."""

    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann", history_ms=1).open()
        await ann.start("a", "b")
        await ann.snapshot()
        held = await log.bounds([HERE])

        class Overtaken(Counting):
            trimmed = False

            async def bounds(self, partitions: Any) -> Any:
                if self.trimmed:
                    return await log.bounds(partitions)
                self.trimmed = True
                await ann.commit(reply(ann.id("a"), "pay"))
                await ann.snapshot()
                await ann.commit(reply(ann.id("b"), "pay"))
                await ann.journal.trim()
                return held

        bob = Pen(Overtaken(log), "bob")
        with pytest.raises(LostOwnership, match="another owner trimmed"):
            await bob.open()
        await bob.open()
        assert bob.fold.canonical() == ann.fold.canonical()

    run(play())


def test_a_void_batch_at_the_end_may_name_a_snapshot_that_was_trimmed_since() -> None:
    """Found by the simulation: the partition refused to be restored, since its last record pointed below the log's start."""

    async def play() -> None:
        log, inner = await counted()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        log.spoil = _nowhere
        with pytest.raises(LostOwnership):
            await ann.start("late")
        late = log.appends[-1]
        bob = await Pen(log, "bob", history_ms=1).open()
        await bob.start("b")
        await bob.snapshot()
        await bob.commit()
        await bob.journal.trim()
        inner.broker.append(HERE, late)
        assert decode((await records(log))[-1])["restore_from"] < (await log.bounds([HERE]))[HERE].start
        assert (await Pen(log, "ann").open()).fold.canonical() == bob.fold.canonical()

    run(play())


def test_records_that_somebody_else_deleted_are_missed() -> None:
    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann").open()
        await ann.start("a", "b")
        await ann.commit(reply(ann.id("a"), "pay"))
        await log.trim(HERE, 4)
        with pytest.raises(Corrupt, match="no snapshot begins here"):
            await Pen(log, "bob").open()
        await log.trim(HERE, (await log.bounds([HERE]))[HERE].end)
        with pytest.raises(Corrupt, match="is empty but does not start at 0"):
            await Pen(log, "bob").open()

    run(play())


def test_a_journal_that_ends_without_a_commit_is_corrupt() -> None:
    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        log.broker.append(HERE, [Record(None, (await records(log))[1].value)])
        with pytest.raises(Corrupt, match="ends with a decision"):
            await Pen(log, "bob").open()

    run(play())


def test_a_kept_fold_goes_on_and_equals_a_new_one() -> None:
    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        kept = ann.fold
        bob = await Pen(log, "bob").open()
        await bob.start("b")
        await ann.open(kept)
        assert ann.fold is kept
        assert kept.canonical() == fold(await records(log)).canonical()
        elsewhere = Fold(HERE)
        elsewhere.next = 10**6
        ann.journal = Journal(log, 0, ann.settings, lambda: 0.0)
        await ann.open(elsewhere)
        assert ann.fold is not elsewhere, "a fold beyond the journal's end was kept"
        assert ann.fold.canonical() == kept.canonical()

    run(play())


def test_a_changed_definition_without_a_new_version_is_refused_with_the_difference() -> None:
    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        bob = Pen(log, "bob")
        outline = next(iter(bob.settings.outlines.values()))["outline"]
        name = next(iter(outline))
        other = {key: value for key, value in outline.items() if key != name}
        bob.journal.settings = JournalSettings(
            **{**vars(bob.settings), "outlines": {"order 1": {"hash": "other", "outline": other}}}
        )
        with pytest.raises(Misconfigured, match=r"order version 1 changed, but its version did not(.|\n)*" + name):
            await bob.open()
        assert len([r for r in await records(log) if decode(r)["kind"] == "claim"]) == 1, "it claimed all the same"

    run(play())


def test_another_number_of_partitions_is_refused_before_the_claim() -> None:
    async def play() -> None:
        log = await open_log()
        await Pen(log, "ann").open()
        bob = Pen(log, "bob")
        bob.journal.settings = JournalSettings(**{**vars(bob.settings), "partitions": 4})
        with pytest.raises(Misconfigured, match="was written for 1 partitions; the app says 4"):
            await bob.open()

    run(play())


def test_time_goes_on_from_the_claim_and_never_back() -> None:
    async def play() -> None:
        log = await open_log()
        clock = [100.0]
        ann = Pen(log)
        ann.journal = Journal(log, 0, ann.settings, lambda: clock[0])
        await ann.open()
        begin = ann.journal.now()
        assert begin == (await records(log))[0].timestamp
        clock[0] += 1.5
        assert ann.journal.now() == begin + 1500
        await ann.start("a")  # at a time that the test says, far later
        log.broker.epoch -= 3600
        bob = await Pen(log, "bob").open()
        assert bob.journal.now() >= ann.fold.now, "the broker's clock was set back, and time with it"

    run(play())


def test_a_commit_full_of_decisions_has_no_room_for_a_snapshot() -> None:
    async def play() -> None:
        log, _ = await counted()
        pen = await Pen(log, snapshot_bytes=1).open()
        await pen.start("a")
        await pen.commit(*(placed(f"k{n}", n, note="x" * 200_000) for n in range(6)))
        assert sum(len(r.value or b"") for r in log.appends[-1]) > 1024 * 1024
        assert not any(decode_value(r)["kind"].startswith("snapshot") for r in log.appends[-1])
        await pen.commit()
        assert any(decode_value(r)["kind"].startswith("snapshot") for r in log.appends[-1])

    run(play())
