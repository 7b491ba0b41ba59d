"""The shop's side: a purchase, and its refund.

    purchase:   pay ─▶ confirm (pivot)                       says purchases.confirmed.v1, on which loyalty starts a saga of its own
    refund:     open ─▶ verdict ─┬─▶ points ─▶ pay_back (pivot) ─▶ close
                (a person says)  └─▶ drop, if the answer is no

A purchase is complete when the shop has confirmed it: nobody waits for points. What follows from it elsewhere hangs on the event alone,
so loyalty can be added, changed or down without a word here. A refund does need the points, before it gives the money: they are a child
saga, `points-back`, whose outcome is waited for. Points that are spent cannot be taken back; then no money is paid. And if the card is
closed, so that no money can be paid, the child is undone: the customer keeps money's worth of points, not neither.
"""

from __future__ import annotations

from pydantic import BaseModel

from saga import START, Retry, Saga, hours, minutes, seconds, unless
from services.chain.loyalty.saga import points_back
from topics.chain import (
    CloseRefund,
    ConfirmPurchase,
    DropRefund,
    FindPayBack,
    FindPurchase,
    OpenRefund,
    PayBack,
    PointsWanted,
    PurchaseWanted,
    RefundOpened,
    RefundVerdict,
    RefundWanted,
    ReturnMoney,
    TakeMoney,
)

SOON = seconds(5)  # our own services answer within milliseconds; one that restarts needs a few seconds


class Purchase(BaseModel):
    purchase_id: str
    customer_id: str
    total: int
    card: str


purchase = Saga("purchase", version=1, starts_on=PurchaseWanted, key=lambda p: p.purchase_id, data=Purchase, deadline=minutes(10))


@purchase.start
def wanted(p: PurchaseWanted) -> Purchase:
    return Purchase.model_validate(p.model_dump())


@purchase.step(after=START, timeout=SOON)
def pay(p: Purchase) -> TakeMoney:
    return TakeMoney(purchase_id=p.purchase_id, amount=p.total, card=p.card)


@pay.compensate
def give_back(_: Purchase, sent: TakeMoney) -> ReturnMoney:
    return ReturnMoney(purchase_id=sent.purchase_id)


@purchase.step(after=pay, pivot=True, timeout=SOON)
def confirm(p: Purchase) -> ConfirmPurchase:
    return ConfirmPurchase(purchase_id=p.purchase_id, customer_id=p.customer_id, total=p.total)


@confirm.verify
def find_purchase(_: Purchase, sent: ConfirmPurchase) -> FindPurchase:
    return FindPurchase(purchase_id=sent.purchase_id)


class Refund(BaseModel):
    purchase_id: str
    customer_id: str = ""
    total: int = 1
    granted: bool = False


refund = Saga("refund", version=1, starts_on=RefundWanted, key=lambda r: r.purchase_id, data=Refund, deadline=hours(48))


@refund.start
def refund_wanted(r: RefundWanted) -> Refund:
    return Refund(purchase_id=r.purchase_id)


@refund.step(after=START, timeout=SOON)
def open_refund(r: Refund) -> OpenRefund:
    return OpenRefund(purchase_id=r.purchase_id)


@open_refund.done
def opened(r: Refund, reply: RefundOpened) -> Refund:
    return r.model_copy(update={"customer_id": reply.customer_id, "total": reply.total})


@open_refund.compensate
def drop_again(_: Refund, sent: OpenRefund) -> DropRefund:
    return DropRefund(purchase_id=sent.purchase_id)


verdict = refund.ask(RefundVerdict, after=open_refund, within=hours(8), role="support", escalate="manager", name="verdict")


@verdict.done
def decided(r: Refund, answer: RefundVerdict) -> Refund:
    return r.model_copy(update={"granted": answer.granted})


@refund.child(points_back, after=verdict, when=lambda r: r.granted)
def points(r: Refund) -> PointsWanted:
    return PointsWanted(purchase_id=r.purchase_id, customer_id=r.customer_id)


@refund.step(after=points, when=points, pivot=True, timeout=SOON, retry=Retry(attempts=3))
def pay_back(r: Refund) -> PayBack:
    return PayBack(purchase_id=r.purchase_id, amount=r.total)


@pay_back.verify
def find(_: Refund, sent: PayBack) -> FindPayBack:
    return FindPayBack(purchase_id=sent.purchase_id)


@refund.step(after=pay_back, when=pay_back, timeout=SOON)
def close(r: Refund) -> CloseRefund:
    return CloseRefund(purchase_id=r.purchase_id)


@refund.step(after=points, when=unless(points), timeout=SOON, compensation=None)
def drop(r: Refund) -> DropRefund:
    return DropRefund(purchase_id=r.purchase_id)
