"""The audit of the nightly report: the journal, the books of four services, the files of the press and the mail drop say the same.

Every sale is in the till as it was sold, and in one report. The numbers of a report are added up here once more, from its sales alone; they
are what the journal says, what is printed, and what somebody was woken for. Only what a hand is known to have taken may be off.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from email import message_from_bytes
from email.policy import SMTP
from typing import Any

from sqlalchemy import Table, create_engine, select

from saga.instances import Instance, Phase, instances
from services.nightly.alarm import alarms
from services.nightly.mailroom import deliveries, mail_drop
from services.nightly.numbers import nights, reported
from services.nightly.press import files_of, reports
from services.nightly.till import sales
from services.stage.example import database
from services.stage.findings import Finding, counted

Numbers = dict[str, int]  # completed, compensated, journal_minor, till_minor
COUNTED = ("completed", "compensated", "journal_minor", "till_minor")


@dataclass
class Books:
    """All that is written down anywhere."""

    sold: dict[str, Instance]
    told: dict[str, Instance]
    till: list[Any]
    reported: list[Any]
    nights: list[Any]
    deliveries: list[Any]
    alarms: list[Any]
    mails: list[str]
    printed: dict[str, str]  # what the press has: a file's name → its content, where it is CSV


async def read_books() -> Books:
    return Books(
        sold={state.key: state for state in await instances("sale")},
        told={state.key: state for state in await instances("nightly")},
        till=_rows("till", sales),
        reported=_rows("numbers", reported),
        nights=_rows("numbers", nights),
        deliveries=_rows("mailroom", deliveries),
        alarms=_rows("alarm", alarms),
        mails=[str(message_from_bytes(file.read_bytes(), policy=SMTP)["X-Night"]) for file in mail_drop().glob("*.eml")],
        printed={file.name: file.read_text() if file.suffix == ".csv" else "" for file in reports().glob("*")},
    )


def audit(books: Books, taken: Mapping[str, int]) -> list[Finding]:
    """Every check. `taken`: what is missing in the till, in cents, by the sale of which it was taken."""
    due = _added_up(books)
    return [
        _outcomes(books),
        _till(books, taken),
        _in_one_report(books),
        _numbers(books, due),
        _printed(books, due),
        _mailed(books),
        _alarms(books, taken),
    ]


def _outcomes(books: Books) -> Finding:
    open_ = [f"{key} has no outcome" for key, state in {**books.sold, **books.told}.items() if state.live]
    what = f"{counted(len(books.sold), 'sale')} and {counted(len(books.told), 'night')}, without an outcome: {len(open_)}"
    return Finding(what, open_ + _none(books.sold) + _none(books.told))


def _till(books: Books, taken: Mapping[str, int]) -> Finding:
    """What was sold is in the till, once, less what was taken."""
    should = Counter({(key, _minor(state) - taken.get(key, 0)): 1 for key, state in books.sold.items() if _completed(state)})
    found = Counter((row.sale_id, row.minor) for row in books.till)
    off = [f"{key} over {_euros(minor)} is not in the till" for key, minor in (should - found).elements()]
    off += [f"{key} over {_euros(minor)} is in the till, and should not be" for key, minor in (found - should).elements()]
    missing = sum(minor for key, minor in taken.items() if key in books.sold)
    return Finding(
        f"{counted(len(books.till), 'sale')} in the till, from which {_euros(missing)} were taken", off + _none(books.till)
    )


def _in_one_report(books: Books) -> Finding:
    """Each sale that ended by the last night is in a report of a night that completed; that it is in one alone is its key."""
    by_sale, last = {row.sale_id: row.night for row in books.reported}, max((row.until_ms for row in books.nights), default=0)
    off = [key for key, state in books.sold.items() if key not in by_sale and state.ended and state.ended <= last]
    what = f"{counted(len(by_sale), 'sale')} in {counted(len(books.nights), 'report')}, each in one; left out: {len(off)}"
    off = [f"{key} is in no report" for key in off]
    off += [
        f"{key} is in a report of {night}, which did not complete" for key, night in by_sale.items() if night not in _done(books)
    ]
    return Finding(what, off + _none(by_sale))


def _numbers(books: Books, due: Mapping[str, Numbers]) -> Finding:
    """What the journal says of a night, against its sales."""
    off = []
    for night in sorted(_done(books)):
        said = {name: books.told[night].data["numbers"][name] for name in COUNTED}
        if said != due[night]:
            off.append(f"{night}: the report counts {said}, its sales {due[night]}")
    sold = sum(numbers["journal_minor"] for numbers in due.values())
    return Finding(f"{_euros(sold)} in {counted(len(due), 'report')}, added up again from their sales", off + _none(sold))


def _printed(books: Books, due: Mapping[str, Numbers]) -> Finding:
    """Each report is printed with these numbers; and of a night that was undone the press has nothing."""
    should = {file.name: night for night in _done(books) for file in files_of(night)}
    off = [f"{name}, of the report of {should[name]}, is not there" for name in sorted(should.keys() - books.printed.keys())]
    off += [f"{name} is no file of a report" for name in sorted(books.printed.keys() - should.keys())]
    for name in sorted(should.keys() & books.printed.keys()):
        if name.endswith(".csv"):
            shown, line = list(csv.reader(books.printed[name].splitlines()))[1:], _line(should[name], due[should[name]])
            off += [f"{name} says {shown}, and should say {line}"] if shown != [line] else []
    return Finding(f"{counted(len(books.printed), 'file')} of the press, with the numbers of these reports", off + _none(should))


def _mailed(books: Books) -> Finding:
    """Each report is in the mail once, and noted once."""
    noted, mailed, done = Counter(row.night for row in books.deliveries), Counter(books.mails), _done(books)
    off = []
    for night in sorted(done | noted.keys() | mailed.keys()):
        should = int(night in done)
        off += [f"{night} is noted as delivered {counted(noted[night], 'time')}"] if noted[night] != should else []
        off += [f"{night} is in the mail drop {counted(mailed[night], 'time')}"] if mailed[night] != should else []
    return Finding(f"{counted(len(books.mails), 'mail')} in the drop, one for each report", off + _none(books.mails))


def _alarms(books: Books, taken: Mapping[str, int]) -> Finding:
    """Somebody was woken for the nights whose sales were taken from, and for no other; and told how much it was."""
    should: Counter[str] = Counter()
    for row in books.reported:
        should[row.night] -= taken.get(row.sale_id, 0)
    due = {(night, off) for night, off in should.items() if off}
    found = {(row.night, row.off_minor) for row in books.alarms}
    off = [f"{night} is off by {_euros(minor)}, and nobody was told" for night, minor in sorted(due - found)]
    off += [f"an alarm says that {night} is off by {_euros(minor)}, which it is not" for night, minor in sorted(found - due)]
    what = f"{counted(len(due), 'night')} with numbers that are off, {counted(len(books.alarms), 'alarm')}"
    return Finding(what, off + _none(due))


def _added_up(books: Books) -> dict[str, Numbers]:
    """The numbers of each night that completed, from the sales that are noted for it."""
    due = {night: dict.fromkeys(COUNTED, 0) for night in _done(books)}
    till = {row.sale_id: row.minor for row in books.till}
    for row in books.reported:
        if row.night in due and (state := books.sold.get(row.sale_id)) is not None:
            numbers, done = due[row.night], _completed(state)
            numbers["completed" if done else "compensated"] += 1
            numbers["journal_minor"] += _minor(state) if done else 0
            numbers["till_minor"] += till.get(row.sale_id, 0)
    return due


def _done(books: Books) -> set[str]:
    return {night for night, state in books.told.items() if _completed(state)}


def _completed(state: Instance) -> bool:
    return state.phase is Phase.COMPLETED


def _minor(state: Instance) -> int:
    return int(state.data["amount"]["minor"])


def _line(night: str, numbers: Numbers) -> list[str]:
    """As it is to stand in the CSV."""
    euros = (f"{numbers[name] / 100:.2f}" for name in ("journal_minor", "till_minor"))
    return [night, str(numbers["completed"]), str(numbers["compensated"]), *euros]


def _euros(minor: int) -> str:
    return f"{minor / 100:.2f} EUR"


def _none(found: object) -> list[str]:
    return [] if found else ["there was nothing to look at: this proves nothing"]


def _rows(service: str, table: Table) -> list[Any]:
    engine = create_engine(database(service))
    try:
        with engine.connect() as connection:
            return list(connection.execute(select(table)))
    finally:
        engine.dispose()
