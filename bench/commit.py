"""How long one small commit takes: one record batch to one partition, against Kafka transactions. `python -m bench.commit`

    batch                 one idempotent batch to the journal, as this package commits
    batch by aiokafka     the same by aiokafka's producer, as the transactions are
    transaction           begin, the same batch, commit
    transaction+offsets   the same, with the consumer's offsets in it, as a "read, process, write" loop does
    …, back-off 2 ms      aiokafka waits 20 ms between its attempts to begin the next transaction; the same with 2 ms

Everything runs in one process against one real broker that is started for it, interleaved, so that a noisy machine disturbs all alike.
What counts is the last column: how many times as long as a batch.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiokafka import AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.producer import sender  # type: ignore[import-untyped]

from infra.broker import Broker
from saga.log.base import Record, TopicSpec
from saga.log.base import TopicPartition as Where
from saga.log.kafka import KafkaLog

VALUE = b"x" * 600  # about what one decision takes
Commit = Callable[[], Awaitable[object]]


async def measure(bootstrap: str, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each commit, by way."""
    log = KafkaLog(bootstrap)
    await log.open()
    await log.create([TopicSpec("journal", 1, 1, {"message.timestamp.type": "LogAppendTime"})])
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="bench", linger_ms=0)
    await producer.start()
    plain = AIOKafkaProducer(bootstrap_servers=bootstrap, enable_idempotence=True, acks="all", linger_ms=0)
    await plain.start()
    usual = sender.BACKOFF_OVERRIDE

    async def batch() -> None:
        await log.append(Where("journal", 0), [Record(b"key", VALUE), Record(None, VALUE)])

    async def batch_by_aiokafka() -> None:
        builder = plain.create_batch()
        for key in (b"key", None):
            builder.append(timestamp=None, key=key, value=VALUE)
        await (await plain.send_batch(builder, "journal", partition=0))

    def transaction(offsets: bool, backoff: float) -> Commit:
        async def commit() -> None:
            sender.BACKOFF_OVERRIDE = backoff
            async with producer.transaction():
                await producer.send_and_wait("journal", VALUE, partition=0)
                if offsets:
                    await producer.send_offsets_to_transaction({TopicPartition("journal", 0): 1}, "bench")
            sender.BACKOFF_OVERRIDE = usual

        return commit

    ways: dict[str, Commit] = {
        "batch": batch,
        "batch by aiokafka": batch_by_aiokafka,
        "transaction": transaction(False, usual),
        "transaction+offsets": transaction(True, usual),
        "transaction, back-off 2 ms": transaction(False, 0.002),
        "transaction+offsets, back-off 2 ms": transaction(True, 0.002),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    try:
        for round in range(rounds + 20):
            for name, commit in ways.items():
                before = time.perf_counter()
                await commit()
                if round >= 20:  # the first ones warm up
                    taken[name].append(1000 * (time.perf_counter() - before))
    finally:
        await producer.stop()
        await plain.stop()
        await log.close()
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.commit", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    cache = Path(__file__).parents[1] / ".cache"
    cache.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache) as folder, Broker(Path(folder) / "kafka") as broker:
        taken = asyncio.run(measure(broker.bootstrap, rounds))
    base = statistics.median(taken["batch"])
    print(f"{'way to commit':<36} {'p50 ms':>8} {'p95 ms':>8} {'ratio':>7}")
    for name, values in taken.items():
        p50, p95 = statistics.median(values), statistics.quantiles(values, n=20)[18]
        print(f"{name:<36} {p50:>8.2f} {p95:>8.2f} {p50 / base:>6.1f}×")
    return 0


if __name__ == "__main__":
    sys.exit(main())
