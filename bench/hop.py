"""What one record costs on its way through the log port, with nothing else. `python -m bench.hop`

    append     of one record, as a commit of one decision is: until the broker says where it stands
    hop        publish one record and be handed it: what lies between two processes of a saga, both ends in this one

A saga of five steps is six appends and twelve hops. What is counted is processor time, of this process and of the broker, and the time
that passes. As many partitions are followed as an orchestrator follows of a few services, since that is what a fetch may cost by.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from infra.broker import Broker
from saga.log.base import Outgoing, Record, TopicPartition, TopicSpec
from saga.log.kafka import KafkaLog

TOPICS = 6
WARM = 300  # of each, before it counts
RECORD = Record(b"order-000001", b"x" * 400, tuple((f"ce_attribute{number}", b"a value of some length") for number in range(8)))


async def measure(broker: Broker, partitions: int, times: int) -> None:
    """Print a line for each of the two. `partitions`: of each topic."""
    log = KafkaLog(broker.bootstrap, prefix=f"{partitions}.")
    await log.open()
    followed = [TopicPartition(f"topic-{topic}", number) for topic in range(TOPICS) for number in range(partitions)]
    await log.create([TopicSpec(f"topic-{topic}", partitions) for topic in range(TOPICS)])
    await log.create([TopicSpec("journal", 1, 1, {"message.timestamp.type": "LogAppendTime"})])
    reader = log.reader()
    await reader.assign(dict.fromkeys(followed, 0))
    turn = 0

    async def append() -> None:
        await log.append(TopicPartition("journal", 0), [RECORD])

    async def hop() -> None:
        nonlocal turn
        turn += 1
        await log.publish([Outgoing(followed[turn % len(followed)], RECORD)])
        assert len(await reader.fetch(followed, limit=10, timeout=10)) == 1

    try:
        for name, work in (("append", append), ("hop", hop)):
            await _repeat(work, WARM)
            print(f"{name:<8} {len(followed):>3} partitions: {await _cost(work, times, broker.pid)}", flush=True)
    finally:
        await log.close()


async def _cost(work: Callable[[], Awaitable[None]], times: int, broker: int) -> str:
    processes = psutil.Process(), psutil.Process(broker)
    clock = asyncio.get_running_loop().time
    before, began = [sum(process.cpu_times()[:2]) for process in processes], clock()
    await _repeat(work, times)
    took = clock() - began
    client, server = (1e6 * (sum(process.cpu_times()[:2]) - was) / times for process, was in zip(processes, before, strict=True))
    return f"client {client:>5.0f} µs, broker {server:>5.0f} µs of processor time; {1000 * took / times:.2f} ms"


async def _repeat(work: Callable[[], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await work()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.hop", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=2000)
    times = parser.parse_args().times
    cache = Path(__file__).parents[1] / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache) as folder, Broker(Path(folder) / "kafka") as broker:
        for partitions in (4, 16):
            asyncio.run(measure(broker, partitions, times))
    return 0


if __name__ == "__main__":
    sys.exit(main())
