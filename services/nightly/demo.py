"""The nightly report, in two minutes: each minute is a night, and on one of them no orchestrator runs.

    python -m services.nightly.demo [--kill NAME|random|none] [--seed N] [--short] [--keep] [--stop]

Sales come in; a hand in the till takes ten euros; the orchestrators are stopped over a night, and started again. That night's report is
made up for once, and says that the numbers are off.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import SMTP
from typing import Any, ClassVar

from sqlalchemy import Table, create_engine, select, text

from saga.instances import Instance, instances
from services.nightly.alarm import alarms
from services.nightly.mailroom import deliveries, mail_drop
from services.nightly.numbers import nights, reported
from services.stage.example import ORCHESTRATORS, Example, database, main
from services.stage.findings import Finding
from topics.nightly import SaleWanted
from topics.values import Money

NIGHT_SECONDS = 60  # by the cron line below
EVENING_SECONDS = 10  # so long before the night they are killed, not earlier: with other examples beside it, those go on until then
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
        self._reach_into_the_till("the-last")
        await self._sell("the-last", "good", 2 * TAKEN)
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
        self.say(f"the report of {min(ended)} was made up for")

    async def audit(self) -> list[Finding]:
        return audit(await read_books())


@dataclass
class Books:
    """All that is written down anywhere: the journal, four databases, and the mail drop."""

    sold: dict[str, Instance]
    told: dict[str, Instance]
    reported: list[Any]
    nights: list[Any]
    deliveries: list[Any]
    alarms: list[Any]
    mails: list[str]


async def read_books() -> Books:
    return Books(
        sold={state.key: state for state in await instances("sale")},
        told={state.key: state for state in await instances("nightly")},
        reported=_rows("numbers", reported),
        nights=_rows("numbers", nights),
        deliveries=_rows("mailroom", deliveries),
        alarms=_rows("alarm", alarms),
        mails=_mails(),
    )


def audit(books: Books) -> list[Finding]:
    """Every sale is in one report; every report was delivered once; where its numbers are off, and only there, somebody was told."""
    open_ = [key for key, state in {**books.sold, **books.told}.items() if state.live]
    empty = _none(books.sold) + _none(books.told)
    found = [Finding(f"{len(books.sold)} sales and {len(books.told)} nights, without an outcome: {len(open_)}", open_ or empty)]
    by_sale, last = {row.sale_id for row in books.reported}, max((row.until_ms for row in books.nights), default=0)
    missing = [key for key, state in books.sold.items() if key not in by_sale and state.ended and state.ended <= last]
    what = f"{len(by_sale)} sales in {len(books.nights)} reports, each in one; left out: {len(missing)}"
    found.append(Finding(what, missing or _none(by_sale)))
    done = {night for night, state in books.told.items() if state.phase == "completed"}
    off = sorted(done.symmetric_difference(row.night for row in books.deliveries)) + sorted(done.symmetric_difference(books.mails))
    twice = [night for night, count in Counter(books.mails).items() if count > 1]
    found.append(Finding(f"{len(books.mails)} mails in the drop, one for each report", off + twice or _none(books.mails)))
    due = {night for night in done if _off(books.told[night].data)}
    wrong = sorted(due.symmetric_difference(row.night for row in books.alarms))
    found.append(Finding(f"{len(due)} nights with numbers that are off, {len(books.alarms)} alarms", wrong or _none(due)))
    return found


def _until_night() -> float:
    return NIGHT_SECONDS - time.time() % NIGHT_SECONDS


def _off(data: dict[str, dict[str, int]]) -> bool:
    return data["numbers"]["till_minor"] != data["numbers"]["journal_minor"]


def _none(found: object) -> list[str]:
    return [] if found else ["there was nothing to look at: this proves nothing"]


def _rows(service: str, table: Table) -> list[Any]:
    engine = create_engine(database(service))
    try:
        with engine.connect() as connection:
            return list(connection.execute(select(table)))
    finally:
        engine.dispose()


def _mails() -> list[str]:
    return [str(message_from_bytes(file.read_bytes(), policy=SMTP)["X-Night"]) for file in mail_drop().glob("*.eml")]


if __name__ == "__main__":
    sys.exit(main(Nightly))
