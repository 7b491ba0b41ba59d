"""The processes around a saga on the bench: orchestrators, real participants, and the services that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import timedelta
from pathlib import Path

from sqlalchemy import MetaData

from saga.engine.book import Book
from saga.engine.messages import commands_topic
from saga.log.base import Outgoing, TopicPartition
from saga.log.memory import MemoryBroker, MemoryLog
from saga.metrics import Metrics
from saga.participant import Participant, ParticipantRunner, Settings, Store
from saga.runtime.worker import Worker, WorkerSettings
from saga.testing.clock import Process
from saga.testing.script import Script

# How often the outbox of a real participant looks for what others left there. Rarely: there are no others, and a day of virtual time
# should not cost a day's looks into a database.
POLL = timedelta(seconds=5)
PATIENCE = 60.0  # seconds that a played service waits for a command before it looks again


class Orchestrator:
    """One orchestrator process: the production worker, on the log in memory. To be made inside the running loop."""

    def __init__(self, broker: MemoryBroker, book: Book, name: str) -> None:
        self._log = MemoryLog(broker, name)
        self.worker = Worker(book, self._log, WorkerSettings(1, "earliest", owner=name), Metrics())
        self._process = Process(name)
        self.task = self._process.start(self._run())

    async def _run(self) -> None:
        await self._log.open()
        await self.worker.run()

    @property
    def ready(self) -> bool:
        return bool(self.worker.tasks) and self.worker.ready

    async def crash(self) -> None:
        """Not one more line of it runs, and nothing more leaves it."""
        self._process.freeze()
        self._log.kill()


class Service:
    """One process of a real participant. Its database is a file, and outlives it. To be made inside the running loop."""

    def __init__(self, broker: MemoryBroker, participant: Participant, store: Store) -> None:
        self._log = MemoryLog(broker, participant.name)
        self._store = store
        self._runner = ParticipantRunner(participant, store, self._log, settings=Settings(poll=POLL))
        self.task = asyncio.get_running_loop().create_task(self._run(), name=participant.name)

    async def _run(self) -> None:
        await self._log.open()
        await self._runner.run(asyncio.Event())

    async def crash(self) -> None:
        """Nothing more runs and nothing reaches the log any more; what was committed to the database stays."""
        self._log.kill()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self._store.close()


class Hosted:
    """A participant that is at home on this bench: what is left of it when its process crashes."""

    def __init__(
        self, broker: MemoryBroker, participant: Participant, file: Path, tables: MetaData | None, now: Callable[[], int]
    ) -> None:
        self._participant = participant
        self._broker = broker
        self._now = now
        self._url = f"sqlite:///{file}"
        self._tables = tables
        self.store = self._open()  # the test's own way into the database; the process has another
        self.service: Service | None = None

    def _open(self) -> Store:
        return Store(self._url, tables=self._tables, now=self._now)

    async def start(self) -> None:
        self.service = Service(self._broker, self._participant, self._open())

    async def crash(self) -> None:
        if self.service is not None:
            await self.service.crash()

    async def close(self) -> None:
        await self.crash()
        self.store.close()


class Played:
    """The services that the test plays: reads their commands, answers from the script."""

    def __init__(self, broker: MemoryBroker, script: Script) -> None:
        self._broker = broker
        self._script = script
        self._log = MemoryLog(broker, "played services")

    async def run(self, services: Collection[str]) -> None:
        await self._log.open()
        reader = self._log.reader()
        partitions = {TopicPartition(commands_topic(each), 0): each for each in services}
        await reader.assign(dict.fromkeys(partitions, 0))
        while True:
            for record in await reader.fetch(partitions, limit=100, timeout=PATIENCE):
                service = partitions[TopicPartition(record.topic, record.partition)]
                departure = self._script.answer(record, service, self._broker.now())
                if departure is not None:
                    await self._log.publish([Outgoing(TopicPartition(departure.topic, record.partition), departure.record)])
