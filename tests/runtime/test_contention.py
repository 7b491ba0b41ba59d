"""Two groups by mistake on one journal: nothing is lost, and they do not claim it from each other as fast as they can."""

from __future__ import annotations

import asyncio

import orjson

from saga.log.base import Record, TopicPartition
from saga.log.memory import MemoryBroker, MemoryLog
from saga.metrics import Metrics
from saga.runtime.codec import JOURNAL, decode
from saga.runtime.fold import Fold
from saga.runtime.worker import Worker, WorkerSettings
from saga.testing.clock import run
from tests.runtime.kit import specs
from tests.simulation.sagas import book


def test_two_groups_on_one_journal_slow_each_other_down_and_lose_nothing() -> None:
    async def scene() -> None:
        broker = MemoryBroker()
        broker.create(specs(1))
        workers = []
        for group in ("a", "b"):
            log = MemoryLog(broker, group)
            await log.open()
            workers.append(Worker(book(), log, WorkerSettings(1, "earliest", group=group, owner=group), Metrics()))
        runs = [asyncio.create_task(worker.run()) for worker in workers]
        for number in range(200):
            headers = (("ce_id", b"%d" % number), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
            value = orjson.dumps({"order_id": f"o{number}", "total": 1})
            broker.append(TopicPartition("order.events", 0), [Record(None, value, headers)])
            await asyncio.sleep(0.1)
        await asyncio.sleep(30)
        journal = TopicPartition(JOURNAL, 0)
        records = broker.slice(journal, 0, broker.bounds(journal).end)
        claims = sum(decode(record)["kind"] == "claim" for record in records)
        assert 3 < claims < 100, f"{claims} claims in 50 seconds: their pauses do not grow"
        fold = Fold(journal)
        for record in records:
            fold.feed(record)
        assert len(fold.instances) == 200, "each order was taken in once, whoever owned the journal"
        for worker in workers:
            worker.stop()
        await asyncio.gather(*runs)

    run(scene())
