"""The main job under fire, on a real Kafka and on a file log: processes killed, stopped and woken; all books are audited afterwards."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from saga.runtime.codec import decode
from services import app
from tests.kafka.shop import Shop

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(params=["file", pytest.param("kafka", marks=pytest.mark.kafka)])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    where = f"file:{tmp_path / 'log'}" if request.param == "file" else request.getfixturevalue("broker").bootstrap
    return Shop(tmp_path / "shop", where, f"t{uuid4().hex[:8]}-")


def test_twenty_kills_of_the_orchestrator_lose_and_double_nothing(shop: Shop) -> None:
    seed = Random().randrange(10**6)
    print(f"seed {seed}")
    random = Random(seed)

    async def scene() -> None:
        async with shop as s:
            alive = [s.start_orchestrator(), s.start_orchestrator()]
            await s.all_owned()
            for _ in range(20):
                placing = asyncio.create_task(s.place(6))
                await asyncio.sleep(random.random() * 2)  # the random moment: of placing, deciding, or rebalancing
                victim = alive.pop(random.randrange(2))
                s.crew.kill(victim)
                alive.append(s.start_orchestrator())
                await placing
                await s.settle()
                s.audit()
            await s.folds()
            assert s.crew.run("saga.cli", "replay", quiet=True) == 0, "the journal does not agree with itself"

    asyncio.run(scene())


def test_a_paused_owner_that_wakes_up_changes_nothing(shop: Shop) -> None:
    async def scene() -> None:
        async with shop as s:
            sleeper = s.start_orchestrator()
            await s.all_owned()
            before = await s.owners()
            await s.place(10)
            s.pause(sleeper)
            s.start_orchestrator()

            async def taken_over() -> bool:
                now = await s.owners()
                return all(now[number] != before[number] for number in before)

            await s.until(taken_over, "nobody took over from the paused owner")
            await s.place(10)
            await s.settle()
            s.signal(sleeper, signal.SIGCONT)
            await s.place(10)
            await s.settle()
            s.audit()
            await s.folds()  # raises if a batch counts whose writer had not claimed last
            assert await valid_batches_after_losing(s, set(before.values())) == 0

    asyncio.run(scene())


async def valid_batches_after_losing(s: Shop, owners: set[str]) -> int:
    """Batches that count, by one of `owners`, after somebody else claimed and before it claimed again itself."""
    found = 0
    for number in range(app.partitions):
        claimed = ""
        for record in await s.journal(number):
            value = decode(record)
            if value["kind"] == "claim":
                claimed = value["owner"]
            elif value["kind"] == "commit" and value["offset"] == record.offset:
                found += value["owner"] in owners and value["owner"] != claimed
    return found


def test_an_orchestrator_that_is_told_to_stop_leaves_at_once(shop: Shop) -> None:
    async def scene() -> None:
        async with shop as s:
            first, _ = s.start_orchestrator(), s.start_orchestrator()
            await s.all_owned()
            await s.place(10)
            s.signal(first, signal.SIGTERM)
            await s.place(10)
            await s.settle()
            s.audit()
            assert "Traceback" not in s.said(first)

    asyncio.run(scene())


def test_payment_killed_between_the_charge_and_its_answer_charges_once(shop: Shop) -> None:
    async def scene() -> None:
        async with shop as s:
            s.start_orchestrator()
            await s.all_owned()
            names = await s.place(3, card="tok_slow")  # the gateway charges, and answers, a second after it was asked

            async def asked() -> bool:
                return len(s.gateway("SELECT key FROM requests")) == len(names)

            await s.until(asked, "the gateway was not asked")
            s.crew.kill("payment")

            async def charged() -> bool:
                return len(s.gateway("SELECT key FROM charges")) == len(names)

            await s.until(charged, "the gateway did not charge")
            s.crew.start("payment", "services.checkout", "payment")
            await s.settle()
            s.audit()
            assert len(s.gateway("SELECT key FROM charges WHERE status = 'captured'")) == len(names), "each was charged once"

    asyncio.run(scene())
