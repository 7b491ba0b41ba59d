"""What one command costs a participant. `python -m bench.participant [--kafka] [--profile]`

One process with a database file, as users get it; its commands stand in the log before it starts. Printed are, once it is warm:

    CPU       of all threads of the process, the client of the log included; what counts, on a machine that others use too
    commits   of the database, and how many commands shared one
    alone     then one command at a time: from the append of a command to its reply, which is what a saga waits for at each step

The log is in memory unless `--kafka` starts a real broker. `--bare` takes a handler without a statement of its own: what is left then
is the kit's. `--profile` prints where the time goes, for the event loop and for the database thread.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import statistics
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from sqlalchemy import BigInteger, Column, Integer, MetaData, String, Table, insert

from infra.broker import Broker
from saga.cloudevents import CloudEvent, iso_time
from saga.engine.messages import Command, Event
from saga.log.base import Log, Outgoing, Record, TopicPartition, TopicSpec
from saga.log.kafka import KafkaLog
from saga.log.memory import MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.participant import Participant, ParticipantRunner, Store, Work
from saga.participant.settings import NoMeter

PARTITIONS = 16
WARM = 1_000  # commands before the measuring begins: caches fill, connections open
ALONE = 200  # commands sent one by one


class PaymentTaken(Event, type="payment.taken.v1"):
    order_id: str
    payment_id: str
    amount: int


class TakePayment(Command[PaymentTaken], service="payment"):
    order_id: str
    amount: int
    card: str


TABLES = MetaData()
payments = Table(
    "payments",
    TABLES,
    Column("id", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True),
    Column("order_id", String(64), nullable=False),
    Column("amount", Integer, nullable=False),
)


def service(bare: bool) -> Participant:
    payment = Participant("payment")

    @payment.handles(TakePayment)
    def take(cmd: TakePayment, work: Work) -> PaymentTaken:
        if not bare:
            work.execute(insert(payments), {"order_id": cmd.order_id, "amount": cmd.amount})
        return PaymentTaken(order_id=cmd.order_id, payment_id=work.command_id, amount=cmd.amount)

    return payment


def command(number: int) -> Outgoing:
    key, now = f"order-{number:06}", time.time_ns() // 1_000_000
    instance = f"checkout:{key}:mbd2x9k0"
    attributes = {
        "sagainstance": instance,
        "sagacommand": f"{instance}:pay:execute",
        "sagaaction": "execute",
        "sagaattempt": "1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    message = TakePayment(order_id=key, amount=number, card="tok_visa")
    data = message.model_dump(mode="json")
    sent = CloudEvent(message.__type__, f"{instance}:pay:execute:1", "saga", data, iso_time(now), key, attributes)
    record: Record = sent.record(key.encode())
    return Outgoing(TopicPartition("payment.commands", home(key, PARTITIONS)), record)


class Marks(NoMeter):
    """Notes CPU and time at the first measured command and at the last."""

    def __init__(self, last: int) -> None:
        self.begin = self.end = (0.0, 0.0, 0)
        self.commits = 0
        self.done = asyncio.Event()
        self._count = 0
        self._last = last

    def on_command(self, service: str, command: str, result: str, seconds: float) -> None:
        assert (service, command, result) == ("payment", TakePayment.__type__, "done")
        assert seconds >= 0
        self._count += 1
        if self._count == WARM:
            self.begin = self._now()
        elif self._count == self._last:
            self.end = self._now()
            self.done.set()

    def on_commit(self, _put: bool) -> None:
        self.commits += 1

    def _now(self) -> tuple[float, float, int]:
        return time.process_time(), time.perf_counter(), self.commits


async def saturated(log: Log, store: Store, participant: Participant, number: int) -> None:
    await log.publish([command(n) for n in range(number)])
    marks, stop = Marks(number), asyncio.Event()
    store.on_commit(marks.on_commit)
    running = asyncio.create_task(ParticipantRunner(participant, store, log, meter=marks).run(stop))
    await asyncio.wait([running, asyncio.ensure_future(marks.done.wait())], return_when=asyncio.FIRST_COMPLETED)
    cpu, wall, commits = (end - begin for begin, end in zip(marks.begin, marks.end, strict=True))
    measured = number - WARM
    print(
        f"CPU {1e6 * cpu / measured:.0f} µs a command · {measured / wall:,.0f} commands/s · "
        f"{commits:,.0f} commits, {measured / max(commits, 1):.0f} commands each"
    )
    await alone(log, number)
    stop.set()
    await running


async def alone(log: Log, first: int) -> None:
    """One command at a time: from its append to the fetch of its reply."""
    reader = log.reader()
    topics = [TopicPartition("payment.events", number) for number in range(PARTITIONS)]
    await reader.assign({each: held.end for each, held in (await log.bounds(topics)).items()})
    taken = []
    for number in range(first, first + ALONE):
        before = time.perf_counter()
        await log.publish([command(number)])
        while not await reader.fetch(topics, limit=10, timeout=5.0):
            pass
        taken.append(1000 * (time.perf_counter() - before))
    print(f"alone: p50 {statistics.median(taken):.1f} ms, p95 {statistics.quantiles(taken, n=20)[18]:.1f} ms to the reply")


async def run(log: Log, folder: Path, number: int, bare: bool) -> None:
    await log.open()
    await log.create([TopicSpec(topic, PARTITIONS) for topic in ("payment.commands", "payment.events", "saga.deadletter")])
    store = Store(f"sqlite:///{folder / 'payment.db'}", tables=TABLES)
    try:
        await saturated(log, store, service(bare), number)
    finally:
        await log.close()
        store.close()


def profiled(profiles: dict[str, cProfile.Profile]) -> None:
    """From now on each new thread has a profile of its own, and so has this one."""

    def begin(*_: object) -> None:
        name = threading.current_thread().name
        profiles[name] = cProfile.Profile()
        profiles[name].enable()

    threading.setprofile(begin)
    begin()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.participant", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--number", type=int, default=6_000, help="commands")
    parser.add_argument("--kafka", action="store_true", help="on a real broker instead of the log in memory")
    parser.add_argument("--bare", action="store_true", help="a handler without a statement of its own")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    cache = Path(__file__).parents[1] / ".cache"
    cache.mkdir(exist_ok=True)
    profiles: dict[str, cProfile.Profile] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=cache)))
        broker = stack.enter_context(Broker(folder / "kafka")) if options.kafka else None

        async def story() -> None:
            log = KafkaLog(broker.bootstrap) if broker else MemoryLog(MemoryBroker())
            if options.profile:
                profiled(profiles)
            await run(log, folder, options.number, options.bare)

        asyncio.run(story())
    for name, profile in profiles.items():
        profile.disable()
        print(f"\n— {name}")
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
    return 0


if __name__ == "__main__":
    sys.exit(main())
