"""A customer changes their plan: what the customer service, billing, the CRM and insights say and are asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import AwareDatetime, Field

from saga import Command, Event, Refusal

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")]


class _Change(Event, type="customer.change.v1"):
    """What every message about a change says. `number`: 1, 2, … of this customer's changes; the highest that stands is the plan."""

    change_id: Name
    customer_id: Name
    number: int = Field(ge=1)
    plan: Name


class ChangeAsked(_Change, type="customer.change_asked.v1"):
    email: str  # may be empty: not every customer has given one


class PlanChanged(_Change, type="customer.plan_changed.v1"):
    email: str
    at: AwareDatetime


class ChangeWithdrawn(_Change, type="customer.change_withdrawn.v1"):
    at: AwareDatetime


class ToldAgain(Event, type="customer.told_again.v1"):
    change_id: Name


class RecordChange(Command[PlanChanged], service="customer"):
    change_id: Name
    customer_id: Name
    number: int
    plan: Name
    email: str


class WithdrawChange(Command[ChangeWithdrawn], service="customer"):
    change_id: Name


class TellAgain(Command[ToldAgain], service="customer"):
    """Say once more what became of a change: somebody has not heard it."""

    change_id: Name


class BillingUpdated(Event, type="billing.updated.v1"):
    change_id: Name
    monthly: int  # cents


class BillingReverted(Event, type="billing.reverted.v1"):
    change_id: Name


class BillingRefused(Refusal, type="billing.refused.v1"):
    """This customer has bills to pay first."""

    customer_id: Name
    owed: int  # cents


class UpdateBilling(Command[BillingUpdated], service="billing", refuses=(BillingRefused,)):
    change_id: Name
    customer_id: Name
    number: int
    plan: Name


class RevertBilling(Command[BillingReverted], service="billing"):
    change_id: Name


class CrmUpdated(Event, type="crm.updated.v1"):
    change_id: Name


class CrmReverted(Event, type="crm.reverted.v1"):
    change_id: Name


class ContactImported(Event, type="crm.contact_imported.v1"):
    customer_id: Name


class ContactRefused(Refusal, type="crm.contact_refused.v1"):
    """The CRM has no place for somebody whom nobody can write to."""

    customer_id: Name


class ImportContact(Command[ContactImported], service="crm", refuses=(ContactRefused,)):
    """Take over a customer, and the change that was left out because the customer was not known."""

    change_id: Name
    customer_id: Name
    number: int
    plan: Name
    email: str


class ChangeCounted(Event, type="insights.counted.v1"):
    change_id: Name


class ChangeUncounted(Event, type="insights.uncounted.v1"):
    change_id: Name
