"""What the demo shows, from real journals: the production worker decides, in virtual time, and the view is made of what it wrote."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from itertools import pairwise

import pytest
from rich.console import Console

from saga.log.base import StoredRecord
from saga.ops.lines import Tone
from saga.ops.look import History
from services.checkout.picture import Head, Picture
from services.checkout.screen import Screen, line
from services.checkout.tale import Tale
from services.checkout.watch import View, Watch
from tests.ops import shop as s
from tests.ops.shop import Shop, ended, parked, play

FIRST, SECOND, THIRD = "host-11-aaaa", "host-22-bbbb", "host-33-cccc"
NAMES = {11: "orchestrator-1", 22: "orchestrator-2"}
HEAD = Head("Kafka at 127.0.0.1:9092", "00:42", [("00:01", "placing 3 orders"), ("00:02", "orchestrator-1 is killed with -9")])
SIZES = [(80, 24), (160, 50), (60, 16), (119, 29), (120, 16), (300, 80)]


async def records(shop: Shop, watch: Watch) -> list[StoredRecord]:
    """All that the log holds of what is watched, as it came."""
    found = []
    for partition, (start, end) in (await shop.log.bounds(watch.topics)).items():
        async for lump in shop.log.read(partition, start, end):
            found += lump
    return sorted(found, key=lambda record: record.timestamp)  # within a partition the order stays


class Eye:
    """Follows one shop."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.watch = Watch(s.PARTITIONS, s.make(), NAMES)
        self._taken = 0

    async def look(self, later: int = 0) -> View:
        """Read on to the end, and see how it all stands, `later` ms from now."""
        found = await records(self.shop, self.watch)
        for record in found[self._taken :]:
            self.watch.see(record)
        self._taken = len(found)
        return self.watch.view(self.shop.now() + later)


async def seen(shop: Shop) -> Watch:
    eye = Eye(shop)
    await eye.look()
    return eye.watch


def scene(script: dict[str, list[s.Said]], *until: tuple[str, Callable[[History], bool]]) -> tuple[Watch, int]:
    """These orders are placed one after the other, and come so far."""

    async def go(shop: Shop) -> tuple[Watch, int]:
        for key, so_far in until:
            await s.place(shop.log, key)
            await shop.until(key, so_far)
        return await seen(shop), shop.now()

    return play(script, go, owner=FIRST)


def told(tale: Tale) -> list[str]:
    return [f"{one.since:>6} {one.tone:5} {one.text}" for one in tale.lines]


# --- tales ------------------------------------------------------------------------------------------------------------------------


def test_a_refused_order_is_told_in_a_line_for_each_decision() -> None:
    watch, now = scene({"o-1 ship execute": [s.NO_SUCH_STREET]}, ("o-1", ended))
    (tale,) = watch.view(now).tales
    assert (tale.key, tale.state) == ("o-1", "compensated")
    assert told(tale) == [
        "  0 ms plain order placed → pay",
        "200 ms good  payment taken → reserve",
        "400 ms good  stock reserved → ship",
        "600 ms bad   shipping refused: no such street, turns back → compensates reserve",
        "800 ms good  stock released → compensates pay",
        " 1.0 s good  payment returned, compensated after 1.0 s",
    ]


def test_attempts_that_fail_are_told_with_when_the_next_is() -> None:
    watch, now = scene({"o-1 pay execute": [s.FAILED, s.SILENCE]}, ("o-1", ended))
    (tale,) = watch.view(now).tales
    assert tale.state == "completed"
    assert tale.setbacks == 2
    bad = [one.text for one in tale.lines if one.tone is Tone.BAD]
    assert bad[0].startswith("pay failed: gateway timeout, next attempt in "), bad
    assert bad[1].startswith("time-out of pay, attempt 2, next attempt in "), bad
    assert "time for the next attempt of pay → pay, attempt 3" in [one.text for one in tale.lines]


def test_an_order_that_needs_an_operator_is_told_as_parked() -> None:
    watch, now = scene({"o-1 ship execute": [s.SILENCE], "o-1 ship verify": [s.FAILED] * 9}, ("o-1", parked))
    view = watch.view(now)
    assert view.outcomes == {"completed": 0, "compensated": 0, "parked": 1, "in flight": 0}
    assert "o-1" in watch.parked
    assert view.tales[0].state == "parked"
    assert view.tales[0].lines[-1].tone is Tone.STUCK
    assert "nobody answered whether ship happened" in view.tales[0].lines[-1].text


def test_an_order_without_trouble_has_no_tale() -> None:
    watch, now = scene({}, ("o-1", ended))
    assert watch.view(now).tales == ()


def test_a_tale_can_be_read_before_the_next_is_told() -> None:
    keys = [f"o-{n}" for n in range(9)]

    async def go(shop: Shop) -> Watch:
        for key in keys:
            await s.place(shop.log, key)
            await shop.until(key, ended)
            await asyncio.sleep(2)
        return await seen(shop)

    watch = play({f"{key} pay execute": [s.DECLINED] for key in keys}, go, owner=FIRST)
    tales = list(reversed(watch.view(0).tales))
    assert len(watch.outcomes) == 9
    assert 2 < len(tales) < 9, f"{len(tales)} of 9 quick refusals were told"
    times = [tale.over or 0 for tale in tales]
    assert all(later - earlier >= 6_000 for earlier, later in pairwise(times)), times


def test_an_order_that_fights_on_is_told_soon() -> None:
    async def go(shop: Shop) -> Watch:
        await s.place(shop.log, "o-1", "o-2")
        await shop.until("o-2", ended)
        return await seen(shop)

    watch = play({"o-1 pay execute": [s.DECLINED], "o-2 pay execute": [s.FAILED, s.SILENCE]}, go, owner=FIRST)
    assert [(tale.key, tale.state) for tale in watch.view(0).tales] == [("o-2", "completed"), ("o-1", "compensated")]


# --- numbers ----------------------------------------------------------------------------------------------------------------------


def test_orders_are_counted_where_they_stand() -> None:
    script = {"o-2 pay execute": [s.DECLINED], "o-3 pay execute": [s.SILENCE] * 3}

    async def go(shop: Shop) -> tuple[View, str, int]:
        await s.place(shop.log, "o-1", "o-2")
        await shop.until("o-1", ended)
        await shop.until("o-2", ended)
        await s.place(shop.log, "o-3")
        await shop.until("o-3", lambda history: history.state is not None)
        await shop.stop()
        await s.place(shop.log, "o-4")  # nobody is there to begin with it
        watch = await seen(shop)
        return watch.view(shop.now()), line(watch.view(shop.now())), watch.outcomes["o-1"][1] - watch.placed["o-1"]

    view, said, took = play(script, go, owner=FIRST)
    assert view.placed.total == 4
    assert view.ended.total == 2
    assert view.outcomes == {"completed": 1, "compensated": 1, "parked": 0, "in flight": 2}
    assert view.unread == 1
    assert view.took is not None
    assert view.took[1] == took, "the slower of the two tells what most took"
    assert view.waits[0].startswith("shop o-3 waits for the reply of payment to pay (attempt 1 of 3, sent ")
    assert said == "placed   4   completed   1   compensated   1   parked   0   in flight   2"


def test_what_is_told_twice_counts_once() -> None:
    async def go(shop: Shop) -> tuple[View, View]:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", ended)
        watch = await seen(shop)
        once = watch.view(shop.now())
        for record in await records(shop, watch):
            if record.topic != "saga.journal":  # there a reader may rely on it
                watch.see(record)
        return once, watch.view(shop.now())

    once, twice = play({}, go, owner=FIRST)
    assert (once.placed, once.ended, once.outcomes) == (twice.placed, twice.ended, twice.outcomes)


def test_rates_are_of_the_last_seconds_and_the_curve_of_the_whole_run() -> None:
    async def go(shop: Shop) -> View:
        for second in range(20):
            await s.place(shop.log, *(f"o-{second}-{n}" for n in range(2 if second < 10 else 4)))
            await asyncio.sleep(1)
        return await Eye(shop).look(later=-1)  # the last second is not over

    view = play({}, go, owner=FIRST)
    assert view.placed.total == 60
    assert view.placed.rate == 4.0
    assert view.placed.by_second == (2,) * 10 + (4,) * 9


def test_a_killed_owners_partitions_are_seen_until_the_other_decides_in_them() -> None:
    async def go(shop: Shop) -> list[View]:
        eye = Eye(shop)
        await s.place(shop.log, "o-1")
        await shop.until("o-1", ended)
        views = [await eye.look()]
        await shop.stop()
        eye.watch.killed(11, shop.now())
        await asyncio.sleep(3)
        views.append(await eye.look())
        await shop.orchestrate(owner=SECOND)
        await s.place(shop.log, "o-2")
        await shop.until("o-2", ended)
        return [*views, await eye.look()]

    before, during, after = play({}, go, owner=FIRST)
    everything = frozenset(range(s.PARTITIONS))
    assert before.take_over is None
    assert {owner.name: owner.partitions for owner in before.owners} == {
        "orchestrator-1": everything,
        "orchestrator-2": frozenset(),
    }
    assert during.take_over is not None
    assert (during.take_over.left, during.take_over.claimed, during.take_over.decided) == (s.PARTITIONS, None, None)
    assert during.owners[0].killed == 3_000
    assert after.take_over is not None
    assert after.take_over.left == 0
    assert after.take_over.claimed is not None
    assert after.take_over.decided is not None
    assert 3_000 <= after.take_over.claimed <= after.take_over.decided
    assert {owner.name: owner.partitions for owner in after.owners} == {"orchestrator-1": frozenset(), "orchestrator-2": everything}


def test_an_owner_that_was_not_expected_is_shown_by_its_own_name() -> None:
    async def go(shop: Shop) -> View:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", ended)
        return await Eye(shop).look()

    assert [owner.name for owner in play({}, go, owner=THIRD).owners] == ["orchestrator-1", "orchestrator-2", THIRD]


# --- the picture ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def views() -> dict[str, View]:
    """The begin; the middle of a take-over, with an order in trouble; the end."""

    async def go(shop: Shop) -> dict[str, View]:
        eye = Eye(shop)
        begin = await eye.look()
        await s.place(shop.log, "o-1", "o-2", "o-3")
        await shop.until("o-1", ended)
        await shop.until("o-2", ended)
        await shop.until("o-3", lambda history: history.state is not None)
        await shop.stop()
        await s.place(shop.log, "o-4")
        await eye.look()
        eye.watch.killed(11, shop.now())
        middle = await eye.look(later=2_000)
        await shop.orchestrate(owner=SECOND)
        for key in ("o-3", "o-4"):
            await shop.until(key, ended)
        return {"begin": begin, "middle": middle, "end": await eye.look()}

    script = {"o-2 ship execute": [s.NO_SUCH_STREET], "o-3 pay execute": [s.FAILED, s.SILENCE]}
    return play(script, go, owner=FIRST)


def drawn(view: View, width: int, height: int, *, colour: bool = False, head: Head = HEAD) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=colour, no_color=not colour, record=True)
    console.print(Picture(head, view))
    return console.export_text(styles=colour)


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("when", ["begin", "middle", "end"])
def test_the_picture_fits_the_terminal(views: dict[str, View], when: str, width: int, height: int) -> None:
    rows = drawn(views[when], width, height).splitlines()
    assert len(rows) <= height
    assert max(map(len, rows)) <= width
    text = "\n".join(rows)
    for part in (
        "orders ──",
        "outcomes ──",
        "partitions of the journal ──",
        "waits longest ──",
        "orchestrator-1  ",
        "an order in trouble",
    ):
        assert part in text, f"{part!r} is not to be seen at {width}×{height}:\n{text}"


def test_the_picture_tells_the_take_over_and_the_order_in_trouble(views: dict[str, View]) -> None:
    text = drawn(views["middle"], 80, 24)
    assert "orchestrator-1  □ □ □  killed 2 s ago" in text, "without colours, too, one sees which have lost their owner"
    assert "nobody decides in 3 of them; orders that nobody has begun with: 1" in text
    assert "an order in trouble: o-2 compensated" in text
    assert "✗ shipping refused: no such street, turns back → compensates" in text
    assert "shop o-3 waits " in text
    after = drawn(views["end"], 80, 24)
    assert "taken over " in after
    assert "the first decision after " in after


def test_a_tale_that_is_too_long_is_told_from_its_end(views: dict[str, View]) -> None:
    rows = drawn(views["end"], 60, 20).splitlines()
    assert any("⋮" in row for row in rows), "\n".join(rows)
    assert "order placed" in "\n".join(rows), "where it began is told always"
    assert len(rows) <= 20


def test_a_name_of_wide_characters_moves_no_column(views: dict[str, View]) -> None:
    head = Head("三条通" * 20, "00:42", [("00:01", "三条通" * 40)])
    console = Console(width=80, height=24, file=io.StringIO())
    console.print(Picture(head, views["end"]))
    text = console.file.getvalue() if isinstance(console.file, io.StringIO) else ""
    assert text.splitlines()[0].endswith("00:42")
    assert len(text.splitlines()) <= 24, "no line was folded"


def test_no_color_is_honoured(views: dict[str, View], monkeypatch: pytest.MonkeyPatch) -> None:
    def colours() -> set[str]:
        console = Console(width=80, height=24, file=(out := io.StringIO()), force_terminal=True, color_system="standard")
        console.print(Picture(HEAD, views["middle"]))
        return {code for code in ("\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m", "\x1b[1;31m") if code in out.getvalue()}

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert colours() == set()


def test_where_there_is_no_terminal_there_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen()
    assert not screen.moves
    screen.say("placing 3 orders [bold]")
    assert capsys.readouterr().out == "00:00  placing 3 orders [bold]\n"
