"""Who buys here, and what is to become of it: the kind of customer stands in their name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random

from services.chain.cashier import CLOSED_LATER, DECLINED
from topics.chain import PurchaseWanted, RefundWanted

CARD = "good"


class Kind(StrEnum):
    KEEPS = "keeps"  # buys twice and keeps it
    RETURNS = "returns"  # wants the first purchase refunded; support says yes
    DENIED = "denied"  # the same; support says no
    BROKE = "broke"  # the card is declined: nothing is bought
    CLOSED = "closed"  # a refund is granted, but the card is closed by then: the points are given back again
    SPENDER = "spender"  # a refund is granted, but the points are spent: no money either


REFUNDS = (Kind.RETURNS, Kind.DENIED, Kind.CLOSED, Kind.SPENDER)
CARDS = {Kind.BROKE: DECLINED, Kind.CLOSED: CLOSED_LATER}


def kind_of(name: str) -> Kind:
    """Of a customer, or of a purchase."""
    return Kind(name.partition("-")[0])


@dataclass(frozen=True)
class Shoppers:
    purchases: list[PurchaseWanted]
    refunds: list[RefundWanted]

    def of(self, customer_id: str) -> list[PurchaseWanted]:
        return [each for each in self.purchases if each.customer_id == customer_id]

    @property
    def spenders(self) -> list[str]:
        return sorted({each.customer_id for each in self.purchases if kind_of(each.customer_id) is Kind.SPENDER})


def shoppers(rounds: int, random: Random) -> Shoppers:
    """One of each kind a round; each buys twice."""
    purchases, refunds = [], []
    for turn in range(rounds):
        for kind in Kind:
            who = f"{kind}-{turn:02}"
            for nth in (1, 2):
                total = random.randrange(500, 20_000)
                card = CARDS.get(kind, CARD)
                purchases.append(PurchaseWanted(purchase_id=f"{who}-{nth}", customer_id=who, total=total, card=card))
            if kind in REFUNDS:
                refunds.append(RefundWanted(purchase_id=f"{who}-1", reason="does not fit"))
    return Shoppers(purchases, refunds)
