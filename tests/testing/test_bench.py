"""Sagas on the bench: what a user writes, and what he reads when it fails."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select

from saga import Nothing, Participant, Refused, Work, hours, minutes, seconds
from saga.testing import Bench, Silence, Unanswered
from tests.ops.shop import (
    AddressRefused,
    FindShipment,
    OrderPlaced,
    PaymentDeclined,
    PaymentReturned,
    PaymentTaken,
    ReleaseStock,
    ReserveStock,
    ReturnPayment,
    Ship,
    Shipped,
    StockReserved,
    TakePayment,
    Tell,
    make,
)

PLACED = OrderPlaced(order_id="o1", total=42)


def bench(*, broken: bool = False, seed: int | None = None) -> Bench:
    return Bench(make(broken=broken), seed=seed)


def with_answers(b: Bench) -> Bench:
    b.answer(TakePayment, PaymentTaken(payment_id="p1"))
    b.answer(Ship, Shipped(tracking="T1"))
    return b


# --- outcomes -----------------------------------------------------------------------------------------------------------------------


def test_what_is_not_said_is_done() -> None:
    with with_answers(bench()) as b:
        order = b.start(PLACED)
        assert order.outcome == order.state == "completed"
        assert order.steps == dict.fromkeys(("pay", "reserve", "ship", "tell"), "done")
        assert order.data.payment_id == "p1"
        assert order.data.tracking == "T1"
        assert b.commands(TakePayment) == [TakePayment(order_id="o1", amount=42)]
        assert b.commands(ReturnPayment) == []
        assert b.events(PaymentTaken) == [PaymentTaken(payment_id="p1")]
        assert b.now == 1_767_225_600_000, "no time passes where nothing waits"


def test_a_refusal_compensates_what_was_done() -> None:
    with bench() as b:
        b.answer(TakePayment, PaymentTaken(payment_id="p1"))
        b.refuse(Ship, AddressRefused(reason="no such street"))
        order = b.start(PLACED)
        assert order.outcome == "compensated"
        assert order.steps == {"pay": "compensated", "reserve": "compensated", "ship": "refused"}
        assert b.commands(ReturnPayment) == [ReturnPayment(order_id="o1")]
        assert b.commands(ReleaseStock) == [ReleaseStock(order_id="o1")]
        assert b.commands(Tell) == []


def test_failures_are_tried_again_as_time_passes() -> None:
    with with_answers(bench()) as b:
        b.fail(TakePayment, "gateway down", times=2)
        order = b.start(PLACED)
        assert order.outcome is None
        assert b.attempts(TakePayment) == 1
        assert "gateway down" in order.why()
        b.advance(seconds(0.5))
        assert b.attempts(TakePayment) == 2
        b.settle()
        assert order.outcome == "completed"
        assert b.attempts(TakePayment) == 3
        assert len(b.commands(TakePayment)) == 1
        assert b.now < 1_767_225_603_000, "settle stops where there is nothing to wait for any more"


def test_silence_takes_as_long_as_the_definition_says() -> None:
    with with_answers(bench()) as b:
        b.silence(TakePayment)
        order = b.start(PLACED)
        b.advance(seconds(4.9))
        assert b.attempts(TakePayment) == 1
        b.advance(seconds(1))
        assert b.attempts(TakePayment) == 2
        b.settle()
        assert order.outcome == "compensated"
        assert b.attempts(TakePayment) == 3
        assert len(b.commands(ReturnPayment)) == 1, "an unknown payment is compensated; the service answers: nothing was there"


def test_a_verify_finds_what_a_service_did_and_did_not_tell() -> None:
    with with_answers(bench()) as b:
        b.silence(Ship)
        b.answer(FindShipment, Shipped(tracking="T2"))
        order = b.start(PLACED)
        b.settle()
        assert order.outcome == "completed"
        assert order.data.tracking == "T2"


def test_by_itself_a_verify_finds_nothing_after_silence() -> None:
    with with_answers(bench()) as b:
        b.silence(Ship)
        order = b.start(PLACED)
        b.settle()
        assert order.outcome == "compensated"
        assert order.steps["ship"] == "refused"


def test_a_late_success_is_undone() -> None:
    with with_answers(bench()) as b:
        b.silence(TakePayment)
        b.silence(ReturnPayment, times=1)
        order = b.start(PLACED)
        b.advance(seconds(18))
        assert order.state == "compensating"
        order.reply(TakePayment, PaymentTaken(payment_id="late"))
        assert "pay had happened after all" in order.story()
        b.settle()
        assert order.outcome == "compensated"
        assert b.events(PaymentReturned) == [PaymentReturned()]


def test_answers_may_be_functions() -> None:
    def take(cmd: TakePayment) -> PaymentTaken:
        if cmd.amount > 1000:
            raise Refused(PaymentDeclined(reason="too much"))
        if cmd.amount > 100:
            raise Silence
        if cmd.amount > 10:
            raise OSError("no network")
        return PaymentTaken(payment_id=f"p-{cmd.order_id}")

    with with_answers(bench()) as b:
        b.answer(TakePayment, take)
        much, some, few, little = (b.start(OrderPlaced(order_id=str(n), total=n)) for n in (5000, 500, 50, 5))
        assert [each.outcome for each in (much, some, few, little)] == ["compensated", None, None, "completed"]
        assert "no network" in few.why()
        assert "the reply of payment" in some.why()
        assert little.data.payment_id == "p-5"
        assert little.commands(TakePayment) == [TakePayment(order_id="5", amount=5)]


def test_a_function_may_say_that_there_was_nothing() -> None:
    def nothing(_: ReturnPayment) -> PaymentReturned:
        raise Nothing

    with with_answers(bench()) as b:
        b.answer(ReturnPayment, nothing)
        b.silence(TakePayment)
        order = b.start(PLACED)
        b.settle()
        assert order.outcome == "compensated"
        assert b.events(PaymentReturned) == []
        b.answer(TakePayment, PaymentTaken(payment_id="p2"))
        b.refuse(Ship, AddressRefused(reason="x"))
        contradicted = b.start(OrderPlaced(order_id="o2", total=1))
        assert contradicted.parked == "compensation", "a service that said done cannot say nothing later"


def test_a_parked_instance_goes_on_when_an_operator_retries_it() -> None:
    with with_answers(bench(broken=True)) as b:
        order = b.start(PLACED)
        assert (order.state, order.parked, order.outcome) == ("parked", "user-code", None)
        order.retry("again")
        assert order.state == "parked"
        assert "retry by bench: again" in order.story()


# --- starts -------------------------------------------------------------------------------------------------------------------------


def test_the_same_start_twice_is_one_instance() -> None:
    with with_answers(bench()) as b:
        assert b.start(PLACED).id == b.start(PLACED).id
        assert len(b.cases) == len(b.commands(TakePayment)) == 1
        assert b.case("o1").outcome == "completed"


def test_a_start_that_is_not_accepted_says_why() -> None:
    with bench() as b, pytest.raises(AssertionError, match="key: the key of shop must be printable text"):
        b.start(OrderPlaced(order_id="", total=1))


def test_another_start_with_the_same_key_is_a_dead_letter() -> None:
    with with_answers(bench()) as b:
        b.start(PLACED)
        b.start(OrderPlaced(order_id="o1", total=43))
        assert len(b.dead_letters) == 1
        assert "conflict" in b.dead_letters[0]


# --- time, crashes ------------------------------------------------------------------------------------------------------------------


def test_the_deadline_is_reached_without_waiting() -> None:
    with with_answers(bench()) as b:
        b.fail(ReserveStock)
        order = b.start(PLACED)
        b.advance(minutes(11))
        assert order.outcome == "compensated"
        assert b.now == 1_767_225_600_000 + 11 * 60_000


def test_an_orchestrator_that_takes_over_goes_on_where_the_other_stopped() -> None:
    with with_answers(bench()) as b:
        b.silence(TakePayment, times=1)
        order = b.start(PLACED)
        for _ in range(3):
            b.crash()
        assert order.state == "running"
        b.settle()
        assert order.outcome == "completed"
        assert b.attempts(TakePayment) == 2


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_what_happens_at_once_may_be_drawn(seed: int) -> None:
    with with_answers(bench(seed=seed)) as b:
        cases = [b.start(OrderPlaced(order_id=f"o{n}", total=n)) for n in range(10)]
        b.settle()
        assert {case.outcome for case in cases} == {"completed"}


def test_hours_of_nothing_cost_little() -> None:
    with with_answers(bench()) as b:
        b.start(PLACED)
        b.advance(hours(3))
        assert b.case("o1").outcome == "completed"


# --- real participants --------------------------------------------------------------------------------------------------------------

TABLES = MetaData()
taken = Table("taken", TABLES, Column("command_id", String, primary_key=True), Column("order_id", String))


def payment(down: list[str]) -> Participant:
    service = Participant("payment")

    def call(cmd: TakePayment, _: Work) -> str:
        if down:
            raise OSError(down.pop())
        return f"paid-{cmd.order_id}"

    @service.handles(TakePayment, calls=call)
    def take(cmd: TakePayment, work: Work, id: str) -> PaymentTaken:
        if cmd.amount > 100:
            raise Refused(PaymentDeclined(reason="too much"))
        work.execute(insert(taken).values(command_id=work.command_id, order_id=cmd.order_id))
        return PaymentTaken(payment_id=id)

    @service.handles(ReturnPayment)
    async def give_back(_: ReturnPayment, work: Work) -> PaymentReturned:
        await work.execute_async(taken.delete().where(taken.c.command_id == work.subject_id))
        return PaymentReturned()

    return service


def test_real_participants_run_on_their_database() -> None:
    with bench() as b:
        store = b.participant(payment([]), tables=TABLES)
        b.answer(Ship, Shipped(tracking="T1"))
        assert b.start(PLACED).data.payment_id == "paid-o1"
        assert b.start(OrderPlaced(order_id="o2", total=1000)).outcome == "compensated"
        b.refuse(Ship, AddressRefused(reason="x"))
        assert b.start(OrderPlaced(order_id="o3", total=3)).outcome == "compensated"
        with store.read() as connection:
            assert connection.execute(select(taken.c.order_id)).scalars().all() == ["o1"]


def test_a_real_participant_that_crashes_does_each_thing_once() -> None:
    service = payment(["no", "network", "today"])
    with bench() as b:
        store = b.participant(service, tables=TABLES)
        b.answer(Ship, Shipped(tracking="T1"))
        order = b.start(PLACED)
        assert order.outcome is None
        b.crash(service)
        b.crash()
        b.settle()
        order.expect("completed")
        with store.read() as connection:
            assert len(connection.execute(select(taken)).all()) == 1


def test_events_that_the_test_puts_into_a_store_are_published() -> None:
    with bench() as b:
        b.answer(Ship, Shipped(tracking="T1"))
        store = b.participant(payment([]), tables=TABLES)
        order = Participant("order")
        placed = b.participant(order)
        with placed.begin() as connection:
            placed.send(connection, PLACED, key="o1")
        b.advance(seconds(10))
        assert b.case("o1").outcome == "completed"
        with store.read() as connection:
            assert len(connection.execute(select(taken)).all()) == 1


# --- mistakes of the test -----------------------------------------------------------------------------------------------------------


def test_what_cannot_be_made_up_is_asked_for() -> None:
    with bench() as b, pytest.raises(Unanswered, match=r"Say bench.answer\(TakePayment, PaymentTaken\(...\)\)") as failed:
        b.start(PLACED)
    assert "needs payment_id" in str(failed.value)


def test_what_is_said_wrong_fails_where_it_is_said() -> None:
    with bench() as b:
        with pytest.raises(TypeError, match="TakePayment is answered by PaymentTaken or PaymentDeclined, not by StockReserved"):
            b.answer(TakePayment, StockReserved())  # type: ignore[misc]
        with pytest.raises(TypeError, match="ReserveStock is answered by StockReserved, not"):
            b.refuse(ReserveStock, PaymentDeclined(reason="x"))
        with pytest.raises(ValueError, match="at least 1"):
            b.silence(TakePayment, times=0)
        with pytest.raises(ValueError, match="no saga on this bench starts on PaymentTaken"):
            b.start(PaymentTaken(payment_id="p"))
        service = payment([])
        b.participant(service, tables=TABLES)
        with pytest.raises(ValueError, match="payment is a real participant"):
            b.silence(TakePayment)
        with pytest.raises(ValueError, match="on the bench already"):
            b.participant(service)
        b.answer(Ship, Shipped(tracking="T"))
        b.start(PLACED)
        with pytest.raises(ValueError, match="comes too late"):
            b.participant(Participant("stock"))
        with pytest.raises(ValueError, match="no real participant"):
            b.crash(Participant("stock"))
        with pytest.raises(AssertionError, match="there are 0 instances with the key 'o9'"):
            b.case("o9")


def test_a_function_that_answers_wrongly_fails_the_test() -> None:
    with bench() as b:
        b.answer(TakePayment, lambda _: StockReserved())
        with pytest.raises(TypeError, match="TakePayment is answered by PaymentTaken or PaymentDeclined"):
            b.start(PLACED)


def test_what_never_settles_is_told() -> None:
    with with_answers(bench()) as b:
        b.silence(Tell)
        b.start(PLACED)
        with pytest.raises(AssertionError, match="not settled within 1:00:00") as failed:
            b.settle(hours(1))
    assert "shop o1 waits for the reply of mail" in str(failed.value)


def test_expect_tells_the_story() -> None:
    with with_answers(bench()) as b:
        order = b.start(PLACED)
        order.expect("completed")
        with pytest.raises(AssertionError) as failed:
            order.expect("parked")
    assert str(failed.value).startswith("shop o1 is completed, not parked\n\nshop o1 · completed")


def test_a_plain_assert_that_fails_tells_the_stories(tmp_path: Path) -> None:
    """As a user sees it: his test fails in his pytest."""
    (tmp_path / "test_it.py").write_text(
        textwrap.dedent("""
            from saga.testing import Bench
            from tests.ops.shop import OrderPlaced, PaymentDeclined, TakePayment, make

            def test_it():
                with Bench(make()) as bench:
                    bench.refuse(TakePayment, PaymentDeclined(reason="no money left"))
                    order = bench.start(OrderPlaced(order_id="o1", total=1))
                    assert order.outcome == "completed"
        """)
    )
    root = Path(__file__).parents[2]
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1, done.stdout
    assert "assert 'compensated' == 'completed'" in done.stdout
    assert "pay is refused" in done.stdout


def test_the_package_does_not_import_its_testing_part() -> None:
    code = "import sys, saga, saga.cli; assert not [m for m in sys.modules if m.startswith('saga.testing')]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
