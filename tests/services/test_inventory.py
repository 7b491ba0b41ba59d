"""Inventory: all lines of an order or none, never more than there is, and what is released is there again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert
from sqlalchemy import update as change
from sqlalchemy.exc import IntegrityError

from services.checkout import inventory
from tests.services.shop import Desk, desk
from topics.inventory import ReleaseStock, ReserveStock

Tell = Callable[[Callable[[Desk], Coroutine[None, None, None]]], None]


def three_articles(connection: Connection) -> None:
    rows = [{"sku": sku, "start": count, "on_hand": count} for sku, count in (("TEA", 5), ("CUP", 2), ("POT", 1))]
    connection.execute(insert(inventory.stock), rows)


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    def run(story: Callable[[Desk], Coroutine[None, None, None]]) -> None:
        async def told() -> None:
            async with desk(replace(inventory.SERVICE, prepare=three_articles), tmp_path) as at:
                await story(at)

        asyncio.run(told())

    return run


def reserve(sku: str, quantity: int) -> ReserveStock:
    return ReserveStock(order_id="o-1", sku=sku, quantity=quantity)


async def on_hand(at: Desk) -> dict[str, int]:
    return {row.sku: row.on_hand for row in await at.rows(inventory.stock)}


def test_a_reservation_takes_its_pieces_once_however_often_it_is_asked_for(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        first = await at.ask(reserve("TEA", 3), "o-1")
        again = await at.ask(reserve("TEA", 3), "o-1", attempt=2)
        assert first.outcome == "done"
        assert first == again
        assert first.data == {"order_id": "o-1", "sku": "TEA", "quantity": 3}
        assert await on_hand(at) == {"TEA": 2, "CUP": 2, "POT": 1}

    tell(story)


@pytest.mark.parametrize(("sku", "quantity", "there"), [("CUP", 3, 2), ("NO-SUCH-THING", 1, 0)])
def test_a_line_without_stock_is_refused_whole_and_says_how_much_there_is(tell: Tell, sku: str, quantity: int, there: int) -> None:
    async def story(at: Desk) -> None:
        answer = await at.ask(reserve(sku, quantity), "o-1")
        assert (answer.outcome, answer.type) == ("refused", "inventory.out-of-stock.v1")
        assert answer.data == {"order_id": "o-1", "sku": sku, "wanted": quantity, "on_hand": there}
        assert await on_hand(at) == {"TEA": 5, "CUP": 2, "POT": 1}
        assert await at.rows(inventory.movements) == []

    tell(story)


def test_what_is_released_can_be_reserved_by_another(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        assert (await at.ask(reserve("POT", 1), "o-1")).outcome == "done"
        assert (await at.ask(reserve("POT", 1), "o-2")).outcome == "refused"
        released = await at.ask(ReleaseStock(order_id="o-1", sku="POT"), "o-1", action="compensate")
        assert (released.outcome, released.data) == ("done", {"order_id": "o-1", "sku": "POT", "quantity": 1})
        again = await at.ask(ReleaseStock(order_id="o-1", sku="POT"), "o-1", action="compensate", attempt=2)
        assert again == released
        assert await on_hand(at) == {"TEA": 5, "CUP": 2, "POT": 1}
        assert (await at.ask(reserve("POT", 1), "o-3")).outcome == "done"

    tell(story)


def test_orders_that_want_the_same_article_at_once_never_take_more_than_there_is(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        answers = await asyncio.gather(*(at.ask(reserve("TEA", 1), f"o-{n}") for n in range(8)))
        assert sorted(answer.outcome for answer in answers) == ["done"] * 5 + ["refused"] * 3
        assert (await on_hand(at))["TEA"] == 0

    tell(story)


def test_the_database_itself_refuses_negative_stock(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        with pytest.raises(IntegrityError):
            await at.store.run(lambda connection: connection.execute(change(inventory.stock).values(on_hand=-1)))

    tell(story)
