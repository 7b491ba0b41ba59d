"""What the checkout promises a customer: no money, no goods held; no goods, no parcel and no money kept."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from saga import Saga
from saga.testing import Bench, explore
from services.checkout.saga import checkout
from services.checkout.settings import HERE
from topics.inventory import OutOfStock, ReleaseStock, ReserveStock, StockReleased, StockReserved
from topics.order import CancelOrder, ConfirmOrder, OrderPlaced
from topics.payment import PaymentDeclined, PaymentReturned, PaymentTaken, ReturnPayment, TakePayment
from topics.shipping import AddressRefused, BookShipment, ShipmentBooked

FIRST = json.loads((HERE / "orders.jsonl").read_text(encoding="utf-8").splitlines()[0])


def placed() -> OrderPlaced:
    lines = FIRST["lines"]
    total = {"minor": sum(line["quantity"] * line["unit_price"]["minor"] for line in lines), "currency": "EUR"}
    return OrderPlaced.model_validate(FIRST | {"total": total})


def bench() -> Bench:
    made = Bench(checkout)
    made.answer(TakePayment, PaymentTaken(order_id=FIRST["order_id"], payment_id="p-1", amount=placed().total))
    made.answer(ReturnPayment, PaymentReturned(order_id=FIRST["order_id"], amount=placed().total))
    made.answer(ReleaseStock, lambda sent: StockReleased(order_id=sent.order_id, sku=sent.sku, quantity=1))
    made.answer(BookShipment, ShipmentBooked(order_id=FIRST["order_id"], carrier="test", tracking="t-1"))
    return made


def test_an_order_goes_through() -> None:
    with bench() as b:
        assert b.start(placed()).outcome == "completed"
        assert len(b.commands(ConfirmOrder)) == 1


def test_payment_fails_and_nothing_else_happens() -> None:
    with bench() as b:
        b.refuse(TakePayment, PaymentDeclined(order_id=FIRST["order_id"], reason="no money"))
        assert b.start(placed()).outcome == "compensated"
        for never in (ReserveStock, BookShipment, ConfirmOrder, ReturnPayment):
            assert b.commands(never) == []
        assert len(b.commands(CancelOrder)) == 1


def test_no_stock_gives_the_money_back_and_ships_nothing() -> None:
    with bench() as b:
        b.refuse(ReserveStock, OutOfStock(order_id=FIRST["order_id"], sku="X", wanted=1, on_hand=0))
        assert b.start(placed()).outcome == "compensated"
        assert len(b.commands(ReturnPayment)) == 1
        assert b.commands(BookShipment) == []
        assert b.commands(ReleaseStock) == []


def test_a_line_without_stock_releases_the_lines_that_were_reserved_and_only_those() -> None:
    order = placed()
    assert len(order.lines) == 2
    with bench() as b:
        gone = order.lines[1].sku
        no = OutOfStock(order_id=order.order_id, sku=gone, wanted=1, on_hand=0)
        yes = StockReserved(order_id=order.order_id, sku=order.lines[0].sku, quantity=1)
        b.answer(ReserveStock, lambda sent: no if sent.sku == gone else yes)
        assert b.start(order).outcome == "compensated"
        assert [sent.sku for sent in b.commands(ReserveStock)] == [line.sku for line in order.lines]
        assert [sent.sku for sent in b.commands(ReleaseStock)] == [order.lines[0].sku]
        assert len(b.commands(ReturnPayment)) == 1
        assert b.commands(BookShipment) == []


def test_a_refused_address_undoes_everything() -> None:
    with bench() as b:
        b.refuse(BookShipment, AddressRefused(order_id=FIRST["order_id"], reason="nobody lives there"))
        assert b.start(placed()).outcome == "compensated"
        assert len(b.commands(ReturnPayment)) == len(b.commands(CancelOrder)) == 1
        assert len(b.commands(ReleaseStock)) == len(placed().lines)
        assert b.commands(ConfirmOrder) == []


# --- every single and double fault ----------------------------------------------------------------------------------------------------


def without_compensation(name: str) -> Saga[Any, Any]:
    """Checkout as somebody wrote it who said of this step that there is nothing to undo."""
    saga = copy.copy(checkout)
    saga.steps = {other: copy.copy(step) for other, step in checkout.steps.items()}
    saga.steps[name].compensation = saga.steps[name].compensation_class = None
    saga._graph = None
    return saga


def test_no_fault_and_no_two_faults_break_a_promise() -> None:
    report = explore(checkout, start=placed())
    report.assert_ok()
    assert report.faults[1] > 50, "hardly a fault was tried"
    assert report.faults[2] > 20 * report.faults[1], "hardly two faults were tried together"
    assert min(report.outcomes["completed"], report.outcomes["compensated"]) > 50
    assert report.parked["compensation"], "no compensation ever failed for good"
    assert report.parked["unverified"], "the carrier was never silent for good"


@pytest.mark.parametrize(
    ("step", "command", "fault"),
    [
        ("accept", "AcceptOrder", "pay (TakePayment) is refused: PaymentDeclined"),
        ("pay", "TakePayment", "reserve/0 (ReserveStock) is refused: OutOfStock"),
        ("reserve", "ReserveStock", "reserve/0 (ReserveStock) is refused: OutOfStock"),
    ],
)
def test_a_step_that_nothing_undoes_is_found_and_its_story_told(step: str, command: str, fault: str) -> None:
    report = explore(without_compensation(step), start=placed(), faults=1)
    (failure,) = report.failures
    assert (
        failure.what == f"an effect is left behind: {step} ({command}) took effect, the saga was compensated, and nothing undid it"
    )
    assert failure.faults == (fault,)
    assert failure.left == ("reserve/1" if step == "reserve" else step,)
    assert f"checkout {FIRST['order_id']} · compensated" in failure.story
    assert re.search(rf"✓ {failure.left[0]}\b.* is done", failure.story), failure.story
