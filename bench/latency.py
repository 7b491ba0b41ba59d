"""How long one saga takes, from when its start was due to when its end was heard, at rates below saturation."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import Any

from bench.readings import Spending, percentile
from bench.stage import Stage
from saga.log.base import Log

SETTLE_SECONDS = 2.0  # of the same load before it counts
DRAIN_SECONDS = 120.0


async def latency(stage: Stage, log: Log, rate: int, seconds: float, broker: Mapping[str, int]) -> dict[str, Any]:
    """Percentiles in milliseconds at so many sagas a second. `broker`: its process, by role, if it is one."""
    async with stage.load(log) as load, asyncio.timeout(seconds + DRAIN_SECONDS):
        await load.steady(rate, SETTLE_SECONDS)
        spending = Spending({**stage.pids(), **broker, "load": os.getpid()})
        ended = await load.steady(rate, seconds)
    stage.check()
    taken = [1000 * (saga.end - saga.due) for saga in ended]
    spread = {"p50": percentile(taken, 0.5), "p95": percentile(taken, 0.95), "p99": percentile(taken, 0.99), "max": max(taken)}
    # A system that cannot keep up is still busy when the last start was due.
    over = max(saga.end for saga in ended) - max(saga.due for saga in ended)
    return {"rate": rate, "sagas": len(taken), "ms": spread, "drained_seconds": over, "others": spending.others()}
