"""What a live instance takes in memory, and how fast a process that starts restores what lives.

The instances live the honest way: they are started while no service runs, so each waits for the answer to its first command. Then the
orchestrator is stopped, and a new one restores all of them from the journal.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.readings import memory_bytes, total
from bench.shop import app
from bench.stage import Stage, phases
from saga.log.base import Log, TopicPartition
from saga.runtime.codec import JOURNAL

START_SECONDS = 300.0  # the longest that deciding all those starts may take


async def memory(stage: Stage, log: Log, instances: int) -> dict[str, Any]:
    """On a stage with an orchestrator and nothing else; it is stopped and started again."""
    clock = asyncio.get_running_loop().time
    empty, began = memory_bytes(stage.pids()["orchestrator"]), clock()
    await stage.load(log).pour(instances)
    await stage.until(lambda: _live(stage, instances), START_SECONDS)
    started, grown = clock() - began, memory_bytes(stage.pids()["orchestrator"])
    await asyncio.to_thread(stage.stop, "orchestrator")
    journal = await log.bounds([TopicPartition(JOURNAL, number) for number in range(app.partitions)])
    records = sum(bounds.end - bounds.start for bounds in journal.values())
    stage.orchestrator()
    seconds = await _restored(stage)
    restored = memory_bytes(stage.pids()["orchestrator"])
    assert await _live(stage, instances), "not every instance was restored"
    return {
        "instances": instances,
        "starts_per_second": instances / started,
        "bytes_per_instance": {"started": (grown - empty) / instances, "restored": (restored - empty) / instances},
        "rss_bytes": {"empty": empty, "started": grown, "restored": restored},
        "restore": {
            "seconds": seconds,
            "records": records,
            "records_per_second": records / seconds,
            "instances_per_second": instances / seconds,
        },
    }


async def _restored(stage: Stage) -> float:
    """Seconds from when the new process was given partitions until it runs them all."""
    clock = asyncio.get_running_loop().time
    await stage.until(lambda: _owned(stage), START_SECONDS)
    given = clock()
    await stage.ready()
    return clock() - given


async def _live(stage: Stage, instances: int) -> bool:
    return total(await stage.metrics(), "saga_live") == instances


async def _owned(stage: Stage) -> bool:
    return bool(phases(await stage.metrics()))
