"""The CRM's book: its contacts, and the changes of their plans. It hears of those by listening; see `reactors.crm`.

A change of somebody whom it does not know is left out, as CRMs do it; then the saga misses what the CRM would have said, and commands it
to take the customer over. Both ways lead to `apply`, which does nothing the second time, in whichever order they come. A change that was
withdrawn leaves its row behind, so one that is heard late, after its withdrawal, finds it and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Integer, MetaData, String, Table, insert, select
from sqlalchemy import update as change

from saga import Participant, Refused, Work
from services.customer.people import email, known_to_crm
from topics.customer import ChangeWithdrawn, ContactImported, ContactRefused, CrmUpdated, ImportContact, PlanChanged

TABLES = MetaData()

contacts = Table(
    "contacts", TABLES, Column("customer_id", String(64), primary_key=True), Column("email", String(200), nullable=False)
)
changes = Table(
    "changes",
    TABLES,
    Column("change_id", String(64), primary_key=True),
    Column("customer_id", String(64), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("plan", String(64), nullable=False),
    Column("stands", Boolean, nullable=False),
)
left_out = Table("left_out", TABLES, Column("change_id", String(64), primary_key=True))

Execute = Callable[..., Any]  # of a connection, or of a command's work
crm = Participant("crm")


@crm.handles(ImportContact)
def take_over(cmd: ImportContact, work: Work) -> ContactImported:
    if not cmd.email:
        raise Refused(ContactRefused(customer_id=cmd.customer_id))
    if work.execute(select(contacts).where(contacts.c.customer_id == cmd.customer_id)).first() is None:
        work.execute(insert(contacts), {"customer_id": cmd.customer_id, "email": cmd.email})
    if apply(work.execute, cmd):
        work.emit(CrmUpdated(change_id=cmd.change_id))
    return ContactImported(customer_id=cmd.customer_id)


def apply(execute: Execute, cmd: PlanChanged | ImportContact) -> bool:
    """Put a change into the book, once; whether it stands there."""
    there = execute(select(changes).where(changes.c.change_id == cmd.change_id)).first()
    if there is not None:
        return bool(there.stands)
    if execute(select(contacts).where(contacts.c.customer_id == cmd.customer_id)).first() is None:
        if execute(select(left_out).where(left_out.c.change_id == cmd.change_id)).first() is None:
            execute(insert(left_out), {"change_id": cmd.change_id})
        return False
    execute(insert(changes), _row(cmd, stands=True))
    return True


def withdraw(execute: Execute, event: ChangeWithdrawn) -> None:
    """From now on this change does not stand, whether it was heard of or not."""
    there = change(changes).where(changes.c.change_id == event.change_id).values(stands=False)
    if execute(there).rowcount == 0:
        execute(insert(changes), _row(event, stands=False))


def prepare(connection: Connection) -> None:
    """Whom the CRM knew yesterday."""
    if connection.execute(select(contacts).limit(1)).first() is None:
        connection.execute(insert(contacts), [{"customer_id": name, "email": email(name)} for name in known_to_crm()])


def _row(said: PlanChanged | ImportContact | ChangeWithdrawn, *, stands: bool) -> dict[str, Any]:
    row = said.model_dump(include={"change_id", "customer_id", "number", "plan"})
    return {**row, "stands": stands}
