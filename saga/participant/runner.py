"""Runs a participant: reads its commands, has them executed, publishes the answers, commits the offsets.

The path of one command: share (read) → lanes (one key in order) → execution (handler and inbox in one transaction, by way of the
group commit) → relay (publish) → share (commit).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from saga.engine.messages import commands_topic
from saga.errors import SagaError
from saga.log.base import Log
from saga.participant import inbox
from saga.participant.execution import Execution
from saga.participant.lanes import Lanes
from saga.participant.participant import Participant
from saga.participant.relay import Relay
from saga.participant.settings import Meter, NoMeter, Settings
from saga.participant.share import Share
from saga.participant.store import Store

COMMIT_EVERY = 0.5  # seconds: what lies between is read again after a crash, and answered from the inbox
PURGE_EVERY = 60.0  # seconds
PURGE_ROWS = 500  # rows deleted in one transaction: short enough not to hold up commands
PURGE_LATER = 1.1  # times the retention: no row goes while a command it remembers could still pass for young enough

logger = logging.getLogger("saga.participant")


class ParticipantRunner:
    """One process's share of a participant's work; any number of processes may run one participant on one database.

    `log` must be open; the group is the participant's name, the topic `<service>.commands`, the answers go to `<service>.events`.
    """

    def __init__(
        self, participant: Participant, store: Store, log: Log, *, settings: Settings | None = None, meter: Meter | None = None
    ) -> None:
        self._participant = participant
        self._store = store
        self._log = log
        self._settings = settings or Settings()
        self._meter: Meter = meter or NoMeter()
        self._share: Share | None = None

    @property
    def name(self) -> str:
        return self._participant.name

    @property
    def ready(self) -> bool:
        """Takes commands: it is in the group and reads whatever it was given."""
        return self._share is not None and self._share.ready

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in flight within `stop_within`, publish, commit, leave the group.

        The log and the store stay open. Raises what makes going on impossible; what may pass by itself is tried again.
        """
        async with self._participant.running():
            await self._run(stop)

    async def _run(self, stop: asyncio.Event) -> None:
        relay = Relay(self._participant.name, self._store, self._log, self._settings, self._meter)
        share: Share
        lanes: Lanes
        execution = Execution(
            self._participant, self._store, relay, self._settings, self._meter, lambda record: lanes.finished(record)
        )
        lanes = Lanes(execution.begin, execution.recall, lambda record: share.handled(record), self._settings.in_flight)
        share = self._share = Share(commands_topic(self._participant.name), self._log, relay, lanes)
        loop = asyncio.get_running_loop()
        relaying = loop.create_task(relay.run())
        reading = loop.create_task(self._read(share))
        keeping = [loop.create_task(self._commit(share)), loop.create_task(self._purge())]
        stopping = loop.create_task(stop.wait())
        tasks = [relaying, reading, *keeping, stopping]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await _cancel([reading, *keeping])
            await self._finish(share, relay)
            for task in tasks:
                if task.done() and not task.cancelled():
                    task.result()
        finally:
            execution.cancel()
            await _cancel(tasks)

    async def _read(self, share: Share) -> None:
        await share.join(self._participant.name)
        await share.read()

    async def _commit(self, share: Share) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY)
            await share.commit()

    async def _finish(self, share: Share, relay: Relay) -> None:
        """1 finish what is in work · 2 commit and leave · 3 publish the rest; within a bound, since the log may be away."""
        within = self._settings.stop_within.total_seconds()
        try:
            async with asyncio.timeout(within * 2):
                await share.leave(within)
                await relay.drained()
                await relay.flush()
        except (TimeoutError, SagaError, SQLAlchemyError) as error:
            logger.warning("%s: stopped with work left, which the next start does: %s", self._participant.name, error or "too slow")

    async def _purge(self) -> None:
        while True:
            await asyncio.sleep(PURGE_EVERY)
            try:
                await self._forget()
            except (SQLAlchemyError, SagaError) as error:
                logger.warning("%s: old rows could not be deleted, trying again later: %s", self._participant.name, error)

    async def _forget(self) -> None:
        """Delete old rows, in small batches; say how many began a call and never learned its outcome."""
        old = self._before(self._settings.retention)
        begun = await self._store.look(lambda connection: inbox.unsettled(connection, old))
        self._meter.on_begun(self._participant.name, begun)
        if begun:
            logger.error("%s: %d commands began a call long ago and never learned its outcome", self._participant.name, begun)
        before = self._before(self._settings.retention * PURGE_LATER)
        deleted = PURGE_ROWS
        while deleted == PURGE_ROWS:
            deleted = await self._store.run(lambda connection: inbox.purge(connection, before, PURGE_ROWS))

    def _before(self, age: timedelta) -> int:
        return self._store.now() - round(age.total_seconds() * 1000)


async def _cancel(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they end: a library that waits with Python 3.11's `wait_for` may swallow a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
