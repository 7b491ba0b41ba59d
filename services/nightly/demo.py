"""The nightly report, in two minutes: each minute is a night, and on one of them no orchestrator runs.

    python -m services.nightly.demo [--kill NAME|random|none] [--seed N] [--short] [--keep] [--stop]

Sales come in; a hand in the till takes ten euros; the orchestrators are stopped over a night, and started again. That night's report is
made once they run again, and says that the numbers are off.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import ClassVar

from sqlalchemy import create_engine, text

from services.nightly.audit import audit, read_books
from services.stage.example import ORCHESTRATORS, Example, database, main
from services.stage.findings import Finding
from topics.nightly import SaleWanted
from topics.values import Money

NIGHT_SECONDS = 60  # by the cron line below
EVENING_SECONDS = 10  # so long before the night they are killed, not earlier: with other examples beside it, those go on until then
LAST = "the-last"  # the sale of which something is missing in the till
TAKEN = 1000  # cents, out of the till
EVERY_MINUTE = "* * * * *"


class Nightly(Example):
    """A shop's sales, and a report each night."""

    name = "nightly"
    app = "services.nightly:app"
    processes: ClassVar = {"shop": ("services.nightly", "shop"), "office": ("services.nightly", "office")}
    spared = ORCHESTRATORS  # the story itself stops them over a night

    def settings(self) -> dict[str, str]:
        return {"NIGHTLY_CRON": EVERY_MINUTE}

    async def story(self) -> None:
        count = 20 if self.short else 60
        self.say(f"{count} sales come in")
        for number in range(count):
            await self._sell(f"sale-{number:03}", "bad" if number % 7 == 3 else "good", 100 + number)
            if number == count // 2:
                self.under_way.set()
        await self.settled("sale", count)
        self._reach_into_the_till(LAST)
        await self._sell(LAST, "good", 2 * TAKEN)
        await self.settled("sale", count + 1)
        self.say(f"of the last sale somebody takes {TAKEN / 100:.2f} EUR out of the till")
        await self._miss_a_night()

    async def _sell(self, sale_id: str, card: str, cents: int) -> None:
        await self.start(SaleWanted(sale_id=sale_id, amount=Money(minor=cents, currency="EUR"), card=card))

    def _reach_into_the_till(self, sale_id: str) -> None:
        """A hand that takes as soon as that sale is rung up. Were it later, a night could fall between, and its report be right."""
        taken = f"UPDATE sales SET minor = minor - {TAKEN} WHERE sale_id = NEW.sale_id"
        hand = f"CREATE TRIGGER hand AFTER INSERT ON sales WHEN NEW.sale_id = '{sale_id}' BEGIN {taken}; END"
        engine = create_engine(database("till"))
        with engine.begin() as connection:
            connection.execute(text(hand))
        engine.dispose()

    async def _miss_a_night(self) -> None:
        """No orchestrator runs when the night comes; afterwards one does."""
        await asyncio.sleep(max(0.0, _until_night() - EVENING_SECONDS))
        before = {state.key for state in await self.instances("nightly")}
        for name in ORCHESTRATORS:
            self.crew.kill(name)
        self.say("both orchestrators are killed; the night comes, and nobody runs")
        await asyncio.sleep(_until_night() + 1)
        for name in ORCHESTRATORS:
            self.crew.again(name)
        self.say("both are started again")
        ended: set[str] = set()

        async def made_up() -> bool:
            nonlocal ended
            ended = {state.key for state in await self.instances("nightly") if not state.live} - before
            return bool(ended)

        await self.until(made_up, lambda: "the missed night's report is not there")
        self.say(f"the report of the night that was missed, {min(ended)}, is there")

    async def audit(self) -> list[Finding]:
        return audit(await read_books(), {LAST: TAKEN})


def _until_night() -> float:
    return NIGHT_SECONDS - time.time() % NIGHT_SECONDS


if __name__ == "__main__":
    sys.exit(main(Nightly))
