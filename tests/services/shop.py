"""Services as they run in production, on databases in a folder, a log in memory and a real gateway server on a free port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Table, select

from saga.cloudevents import CloudEvent, header_fields, iso_time, parse
from saga.engine.messages import Command
from saga.engine.state import instance_id
from saga.log.base import Outgoing, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.participant import ParticipantRunner, Store
from saga.participant.store import wall_clock
from services.checkout.gateway import CuttableProtocol, gateway_api
from services.checkout.ledger import Ledger
from services.checkout.process import Service
from services.stage.web import serve
from topics.values import Address, Customer, Line, Money

PARTITIONS = 4
PATIENCE = 20.0  # seconds until a test gives up waiting

ADA = Customer(customer_id="c-1", name="Ada Example", email="ada@customer.example")
BERLIN = Address(street="Lindenstr. 1", city="Berlin", postcode="10969", country="DE")
TEA = Line(sku="TEA-EARL-GREY", quantity=2, unit_price=Money(minor=995, currency="EUR"))
PRICE = Money(minor=1990, currency="EUR")


@dataclass(frozen=True)
class Answer:
    """A participant's reply."""

    outcome: str
    type: str
    data: Any


class Desk:
    """One service, asked as the orchestrator asks it."""

    def __init__(self, service: Service, url: str) -> None:
        self.service = service
        self.name = service.participant.name
        self.started = wall_clock()  # of all its sagas: a command of an older one would be `expired`
        self.store = Store(url, tables=service.tables)
        self.log = MemoryLog(MemoryBroker(session_timeout=1.0, rebalance_timeout=2.0))

    def instance(self, key: str) -> str:
        return instance_id("checkout", key, self.started)

    def id(self, key: str, step: str = "step", action: str = "execute") -> str:
        """The id of a command."""
        return f"{self.instance(key)}:{step}:{action}"

    async def send(self, command: Command[Any], key: str, *, step: str = "step", action: str = "execute", attempt: int = 1) -> None:
        """Send a command without waiting for its answer; `compensate` and `verify` are about the step's execute."""
        id = self.id(key, step, action)
        attributes = {"sagainstance": self.instance(key), "sagacommand": id, "sagaaction": action, "sagaattempt": str(attempt)}
        if action != "execute":
            attributes["sagasubject"] = self.id(key, step, "execute")
        content = command.model_dump(mode="json")
        sent = CloudEvent(command.__type__, f"{id}:{attempt}", "saga", content, iso_time(wall_clock()), key, attributes)
        to = TopicPartition(f"{self.name}.commands", home(key, PARTITIONS))
        await self.log.publish([Outgoing(to, sent.record(key.encode()))])

    async def ask(
        self, command: Command[Any], key: str, *, step: str = "step", action: str = "execute", attempt: int = 1
    ) -> Answer:
        """Send a command and wait for the answer to this attempt."""
        await self.send(command, key, step=step, action=action, attempt=attempt)
        return await self.answer(key, step=step, action=action, count=attempt)

    async def answer(self, key: str, *, step: str = "step", action: str = "execute", count: int = 1) -> Answer:
        """The `count`th answer to a command."""
        id = self.id(key, step, action)
        found: list[StoredRecord] = []

        async def there() -> bool:
            nonlocal found
            found = [r for r in await self.published() if header_fields(r.headers).get("sagacommand") == id]
            return len(found) >= count

        await eventually(there, f"{count} answers to {id}")
        event = parse(found[count - 1])
        return Answer(event.attributes["sagaoutcome"], event.type, event.data)

    async def published(self) -> list[StoredRecord]:
        """All that the service has said so far."""
        partitions = [TopicPartition(f"{self.name}.events", number) for number in range(PARTITIONS)]
        found: list[StoredRecord] = []
        for partition, held in (await self.log.bounds(partitions)).items():
            async for lump in self.log.read(partition, held.start, held.end):
                found += lump
        return found

    async def rows(self, table: Table) -> list[Any]:
        return await self.store.look(lambda connection: list(connection.execute(select(table)).all()))


@asynccontextmanager
async def desk(service: Service, folder: Path) -> AsyncIterator[Desk]:
    """The service at work."""
    opened, stop = Desk(service, f"sqlite:///{folder / service.participant.name}.db"), asyncio.Event()
    await opened.log.open()
    topics = (f"{opened.name}.commands", f"{opened.name}.events", "saga.deadletter")
    await opened.log.create([TopicSpec(topic, PARTITIONS) for topic in topics])
    if service.prepare:
        await opened.store.run(service.prepare)
    running = asyncio.create_task(ParticipantRunner(service.participant, opened.store, opened.log).run(stop))
    try:
        yield opened
    finally:
        stop.set()
        await asyncio.wait_for(running, PATIENCE)
        if service.close:
            await service.close()
        await opened.log.close()
        opened.store.close()


@asynccontextmanager
async def served(app: Any, **more: Any) -> AsyncIterator[str]:
    """The address of a real HTTP server that serves this."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    stop = asyncio.Event()
    running = asyncio.create_task(serve(app, address, stop, **more))
    async with httpx.AsyncClient(trust_env=False) as client:

        async def answers() -> bool:
            try:
                return (await client.get(f"http://{address}/healthz")).status_code == 200
            except httpx.ConnectError:
                return False

        await eventually(answers, f"an answer at {address}")
        try:
            yield f"http://{address}"
        finally:
            stop.set()
            await asyncio.wait_for(running, PATIENCE)


@asynccontextmanager
async def gateway_server(folder: Path) -> AsyncIterator[tuple[str, Ledger]]:
    """The address of a gateway, and its books."""
    ledger = Ledger(folder / "gateway.db")
    try:
        async with served(gateway_api(ledger), protocol=CuttableProtocol) as address:
            yield address, ledger
    finally:
        ledger.close()


async def eventually(look: Callable[[], Any], what: str) -> None:
    """Wait until `await look()` holds."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE
    while not await look():
        assert loop.time() < until, f"waited {PATIENCE:g} s for {what}"
        await asyncio.sleep(0.01)
