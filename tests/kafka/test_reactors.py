"""The reactors as processes on a real Kafka: whatever is killed and however often an outcome is told, it counts once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.broker.settings import free_ports
from saga.engine.decision import Announce, Decision, Input, Kind
from saga.engine.state import instance_id
from saga.errors import Unavailable
from saga.log.base import Outgoing
from saga.log.kafka import KafkaLog
from saga.log.partition import home
from saga.runtime.codec import outgoing
from saga.topics import specs
from services import app
from services.checkout.books import read_counted, read_mail, read_outcomes
from services.checkout.mail import mail_name
from services.checkout.numbers import KEEP
from services.checkout.saga import Checkout
from services.checkout.settings import REACTORS
from services.stage.crew import Crew
from tests.conftest import SessionBroker
from tests.kafka.shop import Shop
from tests.services.shop import ADA, BERLIN, TEA
from topics.values import Money

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

BEGAN = 1_790_000_000_000  # ms; any time, since no outcome is older than the newest by as much as is kept
FAR = KEEP // 6_000 + 1_000  # the number of an order that ends so late that the first ones are no longer kept
PATIENCE = 90.0  # seconds; a reactor starts in three, on a machine with nothing else to do


class Wire:
    """Topics of their own with outcomes on them, as the coordinator publishes them, and the two reactors."""

    def __init__(self, log: KafkaLog, crew: Crew, http: str) -> None:
        self.log = log
        self.crew = crew
        self.told: dict[str, bool] = {}  # the event's id → whether its order was completed
        self._http = f"http://{http}"

    async def tell(self, numbers: range) -> None:
        """The outcomes of these orders: each third is compensated; every ten orders a minute passes."""
        records: list[Outgoing] = []
        for number in numbers:
            key, completed = f"order-{number:04}", number % 3 != 0
            what, instance = "completed" if completed else "compensated", instance_id("checkout", key, BEGAN)
            data = Checkout(
                order_id=key,
                customer=ADA,
                address=BERLIN,
                lines=(TEA,),
                total=Money(minor=1000 + number, currency="EUR" if number % 2 else "JPY"),
                card="tok_visa",
                payment_id="p-1",
                tracking=f"CP{number}",
            )
            told = {"saga": "checkout", "key": key, "instance": instance, "version": 1, "data": data.model_dump(mode="json")}
            announce = Announce(f"saga.{what}.v1", f"{instance}:{what}", told)
            decision = Decision(instance, 9, key, Input(Kind.OTHER), "", outputs=(announce,))
            records += outgoing(decision, home(key, app.partitions), BEGAN + number * 6_000)
            self.told[announce.id] = completed
        await self.until(lambda: self._published(records), "the outcomes cannot be published")

    async def _published(self, records: Sequence[Outgoing]) -> bool:
        try:
            await self.log.publish(records)
        except Unavailable:  # a topic that was just made may have no leader yet; the caller of `publish` publishes all again
            return False
        return True

    def start(self, *names: str) -> None:
        for name in names:
            self.crew.start(name, "services.checkout", name)

    def mails(self) -> dict[str, str]:
        return read_mail(self.crew.folder / "data" / "mail")

    async def numbers(self, window: int = 60) -> Any:
        """What analytics says, or None while it cannot."""
        async with httpx.AsyncClient(trust_env=False) as http:
            with contextlib.suppress(httpx.TransportError):
                answer = await http.get(f"{self._http}/numbers", params={"window": window})
                if answer.status_code == 200:
                    return answer.json()
        return None

    async def counted(self) -> int:
        """How many outcomes analytics has, once all partitions are its own."""
        said = await self.numbers()
        if said is None or len(said["partitions"]) < app.partitions:
            return -1
        return int(said["total"]["completed"] + said["total"]["compensated"])

    async def until(self, look: Callable[[], Awaitable[bool]], what: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                while not await look():  # what is looked at are other processes
                    self.crew.check()
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{what}, after {PATIENCE:g} s") from None


@asynccontextmanager
async def wire(folder: Path, bootstrap: str, **more: str) -> AsyncIterator[Wire]:
    prefix = f"r-{uuid.uuid4().hex[:8]}-"
    (port,) = free_ports(1)
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("SAGA_", "CHECKOUT_"))}
    environment |= {"SAGA_BOOTSTRAP": bootstrap, "SAGA_PREFIX": prefix, "SAGA_DEV": "1", "SAGA_SESSION_SECONDS": "2"}
    environment |= {"CHECKOUT_DATA": str(folder / "data"), "CHECKOUT_ANALYTICS_HTTP": f"127.0.0.1:{port}", **more}
    log = KafkaLog(bootstrap, client_id="test", prefix=prefix)
    await log.open()
    crew = Crew(folder, environment, keep=False)
    try:
        await log.create([spec for spec in specs(app, replication=1, min_insync=1) if spec.name == "saga.events"])
        yield Wire(log, crew, f"127.0.0.1:{port}")
    finally:
        crew.stop()
        await log.close()


def test_reactors_that_are_killed_and_told_everything_twice_act_once(broker: SessionBroker, tmp_path: Path) -> None:
    async def story() -> None:
        async with wire(tmp_path, broker.bootstrap) as at:
            await at.tell(range(300))
            for least in (1, 150):
                at.start(*REACTORS)

                async def in_the_middle(least: int = least) -> bool:
                    return len(at.mails()) >= least and await at.counted() >= least

                await at.until(in_the_middle, "the reactors do not begin")
                for name in REACTORS:
                    at.crew.kill(name)
                await at.tell(range(250, 350))  # some are told again, as an orchestrator's successor does it; some are new
            await at.tell(range(350))
            at.start(*REACTORS)

            async def all_there() -> bool:
                return await at.counted() >= 350 and len(at.mails()) >= 350

            await at.until(all_there, "not everything has arrived")
            at.told.clear()
            await at.tell(range(360))  # an end that can be seen: what comes before it in each partition has been handled
            await at.tell(range(360, 480))
            await at.until(lambda: _is(at.counted, 480), "the last outcomes have not arrived")
            await at.until(lambda: _is(_as_coroutine(lambda: len(at.mails())), 480), "the last mails were not written")
            await _check(at)
            at.crew.kill("analytics")
            at.start("analytics")
            await at.until(lambda: _is(at.counted, 480), "the table did not survive its process")
            await _check(at)
            await at.tell(range(FAR, FAR + 1))
            left = sum(1 for id in at.told if home(id.split(":")[1], app.partitions) != home(f"order-{FAR}", app.partitions))
            await at.until(
                lambda: _exactly(at.counted, left + 1), "what is two days older in that partition does not leave the table"
            )
            assert len(await read_counted(at.log, app.partitions)) == left + 1
            for name in REACTORS:
                process = at.crew.take(name)
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, PATIENCE) == 0, f"{name} did not stop in order"

    asyncio.run(story())


async def _is(look: Callable[[], Awaitable[int]], wanted: int) -> bool:
    found = await look()
    assert found <= wanted, f"{found} of {wanted}: something was done twice"
    return found == wanted


async def _exactly(look: Callable[[], Awaitable[int]], wanted: int) -> bool:
    return await look() == wanted


def _as_coroutine(look: Callable[[], int]) -> Callable[[], Awaitable[int]]:
    async def looked() -> int:
        return look()

    return looked


async def _check(at: Wire) -> None:
    assert at.mails() == {mail_name(id): id for id in at.told}
    expected = {"EUR": 0, "JPY": 0}
    for number in range(len(at.told)):
        if number % 3:
            expected["EUR" if number % 2 else "JPY"] += 1000 + number
    said = await at.numbers(window=600)
    completed = sum(at.told.values())
    assert said["total"] == {"completed": completed, "compensated": len(at.told) - completed, "revenue": expected}
    assert len(said["windows"]) in (5, 6), "480 orders at ten a minute are 48 minutes"
    assert sum(window["completed"] for window in said["windows"]) == completed
    assert len(await read_counted(at.log, app.partitions)) == len(at.told), "the changelog is what the table is made of"


def test_the_audit_finds_every_mail_and_every_number_of_real_orders(broker: SessionBroker, tmp_path: Path) -> None:
    async def story() -> None:
        async with Shop(tmp_path, broker.bootstrap, f"r-{uuid.uuid4().hex[:8]}-", reactors=True) as shop:
            shop.start_orchestrator()
            await shop.place(20)
            await shop.settle()

            async def heard() -> bool:
                shop.crew.check()
                counted, outcomes = await read_counted(shop.log, app.partitions), await read_outcomes(shop.log, app.partitions)
                return min(len(counted), len(read_mail(tmp_path / "data" / "mail"))) >= len(outcomes)

            await shop.until(heard, "the reactors have not heard of every outcome")
            shop.audit()

    asyncio.run(story())
