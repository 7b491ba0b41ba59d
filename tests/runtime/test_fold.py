"""The fold: every reader, from wherever it may start, reads the same state out of one journal; or says that it is corrupt."""

from __future__ import annotations

from typing import Any

import pytest

import saga.runtime.journal as module
from saga.errors import Corrupt
from saga.log.base import StoredRecord
from saga.runtime.codec import FORMAT, decode, encode
from saga.runtime.fold import Fold
from saga.runtime.states import Slot
from saga.testing.clock import run
from tests.runtime.kit import HERE, Pen, changed, fold, journal_of, moved, open_log, placed, records, reply


def written(*, keys: str = "abc", snapshots: int = 1) -> tuple[list[StoredRecord], Fold]:
    """A journal with a claim, starts, replies and snapshots between them; and its owner's live fold."""

    async def write() -> tuple[list[StoredRecord], Fold]:
        log = await open_log()
        pen = await Pen(log).open()
        for key in keys:
            await pen.start(key)
            await pen.commit(reply(pen.id(key), "pay"))
        for _ in range(snapshots):
            await pen.snapshot()
            await pen.commit(*(reply(pen.id(key), "greet") for key in keys))
        return await records(log), pen.fold

    return run(write())


def kinds(journal: list[StoredRecord]) -> list[str]:
    return [decode(record)["kind"] for record in journal]


def test_the_fold_is_the_owners_live_state_byte_for_byte() -> None:
    journal, live = written()
    assert fold(journal).canonical() == live.canonical()
    assert fold(journal).outlines == live.outlines


def test_the_fold_from_every_named_snapshot_is_the_fold_from_the_beginning() -> None:
    journal, live = written(snapshots=3)
    named = {decode(record).get("restore_from", 0) for record in journal} - {0}
    assert len(named) == 3
    for start in named:
        again = fold(journal, start)
        assert again.canonical() == live.canonical(), f"from {start}"
        assert (again.outlines, again.published, again.partitions) == (live.outlines, live.published, 1)


@pytest.mark.parametrize("late_by", [1, 2, 5])
def test_a_batch_that_does_not_stand_where_it_says_changes_nothing_from_any_start(late_by: int) -> None:
    journal, live = written()
    batch = [record for record in journal if record.offset >= journal[-1].offset - 3]
    copies = moved(batch * late_by, len(journal))
    for start in (0, live.restore_from):
        assert fold(journal + copies, start).canonical() == live.canonical(), f"a void batch counted from {start}"
    assert fold(journal + copies).next == len(journal) + len(copies)


def test_a_void_batch_with_a_whole_snapshot_begins_none() -> None:
    journal, live = written()
    begin = kinds(journal).index("snapshot.begin")
    end = next(n for n in range(begin, len(journal)) if kinds(journal)[n] == "commit")
    again = fold(journal + moved(journal[begin : end + 1], len(journal)))
    assert (again.snapshot_begin, again.restore_from) == (live.snapshot_begin, live.restore_from)


def test_an_earlier_owners_batch_behind_a_claim_is_void_and_one_before_it_counts() -> None:
    async def play() -> None:
        log = await open_log()
        ann = await Pen(log, "ann").open()
        await ann.start("a")
        bob = await Pen(log, "bob").open()
        with pytest.raises(Exception, match="another owner wrote"):
            await ann.start("b")
        state = fold(await records(log))
        assert state.owner == "bob"
        assert [slot.key for slot in state.instances] == ["a"], "the old owner's batch counted"
        del bob

    run(play())


def test_a_batch_of_one_who_did_not_claim_is_corrupt() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match="eve writes, but ann claimed"):
        fold([*journal[:-1], changed(journal[-1], owner="eve")])


def test_an_unclaimed_journal_is_corrupt() -> None:
    journal, _ = written(snapshots=0)
    unclaimed = moved(journal[1:3], 0)
    with pytest.raises(Corrupt, match="nobody has claimed"):
        fold([unclaimed[0], changed(unclaimed[1], offset=1)])


def test_a_gap_is_corrupt() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match="offset 3 follows 1; records are missing"):
        fold(journal[:2] + journal[3:])


def test_a_batch_of_another_length_than_it_says_is_corrupt() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match="the batch has 2 records, not 5"):
        fold([*journal[:2], changed(journal[2], count=5)])


def test_a_batch_without_its_commit_at_the_end_is_corrupt() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match="ends inside a batch"):
        fold(journal[:-1])


def test_a_claim_inside_a_batch_is_corrupt() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match="a claim stands inside a batch"):
        fold([*journal[:2], *moved(journal[:1], 2)])


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xff",
        b"[]",
        b"7",
        b"{}",
        b'{"kind":7}',
        b'{"kind":"claim"}',
        b'{"kind":"commit"}',
        b'{"kind":"commit","offset":1,"count":"x"}',
    ],
)
def test_what_this_package_did_not_write_is_corrupt(garbage: bytes) -> None:
    journal, _ = written(snapshots=0)
    with pytest.raises(Corrupt):
        fold([journal[0], *moved(journal_of(garbage), 1)])


@pytest.mark.parametrize("kind", ["surprise", "snapshot.surprise"])
def test_a_kind_of_record_that_is_not_known_is_corrupt_and_not_skipped(kind: str) -> None:
    journal, _ = written(snapshots=0)
    with pytest.raises(Corrupt, match="no kind of record"):
        fold([journal[0], *moved(journal_of({"kind": kind}), 1), changed(journal[2], count=2)])


def test_a_decision_without_its_fields_is_corrupt() -> None:
    journal, _ = written(snapshots=0)
    with pytest.raises(Corrupt, match="not as it must be"):
        fold([journal[0], *moved(journal_of({"kind": "decision"}), 1), journal[2]])


def test_a_newer_format_is_refused_with_both_numbers() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match=f"has format {FORMAT + 1}; this version reads up to {FORMAT}"):
        fold([changed(journal[0], format=FORMAT + 1), *journal[1:]])


@pytest.mark.parametrize("kind", ["claim", "snapshot.begin"])
def test_a_journal_for_another_number_of_partitions_is_refused(kind: str) -> None:
    journal, _ = written()
    at = len(journal) - 1 - kinds(journal)[::-1].index(kind)
    after = [changed(journal[at], partitions=4), *journal[at + 1 :]]
    if at == 0:
        after = [journal[0], *moved([changed(journal[0], partitions=4)], 1)]
    with pytest.raises(Corrupt, match="for 1, then for 4 partitions"):
        fold(journal[:at] + after)


def test_a_snapshot_part_that_differs_from_the_fold_is_corrupt() -> None:
    journal, live = written()
    at = kinds(journal).index("snapshot.part")
    part = decode(journal[at])["instance"]
    other = changed(journal[at], instance={**part, "seq": part["seq"] + 1})
    with pytest.raises(Corrupt, match="has another state of"):
        fold([*journal[:at], other, *journal[at + 1 :]])
    with pytest.raises(Corrupt, match="which the journal does not"):
        fold([*journal[:at], changed(journal[at], instance={**part, "key": "nobody"}), *journal[at + 1 :]])
    assert live.complete


def test_a_snapshot_with_a_missing_part_is_corrupt() -> None:
    journal, _ = written()
    at = kinds(journal).index("snapshot.end")
    with pytest.raises(Corrupt, match="the snapshot has 3 parts, not 2"):
        fold([*journal[:at], changed(journal[at], count=2), *journal[at + 1 :]])


def test_a_fold_that_begins_with_a_snapshot_that_has_no_end_is_corrupt() -> None:
    journal, _ = scattered()
    begin = kinds(journal).index("snapshot.begin")
    cut = kinds(journal).index("commit", begin) + 1
    assert "snapshot.end" not in kinds(journal[:cut])
    with pytest.raises(Corrupt, match="has no end"):
        fold(journal[:cut], begin)


def test_a_decision_before_its_snapshot_part_changes_nothing_but_its_outputs_count() -> None:
    """The writer snapshots an instance as it is when its turn comes: the part holds the decision's result."""
    journal, live = scattered()
    begin = kinds(journal).index("snapshot.begin")
    suffix = Fold(HERE, begin)
    for record in journal[begin:]:
        suffix.feed(record)
    assert suffix.canonical() == live.canonical()
    first = next(n for n in range(begin, len(journal)) if kinds(journal)[n] == "decision")
    assert any(kind == "snapshot.part" for kind in kinds(journal)[first:]), "no decision stands before a part"


def scattered() -> tuple[list[StoredRecord], Fold]:
    """A snapshot in several batches, with decisions about known, unknown and new instances between its parts."""

    async def write() -> tuple[list[StoredRecord], Fold]:
        log = await open_log()
        pen = await Pen(log).open()
        keys = [f"k{number}" for number in range(12)]
        for key in keys:
            await pen.commit(placed(key, trace="x" * 100))
        pen.fold.grown = 10**12
        for key in [*keys[::-1], *keys]:
            step = "pay" if pen.fold.get(Slot("order", key)).steps["pay"].status == "executing" else "greet"  # type: ignore[union-attr]
            await pen.commit(reply(pen.id(key), step), placed(f"new-{key}-{step}"))
        while pen.journal.unfinished:
            await pen.commit()
        return await records(log), pen.fold

    before, module.PART_BYTES = module.PART_BYTES, 700
    try:
        return run(write())
    finally:
        module.PART_BYTES = before


def test_a_part_behind_a_decision_of_its_own_batch_is_corrupt() -> None:
    journal, _ = written()
    begin = kinds(journal).index("snapshot.begin")
    claim, decision, commit = journal[:3]
    batch = moved([decision, journal[begin], commit], 1)
    with pytest.raises(Corrupt, match="behind a decision"):
        fold([claim, *batch[:2], changed(batch[2], offset=3, count=3)])


def test_a_decision_out_of_order_is_corrupt() -> None:
    journal, _ = written(snapshots=0)
    at = kinds(journal).index("decision", 2)
    with pytest.raises(Corrupt, match="decision 9 follows 1"):
        fold([*journal[:at], changed(journal[at], seq=9), *journal[at + 1 :]])


def test_time_never_goes_back() -> None:
    journal, _ = written()
    with pytest.raises(Corrupt, match="time went back"):
        fold([*journal[:-1], changed(journal[-1], now=1)])


def test_a_finished_instance_is_forgotten_at_the_time_its_last_decision_says_from_every_start() -> None:
    async def play() -> tuple[list[StoredRecord], Fold, list[list[str]]]:
        log = await open_log()
        pen = await Pen(log).open()
        seen: list[list[str]] = []
        await pen.start("a")
        await pen.complete("a")
        await pen.start("b")
        await pen.snapshot()
        keep_until = pen.fold.get(Slot("order", "a")).keep_until  # type: ignore[union-attr]
        assert keep_until is not None
        for now in (keep_until - 1, keep_until):
            await pen.commit(seconds=(now - pen.fold.now) / 1000)
            seen.append(sorted(slot.key for slot in pen.fold.instances))
        await pen.start("a")  # a new order under an old key
        return await records(log), pen.fold, seen

    journal, live, seen = run(play())
    assert seen == [["a", "b"], ["b"]]
    for start in (0, live.restore_from):
        assert fold(journal, start).canonical() == live.canonical(), f"from {start}"


def test_what_is_not_marked_published_is_published_again_from_every_start() -> None:
    async def play() -> tuple[list[StoredRecord], list[list[Any]]]:
        log = await open_log()
        pen = await Pen(log).open()
        await pen.start("a")
        await pen.snapshot()
        await pen.commit(reply(pen.id("a"), "pay"), published=False)
        await pen.commit(reply(pen.id("a"), "reserve"), published=False)
        return await records(log), [[(s.offset, s.decision.outputs) for s in pen.fold.unpublished]]

    journal, (live,) = run(play())
    named = decode(journal[-1])["restore_from"]
    assert named > 0
    for start in (0, named):
        found = [(sent.offset, sent.decision.outputs) for sent in fold(journal, start).unpublished]
        assert found == live, f"from {start}"


def test_a_snapshot_that_its_owner_left_unfinished_does_not_put_off_the_next_one() -> None:
    journal, _ = scattered()
    begin = kinds(journal).index("snapshot.begin")
    cut = next(n for n in range(begin, len(journal)) if kinds(journal)[n] == "commit") + 1
    assert fold(journal[:cut]).grown >= sum(len(r.value or b"") for r in journal[:begin] if decode(r)["kind"] == "decision")


def test_the_value_of_a_record_is_always_the_same_bytes() -> None:
    journal, _ = written()
    for record in journal:
        assert encode(decode(record)) == record.value
