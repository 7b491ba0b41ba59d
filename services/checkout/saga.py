"""Checkout: an order is accepted, paid, reserved, shipped and confirmed; or whatever was done of that is undone.

    START ───▶ accept ───▶ pay ───▶ reserve ───▶ ship ───▶ confirm
                                   each line     pivot

A card that is declined: nothing else happens. No stock for a line: the other lines are released, the money goes back, nothing is shipped.
Until the carrier has the parcel everything can be undone. From then on there is only forward. The customer is written to by somebody
who listens to how it ended (`reactors/notification.py`): a mail cannot be undone, and no order waits for one.
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Retry, Saga, minutes, seconds
from topics.inventory import ReleaseStock, ReserveStock
from topics.order import AcceptOrder, CancelOrder, ConfirmOrder, OrderPlaced
from topics.payment import PaymentTaken, ReturnPayment, TakePayment
from topics.shipping import BookShipment, FindShipment, ShipmentBooked
from topics.values import Address, Customer, Line, Money

SOON = seconds(5)  # our own services answer within milliseconds; one that restarts needs a few seconds
GATEWAY = seconds(10)  # the payment service tries the gateway three times for two seconds each before it says `failed`
CARRIER = seconds(3)  # one attempt, then we ask: booking twice is not what we want to find out by trying


class Checkout(BaseModel):
    order_id: str
    customer: Customer
    address: Address
    lines: tuple[Line, ...]
    total: Money
    card: str
    payment_id: str = ""
    tracking: str = ""


checkout = Saga("checkout", version=1, starts_on=OrderPlaced, key=lambda order: order.order_id, data=Checkout, deadline=minutes(10))


@checkout.start
def begin(order: OrderPlaced) -> Checkout:
    return Checkout.model_validate(order.model_dump())


@checkout.step(after=START, timeout=SOON)
def accept(c: Checkout) -> AcceptOrder:
    return AcceptOrder(order_id=c.order_id)


@accept.compensate
def cancel(_: Checkout, sent: AcceptOrder) -> CancelOrder:
    return CancelOrder(order_id=sent.order_id)


@checkout.step(after=accept, timeout=GATEWAY)
def pay(c: Checkout) -> TakePayment:
    return TakePayment(order_id=c.order_id, amount=c.total, card=c.card)


@pay.done
def paid(c: Checkout, reply: PaymentTaken) -> Checkout:
    return c.model_copy(update={"payment_id": reply.payment_id})


@pay.compensate
def refund(_: Checkout, sent: TakePayment) -> ReturnPayment:
    return ReturnPayment(order_id=sent.order_id)


@checkout.each(lambda c: c.lines, after=pay, at_once=5, timeout=SOON)
def reserve(c: Checkout, line: Line) -> ReserveStock:
    return ReserveStock(order_id=c.order_id, sku=line.sku, quantity=line.quantity)


@reserve.compensate
def release(_: Checkout, _line: Line, sent: ReserveStock) -> ReleaseStock:
    return ReleaseStock(order_id=sent.order_id, sku=sent.sku)


@checkout.step(after=reserve, pivot=True, timeout=CARRIER, retry=Retry(attempts=1))  # from here only forward
def ship(c: Checkout) -> BookShipment:
    return BookShipment(order_id=c.order_id, recipient=c.customer.name, address=c.address)


@ship.done
def shipped(c: Checkout, reply: ShipmentBooked) -> Checkout:
    return c.model_copy(update={"tracking": reply.tracking})


@ship.verify  # no answer? ask before deciding
def find(_: Checkout, sent: BookShipment) -> FindShipment:
    return FindShipment(order_id=sent.order_id)


@checkout.step(after=ship, timeout=SOON)
def confirm(c: Checkout) -> ConfirmOrder:
    return ConfirmOrder(order_id=c.order_id, tracking=c.tracking)
