"""A small world under virtual time: orchestrators that crash, pause and race, participants with moods, and a log that loses answers.

One integer decides everything. After the fault phase all is healed, and the world must converge: every order one outcome, every effect
once or undone, every fold the same from wherever it starts.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import orjson

from saga.cloudevents import header_fields
from saga.engine.decision import Send
from saga.engine.state import Phase
from saga.log.base import Headers, Record, StoredRecord, TopicPartition, TopicSpec
from saga.log.memory import Faults, MemoryBroker, MemoryLog
from saga.log.partition import home
from saga.metrics import Metrics
from saga.runtime.codec import DEADLETTERS, EVENTS, JOURNAL, REQUESTS, decode
from saga.runtime.fold import Batch, Fold
from saga.runtime.worker import Worker, WorkerSettings
from saga.testing.clock import Process
from tests.simulation.participant import Moods, SimParticipant
from tests.simulation.sagas import SERVICES, book

PARTITIONS = 3


@dataclass
class Orchestrator:
    process: Process
    log: MemoryLog
    worker: Worker
    task: asyncio.Task[None]


class World:
    def __init__(self, seed: int, *, orders: int = 25, fault_seconds: float = 60.0) -> None:
        self.random = Random(seed)
        self.orders = [f"o{n}" for n in range(orders)]
        self.fault_seconds = fault_seconds
        self.broker = MemoryBroker(session_timeout=4.0, rebalance_timeout=4.0)
        self.orchestrators: list[Orchestrator] = []
        self.met: Counter[str] = Counter()  # what happened at least once: no vacuous pass
        self._names = 0
        names = [JOURNAL, REQUESTS, EVENTS, DEADLETTERS, "order.events"]
        names += [f"{service}.{kind}" for service in SERVICES for kind in ("commands", "events")]
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
        await asyncio.gather(*(one.task for one in self.orchestrators))

    async def _start(self) -> None:
        self._names += 1
        name = f"orchestrator-{self._names}"
        process = Process(name)
        log = MemoryLog(self.broker, name, Faults(Random(self.random.random()), late_within=8.0, latency=0.02, **self.fault_rate))
        settings = WorkerSettings(
            PARTITIONS, "earliest", owner=name, snapshot_bytes=self.random.choice((2_000, 20_000, 10**9)), snapshot_seconds=20.0
        )
        worker = Worker(book(), log, settings, Metrics(), Random(self.random.random()))

        async def main() -> None:
            await log.open()
            await worker.run()

        self.orchestrators.append(Orchestrator(process, log, worker, process.start(main())))

    async def _place_orders(self) -> None:
        for number, key in enumerate(self.orders):
            await asyncio.sleep(self.random.random() * 2 * self.fault_seconds / len(self.orders) * 0.8)
            for _ in range(self.random.choice((1, 1, 1, 2))):
                headers: Headers = (("ce_id", f"{key}".encode()), ("ce_source", b"order"), ("ce_type", b"order.placed.v1"))
                partition = home(key, PARTITIONS) if self.random.random() < 0.8 else self.random.randrange(PARTITIONS)
                value = orjson.dumps({"order_id": key, "total": number})
                self.broker.append(TopicPartition("order.events", partition), [Record(key.encode(), value, headers)])

    async def _trouble(self) -> None:
        victim = self.random.choice(self.orchestrators)
        what = self.random.choice(("crash", "pause", "stop", "join", "clock"))
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

    async def _heal(self) -> None:
        for one in self.orchestrators:
            one.log.faults.off()
        for participant in self.participants.values():
            participant.calm()

    async def _converge(self) -> None:
        """Until every order has an outcome; an operator retries what is parked. In bounded time, or there is a bug."""
        for round in range(40):
            await asyncio.sleep(15)
            states = [state for fold in self.folds() for state in fold.states()]
            open_ = [state for state in states if state.live]
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

    def records(self, topic: str, partition: int) -> list[StoredRecord]:
        tp = TopicPartition(topic, partition)
        bounds = self.broker.bounds(tp)
        return self.broker.slice(tp, bounds.start, bounds.end)

    def folds(self, batches: list[Batch] | None = None) -> Iterator[Fold]:
        for number in range(PARTITIONS):
            fold = Fold(TopicPartition(JOURNAL, number))
            for record in self.records(JOURNAL, number):
                batch = fold.feed(record)
                if batch is not None and batches is not None:
                    batches.append(batch)
            yield fold

    def check(self) -> None:
        batches: list[Batch] = []
        folds = list(self.folds(batches))
        self._check_folds(folds)
        states = {state.key: state for fold in folds for state in fold.states()}
        assert sorted(states) == sorted(self.orders), "I1: an order was lost, or there is one too many"
        sent = {(o.command, str(o.attempt)) for batch in batches for d in batch.decisions for o in d.outputs if isinstance(o, Send)}
        seen = {command for participant in self.participants.values() for command in participant.memory.seen}
        assert seen == sent, f"I15: {len(seen - sent)} commands of no valid decision, {len(sent - seen)} never arrived"
        executed: Counter[str] = Counter()
        undone: Counter[str] = Counter()
        for participant in self.participants.values():
            executed += participant.memory.executed
            undone += participant.memory.undone
        for state in states.values():
            self.met[str(state.phase)] += 1
            for name in state.steps:
                command = f"{state.id}:{name}:execute"
                done, back = executed[command], undone[command]
                assert done <= 1, f"I7: {command} took effect {done} times"
                if state.phase is Phase.COMPLETED:
                    assert (done, back) == (1, 0), f"I7: {command} of a completed order: {done} done, {back} undone"
                elif name != "greet":
                    assert done == back, f"I8: {command} of a compensated order: {done} done, {back} undone"
        outcomes: Counter[tuple[str, str]] = Counter()
        for number in range(PARTITIONS):
            for record in self.records(EVENTS, number):
                fields = header_fields(record.headers)
                if fields["type"] in ("saga.completed.v1", "saga.compensated.v1"):
                    outcomes[(fields["subject"], fields["type"])] += 1
        assert sorted(key for key, _ in outcomes) == sorted(self.orders), "I1: each order is told one outcome"
        self.met["void"] += self._void_batches()

    def _check_folds(self, folds: list[Fold]) -> None:
        """I18: the fold from the beginning, from every snapshot that was ever named, and the live one, are the same bytes."""
        live = {number: task for one in self.orchestrators for number, task in one.worker.tasks.items()}
        for number, full in enumerate(folds):
            full.check_end()
            records = self.records(JOURNAL, number)
            starts = {decode(record).get("restore_from", 0) for record in records} - {0}
            for start in starts:
                fold = Fold(TopicPartition(JOURNAL, number), start)
                for record in records[start:]:
                    fold.feed(record)
                fold.check_end()
                assert fold.canonical() == full.canonical(), f"I18: the fold from {start} differs in partition {number}"
                self.met["snapshot"] += 1
            if number in live:
                assert live[number].fold().canonical() == full.canonical(), f"I18: the live state of {number} differs from its fold"

    def _void_batches(self) -> int:
        commits = (decode(r) | {"at": r.offset} for n in range(PARTITIONS) for r in self.records(JOURNAL, n))
        return sum(1 for value in commits if value["kind"] == "commit" and value["offset"] != value["at"])
