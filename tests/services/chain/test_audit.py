"""The audit of the chain: books that agree pass, and each way in which they may not is found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

import pytest

from saga.engine.state import Instance, Phase
from services.chain.audit import SAGAS, Books, audit
from services.chain.loyalty.points import points_for
from services.chain.shoppers import REFUNDS, Kind, kind_of, shoppers
from services.stage.findings import Finding

WANTED = shoppers(1, Random(1))


class Bought(NamedTuple):
    purchase_id: str
    customer_id: str
    total: int
    status: str


class Entry(NamedTuple):
    purchase_id: str
    kind: str
    amount: int


class Movement(NamedTuple):
    customer_id: str
    about: str
    kind: str
    points: int


class Account(NamedTuple):
    customer_id: str
    balance: int


def state(saga: str, key: str, phase: Phase) -> Instance:
    return Instance(f"{saga}:{key}:1", saga, key, 1, "", 0, 0, "", phase=phase)


def books() -> Books:
    """What is left when all went as it must."""
    bought, entries, moves = [], [], []
    sagas: dict[str, list[Instance]] = {name: [] for name in SAGAS}
    for each in WANTED.purchases:
        kind, who, key, points = kind_of(each.customer_id), each.customer_id, each.purchase_id, points_for(each.total)
        first = key.endswith("-1")
        fine = kind is not Kind.BROKE
        sagas["purchase"].append(state("purchase", key, Phase.COMPLETED if fine else Phase.COMPENSATED))
        if not fine:
            continue
        refunded = first and kind is Kind.RETURNS
        bought.append(Bought(key, who, each.total, "refunded" if refunded else "confirmed"))
        entries.append(Entry(key, "taken", each.total))
        moves.append(Movement(who, key, "granted", points))
        sagas["loyalty"].append(state("loyalty", key, Phase.COMPLETED))
        if refunded:
            entries.append(Entry(key, "paid_back", each.total))
        if first and kind in (Kind.RETURNS, Kind.CLOSED):
            moves.append(Movement(who, key, "taken_back", -points))
            sagas["points-back"].append(state("points-back", key, Phase.COMPLETED))
        if first and kind is Kind.CLOSED:
            moves.append(Movement(who, key, "restored", points))
        if first and kind in REFUNDS:
            granted = kind in (Kind.RETURNS, Kind.DENIED)
            sagas["refund"].append(state("refund", key, Phase.COMPLETED if granted else Phase.COMPENSATED))
    for who in WANTED.spenders:
        spent = sum(points_for(each.total) for each in WANTED.of(who))
        moves.append(Movement(who, f"{who}-gift", "spent", -spent))
        sagas["reward"].append(state("reward", f"{who}-gift", Phase.COMPLETED))
    balances: dict[str, int] = {}
    for move in moves:
        balances[move.customer_id] = balances.get(move.customer_id, 0) + move.points
    return Books(bought, entries, [Account(who, balance) for who, balance in balances.items()], moves, sagas)


def off(found: Books) -> list[Finding]:
    return [finding for finding in audit(found, WANTED) if finding.off]


def with_saga(found: Books, saga: str, change: Callable[[list[Instance]], list[Instance]]) -> Books:
    return replace(found, sagas={**found.sagas, saga: change(list(found.sagas[saga]))})


def restored(found: Books) -> Books:
    """The points of a refund that was paid are there again."""
    (row,) = [m for m in found.movements if m.kind == "taken_back" and kind_of(m.about) is Kind.RETURNS]
    accounts = [a._replace(balance=a.balance - row.points) if a.customer_id == row.customer_id else a for a in found.accounts]
    return replace(found, movements=[*found.movements, row._replace(kind="restored", points=-row.points)], accounts=accounts)


BREAK: dict[str, Callable[[Books], Books]] = {
    "points that were not taken back": restored,
    "a balance that no movement explains": lambda b: replace(b, accounts=[b.accounts[0]._replace(balance=0), *b.accounts[1:]]),
    "points granted twice": lambda b: replace(b, movements=[*b.movements, b.movements[0]]),
    "a balance below none": lambda b: replace(b, accounts=[*b.accounts[:-1], b.accounts[-1]._replace(balance=-1)]),
    "money taken twice": lambda b: replace(b, entries=[*b.entries, b.entries[0]]),
    "a refund that was not paid": lambda b: replace(b, entries=[e for e in b.entries if e.kind != "paid_back"]),
    "money paid back for what is kept": lambda b: replace(b, entries=[*b.entries, b.entries[0]._replace(kind="paid_back")]),
    "a purchase that the shop lost": lambda b: replace(b, purchases=b.purchases[1:]),
    "a refund that is still open": lambda b: replace(b, purchases=[b.purchases[0]._replace(status="refunding"), *b.purchases[1:]]),
    "a refund that nobody allowed": lambda b: replace(b, purchases=[r._replace(status="refunded") for r in b.purchases]),
    "loyalty has not heard of one": lambda b: with_saga(b, "loyalty", lambda states: states[1:]),
    "loyalty heard of what was not bought": lambda b: with_saga(
        b, "loyalty", lambda states: [*states, state("loyalty", "x", Phase.COMPLETED)]
    ),
    "a saga without an outcome": lambda b: with_saga(b, "refund", lambda states: [*states, state("refund", "x", Phase.RUNNING)]),
    "nothing at all": lambda _: Books([], [], [], [], {}),
}


def test_books_that_agree_pass() -> None:
    assert off(books()) == []


@pytest.mark.parametrize("what", BREAK)
def test_the_audit_finds(what: str) -> None:
    broken: Any = BREAK[what](books())
    assert off(broken), f"{what}: the audit finds nothing"
