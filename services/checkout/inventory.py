"""The inventory service: reserves all lines of an order or none, and never more than there is."""

from __future__ import annotations

import json
from collections import Counter
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
    func,
    insert,
    select,
)
from sqlalchemy import update as change

from saga import Nothing, Participant, Refused, Work
from services.checkout.process import Service
from services.checkout.settings import SETTINGS
from topics.inventory import OutOfStock, ReleaseStock, ReserveStock, StockReleased, StockReserved
from topics.values import Pieces

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
    wanted = _by_sku(cmd.pieces)
    # In one order for everybody, so that two orders for the same articles do not wait for each other in a circle.
    rows = work.execute(select(stock).where(stock.c.sku.in_(wanted)).order_by(stock.c.sku).with_for_update())
    on_hand = {row.sku: row.on_hand for row in rows}
    for sku, quantity in wanted.items():
        if on_hand.get(sku, 0) < quantity:
            refusal = OutOfStock(order_id=cmd.order_id, sku=sku, wanted=quantity, on_hand=on_hand.get(sku, 0))
            raise Refused(refusal)
    _move(work, cmd.order_id, "reserved", wanted)
    return StockReserved(order_id=cmd.order_id, pieces=_pieces(wanted))


@inventory.handles(ReleaseStock)
def release(cmd: ReleaseStock, work: Work) -> StockReleased:
    kept = select(movements.c.sku, func.sum(movements.c.quantity).label("quantity"))
    reserved = work.execute(kept.where(movements.c.command_id == work.subject_id).group_by(movements.c.sku)).all()
    if not reserved:
        raise Nothing
    back = Counter({row.sku: int(row.quantity) for row in reserved})
    _move(work, cmd.order_id, "released", back)
    return StockReleased(order_id=cmd.order_id, pieces=_pieces(back))


def load_stock(connection: Connection) -> None:
    """Put the stock at the beginning into the table; an article that is there already stays as it is."""
    given = json.loads(SETTINGS.stock.read_text(encoding="utf-8"))
    there = set(connection.execute(select(stock.c.sku)).scalars())
    rows = [{"sku": sku, "start": count, "on_hand": count} for sku, count in sorted(given.items()) if sku not in there]
    if rows:
        connection.execute(insert(stock), rows)


def _move(work: Work, order_id: str, kind: str, quantities: Counter[str]) -> None:
    for sku, quantity in sorted(quantities.items()):
        taken = quantity if kind == "reserved" else -quantity
        work.execute(change(stock).where(stock.c.sku == sku).values(on_hand=stock.c.on_hand - taken))
        work.execute(
            insert(movements).values(
                order_id=order_id,
                kind=kind,
                sku=sku,
                quantity=quantity,
                command_id=work.command_id,
                at=datetime.now(UTC),
            )
        )


def _by_sku(pieces: tuple[Pieces, ...]) -> Counter[str]:
    """An article may stand on several lines."""
    wanted: Counter[str] = Counter()
    for piece in pieces:
        wanted[piece.sku] += piece.quantity
    return wanted


def _pieces(quantities: Counter[str]) -> tuple[Pieces, ...]:
    return tuple(Pieces(sku=sku, quantity=quantity) for sku, quantity in sorted(quantities.items()))


SERVICE = Service(inventory, TABLES, prepare=load_stock)
