"""The inbox's tables, applied: what is done with a command that arrived, and what is written when it was handled.

All of it runs inside one transaction, in a database thread; nothing here waits for anything but the database.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection

from saga.cloudevents import header_fields
from saga.engine.messages import Event, Message, events_topic
from saga.engine.state import Action
from saga.participant import outbox
from saga.participant.command import Received
from saga.participant.inbox import ARRIVAL, BEGINS, SETTLED, Do, Inbox, Row, State, reply_data
from saga.participant.outbox import Departure
from saga.participant.store import Store


class Arrival(NamedTuple):
    """A command against the inbox: its own row, its subject's (for an execute the same), and what to do."""

    own: Row
    subject: Row
    do: Do


class Answer(NamedTuple):
    """How a command was answered, and the reply that has to be published. `repeated`: it is one that was given before."""

    result: str
    reply: Departure
    repeated: bool = False


class Settlement:
    """Applies the tables for one service."""

    def __init__(self, store: Store, retention: int) -> None:
        """`retention` in ms."""
        self._store = store
        self._retention = retention

    def too_old(self, time: int) -> bool:
        return time < self._store.now() - self._retention

    def open(self, connection: Connection, group: Sequence[Received]) -> Inbox:
        """Lock the subjects of these commands, and read the rows that they need."""
        self._store.lock(connection, {received.subject for received in group})
        return Inbox(connection, {id for received in group for id in (received.subject, received.address.command_id)})

    def arrive(self, inbox: Inbox, received: Received) -> Arrival:
        """Look up the rows, and ask the table."""
        subject = inbox.find(received.subject)
        if received.action is Action.EXECUTE:
            return Arrival(subject, subject, ARRIVAL[Action.EXECUTE][subject.state])
        own = inbox.find(received.address.command_id)
        if own.state is not State.ABSENT:
            return Arrival(own, subject, Do.AGAIN)
        do = ARRIVAL[received.action][subject.state]
        if do is Do.TELL and _type(subject) != received.handler.command.__reply__.__type__:
            do = Do.RUN  # a verify that answers with another event than the execute: only its handler knows how
        return Arrival(own, subject, do)

    def begin(self, inbox: Inbox, received: Received) -> Answer | int:
        """Note that calls begin; since when others of the subject's are open (ms; 0: none are). Or the answer, with no call made."""
        arrival = self.arrive(inbox, received)
        if arrival.do is not Do.RUN:
            return self.without(inbox, received, arrival)
        begun = BEGINS.get((received.action, arrival.subject.state))
        if begun is not None:
            inbox.write(arrival.subject.id, begun, None, self._since(received))
        return arrival.subject.since if arrival.subject.state in (State.BEGUN, State.CLOSING) else 0

    def without(self, inbox: Inbox, received: Received, arrival: Arrival) -> Answer:
        """The answer to a command that is not run."""
        if arrival.do is Do.AGAIN:
            return self._again(received, arrival.own)
        if arrival.do is Do.TELL:
            found = received.address.told(_type(arrival.subject), reply_data(arrival.subject.record()), self._store.now())
            return self._keep(inbox, received, arrival, State.DONE, found)
        if received.action is Action.EXECUTE:
            return self._closed(inbox, received, arrival.own)
        if arrival.do is Do.CLOSE:
            if self.too_old(received.started):
                why = "the subject may be older than what is remembered here: whether it was executed is not known"
                return Answer("expired", received.address.expired(why, self._store.now()))
            inbox.write(arrival.subject.id, State.NOTHING, None, self._since(received))
        nothing = received.address.settled("nothing", None, self._store.now())
        return self._keep(inbox, received, arrival, State.NOTHING, nothing)

    def settle(
        self,
        inbox: Inbox,
        received: Received,
        arrival: Arrival,
        message: Message | None,
        events: Sequence[tuple[Event, str]],
    ) -> Answer:
        """Write down a handler's answer (None: nothing) and its events; `arrival` says that it was to run.

        Raises Rejected for a record that the log would not take; then nothing is written.
        """
        now = self._store.now()
        outcome = _outcome(received, message)
        reply = received.address.settled(outcome.value, message, now)
        outbox.check(reply)
        self._emit(inbox, received, events, now)
        after = SETTLED.get((received.action, arrival.subject.state, outcome), arrival.subject.state)
        if received.action is Action.EXECUTE:
            inbox.write(arrival.subject.id, after, reply.record, self._since(received))
            return Answer(outcome.value, reply)
        if after is not arrival.subject.state:
            # A verify that found it done has the execute's reply: should that command still come, it is told so, and not run.
            kept = received.address.settled("done", message, now, command_id=received.subject_id) if after is State.DONE else None
            inbox.write(arrival.subject.id, after, kept.record if kept else None, self._since(received))
        return self._keep(inbox, received, arrival, outcome, reply)

    def _emit(self, inbox: Inbox, received: Received, events: Sequence[tuple[Event, str]], now: int) -> None:
        if events:
            departures = [received.address.event(event, key, number, now) for number, (event, key) in enumerate(events, 1)]
            self._store.put(inbox.connection, departures)

    def _keep(self, inbox: Inbox, received: Received, arrival: Arrival, state: State, reply: Departure) -> Answer:
        inbox.write(arrival.own.id, state, reply.record, self._since(received))
        return Answer(state.value, reply)

    def _again(self, received: Received, row: Row) -> Answer:
        to = received.address.record
        return Answer(row.state.value, Departure(events_topic(received.address.service), to.partition, row.record(to.key)), True)

    def _closed(self, inbox: Inbox, received: Received, row: Row) -> Answer:
        """An execute that comes too late: its subject was closed by a compensation or a verify."""
        if row.value is not None:
            return self._again(received, row)
        nothing = received.address.settled("nothing", None, self._store.now())
        if row.state is State.NOTHING:  # not CLOSING: that row still waits for its compensation
            inbox.write(row.id, State.NOTHING, nothing.record, self._since(received))
        return Answer("nothing", nothing)

    def _since(self, received: Received) -> int:
        """A row is kept from whichever is later, our time or the sender's: so it outlives the command it remembers."""
        return max(self._store.now(), received.decided)


def _outcome(received: Received, message: Message | None) -> State:
    if message is None:
        return State.NOTHING
    return State.DONE if isinstance(message, received.handler.command.__reply__) else State.REFUSED


def _type(row: Row) -> str:
    return header_fields(row.headers)["type"]
