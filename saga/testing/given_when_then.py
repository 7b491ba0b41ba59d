"""given, when, then: what a saga decides, tested in a line or two.

    given(checkout, OrderPlaced(order_id="1", total=42)).then(TakePayment(order_id="1", amount=42))

    paid = given(checkout, OrderPlaced(order_id="1", total=42)).when(PaymentTaken(payment_id="p1"), to=TakePayment)
    paid.when(OutOfStock(sku="x"), to=ReserveStock).then(ReturnPayment(order_id="1"))

For the decisions of one instance: no services, no journal, and no time but what `after` lets pass. Each call gives a new value, so a
beginning may be shared. What services do among one another, crashes and races are the bench's (`Bench`) and `explore`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, TypeVar, overload

from pydantic import BaseModel

from saga.engine.actions import CANCEL, RETRY, SIGNAL
from saga.engine.decision import Input, Request, Send
from saga.engine.definition import Saga
from saga.engine.keys import start_key
from saga.engine.kinds import Chain, Child, Wait
from saga.engine.messages import CHILD_COMPENSATED, CHILD_COMPLETED, Command, Event, Message, Refusal
from saga.engine.state import Action, Instance, Status, command_id
from saga.errors import Unreadable
from saga.ops.look import Moment
from saga.ops.why import label
from saga.testing.decisions import BEGAN, child_end, event_of, operator, reply_to, start_of, take, timer_of, told
from saga.testing.script import outcome_of

R = TypeVar("R", bound=Event)

MOST_TIMERS = 10_000  # in one `after`: more is a saga that tries again for ever, and a test that does not end


def given(saga: Saga[Any, Any], event: Message) -> Given:
    """A saga that this event has started. Raises DefinitionError for a definition with a mistake, ValueError for another event."""
    saga.check()
    if not isinstance(event, saga.starts_on):
        raise ValueError(f"{saga.name} starts on {saga.starts_on.__name__}, not on {type(event).__name__}")
    start = start_of(event)
    try:
        key = start_key(saga, start.data)
    except Unreadable as problem:
        raise ValueError(f"{event!r} does not start {saga.name}: {problem}") from None
    return Given(saga, key, (), BEGAN, f"{event!r}", 0)._take(start)


class Given:
    """One instance as it is after what happened so far. Made by `given`; never changed."""

    def __init__(self, saga: Saga[Any, Any], key: str, moments: tuple[Moment, ...], now: int, what: str, fresh: int) -> None:
        self._saga = saga
        self._key = key
        self._moments = moments
        self._now = now
        self._what = what  # that happened last
        self._fresh = fresh  # the moments from here on are what it led to

    # --- what happens -------------------------------------------------------------------------------------------------------------

    @overload
    def when(self, message: R | Refusal, *, to: type[Command[R]] | Command[R]) -> Given: ...
    @overload
    def when(self, message: Event) -> Given: ...
    def when(self, message: Any, *, to: Any = None) -> Given:
        """A service answers the last command of this class, or the one that says this; or something comes that the saga waits for.

        Raises ValueError if no such command was sent or nothing waits for such an event, WrongAnswer if the command is not answered so.
        """
        if to is None:
            return self._happens(message)
        send, command = self._sent(to)
        outcome, _ = outcome_of(command, message)
        reply = reply_to(send, outcome, message, id=self._id())
        return self._then_take(f"{message!r} to {command.__name__}", reply)

    def when_child(self, saga: Saga[Any, Any], completed: BaseModel | None = None) -> Given:
        """A child ends: completed, with its data as they are then, or compensated. Raises ValueError if it was not started."""
        step = next((step for step in self._saga.steps.values() if isinstance(step, Child) and step.child is saga), None)
        state = self._state.steps.get(step.name) if step is not None else None
        if step is None or state is None:
            raise ValueError(f"{self._saga.name} has not started {saga.name}")
        undoing = state.status is Status.COMPENSATING
        id = command_id(self._state.id, step.name, Action.COMPENSATE if undoing else Action.EXECUTE, 1)
        type = CHILD_COMPLETED if completed is not None else CHILD_COMPENSATED
        outcome = "done" if completed is not None or undoing else "refused"
        reply = child_end(saga.name, id, outcome, type, completed, id=self._id())
        return self._then_take(f"the end of {saga.name}", reply)

    def fails(self, to: type[Command[Any]] | Command[Any], reason: str = "out of order") -> Given:
        """The service answers that it failed, technically. Raises ValueError if no such command was sent."""
        send, command = self._sent(to)
        reply = reply_to(send, "failed", id=self._id(), reason=reason)
        return self._then_take(f"the failure of {command.__name__}", reply)

    def after(self, time: timedelta) -> Given:
        """So much time passes, and nobody answers: time-outs and pauses end in their order, and the deadline."""
        end, this = self._now + round(time.total_seconds() * 1000), self._next(f"{time} without an answer", self._now)
        for _ in range(MOST_TIMERS):
            timer = timer_of(this._state)
            if timer is None or timer[0] > end:
                return Given(this._saga, this._key, this._moments, end, this._what, this._fresh)
            this._now = max(this._now, timer[0])
            this = this._take(timer[1])
        raise ValueError(f"more than {MOST_TIMERS} timers fire within {time}")

    def retried(self) -> Given:
        """An operator lets what is parked go on."""
        return self._then_take("an operator's retry", operator(self._state, RETRY, self._id()))

    def cancelled(self) -> Given:
        """An operator wants it undone."""
        return self._then_take("an operator's cancel", operator(self._state, CANCEL, self._id()))

    # --- what comes of it ---------------------------------------------------------------------------------------------------------

    def then(self, *messages: Message, state: str | None = None) -> Given:
        """The last thing that happened led to exactly these commands (and starts of other sagas), in order, and to this state.

        Raises AssertionError, with the story, if not.
        """
        __tracebackhide__ = True
        led = [message for moment in self._moments[self._fresh :] for message in self._led(moment)]
        if led != list(messages):
            raise AssertionError(f"{self._what} led to\n{_listed(led)}\nnot to\n{_listed(list(messages))}\n\n{self.story()}")
        if state is not None and self.state != state:
            raise AssertionError(f"{self._what} left it {self.state}, not {state}\n\n{self.story()}")
        return self

    @property
    def state(self) -> str:
        """In a word: running, compensating, parked, completed or compensated."""
        return label(self._state)

    @property
    def data(self) -> Any:
        """The saga's own data, as the class that its definition names."""
        return self._saga.data.model_validate(self._state.data)

    def story(self) -> str:
        """Every decision, in order: the text of `saga show`."""
        return told(self._saga, self._key, self._moments, self._now)

    def __repr__(self) -> str:
        return f"<{self._saga.name} {self._key}: {self.state}>"

    # --- its pieces ---------------------------------------------------------------------------------------------------------------

    @property
    def _state(self) -> Instance:
        state = self._moments[-1].after
        assert state is not None
        return state

    def _then_take(self, what: str, reply: Input) -> Given:
        return self._next(what, self._now)._take(reply)

    def _next(self, what: str, now: int) -> Given:
        return Given(self._saga, self._key, self._moments, now, what, len(self._moments))

    def _take(self, reply: Input) -> Given:
        state = self._state if self._moments else None
        moment = take(self._saga, self._key, state, reply, self._now)
        return Given(self._saga, self._key, (*self._moments, moment), self._now, self._what, self._fresh)

    def _sent(self, to: type[Command[Any]] | Command[Any]) -> tuple[Send, type[Command[Any]]]:
        command = to if isinstance(to, type) else type(to)
        every = [send for moment in self._moments for send in _sends(moment)]
        for send in reversed(every):
            if send.type == command.__type__ and (isinstance(to, type) or self._read(send) == to):
                return send, command
        sent = ", ".join(dict.fromkeys(repr(self._read(send)) for send in every)) or "nothing"
        raise ValueError(f"{self._saga.name} sent no {to.__name__ if isinstance(to, type) else repr(to)}; it sent {sent}")

    def _happens(self, event: Message) -> Given:
        """An event that nobody commanded, or an answer of a person that was asked."""
        waits = [step for step in self._saga.steps.values() if isinstance(step, Wait) and isinstance(event, step.event)]
        if not waits:
            raise ValueError(
                f"{self._saga.name} waits for no {type(event).__name__}; a reply says which command it answers: to=..."
            )
        role = waits[0].role
        if not role:
            return self._then_take(f"{event!r}", event_of(event, self._id()))
        signal = operator(self._state, SIGNAL, self._id(), type=event.__type__, role=role, data=event.model_dump(mode="json"))
        return self._then_take(f"{event!r} of the role {role}", signal)

    def _led(self, moment: Moment) -> Iterator[Message]:
        """What left, as messages: commands, and the events that start other sagas."""
        others = {
            step.child.starts_on.__type__: step.child.starts_on
            for step in self._saga.steps.values()
            if isinstance(step, Child | Chain)
        }
        for output in moment.decision.outputs:
            if isinstance(output, Send):
                yield self._read(output)
            elif isinstance(output, Request) and output.type in others:
                yield others[output.type].model_validate(output.data)

    def _id(self) -> str:
        return f"given-{len(self._moments)}"

    def _read(self, send: Send) -> Message:
        command = next(m for m in self._saga.messages() if m.__type__ == send.type)
        return command.model_validate(send.data)


def _sends(moment: Moment) -> list[Send]:
    return [output for output in moment.decision.outputs if isinstance(output, Send)]


def _listed(commands: list[Any]) -> str:
    return "\n".join(f"    {command!r}" for command in commands) or "    no command"
