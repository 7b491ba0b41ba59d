"""The kinds of steps: commands, commands for each item of a list, waits for events, answers and times, children, chains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from saga.engine.messages import CHILD_COMPENSATED, CHILD_COMPLETED, CHILD_REJECTED, REQUESTS, Command, Event, Message
from saga.engine.nodes import AnyStep, CommandOptions, D, Node, StepOptions, types
from saga.engine.policy import MAX_AT_ONCE, Unknown
from saga.engine.reading import name_of, reads, type_of_argument, where_of
from saga.engine.state import Action, StepState
from saga.errors import DefinitionError

if TYPE_CHECKING:
    from saga.engine.definition import Saga

K = TypeVar("K", bound=BaseModel)  # a child's data
R = TypeVar("R", bound=Event)
E = TypeVar("E", bound=Message)
I = TypeVar("I")  # noqa: E741 - an item of a mapped step
C_co = TypeVar("C_co", bound=Command[Any], covariant=True)


class Step(AnyStep[D], Generic[D, C_co]):
    """One step: a command, its reply, and what is to be done when it has to be undone or when nobody answers."""

    allowed = StepOptions

    def __init__(
        self, saga: Saga[Any, D], function: Callable[[D], C_co], after: tuple[Node, ...], options: Mapping[str, Any]
    ) -> None:
        super().__init__(saga, name_of(function), where_of(function), after, options)
        self.command = function
        self.command_class: type[C_co] = reads(function, [saga.data], Command)

    def done(self: Step[D, Command[R]], function: Callable[[D, R], D]) -> Callable[[D, R], D]:
        """Put the reply into the data: called once, when the step's reply is accepted."""
        self._read_done(function, [self.saga.data, self.command_class.__reply__])
        return function

    def compensate(self, function: Callable[[D, C_co], Command[Any]]) -> Callable[[D, C_co], Command[Any]]:
        """The command that undoes this step; it gets the data as it is then, and the command as it was sent."""
        self._read_compensation(function, [self.saga.data, self.command_class])
        return function

    def verify(self: Step[D, Command[R]], function: Callable[[D, C_co], Command[R]]) -> Callable[[D, C_co], Command[R]]:
        """The question to ask when nobody answered (S14): its answer is this step's reply, or `nothing`."""
        self._read_finder(function, [self.saga.data, self.command_class])
        return function


class Mapped(AnyStep[D], Generic[D, I, C_co]):
    """A step for each item of a list (S17): items are evaluated once and recorded, `at_once` of them are on their way together."""

    allowed = CommandOptions

    def __init__(
        self,
        saga: Saga[Any, D],
        items: Callable[[D], Sequence[I]],
        at_once: int,
        after: tuple[Node, ...],
        options: Mapping[str, Any],
    ) -> None:
        self._options = options
        self.items = items
        self.at_once = at_once
        self._after = after
        self.saga = saga

    def define(self, function: Callable[[D, I], C_co]) -> Mapped[D, I, C_co]:
        """The rest of it, once its function is known."""
        super().__init__(self.saga, name_of(function), where_of(function), self._after, self._options)
        if not callable(self.items):
            raise DefinitionError(f"{self.name}: each takes a function that gives the items, not {self.items!r}", self.where)
        if not 1 <= self.at_once <= MAX_AT_ONCE:
            raise DefinitionError(f"at_once= is 1 to {MAX_AT_ONCE}, not {self.at_once}", self.where)
        self.command = function
        self.command_class: type[C_co] = reads(function, [self.saga.data, Any], Command)
        self._item_type = type_of_argument(function, 1, "an item")
        self.item: TypeAdapter[I] = TypeAdapter(self._item_type)
        return self

    def done(self: Mapped[D, I, Command[R]], function: Callable[[D, I, R], D]) -> Callable[[D, I, R], D]:
        """Put an item's reply into the data: called once for each."""
        self._read_done(function, [self.saga.data, self._item_type, self.command_class.__reply__])
        return function

    def compensate(self, function: Callable[[D, I, C_co], Command[Any]]) -> Callable[[D, I, C_co], Command[Any]]:
        """The command that undoes one item; only those that ran are undone."""
        self._read_compensation(function, [self.saga.data, self._item_type, self.command_class])
        return function

    def verify(self: Mapped[D, I, Command[R]], function: Callable[[D, I, C_co], Command[R]]) -> Callable[[D, I, C_co], Command[R]]:
        """The question to ask about one item when nobody answered (S14)."""
        self._read_finder(function, [self.saga.data, self._item_type, self.command_class])
        return function

    def _kind(self) -> list[str]:
        return ["for each item", types(self.command_class)]


class Waiting(AnyStep[D], Generic[D]):
    """A step that sends nothing and waits: for something to come, or for a time."""

    def __init__(self, saga: Saga[Any, D], name: str, where: str, after: tuple[Node, ...], options: Mapping[str, Any]) -> None:
        super().__init__(saga, name, where, after, options)
        self.compensation = None
        self.event: type[Message] | None = None
        self.role = ""

    def when_unknown(self) -> Unknown:
        return "park"


class Wait(Waiting[D], Generic[D, E]):
    """A wait for an event that nobody commands (`expect`), or for a person's answer (`ask`).

    When `within` is over the event is late: that is told on `saga.events`. With a remedy (`late`) or somebody to `escalate` to, one more
    such time begins. After the last one the step has failed, and the saga turns back; from the pivot on, it parks.
    """

    def __init__(
        self, saga: Saga[Any, D], name: str, where: str, after: tuple[Node, ...], options: Mapping[str, Any], event: type[E]
    ) -> None:
        super().__init__(saga, name, where, after, options)
        self.event: type[E] = event
        self.key: Callable[[E], str] | None = None
        self.within: timedelta | None = None
        self.escalate = ""

    def may_answer(self, state: StepState) -> tuple[str, ...]:
        """The roles that may answer now: the one that was asked, and once it is late the one it was escalated to."""
        return (self.role, self.escalate) if state.ask_round and self.escalate else (self.role,)

    def done(self, function: Callable[[D, E], D]) -> Callable[[D, E], D]:
        """Put the event into the data: called once, when it came."""
        self._read_done(function, [self.saga.data, self.event])
        return function

    def late(self, function: Callable[[D], Command[Any]]) -> Callable[[D], Command[Any]]:
        """The remedy: a command that is sent when the event is late. Then it is waited for once more."""
        self._once(self.command, "late", function)
        self.command_class = reads(function, [self.saga.data], Command)
        self.command = function
        return function

    def _kind(self) -> list[str]:
        asked = f"asks the role {self.role} for {self.event.__type__}" if self.role else f"expects {self.event.__type__}"
        return [asked] + ([f"late: {types(self.command_class)}"] if self.command_class is not None else [])

    def messages(self) -> list[type[Message]]:
        return ([] if self.role else [self.event]) + super().messages()


class Pause(Waiting[D], Generic[D]):
    """A wait for a time."""

    until: Callable[[D], datetime] | timedelta

    def done(self, function: Callable[[D, datetime], D]) -> Callable[[D, datetime], D]:
        """Called when the time has come, with the time (UTC) as it is then: it may be later, if nobody ran."""
        self._read_done(function, [self.saga.data, datetime])
        return function

    def _kind(self) -> list[str]:
        return ["waits for a time"]


class Child(AnyStep[D], Generic[D, K]):
    """Another saga's instance, whose outcome is waited for (S28).

    `completed` is done, `compensated` counts as refused: it has no effect. A child without a pivot can be undone after it completed.
    """

    allowed = StepOptions

    def __init__(
        self,
        saga: Saga[Any, D],
        child: Saga[Any, K],
        function: Callable[[D], Any],
        after: tuple[Node, ...],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(saga, name_of(function), where_of(function), after, {"timeout": None, **options})
        if "timeout" in options or "retry" in options or self.unknown is not None:
            raise DefinitionError(
                f"{self.name}: a child has its own deadline; timeout=, retry= and unknown= say nothing here", self.where
            )
        self.child = child
        self.command = function
        self.command_class = reads(function, [saga.data], child.starts_on)

    def done(self, function: Callable[[D, K], D]) -> Callable[[D, K], D]:
        """Put the child's data, as it was at its end, into the own."""
        self._read_done(function, [self.saga.data, self.child.data])
        return function

    @property
    def undoable(self) -> bool:
        return self.compensation is not None and not self.child.graph.pivots

    def command_for(self, action: Action) -> type[Any] | None:
        return self.command_class if action is Action.EXECUTE or (action is Action.COMPENSATE and self.undoable) else None

    def answered_on(self, _action: Action) -> str:
        return REQUESTS

    def answers(self, action: Action, outcome: str) -> dict[str, type[BaseModel] | None]:
        if outcome == "done":
            return {CHILD_COMPLETED: self.child.data} if action is Action.EXECUTE else {CHILD_COMPENSATED: None}
        return {CHILD_COMPENSATED: None, CHILD_REJECTED: None} if outcome == "refused" else super().answers(action, outcome)

    def _kind(self) -> list[str]:
        return [f"child {self.child.name}"] + (["never undone"] if self.compensation is None else [])

    def messages(self) -> list[type[Message]]:
        return []


class Chain(AnyStep[D], Generic[D]):
    """Another saga is started and left to itself: an output like any other, once, under a stable key (S28)."""

    def __init__(
        self,
        saga: Saga[Any, D],
        other: Saga[Any, Any],
        function: Callable[[D], Any],
        after: tuple[Node, ...],
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(saga, name_of(function), where_of(function), after, options)
        self.child = other
        self.command = function
        self.command_class = reads(function, [saga.data], other.starts_on)
        self.compensation = None

    def command_for(self, _action: Action) -> type[Any] | None:
        return None  # nobody answers it

    def _kind(self) -> list[str]:
        return [f"starts {self.child.name}"]

    def messages(self) -> list[type[Message]]:
        return []
