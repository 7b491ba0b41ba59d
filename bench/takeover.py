"""How long it takes until another orchestrator decides where a killed one did.

    kill -9 ──▶ the group notices ──▶ given ──▶ journal read ──▶ claimed ──▶ first decision
                (session time-out)

Two orchestrators share the partitions under a steady load. One is killed; the journal tells when the other claimed the dead one's
partitions and decided there, in the broker's time, which is this machine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.shop import app
from bench.stage import Stage, phases, running
from saga.log.base import Log, TopicPartition
from saga.runtime.codec import JOURNAL, decode

RATE = 50  # sagas a second
UNDER_LOAD_SECONDS = 3.0  # before the kill
TAKEN_SECONDS = 60.0  # the longest that it may take
PAIR = ("orchestrator-1", "orchestrator-2")


class Seen(NamedTuple):
    """A claim or a commit with decisions, and when the broker appended it, in ms since 1970."""

    kind: str
    partition: int
    time: int


async def takeover(stage: Stage, log: Log, rounds: int) -> dict[str, Any]:
    """On a stage with the pair of orchestrators and something that answers; milliseconds from the kill, a dict for each round."""
    found = []
    for number in range(rounds):
        victim, survivor = PAIR if number % 2 == 0 else PAIR[::-1]
        found.append(await _once(stage, log, victim, survivor))
        stage.orchestrator(victim)
        await stage.ready(PAIR)
    return {"session_seconds": stage.config.session_seconds, "rate": RATE, "rounds": found}


async def _once(stage: Stage, log: Log, victim: str, survivor: str) -> dict[str, float]:
    async with stage.load(log) as load, asyncio.TaskGroup() as group:
        seen: list[Seen] = []
        watching = group.create_task(_watch(log, seen))
        loading = group.create_task(load.steady(RATE, TAKEN_SECONDS))
        await asyncio.sleep(UNDER_LOAD_SECONDS)
        orphans = running(await stage.metrics(victim))
        assert orphans, f"{victim} owned nothing"
        killed = time.time()
        stage.kill(victim)

        async def owned() -> bool:
            return orphans <= set(phases(await stage.metrics(survivor)))

        async def decided() -> bool:
            return all(_decided(seen, orphan, killed) for orphan in orphans)

        await stage.until(owned, TAKEN_SECONDS)
        given = time.time()
        await stage.until(decided, TAKEN_SECONDS)
        watching.cancel()
        loading.cancel()
    claims = [_first(seen, lambda s: s.kind == "claim" and s.partition == orphan, killed) for orphan in orphans]  # noqa: B023
    decisions = [_decided(seen, orphan, killed) for orphan in orphans]
    stage.check()
    return {
        "given": 1000 * (given - killed),
        "first_claim": min(claims) - 1000 * killed,
        "first_decision": min(decisions) - 1000 * killed,
        "last_decision": max(decisions) - 1000 * killed,
        "partitions": len(orphans),
    }


def _decided(seen: list[Seen], partition: int, killed: float) -> int:
    """When the new owner of a partition decided first; 0 if it has not yet."""
    claimed = _first(seen, lambda s: s.kind == "claim" and s.partition == partition, killed)
    return _first(seen, lambda s: s.kind == "decision" and s.partition == partition, claimed / 1000) if claimed else 0


def _first(seen: list[Seen], which: Callable[[Seen], bool], after: float) -> int:
    return min((each.time for each in seen if each.time >= 1000 * after and which(each)), default=0)


async def _watch(log: Log, seen: list[Seen]) -> None:
    """Note claims and decisions of all partitions of the journal, from now on."""
    partitions = [TopicPartition(JOURNAL, number) for number in range(app.partitions)]
    reader = log.reader()
    await reader.assign({tp: bounds.end for tp, bounds in (await log.bounds(partitions)).items()})
    try:
        while True:
            for record in await reader.fetch(partitions, limit=1000, timeout=1.0):
                value = decode(record)
                if value["kind"] == "claim" or (value["kind"] == "decision" and value["key"]):
                    seen.append(Seen(value["kind"], record.partition, record.timestamp))
    finally:
        await reader.close()
