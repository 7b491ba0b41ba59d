"""The parts of the bench, each on a stage of its own, so that any of them can be run alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.latency import latency
from bench.memory import memory
from bench.saturated import Closed, saturated
from bench.stage import Stage
from bench.takeover import PAIR, takeover
from bench.versus import versus
from saga.config import Config
from saga.log.base import Log


@dataclass(frozen=True)
class Sizes:
    """How much is measured: the whole takes some eight minutes on two cores.

    rates              sagas a second, and seconds of it; the slowest needs longest for a p95 that means something
    in_flight          sagas at once when saturated: 125 for each of 16 partitions, so nobody waits for the load
    saturated_seconds  at least
    floor_seconds      at least, of each round, of which there are two times floor_rounds
    instances          that live at once, for the memory and the restore
    """

    rates: Mapping[int, float] = field(default_factory=lambda: {5: 30.0, 20: 25.0, 100: 15.0, 300: 15.0})
    in_flight: int = 2000
    saturated_seconds: float = 20.0
    floor_seconds: float = 6.0
    floor_rounds: int = 4
    takeovers: int = 2
    instances: int = 100_000


@dataclass(frozen=True)
class Bench:
    """A log that is there, a folder for everything, and what was asked for.

    `broker`: its process, by role; none where the log is a folder. `profiled`: a role. `orchestrators`, `services`: so many processes, of
    orchestrators and for the five services, where the shop is whole.
    """

    config: Config
    broker: Mapping[str, int]
    folder: Path
    sizes: Sizes
    orchestrators: int = 1
    services: int = 1
    profiled: str = ""

    async def latency(self) -> list[dict[str, Any]]:
        async with self._shop("latency") as (stage, log):
            return [await latency(stage, log, rate, seconds, self.broker) for rate, seconds in self.sizes.rates.items()]

    async def saturated(self) -> dict[str, Any]:
        async with self._shop("saturated") as (stage, log):
            return await saturated(stage, log, self._closed(self.sizes.saturated_seconds))

    async def pair(self) -> dict[str, Any]:
        """The same with two orchestrators, as one runs them: they share the partitions, and one process is one core."""
        async with replace(self, orchestrators=2)._shop("pair") as (stage, log):
            return await saturated(stage, log, self._closed(self.sizes.saturated_seconds))

    async def floor(self) -> dict[str, Any]:
        async with self._stage("engine") as engine, self._stage("floor") as floor:
            return await versus(engine, floor, self._closed(self.sizes.floor_seconds), self.sizes.floor_rounds)

    async def takeover(self) -> dict[str, Any]:
        async with self._stage("takeover") as stage, stage.client() as log:
            for role in PAIR:
                stage.orchestrator(role)
            stage.start("responder", "bench.responder")
            await stage.ready(PAIR)
            await stage.first_sagas(log)
            return await takeover(stage, log, self.sizes.takeovers)

    async def memory(self) -> dict[str, Any]:
        async with self._stage("memory") as stage, stage.client() as log:
            stage.orchestrator()
            await stage.ready()
            return await memory(stage, log, self.sizes.instances)

    def _closed(self, seconds: float) -> Closed:
        return Closed(self.sizes.in_flight, seconds, self.broker)

    def _stage(self, name: str) -> Stage:
        return Stage(name, self.config, self.folder, self.profiled)

    @asynccontextmanager
    async def _shop(self, name: str) -> AsyncIterator[tuple[Stage, Log]]:
        """Everything a user has: an orchestrator, and the services with their databases."""
        async with self._stage(name) as stage, stage.client() as log:
            roles = ["orchestrator", *(f"orchestrator-{number}" for number in range(2, self.orchestrators + 1))]
            for role in roles:
                stage.orchestrator(role)
            stage.services(self.services)
            await stage.ready(roles)
            await stage.first_sagas(log)
            yield stage, log


# In this order: what comes first also warms up the broker's Java.
PARTS: dict[str, Callable[[Bench], Coroutine[Any, Any, Any]]] = {
    "saturated": Bench.saturated,
    "pair": Bench.pair,
    "latency": Bench.latency,
    "floor": Bench.floor,
    "takeover": Bench.takeover,
    "memory": Bench.memory,
}
