"""The audit: do all the books agree? `python -m services.checkout.audit`; exit code 1 if anything is off, 2 if it cannot be told.

It knows nothing of how the saga works, only what must be true afterwards: every order has one outcome; a completed order has been
paid, taken from stock and shipped exactly once; of any other nothing is left; each outcome was written about and counted once.
Where no reactors ran (they need Faust), `--without-reactors` leaves out what they would have done.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from saga import SagaError
from saga.config import Config
from saga.connect import opened
from saga.engine.state import Instance, Phase
from saga.ops.look import Journals
from services.checkout.books import Books, read_books
from services.checkout.mail import mail_name
from services.checkout.numbers import Row, count
from services.checkout.saga import checkout
from services.checkout.settings import SETTINGS
from services.stage.findings import Finding, counted, render
from topics.values import Money


def audit(books: Books, *, reactors: bool = True) -> list[Finding]:
    """Every check, in the order in which a person asks; of what the reactors did only if they ran."""
    outcomes = _outcomes(books)
    checks: list[Callable[[Books, dict[str, str]], Iterable[Finding]]] = [_orders, _money, _stock, _parcels, _twice, _nets]
    checks += [_letters, _mail_drop, _counted] if reactors else []
    return [finding for check in checks for finding in check(books, outcomes)]


def _outcomes(books: Books) -> dict[str, str]:
    """By order: completed, compensated, parked, or what else its instance is."""
    return {i.key: "parked" if i.parked else str(i.phase) for i in books.instances if i.saga == checkout.name}


def _orders(books: Books, outcomes: dict[str, str]) -> Iterable[Finding]:
    placed = {row.order_id: row for row in books.orders}
    count = Counter(outcomes.get(order_id, "nothing") for order_id in placed)
    off = [] if placed else ["no order was placed at all: this proves nothing"]
    for order_id, row in placed.items():
        outcome = outcomes.get(order_id, "nothing")
        if outcome not in _STATUS:
            off.append(f"order {order_id} has no outcome: the journal says {outcome}")
        elif row.status not in _STATUS[outcome]:
            off.append(f"order {order_id} is {row.status} in the order service, but {outcome} in the journal")
    done, undone = count[Phase.COMPLETED], count[Phase.COMPENSATED]
    without = len(placed) - done - undone
    numbers = f"{done} completed, {undone} compensated, {count['parked']} parked, orders without outcome: {without}"
    yield Finding(f"{counted(len(placed), 'order')} placed: {numbers}", off)
    off = [f"the journal has a checkout of {key}, which nobody placed" for key in sorted(outcomes.keys() - placed.keys())]
    for instance in books.instances:
        expected = set() if instance.live else {f"saga.{instance.phase}.v1"}
        told = books.told.get(instance.id, set())
        if told != expected:
            off.append(
                f"{instance.id}: saga.events tells {sorted(told) or 'nothing'}, the journal {sorted(expected) or 'no outcome'}"
            )
    yield Finding(f"outcomes told to the world: {sum(map(len, books.told.values()))}, each as in the journal", off)


_STATUS: dict[str, tuple[str, ...]] = {
    Phase.COMPLETED: ("confirmed",),
    Phase.COMPENSATED: ("cancelled", "placed"),  # placed: it was compensated before the order service ever accepted it
}


def _money(books: Books, outcomes: dict[str, str]) -> Iterable[Finding]:
    captured = [row for row in books.charges if row["status"] == "captured"]
    price: Counter[str] = Counter()
    for row in books.orders:
        if outcomes.get(row.order_id) == Phase.COMPLETED:
            price[row.currency] += row.total_minor
    taken = _sum((row["currency"], row["amount"]) for row in captured)
    back = _sum((row["currency"], row["amount"]) for row in books.refunds)
    own = _sum((row.currency, row.amount_minor if row.kind == "taken" else -row.amount_minor) for row in books.entries)
    for currency in sorted({*taken, *back, *price, *own}):
        kept, due, booked = taken[currency] - back[currency], price[currency], own[currency]
        off = []
        if kept != due:
            off.append(f"the gateway kept {_money_text(kept, currency)}, completed orders cost {_money_text(due, currency)}")
        if booked != kept:
            off.append(f"the gateway kept {_money_text(kept, currency)}, the payment service says {_money_text(booked, currency)}")
        numbers = f"captured {_money_text(taken[currency], currency)}, refunded {_money_text(back[currency], currency)}"
        yield Finding(f"{numbers}, kept {_money_text(kept, currency)} = completed orders", off)
    theirs = Counter([(r["charge_id"], r["amount"]) for r in captured] + [(r["refund_id"], -r["amount"]) for r in books.refunds])
    ours = Counter((e.gateway_id, e.amount_minor if e.kind == "taken" else -e.amount_minor) for e in books.entries)
    off = [f"{id} over {amount} is in the gateway's books only" for id, amount in theirs - ours]
    off += [f"{id} over {amount} is in the payment service's books only" for id, amount in ours - theirs]
    yield Finding(f"{counted(len(captured), 'charge')} and {counted(len(books.refunds), 'refund')}, each in both books", off)


def _stock(books: Books, _: dict[str, str]) -> Iterable[Finding]:
    reserved = _sum((row.sku, row.quantity) for row in books.movements if row.kind == "reserved")
    released = _sum((row.sku, row.quantity) for row in books.movements if row.kind == "released")
    off = []
    for row in books.stock:
        there = row.start - reserved[row.sku] + released[row.sku]
        if there != row.on_hand or row.on_hand < 0:
            moved = f"{row.start} − {reserved[row.sku]} reserved + {released[row.sku]} released = {there}"
            off.append(f"{row.sku}: {moved}, but {row.on_hand} are on hand")
    off += [f"{sku} was moved, but is no article" for sku in sorted({*reserved, *released} - {row.sku for row in books.stock})]
    numbers = f"{sum(reserved.values())} reserved + {sum(released.values())} released"
    before, after = sum(row.start for row in books.stock), sum(row.on_hand for row in books.stock)
    yield Finding(f"stock: {before} at the start − {numbers} = {after} on hand, never negative", off)


def _parcels(books: Books, _: dict[str, str]) -> Iterable[Finding]:
    booked = [row for row in books.bookings if row["status"] == "booked"]
    theirs, ours = ({(row["key"], row["tracking"]) for row in booked}, {(row.command_id, row.tracking) for row in books.shipments})
    off = [f"{tracking} of {key} is in the carrier's books only" for key, tracking in sorted(theirs - ours)]
    off += [f"{tracking} of {key} is in the shipping service's books only" for key, tracking in sorted(ours - theirs)]
    yield Finding(f"{counted(len(booked), 'parcel')} booked, each in both books", off)


def _twice(books: Books, _: dict[str, str]) -> Iterable[Finding]:
    effects: list[tuple[str, ...]] = []
    effects += [("payment", row.kind, row.command_id) for row in books.entries]
    effects += [("stock", row.sku, row.command_id) for row in books.movements]
    effects += [("shipment", row.command_id) for row in books.shipments]
    effects += [("mail about", row.order_id) for row in books.mails]
    effects += [("order", row.status, row.command_id) for row in books.history]
    effects += [("shipment of order", row.order_id) for row in books.shipments]
    effects += [("charge of", row["reference"]) for row in books.charges if row["status"] == "captured"]
    effects += [("refund of", row["charge_key"]) for row in books.refunds]
    off = [f"{' '.join(effect)}: {count} times" for effect, count in Counter(effects).items() if count > 1]
    yield Finding(f"{counted(len(effects), 'effect')} looked at, done twice: {len(off)}", off)


def _nets(books: Books, outcomes: dict[str, str]) -> Iterable[Finding]:
    """What is left of each order, against what should be."""
    left: dict[str, Counter[str]] = {row.order_id: Counter() for row in books.orders}
    for row in books.entries:
        left.setdefault(row.order_id, Counter())[f"{row.currency} paid"] += _signed(row, "taken", row.amount_minor)
    for row in books.movements:
        left.setdefault(row.order_id, Counter())[f"{row.sku} taken"] += _signed(row, "reserved", row.quantity)
    for row in books.shipments:
        left.setdefault(row.order_id, Counter())["shipped"] += 1
    due = _due(books)
    for phase, wanted in ((Phase.COMPLETED, due), (Phase.COMPENSATED, {})):
        concerned = [order_id for order_id in left if outcomes.get(order_id) == phase]
        off = []
        for order_id in concerned:
            is_left, should = _without_zeros(left[order_id]), wanted.get(order_id, {})
            if is_left != should:
                off.append(f"order {order_id}: left {is_left or 'nothing'}, should be {should or 'nothing'}")
        said = "each paid, taken and shipped once" if phase is Phase.COMPLETED else "of each nothing is left"
        yield Finding(f"{counted(len(concerned), f'{phase} order')}: {said}", off)


def _due(books: Books) -> dict[str, dict[str, int]]:
    """What is left of an order that was completed."""
    due: dict[str, Counter[str]] = {}
    for row in books.orders:
        due[row.order_id] = Counter({f"{row.currency} paid": row.total_minor, "shipped": 1})
    for row in books.lines:
        due.setdefault(row.order_id, Counter())[f"{row.sku} taken"] += row.quantity
    return {order_id: _without_zeros(counted) for order_id, counted in due.items()}


def _letters(books: Books, _: dict[str, str]) -> Iterable[Finding]:
    due = {event_id: _LETTERS[instance.phase] for event_id, instance in _ended(books).items()}
    sent = {row.event_id: row.kind for row in books.mails}
    off = [
        f"{id}: the customer got {sent.get(id, 'no mail')}, should get {kind}" for id, kind in due.items() if sent.get(id) != kind
    ]
    off += [f"{id}: the customer got {kind}, but the journal knows no such outcome" for id, kind in sent.items() if id not in due]
    count = Counter(row.kind for row in books.mails)
    yield Finding(
        f"{counted(count['tracking'], 'tracking mail')}, {counted(count['apology'], 'apology', 'apologies')}: one for each outcome",
        off,
    )


_LETTERS = {Phase.COMPLETED: "tracking", Phase.COMPENSATED: "apology"}


def _mail_drop(books: Books, _: dict[str, str]) -> Iterable[Finding]:
    noted = {row.file: row.event_id for row in books.mails}
    off = [
        f"{name} is in the mail drop, but the notification service knows nothing of it"
        for name in books.files.keys() - noted.keys()
    ]
    off += [
        f"{name} was sent, says the notification service, but it is not in the mail drop"
        for name in noted.keys() - books.files.keys()
    ]
    for name in noted.keys() & books.files.keys():
        if not (books.files[name] == noted[name] and mail_name(noted[name]) == name):
            off.append(f"{name} was written for {books.files[name]!r}, but stands for {noted[name]!r}")
    yield Finding(f"{counted(len(books.files), 'mail')} in the mail drop, one for each outcome", off)


def _counted(books: Books, _: dict[str, str]) -> Iterable[Finding]:
    """Analytics against the journal: each outcome, its time, and what it was worth."""
    due = {}
    for event_id, instance in _ended(books).items():
        total = instance.data["total"]
        due[event_id] = Row(instance.phase is Phase.COMPLETED, instance.ended or 0, total["currency"], total["minor"])
    off = [
        f"{id}: analytics has {books.counted.get(id, 'nothing')}, the journal {due.get(id, 'no such outcome')}"
        for id in sorted(due.keys() | books.counted.keys())
        if books.counted.get(id) != due.get(id)
    ]
    total = count(books.counted.values())
    revenue = ", ".join(_money_text(minor, currency) for currency, minor in sorted(total.revenue.items()))
    yield Finding(f"analytics counts {total.completed} completed ({revenue or 'nothing'}), {total.compensated} compensated", off)


def _ended(books: Books) -> dict[str, Instance]:
    """The checkouts that have an outcome, by the id of the event that tells it."""
    return {f"{i.id}:{i.phase}": i for i in books.instances if i.saga == checkout.name and i.phase in _LETTERS}


def _sum(amounts: Iterable[tuple[str, int]]) -> Counter[str]:
    summed: Counter[str] = Counter()
    for name, amount in amounts:
        summed[name] += amount
    return summed


def _signed(row: Any, kind: str, amount: int) -> int:
    return amount if row.kind == kind else -amount


def _without_zeros(counted: Counter[str]) -> dict[str, int]:
    return {name: count for name, count in counted.items() if count}


def _money_text(minor: int, currency: str) -> str:
    return ("−" if minor < 0 else "") + str(Money(minor=abs(minor), currency=currency))


async def audit_now(config: Config, *, reactors: bool) -> list[Finding]:
    """Read all the books as they are now and check them."""
    async with opened(config, "audit", make=False) as log:
        partitions = len(await Journals(log).partitions())
        return audit(await read_books(SETTINGS, log, partitions, reactors=reactors), reactors=reactors)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m services.checkout.audit", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--without-reactors", action="store_true", help="notification and analytics did not run")
    reactors = not parser.parse_args().without_reactors
    try:
        findings = asyncio.run(audit_now(Config.read(), reactors=reactors))
    except SagaError as error:
        print(f"the books cannot be read: {error}", file=sys.stderr)
        return 2
    print(render(findings))
    return 1 if any(finding.off for finding in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
