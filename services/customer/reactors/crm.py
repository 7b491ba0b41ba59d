"""The CRM's process: it listens to the customer service, and takes the one command that helps where it left somebody out.

What it hears, what it writes and what it says about it are one transaction of its database: the event stands in the outbox, and is
published by the same relay that the participant has. Only then is what it heard acknowledged.
"""

from __future__ import annotations

import asyncio

from sqlalchemy import Connection

from saga import Event, Store
from saga.config import Config
from saga.participate import participate
from saga.reactor import CloudEvent, FaustReactor, Handler, heard
from services.customer.crm import TABLES, apply, crm, prepare, withdraw
from services.stage.example import data_folder, database
from topics.customer import ChangeWithdrawn, CrmReverted, CrmUpdated, PlanChanged

LISTENER = "crm-listener"  # as a consumer group, beside the one of its participant, which is named "crm"


def handlers(store: Store) -> dict[type[Event], Handler]:
    """What the CRM does when it hears something."""

    def say(connection: Connection, event: CrmUpdated | CrmReverted, cause: CloudEvent) -> None:
        trace = cause.attributes.get("traceparent", "")
        store.send(connection, event, key=event.change_id, id=f"{event.__type__}:{event.change_id}", traceparent=trace)

    async def on_changed(event: PlanChanged, came: CloudEvent, _: int) -> None:
        def write(connection: Connection) -> None:
            if apply(connection.execute, event):
                say(connection, CrmUpdated(change_id=event.change_id), came)

        await store.run(write)

    async def on_withdrawn(event: ChangeWithdrawn, came: CloudEvent, _: int) -> None:
        def write(connection: Connection) -> None:
            withdraw(connection.execute, event)
            say(connection, CrmReverted(change_id=event.change_id), came)

        await store.run(write)

    return {PlanChanged: on_changed, ChangeWithdrawn: on_withdrawn}


async def run(stop: asyncio.Event) -> None:
    """Work until `stop` is set. Raises SagaError or OSError if Kafka or the database cannot be had."""
    from services.customer import app  # here, since it imports this package's services

    store, config = Store(database("crm"), tables=TABLES), Config.read()
    reactor = FaustReactor(config, LISTENER, folder=data_folder(), partitions=app.partitions)
    reactor.listen("customer.events", heard(handlers(store)))
    try:
        await store.run(prepare)
        async with asyncio.TaskGroup() as parts:
            parts.create_task(participate({crm: store}, config, stop))
            parts.create_task(reactor.run(stop))
    finally:
        store.close()
