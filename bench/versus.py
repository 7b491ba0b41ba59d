"""The orchestrator against the floor: the same load, the same responder, in turns, so that a noisy machine disturbs both alike."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from bench.saturated import Throughput, throughput
from bench.stage import Stage
from infra.broker import Broker

ROUNDS = 4


async def versus(broker: Broker, folder: Path, seconds: float, rounds: int = ROUNDS, profiled: str = "") -> dict[str, Any]:
    """Rounds of so many seconds, one of the orchestrator and one of the floor in turn; the median of each round's ratios."""
    pairs: list[tuple[Throughput, Throughput]] = []
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(Stage("engine", broker.bootstrap, folder, profiled))
        floor = await stack.enter_async_context(Stage("floor", broker.bootstrap, folder, profiled))
        engine_log, floor_log = engine.open_log("load"), floor.open_log("load")
        for log in (engine_log, floor_log):
            await log.open()
            stack.push_async_callback(log.close)
        engine.orchestrator()
        engine.start("responder", "bench.responder")
        floor.start("responder", "bench.responder")
        await engine.ready()
        await engine.first_sagas(engine_log)
        floor.start("floor", "bench.floor", engine.config.prefix)  # it looks at what those first sagas wrote
        await floor.first_sagas(floor_log)
        for _ in range(rounds):
            real = await throughput(engine, engine_log, broker.pid, seconds)
            pairs.append((real, await throughput(floor, floor_log, broker.pid, seconds)))
    return {
        "throughput_ratio": median(real.sagas_per_second / least.sagas_per_second for real, least in pairs),
        "cpu_ratio": median(real.cpu["orchestrator"] / least.cpu["floor"] for real, least in pairs),
        "cpu_total_ratio": median(real.cpu_total / least.cpu_total for real, least in pairs),
        "rounds": [{"orchestrator": asdict(real), "floor": asdict(least)} for real, least in pairs],
    }
