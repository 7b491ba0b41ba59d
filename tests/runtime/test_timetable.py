"""Schedules through the whole runtime, on the log in memory: each begins by itself, once in the cluster, and an outage costs no slot."""

from __future__ import annotations

import asyncio

import pytest

from saga import Slot
from saga.engine.definition import Saga
from tests.runtime.town import Delivered, Order, Ordered, Town, fields, other, play, version


def named(slot: Slot) -> str:
    return slot.at.isoformat(timespec="minutes")


def shop(cron: str, *, missed: str = "once", overlap: str = "queue") -> Saga[Ordered, Order]:
    """It runs for thirty minutes at most, and pays in each run."""
    saga = version(1)

    @saga.every(cron, tz="UTC", missed=missed, overlap=overlap)
    def tick(slot: Slot) -> Ordered:
        return Ordered(order_id=named(slot))

    return saga


def yearly() -> Saga[Delivered, Order]:
    saga = other()

    @saga.every("0 0 1 1 *", tz="UTC")
    def annual(slot: Slot) -> Delivered:
        return Delivered(order_id=named(slot))

    return saga


def begun(town: Town) -> list[str]:
    """The slots whose run has sent its command."""
    return [fields(record)["subject"] for record in town.records("payment.commands")]


def test_two_schedules_are_two_instances_and_their_runs_do_not_overlap() -> None:
    async def scene(town: Town) -> None:
        await town.orchestrate(shop("*/10 * * * *"), yearly())
        await asyncio.sleep(1290)
        assert len(begun(town)) == 1, "the next slots wait for the run that goes on"
        for saga in ("shop-tick", "other-annual"):
            assert town.state(saga, saga) is not None
        assert town.state("shop-tick", "other-annual") is None
        assert town.state("other-annual", "shop-tick") is None

    play(scene)


@pytest.mark.parametrize("line", ["0 * * * *", "5 * * * *"], ids=["the same line", "another line"])
def test_the_slot_of_an_outage_is_made_up_for_whatever_line_comes_back(line: str) -> None:
    async def scene(town: Town) -> None:
        old = await town.orchestrate(shop("0 * * * *"))
        await asyncio.sleep(3900)
        (first,) = begun(town)
        await town.pay(first)
        await asyncio.sleep(5)
        await town.stop(old)
        await asyncio.sleep(3600)
        await town.orchestrate(shop(line))
        await asyncio.sleep(60)
        assert len(begun(town)) == 2

    play(scene)
