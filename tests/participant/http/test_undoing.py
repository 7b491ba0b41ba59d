"""Processes that die at the worst moment, compensations and verifies: charged once, given back once, and "nothing" only if it is true."""

from __future__ import annotations

import asyncio

import pytest

from saga.participant import Settings
from saga.participant.inbox import State
from saga.participant.store import wall_clock
from tests.participant.conftest import Drive
from tests.participant.http.card import ASK, CHARGE, FIND, GIVE, HASTY, QUICK, REFUND, TAKE, Card, reason, tell
from tests.participant.http.card_api import CardApi
from tests.participant.kit import (
    Ids,
    World,
    command,
    data,
    eventually,
    outcome,
    put,
)

pytestmark = pytest.mark.usefixtures("environment")


@pytest.mark.parametrize("manner", ["hang", "late"])
def test_a_process_that_dies_after_the_charge_charges_once(drive: Drive, manner: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", manner)
        process = await world.start(Card(api))
        await world.send(command(TAKE, ids))
        await api.until("charge")
        assert len(api.charged) == (1 if manner == "hang" else 0)
        await process.crash()
        assert (await world.row(ids.command())).state is State.BEGUN
        await world.start(Card(api))
        reply = await world.reply(ids.command())
        assert (outcome(reply), data(reply)) == ("done payment.taken.v1", {"payment_id": "ch_1", "amount": 7})
        assert [asked.key for asked in api.of("charge")] == [ids.command()] * 2
        assert len(api.charged) == 1

    tell(drive, story)


def test_a_process_that_dies_after_the_refund_gives_back_once(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("refund", "hang")
        process = await world.start(Card(api))
        await world.send(command(TAKE, ids), command(GIVE, ids, "compensate"))
        await api.until("refund")
        await process.crash()
        await world.start(Card(api))
        reply = await world.reply(ids.command("compensate"))
        assert (outcome(reply), data(reply)) == ("done payment.returned.v1", {"amount": 7})
        assert [each["amount"] for each in api.refunds.values()] == [7]
        keys = [asked.key for asked in api.asked]
        undo = ids.command("compensate")
        assert keys == [ids.command(), f"{undo}:first", undo, f"{undo}:first", undo], (
            "each request has a key of its own, always the same"
        )

    tell(drive, story)


# --- compensations and verifies


def test_what_was_never_asked_for_leaves_a_tombstone_without_a_request(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        first, second = Ids("o-1"), Ids("o-2")
        await world.start(Card(api, [CHARGE, REFUND, ASK], timeout=HASTY))
        await world.send(command(GIVE, first, "compensate"), command(FIND, second, "verify"))
        for ids, action in ((first, "compensate"), (second, "verify")):
            assert outcome(await world.reply(ids.command(action))) == "nothing saga.nothing.v1"
            await world.send(command(TAKE, ids))
            assert outcome(await world.reply(ids.command())) == "nothing saga.nothing.v1", "the late command is not executed"
        assert api.asked == []

    tell(drive, story)


def test_a_compensation_closes_the_key_first_so_a_charge_on_its_way_comes_to_nothing(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", "late")
        await world.start(Card(api, timeout=HASTY), Settings(tries=1))
        await world.send(command(TAKE, ids))
        assert reason(await world.reply(ids.command())) == "Unavailable: POST /charges was not answered within 0.5 s"
        await world.send(command(GIVE, ids, "compensate"))
        assert outcome(await world.reply(ids.command("compensate"))) == "nothing saga.nothing.v1"
        api.released.set()  # now the charge that was only slow is worked on
        await eventually(api.quiet, lambda: "the late charge to be worked on")
        assert (api.charged, api.refunds) == ({}, {})
        assert ids.command() in api.closed
        await world.send(command(TAKE, ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == "nothing saga.nothing.v1"

    tell(drive, story)


def test_a_compensation_of_a_charge_that_nobody_heard_of_gives_it_back(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", "500 after all")
        await world.start(Card(api), Settings(tries=1))
        await world.send(command(TAKE, ids))
        assert "answered 500" in reason(await world.reply(ids.command()))
        await world.send(command(GIVE, ids, "compensate"))
        assert data(await world.reply(ids.command("compensate"))) == {"amount": 7}
        assert len(api.refunds) == 1

    tell(drive, story)


@pytest.mark.parametrize(("before", "answered"), [("500 after all", "done payment.taken.v1"), ("500", "nothing saga.nothing.v1")])
def test_a_verify_asks_once_nothing_can_come_late(drive: Drive, before: str, answered: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        api.next("charge", *[before] * 3)
        await world.start(Card(api, [CHARGE, ASK], timeout=HASTY), QUICK)
        await world.send(command(TAKE, ids))
        await world.reply(ids.command())
        await world.send(command(FIND, ids, "verify"))
        began = asyncio.get_running_loop().time()
        assert outcome(await world.reply(ids.command("verify"))) == answered
        assert asyncio.get_running_loop().time() - began >= 1.5, "late= was waited for, before the question"
        assert {asked.key for asked in api.of("find")} == {""}, (
            "a question has no key: the answer to the last one may be kept under it"
        )
        await world.send(command(TAKE, ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == answered, "the execute is settled, too"

    tell(drive, story)


@pytest.mark.parametrize("manner", ["pending", "declined", "a proxy's 404", "500"])
def test_a_verify_that_gets_no_clear_answer_says_neither_yes_nor_no(drive: Drive, manner: str) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        await world.put(ids.command(), State.BEGUN)
        api.next("find", *[manner] * 3)
        await world.start(Card(api, [CHARGE, ASK], timeout=HASTY), QUICK)
        await world.send(command(FIND, ids, "verify"))
        assert "GET /charges/{subject_id} was answered" in reason(await world.reply(ids.command("verify")))
        assert (await world.row(ids.command())).state is State.BEGUN

    tell(drive, story)


def test_nothing_is_not_said_of_what_was_done(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        ids = Ids("o-1")
        await world.start(Card(api), QUICK)
        await world.send(command(TAKE, ids))
        await world.reply(ids.command())
        api.charged.clear()
        await world.send(command(GIVE, ids, "compensate"))
        assert "nothing there, but" in reason(await world.reply(ids.command("compensate")))

    tell(drive, story)


def test_a_key_that_the_api_may_have_forgotten_is_not_used_again(drive: Drive) -> None:
    async def story(world: World, api: CardApi) -> None:
        hour = 3_600_000
        old, fresh = Ids("o-1", started=wall_clock() - 30 * hour), Ids("o-2", started=wall_clock() - 30 * hour)
        await world.store.run(lambda connection: put(connection, old.command(), State.BEGUN, None, wall_clock() - 25 * hour))
        await world.start(Card(api))
        await world.send(command(TAKE, old), command(TAKE, fresh))
        reply = await world.reply(old.command())
        assert outcome(reply) == "expired saga.expired.v1"
        assert "25.0 h ago, and the API remembers keys for 24 h" in data(reply)["reason"]
        assert outcome(await world.reply(fresh.command())) == "done payment.taken.v1", "it was never asked for: no key to forget"
        await world.send(command(GIVE, fresh, "compensate"))
        assert outcome(await world.reply(fresh.command("compensate"))) == "expired saga.expired.v1", "its first try may be long ago"
        assert list(api.charged) == [fresh.command()]

    tell(drive, story)
