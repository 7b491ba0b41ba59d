"""How much goes through when there is always more to do; and what one saga costs then, by process."""

from __future__ import annotations

import asyncio
import os
from dataclasses import asdict, dataclass
from typing import Any

from bench.load import Load
from bench.readings import Histogram, cpu_seconds
from bench.stage import Stage
from saga.log.base import Log

IN_FLIGHT = 2000  # sagas at once: 125 for each of 16 partitions, so nobody waits for the load
TURN_SECONDS = 60.0  # the longest that the first turn may take


@dataclass(frozen=True)
class Throughput:
    """`cpu`: milliseconds of processor time of each process for one saga; "load" is this process."""

    sagas_per_second: float
    seconds: float
    cpu: dict[str, float]

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


async def throughput(stage: Stage, log: Log, broker: int, seconds: float, in_flight: int = IN_FLIGHT) -> Throughput:
    """Completed sagas a second in a window of so many seconds, after everything that was started first has come round once."""
    pids = {**stage.pids(), "broker": broker, "load": os.getpid()}
    async with stage.load(log) as load:
        stop = asyncio.Event()
        saturating = asyncio.create_task(load.saturate(in_flight, stop))
        try:
            async with asyncio.timeout(TURN_SECONDS):
                while len(load.ended) < in_flight:
                    await load.changed()
            measured = await _window(load, pids, seconds)
            stage.check()
        finally:
            stop.set()
            await saturating
        async with asyncio.timeout(TURN_SECONDS):
            await load.drained()
    return measured


async def _window(load: Load, pids: dict[str, int], seconds: float) -> Throughput:
    clock = asyncio.get_running_loop().time
    cpu, ended, began = cpu_seconds(pids), len(load.ended), clock()
    await asyncio.sleep(seconds)  # the window itself
    took, done, spent = clock() - began, len(load.ended) - ended, cpu_seconds(pids)
    each = {role: 1000 * (spent[role] - cpu[role]) / max(done, 1) for role in pids}
    return Throughput(done / took, took, each)


async def saturated(stage: Stage, log: Log, broker: int, seconds: float) -> dict[str, Any]:
    """Throughput, processor time, and the size and time of a commit, of the orchestrator that runs on this stage."""
    before = await stage.metrics()
    found = await throughput(stage, log, broker, seconds)
    after = await stage.metrics()

    def during(name: str) -> Histogram:
        return Histogram.read(after, name).since(Histogram.read(before, name))

    inputs, append = during("saga_journal_commit_inputs"), during("saga_journal_append_seconds")
    return asdict(found) | {
        "in_flight": IN_FLIGHT,
        "cpu_total": found.cpu_total,
        "commit_inputs": {"mean": inputs.mean, "p50": inputs.quantile(0.5), "p95": inputs.quantile(0.95)},
        "append_ms": {name: 1000 * value for name, value in _spread(append).items()},
    }


def _spread(histogram: Histogram) -> dict[str, float]:
    return {
        "mean": histogram.mean,
        "p50": histogram.quantile(0.5),
        "p95": histogram.quantile(0.95),
        "p99": histogram.quantile(0.99),
    }
