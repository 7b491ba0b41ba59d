"""One service as a process: its participant, its database, its HTTP API if it has one; SIGTERM ends it in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from sqlalchemy import Connection, MetaData
from starlette.types import ASGIApp

from saga import Participant, Store
from saga.config import Config
from saga.participate import participate
from services.checkout.settings import SETTINGS
from services.stage.web import serve


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
