"""What a participant answers: each command takes effect once, and each gets an answer the saga can use."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

from sqlalchemy import insert, select, text

from saga.cloudevents import header_fields
from saga.log.base import Record
from saga.log.partition import home
from saga.participant import Refused, Settings, Work
from saga.participant.store import wall_clock
from tests.participant.conftest import Drive
from tests.participant.kit import (
    PARTITIONS,
    Ids,
    NotePayment,
    NotesForbidden,
    Payment,
    PaymentNoted,
    TakePayment,
    World,
    command,
    data,
    eventually,
    notes,
    outcome,
    payments,
)

QUICK = Settings(first_retry=timedelta(milliseconds=5))


def test_a_command_is_done_and_its_reply_echoes_what_the_saga_needs(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.start(payment)
        await world.send(command(TakePayment(order_id="o-1", amount=7), ids, attempt=3), partition=2)
        reply = await world.reply(ids.command())
        fields = header_fields(reply.headers)
        time = fields.pop("time")
        assert fields == {
            "specversion": "1.0",
            "id": f"{ids.command()}:reply",
            "type": "payment.taken.v1",
            "source": "payment",
            "subject": "o-1",
            "sagainstance": ids.instance,
            "sagacommand": ids.command(),
            "sagaaction": "execute",
            "sagaattempt": "3",
            "sagaoutcome": "done",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        }
        assert time.endswith("Z")
        assert (reply.partition, reply.key) == (2, b"o-1"), "a reply goes to the partition number of its command"
        assert data(reply) == {"payment_id": ids.command(), "amount": 7}
        assert [tuple(row) for row in await world.rows(payments)] == [(ids.command(), 7)]

    drive(story)


def test_the_same_command_again_gets_the_same_answer_and_no_second_effect(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        process = await world.start(payment)
        for attempt in (1, 1, 2):
            await world.send(command(TakePayment(order_id="o-1", amount=7), ids, attempt=attempt))
        await world.reply(ids.command(), 3)
        first, *others = await world.until(3, sagacommand=ids.command())
        for other in others:
            assert (other.key, other.value, other.headers) == (first.key, first.value, first.headers), "the stored bytes, unchanged"
        assert payment.runs == [ids.command()]
        assert payment.gateway.asked == [f"charge {ids.command()}"]
        assert len(await world.rows(payments)) == 1
        assert process.meter.duplicates == 2

    drive(story)


def test_a_refusal_is_the_answer_and_leaves_nothing_behind(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, from_calls, from_handler = Payment(), Ids("o-1"), Ids("o-2")

        def forbid(_cmd: NotePayment, _work: Work) -> None:
            raise Refused(NotesForbidden())

        payment.before_note = forbid
        await world.start(payment)
        await world.send(command(TakePayment(order_id="o-1", amount=5_000), from_calls))
        await world.send(command(NotePayment(note="x"), from_handler))
        await world.send(command(NotePayment(note="x"), from_handler, attempt=2))
        assert outcome(await world.reply(from_calls.command())) == "refused payment.declined.v1"
        assert outcome(await world.reply(from_handler.command(), 2)) == "refused payment.notes-forbidden.v1"
        assert len(payment.runs) == 1, "a refusal is final"
        assert await world.rows(notes) == [], "refused means no effect (S12)"
        assert await world.until(0, type="payment.ledger-grew.v1") == []

    drive(story)


def test_what_raises_is_tried_again_then_answered_failed_and_not_kept(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids, broken = Payment(), Ids("o-1"), 4

        def stumble(_cmd: NotePayment, _work: Work) -> None:
            nonlocal broken
            broken -= 1
            if broken >= 0:
                raise ConnectionError("the ledger is away")

        payment.before_note = stumble
        await world.start(payment, QUICK)
        await world.send(command(NotePayment(note="x"), ids))
        failed = await world.reply(ids.command())
        assert outcome(failed) == "failed saga.failed.v1"
        assert data(failed) == {"reason": "ConnectionError: the ledger is away"}
        await world.send(command(NotePayment(note="x"), ids, attempt=2))
        done = await world.reply(ids.command(), 2)
        assert outcome(done) == "done payment.noted.v1"
        assert header_fields(failed.headers)["sagaattempt"] == "1"
        assert len(payment.runs) == 5, "three tries, then one that fails and one that works"
        assert len(await world.rows(notes)) == 1, "only the run that was answered left its row"

    drive(story)


def test_each_failed_answer_has_an_id_of_its_own(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")

        def break_down(_cmd: NotePayment, _work: Work) -> None:
            raise ConnectionError("away")

        payment.before_note = break_down
        await world.start(payment, Settings(tries=1))
        for attempt in (1, 2, 2):
            await world.send(command(NotePayment(note="x"), ids, attempt=attempt))
        replies = await world.until(3, sagacommand=ids.command())
        assert len({header_fields(reply.headers)["id"] for reply in replies}) == 3
        assert [header_fields(reply.headers)["sagaattempt"] for reply in replies] == ["1", "2", "2"]

    drive(story)


def test_an_answer_the_command_does_not_name_is_a_failure_not_a_false_fact(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")

        def refuse_wrongly(_cmd: NotePayment, _work: Work) -> None:
            payment.gateway.charge("k", 5_000)  # raises Refused(PaymentDeclined), which NotePayment does not name

        payment.before_note = refuse_wrongly
        await world.start(payment, QUICK)
        await world.send(command(NotePayment(note="x"), ids))
        reply = await world.reply(ids.command())
        assert outcome(reply) == "failed saga.failed.v1"
        assert "refuses=" in data(reply)["reason"]

    drive(story)


def test_a_command_older_than_the_memory_is_not_executed_but_expired(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()
        ids = Ids("o-1", started=wall_clock() - 61_000)
        await world.start(payment, Settings(retention=timedelta(minutes=1)))
        await world.send(command(TakePayment(order_id="o-1", amount=7), ids))
        assert outcome(await world.reply(ids.command())) == "expired saga.expired.v1"
        assert (payment.runs, payment.gateway.asked) == ([], [])

    drive(story)


def test_no_row_proves_nothing_about_a_saga_older_than_the_memory(drive: Drive) -> None:
    """The execute may have been done and its row forgotten: `nothing` would keep the money."""

    async def story(world: World) -> None:
        payment = Payment()
        ids = Ids("o-1", started=wall_clock() - 61_000)
        await world.start(payment, Settings(retention=timedelta(minutes=1)))
        await world.send(command(NotePayment(note="x"), ids, "compensate", time=wall_clock()))
        assert outcome(await world.reply(ids.command("compensate"))) == "expired saga.expired.v1"

    drive(story)


def test_no_row_proves_nothing_where_a_young_run_undoes_what_an_old_one_did(drive: Drive) -> None:
    """A child that completed is undone by a second run; what the first one did may be forgotten by then."""

    async def story(world: World) -> None:
        first, second = Ids("o-1", started=wall_clock() - 61_000), Ids("o-1")
        await world.start(Payment(), Settings(retention=timedelta(minutes=1)))
        await world.send(command(NotePayment(note="x"), second, "compensate", about=first))
        assert outcome(await world.reply(second.command("compensate"))) == "expired saga.expired.v1"

    drive(story)


def test_events_go_to_the_home_of_their_key_in_the_same_transaction(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.start(payment)
        await world.send(command(NotePayment(note="x"), ids))
        await world.reply(ids.command())
        (event,) = await world.until(1, type="payment.ledger-grew.v1")
        assert (event.key, event.partition) == (b"ledger", home("ledger", PARTITIONS))
        fields = header_fields(event.headers)
        assert (fields["source"], fields["id"], fields["subject"]) == ("payment", f"{ids.command()}:event:1", "ledger")

    drive(story)


def test_one_key_is_worked_in_order_and_different_keys_at_once(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()
        together = threading.Barrier(2, timeout=10)
        began: list[str] = []

        def meet(cmd: TakePayment, work: Work) -> int:
            began.append(f"{work.key} {cmd.amount}")
            together.wait()  # passes only while another key's call is under way too
            return cmd.amount

        take = payment.participant.handlers[TakePayment.__type__]
        object.__setattr__(take, "calls", meet)
        await world.start(payment)
        left, right = Ids("left"), Ids("right")
        for amount in range(5):
            for ids in (left, right):
                await world.send(command(TakePayment(order_id="o", amount=amount), ids, step=f"s{amount}"))
        await world.until(10, type="payment.taken.v1")
        for key in ("left", "right"):
            assert [each for each in began if each.startswith(key)] == [f"{key} {n}" for n in range(5)]

    drive(story)


def test_one_slow_key_holds_up_nobody_else(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, go = Payment(), threading.Event()

        def wait(cmd: TakePayment, _work: Work) -> int:
            assert cmd.amount or go.wait(20)
            return cmd.amount

        take = payment.participant.handlers[TakePayment.__type__]
        object.__setattr__(take, "calls", wait)
        process = await world.start(payment)
        slow = Ids("slow")
        await world.send(command(TakePayment(order_id="o", amount=0), slow), partition=0)
        others = [Ids(f"quick-{n}") for n in range(100)]
        await world.send(*(command(TakePayment(order_id="o", amount=1), ids) for ids in others), partition=0)
        await world.until(100, type="payment.taken.v1")
        go.set()
        await world.reply(slow.command())
        await process.end()
        assert len(payment.runs) == 101

    drive(story)


def test_database_work_that_is_ready_together_shares_a_commit(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, commits = Payment(), 0
        process = await world.start(payment)
        warm = Ids("warm")
        await world.send(command(NotePayment(note="warm"), warm))
        await world.reply(warm.command())

        def count(_put: bool) -> None:
            nonlocal commits
            commits += 1

        end = process.store.on_commit(count)
        await world.send(*(command(NotePayment(note=str(n)), Ids(f"o-{n}")) for n in range(200)))
        await world.until(201, type="payment.noted.v1")
        end()
        assert len(await world.rows(notes)) == 201
        assert commits <= 100, f"200 commands took {commits} commits"

    drive(story)


def test_one_bad_command_of_a_shared_transaction_harms_no_other(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()

        def choke(cmd: NotePayment, work: Work) -> None:
            if cmd.note == "13":
                work.execute(payments.insert().values(id="same", amount=None))  # violates NOT NULL

        payment.before_note = choke
        await world.start(payment, QUICK)
        await world.send(*(command(NotePayment(note=str(n)), Ids(f"o-{n}")) for n in range(30)))
        await world.until(29, type="payment.noted.v1")
        (failed,) = await world.until(1, sagaoutcome="failed")
        assert "null" in data(failed)["reason"].lower()
        assert sorted(int(row.note) for row in await world.rows(notes)) == [n for n in range(30) if n != 13]

    drive(story)


def test_copies_of_a_command_in_one_transaction_have_one_effect(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        copy = command(NotePayment(note="x"), ids)
        for partition in range(PARTITIONS):  # there before the process starts, so that it takes them together
            await world.send(copy, partition=partition)
        await world.start(payment)
        replies = await world.until(PARTITIONS, sagacommand=ids.command(), type="payment.noted.v1")
        assert len({(reply.value, reply.headers) for reply in replies}) == 1
        assert payment.runs == [ids.command()]
        assert len(await world.rows(notes)) == 1

    drive(story)


def test_a_transaction_that_ends_under_a_handler_writes_nothing_for_anybody_else_either(drive: Drive) -> None:
    """As a full disk ends it: what ran before is undone with it, so it must not be answered as done."""

    async def story(world: World) -> None:
        payment = Payment()

        def end_it(cmd: NotePayment, work: Work) -> None:
            if cmd.note == "13":
                work.execute(text("ROLLBACK"))

        payment.before_note = end_it
        await world.send(*(command(NotePayment(note=str(n)), Ids(f"o-{n}")) for n in range(30)))
        await world.start(payment, QUICK)
        await world.until(29, type="payment.noted.v1")
        (failed,) = await world.until(1, sagaoutcome="failed")
        assert "ended under its handler" in data(failed)["reason"]
        assert sorted(int(row.note) for row in await world.rows(notes)) == [n for n in range(30) if n != 13]

    drive(story)


def test_an_async_handler_has_a_transaction_of_its_own(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, kept, refused, broken = Payment(), Ids("kept"), Ids("refused"), Ids("broken")

        async def answer(cmd: NotePayment, work: Work) -> PaymentNoted:
            await work.execute_async(insert(notes).values(note=cmd.note))
            if cmd.note == "refused":
                raise Refused(NotesForbidden())
            if cmd.note == "broken":
                work.execute(insert(notes).values(note="from the event loop's thread"))
            found = await work.execute_async(select(notes.c.note))
            return PaymentNoted(note=",".join(sorted(row.note for row in found)))

        handler = payment.participant.handlers[NotePayment.__type__]
        object.__setattr__(handler, "answer", answer)
        object.__setattr__(handler, "awaits", True)
        await world.start(payment, QUICK)
        for ids in (refused, broken, kept):
            await world.send(command(NotePayment(note=ids.key), ids))
        assert data(await world.reply(kept.command())) == {"note": "kept"}
        assert outcome(await world.reply(refused.command())) == "refused payment.notes-forbidden.v1"
        assert "execute_async" in data(await world.reply(broken.command()))["reason"]
        assert [row.note for row in await world.rows(notes)] == ["kept"]

    drive(story)


def test_calls_are_outside_the_transaction(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")

        def write(_cmd: TakePayment, work: Work) -> int:
            work.execute(insert(notes).values(note="too early"))
            return 0

        object.__setattr__(payment.participant.handlers[TakePayment.__type__], "calls", write)
        await world.start(payment, QUICK)
        await world.send(command(TakePayment(order_id="o", amount=7), ids))
        assert "`calls` run before it" in data(await world.reply(ids.command()))["reason"]
        assert await world.rows(notes) == []

    drive(story)


def test_a_hung_call_gives_its_key_back(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")

        async def hang(_cmd: TakePayment, _work: Work) -> int:
            await asyncio.Event().wait()
            return 0

        take = payment.participant.handlers[TakePayment.__type__]
        object.__setattr__(take, "calls", hang)
        object.__setattr__(take, "calls_awaits", True)
        await world.start(payment, Settings(tries=1, call_within=timedelta(milliseconds=50)))
        await world.send(command(TakePayment(order_id="o", amount=0), ids))
        reply = await world.reply(ids.command())
        assert outcome(reply) == "failed saga.failed.v1"
        assert data(reply)["reason"] == "TimeoutError: the call did not end within 0.05 s"

    drive(story)


def test_bad_records_become_dead_letters_and_the_partition_goes_on(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()
        process = await world.start(payment)
        good = command(NotePayment(note="x"), Ids("bad"))

        def changed(value: bytes | None = good.value, *, key: bytes | None = b"bad", **headers: bytes | None) -> Record:
            kept = tuple((name, raw) for name, raw in good.headers if name not in headers)
            return Record(key, value, kept + tuple((name, raw) for name, raw in headers.items() if raw is not None))

        unanswerable = [
            Record(None, None),
            Record(b"\xff\xfe", b"\x80\x04pickle", (("junk", b"\xff"),)),
            changed(ce_sagacommand=None),
            changed(ce_sagacommand=b"x" * 2_000),
            changed(ce_sagacommand=b"nul\x00"),
            changed(ce_sagaattempt=b"first"),
            changed(ce_sagainstance=b"\xff"),
            Record(b"bad", good.value, (*good.headers, ("ce_id", b"twice"))),
        ]
        answerable = [
            changed(b""),
            changed(None),
            changed(b'{"note": NaN}'),
            changed(b"[" * 100_000),
            changed(b'{"note": "x", "note": "y"}'),
            changed(b'{"note": 5}'),
            changed(b'{"note": {}}'),
            changed(b"{}"),
            changed(ce_type=b"payment.unknown.v1"),
            changed(ce_type=b"payment.note_payment.v2"),
            changed(ce_sagaaction=b"explode"),
            changed(ce_sagaaction=b"compensate"),
            changed(ce_time=b"yesterday"),
            changed(ce_time=None),
        ]
        await world.send(*unanswerable, *answerable, partition=1)
        fine = Ids("fine")
        await world.send(command(NotePayment(note="fine"), fine), partition=1)
        await world.reply(fine.command())
        total = len(unanswerable) + len(answerable)
        letters = await world.until(total, "saga.deadletter")
        failed = await world.until(len(answerable), sagaoutcome="failed")
        assert len(failed) == len(answerable), "the saga learns of each that says whom to answer"
        assert len(letters) == total
        origins = {dict(letter.headers)["ce_sagaorigin"].decode(): letter for letter in letters}
        for number, sent in enumerate([*unanswerable, *answerable]):
            letter = origins[f"payment.commands:1:{number}"]
            assert (letter.key, letter.value) == (sent.key, sent.value), "the original bytes"
            assert letter.headers[: len(sent.headers)] == sent.headers, "the original headers"
            assert dict(letter.headers)["ce_sagareason"]
        assert len(process.meter.dead) == total
        assert len(payment.runs) == 1
        missing = next(reply for reply in failed if b"Field required" in (reply.value or b""))
        assert data(missing) == {"reason": "schema: not a valid payment.note_payment.v1: note: Field required"}

    drive(story)


def test_a_graceful_stop_commits_what_it_did(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment = Payment()
        first = await world.start(payment)
        await world.send(*(command(NotePayment(note=str(n)), Ids(f"o-{n}")) for n in range(50)))
        await world.until(50, type="payment.noted.v1")
        await first.end()
        second = await world.start(payment)
        ids = Ids("last")
        await world.send(command(NotePayment(note="last"), ids))
        await world.reply(ids.command())

        async def counted() -> bool:
            return bool(second.meter.results)

        await eventually(counted, lambda: "the second process to count its command")
        assert second.meter.results == [("payment.note_payment.v1", "done")], "nothing that the first answered was read again"

    drive(story)


def test_what_others_did_before_a_handler_that_commits_is_not_done_twice(drive: Drive) -> None:
    """A handler must not end the transaction it shares; where one does, only its own command may pay for it."""

    async def story(world: World) -> None:
        payment = Payment()

        def commit(cmd: NotePayment, work: Work) -> None:
            if cmd.note == "bad":
                work.execute(text("COMMIT"))

        payment.before_note = commit
        good = [Ids(f"o-{n}") for n in range(3)]
        await world.send(*(command(NotePayment(note="good"), ids) for ids in good), command(NotePayment(note="bad"), Ids("o-9")))
        await world.start(payment, QUICK)
        for ids in good:
            await world.reply(ids.command())
        assert sorted(payment.runs.count(ids.command()) for ids in good) == [1, 1, 1]
        assert [row.note for row in await world.rows(notes)].count("good") == 3

    drive(story)
