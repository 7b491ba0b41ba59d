"""The audit: whether four books, kept by four services, say the same of every customer. Read from databases, changelog and journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import MetaData, Table, select

from saga import Store
from saga.instances import Instance, Phase
from services.customer.billing import TABLES as BILLING
from services.customer.billing import entries
from services.customer.counts import Row, by_plan
from services.customer.crm import TABLES as CRM
from services.customer.crm import changes as crm_changes
from services.customer.crm import left_out
from services.customer.customer import TABLES as CUSTOMER
from services.customer.customer import changes
from services.customer.people import Kind, kind_of
from services.stage.example import database
from services.stage.findings import Finding, counted
from topics.customer import ChangeAsked

UNDONE = (Kind.NAMELESS, Kind.DEBTOR)


@dataclass(frozen=True)
class Books:
    """All that is left. `counted`: the table of insights, by partition and change; the others are rows of tables."""

    changes: Sequence[Any]
    entries: Sequence[Any]
    crm: Sequence[Any]
    left_out: Sequence[Any]
    counted: Mapping[str, Row]
    sagas: Mapping[str, Instance]
    watches: Mapping[str, Instance]


def read_books(changelog: Mapping[str, bytes], sagas: Sequence[Instance], watches: Sequence[Instance]) -> Books:
    """Read the databases, and put beside them what the log holds."""
    return Books(
        changes=_rows("customer", CUSTOMER, changes),
        entries=_rows("billing", BILLING, entries),
        crm=_rows("crm", CRM, crm_changes),
        left_out=_rows("crm", CRM, left_out),
        counted={key: Row.decode(raw) for key, raw in changelog.items()},
        sagas={state.key: state for state in sagas},
        watches={state.key: state for state in watches},
    )


def audit(books: Books, asked: Sequence[ChangeAsked]) -> list[Finding]:
    return [
        _outcomes(books, asked),
        _made_good(books),
        _undone(books),
        _billed_once(books),
        _agree(books, asked),
        _plans(books),
        _numbers(books),
    ]


def _outcomes(books: Books, asked: Sequence[ChangeAsked]) -> Finding:
    """Each change has the outcome that its customer should lead to, and exactly one."""
    off = [f"{key} was never asked for" for key in books.sagas.keys() - {each.change_id for each in asked}]
    for each in asked:
        state, wanted = books.sagas.get(each.change_id), Phase.COMPLETED
        if kind_of(each.customer_id) in UNDONE:
            wanted = Phase.COMPENSATED
        if state is None or state.phase is not wanted:
            off.append(f"{each.change_id} is {state.phase if state else 'not known'}, it should be {wanted}")
    phases = Counter(str(state.phase) for state in books.sagas.values())
    told = ", ".join(f"{count} {phase}" for phase, count in sorted(phases.items()))
    return Finding(
        f"{counted(len(asked), 'change')} asked for, each has its outcome: {told}", off if asked else ["nothing was asked for"]
    )


def _made_good(books: Books) -> Finding:
    """Whom the CRM left out, the saga missed; with a remedy it is in the CRM, or all is undone."""
    out = {row.change_id for row in books.left_out}
    mended = [key for key in out if (state := books.sagas.get(key)) is not None and state.phase is Phase.COMPLETED]
    standing = {row.change_id for row in books.crm if row.stands}
    off = [f"{key} was left out by the CRM and completed, but is not in it" for key in mended if key not in standing]
    for key in out:
        state = books.sagas.get(key)
        step = state.steps.get("in_crm") if state else None
        if kind_of(key) is not Kind.DEBTOR and (step is None or step.ask_round == 0):
            off.append(f"{key} was left out by the CRM, and the saga did not notice")
    if not mended:
        off.append("nothing was made good")
    return Finding(f"{len(out)} left out by the CRM and missed by the saga, {len(mended)} of them made good", off)


def _undone(books: Books) -> Finding:
    """What turned back is withdrawn everywhere, also where nobody was commanded to; that was watched to its end."""
    undone = {row.change_id for row in books.changes if not row.stands}
    off = [f"{key} was compensated, but is not withdrawn" for key in _compensated(books) - undone]
    off += [f"{key} is withdrawn, but was not compensated" for key in undone - _compensated(books)]
    for key in sorted(undone):
        watch = books.watches.get(key)
        if watch is None or watch.phase is not Phase.COMPLETED:
            off.append(f"{key} is withdrawn, and its watch is {watch.phase if watch else 'not there'}")
    return Finding(
        f"{len(undone)} withdrawn, and heard of by all: {counted(len(books.watches), 'watch', 'watches')}",
        off or _none(undone, "withdrawn"),
    )


def _compensated(books: Books) -> set[str]:
    return {key for key, state in books.sagas.items() if state.phase is Phase.COMPENSATED}


def _billed_once(books: Books) -> Finding:
    """Each price was changed once, and changed back at most once."""
    times = Counter((row.change_id, row.kind) for row in books.entries)
    off = [f"{change} was {kind} {count} times" for (change, kind), count in times.items() if count > 1]
    updated = {change for change, kind in times if kind == "updated"}
    off += [f"{change} was reverted, but never updated" for change, kind in times if kind == "reverted" and change not in updated]
    reverted = sum(row.kind == "reverted" for row in books.entries)
    off += _none(reverted, "reverted")
    return Finding(f"{counted(len(books.entries) - reverted, 'price')} changed and {reverted} changed back, each once", off)


def _agree(books: Books, asked: Sequence[ChangeAsked]) -> Finding:
    """A change that completed stands in every book, with the plan that was asked for; one that was compensated in none."""
    reverted = {row.change_id for row in books.entries if row.kind == "reverted"}
    stands = {
        "customer": {(row.change_id, row.plan) for row in books.changes if row.stands},
        "billing": {(row.change_id, row.plan) for row in books.entries if row.kind == "updated" and row.change_id not in reverted},
        "crm": {(row.change_id, row.plan) for row in books.crm if row.stands},
        "insights": {(_change(key), row.plan) for key, row in books.counted.items() if row.stands},
    }
    completed = {(each.change_id, each.plan) for each in asked if _phase(books, each.change_id) is Phase.COMPLETED}
    off = []
    for name, there in stands.items():
        off += [f"{change} completed, but does not stand in {name} with {plan}" for change, plan in sorted(completed - there)]
        off += [f"{change} stands in {name} with {plan}, which did not complete" for change, plan in sorted(there - completed)]
    times = Counter(map(_change, books.counted))
    off += [f"insights has {change} in {count} partitions" for change, count in times.items() if count > 1]
    unheard = {each.change_id for each in asked} - times.keys()
    off += [f"insights has never heard of {change}" for change in sorted(unheard)]
    return Finding(f"{counted(len(completed), 'change')} in four books: {', '.join(stands)}", off + _none(completed, "completed"))


def _change(key: str) -> str:
    """Of a row of insights: its key is <partition>/<change>."""
    return key.partition("/")[2]


def _phase(books: Books, change_id: str) -> Phase | None:
    state = books.sagas.get(change_id)
    return state.phase if state else None


def _plans(books: Books) -> Finding:
    """The plan that each customer has: the highest change that stands. Three services say so, each from its own book."""
    reverted = {row.change_id for row in books.entries if row.kind == "reverted"}
    said = {
        "customer": _latest(row for row in books.changes if row.stands),
        "billing": _latest(row for row in books.entries if row.kind == "updated" and row.change_id not in reverted),
        "crm": _latest(row for row in books.crm if row.stands),
    }
    mine, off = said.pop("customer"), []
    for name, theirs in said.items():
        for who in sorted(mine.keys() | theirs.keys()):
            if mine.get(who) != theirs.get(who):
                off.append(f"{who} has {mine.get(who)} for the customer service, {theirs.get(who)} for {name}")
    return Finding(f"{len(mine)} customers have the same plan in all of them", off + _none(mine, "on a plan"))


def _latest(rows: Any) -> dict[str, str]:
    return {row.customer_id: row.plan for row in sorted(rows, key=lambda row: row.number)}


def _numbers(books: Books) -> Finding:
    """What insights counts is what the customer service has."""
    wanted = dict(sorted(Counter(row.plan for row in books.changes if row.stands).items()))
    said = by_plan(books.counted.values())
    return Finding(f"insights counts {said}", [] if said == wanted and wanted else [f"the customer service has {wanted}"])


def _none(what: Any, word: str) -> list[str]:
    return [] if what else [f"nothing was {word}: this proves nothing"]


def _rows(service: str, tables: MetaData, table: Table) -> Sequence[Any]:
    store = Store(database(service), tables=tables)
    try:
        with store.read() as connection:
            return connection.execute(select(table)).all()
    finally:
        store.close()
