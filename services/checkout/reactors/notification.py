"""Notification: writes to the customer when an order has come to its end."""

from __future__ import annotations

import asyncio

from saga import Store
from saga.cloudevents import CloudEvent
from saga.config import Config
from saga.reactor import FaustReactor
from saga.runtime.codec import EVENTS
from services.checkout.mail import TABLES, Mailer, by_smtp
from services.checkout.settings import SETTINGS, host_and_port

NAME = "notification"


async def notify(stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises SagaError or OSError if Kafka or the database cannot be had."""
    from services import app as everything  # here, since it imports every example

    SETTINGS.data.mkdir(parents=True, exist_ok=True)
    store = Store(SETTINGS.database(NAME), tables=TABLES)
    mailer = Mailer(SETTINGS.mail_drop, store, by_smtp(*host_and_port(SETTINGS.smtp)) if SETTINGS.smtp else None)

    async def react(event: CloudEvent, _: int) -> None:
        await asyncio.to_thread(mailer.handle, event)

    try:
        reactor = FaustReactor(Config.read(), NAME, folder=SETTINGS.data, partitions=everything.partitions)
        await asyncio.to_thread(mailer.prepare)
        reactor.listen(EVENTS, react)
        await reactor.run(stop)
    finally:
        store.close()
