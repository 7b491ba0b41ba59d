"""A small world under virtual time: orchestrators that crash, pause and race, participants with moods, and a log that loses answers.

One integer decides everything. After the fault phase all is healed, and the world must converge: every order one outcome, every effect
once or undone, every fold the same from wherever it starts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

import orjson

from saga.engine.book import Book
from saga.engine.messages import DEADLETTERS, REQUESTS
from saga.engine.state import Phase
from saga.errors import Unavailable
from saga.log.base import Headers, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import Faults, MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.metrics import Metrics
from saga.runtime.codec import EVENTS, JOURNAL
from saga.runtime.fold import Fold
from saga.runtime.worker import Worker, WorkerSettings
from saga.testing.clock import Process
from tests.simulation import sagas
from tests.simulation.checker import Checker, Effects, Evidence
from tests.simulation.participant import Moods, SimParticipant
from tests.simulation.sagas import SERVICES, UNDOES, book

PARTITIONS = 3
MOST_INPUT_PARTITIONS = 6  # of topics that grow
# What other teams put on topics that we read: (type header or None, value); each is dead-lettered or counted, and harms nobody.
FOREIGN: tuple[tuple[bytes | None, bytes | None], ...] = (
    (b"order.shipped.v1", b"{}"),
    (b"order.placed.v9", b"{}"),
    (b"order.placed.v1", b"not json"),
    (b"order.placed.v1", b'{"total": 1}'),
    (b"order.placed.v1", None),
    (b"\xff", b"{}"),
    (None, b"{}"),
)


@dataclass(frozen=True)
class Cast:
    """Which sagas are played, and what of them the world must know: the one that orders start, and steps that can be undone."""

    book: Callable[[], Book] = book
    main: str = "order"
    undoable: frozenset[str] = frozenset(UNDOES)
    event: tuple[str, str] = ("", "")  # topic and type of one that is awaited, and comes before, after, twice or never


ORDERS = Cast()


@dataclass
class Orchestrator:
    process: Process
    log: MemoryLog
    worker: Worker
    task: asyncio.Task[None] | None = None


class KeepingBroker(MemoryBroker):
    """A broker that keeps a copy of what is trimmed, for who judges the run; its clients do not see it."""

    def __init__(self, **options: float) -> None:
        super().__init__(**options)
        self._kept: dict[TopicPartition, list[StoredRecord]] = {}
        self.trims = 0

    def trim(self, partition: TopicPartition, before: int) -> None:
        bounds = self.bounds(partition)
        self._kept.setdefault(partition, []).extend(self.slice(partition, bounds.start, max(bounds.start, before)))
        super().trim(partition, before)
        self.trims += 1

    def everything(self) -> dict[TopicPartition, list[StoredRecord]]:
        found: dict[TopicPartition, list[StoredRecord]] = {}
        for tp in self._partitions:
            bounds = self.bounds(tp)
            found[tp] = self._kept.get(tp, []) + self.slice(tp, bounds.start, bounds.end)
        return found


class World:
    """`make`: makes an orchestrator's worker; a test that plants a bug gives its own."""

    def __init__(
        self,
        seed: int,
        *,
        orders: int = 25,
        fault_seconds: float = 60.0,
        make: Callable[..., Worker] = Worker,
        rounds: int = 40,
        cast: Cast = ORDERS,
    ) -> None:
        self.cast = cast
        self.random = Random(seed)
        self.orders = [f"o{n}" for n in range(orders)]
        self.fault_seconds = fault_seconds
        self.broker = KeepingBroker(session_timeout=4.0, rebalance_timeout=4.0)
        self.orchestrators: list[Orchestrator] = []
        self.met: Counter[str] = Counter()  # what happened at least once: no vacuous pass
        self.book = cast.book()
        self._make = make
        self.rounds = rounds  # of 15 s each, in which it must converge
        self._names = 0
        self.troubles = ["crash", "pause", "stop", "join", "down", "grow"]
        self.steady_clock = self.random.random() < 0.5
        if not self.steady_clock:
            self.troubles.append("clock")
        sagas.broken.clear()
        sagas.broken.update(key for key in self.orders if self.random.random() < self.random.choice((0, 0.2)))
        names = dict.fromkeys([JOURNAL, REQUESTS, EVENTS, DEADLETTERS, *self.book.topics])
        names |= dict.fromkeys(f"{service}.{kind}" for service in SERVICES for kind in ("commands", "events"))
        self.broker.create([TopicSpec(name, PARTITIONS, 1, {"max.message.bytes": "4194304"}) for name in names])
        moods = Moods(*(self.random.choice((0, 0.05, 0.15, 0.3)) for _ in range(5)))
        self.participants = {
            service: SimParticipant(self.broker, service, PARTITIONS, Random(self.random.random()), moods) for service in SERVICES
        }
        self.fault_rate = {
            f"{what}_{how}": self.random.choice((0, 0, 0.02, 0.1))
            for what, hows in (("append", ("lost", "answer_lost", "late")), ("publish", ("lost", "answer_lost", "late", "twice")))
            for how in hows
        }

    # --- the play -------------------------------------------------------------------------------------------------------------------

    async def play(self) -> None:
        play = [asyncio.create_task(participant.run()) for participant in self.participants.values()]
        for _ in range(2):
            await self._start()
        play.append(asyncio.create_task(self._place_orders()))
        end = asyncio.get_running_loop().time() + self.fault_seconds
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self.random.random() * 6)
            await self._trouble()
        await self._heal()
        await self._converge()
        for task in play:
            task.cancel()
        for one in self.orchestrators:
            one.worker.stop()
        await asyncio.gather(*(one.task for one in self.orchestrators if one.task is not None))

    async def _start(self) -> None:
        self._names += 1
        name = f"orchestrator-{self._names}"
        process = Process(name)
        log = MemoryLog(self.broker, name, Faults(Random(self.random.random()), late_within=8.0, latency=0.02, **self.fault_rate))
        settings = WorkerSettings(
            PARTITIONS,
            "earliest",
            owner=name,
            snapshot_bytes=self.random.choice((2_000, 20_000, 10**9)),
            snapshot_seconds=20.0,
            history_days=self.random.choice((0, 1e-5, 1e-4)),  # all, or seconds
        )
        worker = self._make(self.book, log, settings, Metrics(), Random(self.random.random()))

        async def main() -> None:
            await log.open()
            while True:  # a supervisor: who cannot begin because the broker is down begins again
                try:
                    return await one.worker.run()
                except Unavailable:
                    await asyncio.sleep(1)
                    one.worker = self._make(self.book, log, settings, Metrics(), Random(1))

        one = Orchestrator(process, log, worker)
        one.task = process.start(main())
        self.orchestrators.append(one)

    async def _place_orders(self) -> None:
        for number, key in enumerate(self.orders):
            await asyncio.sleep(self.random.random() * 2 * self.fault_seconds / len(self.orders) * 0.8)
            for _ in range(self.random.choice((1, 1, 1, 2))):
                headers: Headers = (("ce_id", f"{key}".encode()), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
                value = orjson.dumps({"order_id": key, "total": number})
                self._put("order.events", key, Record(key.encode(), value, headers))
            self._tell_of(key)
            if self.random.random() < 0.3:
                type, data = self.random.choice(FOREIGN)
                given: Headers = (("ce_type", type),) if type is not None else ()
                self._put(self.random.choice(("order.events", "payment.events", REQUESTS)), key, Record(b"k", data, given))
                self.met["foreign"] += 1

    def _tell_of(self, order: str) -> None:
        """Now and then what some order waits for comes: this one, or one that is not placed yet, or long over."""
        topic, type = self.cast.event
        if not topic or self.random.random() < 0.3:
            return
        key = self.random.choice((order, self.random.choice(self.orders)))
        told: Headers = (("ce_id", f"w-{key}".encode()), ("ce_source", b"weather"), ("ce_type", type.encode()))
        self._put(topic, key, Record(b"elsewhere", orjson.dumps({"trip_id": key}), told))

    def _put(self, topic: str, key: str, record: Record) -> None:
        """By another team's producer: mostly in the key's home partition, but some partition it is not."""
        spec = self.broker.describe(topic)
        assert spec is not None
        partition = home(key, PARTITIONS) if self.random.random() < 0.8 else self.random.randrange(spec.partitions)
        self.broker.append(TopicPartition(topic, partition), [record])

    async def _trouble(self) -> None:
        victim = self.random.choice(self.orchestrators)
        what = self.random.choice(self.troubles)
        self.met[what] += 1
        if what == "crash":
            victim.process.freeze()
            victim.log.kill()
            self.orchestrators.remove(victim)
            await self._start()
        elif what == "pause":
            victim.process.freeze()
            victim.log.pause()
            await asyncio.sleep(self.random.random() * 12)
            victim.log.resume()
            victim.process.thaw()
        elif what == "stop":
            victim.worker.stop()
            self.orchestrators.remove(victim)
            await self._start()
        elif what == "join" and len(self.orchestrators) < 4:
            await self._start()
        elif what == "clock":
            self.broker.epoch += self.random.choice((-3600, -60, 60, 3600))

        elif what == "down":
            self.broker.up = False
            await asyncio.sleep(self.random.random() * 8)
            self.broker.up = True
        elif what == "grow":
            for topic in ("order.events", "payment.events"):
                spec = self.broker.describe(topic)
                assert spec is not None
                self.broker.grow(topic, min(spec.partitions + self.random.choice((1, 2)), MOST_INPUT_PARTITIONS))

    async def _heal(self) -> None:
        sagas.broken.clear()  # the fix is deployed; an operator's `retry` makes use of it
        for one in self.orchestrators:
            one.log.faults.off()
        for participant in self.participants.values():
            participant.calm()

    async def _converge(self) -> None:
        """Until every order has an outcome; an operator retries what is parked. In bounded time, or there is a bug."""
        for round in range(self.rounds):
            await asyncio.sleep(15)
            all_ = [state for fold in self.folds() for state in fold.states()]
            states = [state for state in all_ if state.saga == self.cast.main and state.phase is not Phase.EARLY]
            open_ = [state for state in all_ if state.live]
            if not open_ and round > 1 and len(states) == len(self.orders):
                return
            for state in open_:
                if state.parked:
                    self.met[f"parked: {state.parked.reason}"] += 1
                    self._retry(state.saga, state.key, round)
        raise AssertionError(
            f"no convergence: {[(s.id, s.phase, s.parked, s.steps) for s in open_]}, {len(states)} of {len(self.orders)}"
        )

    def _retry(self, saga: str, key: str, round: int) -> None:
        headers: Headers = (("ce_id", f"retry-{key}-{round}".encode()), ("ce_source", b"cli"), ("ce_type", b"saga.retry.v1"))
        value = orjson.dumps({"saga": saga, "key": key, "who": "test", "why": "healed"})
        self.broker.append(TopicPartition(REQUESTS, home(key, PARTITIONS)), [Record(key.encode(), value, headers)])

    # --- what is true at the end -------------------------------------------------------------------------------------------------------

    def evidence(self) -> Evidence:
        live = {number: task.fold() for one in self.orchestrators for number, task in one.worker.tasks.items()}
        effects = Effects()
        for participant in self.participants.values():
            effects.executed += participant.memory.executed
            effects.undone += participant.memory.undone
            effects.seen |= set(participant.memory.seen)
        return Evidence(self.book, PARTITIONS, self.broker.everything(), live, effects, self.cast.undoable, self.steady_clock)

    def folds(self) -> Iterator[Fold]:
        for number in range(PARTITIONS):
            fold = Fold(TopicPartition(JOURNAL, number))
            for record in self.broker.everything()[fold.partition]:
                fold.feed(record)
            yield fold

    def check(self) -> None:
        """Raises AssertionError that names every promise that was broken."""
        checker = Checker(self.evidence())
        problems = checker.check()
        missing = set(self.orders) - {slot.key for slot in checker.states if slot.saga == self.cast.main}
        assert not missing, f"I3: these orders were lost: {sorted(missing)}"
        assert not problems, "\n".join(problems[:20])
        self.met += checker.met
        self.met["trim"] += self.broker.trims
