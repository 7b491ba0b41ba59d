"""`saga run`: one orchestrator process, from its settings to its graceful end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Collection

from saga.app import App
from saga.config import Config
from saga.connect import opened, safety
from saga.engine.messages import REQUESTS, Command
from saga.errors import Misconfigured
from saga.garbage import look_seldom
from saga.log.base import Log, TopicPartition
from saga.metrics import Metrics
from saga.ops.http import application, serving
from saga.runtime.worker import Worker, WorkerSettings
from saga.topics import needed_to_run, problems

logger = logging.getLogger(__name__)


async def orchestrate(app: App, config: Config, accept_loss: Collection[TopicPartition]) -> None:
    """Own partitions and run their sagas until SIGTERM or SIGINT: then finish, publish, leave.

    Raises Misconfigured if the journal or a definition is not as it must be; Unavailable if the log cannot be reached.
    """
    look_seldom()
    async with opened(config, "saga-orchestrator", make=False) as log:
        await _check_topics(app, log, config)
        for missing in unhandled(app):
            logger.warning("nobody would answer %s", missing)
        metrics = Metrics(label_names(app))
        worker = Worker(app.book, log, _settings(app, config, accept_loss), metrics)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, worker.stop)
        async with serving(
            application(worker, metrics), config.http, lambda address: logger.info("metrics and health on http://%s", address)
        ):
            logger.info("orchestrating %s in group %r; SIGTERM stops in order", ", ".join(app.book.sagas), config.group)
            await worker.run()


def label_names(app: App) -> set[str]:
    """Whatever may be the value of a metric's label: the names that definitions and topics give."""
    names = set(app.book.sagas) | set(app.book.topics) | {REQUESTS} | set(app.participants)
    for saga in app.book.all():
        names |= set(saga.steps) | {message.__type__ for message in saga.messages()}
    return names


def unhandled(app: App) -> list[str]:
    """The commands, those of compensations too, that go to a participant of this app which has no handler for them."""
    sent = {message.__type__: message for saga in app.book.all() for message in saga.messages() if issubclass(message, Command)}
    return [
        f"{type}: the participant {service} of this app has no handler for {command.__name__}"
        for type, command in sorted(sent.items())
        if (service := command.__service__) in app.participants and type not in app.participants[service].handlers
    ]


async def _check_topics(app: App, log: Log, config: Config) -> None:
    """Nothing is decided on a journal that could lose what was acknowledged, nor while a command would have no place to go."""
    replication, min_insync = safety(config)
    wanted = needed_to_run(app, replication=replication, min_insync=min_insync)
    if found := problems(wanted, await log.describe([spec.name for spec in wanted])):
        raise Misconfigured("\n".join(found))


def _settings(app: App, config: Config, accept_loss: Collection[TopicPartition]) -> WorkerSettings:
    return WorkerSettings(
        partitions=app.partitions,
        begin=app.begin,
        group=config.group,
        snapshot_bytes=config.snapshot_bytes,
        snapshot_seconds=config.snapshot_seconds,
        history_days=config.history_days,
        accept_loss=accept_loss,
    )
