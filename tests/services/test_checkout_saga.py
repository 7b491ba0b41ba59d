"""What the checkout promises a customer: no money, no goods held; no goods, no parcel and no money kept."""

from __future__ import annotations

import json

from saga.testing import Bench
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
