"""The audit: points are what was bought less what was refunded, in the shop's book and in loyalty's; and so is the money."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import MetaData, Table, select

from saga import Store
from saga.instances import Instance, Phase
from services.chain.cashier import TABLES as CASHIER
from services.chain.cashier import entries
from services.chain.loyalty.points import TABLES as LOYALTY
from services.chain.loyalty.points import accounts, movements, points_for
from services.chain.purchases import TABLES as PURCHASES
from services.chain.purchases import purchases_made
from services.chain.shoppers import Kind, Shoppers, kind_of
from services.stage.example import database
from services.stage.findings import Finding, counted

SAGAS = ("purchase", "loyalty", "reward", "refund", "points-back")


@dataclass(frozen=True)
class Books:
    """All that is left: rows of tables, and the instances of each saga."""

    purchases: Sequence[Any]
    entries: Sequence[Any]
    accounts: Sequence[Any]
    movements: Sequence[Any]
    sagas: Mapping[str, Sequence[Instance]]


def read_books(sagas: Mapping[str, Sequence[Instance]]) -> Books:
    """Read the databases, and put beside them what the journal holds."""
    return Books(
        purchases=_rows("purchases", PURCHASES, purchases_made),
        entries=_rows("cashier", CASHIER, entries),
        accounts=_rows("loyalty", LOYALTY, accounts),
        movements=_rows("loyalty", LOYALTY, movements),
        sagas=sagas,
    )


def audit(books: Books, wanted: Shoppers) -> list[Finding]:
    return [
        _outcomes(books),
        _bought(books, wanted),
        _refunded(books, wanted),
        _chained(books),
        _once(books),
        _points(books),
        _money(books),
    ]


def _outcomes(books: Books) -> Finding:
    """Every instance of every saga has ended."""
    off = [f"{state.saga} {state.key} has no outcome" for states in books.sagas.values() for state in states if state.live]
    off += [f"there is no {name}" for name in SAGAS if not books.sagas.get(name)]
    counts = ", ".join(f"{len(books.sagas.get(name, ()))} {name}" for name in SAGAS)
    return Finding(f"all have an outcome: {counts}", off)


def _bought(books: Books, wanted: Shoppers) -> Finding:
    """What was wanted is in the shop's book, unless the card was declined."""
    should = {each.purchase_id for each in wanted.purchases if kind_of(each.customer_id) is not Kind.BROKE}
    there = {row.purchase_id for row in books.purchases}
    off = [f"{key} was bought, but is not in the book" for key in sorted(should - there)]
    off += [f"{key} is in the book, but was not bought" for key in sorted(there - should)]
    declined = _keys(books, "purchase", Phase.COMPENSATED)
    return Finding(
        f"{counted(len(there), 'purchase')}, and {len(declined)} on cards that were declined", off + _none(there, "bought")
    )


def _refunded(books: Books, wanted: Shoppers) -> Finding:
    """Refunds were made for those whom support allowed one, and who still had the points and the card; all else is as it was."""
    should = {each.purchase_id for each in wanted.refunds if kind_of(each.purchase_id) is Kind.RETURNS}
    there = {row.purchase_id for row in books.purchases if row.status == "refunded"}
    off = [f"{key} should be refunded, and is not" for key in sorted(should - there)]
    off += [f"{key} is refunded, and should not be" for key in sorted(there - should)]
    off += [f"{row.purchase_id} is {row.status}" for row in books.purchases if row.status not in ("confirmed", "refunded")]
    turned = _keys(books, "refund", Phase.COMPENSATED)
    return Finding(
        f"{counted(len(there), 'refund')}, and {len(turned)} that turned back",
        off + _none(there, "refunded") + _none(turned, "turned back"),
    )


def _chained(books: Books) -> Finding:
    """Loyalty ran for exactly the purchases that completed, though nobody told it to."""
    bought, granted = _keys(books, "purchase", Phase.COMPLETED), _keys(books, "loyalty", Phase.COMPLETED)
    off = [f"{key} was bought, and loyalty has not heard of it" for key in sorted(bought - granted)]
    off += [f"loyalty granted points for {key}, which was not bought" for key in sorted(granted - bought)]
    return Finding(
        f"{counted(len(granted), 'purchase')} led to a saga of loyalty's, and no other did", off + _none(granted, "granted")
    )


def _once(books: Books) -> Finding:
    """Nothing was done twice. A movement of none is no movement: it says that points are to be taken back that are not there yet."""
    points = Counter((row.about, row.kind) for row in books.movements if row.points)
    money = Counter((row.purchase_id, row.kind) for row in books.entries)
    off = [f"{about} was {kind} {count} times" for (about, kind), count in (points + money).items() if count > 1]
    return Finding(f"{counted(len(books.movements), 'movement')} of points and {len(books.entries)} of money, each once", off)


def _points(books: Books) -> Finding:
    """In the shop's book: whole euros bought less those refunded and spent. In loyalty's: the balance, and the sum of its movements."""
    mine: dict[str, int] = defaultdict(int)
    for row in books.purchases:
        mine[row.customer_id] += points_for(row.total) if row.status != "refunded" else 0
    for row in books.movements:
        if row.kind == "spent":
            mine[row.customer_id] += row.points
    moved = _sums((row.customer_id, row.points) for row in books.movements)
    held = {row.customer_id: row.balance for row in books.accounts}
    off = [f"{who} has {held[who]} points" for who in sorted(held) if held[who] < 0]
    for who in sorted(mine.keys() | moved.keys() | held.keys()):
        said = mine.get(who, 0), moved.get(who, 0), held.get(who, 0)
        if len(set(said)) > 1:
            off.append(f"{who}: {said[0]} points by the shop's book, {said[1]} by loyalty's movements, {said[2]} by its balance")
    kinds = Counter(row.kind for row in books.movements)
    told = ", ".join(f"{kinds[kind]} {kind.replace('_', ' ')}" for kind in ("granted", "taken_back", "restored", "spent"))
    return Finding(f"{sum(held.values())} points in both books: {told}", off + _none(held, "granted"))


def _money(books: Books) -> Finding:
    """The cashier has what was bought and not refunded."""
    sign = {"taken": 1, "returned": -1, "paid_back": -1}
    has = _sums((row.purchase_id, sign[row.kind] * row.amount) for row in books.entries)
    should = {row.purchase_id: row.total if row.status != "refunded" else 0 for row in books.purchases}
    off = []
    for key in sorted(has.keys() | should.keys()):
        if has.get(key, 0) != should.get(key, 0):
            off.append(f"{key}: the cashier has {has.get(key, 0)}, by the shop's book it should be {should.get(key, 0)}")
    return Finding(f"the cashier has {sum(has.values()) / 100:.2f}, which is what the shop's book says", off + _none(has, "paid"))


def _keys(books: Books, saga: str, phase: Phase) -> set[str]:
    return {state.key for state in books.sagas.get(saga, ()) if state.phase is phase}


def _sums(pairs: Iterable[tuple[str, int]]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for key, number in pairs:
        found[key] += number
    return dict(found)


def _none(what: Any, word: str) -> list[str]:
    return [] if what else [f"nothing was {word}: this proves nothing"]


def _rows(service: str, tables: MetaData, table: Table) -> Sequence[Any]:
    store = Store(database(service), tables=tables)
    try:
        with store.read() as connection:
            return connection.execute(select(table)).all()
    finally:
        store.close()
