"""The worker: one orchestrator process. It joins the group, runs a task for each partition number it is given, and leaves in order.

One consumer group on `saga.requests` decides who owns which number; everything else the owner of n reads by plain assignment. A
rebalance takes everything away and gives it anew, so a task that comes back goes on from the fold it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random
from typing import Any

from saga.engine.book import Book
from saga.engine.messages import REQUESTS
from saga.errors import Corrupt, LostOwnership, Misconfigured, Unavailable
from saga.log.base import Log, Membership, TopicPartition
from saga.metrics import Metrics
from saga.runtime.batch import Place
from saga.runtime.census import begin_series
from saga.runtime.fold import Fold
from saga.runtime.inputs import GONE
from saga.runtime.journal import JournalSettings
from saga.runtime.task import PartitionTask, Phase, Surroundings

logger = logging.getLogger("saga.worker")

RELEASE_SECONDS = 3.0  # how long a revoked task may take to finish its commit; below the group's patience
LOOK_AROUND_SECONDS = 10.0  # between looks at the inputs: new partitions, lag, group offsets for lag tools


@dataclass(frozen=True)
class WorkerSettings:
    """How a process takes part. `begin`: where a new input topic is first read from. `owner` is made unique if it is not given."""

    partitions: int
    begin: str | datetime
    group: str = "saga"
    owner: str = ""
    snapshot_bytes: int = 16 * 1024 * 1024
    snapshot_seconds: float = 3600.0
    history_days: float = 0.0
    accept_loss: Collection[TopicPartition] = ()


class Worker:
    """One orchestrator. `run` returns after `stop`; raises Misconfigured if it may not run at all."""

    def __init__(self, book: Book, log: Log, settings: WorkerSettings, metrics: Metrics, random: Random | None = None) -> None:
        self.tasks: dict[int, PartitionTask] = {}
        self._book = book
        self._log = log
        self._settings = settings
        self._metrics = metrics
        self._random = random or Random()
        self._kept: dict[int, Fold] = {}
        self._counts: dict[str, int] = {}
        self._missing: set[str] = set()  # input topics that were not there at the last look
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self._surroundings: Surroundings | None = None
        self._membership: Membership | None = None
        self._ends: dict[TopicPartition, int] = {}  # of the inputs, when they were last looked at
        begin_series(metrics, book)
        metrics.restore_remaining.set_function(lambda: sum(task.remaining for task in self.tasks.values()))

    async def run(self) -> None:
        """Own and run partitions until `stop`. The log must be open; it is left open."""
        await self._count_inputs()
        reader = self._log.reader()
        self._surroundings = Surroundings(
            log=self._log,
            reader=reader,
            place=lambda number: Place(number, self._settings.partitions, self._book),
            settings=self._journal_settings(),
            begin=self._settings.begin,
            counts=self._counts,
            metrics=self._metrics,
            random=self._random,
            accept_loss=self._settings.accept_loss,
            fatal=self._fail,
            runs=self._tell_running,
        )
        self._membership = await self._log.join(self._settings.group, REQUESTS, self)
        try:
            while not self._stopping.is_set():
                await self._look_around()
        finally:
            await self._membership.leave()  # calls `revoked`: finish, publish, leave
            await reader.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Finish what is under way and leave (SIGTERM)."""
        self._stopping.set()

    def status(self) -> dict[int, str]:
        """The phase of each owned partition number, with the problem where it stopped."""
        return {number: f"{task.phase}: {task.problem}" if task.problem else str(task.phase) for number, task in self.tasks.items()}

    @property
    def ready(self) -> bool:
        """In the group, and every owned partition runs."""
        return self._membership is not None and all(task.phase is Phase.RUNNING for task in self.tasks.values())

    # --- what the group says ------------------------------------------------------------------------------------------------------------

    def assigned(self, partitions: frozenset[int]) -> None:
        assert self._surroundings is not None
        logger.info("assigned: %s", sorted(partitions))
        for number in sorted(partitions):
            task = PartitionTask(self._surroundings, number, self._kept.pop(number, None))
            self.tasks[number] = task
            task.start()
        self._kept.clear()

    async def revoked(self, partitions: frozenset[int]) -> None:
        tasks = [self.tasks.pop(number) for number in sorted(partitions) if number in self.tasks]
        await asyncio.gather(*(task.close(RELEASE_SECONDS) for task in tasks))
        self._kept = {task.number: task.kept for task in tasks if task.kept is not None}

    def _tell_running(self) -> None:
        """One line for all partitions of an assignment: sixteen lines at every rebalance hide the one that matters."""
        if all(task.phase is Phase.RUNNING for task in self.tasks.values()):
            instances = sum(len(task.fold().instances) for task in self.tasks.values())
            logger.info("all %d partitions run; instances: %d", len(self.tasks), instances)

    # --- its pieces ---------------------------------------------------------------------------------------------------------------------

    def _journal_settings(self) -> JournalSettings:
        settings = self._settings
        outlines: dict[str, Any] = {}
        for saga in self._book.all():
            outlines[f"{saga.name} {saga.version}"] = {"hash": saga.graph.hash, "outline": saga.graph.outline}
        return JournalSettings(
            partitions=settings.partitions,
            owner=settings.owner or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}",
            outlines=outlines,
            snapshot_bytes=settings.snapshot_bytes,
            snapshot_ms=int(settings.snapshot_seconds * 1000),
            history_ms=int(settings.history_days * 86_400_000) or None,
        )

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._stopping.set()

    async def _look_around(self) -> None:
        running = [task for task in self.tasks.values() if task.phase is Phase.RUNNING]
        self._note_ages(running)
        try:
            await self._count_inputs()
            await self._note_lag(running)
        except (Unavailable, LostOwnership) as error:
            logger.warning("looking around: %s", error)
        try:
            await asyncio.wait_for(self._stopping.wait(), LOOK_AROUND_SECONDS)
        except TimeoutError:
            pass

    async def _count_inputs(self) -> None:
        """How many partitions each input topic has. One that is deleted while we run stops only the tasks that read it.

        Raises Misconfigured if one is missing at the start, or ours is not as the app says.
        """
        topics = [REQUESTS, *self._book.topics]
        there = await self._log.describe(topics)
        counts = {topic: spec.partitions for topic, spec in there.items()}
        missing = set(topics) - set(there)
        gone = missing & self._missing if self._counts else missing
        self._missing = missing
        if gone and (not self._counts or REQUESTS in gone):
            raise Misconfigured(f"there is no topic {', '.join(sorted(gone))}; create it with `saga topics apply`")
        if counts.get(REQUESTS, self._settings.partitions) != self._settings.partitions:
            raise Misconfigured(f"{REQUESTS} has {counts[REQUESTS]} partitions; the app says {self._settings.partitions}")
        if missing - gone:  # a broker that has just come up may not know all topics yet
            logger.warning(
                "%s is not there; if it is not in %g s either, it was deleted", sorted(missing - gone), LOOK_AROUND_SECONDS
            )
        self._counts.update(counts | dict.fromkeys(gone, GONE))

    async def _note_lag(self, running: list[PartitionTask]) -> None:
        """Lag, for the metrics; and the group's offsets, which nobody needs but tools that show lag."""
        positions = {tp: at.offset for task in running for tp, at in task.positions().items() if tp.topic in self._counts}
        bounds = await self._log.bounds(list(positions), committed=True) if positions else {}
        self._metrics.input_lag_seconds.set(await self._oldest_late(positions, max((task.now() for task in running), default=0)))
        self._ends = {tp: bound.end for tp, bound in bounds.items()}
        self._metrics.input_lag.clear()  # also of what is another owner's now
        if not positions or self._membership is None:
            return
        for tp, offset in positions.items():
            self._metrics.input_lag.labels(tp.topic, str(tp.partition)).set(max(0, bounds[tp].end - offset))
        await self._membership.commit({tp: offset for tp, offset in positions.items() if tp.topic == REQUESTS})

    async def _oldest_late(self, positions: Mapping[TopicPartition, int], now: int) -> float:
        """The age in seconds, at `now` (ms), of the oldest input that was there at the last look and is still not decided; 0 if all are.

        Only such an input is late, so only where there is one is it read.
        """
        oldest = 0
        for tp, offset in positions.items():
            if offset < self._ends.get(tp, 0):
                with contextlib.suppress(Corrupt):  # retention took it: its own task says so, loudly
                    async for lump in self._log.read(tp, offset, offset + 1):
                        oldest = max(oldest, *(now - record.timestamp for record in lump))
        return oldest / 1000

    def _note_ages(self, running: list[PartitionTask]) -> None:
        metrics = self._metrics
        oldest: dict[tuple[str, str], float] = {}
        for saga in self._book.all():
            oldest |= {(saga.name, step): 0.0 for step in ("", *saga.steps)}
        metrics.snapshot_age.set(max((task.snapshot_age() for task in running), default=0.0))
        metrics.timer_lag.set(max((task.timer_lag() for task in running), default=0.0))
        for task in running:
            for name, step, age in task.ages():
                if (name, step) in oldest:
                    oldest[name, step] = max(oldest[name, step], age)
        for (name, step), age in oldest.items():
            (metrics.oldest_waiting.labels(name, step) if step else metrics.oldest_live.labels(name)).set(age)
