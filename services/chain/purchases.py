"""The purchases service: the shop's book of what was bought, and what became of it."""

from __future__ import annotations

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy import update as change

from saga import Nothing, Participant, Refused, Work
from topics.chain import (
    CloseRefund,
    ConfirmPurchase,
    DropRefund,
    FindPurchase,
    NotRefundable,
    OpenRefund,
    PurchaseConfirmed,
    PurchaseRefunded,
    RefundDropped,
    RefundOpened,
)

TABLES = MetaData()

purchases_made = Table(
    "purchases",
    TABLES,
    Column("purchase_id", String(64), primary_key=True),
    Column("customer_id", String(64), nullable=False, index=True),
    Column("total", Integer, nullable=False),  # cents
    Column("status", String(10), nullable=False),  # confirmed | refunding | refunded
)

purchases = Participant("purchases")


@purchases.handles(ConfirmPurchase)
def confirm(cmd: ConfirmPurchase, work: Work) -> PurchaseConfirmed:
    work.execute(insert(purchases_made), {**cmd.model_dump(), "status": "confirmed"})
    return PurchaseConfirmed.model_validate(cmd.model_dump())


@purchases.handles(FindPurchase)
def find(cmd: FindPurchase, work: Work) -> PurchaseConfirmed:
    row = work.execute(select(purchases_made).where(purchases_made.c.purchase_id == cmd.purchase_id)).first()
    if row is None:
        raise Nothing
    return PurchaseConfirmed.model_validate(dict(row._mapping))


@purchases.handles(OpenRefund)
def open_refund(cmd: OpenRefund, work: Work) -> RefundOpened:
    if not _move(work, cmd.purchase_id, "confirmed", "refunding"):
        raise Refused(NotRefundable(purchase_id=cmd.purchase_id))
    row = work.execute(select(purchases_made).where(purchases_made.c.purchase_id == cmd.purchase_id)).one()
    return RefundOpened(purchase_id=row.purchase_id, customer_id=row.customer_id, total=row.total)


@purchases.handles(DropRefund)
def drop(cmd: DropRefund, work: Work) -> RefundDropped:
    if not _move(work, cmd.purchase_id, "refunding", "confirmed"):
        raise Nothing
    return RefundDropped(purchase_id=cmd.purchase_id)


@purchases.handles(CloseRefund)
def close(cmd: CloseRefund, work: Work) -> PurchaseRefunded:
    if not _move(work, cmd.purchase_id, "refunding", "refunded"):
        raise RuntimeError(f"{cmd.purchase_id} has no refund that is open")
    return PurchaseRefunded(purchase_id=cmd.purchase_id)


def _move(work: Work, purchase_id: str, old: str, new: str) -> bool:
    here = (purchases_made.c.purchase_id == purchase_id) & (purchases_made.c.status == old)
    return work.execute(change(purchases_made).where(here).values(status=new)).rowcount == 1
