"""Where an orchestrator's own CPU time goes, with no log at all: `python -m bench.orchestrator [--profile]`

One partition's hot path as its task runs it (decide, encode, append, adopt, count, render what leaves) on a log that only says yes, with
the commands answered by an echo that is not timed. What the Kafka client, the broker and the event loop take comes on top; the whole is
measured by `make bench`. Two hyperthreads share one core, so even CPU time depends on what else runs: it is therefore told as a ratio,
too, to a fixed piece of Python that runs in turn with it.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import sys
import time
from collections import deque
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from saga import START, Command, Event, Saga
from saga.cloudevents import CloudEvent, header_fields
from saga.engine.book import Book
from saga.log.base import Appended, Outgoing, Record, StoredRecord, TopicPartition
from saga.metrics import Metrics
from saga.runtime.batch import Batch, Place
from saga.runtime.census import Census
from saga.runtime.codec import checksum, outgoing
from saga.runtime.fold import Position
from saga.runtime.journal import Journal, JournalSettings
from saga.runtime.timers import Timers

STEPS = 5
TOGETHER = 100  # sagas under way at once, and so inputs in a commit


class Ordered(Event, type="order.ordered.v1"):
    order_id: str
    amount: int


class Order(BaseModel):
    order_id: str
    amount: int
    done: int = 0


def begin(o: Ordered) -> Order:
    return Order(order_id=o.order_id, amount=o.amount)


def definition() -> Saga[Ordered, Order]:
    saga = Saga("order", version=1, starts_on=Ordered, key=lambda o: o.order_id, data=Order, deadline=timedelta(minutes=30))
    saga.start(begin)
    after: object = START
    for number in range(1, STEPS + 1):
        after = _step(saga, number, after)
    return saga


def _step(saga: Saga[Ordered, Order], number: int, after: object) -> object:
    service = f"s{number}"

    class Done(Event, type=f"{service}.done.v1"):
        receipt: str

    class Do(Command[Done], service=service, type=f"{service}.do.v1"):
        order_id: str
        amount: int

    class Undone(Event, type=f"{service}.undone.v1"): ...

    class Undo(Command[Undone], service=service, type=f"{service}.undo.v1"):
        order_id: str

    def do(order: Order) -> Do:
        return Do(order_id=order.order_id, amount=order.amount)

    do.__name__ = service
    do.__annotations__ = {"order": Order, "return": Do}
    step = saga.step(after=after)(do)

    def done(order: Order, reply: Done) -> Order:
        return order.model_copy(update={"done": order.done + 1})

    def undo(order: Order, sent: Do) -> Undo:
        return Undo(order_id=sent.order_id)

    done.__annotations__ = {"order": Order, "reply": Done, "return": Order}
    undo.__annotations__ = {"order": Order, "sent": Do, "return": Undo}
    step.done(done)
    step.compensate(undo)
    return step


class Yes:
    """A log that takes every append and keeps nothing."""

    def __init__(self) -> None:
        self.next = 0
        self.bytes = 0

    async def append(self, to: TopicPartition, records: Sequence[Record]) -> Appended:
        del to
        first, self.next = self.next, self.next + len(records)
        self.bytes += sum(len(record.value or b"") for record in records)
        return Appended(first, 0)


def yardstick() -> None:
    """A fixed piece of Python: about a millisecond of small dicts, calls and text."""
    for number in range(1500):
        item = {"number": number, "name": str(number)}
        copy = dict(item)
        copy["name"] = f"{copy['name']}:{len(item)}".upper()


class Path:
    """The hot path of one partition. `seconds`: CPU time of it; `waiting`: the records it reads next."""

    def __init__(self, profiler: cProfile.Profile | None) -> None:
        self.book = Book([definition()])
        self.log = Yes()
        self.seconds = 0.0
        self.yardsticks = 0.0
        self.commits = 0
        self.completed = 0
        self.waiting: deque[StoredRecord] = deque()
        self._place = Place(0, 1, self.book)
        self._journal = Journal(self.log, 0, JournalSettings(1, "bench", {}), lambda: 0.0)  # type: ignore[arg-type]
        self._journal.fold.partitions = 1
        self._metrics = Metrics({"order", *(f"s{n}" for n in range(1, STEPS + 1))})
        self._census, self._timers = Census(self._metrics), Timers()
        self._offsets: dict[str, int] = {}
        self._positions: dict[TopicPartition, Position] = {}
        self._profiler = profiler

    def start(self, first: int, sagas: int) -> None:
        for number in range(first, first + sagas):
            key = f"order-{number:07}"
            event = CloudEvent("order.ordered.v1", key, "bench", {"order_id": key, "amount": 4200})
            self._arrive("order.events", event.record(key.encode()))

    async def commit(self) -> None:
        """Decide what waits, as `PartitionTask._work` does, and answer what left."""
        self.commits += 1
        records = [self.waiting.popleft() for _ in range(min(TOGETHER, len(self.waiting)))]
        before = time.thread_time()
        if self._profiler:
            self._profiler.enable()
        sent = await self._commit(records)
        if self._profiler:
            self._profiler.disable()
        self.seconds += time.thread_time() - before
        before = time.thread_time()
        yardstick()
        self.yardsticks += time.thread_time() - before
        for one in sent:
            self._echo(one)

    async def _commit(self, records: list[StoredRecord]) -> list[Outgoing]:
        batch = Batch(self._place, self._journal.fold, 1_800_000_000_000)
        for record in records:
            batch.take(record)
        last = records[-1]
        self._positions[TopicPartition(last.topic, last.partition)] = Position(last.offset + 1, checksum(last))
        await self._journal.commit(batch, self._positions, {})
        for decision in batch.decisions:
            self._census.count(decision, batch.result(decision), batch.now)
        for slot, held in batch.states.items():
            self._timers.set(slot, held.state)
            self._census.see(slot, held.state)
        sent = [one for each in self._journal.fold.unpublished for one in outgoing(each.decision, 0, each.now)]
        self._journal.all_published()
        return sent

    def _echo(self, sent: Outgoing) -> None:
        fields = header_fields(sent.record.headers)
        if "sagacommand" not in fields:
            self.completed += fields["type"] == "saga.completed.v1"
            return
        service = sent.to.topic.partition(".")[0]
        kept = {name: fields[name] for name in ("sagainstance", "sagacommand", "sagaaction", "sagaattempt")} | {"sagaoutcome": "done"}
        event = CloudEvent(f"{service}.done.v1", fields["sagacommand"] + ":done", service, {"receipt": "r-12345"}, attributes=kept)
        self._arrive(f"{service}.events", event.record(sent.record.key))

    def _arrive(self, topic: str, record: Record) -> None:
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        self.waiting.append(StoredRecord(topic, 0, offset, 0, record.key, record.value, record.headers))


async def run(path: Path, sagas: int, first: int) -> None:
    for start in range(first, first + sagas, TOGETHER):
        path.start(start, TOGETHER)
        while path.waiting:
            await path.commit()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.orchestrator", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sagas", type=int, default=5000)
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    profiler = cProfile.Profile() if options.profile else None
    path = Path(profiler)
    asyncio.run(run(path, options.sagas, 0))
    assert path.completed == options.sagas, path.completed
    each = 1e6 * path.seconds / options.sagas
    stick = 1e6 * path.yardsticks / path.commits
    print(f"{each / stick:.3f} yardsticks of {stick:.0f} µs per saga: {each:.0f} µs per saga, {each / (STEPS + 1):.0f} µs per decision, {path.log.bytes // options.sagas} journal bytes per saga")
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(70)
    return 0


if __name__ == "__main__":
    sys.exit(main())
