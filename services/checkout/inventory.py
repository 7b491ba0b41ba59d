"""The inventory service: reserves a line of an order at a time, and never more than there is."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    String,
    Table,
    insert,
    select,
)
from sqlalchemy import update as change

from saga import Nothing, Participant, Refused, Work
from services.checkout.process import Service
from services.checkout.settings import SETTINGS
from topics.inventory import OutOfStock, ReleaseStock, ReserveStock, StockReleased, StockReserved

TABLES = MetaData()
ID = BigInteger().with_variant(Integer(), "sqlite")

stock = Table(
    "stock",
    TABLES,
    Column("sku", String(40), primary_key=True),
    Column("start", Integer, nullable=False),
    Column("on_hand", Integer, nullable=False),
    CheckConstraint("on_hand >= 0", name="never_negative"),
)

# What was done, in the order it was done; never changed, only added to.
movements = Table(
    "stock_movements",
    TABLES,
    Column("id", ID, primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False, index=True),
    Column("kind", String(8), nullable=False),  # reserved | released
    Column("sku", String(40), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("command_id", String(1000), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False),
)

inventory = Participant("inventory")


@inventory.handles(ReserveStock)
def reserve(cmd: ReserveStock, work: Work) -> StockReserved:
    # The condition and the taking are one statement: whoever else wants the last piece waits for this row, and then sees less.
    enough = (stock.c.sku == cmd.sku) & (stock.c.on_hand >= cmd.quantity)
    if work.execute(change(stock).where(enough).values(on_hand=stock.c.on_hand - cmd.quantity)).rowcount == 0:
        on_hand = work.execute(select(stock.c.on_hand).where(stock.c.sku == cmd.sku)).scalar() or 0
        raise Refused(OutOfStock(order_id=cmd.order_id, sku=cmd.sku, wanted=cmd.quantity, on_hand=on_hand))
    _note(work, cmd.order_id, "reserved", cmd.sku, cmd.quantity)
    return StockReserved(order_id=cmd.order_id, sku=cmd.sku, quantity=cmd.quantity)


@inventory.handles(ReleaseStock)
def release(cmd: ReleaseStock, work: Work) -> StockReleased:
    reserved = work.execute(select(movements).where(movements.c.command_id == work.subject_id)).first()
    if reserved is None:
        raise Nothing
    work.execute(change(stock).where(stock.c.sku == reserved.sku).values(on_hand=stock.c.on_hand + reserved.quantity))
    _note(work, cmd.order_id, "released", reserved.sku, reserved.quantity)
    return StockReleased(order_id=cmd.order_id, sku=reserved.sku, quantity=reserved.quantity)


def load_stock(connection: Connection) -> None:
    """Put the stock at the beginning into the table; an article that is there already stays as it is."""
    given = json.loads(SETTINGS.stock.read_text(encoding="utf-8"))
    there = set(connection.execute(select(stock.c.sku)).scalars())
    rows = [{"sku": sku, "start": count, "on_hand": count} for sku, count in sorted(given.items()) if sku not in there]
    if rows:
        connection.execute(insert(stock), rows)


def _note(work: Work, order_id: str, kind: str, sku: str, quantity: int) -> None:
    values = {"order_id": order_id, "kind": kind, "sku": sku, "quantity": quantity, "command_id": work.command_id}
    work.execute(insert(movements), {**values, "at": datetime.now(UTC)})


SERVICE = Service(inventory, TABLES, prepare=load_stock)
