"""A change of plan, from the customer's click to the last database that has to know.

                      ┌─▶ bill ─────────────── a command; the price changes, or the customer owes too much
    record ───────────┼─▶ in_crm ───────────── nobody commands the CRM: it listens, and is watched
    (says plan_changed)└─▶ counted ──────────── nor insights; that it counts is wanted, but no reason to turn a customer away

CRM and insights react to `customer.plan_changed.v1` by themselves: choreography. What nobody commands, nobody notices when it does not
happen. So the saga waits for what they say when they are done, and helps where it is late: the CRM is told to take over a customer whom
it did not know, insights is told the event once more. Where that does not help the CRM either, billing is reverted and the change is
withdrawn; `customer.change_withdrawn.v1` undoes it in the CRM and in insights, and that is watched by a saga which does nothing else.
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Saga, minutes, seconds
from topics.customer import (
    ChangeAsked,
    ChangeCounted,
    ChangeUncounted,
    ChangeWithdrawn,
    CrmReverted,
    CrmUpdated,
    ImportContact,
    RecordChange,
    RevertBilling,
    TellAgain,
    UpdateBilling,
    WithdrawChange,
)

SOON = seconds(5)  # our own services answer within milliseconds; one that restarts needs a few seconds
CRM_IS_LATE = seconds(8)  # it hears of a change at once
INSIGHTS_IS_LATE = seconds(20)  # a reactor that was killed reads its table back first


class Change(BaseModel):
    change_id: str
    customer_id: str
    number: int
    plan: str
    email: str


change = Saga("customer-change", version=1, starts_on=ChangeAsked, key=lambda e: e.change_id, data=Change, deadline=minutes(10))


@change.start
def asked(e: ChangeAsked) -> Change:
    return Change.model_validate(e.model_dump())


@change.step(after=START, timeout=SOON)
def record(c: Change) -> RecordChange:
    return RecordChange.model_validate(c.model_dump())


@record.compensate
def withdraw(_: Change, sent: RecordChange) -> WithdrawChange:
    return WithdrawChange(change_id=sent.change_id)


@change.step(after=record, timeout=SOON)
def bill(c: Change) -> UpdateBilling:
    return UpdateBilling.model_validate(c.model_dump())


@bill.compensate
def revert(_: Change, sent: UpdateBilling) -> RevertBilling:
    return RevertBilling(change_id=sent.change_id)


in_crm = change.expect(CrmUpdated, key=lambda e: e.change_id, after=record, within=CRM_IS_LATE, name="in_crm")


@in_crm.late
def import_contact(c: Change) -> ImportContact:
    return ImportContact.model_validate(c.model_dump())


counted = change.expect(
    ChangeCounted, key=lambda e: e.change_id, after=record, within=INSIGHTS_IS_LATE, name="counted", best_effort=True
)


@counted.late
def tell_again(c: Change) -> TellAgain:
    return TellAgain(change_id=c.change_id)


class Withdrawal(BaseModel):
    change_id: str


withdrawal = Saga(
    "customer-withdrawal",
    version=1,
    starts_on=ChangeWithdrawn,
    key=lambda e: e.change_id,
    data=Withdrawal,
    deadline=minutes(10),
)


@withdrawal.start
def withdrawn(e: ChangeWithdrawn) -> Withdrawal:
    return Withdrawal(change_id=e.change_id)


out_of_crm = withdrawal.expect(CrmReverted, key=lambda e: e.change_id, after=START, within=minutes(1), name="out_of_crm")
uncounted = withdrawal.expect(ChangeUncounted, key=lambda e: e.change_id, after=START, within=minutes(1), name="uncounted")


@out_of_crm.late
def tell_crm_again(w: Withdrawal) -> TellAgain:
    return TellAgain(change_id=w.change_id)


@uncounted.late
def tell_insights_again(w: Withdrawal) -> TellAgain:
    return TellAgain(change_id=w.change_id)
