"""Inputs that are gone: the partition stops loudly, the others go on, and only an operator may accept the loss."""

from __future__ import annotations

import asyncio
import re
import signal
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from saga.log.base import TopicPartition
from saga.log.kafka import KafkaLog
from saga.log.partition import home
from saga.ops.look import Journals
from saga.runtime.codec import decode
from saga.topics import specs
from services import app
from tests.conftest import SessionBroker
from tests.kafka.shop import Shop

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]


async def stopped_partitions(s: Shop, orchestrator: str, *, expected: int) -> dict[str, str]:
    """What /healthz says of partitions that stopped, once there are `expected` of them and all others run."""
    found: dict[str, str] = {}

    async def looked() -> bool:
        address = re.search(r"health on (http://[\d.:]+)", s.said(orchestrator))
        if address is None:
            return False
        async with httpx.AsyncClient(base_url=address[1], trust_env=False) as http:
            health = await http.get("/healthz")
            partitions = (await http.get("/readyz")).json()["partitions"]
        found.clear()
        found.update(health.json()["stopped"])
        assert (health.status_code == 503) == bool(found)
        running = sum(text == "running" for text in partitions.values())
        return len(found) == expected and running == app.partitions - expected

    await s.until(looked, f"not {expected} partitions stopped and all others running, but {found}")
    return found


async def stop(s: Shop, orchestrator: str) -> None:
    process = s.crew.take(orchestrator)
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.wait, 30)


async def notes(s: Shop, number: int) -> list[str]:
    values = [decode(record) for record in await s.journal(number)]
    return [value["detail"] for value in values if value["kind"] == "decision" and value["note"] == "inputs"]


async def delete(broker: SessionBroker, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    await admin.delete_topics([topic])
    await admin.close()


def test_retention_that_ate_undecided_inputs_stops_only_that_partition(tmp_path: Path, broker: SessionBroker) -> None:
    async def scene() -> None:
        async with Shop(tmp_path / "shop", broker.bootstrap, f"t{uuid4().hex[:8]}-") as s:
            first = s.start_orchestrator()
            await s.all_owned()
            await s.place(20)
            await s.settle()
            await stop(s, first)
            (lost,) = await s.place(1)
            number = home(lost, app.partitions)
            gone = TopicPartition("order.events", number)

            async def published() -> bool:
                decided = next(fold for fold in await s.folds() if fold.partition.partition == number).positions[gone].offset
                return (await s.log.bounds([gone]))[gone].end > decided

            await s.until(published, "the order was not published")
            await s.log.trim(gone, (await s.log.bounds([gone]))[gone].end)
            second = s.start_orchestrator()
            stopped = await stopped_partitions(s, second, expected=1)
            assert "were deleted before they were decided (retention)" in stopped[str(number)]
            assert f"--accept-loss {gone}" in stopped[str(number)]
            await stop(s, second)
            third = s.start_orchestrator("--accept-loss", str(gone))
            assert not await stopped_partitions(s, third, expected=0)
            assert any("loss accepted" in note for note in await notes(s, number)), "the loss stands in the journal"

    asyncio.run(scene())


def test_a_topic_made_anew_is_refused(tmp_path: Path, broker: SessionBroker) -> None:
    async def scene() -> None:
        prefix = f"t{uuid4().hex[:8]}-"
        async with Shop(tmp_path / "shop", broker.bootstrap, prefix) as s:
            first = s.start_orchestrator()
            await s.all_owned()
            names = await s.place(12)
            await s.settle()
            await stop(s, first)
            touched = {home(name, app.partitions) for name in names}
            await delete(broker, f"{prefix}order.events")

            async def gone() -> bool:
                return not await s.log.describe(["order.events"])

            await s.until(gone, "the topic was not deleted")
            assert s.crew.run("saga.cli", "topics", "apply") == 0
            second = s.start_orchestrator()
            stopped = await stopped_partitions(s, second, expected=len(touched))
            assert {int(number) for number in stopped} >= touched
            assert all("the topic was deleted and made anew" in stopped[str(number)] for number in touched)

    asyncio.run(scene())


def test_a_topic_that_is_deleted_under_a_running_orchestrator_stops_only_who_reads_it(
    tmp_path: Path, broker: SessionBroker
) -> None:
    async def scene() -> None:
        prefix, narrow = f"t{uuid4().hex[:8]}-", 4
        other = KafkaLog(broker.bootstrap, prefix=prefix)
        await other.open()
        wanted = specs(app, replication=1, min_insync=1)
        await other.create([replace(spec, partitions=narrow) for spec in wanted if spec.name == "shipping.events"])
        async with Shop(tmp_path / "shop", broker.bootstrap, prefix) as s:
            orchestrator = s.start_orchestrator()
            await s.all_owned()
            assert not await stopped_partitions(s, orchestrator, expected=0)
            await delete(broker, f"{prefix}shipping.events")
            stopped = await stopped_partitions(s, orchestrator, expected=narrow)
            assert sorted(map(int, stopped)) == list(range(narrow))
            assert all("InputsLost: topic shipping.events was deleted" in text for text in stopped.values())
            still = (f"o{number}" for number in range(1000))
            unheard = next(key for key in still if home(key, app.partitions) >= narrow)
            await s.place(1, order_id=unheard)

            async def decided() -> bool:
                return bool(await Journals(s.log).histories(unheard))

            await s.until(decided, "the other partitions do not go on")
        await other.close()

    asyncio.run(scene())
