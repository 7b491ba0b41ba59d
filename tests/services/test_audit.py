"""The audit finds nothing in books that are right, and names what is wrong in books that were broken on purpose.

The books are real: orders over HTTP through all services, the gateway and an orchestrator, in one process over a log in memory.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from saga.cloudevents import parse
from saga.engine.state import Parked, Phase
from saga.errors import Unavailable
from saga.log.base import Outgoing, Record, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.metrics import Metrics
from saga.participant import ParticipantRunner, Store
from saga.runtime.codec import EVENTS
from saga.runtime.worker import Worker, WorkerSettings
from saga.topics import specs
from services import app
from services.checkout import inventory, order, payment, shipping
from services.checkout.__main__ import DEFINITIONS
from services.checkout.audit import audit
from services.checkout.books import Books, read_books, read_counted, read_databases, read_outcomes
from services.checkout.carriers import CARRIERS, Carriers
from services.checkout.mail import TABLES, Mailer
from services.checkout.numbers import CHANGELOG, Row, encode_row, row_of
from services.checkout.outcomes import outcome_of
from services.checkout.settings import Settings
from services.stage.findings import render
from tests.services.shop import ADA, BERLIN, PATIENCE, TEA, eventually, gateway_server, served
from topics.values import Address, Line, Money

JERSEY = Address(street="King Street 1", city="Saint Helier", postcode="JE2 4WE", country="GB")
VIENNA = Address(street="Ring 1", city="Wien", postcode="1010", country="AT")
RARE = Line(sku="RARE", quantity=1, unit_price=Money(minor=5000, currency="USD"))
STOCK = {TEA.sku: 100, RARE.sku: 1}

# Order → its card, address and line, and how it must end.
STORY: dict[str, tuple[str, Address, Line, Phase]] = {
    "good-1": ("tok_visa", BERLIN, TEA, Phase.COMPLETED),
    "good-2": ("tok_visa", BERLIN, RARE, Phase.COMPLETED),
    "lost-answer": ("tok_lost_answer", BERLIN, TEA, Phase.COMPLETED),
    "late-carrier": ("tok_visa", VIENNA, TEA, Phase.COMPLETED),
    "declined": ("tok_declined", BERLIN, TEA, Phase.COMPENSATED),
    "no-stock": ("tok_visa", BERLIN, RARE.model_copy(update={"quantity": 5}), Phase.COMPENSATED),
    "refused-address": ("tok_visa", JERSEY, TEA, Phase.COMPENSATED),
}


@asynccontextmanager
async def whole_shop(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, MemoryLog]]:
    """Everything at work: the order service's HTTP client, and a log to look at."""
    settings, stop = Settings(data=folder), asyncio.Event()
    now = time.time() - asyncio.get_running_loop().time()  # the participants' clock is the wall's, so the log's must be, too
    broker = MemoryBroker(epoch=now, session_timeout=1.0, rebalance_timeout=2.0)
    async with AsyncExitStack() as open_things:
        looking = MemoryLog(broker)
        await looking.open()
        await looking.create(specs(app, replication=1, min_insync=1))
        running = []
        for name, service in DEFINITIONS.items():
            store, log = Store(settings.database(name), tables=service.tables), MemoryLog(broker)
            open_things.callback(store.close)
            await log.open()
            if service.prepare:
                await store.run(service.prepare)
            running.append(asyncio.create_task(ParticipantRunner(service.participant, store, log).run(stop)))
            if name == "order":
                address = await open_things.enter_async_context(served(order.api(store)))
        log = MemoryLog(broker)
        await log.open()
        worker = Worker(app.book, log, WorkerSettings(partitions=app.partitions, begin="earliest"), Metrics())
        running.append(asyncio.create_task(worker.run()))
        try:
            async with httpx.AsyncClient(base_url=address, trust_env=False) as http:
                yield http, looking
        finally:
            stop.set()
            worker.stop()
            await asyncio.wait_for(asyncio.gather(*running), PATIENCE)


async def tell_story(folder: Path, patch: pytest.MonkeyPatch) -> Books:
    """Place the orders, wait for their outcomes, and read the books."""
    (folder / "start.json").write_text(json.dumps(STOCK))
    quicker = tuple(replace(carrier, answers_after=carrier.answers_after / 20) for carrier in CARRIERS)
    patch.setattr(inventory, "SETTINGS", Settings(stock=folder / "start.json"))
    patch.setattr(shipping, "carriers", Carriers(folder / "carriers.db", quicker))
    async with gateway_server(folder) as (address, _):
        client = payment.Gateway(address)
        patch.setattr(payment, "gateway", client)
        async with whole_shop(folder) as (http, log):
            for order_id, (card, where, line, _) in STORY.items():
                asked = {"order_id": order_id, "customer": ADA.model_dump(), "address": where.model_dump(), "card": card}
                answer = await http.post("/orders", json={**asked, "lines": [line.model_dump()]})
                assert answer.status_code == 201, answer.text

            async def settled() -> bool:
                return len(await read_outcomes(log, app.partitions)) == len(STORY)

            await eventually(settled, "an outcome of every order")
            await client.close()
            await react(folder, log)
            return await read_books(Settings(data=folder), log, app.partitions)


async def react(folder: Path, log: MemoryLog) -> None:
    """Do to every outcome what the reactors do to it; that they get every one from a real Kafka is another test's matter."""
    await log.create([TopicSpec(CHANGELOG, app.partitions)])
    store = Store(Settings(data=folder).database("notification"), tables=TABLES)
    mailer = Mailer(folder / "mail", store)
    topic = [TopicPartition(EVENTS, number) for number in range(app.partitions)]
    for partition, held in (await log.bounds(topic)).items():
        async for lump in log.read(partition, held.start, held.end):
            for event in map(parse, lump):
                mailer.handle(event)
                if outcome := outcome_of(event):
                    key = f"{partition.partition}/{outcome.id}".encode()
                    row = Record(key, encode_row(row_of(outcome)))
                    await log.publish([Outgoing(TopicPartition(CHANGELOG, partition.partition), row)])
    store.close()


@dataclass
class Scene:
    """Books that may be broken: a copy of the databases, and of what the journal said."""

    folder: Path
    from_the_log: Books

    def change(self, database: str, statement: str) -> None:
        """Break a database."""
        connection = sqlite3.connect(self.folder / f"{database}.db")
        with connection:
            assert connection.execute(statement).rowcount > 0, f"nothing was broken: {statement}"
        connection.close()

    def books(self) -> Books:
        books = read_databases(Settings(data=self.folder))
        books.instances, books.told, books.counted = (
            self.from_the_log.instances,
            self.from_the_log.told,
            self.from_the_log.counted,
        )
        return books

    def off(self) -> list[str]:
        return [what for finding in audit(self.books()) for what in finding.off]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Books]:
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        books = asyncio.run(tell_story(folder, patch))
    return folder, books


@pytest.fixture
def scene(healthy: tuple[Path, Books], tmp_path: Path) -> Scene:
    folder, books = healthy
    shutil.copytree(folder, tmp_path / "data")
    return Scene(tmp_path / "data", deepcopy(Books(instances=books.instances, told=books.told, counted=books.counted)))


def test_every_order_ends_as_it_must_and_the_audit_finds_nothing(healthy: tuple[Path, Books]) -> None:
    _, books = healthy
    assert {i.key: i.phase for i in books.instances} == {order_id: how for order_id, (*_, how) in STORY.items()}
    findings = audit(books)
    assert [finding.off for finding in findings if finding.off] == [], render(findings)
    assert len(findings) >= 8
    assert "7 orders placed: 4 completed, 3 compensated, 0 parked, orders without outcome: 0" in render(findings)
    assert "4 tracking mails, 3 apologies" in render(findings)
    assert "analytics counts 4 completed (59.70 EUR, 50.00 USD), 3 compensated" in render(findings)
    assert "4 parcels booked, each in both books" in render(findings)
    assert "captured 79.60 EUR, refunded 19.90 EUR, kept 59.70 EUR" in render(findings)


BREAKS: dict[str, tuple[str, str, str]] = {
    "money taken twice": (
        "gateway",
        "INSERT INTO charges SELECT key || '2', charge_id || '2', status, reference, amount, currency, card, at FROM charges "
        "WHERE reference = 'order good-1'",
        "the gateway kept 79.60 EUR, completed orders cost 59.70 EUR",
    ),
    "two charges of one order": (
        "gateway",
        "INSERT INTO charges SELECT key || '2', charge_id || '2', status, reference, 0, currency, card, at FROM charges "
        "WHERE reference = 'order good-1'",
        "charge of order good-1: 2 times",
    ),
    "a refund that never was": ("gateway", "DELETE FROM refunds", "the gateway kept 79.60 EUR, completed orders cost 59.70 EUR"),
    "a payment that is in one book only": (
        "payment",
        "DELETE FROM payment_entries WHERE order_id = 'good-1'",
        "the gateway kept 59.70 EUR, the payment service says 39.80 EUR",
    ),
    "a payment that stands twice": (
        "payment",
        "INSERT INTO payment_entries (order_id, kind, amount_minor, currency, gateway_id, command_id, at) "
        "SELECT order_id, kind, amount_minor, currency, gateway_id, command_id, at FROM payment_entries WHERE order_id = 'good-1'",
        "payment taken checkout:good-1:",
    ),
    "stock that came from nowhere": (
        "inventory",
        "UPDATE stock SET on_hand = on_hand + 1 WHERE sku = 'RARE'",
        "RARE: 1 − 1 reserved",
    ),
    "a reservation that was not released": (
        "inventory",
        "DELETE FROM stock_movements WHERE kind = 'released'",
        "order refused-address: left {'TEA-EARL-GREY taken': 2}, should be nothing",
    ),
    "an order that was shipped twice": (
        "shipping",
        "INSERT INTO shipments (order_id, carrier, tracking, recipient, country, postcode, command_id, at) "
        "SELECT order_id, carrier, tracking, recipient, country, postcode, 'another', at FROM shipments WHERE order_id = 'good-1'",
        "shipment of order good-1: 2 times",
    ),
    "an order that was not shipped": ("shipping", "DELETE FROM shipments WHERE order_id = 'good-2'", "order good-2: left {"),
    "a parcel that the carrier fetches and nobody knows of": (
        "carriers",
        "INSERT INTO bookings SELECT key || '2', status, carrier, tracking || '2', recipient, country, postcode, at FROM bookings "
        "WHERE key LIKE 'checkout:good-1:%'",
        "is in the carrier's books only",
    ),
    "a parcel that no carrier knows of": (
        "carriers",
        "UPDATE bookings SET status = 'closed' WHERE key LIKE 'checkout:good-1:%'",
        "is in the shipping service's books only",
    ),
    "a status that contradicts the journal": (
        "order",
        "UPDATE orders SET status = 'cancelled' WHERE order_id = 'good-1'",
        "order good-1 is cancelled in the order service, but completed in the journal",
    ),
    "an order that is gone": ("order", "DELETE FROM orders WHERE order_id = 'good-1'", "a checkout of good-1, which nobody placed"),
    "a tracking mail for an order that was cancelled": (
        "notification",
        "UPDATE mails SET kind = 'tracking' WHERE order_id = 'declined'",
        ":compensated: the customer got tracking, should get apology",
    ),
    "two mails about one order": (
        "notification",
        "INSERT INTO mails (event_id, order_id, kind, recipient, message_id, file, posted, trace, at) "
        "SELECT event_id || '2', order_id, kind, recipient, message_id, file, posted, trace, at FROM mails WHERE order_id = 'good-1'",
        "mail about good-1: 2 times",
    ),
    "a mail nobody knows of": ("notification", "DELETE FROM mails WHERE kind = 'apology'", "knows nothing of it"),
}


@pytest.mark.parametrize(("database", "statement", "named"), BREAKS.values(), ids=BREAKS.keys())
def test_a_broken_book_is_found_and_named(scene: Scene, database: str, statement: str, named: str) -> None:
    assert scene.off() == []
    scene.change(database, statement)
    off = scene.off()
    assert any(named in what for what in off), off


def test_a_mail_that_is_gone_and_one_too_many_are_found(scene: Scene) -> None:
    drop = scene.folder / "mail"
    first, second, *_ = sorted(drop.iterdir())
    shutil.copy(first, drop / "again.eml")
    second.unlink()
    off = "\n".join(scene.off())
    assert "again.eml is in the mail drop, but" in off
    assert f"{second.name} was sent, says the notification service" in off


def test_a_number_that_is_missing_one_too_many_and_one_that_is_wrong_are_found(scene: Scene) -> None:
    counted = scene.from_the_log.counted
    good, other, third = sorted(id for id in counted if id.endswith(":completed"))[:3]
    counted[good] = counted[good]._replace(minor=1)
    counted["checkout:nobody:x:completed"] = counted.pop(other)
    counted[third] = counted[third]._replace(at=1)
    off = scene.off()
    for id in (good, other, third, "checkout:nobody:x:completed"):
        assert any(what.startswith(f"{id}: analytics has") for what in off), off


def test_an_outcome_that_analytics_has_in_two_partitions_is_counted_twice() -> None:
    async def story() -> list[str]:
        log = MemoryLog(MemoryBroker())
        await log.open()
        await log.create([TopicSpec(CHANGELOG, 2)])
        row = encode_row(Row(True, 1, "EUR", 100))
        for partition in (0, 1):
            await log.publish([Outgoing(TopicPartition(CHANGELOG, partition), Record(f"{partition}/e-1".encode(), row))])
        return sorted(await read_counted(log, 2))

    assert asyncio.run(story()) == ["1/e-1", "e-1"]


def test_without_reactors_nothing_of_theirs_is_looked_for(scene: Scene) -> None:
    (scene.folder / "notification.db").unlink()
    shutil.rmtree(scene.folder / "mail")
    books = read_databases(Settings(data=scene.folder), reactors=False)
    books.instances, books.told = scene.from_the_log.instances, scene.from_the_log.told
    findings = audit(books, reactors=False)
    assert [finding.off for finding in findings if finding.off] == []
    assert not any("mail" in finding.what or "analytics" in finding.what for finding in findings)
    with pytest.raises(Unavailable, match=r"there is no database .*notification\.db"):
        read_databases(Settings(data=scene.folder))


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.COMPENSATING])
def test_an_order_without_outcome_is_found(scene: Scene, phase: Phase) -> None:
    next(i for i in scene.from_the_log.instances if i.key == "good-1").phase = phase
    assert f"order good-1 has no outcome: the journal says {phase}" in scene.off()


def test_a_parked_order_and_one_the_journal_never_heard_of_are_found(scene: Scene) -> None:
    instances = scene.from_the_log.instances
    parked = next(i for i in instances if i.key == "good-2")
    parked.phase, parked.parked = Phase.RUNNING, Parked("unknown", 0, "ship")
    instances.remove(next(i for i in instances if i.key == "declined"))
    off = scene.off()
    assert "order good-2 has no outcome: the journal says parked" in off
    assert "order declined has no outcome: the journal says nothing" in off


def test_an_outcome_that_was_told_twice_in_different_words_is_found(scene: Scene) -> None:
    told = next(i.id for i in scene.from_the_log.instances if i.key == "good-1")
    scene.from_the_log.told[told].add("saga.compensated.v1")
    assert any("good-1" in what and "saga.events tells" in what for what in scene.off())


def test_no_orders_at_all_are_no_proof_and_no_database_cannot_be_audited(tmp_path: Path) -> None:
    assert any("this proves nothing" in what for finding in audit(Books()) for what in finding.off)
    with pytest.raises(Unavailable, match=r"there is no database .*order\.db"):
        read_databases(Settings(data=tmp_path))
