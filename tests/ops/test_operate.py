"""An operator's action: what is sent, what came of it, and what is left when somebody stops half-way."""

from __future__ import annotations

import asyncio
import io
import re
import time
from dataclasses import replace

import pytest
from rich.console import Console

from saga.engine.actions import SKIP
from saga.engine.state import Phase
from saga.errors import Misconfigured
from saga.log.memory import Faults, MemoryLog
from saga.ops.acting import Chosen, act_on
from saga.ops.commands import Tool
from saga.ops.listing import Filter, Shown, listing
from saga.ops.look import Journals
from saga.ops.operate import Act, Answer, Came, Operator, Target
from saga.ops.output import Format, Output
from saga.testing.clock import run
from tests.ops import shop as s
from tests.ops.shop import Shop, ended, parked, play

ACT = Act("anna", "gateway is back")


def shop_key(key: str) -> Target:
    return Target("shop", key)


def test_a_retry_is_told_with_what_came_of_it() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1", "wild: <b>:é")
        await shop.until("o-1", parked)
        await shop.until("wild: <b>:é", parked)
        (again,) = await Operator(shop.log, ACT).act_on([shop_key("o-1")])
        target, came, detail = again
        assert (target, came) == (shop_key("o-1"), Came.PARKED)
        assert re.fullmatch(
            r"it parked again: its own code raised at pay: KeyError: 'payment_ref' \(shop.py:\d+, in paid\)", detail
        )
        await shop.orchestrate()
        wild = shop_key("wild: <b>:é")
        told: list[Answer] = []
        answers = await Operator(shop.log, ACT, told.append).act_on([shop_key("o-1"), wild, shop_key("never")])
        assert sorted(answers) == [
            Answer(shop_key("never"), Came.UNKNOWN, "there is no such instance"),
            Answer(shop_key("o-1"), Came.RETRIED, "it goes on with reserve"),
            Answer(wild, Came.RETRIED, "it goes on with reserve"),
        ]
        assert told == answers, "each answer is told when it comes"
        await shop.until("o-1", ended)
        (refused,) = await Operator(shop.log, ACT).act_on([shop_key("o-1")])
        assert refused == Answer(shop_key("o-1"), Came.REFUSED, "it is not parked but completed")

    play({}, scene, broken=True)


def test_an_answer_that_got_lost_does_not_retry_twice() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", parked)
        log = MemoryLog(shop.broker, "operator")
        await log.open()
        answers_lost = iter([1.0, 1.0, 0.0])

        class Losing(Faults):
            def publish(self) -> object:  # type: ignore[override]
                self.publish_answer_lost = next(answers_lost)
                return super().publish()

        log.faults = Losing(log.faults.random)
        (answer,) = await Operator(log, ACT).act_on([shop_key("o-1")])
        assert answer.came is Came.PARKED
        await asyncio.sleep(5)
        history = await shop.history("o-1")
        notes = [moment.decision.note for moment in history.moments if moment.decision.input.type == "saga.retry.v1"]
        assert notes[0] == "parked"
        assert notes[1:] == ["duplicate"] * 2, "it was sent three times under one id, and taken once"

    play({}, scene, broken=True)


def test_nobody_there_to_decide_is_said_in_time() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", parked)
        await shop.stop()
        begin = asyncio.get_running_loop().time()
        (answer,) = await Operator(shop.log, Act("anna", "x", patience=7)).act_on([shop_key("o-1")])
        assert answer.came is Came.UNDECIDED
        assert 7 <= asyncio.get_running_loop().time() - begin < 9
        await shop.orchestrate()  # what was sent is decided by the next one all the same
        await shop.until("o-1", ended)

    play({}, scene, broken=True)


@pytest.mark.parametrize("rate", [2.0, 50.0])
def test_many_go_at_the_rate_that_was_asked_for(rate: float) -> None:
    async def scene(shop: Shop) -> None:
        keys = [f"o-{n}" for n in range(10)]
        await s.place(shop.log, *keys)
        for key in keys:
            await shop.until(key, parked)
        await shop.orchestrate()
        chosen = await listing(Journals(shop.log), Filter("shop", Shown.PARKED, "pay", "user-code"), shop.now())
        targets = [Target(state.saga, state.key) for state in chosen.rows]
        assert sorted(target.key for target in targets) == keys
        begin = asyncio.get_running_loop().time()
        answers = await Operator(shop.log, Act("anna", "fixed", rate)).act_on(targets)
        assert {answer.came for answer in answers} == {Came.RETRIED}
        took = asyncio.get_running_loop().time() - begin
        assert 9 / rate <= took < 9 / rate + 5, f"10 at {rate} a second took {took} s"

    play({}, scene, broken=True)


def test_stopped_half_way_each_is_either_done_or_untouched() -> None:
    async def scene(shop: Shop) -> None:
        keys = [f"o-{n}" for n in range(6)]
        await s.place(shop.log, *keys)
        for key in keys:
            await shop.until(key, parked)
        await shop.orchestrate()
        operator = Operator(shop.log, Act("anna", "fixed", rate=1))
        retrying = asyncio.create_task(operator.act_on([shop_key(key) for key in keys]))
        await asyncio.sleep(2.5)
        retrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await retrying
        assert operator.sent == 3
        await asyncio.sleep(5)
        found = await listing(Journals(shop.log), Filter(shown=Shown.ALL), shop.now())
        assert found.counts == {"completed": 3, "parked": 3}

    play({}, scene, broken=True)


@pytest.mark.parametrize("late", [True, False])
def test_who_retries_after_the_deadline_is_told_that_it_will_turn_back(late: bool) -> None:
    """The tool reckons by the clock on the wall: so the shop lives an hour ago, or now."""

    async def scene() -> None:
        shop = Shop({})
        shop.broker.epoch = time.time() - (3600 if late else 0)
        await shop.open(broken=True)
        await s.place(shop.log, "o-1", "o-2")
        for key in ("o-1", "o-2"):
            await shop.until(key, parked)
        await asyncio.sleep(700 if late else 0)
        await shop.orchestrate()
        stdout, stderr = io.StringIO(), io.StringIO()
        tool = Tool(shop.log, Output(Format.TABLE, stdout), Console(file=stderr, width=200), None)
        await act_on(tool, Chosen(None, Filter("shop", Shown.PARKED), yes=False), ACT)
        assert ("the deadline of 2 passed, of shop o-1 " in stderr.getvalue()) is late
        assert "2 would be retried; nothing was done" in stderr.getvalue()
        await act_on(tool, Chosen("o-1", Filter(), yes=True), ACT)
        told = "saga: the deadline of shop o-1 passed "
        assert (told in stderr.getvalue()) is late, stderr.getvalue()
        history = await shop.until("o-1", ended)
        assert history.state is not None
        assert history.state.phase is (Phase.COMPENSATED if late else Phase.COMPLETED)
        (retry,) = (m.decision.input for m in history.moments if m.decision.input.type == "saga.retry.v1")
        assert retry.data["instance"] == history.state.id, "it says which run is meant"
        await shop.stop()

    run(scene())


def test_a_step_that_needs_a_result_is_not_skipped_without_one() -> None:
    async def scene(shop: Shop) -> None:
        await s.place(shop.log, "o-1")
        await shop.until("o-1", parked)
        for book, example in ((None, "JSON"), (s.app.book, '{"tracking": "…"}')):
            tool = Tool(shop.log, Output(Format.TABLE, io.StringIO()), Console(file=io.StringIO()), book)
            with pytest.raises(Misconfigured) as caught:
                await act_on(tool, Chosen("o-1", Filter(), yes=True), replace(ACT, action=SKIP, data={"step": "ship"}))
            assert str(caught.value) == f"say what ship is answered, --result '{example}', or that it never happened: --nothing"
        history = await shop.history("o-1")
        assert history.moments[-1].decision.input.type != SKIP, "nothing was sent"

    play({"o-1 ship execute": [s.SILENCE], "o-1 ship verify": [s.FAILED] * 9}, scene)
