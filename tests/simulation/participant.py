"""A conforming participant, written from the protocol alone: an inbox, tombstones, and moods that a seed draws.

It is not the kit: the simulation checks the coordinator against what the protocol promises, and the kit is checked by itself.
What it remembers is durable (it outlives the fault phase), what it does is counted as effects.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any

import orjson

from saga.errors import Unavailable
from saga.log.base import Headers, Outgoing, Record, StoredRecord, TopicPartition
from saga.log.memory import Faults, MemoryBroker, MemoryLog
from tests.simulation.sagas import UNDOES

DONE = {
    "pay": "payment.taken.v1",
    "reserve": "stock.reserved.v1",
    "greet": "mail.greeted.v1",
    "ship": "shipping.booked.v1",
    "confirm": "mail.confirmed.v1",
}
REFUSED = {"pay": "payment.declined.v1", "reserve": "stock.out.v1", "ship": "shipping.refused.v1"}
DATA: dict[str, Any] = {"pay": {"payment_id": "p"}, "ship": {"tracking": "t"}}


@dataclass
class Moods:
    """Chances of what a participant does with a command beside doing it."""

    refuse: float = 0.1
    fail: float = 0.1
    swallow: float = 0.05  # never answers this copy, though it may have done it
    slow: float = 0.1
    twice: float = 0.1


@dataclass
class Memory:
    """What a participant's database holds."""

    answers: dict[str, tuple[str, str, Any]] = field(default_factory=dict)  # command id → (outcome, type, data)
    dead: set[str] = field(default_factory=set)  # commands that must never be executed any more
    executed: Counter[str] = field(default_factory=Counter)  # effects, by execute command id
    undone: Counter[str] = field(default_factory=Counter)
    seen: list[tuple[str, str]] = field(default_factory=list)  # (command id, attempt), as they came


class SimParticipant:
    """One service over all its partitions; runs until it is cancelled."""

    def __init__(self, broker: MemoryBroker, service: str, partitions: int, random: Random, moods: Moods) -> None:
        self.service = service
        self.memory = Memory()
        self.moods = moods
        self._random = random
        self._partitions = [TopicPartition(f"{service}.commands", n) for n in range(partitions)]
        self._log = MemoryLog(broker, service, Faults(random, publish_twice=0.1, publish_late=0.0, latency=0.05))
        self._slow: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        await self._log.open()
        reader = self._log.reader()
        await reader.assign(dict.fromkeys(self._partitions, 0))
        while True:
            try:
                records = await reader.fetch(self._partitions, limit=20, timeout=1000.0)
            except Unavailable:
                continue
            for record in records:
                await self._take(record)

    def calm(self) -> None:
        self.moods = Moods(refuse=self.moods.refuse, fail=0, swallow=0, slow=0, twice=0)
        self._log.faults.off()

    async def _take(self, record: StoredRecord) -> None:
        headers = {name: value.decode() for name, value in record.headers}
        command, attempt = headers["ce_sagacommand"], headers["ce_sagaattempt"]
        self.memory.seen.append((command, attempt))
        draw = self._random.random
        if draw() < self.moods.fail:
            await self._reply(record, headers, ("failed", "saga.failed.v1", {"reason": "boom"}))
            return
        answer = self._answer(headers)
        if draw() < self.moods.swallow:
            return
        if draw() < self.moods.slow:
            task = asyncio.create_task(self._later(draw() * 8, record, headers, answer))
            self._slow.add(task)
            task.add_done_callback(self._slow.discard)
            return
        await self._reply(record, headers, answer)
        if draw() < self.moods.twice:
            await self._reply(record, headers, answer)

    def _answer(self, headers: dict[str, str]) -> tuple[str, str, Any]:
        memory, command = self.memory, headers["ce_sagacommand"]
        if command in memory.answers:
            return memory.answers[command]
        step = command.split(":")[3].partition("/")[0]  # of a mapped step, whichever item
        nothing: tuple[str, str, Any] = ("nothing", "saga.nothing.v1", {})
        subject = headers.get("ce_sagasubject", "")
        done_before = memory.answers.get(subject, ("",))[0] == "done"
        answer = nothing
        if headers["ce_sagaaction"] == "execute":
            if command not in memory.dead:
                if step in REFUSED and self._random.random() < self.moods.refuse:
                    answer = ("refused", REFUSED[step], {})
                else:
                    memory.executed[command] += 1
                    answer = ("done", DONE[step], DATA.get(step, {}))
        elif headers["ce_sagaaction"] == "verify":
            if done_before:
                answer = memory.answers[subject]
            else:
                memory.dead.add(subject)
        elif done_before:
            memory.undone[subject] += 1
            answer = ("done", UNDOES[step], {})
        else:
            memory.dead.add(subject)
        memory.answers[command] = answer
        return answer

    async def _later(self, pause: float, record: StoredRecord, headers: dict[str, str], answer: tuple[str, str, Any]) -> None:
        await asyncio.sleep(pause)
        await self._reply(record, headers, answer)

    async def _reply(self, record: StoredRecord, headers: dict[str, str], answer: tuple[str, str, Any]) -> None:
        outcome, type, data = answer
        command, attempt = headers["ce_sagacommand"], headers["ce_sagaattempt"]
        fresh = f":{self._random.random()}" if outcome == "failed" else ""
        given: Headers = (
            ("ce_specversion", b"1.0"),
            ("ce_id", f"{command}:reply{fresh}".encode()),
            ("ce_type", type.encode()),
            ("ce_source", self.service.encode()),
            ("ce_sagacommand", command.encode()),
            ("ce_sagaattempt", attempt.encode()),
            ("ce_sagaoutcome", outcome.encode()),
        )
        to = TopicPartition(f"{self.service}.events", record.partition)
        while True:
            try:
                return await self._log.publish([Outgoing(to, Record(record.key, orjson.dumps(data), given))])
            except Unavailable:  # it has waited for its time-out already
                continue
