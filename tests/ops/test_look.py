"""Looking into the journal: bounded, right, and without taking part."""

from __future__ import annotations

import asyncio

import pytest

from saga.errors import Misconfigured
from saga.log.base import TopicPartition
from saga.log.memory import MemoryLog
from saga.ops.lines import page
from saga.ops.listing import Filter, Listing, Shown, as_json, cells, listing
from saga.ops.look import History, Journals
from saga.ops.story import story
from saga.ops.why import why
from saga.ops.words import brief, changes, coarse, duration, parse_duration, plain
from saga.runtime.codec import JOURNAL
from tests.ops import shop as s
from tests.ops.shop import PARTITIONS, Shop, ended, parked, play

STUCK = {"o-3 ship execute": [s.SILENCE], "o-3 ship verify": [s.SILENCE] * 5, "o-2 pay execute": [s.DECLINED]}


async def ends(shop: Shop) -> list[int]:
    bounds = await shop.log.bounds([TopicPartition(JOURNAL, n) for n in range(PARTITIONS)])
    return [found.end for found in bounds.values()]


def test_a_list_takes_what_its_filter_says_and_counts_all() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1", "o-2", "o-3")
        await shop.until("o-3", parked)
        now = shop.now()

        async def keys(**wanted: object) -> list[str]:
            return sorted(state.key for state in (await listing(Journals(shop.log), Filter(**wanted), now)).rows)  # type: ignore[arg-type]

        assert await keys() == ["o-3"], "without a filter: what has no outcome"
        assert await keys(shown=Shown.ALL) == ["o-1", "o-2", "o-3"]
        assert await keys(shown=Shown.COMPENSATED) == ["o-2"]
        assert await keys(shown=Shown.PARKED, step="ship", reason="unverified") == ["o-3"]
        assert await keys(step="pay") == await keys(reason="user-code") == await keys(saga="other") == []
        assert await keys(shown=Shown.ALL, older=3_600_000) == []
        cut: Listing = await listing(Journals(shop.log), Filter(shown=Shown.ALL), now, limit=2)
        assert (len(cut.rows), cut.taken) == (2, 3), "a limit cuts the rows, not the count"
        assert cut.counts == {"completed": 1, "compensated": 1, "parked": 1}
        assert as_json((await listing(Journals(shop.log), Filter(), now)).rows[0])["reason"] == "unverified"
        assert cells(cut.rows[0], now)[1][2] == "o-1", "the oldest come first"

    play(STUCK, scene)


def test_reading_changes_nothing_and_joins_nothing() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", ended)
        await shop.stop()
        before = await ends(shop)
        stranger = MemoryLog(shop.broker, "stranger")
        await stranger.open()
        await listing(Journals(stranger), Filter(shown=Shown.ALL), shop.now())
        await Journals(stranger).histories("o-1")
        assert await ends(shop) == before
        assert not stranger._memberships, "a reader is no member of any group"

    play({}, scene)


def test_a_list_reads_from_the_snapshot_and_a_story_says_what_was_trimmed() -> None:
    async def scene(shop: Shop) -> tuple[History, int]:
        await s.place(shop.log, "o-1")
        whole = await shop.until("o-1", parked)
        for n in range(60):  # others go by, and the journal is trimmed up to a snapshot
            await s.place(shop.log, f"more-{n}")
            await asyncio.sleep(2)
        home = whole.partition
        assert (await shop.log.bounds([home]))[home].start > whole.moments[-1].offset, "this test needs a trimmed journal"
        told: list[tuple[int, int]] = []
        journals = Journals(shop.log, lambda done, total: told.append((done, total)))
        await journals.fold(home)
        (_, total), (end, start) = (
            told[-1],
            ((await shop.log.bounds([home]))[home].end, (await shop.log.bounds([home]))[home].start),
        )
        assert 0 < total <= end - start, "what is now is read from the last snapshot, not from the beginning"
        history = await shop.history("o-1")
        assert history.trimmed
        assert history.state == whole.state, "the state is the same, wherever reading began"
        text = "\n".join(text for _, _, text in page(story(history, shop.now())))
        assert "was trimmed from the journal" in text
        assert why(history.state, shop.now()) in text  # type: ignore[arg-type]
        return history, shop.now()

    script = {"o-1 reserve execute": [s.FAILED] * 5, "o-1 pay compensate": [s.FAILED] * 10}
    play(script, scene, snapshot_bytes=2_000, snapshot_seconds=10.0, history_days=30 / 86400)


def test_why_says_what_is_next() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        history = await shop.until("o-1", lambda h: bool(h.state and h.state.steps["pay"].attempt == 2))
        state, sent = history.state, history.sent()
        assert state is not None
        now = sent["pay"] + 3000
        said = why(state, now, s.make(), sent)
        assert "the reply of payment to pay (attempt 2 of 3, sent 3.0 s ago), time-out in 2.0 s, then attempt 3" in said
        assert "its deadline is in " in said
        assert "attempt 2, sent" in why(state, now, None, sent), "without the definition it says what the journal knows"
        assert "not decided yet (does an orchestrator run?)" in why(state, now + 60_000, s.make(), sent)

    play({"o-1 pay execute": [s.SILENCE] * 3}, scene)


def test_a_place_without_a_journal_is_said_so() -> None:
    async def scene(shop: Shop) -> None:
        empty = MemoryLog(type(shop.broker)())
        await empty.open()
        with pytest.raises(Misconfigured, match=r"no topic saga\.journal"):
            await Journals(empty).histories("o-1")
        assert await Journals(shop.log).histories("never") == []

    play({}, scene)


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0 ms"), (999, "999 ms"), (4_213, "4.2 s"), (9_949, "9.9 s"), (32_400, "32 s"), (59_499, "59 s"), (59_500, "1 min"),
        (303_000, "5 min 3 s"), (3_599_900, "1 h"), (8_040_000, "2 h 14 min"), (86_399_000, "1 d"), (273_600_000, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_are_said_in_two_units(ms: int, text: str) -> None:
    assert duration(ms) == text


def test_durations_are_read_as_they_are_written() -> None:
    assert [parse_duration(text) for text in ("500ms", "90s", "1.5h", "2d", "10 min")] == [
        500,
        90_000,
        5_400_000,
        172_800_000,
        600_000,
    ]
    for wrong in ("", "10", "m", "-1s", "1w"):
        with pytest.raises(Misconfigured, match="a duration is written"):
            parse_duration(wrong)
    assert [coarse(ms) for ms in (4_213, 303_000, 90_000_000)] == ["4.2 s", "5 min", "1 d"]


def test_changes_of_data_are_told_at_their_place() -> None:
    before = {"a": 1, "lines": [{"n": 1}, {"n": 2}], "log": ["x"], "gone": 1, "address": {"city": "Rome", "zip": "1"}}
    after = {"a": 1, "lines": [{"n": 1}, {"n": 3}], "log": ["x", "y"], "new": True, "address": {"city": "Roma", "zip": "1"}}
    assert changes(before, after) == ["lines[1].n 2 → 3", 'log + "y"', "gone is gone", 'address.city "Rome" → "Roma"', "new true"]
    assert len(brief("x" * 1000)) == 60
    assert plain("a\n\x1b[1m\u202e日本") == "a\\n\\x1b[1m\\u202e日本"
