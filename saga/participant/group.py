"""Group commit: what is ready together shares one transaction, a savepoint each.

A commit to disk costs the same for one command as for fifty. A transaction begins as soon as the last one is done, with all that
waits by then: alone when idle, in groups under load, with nothing to tune.

A step that raises loses only its own savepoint. If the transaction as a whole fails (a deadlock, a lost connection, a constraint
checked at commit), each step gets one of its own, so one bad step cannot fail the others twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection

from saga.participant import outbox
from saga.participant.relay import Relay
from saga.participant.store import Store

T = TypeVar("T")

LIMIT = 100  # steps in one transaction: past this the cost of the commit is spread thin, and the first only waits longer


class _Step(NamedTuple):
    function: Callable[[Connection], Any]
    answer: asyncio.Future[Any]


class GroupCommit:
    """Runs steps in shared transactions; `do` is safe to cancel, the step may then have been committed or not."""

    def __init__(self, store: Store, relay: Relay) -> None:
        self._store = store
        self._relay = relay
        self._waiting: deque[_Step] = deque()
        self._writers: set[asyncio.Task[None]] = set()

    async def do(self, function: Callable[[Connection], T]) -> T:
        """Run `function(connection)` in a database thread and return once it is committed. Raises what it raises."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Step(function, answer))
        if len(self._writers) < self._store.writers:
            self._writers.add(asyncio.get_running_loop().create_task(self._write()))
        return await answer

    def cancel(self) -> None:
        for writer in self._writers:
            writer.cancel()

    async def _write(self) -> None:
        try:
            while self._waiting:
                steps = [self._waiting.popleft() for _ in range(min(len(self._waiting), LIMIT))]
                await self._commit([step for step in steps if not step.answer.done()])
        finally:  # at once, not when the task is done: a step that comes in between would wait for nobody
            self._writers = {each for each in self._writers if each is not asyncio.current_task()}

    async def _commit(self, steps: list[_Step]) -> None:
        try:
            async with self._relay.forgetting() as published:
                answers = await self._store.run(lambda connection: _together(connection, steps, published))
        except Exception:
            for step in steps:
                await self._alone(step)
        else:
            for step, answer in zip(steps, answers, strict=True):
                _settle(step, answer)

    async def _alone(self, step: _Step) -> None:
        try:
            answer = await self._store.run(step.function)
        except Exception as error:
            _settle(step, _Raised(error))
        else:
            _settle(step, answer)


class _Raised(NamedTuple):
    error: Exception


def _together(connection: Connection, steps: list[_Step], published: frozenset[int]) -> list[Any]:
    outbox.remove(connection, published)
    answers: list[Any] = []
    for step in steps:
        savepoint = connection.begin_nested()
        try:
            answers.append(step.function(connection))
        except Exception as error:
            answers.append(_Raised(error))
            savepoint.rollback()
        else:
            savepoint.commit()
    return answers


def _settle(step: _Step, answer: Any) -> None:
    if step.answer.done():
        return
    if isinstance(answer, _Raised):
        step.answer.set_exception(answer.error)
    else:
        step.answer.set_result(answer)
