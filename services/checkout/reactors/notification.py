"""Notification: writes to the customer when an order has come to its end."""

from __future__ import annotations

import asyncio

from saga import Store
from saga.cloudevents import CloudEvent
from saga.config import Config
from services.checkout.mail import TABLES, Mailer, by_smtp
from services.checkout.reactors.listen import listen, make_app, make_topics, run
from services.checkout.settings import SETTINGS, host_and_port

NAME = "notification"


async def notify(stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises SagaError or OSError if Kafka or the database cannot be had."""
    config = Config.read()
    SETTINGS.data.mkdir(parents=True, exist_ok=True)
    store = Store(SETTINGS.database(NAME), tables=TABLES)
    mailer = Mailer(SETTINGS.mail_drop, store, by_smtp(*host_and_port(SETTINGS.smtp)) if SETTINGS.smtp else None)

    async def react(event: CloudEvent, _: int) -> None:
        await asyncio.to_thread(mailer.handle, event)

    try:
        app = make_app(config, NAME)
        await make_topics(config, NAME, [])
        await asyncio.to_thread(mailer.prepare)
        listen(app, config, react)
        await run(app, stop)
    finally:
        store.close()
