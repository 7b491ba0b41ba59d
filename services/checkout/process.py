"""One service as a process: its participant, its database, its HTTP API if it has one; SIGTERM ends it in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData
from starlette.types import ASGIApp

from saga import Misconfigured, Participant, SagaError, Store
from saga.config import Config
from saga.logs import set_up
from saga.participate import participate
from services.checkout.settings import SETTINGS
from services.checkout.web import serve


@dataclass(frozen=True)
class Service:
    """What a service is made of. `prepare` is called in a transaction at each start; `api` is served at `address`."""

    participant: Participant
    tables: MetaData
    prepare: Callable[[Connection], None] | None = None
    api: Callable[[Store], ASGIApp] | None = None
    address: str = ""
    close: Callable[[], Awaitable[None]] | None = None


async def run_service(service: Service, stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises SagaError or OSError if the log, the database or the address cannot be had."""
    config = Config.read()
    SETTINGS.data.mkdir(parents=True, exist_ok=True)
    store = Store(SETTINGS.database(service.participant.name), tables=service.tables)
    try:
        if service.prepare:
            await store.run(service.prepare)
        async with asyncio.TaskGroup() as parts:
            parts.create_task(participate({service.participant: store}, config, stop))
            if service.api:
                parts.create_task(serve(service.api(store), service.address, stop))
    finally:
        if service.close:
            await service.close()
        store.close()


def main(work: Callable[[asyncio.Event], Awaitable[None]], name: str) -> int:
    """Run `work(stop)` until it ends or a signal asks it to; the process's exit code."""
    try:
        config = Config.read()
    except Misconfigured as mistake:
        print(f"{name} stops: {mistake}", file=sys.stderr)
        return 1
    set_up(config.logs, config.logs_level)

    async def until_told() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work(stop)

    failed: list[BaseException] = []
    try:
        asyncio.run(until_told())
    except* (SagaError, OSError) as group:
        failed = _leaves(group)
    for error in failed:
        logging.error("%s stops: %s: %s", name, type(error).__name__, error)
    return 1 if failed else 0


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
