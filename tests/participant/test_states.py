"""Every row of the inbox's tables, through the log: what is answered, whether anything runs, and what the subject's row becomes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from saga.cloudevents import header_fields
from saga.engine.messages import Command
from saga.engine.state import Action
from saga.log.base import Record
from saga.participant.inbox import ARRIVAL, State
from tests.participant.conftest import Drive
from tests.participant.kit import FindPayment, Ids, Payment, ReturnPayment, TakePayment, World, command, data, outcome

TAKEN = Record(
    b"o-1",
    b'{"amount":7,"payment_id":"kept"}',
    (("ce_specversion", b"1.0"), ("ce_id", b"kept:reply"), ("ce_type", b"payment.taken.v1"), ("ce_sagaoutcome", b"done")),
)
DECLINED = Record(
    b"o-1",
    b'{"why":"kept"}',
    (("ce_specversion", b"1.0"), ("ce_id", b"kept:reply"), ("ce_type", b"payment.declined.v1"), ("ce_sagaoutcome", b"refused")),
)
COMMANDS: dict[str, Command[Any]] = {
    "execute": TakePayment(order_id="o-1", amount=7),
    "compensate": ReturnPayment(order_id="o-1"),
    "verify": FindPayment(order_id="o-1"),
}

# action, the subject's row before, what the gateway knows of it, the answer, calls made, handler run, the subject's row after
ROWS = [
    ("execute", State.ABSENT, "-", "done", 1, 1, State.DONE),
    ("execute", State.ABSENT, "declines", "refused", 1, 0, State.REFUSED),
    ("execute", State.BEGUN, "-", "done", 1, 1, State.DONE),
    ("execute", State.BEGUN, "charged", "done", 1, 1, State.DONE),
    ("execute", State.BEGUN, "declines", "refused", 1, 0, State.REFUSED),
    ("execute", State.CLOSING, "charged", "nothing", 0, 0, State.CLOSING),
    ("execute", State.DONE, "charged", "done", 0, 0, State.DONE),
    ("execute", State.REFUSED, "-", "refused", 0, 0, State.REFUSED),
    ("execute", State.NOTHING, "-", "nothing", 0, 0, State.NOTHING),
    ("compensate", State.ABSENT, "-", "nothing", 0, 0, State.NOTHING),
    ("compensate", State.BEGUN, "charged", "done", 1, 1, State.NOTHING),
    ("compensate", State.BEGUN, "-", "nothing", 1, 0, State.NOTHING),
    ("compensate", State.CLOSING, "charged", "done", 1, 1, State.NOTHING),
    ("compensate", State.CLOSING, "-", "nothing", 1, 0, State.NOTHING),
    ("compensate", State.DONE, "charged", "done", 1, 1, State.DONE),
    ("compensate", State.DONE, "-", "nothing", 1, 0, State.DONE),
    ("compensate", State.REFUSED, "-", "nothing", 0, 0, State.REFUSED),
    ("compensate", State.NOTHING, "-", "nothing", 0, 0, State.NOTHING),
    ("verify", State.ABSENT, "-", "nothing", 0, 0, State.NOTHING),
    ("verify", State.BEGUN, "charged", "done", 1, 1, State.DONE),
    ("verify", State.BEGUN, "-", "nothing", 1, 0, State.NOTHING),
    ("verify", State.CLOSING, "charged", "done", 1, 1, State.CLOSING),
    ("verify", State.CLOSING, "-", "nothing", 1, 0, State.NOTHING),
    ("verify", State.DONE, "charged", "done", 0, 0, State.DONE),
    ("verify", State.REFUSED, "-", "nothing", 0, 0, State.REFUSED),
    ("verify", State.NOTHING, "-", "nothing", 0, 0, State.NOTHING),
]
REPLIES = {State.DONE: TAKEN, State.REFUSED: DECLINED}


def test_the_table_here_is_complete() -> None:
    assert {(row[0], row[1]) for row in ROWS} == {(action.value, state) for action in Action for state in State}
    assert set(ARRIVAL) == set(Action)


@pytest.mark.parametrize(
    ("action", "before", "gateway", "answer", "calls", "runs", "after"), ROWS, ids=[f"{r[0]}-{r[1]}-{r[2]}-{r[3]}" for r in ROWS]
)
def test_the_table(
    drive: Drive, action: str, before: State, gateway: str, answer: str, calls: int, runs: int, after: State
) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        if before is not State.ABSENT:
            await world.put(ids.command(), before, REPLIES.get(before))
        if gateway == "charged":
            payment.gateway.charged[ids.command()] = 7
        given = COMMANDS[action]
        if gateway == "declines":
            given = TakePayment(order_id="o-1", amount=5_000)
        await world.start(payment)
        await world.send(command(given, ids, action))
        reply = (await world.until(1))[0]
        assert header_fields(reply.headers)["sagaoutcome"] == answer
        assert (len(payment.gateway.asked), len(payment.runs)) == (calls, runs)
        assert (await world.row(ids.command())).state is after
        if action != "execute":
            assert (await world.row(ids.command(action))).state.value == answer, "its own row keeps its answer"
        if answer == "done" and action != "compensate":
            assert data(reply)["amount"] == 7

    drive(story)


@pytest.mark.parametrize("action", ["compensate", "verify"])
def test_the_same_compensate_or_verify_again_gets_the_same_answer(drive: Drive, action: str) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.start(payment)
        await world.send(command(COMMANDS["execute"], ids))
        await world.reply(ids.command())
        for attempt in (1, 2):
            await world.send(command(COMMANDS[action], ids, action, attempt=attempt))
        first, second = await world.until(2, sagacommand=ids.command(action))
        assert (first.value, first.headers) == (second.value, second.headers)
        assert len(payment.gateway.asked) == (2 if action == "compensate" else 1)

    drive(story)


@pytest.mark.parametrize("action", ["compensate", "verify"])
def test_a_command_that_comes_after_its_end_is_answered_nothing_and_never_runs(drive: Drive, action: str) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.start(payment)
        await world.send(command(COMMANDS[action], ids, action))
        await world.reply(ids.command(action))
        for attempt in (1, 2):
            await world.send(command(COMMANDS["execute"], ids, attempt=attempt))
        first, second = await world.until(2, sagacommand=ids.command())
        assert outcome(first) == "nothing saga.nothing.v1"
        assert (second.value, second.headers) == (first.value, first.headers), "kept, as any reply"
        assert (payment.gateway.asked, payment.runs) == ([], [])

    drive(story)


def test_what_a_verify_found_is_the_answer_to_the_late_command(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.put(ids.command(), State.BEGUN)
        payment.gateway.charged[ids.command()] = 7
        await world.start(payment)
        await world.send(command(COMMANDS["verify"], ids, "verify"))
        found = await world.reply(ids.command("verify"))
        await world.send(command(COMMANDS["execute"], ids))
        late = await world.reply(ids.command())
        assert data(late) == data(found) == {"payment_id": ids.command(), "amount": 7}
        fields = header_fields(late.headers)
        assert (fields["sagaaction"], fields["sagaoutcome"], fields["id"]) == ("execute", "done", f"{ids.command()}:reply")
        assert payment.gateway.asked == [f"find {ids.command()}"], "the late command charged nothing"

    drive(story)


def test_steps_of_one_saga_do_not_share_a_story(drive: Drive) -> None:
    async def story(world: World) -> None:
        payment, ids = Payment(), Ids("o-1")
        await world.start(payment)
        await world.send(command(COMMANDS["compensate"], ids, "compensate", step="other"))
        await world.send(command(COMMANDS["execute"], replace(ids), step="pay"))
        assert outcome(await world.reply(ids.command("execute", "pay"))) == "done payment.taken.v1"

    drive(story)
