"""The cashier: what was taken from which card, and what was given back. A card tells by its name what comes of it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select

from saga import Nothing, Participant, Refused, Work
from topics.chain import (
    CardClosed,
    CardDeclined,
    FindPayBack,
    MoneyPaidBack,
    MoneyReturned,
    MoneyTaken,
    PayBack,
    ReturnMoney,
    TakeMoney,
)

TABLES = MetaData()
DECLINED, CLOSED_LATER = "declined", "closed-later"  # cards: no money comes from the one, none goes back to the other

# What was done, in the order it was done; never changed, only added to.
entries = Table(
    "entries",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("purchase_id", String(64), nullable=False, index=True),
    Column("kind", String(10), nullable=False),  # taken | returned | paid_back
    Column("amount", Integer, nullable=False),  # cents
    Column("card", String(64), nullable=False),
    Column("command_id", String(1000), nullable=False),
)

cashier = Participant("cashier")


@cashier.handles(TakeMoney)
def take(cmd: TakeMoney, work: Work) -> MoneyTaken:
    if cmd.card == DECLINED:
        raise Refused(CardDeclined(purchase_id=cmd.purchase_id))
    _note(work, cmd.purchase_id, "taken", cmd.amount, cmd.card)
    return MoneyTaken(purchase_id=cmd.purchase_id)


@cashier.handles(ReturnMoney)
def give_back(cmd: ReturnMoney, work: Work) -> MoneyReturned:
    taken = _done(work, work.subject_id)
    _note(work, cmd.purchase_id, "returned", taken.amount, taken.card)
    return MoneyReturned(purchase_id=cmd.purchase_id)


@cashier.handles(PayBack)
def pay_back(cmd: PayBack, work: Work) -> MoneyPaidBack:
    taken = work.execute(select(entries).where(entries.c.purchase_id == cmd.purchase_id, entries.c.kind == "taken")).first()
    if taken is None or taken.card == CLOSED_LATER:
        raise Refused(CardClosed(purchase_id=cmd.purchase_id))
    _note(work, cmd.purchase_id, "paid_back", cmd.amount, taken.card)
    return MoneyPaidBack(purchase_id=cmd.purchase_id)


@cashier.handles(FindPayBack)
def find(cmd: FindPayBack, work: Work) -> MoneyPaidBack:
    _done(work, work.subject_id)
    return MoneyPaidBack(purchase_id=cmd.purchase_id)


def _done(work: Work, command_id: str) -> Any:
    found = work.execute(select(entries).where(entries.c.command_id == command_id)).first()
    if found is None:
        raise Nothing
    return found


def _note(work: Work, purchase_id: str, kind: str, amount: int, card: str) -> None:
    values = {"purchase_id": purchase_id, "kind": kind, "amount": amount, "card": card}
    work.execute(insert(entries), {**values, "command_id": work.command_id})
