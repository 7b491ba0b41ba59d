"""Billing: what each customer pays a month. It is commanded, since money moves. Whoever has bills to pay gets no other plan."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, insert, select

from saga import Nothing, Participant, Refused, Work
from services.customer.people import PLANS, in_debt
from topics.customer import BillingRefused, BillingReverted, BillingUpdated, RevertBilling, UpdateBilling

TABLES = MetaData()
OWED = 12_300  # cents, by everybody who owes something

# What was done, in the order it was done; never changed, only added to.
entries = Table(
    "entries",
    TABLES,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("change_id", String(64), nullable=False, index=True),
    Column("customer_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    Column("plan", String(64), nullable=False),
    Column("kind", String(8), nullable=False),  # updated | reverted
    Column("monthly", Integer, nullable=False),  # cents
    Column("command_id", String(1000), nullable=False),
)

debts = Table("debts", TABLES, Column("customer_id", String(64), primary_key=True), Column("owed", Integer, nullable=False))

billing = Participant("billing")


@billing.handles(UpdateBilling)
def update(cmd: UpdateBilling, work: Work) -> BillingUpdated:
    owed = work.execute(select(debts.c.owed).where(debts.c.customer_id == cmd.customer_id)).scalar()
    if owed:
        raise Refused(BillingRefused(customer_id=cmd.customer_id, owed=owed))
    monthly = PLANS[cmd.plan]
    work.execute(insert(entries), {**cmd.model_dump(), "kind": "updated", "monthly": monthly, "command_id": work.command_id})
    return BillingUpdated(change_id=cmd.change_id, monthly=monthly)


@billing.handles(RevertBilling)
def revert(cmd: RevertBilling, work: Work) -> BillingReverted:
    updated = work.execute(select(entries).where(entries.c.command_id == work.subject_id)).first()
    if updated is None:
        raise Nothing
    row = {name: value for name, value in updated._mapping.items() if name != "id"}
    work.execute(insert(entries), {**row, "kind": "reverted", "command_id": work.command_id})
    return BillingReverted(change_id=cmd.change_id)


def prepare(connection: Connection) -> None:
    """What billing knew yesterday."""
    if connection.execute(select(debts).limit(1)).first() is None:
        connection.execute(insert(debts), [{"customer_id": name, "owed": OWED} for name in in_debt()])
