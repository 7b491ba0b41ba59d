"""given, when, then: decisions of one instance, in a line or two; and what a test says that fails."""

from __future__ import annotations

import pytest

from saga import minutes, seconds
from saga.testing import WrongAnswer, given
from tests.ops.shop import (
    AddressRefused,
    FindShipment,
    OrderPlaced,
    PaymentDeclined,
    PaymentTaken,
    ReleaseStock,
    ReserveStock,
    ReturnPayment,
    Ship,
    Shipped,
    StockReleased,
    StockReserved,
    TakePayment,
    Tell,
    Told,
    make,
)
from tests.testing import many_kinds as kinds

PLACED = OrderPlaced(order_id="o1", total=42)
shop = make()
paid = given(shop, PLACED).when(PaymentTaken(payment_id="p1"), to=TakePayment)
shipping = paid.when(StockReserved(), to=ReserveStock)


def test_a_start_leads_to_the_first_command() -> None:
    given(shop, PLACED).then(TakePayment(order_id="o1", amount=42), state="running")


def test_a_reply_leads_to_the_next_command() -> None:
    paid.then(ReserveStock(order_id="o1"))
    assert paid.data.payment_id == "p1"


def test_a_refusal_compensates() -> None:
    given(shop, PLACED).when(PaymentDeclined(reason="no money"), to=TakePayment).then(state="compensated")
    refused = shipping.when(AddressRefused(reason="no such street"), to=Ship).then(
        ReleaseStock(order_id="o1"), state="compensating"
    )
    refused.when(StockReleased(), to=ReleaseStock(order_id="o1")).then(ReturnPayment(order_id="o1"))


def test_a_whole_run_is_a_chain() -> None:
    shipping.when(Shipped(tracking="t"), to=Ship).then(Tell(order_id="o1")).when(Told(), to=Tell).then(state="completed")


def test_a_failure_is_tried_again_after_a_pause() -> None:
    failed = given(shop, PLACED).fails(TakePayment, "gateway down").then()
    failed.after(seconds(0.1)).then()
    failed.after(seconds(1)).then(TakePayment(order_id="o1", amount=42))


def test_time_passes_only_when_it_is_said() -> None:
    shipping.after(seconds(2.9)).then()
    asked = shipping.after(seconds(3)).then(FindShipment(order_id="o1"))
    asked.when(Shipped(tracking="t"), to=FindShipment).then(Tell(order_id="o1"))
    late = shipping.after(minutes(60))
    assert late.state == "parked"
    late.retried().then(FindShipment(order_id="o1"))


def test_a_beginning_is_shared_and_never_changed() -> None:
    shipping.when(Shipped(tracking="t"), to=Ship)
    shipping.then(Ship(order_id="o1"), state="running")


def test_what_is_awaited_comes_or_does_not() -> None:
    waiting = given(kinds.awaiting(), kinds.STARTED).when(kinds.Reserved(sku="a"), to=kinds.Reserve).then(state="running")
    waiting.when(kinds.Picked(order_id="o1")).then(kinds.Ship(order_id="o1"))
    late = waiting.after(minutes(5)).then(kinds.Chase(order_id="o1"))
    late.when(kinds.Chased(), to=kinds.Chase).then().after(minutes(5)).then(kinds.Release(sku="a"), state="compensating")
    with pytest.raises(ValueError, match="awaiting waits for no Verdict"):
        waiting.when(kinds.Verdict(good=True))


def test_a_person_answers() -> None:
    asked = given(kinds.asking(), kinds.STARTED).when(kinds.Reserved(sku="a"), to=kinds.Reserve)
    asked.when(kinds.Verdict(good=False)).then().after(minutes(1)).then(state="completed")
    asked.when(kinds.Verdict(good=True)).then().after(minutes(1)).then(kinds.Ship(order_id="o1"))
    asked.cancelled().then(kinds.Release(sku="a"), state="compensating")


def test_each_item_is_answered_by_what_was_asked() -> None:
    both = given(kinds.mapped(), kinds.STARTED).then(kinds.Reserve(sku="a"), kinds.Reserve(sku="b"))
    one = both.when(kinds.Reserved(sku="a"), to=kinds.Reserve(sku="a")).then()
    one.when(kinds.OutOfStock(sku="b"), to=kinds.Reserve(sku="b")).then(kinds.Release(sku="a"))


def test_a_child_ends() -> None:
    child, other = kinds.child(), kinds.child()
    parent = kinds.parent(child, other)
    begun = given(parent, kinds.STARTED).then(kinds.Ordered(order_id="o1-1", skus=["a", "b"]))
    shipping = begun.when_child(child, completed=kinds.Order(order_id="o1-1", skus=["a"])).then(kinds.Ship(order_id="o1"))
    shipping.when(kinds.Shipped(order_id="o1"), to=kinds.Ship).then(
        kinds.Ordered(order_id="o1-2", skus=["a", "b"]), state="completed"
    )
    begun.when_child(child).then(state="compensated")
    begun.cancelled().then(state="compensating").when_child(child).then(state="compensated")
    with pytest.raises(ValueError, match="mapped has not started child"):
        given(kinds.mapped(), kinds.STARTED).when_child(child)


def test_a_wrong_expectation_says_what_happened_with_the_story() -> None:
    with pytest.raises(AssertionError) as wrong:
        paid.then(Ship(order_id="o1"))
    text = str(wrong.value)
    assert text.startswith(
        "PaymentTaken(payment_id='p1') to TakePayment led to\n    ReserveStock(order_id='o1')\nnot to\n    Ship(order_id='o1')\n"
    )
    assert "payment says payment.taken.v1" in text
    with pytest.raises(AssertionError, match="led to\n    ReserveStock\\(order_id='o1'\\)\nnot to\n    no command"):
        paid.then()
    with pytest.raises(AssertionError, match="left it running, not completed"):
        paid.then(ReserveStock(order_id="o1"), state="completed")


def test_code_that_raises_shows() -> None:
    with pytest.raises(AssertionError, match="KeyError: 'payment_ref'"):
        given(make(broken=True), PLACED).when(PaymentTaken(payment_id="p1"), to=TakePayment).then(ReserveStock(order_id="o1"))


def test_what_cannot_be_is_refused_with_what_can() -> None:
    with pytest.raises(ValueError, match=r"shop sent no Ship; it sent TakePayment\(order_id='o1', amount=42\)"):
        given(shop, PLACED).when(Shipped(tracking="t"), to=Ship)
    with pytest.raises(ValueError, match=r"shop sent no ReserveStock\(order_id='o2'\)"):
        paid.when(StockReserved(), to=ReserveStock(order_id="o2"))
    with pytest.raises(WrongAnswer, match="TakePayment is answered by PaymentTaken or PaymentDeclined"):
        given(shop, PLACED).when(AddressRefused(reason="?"), to=TakePayment)
    with pytest.raises(ValueError, match="shop starts on OrderPlaced, not on Shipped"):
        given(shop, Shipped(tracking="t"))
    with pytest.raises(ValueError, match="does not start shop"):
        given(shop, OrderPlaced(order_id="", total=1))
