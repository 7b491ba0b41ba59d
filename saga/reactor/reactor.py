"""A Faust app on the topics of others: its settings, its own topics, and a loop that forgets no event.

Faust gives each event at least once, if one is careful: an exception in its agent acknowledges the event, and so does a cancelled
agent, which is every stop. So nothing is acknowledged by Faust here. We do it ourselves, after the work is done; and what
fails is tried again in place, since what comes after it must not overtake it.

What a reactor says itself is on the log before the event that led to it is acknowledged, or stands in the outbox of its database. It
has an id that follows from that event, so what is said again after a crash is known for the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import faust
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from saga.cloudevents import CloudEvent, parse
from saga.config import Config
from saga.connect import open_log
from saga.engine.messages import Event, faults, topic_of
from saga.errors import Misconfigured, Rejected, Unavailable, Unreadable
from saga.log.base import Outgoing, StoredRecord, TopicPartition, TopicSpec
from saga.log.kafka_security import client_security
from saga.log.partition import home
from saga.reactor.table import Table

KERBEROS = ("kerberos_service_name", "kerberos_domain_name")
LEADER = "{app}-__assignor-__leader"  # Faust's own topic; nobody writes to it, but Faust asks for it
WAIT_SECONDS = (0.1, 10.0)  # after a failure: at first, and at most
START_SECONDS = 60.0  # a table is read back in this time, or the process ends and says so
STOP_SECONDS = 15.0
PASSING = (OSError, SQLAlchemyError, Unavailable)  # what may work later: a disk, a database, a mail server, the log

React = Callable[[CloudEvent, int], Awaitable[None]]
Handler = Callable[[Any, CloudEvent, int], Awaitable[None]]  # the event as its class, as it came, its partition
logger = logging.getLogger(__name__)


class FaustReactor:
    """One Faust app. `folder`: where Faust may keep files; `partitions`: of what it listens to, and so of its tables.

    `name` is its consumer group too: not the name of a participant, which has a group already.

    Raises Misconfigured for a log that is not Kafka, or security settings that do not fit.
    """

    def __init__(self, config: Config, name: str, *, folder: Path, partitions: int) -> None:
        if config.log:
            raise Misconfigured(f"the reactors need Kafka, which Faust is made for; SAGA_LOG is {config.log!r}")
        self.name = name
        self._config = config
        self._partitions = partitions
        self._tables: list[Table] = []
        self._topics: list[str] = []
        self._log = open_log(config, name)
        self._app = self._make_app(folder / "faust" / name)

    def table(self, name: str) -> Table:
        """A table of this reactor, kept in the compacted topic `<reactor>-<name>-changelog`."""
        table = Table(self._app.Table(name, partitions=self._partitions, key_type=bytes, value_type=bytes))
        self._tables.append(table)
        return table

    def listen(self, topic: str, react: React) -> None:
        """Have `react(event, partition)` called for every event of a topic, in the order of its partition, until it returns.

        What may work later (PASSING) is tried again; any other exception ends the process, with the event still to be done.
        """
        self._topics.append(topic)
        raw: dict[str, Any] = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
        source = self._app.topic(self._config.prefix + topic, allow_empty=True, **raw)

        async def work(stream: Any) -> None:
            async for event in stream.noack().events():
                try:
                    await _until_done(react, event.message)
                except Exception as error:  # a mistake of ours: Faust would go on with the next event
                    await self._app.crash(error)
                    return
                event.ack()

        self._app.agent(source, concurrency=1, name=f"{self._app.conf.id}.{topic}")(work)

    async def say(self, event: Event, *, id: str, cause: CloudEvent) -> None:
        """Publish an event under the key of the one that caused it, and return when it is acknowledged.

        `id`: the same whenever the same fact is told again. Raises Unavailable if the log does not take it: then it may have. Raises
        Unreadable if it never will.
        """
        trace = cause.attributes.get("traceparent", "")
        told = {"traceparent": trace} if trace else {}
        sent = CloudEvent(
            event.__type__, id, event.__service__, event.model_dump(mode="json"), cause.time, cause.subject, attributes=told
        )
        to = TopicPartition(topic_of(type(event)), home(cause.subject, self._partitions))
        try:
            await self._log.publish([Outgoing(to, sent.record(cause.subject.encode()))])
        except Rejected as error:  # it will not be taken the next time either
            raise Unreadable("too-large", f"what is said of it, {event.__type__}, is too large: {error}") from error

    @property
    def ready(self) -> bool:
        """Whether its tables are read back, and it has its partitions."""
        return bool(self._app.tables.recovery.completed.is_set() and not self._app.rebalancing)

    def mine(self, topic: str) -> set[int]:
        """The partitions of a topic that this process has now; rows of others may still lie in its tables."""
        return {tp.partition for tp in self._app.consumer.assignment() if tp.topic == self._config.prefix + topic}

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; then finish the event in hand, commit, leave. Raises Unavailable if it ends by itself."""
        await self._log.open()
        try:
            await self._make_topics()
            await self._run(stop)
        finally:
            await self._log.close()

    async def _run(self, stop: asyncio.Event) -> None:
        app = self._app
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

    async def _make_topics(self) -> None:
        """Create what this app needs for itself. Raises Unavailable if what it listens to is not there."""
        replication = 1 if self._config.dev else 3
        safe = {
            "cleanup.policy": "compact",
            "unclean.leader.election.enable": "false",
            "min.insync.replicas": "1" if self._config.dev else "2",
        }
        wanted = [TopicSpec(LEADER.format(app=self.name), 1, replication)]
        wanted += [TopicSpec(self._own(table.changelog), self._partitions, replication, safe) for table in self._tables]
        there = await self._log.describe([*(spec.name for spec in wanted), *self._topics])
        await self._log.create([spec for spec in wanted if spec.name not in there])
        for topic in self._topics:
            if topic not in there:
                raise Unavailable(f"topic {topic} does not exist; create it with `saga topics apply`")
            if there[topic].partitions != self._partitions:
                raise Misconfigured(f"topic {topic} has {there[topic].partitions} partitions, not {self._partitions}")

    def _own(self, topic: str) -> str:
        """A name of Faust's, without the prefix: the log puts it there again."""
        return topic.removeprefix(self._config.prefix)

    def _make_app(self, folder: Path) -> Any:
        folder.parent.mkdir(parents=True, exist_ok=True)
        config = self._config
        return faust.App(
            config.prefix + self.name,
            broker=";".join(f"kafka://{address.strip()}" for address in config.bootstrap.split(",")),
            broker_credentials=_credentials(client_security(config.security)),
            store="memory://",
            datadir=str(folder),
            consumer_auto_offset_reset="earliest",
            topic_allow_declare=False,  # they are made by `_make_topics`, as they must be
            topic_disable_leader=True,
            web_enabled=False,
            stream_wait_empty=False,  # a stop need not wait for what was fetched: it was not acknowledged, so it comes again
            broker_session_timeout=config.session_seconds,
            broker_heartbeat_interval=config.session_seconds / 5,
            broker_commit_interval=1.0,
        )


def heard(handlers: Mapping[type[Event], Handler]) -> React:
    """What `listen` takes, from a handler for each class: `handler(event, as_it_came, partition)`. Other types are passed over."""
    by_type = {event.__type__: (event, handler) for event, handler in handlers.items()}

    async def react(came: CloudEvent, partition: int) -> None:
        if came.type in by_type:
            event, handler = by_type[came.type]
            try:
                read = event.model_validate(came.data)
            except ValidationError as error:
                raise Unreadable("schema", f"{came.type} {came.id!r}: {faults(error)}") from None
            await handler(read, came, partition)

    return react


async def _until_done(react: React, message: Any) -> None:
    where = f"{message.topic}:{message.partition}:{message.offset}"
    wait, longest = WAIT_SECONDS
    while True:
        try:
            await react(parse(_record(message)), message.partition)
            return
        except Unreadable as error:
            # Nobody waits for it here, and a saga that does will miss it; it stays in its topic to be looked at.
            logger.error("%s is left out: %s", where, error)
            return
        except PASSING as error:
            logger.warning("%s is tried again in %g s: %s: %s", where, wait, type(error).__name__, error)
        await asyncio.sleep(wait)
        wait = min(2 * wait, longest)


def _record(message: Any) -> StoredRecord:
    headers: Sequence[tuple[str, bytes]] = [(name, bytes(value or b"")) for name, value in message.headers]  # Kafka has null, too
    at = round(message.timestamp * 1000)
    return StoredRecord(message.topic, message.partition, message.offset, at, message.key, message.value, tuple(headers))


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
