"""A Faust app on `saga.events`: its settings, its own topics, and a loop that forgets no event.

Faust gives each event at least once, if one is careful: an exception in its agent acknowledges the event, and so does a cancelled
agent, which is every stop. So nothing is acknowledged by Faust here. We do it ourselves, after the work is done; and what
fails is tried again in place, since what comes after it must not overtake it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import faust
from sqlalchemy.exc import SQLAlchemyError

from saga.cloudevents import CloudEvent, parse
from saga.config import Config
from saga.connect import open_log
from saga.errors import Misconfigured, Unavailable, Unreadable
from saga.log.base import StoredRecord, TopicSpec
from saga.log.kafka_security import client_security
from saga.runtime.codec import EVENTS
from services.checkout.settings import SETTINGS

KERBEROS = ("kerberos_service_name", "kerberos_domain_name")
LEADER = "{app}-__assignor-__leader"  # Faust's own topic; nobody writes to it, but Faust asks for it
WAIT_SECONDS = (0.1, 10.0)  # after a failure: at first, and at most
START_SECONDS = 60.0  # a table is read back in this time, or the process ends and says so
STOP_SECONDS = 15.0
PASSING = (OSError, SQLAlchemyError, Unavailable)  # what may work later: a disk, a database, a mail server

React = Callable[[CloudEvent, int], Awaitable[None]]
logger = logging.getLogger(__name__)


def make_app(config: Config, name: str) -> Any:
    """A Faust app of this name. Raises Misconfigured for a log that is not Kafka, or security settings that do not fit."""
    if config.log:
        raise Misconfigured(f"the reactors need Kafka, which Faust is made for; SAGA_LOG is {config.log!r}")
    data = SETTINGS.data / "faust" / name
    data.parent.mkdir(parents=True, exist_ok=True)
    brokers = ";".join(f"kafka://{address.strip()}" for address in config.bootstrap.split(","))
    return faust.App(
        config.prefix + name,
        broker=brokers,
        broker_credentials=_credentials(client_security(config.security)),
        store="memory://",
        datadir=str(data),
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,  # they are made by `make_topics`, as they must be
        topic_disable_leader=True,
        web_enabled=False,
        stream_wait_empty=False,  # a stop need not wait for what was fetched: it was not acknowledged, so it comes again
        broker_session_timeout=config.session_seconds,
        broker_heartbeat_interval=config.session_seconds / 5,
        broker_commit_interval=1.0,
    )


def _credentials(security: dict[str, Any]) -> Any:
    """What aiokafka is told, in Faust's words."""
    context = security.get("ssl_context")
    match security.get("security_protocol", "PLAINTEXT"), security.get("sasl_mechanism", "PLAIN"):
        case "PLAINTEXT", _:
            return None
        case "SSL", _:
            return faust.SSLCredentials(context)
        case _, "GSSAPI":
            given = {name: security[f"sasl_{name}"] for name in KERBEROS if f"sasl_{name}" in security}
            return faust.GSSAPICredentials(**given, ssl_context=context)
        case _, mechanism:  # OAUTHBEARER needs an object, which no setting can be
            name, password = security["sasl_plain_username"], security["sasl_plain_password"]
            return faust.SASLCredentials(username=name, password=password, mechanism=mechanism, ssl_context=context)


async def make_topics(config: Config, name: str, changelogs: list[TopicSpec]) -> None:
    """Create the topics that a Faust app needs for itself, where they are missing. Raises Unavailable, Misconfigured."""
    log = open_log(config, name)
    await log.open()
    try:
        wanted = [TopicSpec(LEADER.format(app=name), 1, 1 if config.dev else 3), *changelogs]
        there = await log.describe([spec.name for spec in wanted])
        await log.create([spec for spec in wanted if spec.name not in there])
        if not await log.describe([EVENTS]):
            raise Unavailable(f"topic {EVENTS} does not exist; create it with `saga topics apply`")
    finally:
        await log.close()


def listen(app: Any, config: Config, react: React) -> None:
    """Have the app call `react(event, partition)` for every event, in the order of its partition, until it returns."""
    topic = app.topic(
        config.prefix + EVENTS, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True
    )

    async def work(stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await _until_done(react, event.message)
            except Exception as error:  # a mistake of ours: Faust would go on with the next event
                await app.crash(error)
                return
            event.ack()

    app.agent(topic, concurrency=1, name=f"{app.conf.id}.{EVENTS}")(work)


async def _until_done(react: React, message: Any) -> None:
    where = f"{message.topic}:{message.partition}:{message.offset}"
    wait, longest = WAIT_SECONDS
    while True:
        try:
            await react(parse(_record(message)), message.partition)
            return
        except Unreadable as error:
            # Only the coordinator may write this topic, so nobody is waiting for it; it stays in the topic to be looked at.
            logger.error("%s is left out: %s", where, error)
            return
        except PASSING as error:
            logger.warning("%s is tried again in %g s: %s: %s", where, wait, type(error).__name__, error)
        await asyncio.sleep(wait)
        wait = min(2 * wait, longest)


def _record(message: Any) -> StoredRecord:
    headers = tuple((name, bytes(value)) for name, value in message.headers)
    at = round(message.timestamp * 1000)
    return StoredRecord(message.topic, message.partition, message.offset, at, message.key, message.value, headers)


async def run(app: Any, stop: asyncio.Event) -> None:
    """Run the app until `stop` is set; then finish the event in hand, commit, leave. Raises Unavailable if it ends by itself."""
    try:
        async with asyncio.timeout(START_SECONDS):
            await app.start()
        ended = asyncio.create_task(app.wait_until_stopped())
        told = asyncio.create_task(stop.wait())
        await asyncio.wait([ended, told], return_when=asyncio.FIRST_COMPLETED)
        for task in (ended, told):
            task.cancel()
    except TimeoutError:
        raise Unavailable(f"{app.conf.id} did not start within {START_SECONDS:g} s") from None
    finally:
        async with asyncio.timeout(STOP_SECONDS):
            await app.stop()
    if not stop.is_set():
        raise Unavailable(f"{app.conf.id} ended by itself: {app.crash_reason!r}")
