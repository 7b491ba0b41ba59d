"""Where an orchestrator's own CPU time goes, with no log at all: `python -m bench.orchestrator [--profile]`

One partition's hot path as its task runs it (decide, encode, append, adopt, count, render what leaves) on a log that only says yes,
with the commands answered by `bench.responder`, which is not timed. What the Kafka client, the broker and the event loop take comes on
top; the whole is measured by `make bench`. Two hyperthreads share one core, so even CPU time depends on what else runs: it is therefore
told as a ratio, too, to a fixed piece of Python that runs in turn with it.
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

from bench.responder import answer
from bench.shop import STARTS, app, ordered, purchase
from saga.cloudevents import CloudEvent
from saga.log.base import Appended, Outgoing, Record, StoredRecord, TopicPartition
from saga.metrics import Metrics
from saga.orchestrate import label_names
from saga.runtime.batch import Batch, Place
from saga.runtime.census import Census
from saga.runtime.codec import EVENTS, checksum, outgoing
from saga.runtime.fold import Position
from saga.runtime.journal import Journal, JournalSettings
from saga.runtime.timers import Timers

TOGETHER = 100  # sagas under way at once, and so inputs in a commit
STEPS = len(purchase.steps)


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
        self.log = Yes()
        self.seconds = 0.0
        self.yardsticks = 0.0
        self.commits = 0
        self.completed = 0
        self.waiting: deque[StoredRecord] = deque()
        self._place = Place(0, 1, app.book)
        self._journal = Journal(self.log, 0, JournalSettings(1, "bench", {}), lambda: 0.0)  # type: ignore[arg-type]
        self._journal.fold.partitions = 1
        self._metrics = Metrics(label_names(app))
        self._census, self._timers = Census(self._metrics), Timers()
        self._offsets: dict[str, int] = {}
        self._positions: dict[TopicPartition, Position] = {}
        self._profiler = profiler

    def start(self, first: int, sagas: int) -> None:
        for number in range(first, first + sagas):
            key = f"order-{number:07}"
            event = CloudEvent("shop.ordered.v1", key, "bench", ordered(key))
            self._arrive(Outgoing(TopicPartition(STARTS, 0), event.record(key.encode())))

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
            self._answer(one)

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

    def _answer(self, sent: Outgoing) -> None:
        if sent.to.topic == EVENTS:
            self.completed += any(value == b"saga.completed.v1" for _, value in sent.record.headers)
        else:
            self._arrive(answer(_stored(sent, 0)))

    def _arrive(self, sent: Outgoing) -> None:
        offset = self._offsets[sent.to.topic] = self._offsets.get(sent.to.topic, -1) + 1
        self.waiting.append(_stored(sent, offset))


def _stored(sent: Outgoing, offset: int) -> StoredRecord:
    return StoredRecord(sent.to.topic, 0, offset, 0, sent.record.key, sent.record.value, sent.record.headers)


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
    each, stick = 1e6 * path.seconds / options.sagas, 1e6 * path.yardsticks / path.commits
    print(
        f"{each / stick:.3f} yardsticks of {stick:.0f} µs per saga: {each:.0f} µs per saga, {each / (STEPS + 1):.0f} per decision"
    )
    print(f"{path.log.bytes // options.sagas} bytes of journal per saga")
    if profiler:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(70)
    return 0


if __name__ == "__main__":
    sys.exit(main())
