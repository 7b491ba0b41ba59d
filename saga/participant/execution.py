"""One command from the log to its answer: read it, run it, settle it, publish.

    unreadable                → dead letter; `failed` too, if it says whom to answer
    too old                   → `expired`
    otherwise                 → begin (where there are calls) → calls → handler and settlement in one transaction → publish

What raises is run again after a pause, a few times, then answered `failed`: the saga decides when to try next, and a command that
never works holds up its key for a second, not for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from sqlalchemy import Connection

from saga.cloudevents import header_fields
from saga.engine.messages import Message
from saga.engine.state import Action
from saga.errors import Unreadable
from saga.log.base import Record, StoredRecord
from saga.logs import Command, working_on
from saga.participant.command import Address, Received, read_address, read_command
from saga.participant.group import GroupCommit
from saga.participant.inbox import Do
from saga.participant.outbox import MAX_RECORD, Departure
from saga.participant.participant import Participant
from saga.participant.relay import Relay
from saga.participant.settings import Meter, Settings
from saga.participant.settlement import Answer, Arrival, Settlement
from saga.participant.store import Store
from saga.participant.work import Nothing, Refused, Work

DEAD_LETTERS = "saga.deadletter"
SAMPLE = 65_536  # bytes kept of a record that is too large to be kept whole; its origin says where the rest is
DETAIL = 2_000  # characters of the detail of a dead letter's reason
GROWTH = 3  # each pause between two tries is so many times the last

logger = logging.getLogger("saga.participant")


class Execution:
    """Executes commands; `handle` may be called for many at once, of one key one after the other."""

    def __init__(self, participant: Participant, store: Store, relay: Relay, settings: Settings, meter: Meter) -> None:
        self._participant = participant
        self._store = store
        self._relay = relay
        self._settings = settings
        self._meter = meter
        self._group = GroupCommit(store, relay)
        self._settlement = Settlement(store, round(settings.retention.total_seconds() * 1000))
        self._calling = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="saga-calls")

    def cancel(self) -> None:
        """Stop transactions that have not begun and take no more calls; what runs in a thread runs on."""
        self._group.cancel()
        self._calling.shutdown(wait=False, cancel_futures=True)

    async def handle(self, record: StoredRecord) -> None:
        """Handle one record of the commands topic; returns once its answer is acknowledged by the log."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        label = "other"
        working_on.set(None)
        address: Address | None = None
        try:
            fields = header_fields(record.headers)
            address = read_address(record, fields, self._participant.name)
            if address is None:
                raise Unreadable("no-address", "sagacommand, sagainstance and sagaattempt must say whom to answer")
            working_on.set(Command(address.command_id, address.key, address.traceparent))
            received = read_command(address, fields, self._participant.handlers)
        except Unreadable as error:
            await self._unreadable(record, address, error)
            result = "unreadable"
        else:
            label = received.handler.command.__type__
            answer = await self._answer(received)
            if answer.repeated:
                self._meter.on_duplicate(self._participant.name)
                await self._relay.take_over()  # whoever answered it may be gone, with its events still in the outbox
            if answer.direct:
                await self._relay.publish([answer.direct])
            else:
                await self._relay.drained()
            result = answer.result
        self._meter.on_command(self._participant.name, label, result, loop.time() - began)
        if logger.isEnabledFor(logging.DEBUG):
            logger.debug("%s is answered %s", label, result)

    async def _answer(self, received: Received) -> Answer:
        """Run the command until it is answered, or until the tries are used up."""
        if self._settlement.too_old(received.decided):
            why = f"decided before the last {self._settings.retention}, which is all that is remembered here"
            return Answer("expired", received.address.expired(why, self._store.now()))
        pause = self._settings.first_retry.total_seconds()
        for attempt in range(1, self._settings.tries + 1):
            try:
                return await self._once(received)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                last = attempt == self._settings.tries
                logger.warning(
                    "%s: try %d of %d failed: %s", received.address.command_id, attempt, self._settings.tries, reason, exc_info=last
                )
            if not last:
                await asyncio.sleep(pause)
                pause *= GROWTH
        return Answer("failed", received.address.failed(reason, self._store.now()))

    async def _once(self, received: Received) -> Answer:
        """One try. Raises whatever the handler or the database raises; then nothing was written but perhaps `begun`."""
        handler = received.handler
        called: tuple[Any, ...] = ()
        try:
            if handler.calls is not None:
                known = await self._group.do(lambda connection: self._settlement.begin(connection, received))
                if known is not None:
                    return known
                called = (await self._call(received),)
            if handler.awaits:
                return await self._run_async(received, called)
            return await self._group.do(lambda connection: self._run(connection, received, called))
        except (Refused, Nothing) as answer:
            message = _checked(received, answer)
        # The handler's own rows went with its savepoint: a "no" means no effect. What is left is to say so.
        return await self._group.do(lambda connection: self._record(connection, received, message))

    async def _call(self, received: Received) -> Any:
        calls = received.handler.calls
        assert calls is not None
        work = _work(received)
        within = self._settings.call_within.total_seconds()
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

    def _run(self, connection: Connection, received: Received, called: Sequence[Any]) -> Answer:
        """Ask the table, run a `def` handler, settle: in the transaction, in a database thread."""
        arrival = self._settlement.arrive(connection, received)
        if arrival.do is not Do.RUN:
            return self._overtaken(connection, received, arrival, called)
        work = _work(received)
        work.connection = connection
        working = working_on.set(Command(work.command_id, work.key, work.traceparent))  # in this thread, which is the database's
        try:
            message = received.handler.answer(received.payload, work, *called)
        finally:
            work.connection = None
            working_on.reset(working)
        return self._settlement.settle(connection, received, arrival, _replied(received, message), work.emitted)

    async def _run_async(self, received: Received, called: Sequence[Any]) -> Answer:
        """The same for an `async def` handler, in a transaction of its own."""
        async with self._store.transaction() as transaction:
            connection = transaction.connection
            arrival = await transaction.call(lambda: self._settlement.arrive(connection, received))
            if arrival.do is not Do.RUN:
                return await transaction.call(lambda: self._overtaken(connection, received, arrival, called))
            work = _work(received)
            work.transaction = transaction
            try:
                message = await received.handler.answer(received.payload, work, *called)
            finally:
                work.transaction = None
            reply = _replied(received, message)
            return await transaction.call(lambda: self._settlement.settle(connection, received, arrival, reply, work.emitted))

    def _overtaken(self, connection: Connection, received: Received, arrival: Arrival, called: Sequence[Any]) -> Answer:
        """The answer the table gives instead of a run: it came before, or another process settled it during the calls."""
        if called and received.action is Action.EXECUTE and arrival.do is Do.NOTHING:
            logger.error(
                "%s: its calls succeeded, but it was closed meanwhile (%s); the compensation must have undone them over there",
                received.address.command_id,
                arrival.subject.state,
            )
        return self._settlement.without(connection, received, arrival)

    def _record(self, connection: Connection, received: Received, message: Message | None) -> Answer:
        """Settle a refusal, or nothing."""
        arrival = self._settlement.arrive(connection, received)
        if arrival.do is not Do.RUN:
            return self._settlement.without(connection, received, arrival)
        return self._settlement.settle(connection, received, arrival, message, ())

    async def _unreadable(self, record: StoredRecord, address: Address | None, error: Unreadable) -> None:
        """Keep a record that will never work, and tell the saga, which would wait for its time-out otherwise."""
        logger.warning("%s is a dead letter: %s", record.place, error)
        departures = [_dead_letter(record, error)]
        if address is not None:
            departures.append(address.failed(str(error), self._store.now()))
        await self._relay.publish(departures)
        self._meter.on_dead_letter(self._participant.name, error.reason)


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


def _dead_letter(record: StoredRecord, error: Unreadable) -> Departure:
    """The record as it came, with where it stood and why it is here."""
    why: list[tuple[str, bytes]] = [
        ("ce_sagareason", error.reason.encode()),
        ("ce_sagadetail", error.detail[:DETAIL].encode(errors="replace")),
    ]
    if not any(name == "ce_sagaorigin" for name, _ in record.headers):
        why.insert(0, ("ce_sagaorigin", record.place.encode()))
    key, value, headers = record.key, record.value, record.headers
    if len(key or b"") + len(value or b"") + sum(len(name) + len(raw or b"") for name, raw in headers) > MAX_RECORD:
        key = key[:SAMPLE] if key else key
        value = value[:SAMPLE] if value else value
        headers = tuple((name, raw[:SAMPLE]) for name, raw in headers[:10] if len(name) < DETAIL)
    return Departure(DEAD_LETTERS, None if record.key else record.partition, Record(key, value, (*headers, *why)))
