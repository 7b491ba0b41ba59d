"""A participant's definition: a service's name and its handlers. No I/O, so it can be imported and tested anywhere.

    payment = Participant("payment")

    def charge(cmd: TakePayment, work: Work) -> Charge: ...        # the outside world, key: work.command_id

    @payment.handles(TakePayment, calls=charge)
    def take(cmd: TakePayment, work: Work, charged: Charge) -> PaymentTaken:
        work.execute(insert(payments).values(...))
        return PaymentTaken(...)

A handler is a plain `def` (it runs in a database thread, sharing one transaction with others that are ready) or an `async def`
(a transaction of its own). The handler of a compensation or of a verify is an ordinary handler of that command's class.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

from saga.engine.messages import SERVICE, Command, Event
from saga.engine.reading import returned
from saga.errors import DefinitionError
from saga.participant.work import Work

R = TypeVar("R", bound=Event)
C = TypeVar("C", bound=Command[Any])
C_co = TypeVar("C_co", bound=Command[Any], covariant=True)
X = TypeVar("X")
X_co = TypeVar("X_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Handler:
    """One handler as the runner needs it. `awaits` and `calls_awaits` say which of the two are `async def`.

    `within`: how long its calls may take; None as the runner's settings say.
    """

    command: type[Command[Any]]
    answer: Callable[..., Any]
    calls: Callable[[Any, Work], Any] | None
    awaits: bool
    calls_awaits: bool
    within: timedelta | None = None


class Handles(Generic[C_co]):
    """The decorator `participant.handles(TakePayment)`: takes `(cmd, work) -> reply`, `def` or `async def`."""

    def __init__(self, participant: Participant, command: type[Command[Any]]) -> None:
        self._participant = participant
        self._command = command

    @overload
    def __call__(self: Handles[Command[R]], f: Callable[[C_co, Work], Awaitable[R]]) -> Callable[[C_co, Work], Awaitable[R]]: ...
    @overload
    def __call__(self: Handles[Command[R]], f: Callable[[C_co, Work], R]) -> Callable[[C_co, Work], R]: ...
    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return self._participant._register(self._command, f, None)


class HandlesCalled(Generic[C_co, X_co]):
    """The decorator `participant.handles(TakePayment, calls=charge)`: takes `(cmd, work, charged) -> reply`."""

    def __init__(
        self, participant: Participant, command: type[Command[Any]], calls: Callable[[Any, Work], Any], within: timedelta | None
    ) -> None:
        self._participant = participant
        self._command = command
        self._calls = calls
        self._within = within

    @overload
    def __call__(
        self: HandlesCalled[Command[R], X_co], f: Callable[[C_co, Work, X_co], Awaitable[R]]
    ) -> Callable[[C_co, Work, X_co], Awaitable[R]]: ...
    @overload
    def __call__(self: HandlesCalled[Command[R], X_co], f: Callable[[C_co, Work, X_co], R]) -> Callable[[C_co, Work, X_co], R]: ...
    def __call__(self, f: Callable[..., Any]) -> Callable[..., Any]:
        return self._participant._register(self._command, f, self._calls, self._within)


class Participant:
    """A service that takes commands, by name; `handlers` maps a command's type on the wire to its handler.

    Raises DefinitionError, with file and line, for a name that cannot be one and for handlers that do not fit.
    """

    def __init__(self, name: str) -> None:
        if not SERVICE.fullmatch(name):
            raise DefinitionError(f"a participant's name is lower case letters, digits, _ and -; this is {name!r}", caller())
        self.name = name
        self._handlers: dict[str, Handler] = {}

    @property
    def handlers(self) -> Mapping[str, Handler]:
        return MappingProxyType(self._handlers)

    @overload
    def handles(self, command: type[C]) -> Handles[C]: ...
    @overload
    def handles(
        self, command: type[C], *, calls: Callable[[C, Work], Awaitable[X]], within: timedelta | None = None
    ) -> HandlesCalled[C, X]: ...
    @overload
    def handles(
        self, command: type[C], *, calls: Callable[[C, Work], X], within: timedelta | None = None
    ) -> HandlesCalled[C, X]: ...
    def handles(self, command: type[C], *, calls: Callable[[C, Work], Any] | None = None, within: timedelta | None = None) -> Any:
        """Register the handler of a command class of this service.

        `calls`: talks to the outside world, `(cmd, work) -> anything`, `def` or `async def`. It runs before the transaction,
        after `begun` was committed for the command, and its result is the handler's third argument. It may run again for the
        same command, always with the same `work.command_id`, so the other side must take that as an idempotency key. The calls
        of a compensation must also see to it that the subject's own call, should it arrive later still, does nothing.
        `within`: how long these calls may take; else as long as the runner's settings say.
        """
        return Handles(self, command) if calls is None else HandlesCalled(self, command, calls, within)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Around each run of a runner: where a subclass opens what its handlers need, and closes it."""
        yield

    def _register(
        self,
        command: type[Command[Any]],
        answer: Callable[..., Any],
        calls: Callable[..., Any] | None,
        within: timedelta | None = None,
    ) -> Callable[..., Any]:
        where = f"{answer.__code__.co_filename}:{answer.__code__.co_firstlineno}" if hasattr(answer, "__code__") else caller()
        if not (isinstance(command, type) and issubclass(command, Command) and command.__type__):
            raise DefinitionError(f"{self.name} handles commands; {getattr(command, '__name__', command)!r} is none", where)
        if command.__service__ != self.name:
            what = f"{command.__name__} goes to {command.__service__!r}, but this participant is {self.name!r}"
            raise DefinitionError(what, where)
        if command.__type__ in self._handlers:
            raise DefinitionError(f"{command.__name__} has a handler already", where)
        takes, gets = (2 if calls is None else 3), len(inspect.signature(answer).parameters)
        if takes != gets:
            raise DefinitionError(f"the handler of {command.__name__} gets {takes} arguments, but takes {gets}", where)
        says = returned(answer)
        if says is not None and not (issubclass(says, command.__reply__) or issubclass(command.__reply__, says)):
            what = f"{command.__name__} is answered by {command.__reply__.__name__}, but its handler says that it returns {says.__name__}"
            raise DefinitionError(what, where)
        self._handlers[command.__type__] = Handler(
            command=command,
            answer=answer,
            calls=calls,
            awaits=inspect.iscoroutinefunction(answer),
            calls_awaits=inspect.iscoroutinefunction(calls),
            within=within,
        )
        return answer


def caller() -> str:
    """The file and line of the definition: the first frame outside the kit."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("saga.participant"):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame else "<unknown>"
