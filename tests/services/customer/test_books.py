"""The CRM's book and the rows of insights, heard twice, late or in the wrong order; and the audit, which finds what is off."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from sqlalchemy import insert, select

from saga import Store
from saga.engine.state import Instance, Phase, StepState
from services.customer.audit import Books, audit
from services.customer.counts import Row, by_plan, by_window
from services.customer.crm import TABLES, apply, changes, contacts, left_out, prepare, withdraw
from services.customer.people import Kind, kind_of, wishes
from services.stage.findings import Finding
from topics.customer import ChangeAsked, ChangeWithdrawn, ImportContact, PlanChanged

AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
CHANGED = PlanChanged(change_id="c-1", customer_id="ada", number=1, plan="plus", email="ada@example.org", at=AT)
WITHDRAWN = ChangeWithdrawn(change_id="c-1", customer_id="ada", number=1, plan="plus", at=AT)
IMPORT = ImportContact(change_id="c-1", customer_id="ada", number=1, plan="plus", email="ada@example.org")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'crm.db'}", tables=TABLES)
    with store.begin() as connection:
        prepare(connection)
    yield store
    store.close()


def know(store: Store) -> None:
    with store.begin() as connection:
        connection.execute(insert(contacts), {"customer_id": "ada", "email": "ada@example.org"})


def do(store: Store, act: Callable[..., Any], message: Any) -> Any:
    with store.begin() as connection:
        return act(connection.execute, message)


def stands(store: Store) -> list[tuple[str, bool]]:
    with store.read() as connection:
        return [(row.change_id, row.stands) for row in connection.execute(select(changes))]


def test_a_change_of_somebody_unknown_is_left_out_once(store: Store) -> None:
    assert [do(store, apply, CHANGED), do(store, apply, CHANGED)] == [False, False]
    with store.read() as connection:
        assert connection.execute(select(left_out.c.change_id)).scalars().all() == ["c-1"]
    know(store)
    assert do(store, apply, IMPORT) is True
    assert do(store, apply, CHANGED) is True, "heard again it is there already"
    assert stands(store) == [("c-1", True)]


def test_what_is_heard_after_it_was_withdrawn_does_not_come_back(store: Store) -> None:
    know(store)
    do(store, withdraw, WITHDRAWN)
    assert do(store, apply, CHANGED) is False
    assert stands(store) == [("c-1", False)]


def test_a_withdrawal_may_be_heard_twice(store: Store) -> None:
    know(store)
    do(store, apply, CHANGED)
    do(store, withdraw, WITHDRAWN)
    do(store, withdraw, WITHDRAWN)
    assert stands(store) == [("c-1", False)]


def test_the_counts_are_sums_over_rows_that_stand_by_window() -> None:
    rows = [Row(100, "plus", True), Row(104, "plus", True), Row(105, "pro", True), Row(105, "pro", False)]
    assert [Row.decode(row.encode()) for row in rows] == rows
    assert by_plan(rows) == {"plus": 2, "pro": 1}
    assert by_window(rows) == {100: {"plus": 2}, 105: {"pro": 1}}


# --- the audit ------------------------------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    change_id: str
    customer_id: str
    number: int
    plan: str
    kind: str


class Kept(NamedTuple):
    change_id: str
    customer_id: str
    number: int
    plan: str
    stands: bool


def asked() -> list[ChangeAsked]:
    return wishes(16, Random(1))


def state(key: str, phase: Phase, asks: int = 0) -> Instance:
    steps = {"in_crm": StepState(ask_round=asks)}
    return Instance(f"customer-change:{key}:1", "customer-change", key, 1, "", 0, 0, "", phase=phase, steps=steps)


def books() -> Books:
    """What is left when all went as it must."""
    kept, entries, out, sagas, watches = [], [], [], {}, {}
    for each in asked():
        kind, key = kind_of(each.customer_id), each.change_id
        fine = kind in (Kind.REGULAR, Kind.NEW)
        late = kind in (Kind.NEW, Kind.NAMELESS)
        about = (key, each.customer_id, each.number, each.plan)
        kept.append(Kept(*about, fine))
        if kind is not Kind.DEBTOR:
            entries.append(Entry(*about, "updated"))
        if kind is Kind.NAMELESS:
            entries.append(Entry(*about, "reverted"))
        if late:
            out.append(kept[-1])
        sagas[key] = state(key, Phase.COMPLETED if fine else Phase.COMPENSATED, int(late))
        if not fine:
            watches[key] = state(key, Phase.COMPLETED)
    counted = {f"{number % 4}/{row.change_id}": Row(0, row.plan, row.stands) for number, row in enumerate(kept)}
    return Books(kept, entries, kept, out, counted, sagas, watches)


def off(found: Books) -> list[Finding]:
    return [finding for finding in audit(found, asked()) if finding.off]


def without(rows: Sequence[Any], place: int) -> list[Any]:
    return [row for number, row in enumerate(rows) if number != place]


def test_books_that_agree_pass() -> None:
    assert off(books()) == []


def reverted(entry: Entry) -> Entry:
    return entry._replace(change_id="x", kind="reverted")


def all_counted(counted: Mapping[str, Row]) -> dict[str, Row]:
    return {key: row._replace(stands=True) for key, row in counted.items()}


BREAK: dict[str, Callable[[Books], Books]] = {
    "a price changed twice": lambda b: replace(b, entries=[*b.entries, b.entries[0]]),
    "a price that was not changed back": lambda b: replace(b, entries=[e for e in b.entries if e.kind == "updated"]),
    "a price changed back that never changed": lambda b: replace(b, entries=[*b.entries, reverted(b.entries[0])]),
    "a change that the CRM lost": lambda b: replace(b, crm=without(b.crm, 0)),
    "a change that stands in the CRM though it was withdrawn": lambda b: replace(
        b, crm=[row._replace(stands=True) for row in b.crm]
    ),
    "another plan in the CRM": lambda b: replace(b, crm=[b.crm[0]._replace(plan="other"), *b.crm[1:]]),
    "a change that insights never heard of": lambda b: replace(b, counted=dict(list(b.counted.items())[1:])),
    "a change that insights counts though it was withdrawn": lambda b: replace(b, counted=all_counted(b.counted)),
    "a change that insights has in two partitions": lambda b: replace(
        b, counted={**b.counted, **{f"9{key}": row for key, row in list(b.counted.items())[:1]}}
    ),
    "a saga that is lost": lambda b: replace(b, sagas=dict(list(b.sagas.items())[1:])),
    "a saga without an outcome": lambda b: replace(b, sagas={**b.sagas, "regular-000-1": state("regular-000-1", Phase.RUNNING)}),
    "nothing was missed": lambda b: replace(b, sagas={k: state(k, s.phase) for k, s in b.sagas.items()}),
    "nobody watched a withdrawal": lambda b: replace(b, watches={}),
    "nothing was left out": lambda b: replace(b, left_out=[]),
    "nothing at all": lambda _: Books([], [], [], [], {}, {}, {}),
}


@pytest.mark.parametrize("what", BREAK)
def test_the_audit_finds(what: str) -> None:
    assert off(BREAK[what](books())), f"{what}: the audit finds nothing"
