"""The orchestrator against the floor: the same load, the same responder, in turns, so that a noisy machine disturbs both alike."""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from bench.saturated import Closed, Throughput, throughput
from bench.stage import Stage


async def versus(engine: Stage, floor: Stage, loop: Closed, rounds: int) -> dict[str, Any]:
    """Two stages on which nothing runs yet: rounds of the one and of the other in turn, and the median of the rounds' ratios."""
    pairs: list[tuple[Throughput, Throughput]] = []
    async with engine.client() as engine_log, floor.client() as floor_log:
        engine.orchestrator()
        engine.start("responder", "bench.responder")
        floor.start("responder", "bench.responder")
        await engine.ready()
        await engine.first_sagas(engine_log)
        floor.start("floor", "bench.floor", engine.config.prefix)  # it looks at what those first sagas wrote
        await floor.first_sagas(floor_log)
        for _ in range(rounds):
            real = await throughput(engine, engine_log, loop)
            pairs.append((real, await throughput(floor, floor_log, loop)))
    return {
        "throughput_ratio": median(real.sagas_per_second / least.sagas_per_second for real, least in pairs),
        "cpu_ratio": median(real.cpu["orchestrator"] / least.cpu["floor"] for real, least in pairs),
        "cpu_total_ratio": median(real.cpu_total / least.cpu_total for real, least in pairs),
        "rounds": [{"orchestrator": asdict(real), "floor": asdict(least)} for real, least in pairs],
    }
