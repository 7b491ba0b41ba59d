"""The pipeline in a test: its real services on the bench, in virtual time, and the clinics' real server in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from saga import Store
from saga.testing import Bench, Case
from services.pipeline import source
from services.pipeline.analyst import analyst
from services.pipeline.audit import Books, read_books
from services.pipeline.cleaner import TABLES, cleaner
from services.pipeline.clinics import Delivery, deliveries
from services.pipeline.collector import collector
from services.pipeline.demo import arrived
from services.pipeline.saga import pipeline
from services.pipeline.settings import Settings
from services.pipeline.warehouse import warehouse
from services.stage.books import ask
from services.stage.example import free_address
from topics.pipeline import BatchArrived

PATIENCE = 60.0  # seconds, of real time, for the clinics' server to begin


class Lab:
    """What a test can do. `stores`: the services' databases."""

    def __init__(self, bench: Bench, settings: Settings, stores: dict[str, Store]) -> None:
        self.bench = bench
        self.settings = settings
        self.stores = stores
        self.made: list[Delivery] = deliveries(settings.batches, settings.seed)

    def event(self, number: int, run: int = 1, **more: object) -> BatchArrived:
        return arrived(self.made[number], self.settings.source, run).model_copy(update=more)

    def run(self, number: int, run: int = 1, **more: object) -> Case:
        """Deliver a batch, and let as much time pass as it needs."""
        case = self.bench.start(self.event(number, run, **more))
        self.bench.settle()
        return case

    def books(self) -> Books:
        return read_books([(case.state, case.data) for case in self.bench.cases], self._ask)

    def _ask(self, service: str, query: str) -> list[Any]:
        if service not in self.stores:
            return ask(service, query)
        with self.stores[service].read() as connection:
            return [tuple(row) for row in connection.execute(text(query))]


@contextmanager
def lab(folder: Path, batches: int = 5, seed: int = 1) -> Iterator[Lab]:
    """A pipeline whose files are in this folder."""
    settings = Settings(free_address(), seed, batches)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, value in {**settings.environment(), "EXAMPLE_DATA": str(folder)}.items():
            patch.setenv(name, value)
        stack.enter_context(_clinics(settings))
        bench = stack.enter_context(Bench(pipeline))
        stores = {
            participant.name: bench.participant(participant, tables=TABLES if participant is cleaner else None)
            for participant in (collector, cleaner, analyst, warehouse)
        }
        yield Lab(bench, settings, stores)


@contextmanager
def _clinics(settings: Settings) -> Iterator[None]:
    """The clinics' server, answering."""
    began: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def work() -> None:
        stop = asyncio.Event()
        began.append((asyncio.get_running_loop(), stop))
        await source.run(stop)

    thread = threading.Thread(target=lambda: asyncio.run(work()), name="clinics")
    thread.start()
    try:
        until = time.monotonic() + PATIENCE
        while not _answers(settings.source):
            if not thread.is_alive() or time.monotonic() > until:
                raise AssertionError("the clinics' server does not answer")
            thread.join(0.02)
        yield
    finally:
        for loop, stop in began:
            loop.call_soon_threadsafe(stop.set)
        thread.join()


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/", trust_env=False).status_code == 404
    except httpx.HTTPError:
        return False
