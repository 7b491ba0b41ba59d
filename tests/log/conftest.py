"""The adapters that the contract suite runs against. A scenario is a coroutine function; `run` gives it a loop and a clean log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from saga.log.base import Log, TopicSpec
from saga.log.file import FileLog
from saga.log.memory import Faults, MemoryBroker, MemoryLog
from saga.testing import clock

Scenario = Callable[[], Awaitable[None]]


class Adapter:
    """Makes clients of one kind of log and names that nobody else uses."""

    def __init__(self, unique: str) -> None:
        self._unique = unique
        self._numbers = count(1)
        self._opened: list[Log] = []

    def make(self, name: str) -> Log:
        raise NotImplementedError

    def run(self, scenario: Scenario) -> None:
        raise NotImplementedError

    def name(self, what: str) -> str:
        """A new topic or group name."""
        return f"{what}-{self._unique}-{next(self._numbers)}"

    async def log(self, name: str = "client") -> Log:
        """A new client, open; closed at the end of the scenario."""
        log = self.make(name)
        await log.open()
        self._opened.append(log)
        return log

    async def topic(self, log: Log, partitions: int = 1, **config: str) -> str:
        """Create a topic; in a setting's name write `_` for the dot. An append needs the broker's time, as the journal has it."""
        config.setdefault("message_timestamp_type", "LogAppendTime")
        name = self.name("topic")
        await log.create([TopicSpec(name, partitions, 1, {key.replace("_", "."): value for key, value in config.items()})])
        return name

    async def _play(self, scenario: Scenario) -> None:
        try:
            async with asyncio.timeout(120):
                await scenario()
        finally:
            opened, self._opened = self._opened, []
            for log in opened:
                await log.close()


class MemoryAdapter(Adapter):
    """Plays each scenario several times: as asyncio would schedule it, and in drawn orders with latency."""

    def __init__(self) -> None:
        super().__init__("m")
        self._broker = MemoryBroker()
        self._random: Random | None = None

    def make(self, name: str) -> Log:
        faults = Faults(self._random, latency=0.02) if self._random is not None else None
        return MemoryLog(self._broker, name, faults)

    def run(self, scenario: Scenario) -> None:
        for seed in (None, 1, 2, 3):
            self._broker = MemoryBroker()
            self._random = Random(seed) if seed is not None else None
            try:
                clock.run(self._play(scenario), seed=seed)
            except BaseException as error:
                error.add_note(f"seed {seed}")
                raise


class KafkaAdapter(Adapter):
    """A real broker; a new set of topic names for each test."""

    def __init__(self, bootstrap: str) -> None:
        super().__init__(uuid4().hex[:8])
        self._bootstrap = bootstrap

    def make(self, name: str) -> Log:
        from saga.log.kafka import KafkaLog

        return KafkaLog(self._bootstrap, client_id=name)

    def run(self, scenario: Scenario) -> None:
        asyncio.run(self._play(scenario))


class FileAdapter(Adapter):
    """A folder of its own for each test; the loop and the disk are real."""

    def __init__(self, folder: Path) -> None:
        super().__init__("f")
        self._folder = folder

    def make(self, name: str) -> Log:
        return FileLog(self._folder, client_id=name)

    def run(self, scenario: Scenario) -> None:
        asyncio.run(self._play(scenario))


@pytest.fixture(params=["memory", "file", pytest.param("kafka", marks=pytest.mark.kafka)])
def adapter(request: pytest.FixtureRequest, tmp_path: Path) -> Adapter:
    if request.param == "memory":
        return MemoryAdapter()
    if request.param == "file":
        return FileAdapter(tmp_path / "log")
    return KafkaAdapter(request.getfixturevalue("broker").bootstrap)
