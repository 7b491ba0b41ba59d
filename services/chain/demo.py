"""A completed purchase leads to loyalty points in another service's saga; a refund, which support allows, takes them back, and the money.

`make demo-chain`
"""

from __future__ import annotations

import sys
from typing import ClassVar

from services.chain.audit import SAGAS, audit, read_books
from services.chain.loyalty.points import points_for
from services.chain.loyalty.saga import loyalty_points, reward
from services.chain.saga import purchase, refund
from services.chain.shoppers import Kind, Shoppers, kind_of, shoppers
from services.stage.example import Example, main
from services.stage.findings import Finding, counted
from topics.chain import RefundVerdict, RewardWanted


class Chain(Example):
    """Purchases, the points that follow from them, and refunds."""

    name, app = "chain", "services.chain:app"
    processes: ClassVar = {name: ("services.chain", name) for name in ("purchases", "cashier", "loyalty")}

    wanted: Shoppers

    async def story(self) -> None:
        self.wanted = shoppers(1 if self.short else 4, self.random)
        bought = [each for each in self.wanted.purchases if kind_of(each.customer_id) is not Kind.BROKE]
        self.say(f"{len(self.wanted.purchases)} purchases are wanted, some on cards that will be declined")
        for each in self.wanted.purchases:
            await self.start(each)
        await self.settled(purchase.name, len(self.wanted.purchases) // 2)
        self.under_way.set()
        await self.settled(purchase.name, len(self.wanted.purchases))
        await self.settled(loyalty_points.name, len(bought))
        self.say(f"{len(bought)} are bought, and loyalty has heard of each; some spend their points")
        for who in self.wanted.spenders:
            all_of_them = sum(points_for(each.total) for each in self.wanted.of(who))
            await self.start(RewardWanted(reward_id=f"{who}-gift", customer_id=who, points=all_of_them))
        await self.settled(reward.name, len(self.wanted.spenders))
        await self._refunds()

    async def _refunds(self) -> None:
        self.say(f"refunds are wanted for {counted(len(self.wanted.refunds), 'purchase')}; each waits for somebody in support")
        for each in self.wanted.refunds:
            await self.start(each)
        open_: list[str] = []

        async def all_ask() -> bool:
            open_[:] = await self.asks(refund.name, "verdict")
            return len(open_) >= len(self.wanted.refunds)

        await self.until(all_ask, lambda: f"{len(open_)} of {len(self.wanted.refunds)} refunds ask support")
        for key in open_:
            granted = kind_of(key) is not Kind.DENIED
            answer = RefundVerdict(granted=granted).model_dump_json()
            told = ("--role", "support", "--who", "sam", "--why", "has read the letter" if granted else "worn for a year")
            await self.typed("answer", key, "verdict", answer, "--saga", refund.name, *told)
        self.say("Sam, of support, has answered each: `saga answer`")
        await self.settled(refund.name, len(self.wanted.refunds))

    async def audit(self) -> list[Finding]:
        return audit(read_books({name: await self.instances(name) for name in SAGAS}), self.wanted)


if __name__ == "__main__":
    sys.exit(main(Chain))
