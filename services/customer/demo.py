"""One customer action updates billing, CRM and insights at once; what one of them misses is made good, what one refuses is undone in all.

`make demo-customer`
"""

from __future__ import annotations

import contextlib
import sys
from typing import ClassVar

import httpx

from services.customer.audit import audit, read_books
from services.customer.counts import CHANGELOG
from services.customer.people import Kind, kind_of, wishes
from services.customer.saga import change, withdrawal
from services.stage.example import Example, free_address, main
from services.stage.findings import Finding
from topics.customer import ChangeAsked


class Customer(Example):
    """Customers change their plan, and four services with a database each agree on it."""

    name, app = "customer", "services.customer:app"
    processes: ClassVar = {name: ("services.customer", name) for name in ("customer", "billing", "crm", "insights")}
    needs_kafka = "the CRM and insights are Faust reactors, and Faust is made for Kafka"

    asked: list[ChangeAsked]

    def settings(self) -> dict[str, str]:
        self._page = free_address()
        return {"EXAMPLE_INSIGHTS_HTTP": self._page}

    async def story(self) -> None:
        self.asked = wishes(16 if self.short else 80, self.random)
        half = len(self.asked) // 2
        self.say(f"{len(self.asked)} changes of plan are asked for")
        for each in self.asked[:half]:
            await self.start(each)
        await self.settled(change.name, 1)
        self.under_way.set()
        for each in self.asked[half:]:
            await self.start(each)
        await self.settled(change.name, len(self.asked))
        undone = sum(kind_of(each.customer_id) in (Kind.NAMELESS, Kind.DEBTOR) for each in self.asked)
        await self.settled(withdrawal.name, undone)
        said: dict[str, object] = {}

        async def heard() -> bool:
            async with httpx.AsyncClient(trust_env=False) as http:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await http.get(f"http://{self._page}/changes")
                    said.update(answer.json() if answer.status_code == 200 else {})
            return said.get("heard") == len(self.asked)

        await self.until(heard, lambda: f"insights has not heard of all changes: {said}")
        self.say(f"insights, at http://{self._page}/, counts {said['total']}")

    async def audit(self) -> list[Finding]:
        books = read_books(await self.latest(CHANGELOG), await self.instances(change.name), await self.instances(withdrawal.name))
        return audit(books, self.asked)


if __name__ == "__main__":
    sys.exit(main(Customer))
