"""What is measured: a saga of five steps over five services, each writing one row to its own database.

    START ──▶ check ──▶ pay ──▶ reserve ──▶ book ──▶ invoice

Every step answers `done`, so the numbers are those of the way forward; compensations are defined, as a user's saga has them. An order
has what an order has (a customer, an address, three lines), so that records have honest sizes: a start takes about 500 bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel
from sqlalchemy import BigInteger, Column, DateTime, Integer, MetaData, String, Table, insert

from saga import START, App, Command, Event, Participant, Saga, Work, minutes

# --- messages -------------------------------------------------------------------------------------------------------------------------


class Line(BaseModel):
    sku: str
    quantity: int
    price: int


class Ordered(Event, type="shop.ordered.v1"):
    order_id: str
    customer: str
    address: str
    lines: tuple[Line, ...]
    total: int


class CreditChecked(Event, type="credit.checked.v1"):
    order_id: str
    limit: int


class PaymentTaken(Event, type="payment.taken.v1"):
    order_id: str
    payment_id: str


class PaymentReturned(Event, type="payment.returned.v1"):
    order_id: str


class StockReserved(Event, type="stock.reserved.v1"):
    order_id: str


class StockReleased(Event, type="stock.released.v1"):
    order_id: str


class ParcelBooked(Event, type="parcel.booked.v1"):
    order_id: str
    tracking: str


class InvoiceWritten(Event, type="invoice.written.v1"):
    order_id: str
    number: str


class CheckCredit(Command[CreditChecked], service="credit"):
    order_id: str
    customer: str
    total: int


class TakePayment(Command[PaymentTaken], service="payment"):
    order_id: str
    total: int


class ReturnPayment(Command[PaymentReturned], service="payment"):
    order_id: str


class ReserveStock(Command[StockReserved], service="stock"):
    order_id: str
    lines: tuple[Line, ...]


class ReleaseStock(Command[StockReleased], service="stock"):
    order_id: str


class BookParcel(Command[ParcelBooked], service="parcel"):
    order_id: str
    address: str


class WriteInvoice(Command[InvoiceWritten], service="invoice"):
    order_id: str
    total: int


def ordered(order_id: str) -> dict[str, Any]:
    """The payload of a start."""
    return {
        "order_id": order_id,
        "customer": "Ada Lovelace, customer 104711",
        "address": "12 St James's Square, London SW1Y 4JH, United Kingdom",
        "lines": [{"sku": sku, "quantity": 2, "price": 1250} for sku in ("TEA-EARL-GREY", "TEA-DARJEELING", "POT-CAST-IRON")],
        "total": 7500,
    }


# What each service answers; the responder without a database says the same.
ANSWERS: dict[str, tuple[type[Event], dict[str, Any]]] = {
    "credit": (CreditChecked, {"limit": 100_000}),
    "payment": (PaymentTaken, {"payment_id": "ch_3PqL8s2eZvKYlo2C"}),
    "stock": (StockReserved, {}),
    "parcel": (ParcelBooked, {"tracking": "JD014600006281230712"}),
    "invoice": (InvoiceWritten, {"number": "2026-104711"}),
}

# --- the saga -------------------------------------------------------------------------------------------------------------------------


class Order(BaseModel):
    order_id: str
    customer: str
    address: str
    lines: tuple[Line, ...]
    total: int
    payment_id: str = ""
    tracking: str = ""


# A saturated system has some thousand sagas waiting in line: that is load, not a failure, so nothing may be tried again because of it.
PATIENT = minutes(10)

purchase = Saga("purchase", version=1, starts_on=Ordered, key=lambda order: order.order_id, data=Order, deadline=minutes(60))


@purchase.start
def begin(order: Ordered) -> Order:
    return Order.model_validate(order.model_dump())


@purchase.step(after=START, timeout=PATIENT, compensation=None)
def check(o: Order) -> CheckCredit:
    return CheckCredit(order_id=o.order_id, customer=o.customer, total=o.total)


@purchase.step(after=check, timeout=PATIENT)
def pay(o: Order) -> TakePayment:
    return TakePayment(order_id=o.order_id, total=o.total)


@pay.done
def paid(o: Order, reply: PaymentTaken) -> Order:
    return o.model_copy(update={"payment_id": reply.payment_id})


@pay.compensate
def refund(_: Order, sent: TakePayment) -> ReturnPayment:
    return ReturnPayment(order_id=sent.order_id)


@purchase.step(after=pay, timeout=PATIENT)
def reserve(o: Order) -> ReserveStock:
    return ReserveStock(order_id=o.order_id, lines=o.lines)


@reserve.compensate
def release(_: Order, sent: ReserveStock) -> ReleaseStock:
    return ReleaseStock(order_id=sent.order_id)


@purchase.step(after=reserve, pivot=True, timeout=PATIENT)
def book(o: Order) -> BookParcel:
    return BookParcel(order_id=o.order_id, address=o.address)


@book.done
def booked(o: Order, reply: ParcelBooked) -> Order:
    return o.model_copy(update={"tracking": reply.tracking})


@purchase.step(after=book, timeout=PATIENT)
def invoice(o: Order) -> WriteInvoice:
    return WriteInvoice(order_id=o.order_id, total=o.total)


# --- the services ---------------------------------------------------------------------------------------------------------------------

TABLES = MetaData()
entries = Table(
    "entries",
    TABLES,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("what", String(64), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)


def _participant(name: str, takes: type[Command[Any]], undoes: type[Command[Any]] | None = None) -> Participant:
    """A service with a handler for its command, and one for its compensation if it has one."""
    participant = Participant(name)
    reply, more = ANSWERS[name]

    def do(command: Any, work: Work) -> Event:
        work.execute(insert(entries), {"order_id": command.order_id, "what": takes.__type__, "at": datetime.now(UTC)})
        return reply(order_id=command.order_id, **more)

    participant.handles(takes)(do)
    if undoes is not None:
        undone = undoes.__reply__

        def undo(command: Any, work: Work) -> Event:
            work.execute(insert(entries), {"order_id": command.order_id, "what": undoes.__type__, "at": datetime.now(UTC)})
            return undone.model_validate({"order_id": command.order_id})

        participant.handles(undoes)(undo)
    return participant


app = App(
    sagas=[purchase],
    participants=[
        _participant("credit", CheckCredit),
        _participant("payment", TakePayment, ReturnPayment),
        _participant("stock", ReserveStock, ReleaseStock),
        _participant("parcel", BookParcel),
        _participant("invoice", WriteInvoice),
    ],
    begin="earliest",
    partitions=4,
)
SERVICES = tuple(app.participants)
STARTS = "shop.events"
