"""The customer service: keeps what customers want, and tells the world of it; also again, if somebody has not heard."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy import update as change

from saga import Nothing, Participant, Work
from topics.customer import ChangeWithdrawn, PlanChanged, RecordChange, TellAgain, ToldAgain, WithdrawChange

TABLES = MetaData()

changes = Table(
    "changes",
    TABLES,
    Column("change_id", String(64), primary_key=True),
    Column("customer_id", String(64), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("plan", String(64), nullable=False),
    Column("email", String(200), nullable=False),
    Column("at", String(40), nullable=False),  # when it was recorded; withdrawn: when that was
    Column("stands", Boolean, nullable=False),
)

customer = Participant("customer")


@customer.handles(RecordChange)
def record(cmd: RecordChange, work: Work) -> PlanChanged:
    work.execute(insert(changes), {**cmd.model_dump(), "at": datetime.now(UTC).isoformat(), "stands": True})
    return _changed(_row(work, cmd.change_id))


@customer.handles(WithdrawChange)
def withdraw(cmd: WithdrawChange, work: Work) -> ChangeWithdrawn:
    withdrawn = change(changes).where(changes.c.change_id == cmd.change_id, changes.c.stands)
    if work.execute(withdrawn.values(stands=False, at=datetime.now(UTC).isoformat())).rowcount == 0:
        raise Nothing
    return _withdrawn(_row(work, cmd.change_id))


@customer.handles(TellAgain)
def tell_again(cmd: TellAgain, work: Work) -> ToldAgain:
    """The event is the same as the first time: whoever has heard it knows it, and a saga that it started is not started again."""
    row = _row(work, cmd.change_id)
    work.emit(_changed(row) if row.stands else _withdrawn(row))
    return ToldAgain(change_id=cmd.change_id)


def _row(work: Work, change_id: str) -> Any:
    return work.execute(select(changes).where(changes.c.change_id == change_id)).one()


def _changed(row: Any) -> PlanChanged:
    return PlanChanged.model_validate(dict(row._mapping))


def _withdrawn(row: Any) -> ChangeWithdrawn:
    return ChangeWithdrawn.model_validate(dict(row._mapping))
