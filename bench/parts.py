"""The parts of the bench, each on a stage of its own, so that any of them can be run alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.latency import RATES, latency
from bench.memory import INSTANCES, memory
from bench.saturated import saturated
from bench.stage import Stage
from bench.takeover import PAIR, takeover
from bench.versus import versus
from infra.broker import Broker
from saga.log.base import Log

SATURATED_SECONDS = 20.0
FLOOR_SECONDS = 6.0  # of each of eight rounds


@dataclass(frozen=True)
class Options:
    """`seconds`: of each measurement, in place of its own. `services`: processes for the five services."""

    seconds: float | None = None
    services: int = 1
    profiled: str = ""
    instances: int = INSTANCES


@dataclass(frozen=True)
class Bench:
    """A broker that runs, a folder for everything, and what was asked for."""

    broker: Broker
    folder: Path
    options: Options

    async def latency(self) -> list[dict[str, Any]]:
        async with self._shop("latency") as (stage, log):
            return [await latency(stage, log, rate, self.options.seconds or own) for rate, own in RATES.items()]

    async def saturated(self) -> dict[str, Any]:
        async with self._shop("saturated") as (stage, log):
            return await saturated(stage, log, self.broker.pid, self.options.seconds or SATURATED_SECONDS)

    async def floor(self) -> dict[str, Any]:
        seconds = self.options.seconds or FLOOR_SECONDS
        return await versus(self.broker, self.folder, seconds, profiled=self.options.profiled)

    async def takeover(self) -> dict[str, Any]:
        async with self._stage("takeover") as (stage, log):
            for role in PAIR:
                stage.orchestrator(role)
            stage.start("responder", "bench.responder")
            await stage.ready(PAIR)
            await stage.first_sagas(log)
            return await takeover(stage, log)

    async def memory(self) -> dict[str, Any]:
        async with self._stage("memory") as (stage, log):
            stage.orchestrator()
            await stage.ready()
            return await memory(stage, log, self.options.instances)

    @asynccontextmanager
    async def _shop(self, name: str) -> AsyncIterator[tuple[Stage, Log]]:
        """Everything a user has: an orchestrator, and the services with their databases."""
        async with self._stage(name) as (stage, log):
            stage.orchestrator()
            stage.services(self.options.services)
            await stage.ready()
            await stage.first_sagas(log)
            yield stage, log

    @asynccontextmanager
    async def _stage(self, name: str) -> AsyncIterator[tuple[Stage, Log]]:
        async with Stage(name, self.broker.bootstrap, self.folder, self.options.profiled) as stage:
            log = stage.open_log("load")
            await log.open()
            try:
                yield stage, log
            finally:
                await log.close()


# In this order: what comes first also warms up the broker's Java.
PARTS: dict[str, Callable[[Bench], Awaitable[Any]]] = {
    "saturated": Bench.saturated,
    "latency": Bench.latency,
    "floor": Bench.floor,
    "takeover": Bench.takeover,
    "memory": Bench.memory,
}
