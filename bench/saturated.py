"""How much goes through when there is always more to do; and what one saga costs then, by process.

Where a fixed number of sagas is in flight they travel in lots, and end in lots. A window of so many seconds would see some more or some
less of them by chance. So the window is a whole number of turns: it begins when as many sagas have ended as are in flight, and ends
when that many have ended again, and again.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bench.load import Load
from bench.readings import Histogram, Spending
from bench.stage import Stage
from saga.log.base import Log

TURN_SECONDS = 120.0  # the longest that one turn may take


@dataclass(frozen=True)
class Throughput:
    """`cpu`: milliseconds of processor time of each process for one saga; "load" is this process. `others`: see Spending."""

    sagas_per_second: float
    seconds: float
    cpu: dict[str, float]
    others: float

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


@dataclass(frozen=True)
class Closed:
    """A closed loop: so many sagas in flight, for at least so many seconds. `broker`: its process, by role, if it is one."""

    in_flight: int
    seconds: float
    broker: Mapping[str, int]


async def throughput(stage: Stage, log: Log, loop: Closed) -> Throughput:
    """Completed sagas a second over a whole number of turns; the first turn, which warms up, is left out."""
    pids = {**stage.pids(), **loop.broker, "load": os.getpid()}
    async with stage.load(log) as load:
        stop = asyncio.Event()
        saturating = asyncio.create_task(load.saturate(loop.in_flight, stop))
        try:
            await _turns(load, loop.in_flight)
            measured = await _window(load, pids, loop)
        finally:
            stop.set()
            await saturating
        async with asyncio.timeout(TURN_SECONDS):
            await load.drained()
    stage.check()
    return measured


async def _window(load: Load, pids: Mapping[str, int], loop: Closed) -> Throughput:
    clock = asyncio.get_running_loop().time
    spending, before, began, turn = Spending(pids), len(load.ended), clock(), 1
    while clock() - began < loop.seconds:
        turn += 1
        await _turns(load, turn * loop.in_flight)
    took, done = clock() - began, len(load.ended) - before
    each = {role: 1000 * seconds / done for role, seconds in spending.seconds().items()}
    return Throughput(done / took, took, each, spending.others())


async def _turns(load: Load, ended: int) -> None:
    """Return once so many sagas have ended."""
    async with asyncio.timeout(TURN_SECONDS):
        while len(load.ended) < ended:
            await load.changed()


async def saturated(stage: Stage, log: Log, loop: Closed) -> dict[str, Any]:
    """Throughput, processor time, and the size and time of a commit, of the orchestrator that runs on this stage."""
    before = await stage.metrics()
    found = await throughput(stage, log, loop)
    after = await stage.metrics()

    def during(name: str) -> Histogram:
        return Histogram.read(after, name).since(Histogram.read(before, name))

    inputs, append = during("saga_journal_commit_inputs"), during("saga_journal_append_seconds")
    return asdict(found) | {
        "in_flight": loop.in_flight,
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
