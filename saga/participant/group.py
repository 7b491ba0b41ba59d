"""Group commit: what is ready together shares one transaction.

A commit to disk costs the same for one command as for fifty, and so does nearly every statement of the kit. A transaction begins as
soon as the last one is done, with all that waits by then: alone when idle, in groups under load, with nothing to tune.

    lock and read the inbox rows of all → each step in turn → write the inbox rows of all → commit → tell each step

A step that raises has undone what it did, and the others go on. If the transaction as a whole fails (a lost connection, a constraint
checked at commit), each step gets one of its own, so one bad step cannot fail the others twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

from sqlalchemy import Connection

from saga.log.base import StoredRecord
from saga.participant import outbox
from saga.participant.command import Received
from saga.participant.inbox import Broken, Inbox
from saga.participant.relay import Relay
from saga.participant.settlement import Settlement
from saga.participant.store import Store

T = TypeVar("T")

LIMIT = 200  # steps in one transaction: past this the cost of the commit is spread thin, and the first only waits longer


class Step(Protocol):
    """Work for a transaction."""

    received: Received
    begun: bool  # the command had other steps before, and cannot be given back

    def run(self, inbox: Inbox) -> Any:
        """In a database thread. If it raises, it must have undone what it did."""

    def done(self, result: Any) -> None:
        """On the event loop, once `run`'s work is committed."""

    def failed(self, error: Exception) -> None:
        """On the event loop, if `run` raised or could not be committed."""


class Part:
    """A step of a command that has begun already; whoever waits for it gets what `run` returned, or raised."""

    begun = True

    def __init__(self, received: Received, run: Callable[[Inbox], Any]) -> None:
        self.received = received
        self.run = run
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def done(self, result: Any) -> None:
        if not self.answer.done():
            self.answer.set_result(result)

    def failed(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


class GroupCommit:
    """Runs steps in shared transactions."""

    def __init__(self, store: Store, relay: Relay, settlement: Settlement) -> None:
        self._store = store
        self._relay = relay
        self._settlement = settlement
        self._waiting: deque[Step] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    def add(self, step: Step) -> None:
        self._waiting.append(step)
        if len(self._writers) < self._store.writers:
            self._writers.add(asyncio.get_running_loop().create_task(self._write()))

    async def do(self, received: Received, run: Callable[[Inbox], T]) -> T:
        """Run a step of a command that has begun and return once it is committed. Raises what it raises.

        Safe to cancel; the step may then have been committed or not.
        """
        part = Part(received, run)
        self.add(part)
        answer: T = await part.answer
        return answer

    def recall(self) -> list[StoredRecord]:
        """Forget the steps of commands that have not begun; their records."""
        back = [step.received.address.record for step in self._waiting if not step.begun]
        self._waiting = deque(step for step in self._waiting if step.begun)
        return back

    def cancel(self) -> None:
        for writer in self._writers:
            writer.cancel()

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._commit([self._waiting.popleft() for _ in range(min(len(self._waiting), LIMIT))])
        finally:  # at once, not when the task is done: a step that comes in between would wait for nobody
            self._writers = {each for each in self._writers if each is not asyncio.current_task()}

    async def _commit(self, steps: Sequence[Step]) -> None:
        try:
            async with self._relay.forgetting() as published:
                outcomes = await self._store.run(lambda connection: self._together(connection, steps, published))
        except Exception as error:
            if len(steps) == 1:
                steps[0].failed(error)
                return
            for step in steps:
                await self._commit([step])
            return
        for step, outcome in zip(steps, outcomes, strict=True):
            if isinstance(outcome, _Raised):
                step.failed(outcome.error)
            else:
                step.done(outcome)

    def _together(self, connection: Connection, steps: Sequence[Step], published: frozenset[int]) -> list[Any]:
        outbox.remove(connection, published)
        inbox = self._settlement.open(connection, [step.received for step in steps])
        outcomes = [_attempt(step, inbox) for step in steps]
        inbox.flush()
        return outcomes


class _Raised(NamedTuple):
    error: Exception


def _attempt(step: Step, inbox: Inbox) -> Any:
    try:
        return step.run(inbox)
    except Broken:
        raise
    except Exception as error:
        return _Raised(error)
