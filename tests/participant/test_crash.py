"""A process of the service dies, or loses its partitions, at the worst moments: money moves once, answers come, order holds."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest

from saga.cloudevents import header_fields
from saga.participant import Settings, Work
from saga.participant.inbox import State
from tests.participant.conftest import Drive
from tests.participant.kit import (
    FindPayment,
    Ids,
    LedgerGrew,
    NotePayment,
    Payment,
    PaymentNoted,
    Process,
    ReturnPayment,
    TakePayment,
    World,
    command,
    data,
    eventually,
    notes,
    outcome,
    payments,
)


def dies_after_the_charge(payment: Payment) -> asyncio.Event:
    """From now on the charge happens, and then its process does nothing more; says when that point is reached."""
    reached = asyncio.Event()

    async def charge_and_hang(cmd: TakePayment, work: Work) -> int:
        payment.gateway.charge(work.command_id, cmd.amount)
        reached.set()
        await asyncio.Event().wait()
        return 0

    take = payment.participant.handlers[TakePayment.__type__]
    object.__setattr__(take, "calls", charge_and_hang)
    object.__setattr__(take, "calls_awaits", True)
    return reached


async def killed_between_charge_and_answer(world: World, payment: Payment, ids: Ids) -> None:
    doomed = Payment()
    doomed.gateway = payment.gateway
    reached = dies_after_the_charge(doomed)
    process = await world.start(doomed)
    await world.send(command(TakePayment(order_id="o-1", amount=7), ids))
    await asyncio.wait_for(reached.wait(), 10)
    assert (await world.row(ids.command())).state is State.BEGUN, "begun is committed before the call"
    await process.crash()
    assert payment.gateway.charged == {ids.command(): 7}
    assert await world.records("payment.events") == []


def test_killed_between_charge_and_answer_the_next_process_charges_no_second_time(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await killed_between_charge_and_answer(world, payment, ids)
        await world.start(payment)  # the offset was not committed: it reads the command again
        assert outcome(await world.reply(ids.command())) == "done payment.taken.v1"
        assert payment.gateway.charged == {ids.command(): 7}
        assert [tuple(row) for row in await world.rows(payments)] == [(ids.command(), 7)]

    drive(story)


def test_killed_between_charge_and_answer_the_compensation_finds_the_charge(drive: Drive) -> None:
    """The saga gave up and compensates; that command overtakes the copy that is read again."""

    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await killed_between_charge_and_answer(world, payment, ids)
        # On another partition, so that it may come first: at worst the two are read in any order.
        await world.send(command(ReturnPayment(order_id="o-1"), ids, "compensate"), partition=3)
        await world.start(payment)
        back = await world.reply(ids.command("compensate"))
        await world.reply(ids.command())
        assert outcome(back) == "done payment.returned.v1", "nothing would have kept the customer's money"
        assert payment.gateway.balance == 0

    drive(story)


def test_killed_between_charge_and_answer_a_verify_finds_the_charge(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await killed_between_charge_and_answer(world, payment, ids)
        await world.send(command(FindPayment(order_id="o-1"), ids, "verify"), partition=3)
        await world.start(payment)
        assert outcome(await world.reply(ids.command("verify"))) == "done payment.taken.v1"
        assert outcome(await world.reply(ids.command())) == "done payment.taken.v1"
        assert payment.gateway.balance == 7

    drive(story)


@pytest.mark.parametrize("action", ["compensate", "verify"])
def test_closed_by_another_process_in_the_middle_of_its_calls_an_execute_writes_nothing(drive: Drive, action: str) -> None:
    """After a rebalance two processes hold the key for a moment: the row decides, not who is faster."""

    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        entered, go = threading.Event(), threading.Event()

        def slow(cmd: TakePayment, _work: Work) -> int:
            entered.set()
            assert go.wait(20)
            return cmd.amount

        take = payment.participant.handlers[TakePayment.__type__]
        object.__setattr__(take, "calls", slow)
        await world.start(payment)
        await world.send(command(TakePayment(order_id="o-1", amount=7), ids))
        assert await asyncio.to_thread(entered.wait, 20)
        closing = ReturnPayment(order_id="o-1") if action == "compensate" else FindPayment(order_id="o-1")
        await world.send(command(closing, ids, action), partition=(await _partition_of(world, ids)) ^ 1)
        assert outcome(await world.reply(ids.command(action))) == "nothing saga.nothing.v1"
        go.set()
        assert outcome(await world.reply(ids.command())) == "nothing saga.nothing.v1"
        assert await world.rows(payments) == []

    drive(story)


def test_once_a_compensation_makes_its_calls_the_execute_does_not_begin_again(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        entered, go = threading.Event(), threading.Event()

        def slow(_cmd: ReturnPayment, work: Work) -> int:
            entered.set()
            assert go.wait(20)
            return payment.gateway.void(work.subject_id)

        object.__setattr__(payment.participant.handlers[ReturnPayment.__type__], "calls", slow)
        await world.put(ids.command(), State.BEGUN)
        payment.gateway.charged[ids.command()] = 7
        await world.start(payment)
        await world.send(command(ReturnPayment(order_id="o-1"), ids, "compensate"), partition=0)
        assert await asyncio.to_thread(entered.wait, 20)
        await world.send(command(TakePayment(order_id="o-1", amount=7), ids), partition=1)
        assert outcome(await world.reply(ids.command())) == "nothing saga.nothing.v1"
        assert payment.gateway.asked == []
        go.set()
        assert outcome(await world.reply(ids.command("compensate"))) == "done payment.returned.v1"
        assert (await world.row(ids.command())).state is State.NOTHING

    drive(story)


async def _partition_of(world: World, ids: Ids) -> int:
    records = await world.records("payment.commands")
    return next(r.partition for r in records if header_fields(r.headers)["sagacommand"] == ids.command())


def dies_after_its_commit(payment: Payment, processes: list[Process]) -> None:
    """The note handler's process reaches its commit, and nothing after it."""

    async def last_words(cmd: NotePayment, work: Work) -> PaymentNoted:
        await work.execute_async(notes.insert().values(note=cmd.note))
        work.emit(LedgerGrew(note=cmd.note), key="ledger")
        processes[0].log.kill()
        return PaymentNoted(note=cmd.note)

    handler = payment.participant.handlers[NotePayment.__type__]
    object.__setattr__(handler, "answer", last_words)
    object.__setattr__(handler, "awaits", True)


def test_what_was_committed_and_not_published_is_published_by_the_next_process(drive: Drive) -> None:
    async def story(world: World) -> None:
        doomed, payment, ids = Payment(), Payment(), Ids("o-1")
        processes: list[Process] = []
        dies_after_its_commit(doomed, processes)
        processes.append(await world.start(doomed))
        await world.send(command(NotePayment(note="kept"), ids))

        async def committed() -> bool:
            return (await world.row(ids.command())).state is State.DONE

        await eventually(committed, lambda: "the commit")
        await processes[0].crash()
        assert await world.records("payment.events") == []
        await world.start(payment)
        assert outcome(await world.reply(ids.command())) == "done payment.noted.v1"
        await world.until(1, type="payment.ledger-grew.v1")
        assert payment.runs == [], "it was answered from the inbox and the outbox, and not run again"
        assert len(await world.rows(notes)) == 1

    drive(story)


def test_a_process_that_stops_with_a_slow_key_in_hand_loses_none_of_its_commands(drive: Drive) -> None:
    async def story(world: World) -> None:
        doomed, payment, slow = Payment(), Payment(), Ids("slow")
        reached = dies_after_the_charge(doomed)
        process = await world.start(doomed, Settings(stop_within=timedelta(milliseconds=100)))
        await world.send(command(TakePayment(order_id="o", amount=7), slow), partition=0)
        others = [Ids(f"quick-{n}") for n in range(20)]
        await world.send(*(command(NotePayment(note="x"), ids) for ids in others), partition=0)
        await asyncio.wait_for(reached.wait(), 10)
        await world.until(20, type="payment.noted.v1")
        await process.end()  # it waits a while, then commits: what it commits may not pass the slow command
        await world.start(payment)
        assert outcome(await world.reply(slow.command())) == "done payment.taken.v1"
        assert len(await world.rows(notes)) == 20

    drive(story)


def test_commands_that_wait_for_a_turn_when_a_process_stops_are_left_to_the_next_one(drive: Drive) -> None:
    async def story(world: World) -> None:
        doomed, payment = Payment(), Payment()
        entered, go = asyncio.Event(), asyncio.Event()

        async def slow(cmd: TakePayment, work: Work) -> int:
            entered.set()
            await go.wait()
            return doomed.gateway.charge(work.command_id, cmd.amount)

        take = doomed.participant.handlers[TakePayment.__type__]
        object.__setattr__(take, "calls", slow)
        object.__setattr__(take, "calls_awaits", True)
        ids = [Ids(f"o-{n}") for n in range(20)]
        await world.send(*(command(TakePayment(order_id=each.key, amount=7), each) for each in ids))
        process = await world.start(doomed, Settings(concurrency=1))
        await asyncio.wait_for(entered.wait(), 10)
        process.stop.set()

        async def given_up() -> bool:
            share = process.runner._share
            return share is not None and not share._given

        await eventually(given_up, lambda: "the process to give up its partitions")
        go.set()
        await process.end()
        assert len(doomed.gateway.asked) == 1, "one had its turn, the others were given back"
        await world.start(payment)
        for each in ids:
            assert outcome(await world.reply(each.command())) == "done payment.taken.v1"
        assert len(payment.gateway.asked) == len(ids) - 1

    drive(story)


def test_two_processes_share_the_work_of_one_database(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()
        first = await world.start(payment)
        early = [Ids(f"early-{n}") for n in range(40)]
        await world.send(*(command(NotePayment(note=ids.key), ids) for ids in early))
        await world.until(10, type="payment.noted.v1")
        second = await world.start(payment)  # a rebalance in the middle of the work
        late = [Ids(f"late-{n}") for n in range(40)]
        for ids in late:
            await world.send(command(NotePayment(note=ids.key), ids))
        for ids in early + late:
            await world.reply(ids.command())

        async def both() -> bool:
            return bool(first.meter.results and second.meter.results)

        late_most = [Ids(f"last-{n}") for n in range(40)]
        await world.send(*(command(NotePayment(note=ids.key), ids) for ids in late_most))
        for ids in late_most:
            await world.reply(ids.command())
        await eventually(both, lambda: "both processes to have worked")
        assert sorted(row.note for row in await world.rows(notes)) == sorted(ids.key for ids in early + late + late_most)
        for ids in early + late + late_most:
            replies = await world.until(1, sagacommand=ids.command())
            assert len({(reply.value, reply.headers) for reply in replies}) == 1, "copies at most, never a second answer"

    drive(story)


def test_a_paused_process_that_wakes_up_changes_nothing(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()
        first = await world.start(payment, Settings(stop_within=timedelta(seconds=1)))
        ids = [Ids(f"o-{n}") for n in range(40)]
        await world.send(*(command(NotePayment(note=each.key), each) for each in ids[:20]))
        first.log.pause()
        second = await world.start(payment)
        await world.send(*(command(NotePayment(note=each.key), each) for each in ids[20:]))
        for each in ids:
            await world.reply(each.command())
        first.log.resume()
        again = Ids("again")
        await world.send(command(NotePayment(note="again"), again))
        await world.reply(again.command())
        await first.end()
        await second.end()
        assert sorted(row.note for row in await world.rows(notes)) == sorted([each.key for each in ids] + ["again"])
        for each in ids:
            replies = await world.until(1, sagacommand=each.command())
            assert len({(reply.value, reply.headers) for reply in replies}) == 1
            assert data(replies[0]) == {"note": each.key}

    drive(story)
