"""What was set aside: it is listed with its reason, found from its key, and goes back to where it came from, once."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest
from rich.console import Console

from saga.cli_deadletters import deadletters
from saga.engine.messages import DEADLETTERS
from saga.errors import Misconfigured
from saga.log.base import Headers, Log, Outgoing, Record, TopicPartition
from saga.log.partition import home
from saga.ops.commands import Tool
from saga.ops.deadletters import LOOK_FIRST, Place, Wanted, chosen, dead_letters
from saga.ops.output import Format, Output
from tests.ops import shop as s
from tests.ops.shop import PARTITIONS, Shop, ended, play

EVERY = Wanted()


class Typed:
    """A tool, and what it said."""

    def __init__(self, log: Log, format: Format = Format.TABLE) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.tool = Tool(log, Output(format, self.out), Console(file=self.err, width=200), None)

    async def __call__(self, wanted: Wanted = EVERY, *, redriven: bool = False, rate: float = 0.0, limit: int = 50) -> int:
        return await deadletters(self.tool, wanted, limit, rate, redriven=redriven)


def order(key: str, total: object = 4200, id: str | None = None) -> Record:
    about: Headers = (("ce_id", (id or key).encode()), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
    return Record(key.encode(), json.dumps({"order_id": key, "total": total}).encode(), about)


def of(key: str) -> TopicPartition:
    return TopicPartition("order.events", home(key, PARTITIONS))


def aside(record: Record, reason: str = "schema", origin: str = "order.events:0:0") -> Record:
    """A record as it stands among the dead letters."""
    why = (("ce_sagaorigin", origin.encode()), ("ce_sagareason", reason.encode()), ("ce_sagadetail", b"why"))
    return Record(record.key, record.value, record.headers + why)


async def until_dead(log: Log, count: int) -> None:
    for _ in range(200):
        if len([letter async for letter in dead_letters(log)]) >= count:
            return
        await asyncio.sleep(0.5)
    raise AssertionError(f"there are not {count} dead letters")


def test_what_was_set_aside_is_listed_with_its_reason_and_found_from_its_key() -> None:
    async def scene(shop: Shop) -> None:
        typed = Typed(shop.log)
        assert await typed() == 0
        assert typed.err.getvalue() == "no dead letters\n"
        await shop.log.publish([Outgoing(of("bad"), order("bad", "many")), Outgoing(of("raw"), Record(b"raw", b"{", ()))])
        await until_dead(shop.log, 2)
        typed = Typed(shop.log)
        assert await typed() == 0
        listed = typed.out.getvalue()
        assert f"{of('bad')}:0  order.placed.v1  bad  schema: order.placed.v1: total: Input should be a valid integer" in listed
        assert "raw  no-type: there is no ce_type header" in listed
        assert typed.err.getvalue() == "2 dead letters\n"
        typed = Typed(shop.log)
        assert await typed(limit=1) == 0
        assert typed.err.getvalue() == "2 dead letters; the latest 1 are shown, --limit 0 shows all\n"
        for wanted, keys in (
            (Wanted(topic="order.events", reason="schema"), ["bad"]),
            (Wanted(key="raw"), ["raw"]),
            (Wanted(topic="payment.events"), []),
            (Wanted(older=10**15), []),
        ):
            assert [letter.key for letter in await chosen(shop.log, wanted, shop.now())] == keys
        typed = Typed(shop.log, Format.JSON)
        assert await typed(Wanted(key="bad")) == 0
        (one,) = json.loads(typed.out.getvalue())
        assert (one["key"], one["reason"], one["value"]) == ("bad", "schema", {"order_id": "bad", "total": "many"})
        typed = Typed(shop.log)
        assert not await typed.tool.histories("bad", None, whole=False)
        told = typed.err.getvalue()
        assert "its order.placed.v1 was set aside as a dead letter" in told
        assert "(schema: order.placed.v1: total: Input should be a valid integer" in told
        assert told.endswith("`saga deadletters --key bad` has it\n")

    play({}, scene)


def test_what_was_published_and_not_decided_is_found_from_its_key() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "first")
        await shop.until("first", ended)
        await shop.stop()
        await s.place(shop.log, "next")
        other = next(key for n in range(100) if of(key := f"never-{n}") == of("next"))
        for key, told in (
            ("next", f"; its order.placed.v1 is in {of('next')} and not decided yet, since "),
            (other, f"; it never started, or was forgotten; but 1 input of {of('next')} is not decided yet (does an orch"),
        ):
            typed = Typed(shop.log)
            assert not await typed.tool.histories(key, None, whole=False)
            assert told in typed.err.getvalue()
        await shop.orchestrate()
        await shop.until("next", ended)
        typed = Typed(shop.log)
        assert not await typed.tool.histories(other, None, whole=False)
        assert typed.err.getvalue().endswith("; it never started, or was forgotten\n")

    play({}, scene)


def test_a_redrive_is_shown_then_done_and_taken_once() -> None:
    async def scene(shop: Shop) -> None:
        origin = f"{of('o-1')}:0"
        letter = Outgoing(TopicPartition(DEADLETTERS, 0), aside(order("o-1"), origin=origin))
        await shop.log.publish([letter, letter])  # twice: whoever sets aside says so at least once
        typed = Typed(shop.log)
        assert await typed(redriven=True) == 0
        assert typed.err.getvalue() == "1 would be published again; nothing was done. To do it: --redrive --yes\n"
        await asyncio.sleep(5)
        assert not await typed.tool.histories("o-1", None, whole=False)
        typed = Typed(shop.log)
        assert await typed(redriven=True, rate=10) == 0
        assert typed.out.getvalue() == f"0:1: order.placed.v1, key o-1, is in {of('o-1')} again\n"
        assert typed.err.getvalue().startswith("1 of 1 published again")
        history = await shop.until("o-1", ended)
        assert history.state is not None
        assert await typed(Wanted([Place(0, 0)]), redriven=True, rate=10) == 0
        await shop.until("o-1", lambda history: history.moments[-1].decision.note == "duplicate")

    play({}, scene)


def test_what_still_cannot_be_taken_is_set_aside_once_more_with_one_reason() -> None:
    async def scene(shop: Shop) -> None:
        await shop.log.publish([Outgoing(of("bad"), order("bad", "many"))])
        await until_dead(shop.log, 1)
        typed = Typed(shop.log)
        assert await typed(redriven=True, rate=10) == 0
        await until_dead(shop.log, 2)
        _, again = [letter async for letter in dead_letters(shop.log)]
        names = [name for name, _ in again.record.headers]
        assert len(names) == len(set(names)), "a header that stands twice cannot be read"
        assert (again.reason, again.origin) == ("schema", f"{of('bad')}:1")

    play({}, scene)


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (Record(b"k", b"{}", ()), "it does not say where it came from"),
        (aside(order("k"), origin="order.events:9:0"), "order.events:9 is not there any more"),
        (aside(order("k"), origin="gone.events:0:0"), "gone.events:0 is not there any more"),
        (
            aside(Record(b"k", b"x" * 65_536, ()), "too-large"),
            "it was too large, and only its beginning is here; order.events:0:0 had the whole",
        ),
        (
            aside(Record(b"k", b"x" * 65_536, ()), "schema"),
            "it was too large, and only its beginning is here; order.events:0:0 had the whole",
        ),
    ],
)
def test_what_has_no_way_back_stays_and_says_why(record: Record, why: str) -> None:
    async def scene(shop: Shop) -> None:
        to = TopicPartition(DEADLETTERS, 0)
        await shop.log.publish([Outgoing(to, record), Outgoing(to, aside(order("o-1"), origin=f"{of('o-1')}:0"))])
        typed = Typed(shop.log)
        assert await typed(redriven=True) == 0
        assert typed.err.getvalue().startswith(f"0:0 stays: {why}\n1 would be published again; nothing was done.")
        with pytest.raises(Misconfigured, match="0:0 stays: "):
            await typed(Wanted([Place(0, 0), Place(0, 1)]), redriven=True, rate=10)
        await asyncio.sleep(5)
        assert not await typed.tool.histories("o-1", None, whole=False), "nothing was published"

    play({}, scene)


@pytest.mark.parametrize("reason", LOOK_FIRST)
def test_what_may_do_harm_goes_only_if_its_reason_or_its_place_is_named(reason: str) -> None:
    async def scene(shop: Shop) -> None:
        await shop.log.publish([Outgoing(TopicPartition(DEADLETTERS, 0), aside(order("o-1"), reason, f"{of('o-1')}:0"))])
        for wanted, told in (
            (EVERY, "0 would be published again"),
            (Wanted(topic="order.events"), "0 would be published again"),
            (Wanted(reason=reason), "1 would be published again"),
            (Wanted([Place(0, 0)]), "1 would be published again"),
        ):
            typed = Typed(shop.log)
            assert await typed(wanted, redriven=True) == 0
            assert told in typed.err.getvalue()

    play({}, scene)


def test_one_that_is_named_and_not_there_is_an_error() -> None:
    async def scene(shop: Shop) -> None:
        typed: Any = Typed(shop.log)
        assert await typed(Wanted([Place(2, 7)])) == 1
        assert typed.err.getvalue() == "saga: no such dead letter: 2:7\n"

    play({}, scene)
