"""The order service: takes orders over HTTP, and knows what became of them.

    POST /orders        201 with the order; the same again (by its order_id or its Idempotency-Key) is 200 and the same order,
                        another content under the same id or key is 409
    GET  /orders/{id}

An order and the event that starts its saga are written in one transaction, so there is never one without the other.
"""

from __future__ import annotations

import hashlib
import logging
import uuid
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import BigInteger, Column, Connection, DateTime, ForeignKey, Integer, MetaData, String, Table, insert, or_, select
from sqlalchemy import update as change
from sqlalchemy.exc import IntegrityError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from saga import Participant, Refused, Store, Work
from saga.engine import trace
from saga.errors import Unavailable
from saga.logs import about
from services.checkout.process import Service
from services.checkout.settings import SETTINGS
from services.stage.web import Problem, problem_response, read_body
from topics.order import (
    AcceptOrder,
    CancelOrder,
    ConfirmOrder,
    OrderAccepted,
    OrderCancelled,
    OrderConfirmed,
    OrderPlaced,
    OrderUnknown,
)
from topics.values import MAX_MINOR, MINOR_DIGITS, Address, CardToken, Customer, Line, Money, OrderId, total

MAX_LINES = 100  # a shop's basket; a hundred lines and their saga stay far below all limits
MAX_REQUEST_KEY = 128
logger = logging.getLogger(__name__)

TABLES = MetaData()
ID = BigInteger().with_variant(Integer(), "sqlite")

orders = Table(
    "orders",
    TABLES,
    Column("order_id", String(64), primary_key=True),
    Column("request_key", String(MAX_REQUEST_KEY), unique=True),
    Column("digest", String(64), nullable=False),  # of what was asked: a repeat is told from another order under the same id
    Column("status", String(16), nullable=False),  # placed | accepted | confirmed | cancelled
    Column("customer_id", String(200), nullable=False),
    Column("total_minor", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("tracking", String(200)),
    Column("placed_at", DateTime(timezone=True), nullable=False),
)

lines = Table(
    "order_lines",
    TABLES,
    Column("order_id", String(64), ForeignKey("orders.order_id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("sku", String(40), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_minor", BigInteger, nullable=False),
)

# What became of each order, in the order it happened; never changed, only added to.
history = Table(
    "order_history",
    TABLES,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("status", String(16), nullable=False),
    Column("command_id", String(1000), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

order = Participant("order")


@order.handles(AcceptOrder)
def accept(cmd: AcceptOrder, work: Work) -> OrderAccepted:
    if work.execute(select(orders.c.order_id).where(orders.c.order_id == cmd.order_id)).first() is None:
        raise Refused(OrderUnknown(order_id=cmd.order_id))
    _move(work, cmd.order_id, "placed", "accepted")
    return OrderAccepted(order_id=cmd.order_id)


@order.handles(CancelOrder)
def cancel(cmd: CancelOrder, work: Work) -> OrderCancelled:
    _move(work, cmd.order_id, "accepted", "cancelled")
    return OrderCancelled(order_id=cmd.order_id)


@order.handles(ConfirmOrder)
def confirm(cmd: ConfirmOrder, work: Work) -> OrderConfirmed:
    _move(work, cmd.order_id, "accepted", "confirmed", tracking=cmd.tracking)
    return OrderConfirmed(order_id=cmd.order_id, tracking=cmd.tracking)


def _move(work: Work, order_id: str, before: str, after: str, **more: Any) -> None:
    """Raises RuntimeError if the order is not where it must be: then somebody must look, so the command fails until they did."""
    moved = work.execute(
        change(orders).where(orders.c.order_id == order_id, orders.c.status == before).values(status=after, **more)
    )
    if moved.rowcount != 1:
        raise RuntimeError(f"order {order_id} should become {after}, but it is not {before}")
    work.execute(insert(history).values(order_id=order_id, status=after, command_id=work.command_id, at=datetime.now(UTC)))


# --- over HTTP --------------------------------------------------------------------------------------------------------------------


class NewOrder(BaseModel):
    """What a customer sends. The total is ours to add up."""

    model_config = ConfigDict(extra="forbid")  # a misspelt field is told, not ignored

    order_id: OrderId | None = None
    customer: Customer
    address: Address
    lines: tuple[Line, ...] = Field(min_length=1, max_length=MAX_LINES)
    card: CardToken

    @model_validator(mode="after")
    def _one_currency_and_something_to_pay(self) -> NewOrder:
        for line in self.lines:
            if line.unit_price.currency not in MINOR_DIGITS:
                raise ValueError(f"we take {', '.join(sorted(MINOR_DIGITS))}, not {line.unit_price.currency}")
        # Python's integers do not overflow, JSON's do: so the sum is looked at before it becomes Money.
        if not 1 <= sum(line.unit_price.minor * line.quantity for line in self.lines) <= MAX_MINOR:
            raise ValueError("the sum of the lines is nothing, or more than there is")
        self.total()
        return self

    def total(self) -> Money:
        return total(line.unit_price.times(line.quantity) for line in self.lines)

    def digest(self) -> str:
        content = self.model_dump(mode="json", exclude={"order_id"})
        return hashlib.sha256(orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


class Placed(NamedTuple):
    order_id: str
    new: bool


def place(store: Store, connection: Connection, asked: NewOrder, request_key: str | None, traceparent: str = "") -> Placed:
    """Write the order and the event that starts its saga, or find that it was written before. Raises Problem 409 on another."""
    known = [orders.c.order_id == asked.order_id] if asked.order_id else []
    known += [orders.c.request_key == request_key] if request_key else []
    if known:
        for row in connection.execute(select(orders.c.order_id, orders.c.digest).where(or_(*known))):
            if row.digest != asked.digest() or asked.order_id not in (None, row.order_id):
                raise Problem(409, "conflict", f"order {row.order_id} was placed under this id or key with another content")
            return Placed(row.order_id, new=False)
    order_id, amount = asked.order_id or uuid.uuid4().hex, asked.total()
    connection.execute(
        insert(orders).values(
            order_id=order_id,
            request_key=request_key,
            digest=asked.digest(),
            status="placed",
            customer_id=asked.customer.customer_id,
            total_minor=amount.minor,
            currency=amount.currency,
            placed_at=datetime.now(UTC),
        )
    )
    items = [
        {"order_id": order_id, "number": n, "sku": line.sku, "quantity": line.quantity, "unit_minor": line.unit_price.minor}
        for n, line in enumerate(asked.lines, 1)
    ]
    connection.execute(insert(lines), items)
    placed = OrderPlaced(order_id=order_id, total=amount, **{name: getattr(asked, name) for name in _AS_ASKED})
    store.send(connection, placed, key=order_id, id=f"{order_id}:placed", traceparent=traceparent)
    return Placed(order_id, new=True)


_AS_ASKED = ("customer", "address", "lines", "card")


def show(connection: Connection, order_id: str) -> dict[str, Any] | None:
    """An order as others see it."""
    row = connection.execute(select(orders).where(orders.c.order_id == order_id)).first()
    if row is None:
        return None
    items = connection.execute(select(lines).where(lines.c.order_id == order_id).order_by(lines.c.number))
    return {
        "order_id": row.order_id,
        "status": row.status,
        "total": {"minor": row.total_minor, "currency": row.currency},
        "lines": [{"sku": i.sku, "quantity": i.quantity, "unit_minor": i.unit_minor} for i in items],
        "tracking": row.tracking,
    }


def api(store: Store) -> Starlette:
    """The HTTP API on this store."""

    async def post(request: Request) -> Response:
        asked, request_key = await read_body(request, NewOrder), _request_key(request)
        # The trace of all that follows: the caller's (W3C Trace Context), or one that begins here.
        traceparent = trace.read(request.headers.get("traceparent", "")) or trace.begin(uuid.uuid4().hex)

        def once(connection: Connection) -> Placed:
            return place(store, connection, asked, request_key, traceparent)

        try:
            try:
                placed = await store.run(once)
            except IntegrityError:  # the same order came twice at once, and the other one was quicker: now it is there to be found
                placed = await store.run(once)
        except Unavailable as error:
            raise Problem(503, "busy", str(error)) from None
        if placed.new:
            logger.debug("order %s is placed", placed.order_id, extra=about(key=placed.order_id, traceparent=traceparent))
        shown = await store.look(lambda connection: show(connection, placed.order_id))
        return JSONResponse(shown, 201 if placed.new else 200, {"Location": f"/orders/{placed.order_id}"})

    async def get(request: Request) -> Response:
        shown = await store.look(lambda connection: show(connection, request.path_params["order_id"]))
        if shown is None:
            raise Problem(404, "unknown", "there is no order with this id")
        return JSONResponse(shown)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[
            Route("/orders", post, methods=["POST"]),
            Route("/orders/{order_id}", get, methods=["GET"]),
            Route("/healthz", health, methods=["GET"]),
        ],
        exception_handlers={Problem: problem_response},
    )


def _request_key(request: Request) -> str | None:
    key = request.headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= MAX_REQUEST_KEY and key.isascii() and key.isprintable()):
        raise Problem(400, "idempotency-key", f"an Idempotency-Key has 1 to {MAX_REQUEST_KEY} printable ASCII characters")
    return key


SERVICE = Service(order, TABLES, api=api, address=SETTINGS.order_http)
