"""A purchase, the loyalty points that follow from it elsewhere, and the refund that takes both back."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from saga import Command, Event, Refusal

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9-]+$")]
Cents = Annotated[int, Field(ge=1)]

# --- the shop, which sells and keeps a book of it ---------------------------------------------------------------------------------------


class PurchaseWanted(Event, type="purchases.wanted.v1"):
    purchase_id: Name
    customer_id: Name
    total: Cents
    card: Name


class PurchaseConfirmed(Event, type="purchases.confirmed.v1"):
    """Says all that somebody elsewhere may want to know: the shop does not know who that is."""

    purchase_id: Name
    customer_id: Name
    total: Cents


class ConfirmPurchase(Command[PurchaseConfirmed], service="purchases"):
    purchase_id: Name
    customer_id: Name
    total: Cents


class FindPurchase(Command[PurchaseConfirmed], service="purchases"):
    purchase_id: Name


class RefundWanted(Event, type="purchases.refund_wanted.v1"):
    purchase_id: Name
    reason: str


class RefundOpened(Event, type="purchases.refund_opened.v1"):
    purchase_id: Name
    customer_id: Name
    total: Cents


class NotRefundable(Refusal, type="purchases.not_refundable.v1"):
    """There is no such purchase, or it was refunded already."""

    purchase_id: Name


class RefundDropped(Event, type="purchases.refund_dropped.v1"):
    purchase_id: Name


class PurchaseRefunded(Event, type="purchases.refunded.v1"):
    purchase_id: Name


class OpenRefund(Command[RefundOpened], service="purchases", refuses=(NotRefundable,)):
    purchase_id: Name


class DropRefund(Command[RefundDropped], service="purchases"):
    """It does not come to a refund: the purchase is what it was."""

    purchase_id: Name


class CloseRefund(Command[PurchaseRefunded], service="purchases"):
    purchase_id: Name


class RefundVerdict(Event, type="purchases.refund_verdict.v1"):
    """What a person in support says to a refund that somebody wants."""

    granted: bool


# --- the cashier, who has the money -----------------------------------------------------------------------------------------------------


class MoneyTaken(Event, type="cashier.taken.v1"):
    purchase_id: Name


class CardDeclined(Refusal, type="cashier.declined.v1"):
    purchase_id: Name


class MoneyReturned(Event, type="cashier.returned.v1"):
    purchase_id: Name


class MoneyPaidBack(Event, type="cashier.paid_back.v1"):
    purchase_id: Name


class CardClosed(Refusal, type="cashier.card_closed.v1"):
    """Nothing can be paid to this card any more."""

    purchase_id: Name


class TakeMoney(Command[MoneyTaken], service="cashier", refuses=(CardDeclined,)):
    purchase_id: Name
    amount: Cents
    card: Name


class ReturnMoney(Command[MoneyReturned], service="cashier"):
    purchase_id: Name


class PayBack(Command[MoneyPaidBack], service="cashier", refuses=(CardClosed,)):
    purchase_id: Name
    amount: Cents


class FindPayBack(Command[MoneyPaidBack], service="cashier"):
    purchase_id: Name


# --- loyalty, elsewhere -----------------------------------------------------------------------------------------------------------------


class PointsGranted(Event, type="loyalty.granted.v1"):
    purchase_id: Name
    points: int


class GrantPoints(Command[PointsGranted], service="loyalty"):
    purchase_id: Name
    customer_id: Name
    total: Cents


class PointsWanted(Event, type="loyalty.back_wanted.v1"):
    """The points of a purchase are to be taken back."""

    purchase_id: Name
    customer_id: Name


class PointsTakenBack(Event, type="loyalty.taken_back.v1"):
    purchase_id: Name
    points: int


class PointsSpent(Refusal, type="loyalty.spent.v1"):
    """The customer has spent them: nobody's points become less than none."""

    customer_id: Name
    missing: int


class PointsRestored(Event, type="loyalty.restored.v1"):
    purchase_id: Name


class TakePointsBack(Command[PointsTakenBack], service="loyalty", refuses=(PointsSpent,)):
    purchase_id: Name
    customer_id: Name


class RestorePoints(Command[PointsRestored], service="loyalty"):
    purchase_id: Name


class RewardWanted(Event, type="loyalty.reward_wanted.v1"):
    reward_id: Name
    customer_id: Name
    points: Cents


class RewardGiven(Event, type="loyalty.reward_given.v1"):
    reward_id: Name


class NotEnoughPoints(Refusal, type="loyalty.not_enough.v1"):
    reward_id: Name


class GiveReward(Command[RewardGiven], service="loyalty", refuses=(NotEnoughPoints,)):
    reward_id: Name
    customer_id: Name
    points: Cents
