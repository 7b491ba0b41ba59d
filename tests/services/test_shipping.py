"""Shipping: who delivers where, and a carrier that answers after everybody stopped waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.checkout import shipping
from services.checkout.carriers import CARRIERS, Carriers, Closed, Parcel
from tests.services.shop import BERLIN, Desk, desk
from topics.shipping import BookShipment, FindShipment
from topics.values import Address

Tell = Callable[[Callable[[Desk], Coroutine[None, None, None]]], None]
ZURICH = Address(street="Limmatquai 1", city="Zürich", postcode="8001", country="CH")


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    monkeypatch.setattr(shipping, "carriers", quicker(tmp_path))

    def run(story: Callable[[Desk], Coroutine[None, None, None]]) -> None:
        async def told() -> None:
            async with desk(shipping.SERVICE, tmp_path) as at:
                await story(at)

        asyncio.run(told())

    return run


def quicker(folder: Path) -> Carriers:
    """The carriers, who answer sooner."""
    return Carriers(folder / "carriers.db", tuple(replace(each, answers_after=each.answers_after / 10) for each in CARRIERS))


def book(address: Address = BERLIN) -> BookShipment:
    return BookShipment(order_id="o-1", recipient="Ada Example", address=address)


def test_a_parcel_is_booked_once_and_keeps_its_number(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        first = await at.ask(book(), "o-1")
        again = await at.ask(book(), "o-1", attempt=2)
        assert (first.outcome, first.type, first.data["carrier"]) == ("done", "shipping.booked.v1", "Continental Parcel")
        assert first == again
        (row,) = await at.rows(shipping.shipments)
        assert row.tracking == first.data["tracking"]

    tell(story)


@pytest.mark.parametrize(
    ("country", "postcode"), [("FR", "97400"), ("GB", "JE2 3XY"), ("US", "99950"), ("GB", "im1 1aa"), ("AQ", "0")]
)
def test_an_address_nobody_goes_to_is_a_refusal_with_the_reason(tell: Tell, country: str, postcode: str) -> None:
    async def story(at: Desk) -> None:
        answer = await at.ask(book(BERLIN.model_copy(update={"country": country, "postcode": postcode})), "o-1")
        assert (answer.outcome, answer.type) == ("refused", "shipping.address-refused.v1")
        assert country in answer.data["reason"]
        assert await at.rows(shipping.shipments) == []

    tell(story)


def test_a_late_carriers_booking_is_found_when_it_is_asked_for(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        await at.send(book(ZURICH), "o-1")
        found = await at.ask(FindShipment(order_id="o-1"), "o-1", action="verify")
        booked = await at.answer("o-1")
        assert (booked.outcome, booked.data["carrier"]) == ("done", "Alpine Freight")
        assert (found.outcome, found.data) == ("done", booked.data)

    tell(story)


def test_a_booking_that_nobody_wrote_down_is_found_at_the_carrier(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies between the carrier's answer and its own commit; then the carrier is not there, and the saga asks."""

    async def story(at: Desk) -> None:
        real = shipping.carriers

        async def book_and_die(*asked: Any) -> Parcel:
            await real.book(*asked)
            raise ConnectionError("the carrier is not there")

        with monkeypatch.context() as patch:
            patch.setattr(shipping, "carriers", SimpleNamespace(book=book_and_die))
            assert (await at.ask(book(), "o-1")).outcome == "failed"
        assert await at.rows(shipping.shipments) == []
        found = await at.ask(FindShipment(order_id="o-1"), "o-1", action="verify")
        (row,) = await at.rows(shipping.shipments)
        assert (found.outcome, found.data["tracking"]) == ("done", row.tracking)
        assert (row.recipient, row.country, row.command_id) == ("Ada Example", "DE", at.id("o-1"))
        again = await at.ask(book(), "o-1", attempt=2)
        assert (again.outcome, again.data) == ("done", found.data)

    tell(story)


def test_a_booking_still_on_its_way_when_it_is_asked_for_finds_its_key_closed(tmp_path: Path) -> None:
    async def story() -> None:
        carriers = quicker(tmp_path)
        assert await carriers.close("k") is None
        with pytest.raises(Closed):
            await carriers.book("k", "Ada", BERLIN)
        parcel = await carriers.book("l", "Ada", BERLIN)
        assert parcel == await carriers.book("l", "Ada", BERLIN) == await carriers.close("l")

    asyncio.run(story())


def test_what_was_never_booked_is_not_found_and_never_will_be_booked(tell: Tell) -> None:
    async def story(at: Desk) -> None:
        assert (await at.ask(FindShipment(order_id="o-1"), "o-1", action="verify")).outcome == "nothing"
        assert (await at.ask(book(), "o-1")).outcome == "nothing"
        assert await at.rows(shipping.shipments) == []

    tell(story)
