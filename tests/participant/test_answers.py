"""What a handler may say beside its reply, and what it is told: failed, expired, since when calls are open, how long they may take."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from saga.participant import Expired, Failed, Participant, Settings, Work
from saga.participant.inbox import State
from saga.participant.store import wall_clock
from tests.participant.conftest import Drive
from tests.participant.kit import (
    Ids,
    NotePayment,
    Payment,
    PaymentReturned,
    PaymentTaken,
    ReturnPayment,
    TakePayment,
    World,
    command,
    data,
    notes,
    outcome,
)


@pytest.mark.parametrize("answer", [Failed, Expired])
def test_a_handler_that_knows_better_is_not_run_again(drive: Drive, answer: type[Exception]) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")

        def give_up(_cmd: NotePayment, _work: Work) -> None:
            if len(payment.runs) == 1:
                raise answer("the ledger is closed")

        payment.before_note = give_up
        await world.start(payment)
        await world.send(command(NotePayment(note="x"), ids))
        reply = await world.reply(ids.command())
        word = answer.__name__.lower()
        assert (outcome(reply), data(reply)) == (f"{word} saga.{word}.v1", {"reason": "the ledger is closed"})
        assert len(payment.runs) == 1
        assert await world.rows(notes) == [], "what it wrote went with it"
        await world.send(command(NotePayment(note="x"), ids, attempt=2))
        assert outcome(await world.reply(ids.command(), 2)) == "done payment.noted.v1", "nothing was stored"

    drive(story)


def test_calls_are_told_since_when_others_of_the_subject_are_open(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids, told = Payment(), Ids("o-1"), list[tuple[str, int]]()
        payment.participant = Participant("payment")

        def charge(_cmd: TakePayment, work: Work) -> int:
            told.append((work.action, work.begun))
            assert work.decided == ids.started
            if len(told) < 3:
                raise Failed("not yet")
            return 7

        def void(_cmd: ReturnPayment, work: Work) -> int:
            told.append((work.action, work.begun))
            return 7

        @payment.participant.handles(TakePayment, calls=charge)
        def take(_cmd: TakePayment, _work: Work, amount: int) -> PaymentTaken:
            return PaymentTaken(payment_id="p", amount=amount)

        @payment.participant.handles(ReturnPayment, calls=void)
        def give(_cmd: ReturnPayment, _work: Work, amount: int) -> PaymentReturned:
            return PaymentReturned(amount=amount)

        await world.start(payment)
        for attempt in (1, 2, 3):
            await world.send(command(TakePayment(order_id="o-1", amount=7), ids, attempt=attempt))
            await world.reply(ids.command(), attempt)
        await world.send(command(ReturnPayment(order_id="o-1"), ids, "compensate"))
        await world.reply(ids.command("compensate"))
        open_since = told[1][1]
        assert open_since >= ids.started
        assert told == [("execute", 0), ("execute", open_since), ("execute", open_since), ("compensate", 0)]

    drive(story)


def test_calls_may_have_a_time_of_their_own(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        payment.participant = Participant("payment")

        async def hang(_cmd: TakePayment, _work: Work) -> int:
            await asyncio.Event().wait()
            return 0

        @payment.participant.handles(TakePayment, calls=hang, within=timedelta(milliseconds=50))
        def take(_cmd: TakePayment, _work: Work, amount: int) -> PaymentTaken:
            return PaymentTaken(payment_id="p", amount=amount)

        await world.start(payment, Settings(tries=1))
        await world.send(command(TakePayment(order_id="o-1", amount=7), ids))
        assert data(await world.reply(ids.command())) == {"reason": "TimeoutError: the call did not end within 0.05 s"}
        assert (await world.row(ids.command())).state is State.BEGUN

    drive(story)


def test_a_participant_may_open_what_its_handlers_need_around_each_run(drive: Drive) -> None:
    class Opening(Participant):
        told: list[str] = []  # noqa: RUF012 - a test's own

        @asynccontextmanager
        async def running(self) -> AsyncIterator[None]:
            self.told.append("open")
            yield
            self.told.append("closed")

    async def story(world: World) -> None:
        payment = Payment()
        payment.participant = opening = Opening("payment")
        process = await world.start(payment)
        await process.end()
        assert opening.told == ["open", "closed"]

    drive(story)


def test_what_is_remembered_outlives_a_command_whose_sender_is_ahead_of_us(drive: Drive) -> None:
    """A row is kept from the later of the two clocks: a repeat that still passes for young enough must find it."""

    async def story(world: World) -> None:
        ahead = wall_clock() + 3_600_000
        ids = Ids("o-1", started=ahead)
        await world.start(Payment())
        await world.send(command(NotePayment(note="x"), ids))
        await world.reply(ids.command())
        assert (await world.row(ids.command())).since == ahead

    drive(story)
