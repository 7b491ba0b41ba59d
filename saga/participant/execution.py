"""One command from the log to its answer: read it, run it, settle it, publish.

    unreadable                    → dead letter; `failed` too, if it says whom to answer
    too old                       → `expired`
    a `def` handler without calls → handler and settlement in a shared transaction → publish
    otherwise                     → begin (where there are calls) → calls → handler and settlement in one transaction → publish

The third is what most commands are, and it has no task and no future of its own: it is a step of the group commit with two callbacks.

What raises is run again after a pause, a few times, then answered `failed`: the saga decides when to try next, and a command that
never works holds up its key for a second, not for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any

from saga.cloudevents import header_fields
from saga.deadletter import dead_letter
from saga.engine.messages import DEADLETTERS, Message
from saga.engine.state import Action
from saga.errors import Unreadable
from saga.log.base import Record, StoredRecord
from saga.logs import Command, working_on
from saga.participant.command import REASON, Address, Received, read_address, read_command
from saga.participant.group import GroupCommit
from saga.participant.inbox import Do, Inbox
from saga.participant.outbox import Departure
from saga.participant.participant import Participant
from saga.participant.relay import Relay
from saga.participant.settings import Meter, Settings
from saga.participant.settlement import Answer, Arrival, Settlement
from saga.participant.store import Store
from saga.participant.work import Expired, Failed, Nothing, Refused, Work

GROWTH = 3  # each pause between two tries is so many times the last
AGAIN = 1.0  # seconds until a record is handled again that the kit itself failed on

logger = logging.getLogger("saga.participant")


class Case:
    """A command in hand, since a time (s of the event loop); and, if it is a plain one, its step of the group commit."""

    __slots__ = ("_execution", "received", "result", "since")
    begun = False

    def __init__(self, execution: Execution, received: Received, since: float) -> None:
        self._execution = execution
        self.received = received
        self.since = since
        self.result = ""

    def run(self, inbox: Inbox) -> Answer:
        return self._execution.run(self.received, (), inbox)

    def done(self, answer: Answer) -> None:
        self._execution.ran(self, answer)

    def failed(self, error: Exception) -> None:
        self._execution.raised(self, error)

    def published(self) -> None:
        """The reply is acknowledged."""
        self._execution.answered(self)


class Execution:
    """Executes commands: `begin` takes a record in hand, `finished(record)` is called once its answer is acknowledged by the log.

    Many may be in hand at once, of one key one after the other.
    """

    def __init__(
        self,
        participant: Participant,
        store: Store,
        relay: Relay,
        settings: Settings,
        meter: Meter,
        finished: Callable[[StoredRecord], None],
    ) -> None:
        self._participant = participant
        self._store = store
        self._relay = relay
        self._settings = settings
        self._meter = meter
        self._finished = finished
        self._settlement = Settlement(store, round(settings.retention.total_seconds() * 1000))
        self._group = GroupCommit(store, relay, self._settlement)
        self._calling = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="saga-calls")
        self._line: deque[Case] = deque()  # commands with calls or an async handler that wait for their turn
        self._turns: set[asyncio.Task[None]] = set()  # those that have it
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, record: StoredRecord) -> None:
        """Take one record of the commands topic in hand; returns at once."""
        since = asyncio.get_running_loop().time()
        address: Address | None = None
        try:
            fields = header_fields(record.headers)
            address = read_address(record, fields, self._participant.name)
            if address is None:
                raise Unreadable("no-address", "sagacommand, sagainstance and sagaattempt must say whom to answer")
            case = Case(self, read_command(address, fields, self._participant.handlers), since)
        except Unreadable as error:
            self._start(record, address, partial(self._unreadable, record, since, address, error))
            return
        except Exception:
            logger.exception("%s is handled again in %g s", record.place, AGAIN)
            asyncio.get_running_loop().call_later(AGAIN, self.begin, record)
            return
        handler = case.received.handler
        if handler.calls is not None or handler.awaits:
            self._line.append(case)
            self._next()
        elif self._settlement.too_old(case.received.decided):
            self._start(record, address, partial(self._handle, case))
        else:
            self._group.add(case)

    def recall(self) -> list[StoredRecord]:
        """Give back what has not begun: these records are in hand no longer."""
        back = [case.received.address.record for case in self._line]
        self._line.clear()
        return back + self._group.recall()

    def cancel(self) -> None:
        """Stop transactions that have not begun and take no more calls; what runs in a thread runs on."""
        self._line.clear()
        for task in self._tasks | self._turns:
            task.cancel()
        self._group.cancel()
        self._calling.shutdown(wait=False, cancel_futures=True)

    # How a command is carried to its answer

    def ran(self, case: Case, answer: Answer) -> None:
        """A step of the group commit is committed, and was the whole command."""
        address = case.received.address
        if answer.repeated:
            self._start(address.record, address, partial(self._publish, case, answer))
        else:
            case.result = answer.result
            self._relay.reply(answer.reply, case.published)

    def raised(self, case: Case, error: Exception) -> None:
        address = case.received.address
        self._start(address.record, address, partial(self._handle, case, error))

    def _next(self) -> None:
        """Give turns to those in line, as long as there are some."""
        while self._line and len(self._turns) < self._settings.concurrency:
            case = self._line.popleft()
            address = case.received.address
            task = self._task(address.record, address, partial(self._handle, case))
            self._turns.add(task)
            task.add_done_callback(self._turn_over)

    def _turn_over(self, task: asyncio.Task[None]) -> None:
        self._turns.discard(task)
        self._next()

    def _start(self, record: StoredRecord, address: Address | None, work: Callable[[], Awaitable[None]]) -> None:
        task = self._task(record, address, work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _task(self, record: StoredRecord, address: Address | None, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        """Work on a record until it is done: to skip it would lose it, to stop would block its partition's other keys."""

        async def insist() -> None:
            working_on.set(_named(address) if address else None)
            while True:
                try:
                    await work()
                    return
                except Exception:
                    logger.exception("%s is handled again in %g s", record.place, AGAIN)
                    await asyncio.sleep(AGAIN)

        return asyncio.get_running_loop().create_task(insist())

    async def _handle(self, case: Case, error: Exception | None = None) -> None:
        """Answer a command. `error`: how its first try ended, if it had one."""
        await self._publish(case, await self._answer(case.received, error))

    async def _publish(self, case: Case, answer: Answer) -> None:
        if answer.repeated:
            self._meter.on_duplicate(self._participant.name)
            await self._relay.take_over()  # whoever answered it may be gone, with its events still in the outbox
        await self._relay.replied(answer.reply)
        case.result = answer.result
        self.answered(case)

    def answered(self, case: Case) -> None:
        """The answer is acknowledged."""
        seconds = asyncio.get_running_loop().time() - case.since
        command, address = case.received.handler.command.__type__, case.received.address
        self._meter.on_command(self._participant.name, command, case.result, seconds)
        if logger.isEnabledFor(logging.DEBUG):
            working_on.set(_named(address))
            logger.debug("%s is answered %s", command, case.result)
            working_on.set(None)
        self._finished(address.record)

    async def _unreadable(self, record: StoredRecord, since: float, address: Address | None, error: Unreadable) -> None:
        """Keep a record that will never work, and tell the saga, which would wait for its time-out otherwise."""
        logger.warning("%s is a dead letter: %s", record.place, error)
        aside = dead_letter(Record(record.key, record.value, record.headers), error.reason, error.detail, record.place)
        departures = [Departure(DEADLETTERS, None if record.key else record.partition, aside)]
        if address is not None:
            departures.append(address.failed(str(error), self._store.now()))
        await self._relay.publish(departures)
        self._meter.on_dead_letter(self._participant.name, error.reason)
        self._meter.on_command(self._participant.name, "other", "unreadable", asyncio.get_running_loop().time() - since)
        self._finished(record)

    # How its answer is found

    async def _answer(self, received: Received, error: Exception | None) -> Answer:
        """Run the command until it is answered, or until the tries are used up. `error`: of the first try, if it was made."""
        if self._settlement.too_old(received.decided):
            why = f"decided before the last {self._settings.retention}, which is all that is remembered here"
            return Answer("expired", received.address.expired(why, self._store.now()))
        pause = self._settings.first_retry.total_seconds()
        for attempt in range(1, self._settings.tries + 1):
            if error is None:
                try:
                    return await self._once(received)
                except Exception as raised:
                    error = raised
            if isinstance(error, (Failed, Expired)):
                return self._given_up(received, error)
            reason, last = f"{type(error).__name__}: {error}", attempt == self._settings.tries
            logger.warning(
                "%s: try %d of %d failed: %s",
                received.address.command_id,
                attempt,
                self._settings.tries,
                reason,
                exc_info=error if last else None,
            )
            if not last:
                error = None
                await asyncio.sleep(pause)
                pause *= GROWTH
        return Answer("failed", received.address.failed(reason, self._store.now()))

    def _given_up(self, received: Received, error: Failed | Expired) -> Answer:
        """The answer of a handler that knows better than to be run again."""
        reason, address, now = str(error)[:REASON], received.address, self._store.now()
        logger.error("%s is answered %s: %s", address.command_id, type(error).__name__.lower(), reason)
        if isinstance(error, Expired):
            return Answer("expired", address.expired(reason, now))
        return Answer("failed", address.failed(reason, now))

    async def _once(self, received: Received) -> Answer:
        """One try. Raises whatever the handler or the database raises; then nothing was written but perhaps `begun`."""
        handler = received.handler
        called: tuple[Any, ...] = ()
        try:
            if handler.calls is not None:
                begun = await self._group.do(received, partial(self._begin, received))
                if isinstance(begun, Answer):
                    return begun
                called = (await self._call(received, begun),)
            if handler.awaits:
                return await self._run_async(received, called)
        except (Refused, Nothing) as no:
            return await self._group.do(received, partial(self._record, received, _checked(received, no)))
        return await self._group.do(received, partial(self.run, received, called))

    def _begin(self, received: Received, inbox: Inbox) -> Answer | int:
        return self._settlement.begin(inbox, received)

    async def _call(self, received: Received, begun: int) -> Any:
        calls = received.handler.calls
        assert calls is not None
        work = _work(received)
        work.begun = begun
        within = (received.handler.within or self._settings.call_within).total_seconds()
        if received.handler.calls_awaits:
            call = calls(received.payload, work)
        else:
            call = asyncio.get_running_loop().run_in_executor(self._calling, copy_context().run, calls, received.payload, work)
        try:
            async with asyncio.timeout(within) as limit:
                return await call
        except TimeoutError as error:
            if limit.expired():
                raise TimeoutError(f"the call did not end within {within:g} s") from error
            raise

    def run(self, received: Received, called: Sequence[Any], inbox: Inbox) -> Answer:
        """Ask the table, run a `def` handler, settle: in the transaction, in a database thread."""
        arrival = self._settlement.arrive(inbox, received)
        if arrival.do is not Do.RUN:
            return self._overtaken(inbox, received, arrival, called)
        work = _work(received)
        work.connection = inbox.connection
        working = working_on.set(_named(received.address))  # in this thread, which is the database's
        try:
            with inbox.savepoint:
                message = _replied(received, received.handler.answer(received.payload, work, *called))
                answer = self._settlement.settle(inbox, received, arrival, message, work.emitted)
            inbox.flush()  # at once, not at the group's end: should a later handler commit, no effect stands without its row
            return answer
        except (Refused, Nothing) as no:
            # The handler's own rows went with its savepoint: a "no" means no effect. What is left is to say so.
            return self._settlement.settle(inbox, received, arrival, _checked(received, no), ())
        finally:
            work.connection = None
            working_on.reset(working)

    async def _run_async(self, received: Received, called: Sequence[Any]) -> Answer:
        """The same for an `async def` handler, in a transaction of its own."""
        async with self._store.transaction() as transaction:
            inbox = await transaction.call(lambda: self._settlement.open(transaction.connection, [received]))
            arrival = self._settlement.arrive(inbox, received)
            if arrival.do is not Do.RUN:
                answer = self._overtaken(inbox, received, arrival, called)
                await transaction.call(inbox.flush)
                return answer
            work = _work(received)
            work.transaction = transaction
            try:
                message = _replied(received, await received.handler.answer(received.payload, work, *called))
            finally:
                work.transaction = None
            return await transaction.call(lambda: self._settle(inbox, received, arrival, message, work))

    def _settle(self, inbox: Inbox, received: Received, arrival: Arrival, message: Message, work: Work) -> Answer:
        answer = self._settlement.settle(inbox, received, arrival, message, work.emitted)
        inbox.flush()
        return answer

    def _overtaken(self, inbox: Inbox, received: Received, arrival: Arrival, called: Sequence[Any]) -> Answer:
        """The answer the table gives instead of a run: it came before, or another process settled it during the calls."""
        if called and received.action is Action.EXECUTE and arrival.do is Do.NOTHING:
            logger.error(
                "%s: its calls succeeded, but it was closed meanwhile (%s); the compensation must have undone them over there",
                received.address.command_id,
                arrival.subject.state,
            )
        return self._settlement.without(inbox, received, arrival)

    def _record(self, received: Received, message: Message | None, inbox: Inbox) -> Answer:
        """Settle a refusal, or nothing."""
        arrival = self._settlement.arrive(inbox, received)
        if arrival.do is not Do.RUN:
            return self._settlement.without(inbox, received, arrival)
        return self._settlement.settle(inbox, received, arrival, message, ())


def _named(address: Address) -> Command:
    """What log lines about a command say of it."""
    return Command(address.command_id, address.key, address.traceparent)


def _work(received: Received) -> Work:
    address = received.address
    return Work(
        command_id=address.command_id,
        subject_id=received.subject_id,
        action=received.action.value,
        attempt=received.attempt,
        key=address.key,
        instance=address.instance,
        traceparent=address.traceparent,
        decided=received.decided,
    )


def _replied(received: Received, message: Any) -> Message:
    """What a handler returned, if it is what the command promises. Raises TypeError: that is a technical failure."""
    command = received.handler.command
    if not isinstance(message, command.__reply__):
        raise TypeError(f"the handler of {command.__name__} must return {command.__reply__.__name__}, not {type(message).__name__}")
    return message


def _checked(received: Received, answer: Refused | Nothing) -> Message | None:
    """What a handler raised, if the command has such an answer. Raises TypeError."""
    command = received.handler.command
    if isinstance(answer, Nothing):
        if received.action is Action.EXECUTE:
            raise TypeError(
                f"the handler of {command.__name__} raised Nothing to an execute: that answers compensate and verify only"
            )
        return None
    if not isinstance(answer.refusal, command.__refusals__):
        raise TypeError(f"{command.__name__} does not name {type(answer.refusal).__name__} in its refuses=")
    return answer.refusal
