"""The nightly report, in two minutes: each minute is a night, and on one of them no orchestrator runs.

    python -m services.nightly.demo [--kill NAME|random|none] [--seed N] [--short] [--keep] [--stop]

Sales come in; a hand in the till takes ten euros; the orchestrators are stopped over a night, and started again. That night's report is
made up for once, and says that the numbers are off.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from email import message_from_bytes
from email.policy import SMTP
from typing import Any, ClassVar

from sqlalchemy import Table, create_engine, select
from sqlalchemy import update as change

from saga.instances import instances
from services.nightly.alarm import alarms
from services.nightly.mailroom import deliveries, mail_drop
from services.nightly.numbers import nights, reported
from services.nightly.till import sales
from services.stage.example import ORCHESTRATORS, Example, database, main
from services.stage.findings import Finding
from topics.nightly import SaleWanted
from topics.values import Money

NIGHT_SECONDS = 60  # by the cron line below
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
            card = "bad" if number % 7 == 3 else "good"
            await self.start(SaleWanted(sale_id=f"sale-{number:03}", amount=Money(minor=100 + number, currency="EUR"), card=card))
            if number == count // 2:
                self.under_way.set()
        await self.settled("sale", count)
        self._take_from_the_till()
        self.say(f"somebody takes {TAKEN / 100:.2f} EUR out of the till")
        await self._miss_a_night()

    def _take_from_the_till(self) -> None:
        engine = create_engine(database("till"))
        with engine.begin() as connection:
            connection.execute(change(sales).where(sales.c.sale_id == "sale-000").values(minor=sales.c.minor - TAKEN))
        engine.dispose()

    async def _miss_a_night(self) -> None:
        """No orchestrator runs when the night comes; afterwards one does."""
        before = {state.key for state in await self.instances("nightly")}
        for name in ORCHESTRATORS:
            self.crew.kill(name)
        self.say("both orchestrators are killed; the night comes, and nobody runs")
        left = NIGHT_SECONDS - time.time() % NIGHT_SECONDS + 1
        await asyncio.sleep(left)
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
        return await audit()


async def audit() -> list[Finding]:
    """Every sale is in one report; every report was delivered once; where its numbers are off, and only there, somebody was told."""
    sold = {state.key: state for state in await instances("sale")}
    told = {state.key: state for state in await instances("nightly")}
    done = {night for night, state in told.items() if state.phase == "completed"}
    in_reports, written = _rows("numbers", reported), _rows("numbers", nights)
    mails, warned = _rows("mailroom", deliveries), {row.night: row for row in _rows("alarm", alarms)}
    open_ = [key for key, state in {**sold, **told}.items() if state.live]
    found = [
        Finding(f"{len(sold)} sales and {len(told)} nights, without an outcome: {len(open_)}", open_ or _none(sold) or _none(told))
    ]
    by_sale = {row.sale_id for row in in_reports}
    missing = [key for key, state in sold.items() if key not in by_sale and state.ended and state.ended <= _last(written)]
    found.append(
        Finding(f"{len(by_sale)} sales in {len(written)} reports, each in one; left out: {len(missing)}", missing or _none(by_sale))
    )
    files = _mails()
    off = sorted(done.symmetric_difference(row.night for row in mails)) + sorted(done.symmetric_difference(files))
    found.append(Finding(f"{len(files)} mails in the drop, one for each report", off or _none(files)))
    due = {night for night, state in told.items() if night in done and _off(state.data)}
    wrong = sorted(due.symmetric_difference(warned))
    found.append(Finding(f"{len(due)} nights with numbers that are off, {len(warned)} alarms", wrong or _none(due)))
    return found


def _off(data: dict[str, dict[str, int]]) -> bool:
    return data["numbers"]["till_minor"] != data["numbers"]["journal_minor"]


def _none(found: object) -> list[str]:
    return [] if found else ["there was nothing to look at: this proves nothing"]


def _last(written: Sequence[Any]) -> int:
    return max((row.until_ms for row in written), default=0)


def _rows(service: str, table: Table) -> list[Any]:
    engine = create_engine(database(service))
    try:
        with engine.connect() as connection:
            return list(connection.execute(select(table)))
    finally:
        engine.dispose()


def _mails() -> set[str]:
    return {str(message_from_bytes(file.read_bytes(), policy=SMTP)["X-Night"]) for file in mail_drop().glob("*.eml")}


if __name__ == "__main__":
    sys.exit(main(Nightly))
